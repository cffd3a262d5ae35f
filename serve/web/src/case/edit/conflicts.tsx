import { clockTenths, words } from "../../words";
import { laneName } from "../describe";
import type { Player, Selection } from "../interfaces";
import type { Conflict } from "./changes";
import type { Layer } from "./layer";

/** Where two people say different things, each with both words and a way to each. */
export function Conflicts({ layer, player, selection }: { layer: Layer; player: Player; selection: Selection }) {
  const { edit: text } = words.value;
  const conflicts = layer.conflicts.value;
  return (
    <details class="part" open={conflicts.length > 0}>
      <summary>
        {text.conflicts} ({conflicts.length})
      </summary>
      {conflicts.length === 0 && <p class="soft">{text.noConflicts}</p>}
      <ul class="list">
        {conflicts.map((one) => (
          <li key={one.span_ids.join()}>
            <Words conflict={one} layer={layer} player={player} selection={selection} />
          </li>
        ))}
      </ul>
    </details>
  );
}

function Words({ conflict, layer, player, selection }: { conflict: Conflict; layer: Layer; player: Player; selection: Selection }) {
  const { edit: text } = words.value;
  return (
    <>
      <b>{text.conflict(laneName(conflict.tag), clockTenths(conflict.start_s), clockTenths(conflict.stop_s))}</b>
      {conflict.span_ids.map((id) => {
        const span = layer.find(id);
        if (!span) return null;
        const what = span.state === "rejected" ? text.not(span.category) : span.category;
        return (
          <button
            key={id}
            type="button"
            class="plain small"
            onClick={() => {
              selection.span.value = span;
              player.seek(conflict.start_s);
            }}
          >
            {text.says(span.mine ? text.youSay : (span.author ?? ""), what)} <span class="numbers">{`${clockTenths(span.startS)}–${clockTenths(span.stopS)}`}</span>
          </button>
        );
      })}
    </>
  );
}
