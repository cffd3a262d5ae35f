import { useState } from "preact/hooks";

import type { Case } from "../api/cases";
import { api } from "../api/client";
import { useAction } from "../components/action";
import { Dialog } from "../components/dialog";
import { Trouble } from "../components/messages";
import { type DraftName, draftOf, forgetDraft, keepDraft } from "../drafts";
import { whose } from "../session";
import { words } from "../words";

interface Props {
  found: Case;
  procedures: string[];
  reload: () => Promise<void>;
  onClose: () => void;
}

/** A text that looks as if it named a patient, and as what. */
interface LooksLike {
  text: string;
  kind: string;
}

interface Draft {
  procedure: string;
  operatedOn: string;
  labels: string;
}

const nameOf = (found: Case): DraftName => ({ author: whose.peek(), of: found.case_id, field: "describe" });

const asFound = (found: Case): Draft => ({ procedure: found.procedure.chosen ?? "", operatedOn: found.operated_on ?? "", labels: found.labels.join(", ") });

/** Whether the user has begun to describe the case in this tab, and neither saved nor closed it. */
export const isBegun = (found: Case): boolean => draftOf(nameOf(found)) !== null;

/** Writes down the procedure, the date and the labels of a case. What looks like a name is warned of. */
export function Describe({ found, procedures, reload, onClose }: Props) {
  const { library, page, looksLike } = words.value;
  const [name] = useState(() => nameOf(found));
  // Only what the user changes, so that what somebody else changes meanwhile stays.
  const [begun, setBegun] = useState<Partial<Draft>>(() => draftOf<Partial<Draft>>(name) ?? {});
  const before = asFound(found);
  const { procedure, operatedOn, labels } = { ...before, ...begun };
  const write = (part: Partial<Draft>) => {
    const written = Object.entries({ ...begun, ...part }).filter(([field, value]) => value !== before[field as keyof Draft]);
    const now: Partial<Draft> = Object.fromEntries(written);
    setBegun(now);
    if (written.length > 0) keepDraft(name, now);
    else forgetDraft(name);
  };
  const close = () => {
    forgetDraft(name);
    onClose();
  };
  const [warnings, setWarnings] = useState<LooksLike[]>([]);
  const action = useAction(async () => {
    setWarnings([]);
    const sent = begun;
    const json = {
      ...(begun.procedure !== undefined && { procedure: procedure.trim() || null }),
      ...(begun.operatedOn !== undefined && { operated_on: operatedOn || null }),
      ...(begun.labels !== undefined && { labels: labels.split(",").map((label) => label.trim()).filter(Boolean) }),
    };
    const answer = await api<{ looks_like: LooksLike[] }>(`v1/cases/${found.case_id}`, { method: "PATCH", json });
    forgetDraft(name);
    setWarnings(answer.looks_like);
    await reload();
    // What was written meanwhile stays.
    setBegun((now) => Object.fromEntries(Object.entries(now).filter(([field, value]) => value !== sent[field as keyof Draft])));
    if (answer.looks_like.length === 0) onClose();
  });
  const { suggested } = found.procedure;
  return (
    <Dialog title={library.dialog} onClose={close}>
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
              {warnings.map(({ text, kind }) => (
                <li key={`${kind} ${text}`}>
                  {text}: {looksLike[kind] ?? kind}
                </li>
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
            onInput={(event) => write({ procedure: event.currentTarget.value })}
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
            onInput={(event) => write({ operatedOn: event.currentTarget.value })}
          />
        </div>
        <div class="field">
          <label for="describe-labels">{library.labels}</label>
          <input
            id="describe-labels"
            maxLength={700}
            aria-describedby="describe-labels-hint"
            value={labels}
            onInput={(event) => write({ labels: event.currentTarget.value })}
          />
          <span id="describe-labels-hint" class="soft">
            {library.labelsHint}
          </span>
        </div>
        <div class="row">
          <button disabled={action.busy}>{library.save}</button>
          <button type="button" class="plain" onClick={close}>
            {page.close}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
