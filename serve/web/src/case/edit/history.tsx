import { useState } from "preact/hooks";

import { useResource } from "../../api/resource";
import { Loading, Trouble } from "../../components/messages";
import { clockTenths, dateTime, words } from "../../words";
import { laneName } from "../describe";
import type { Player } from "../interfaces";
import { type ModelRow, type Op, shifted } from "./changes";
import type { Layer } from "./layer";

interface Past extends ModelRow {
  revision: number;
  author_name: string;
  mine: boolean;
  at_s: number;
  op: Op;
  span_id: string;
}

/** So many changes are shown, the newest first. */
const SHOWN = 200;

/** Who changed what, and when. It is asked for only when it is opened. */
export function History({ path, layer, player }: { path: string; layer: Layer; player: Player }) {
  const { edit: text } = words.value;
  const [isOpen, setOpen] = useState(false);
  const count = layer.historyCount.value;
  return (
    <details class="part" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        {text.history} ({count})
      </summary>
      {count === 0 && <p class="soft">{text.noHistory}</p>}
      {isOpen && count > 0 && <Changes key={count} offsetS={layer.offsetS} path={`${path}/history?after=${Math.max(0, count - SHOWN)}&limit=${SHOWN}`} player={player} />}
    </details>
  );
}

function Changes({ path, offsetS, player }: { path: string; offsetS: number; player: Player }) {
  const { edit: text } = words.value;
  const { data, error, loading, reload } = useResource<Past[]>(path);
  if (loading) return <Loading />;
  if (!data) return <Trouble error={error} again={reload} />;
  return (
    <ol class="list">
      {[...data].reverse().map((past) => shifted(past, offsetS)).map((one) => (
        <li key={one.revision}>
          <span>
            {one.author_name} {text.ops[one.op]} {laneName(one.tag)}: {one.category}
          </span>
          <button type="button" class="plain small numbers" onClick={() => player.seek(one.start_s)}>
            {`${clockTenths(one.start_s)}–${clockTenths(one.stop_s)}`}
          </button>
          <span class="soft">{dateTime(one.at_s)}</span>
        </li>
      ))}
    </ol>
  );
}
