import { useMemo, useState } from "preact/hooks";

import { clockTenths, words } from "../../words";
import { laneName, surety, whatIs } from "../describe";
import type { Lane, Player, Selection, Span } from "../interfaces";
import { take } from "./timeline";

export const PAGE = 50;

/** The spans of a lane (`""`: of all) whose words hold `text`, in order of time. */
export function found(lanes: Lane[], tag: string, text: string): Span[] {
  const wanted = text.trim().toLowerCase();
  const holds = (span: Span) => !wanted || `${laneName(span.tag)} ${whatIs(span)}`.toLowerCase().includes(wanted);
  const spans = lanes.filter((lane) => !tag || lane.tag === tag).flatMap((lane) => lane.spans.filter(holds));
  return tag ? spans : spans.sort((one, other) => one.startS - other.startS || one.stopS - other.stopS);
}

/** The timeline as a table, page by page: for the keyboard, for screen readers, and to look something up. */
export function SpanTable({ lanes, player, selection }: { lanes: Lane[]; player: Player; selection: Selection }) {
  const { table } = words.value.review;
  const [tag, setTag] = useState(() => (lanes.some((lane) => lane.tag === "step" && lane.spans.length) ? "step" : ""));
  const [text, setText] = useState("");
  const [page, setPage] = useState(0);
  const chosen = lanes.some((lane) => lane.tag === tag) ? tag : "";
  const spans = useMemo(() => found(lanes, chosen, text), [lanes, chosen, text, words.value]);
  const last = Math.max(0, Math.ceil(spans.length / PAGE) - 1);
  const from = Math.min(page, last) * PAGE;
  const shown = spans.slice(from, from + PAGE);
  const selected = selection.span.value?.id;
  return (
    <div class="spans">
      <div class="row">
        <label>
          {table.lane}{" "}
          <select
            value={chosen}
            onChange={(event) => {
              setTag(event.currentTarget.value);
              setPage(0);
            }}
          >
            <option value="">{table.all}</option>
            {lanes.map((lane) => (
              <option key={lane.tag} value={lane.tag}>
                {laneName(lane.tag)}
              </option>
            ))}
          </select>
        </label>
        <label>
          {table.search}{" "}
          <input
            type="search"
            value={text}
            onInput={(event) => {
              setText(event.currentTarget.value);
              setPage(0);
            }}
          />
        </label>
      </div>
      {shown.length === 0 ? (
        <p class="soft" role="status">
          {table.none}
        </p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">{table.from}</th>
              <th scope="col">{table.to}</th>
              <th scope="col">{table.what}</th>
              <th scope="col">{table.sure}</th>
              <th scope="col">
                <span class="seen-by-readers">{table.select}</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {shown.map((span) => (
              <tr key={span.id} class={span.id === selected ? "selected" : undefined}>
                <td>
                  <button type="button" class="plain small numbers" aria-label={table.goTo(clockTenths(span.startS))} onClick={() => player.seek(span.startS)}>
                    {clockTenths(span.startS)}
                  </button>
                </td>
                <td>{clockTenths(span.stopS)}</td>
                <td>
                  {!chosen && <span class="soft">{laneName(span.tag)}: </span>}
                  {whatIs(span)}
                </td>
                <td>{surety(span)}</td>
                <td>
                  <button
                    type="button"
                    class="plain small"
                    aria-pressed={span.id === selected}
                    aria-label={table.selectIt(whatIs(span), clockTenths(span.startS))}
                    onClick={() => take(selection, span.id === selected ? null : span)}
                  >
                    {table.select}
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {spans.length > PAGE && (
        <div class="row">
          <button type="button" class="plain small" disabled={from === 0} onClick={() => setPage(from / PAGE - 1)}>
            {table.before}
          </button>
          <span class="soft numbers" role="status">
            {table.count(from + 1, from + shown.length, spans.length)}
          </span>
          <button type="button" class="plain small" disabled={from + PAGE >= spans.length} onClick={() => setPage(from / PAGE + 1)}>
            {table.after}
          </button>
        </div>
      )}
    </div>
  );
}
