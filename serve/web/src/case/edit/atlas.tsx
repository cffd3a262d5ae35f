import { useState } from "preact/hooks";

import { api } from "../../api/client";
import { useAction } from "../../components/action";
import { Trouble } from "../../components/messages";
import { words } from "../../words";

interface Committed {
  version: number | string;
  samples: number;
  disputed?: number;
}

/** Puts what people have said into the atlas of the site, by which a new model learns. */
export function Atlas({ path, unsaved, revision }: { path: string; unsaved: number; revision: number }) {
  const { edit: text } = words.value;
  const [done, setDone] = useState<Committed | null>(null);
  const action = useAction(async () => {
    setDone(null);
    setDone(await api<Committed>(`${path}/commit`, { method: "POST" }));
  });
  return (
    <details class="part">
      <summary>{text.atlas}</summary>
      <p class="soft">{unsaved ? text.commitUnsaved : text.atlasHint}</p>
      <button type="button" disabled={action.busy || unsaved > 0 || revision === 0} onClick={() => void action.run()}>
        {text.commit}
      </button>
      <Trouble error={action.error} />
      {done && (
        <p class="notice" role="status">
          {text.committed(done.samples, String(done.version))} {done.disputed ? text.disputed(done.disputed) : ""}
        </p>
      )}
    </details>
  );
}
