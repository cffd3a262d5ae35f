import { useState } from "preact/hooks";

import type { Case } from "../api/cases";
import { api } from "../api/client";
import { useAction } from "../components/action";
import { Dialog } from "../components/dialog";
import { Trouble } from "../components/messages";
import { words } from "../words";

interface Props {
  found: Case;
  procedures: string[];
  reload: () => Promise<void>;
  onClose: () => void;
}

/** Writes down the procedure, the date and the labels of a case. What looks like a name is warned of. */
export function Describe({ found, procedures, reload, onClose }: Props) {
  const { library, page } = words.value;
  const [procedure, setProcedure] = useState(found.procedure.chosen ?? "");
  const [operatedOn, setOperatedOn] = useState(found.operated_on ?? "");
  const [labels, setLabels] = useState(found.labels.join(", "));
  const [warnings, setWarnings] = useState<string[]>([]);
  const action = useAction(async () => {
    setWarnings([]);
    const json = {
      procedure: procedure.trim() || null,
      operated_on: operatedOn || null,
      labels: labels.split(",").map((label) => label.trim()).filter(Boolean),
    };
    const answer = await api<{ warnings: string[] }>(`v1/cases/${found.case_id}`, { method: "PATCH", json });
    setWarnings(answer.warnings);
    await reload();
    if (answer.warnings.length === 0) onClose();
  });
  const { suggested } = found.procedure;
  return (
    <Dialog title={library.dialog} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void action.run();
        }}
      >
        <Trouble error={action.error} />
        {warnings.length > 0 && (
          <div class="notice warn" role="alert">
            {library.looksLikeName}
            <ul>
              {warnings.map((warning) => (
                <li key={warning}>{warning}</li>
              ))}
            </ul>
          </div>
        )}
        <div class="field">
          <label for="describe-procedure">{library.procedure}</label>
          <input
            id="describe-procedure"
            list="describe-procedures"
            maxLength={120}
            value={procedure}
            onInput={(event) => setProcedure(event.currentTarget.value)}
          />
          <datalist id="describe-procedures">
            {procedures.map((one) => (
              <option key={one} value={one} />
            ))}
          </datalist>
          {suggested && <span class="soft">{library.procedureHint(suggested)}</span>}
        </div>
        <div class="field">
          <label for="describe-day">{library.operatedOnField}</label>
          <input
            id="describe-day"
            type="date"
            value={operatedOn}
            onInput={(event) => setOperatedOn(event.currentTarget.value)}
          />
        </div>
        <div class="field">
          <label for="describe-labels">{library.labels}</label>
          <input
            id="describe-labels"
            maxLength={700}
            aria-describedby="describe-labels-hint"
            value={labels}
            onInput={(event) => setLabels(event.currentTarget.value)}
          />
          <span id="describe-labels-hint" class="soft">
            {library.labelsHint}
          </span>
        </div>
        <div class="row">
          <button disabled={action.busy}>{library.save}</button>
          <button type="button" class="plain" onClick={onClose}>
            {page.close}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
