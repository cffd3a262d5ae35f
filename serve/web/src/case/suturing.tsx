import { useComputed } from "@preact/signals";
import { useMemo, useState } from "preact/hooks";

import { useAction } from "../components/action";
import { Loading, Trouble } from "../components/messages";
import { clockTenths, number, percent, words } from "../words";
import type { Player } from "./interfaces";
import { qualityShown } from "./quality";
import { type Stitch, type StitchTotals, stitchAt, useStitches } from "./stitches";
import "./suturing.css";

type Column = keyof typeof words.value.suturing.column;
const COLUMNS: Column[] = ["index", "start_s", "stop_s", "target", "direction", "extent", "handling_s", "driving_s", "withdrawal_s", "proficiency", "confidence"];
const TIMES: Column[] = ["start_s", "stop_s"];
const LENGTHS: Column[] = ["handling_s", "driving_s", "withdrawal_s"];

interface Order {
  by: Column;
  descending: boolean;
}

/** The stitches in order; those without a value in the column come last either way, and equal ones stay in time. */
export function ordered(stitches: readonly Stitch[], { by, descending }: Order): Stitch[] {
  const sign = descending ? -1 : 1;
  return [...stitches].sort((one, other) => {
    const [a, b] = [one[by], other[by]];
    if (a === null || b === null) return a === b ? one.start_s - other.start_s : a === null ? 1 : -1;
    const difference = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return sign * difference || one.start_s - other.start_s;
  });
}

/**
 * The stitches of a case as a table beside the timeline, with totals. `where`: as of `useStitches`. `onMap`: where the
 * caller may ask for a map.
 */
export function Suturing({ where, player, onMap }: { where: string; player: Player; onMap?: () => unknown }) {
  const { suturing: text } = words.value;
  const { data, error, loading, reload } = useStitches(where);
  const mapping = useAction(async () => {
    await onMap?.();
  });
  const title = <h2 id="suturing-title">{text.title}</h2>;
  if (loading) return <section aria-labelledby="suturing-title">{title}<Loading /></section>;
  const isUnmapped = error?.status === 404 || error?.status === 409;
  return (
    <section class="suturing" aria-labelledby="suturing-title">
      {title}
      {isUnmapped ? <p>{text.notMapped}</p> : <Trouble error={error} again={reload} />}
      {data?.asked === false && <p>{text.notAsked}</p>}
      {(isUnmapped || data?.asked === false) &&
        (onMap ? (
          <button type="button" disabled={mapping.busy} onClick={() => void mapping.run()}>
            {text.map}
          </button>
        ) : (
          <p class="soft">{text.mapHint}</p>
        ))}
      <Trouble error={mapping.error} />
      {data && data.asked !== false && (
        <>
          {data.complete === false && <p class="notice warn">{text.incomplete}</p>}
          {data.stitches.length === 0 ? (
            <p>{text.none}</p>
          ) : (
            <>
              <Quality stitches={data.stitches} />
              {data.totals && <Totals totals={data.totals} />}
              <Table stitches={data.stitches} player={player} />
              <p class="soft row">
                <a href={`${where}/stitches?format=csv`} download>
                  {text.csv}
                </a>
                {data.model_version && <span>{text.version(data.model_version)}</span>}
              </p>
            </>
          )}
        </>
      )}
    </section>
  );
}

/** Who reviews a case sees first what happens, and how well it was done only when they ask. */
function Quality({ stitches }: { stitches: readonly Stitch[] }) {
  if (stitches.every((one) => one.proficiency === null)) return null;
  return (
    <label class="row">
      <input
        type="checkbox"
        checked={qualityShown.value}
        onChange={(event) => {
          qualityShown.value = event.currentTarget.checked;
        }}
      />
      {words.value.suturing.showQuality}
    </label>
  );
}

function Totals({ totals }: { totals: StitchTotals }) {
  const { suturing: text } = words.value;
  const seconds = (value: number) => text.seconds(number(value, 1));
  const interval = (low: number | null | undefined, high: number | null | undefined, as: (value: number) => string) =>
    low == null || high == null ? text.tooFew : text.between(as(low), as(high));
  return (
    <div class="tiles">
      <div class="tile">
        <b>{number(totals.count)}</b>
        <span>{text.count(totals.count)}</span>
      </div>
      {(["handling", "driving", "withdrawal"] as const).map((phase) => {
        const median = totals[`${phase}_s`];
        return (
          <div class="tile" key={phase}>
            <b>{median === null ? text.noValue : seconds(median)}</b>
            <span>{text.phases[phase]}</span>
            {median !== null && <small>{interval(totals[`${phase}_low_s`], totals[`${phase}_high_s`], seconds)}</small>}
          </div>
        );
      })}
      {qualityShown.value && totals.high_share !== null && (
        <div class="tile">
          <b>{percent(totals.high_share)}</b>
          <span>
            {text.high} {text.highOf(totals.proficiency_n)}
          </span>
          <small>{interval(totals.high_low, totals.high_high, percent)}</small>
        </div>
      )}
    </div>
  );
}

function Table({ stitches, player }: { stitches: Stitch[]; player: Player }) {
  const { suturing: text } = words.value;
  const [order, setOrder] = useState<Order>({ by: "index", descending: false });
  const sorted = useMemo(() => ordered(stitches, order), [stitches, order]);
  // Only the number of the current stitch, so that the table is not drawn again with every frame.
  const current = useComputed(() => stitchAt(stitches, player.timeS.value)?.index);
  const columns = COLUMNS.filter(
    (column) => (column !== "proficiency" || qualityShown.value) && stitches.some((one) => one[column] !== null),
  );
  return (
    <div class="scroll">
      <table>
        <caption class="seen-by-readers">{text.caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => {
              const isBy = order.by === column;
              return (
                <th key={column} scope="col" aria-sort={isBy ? (order.descending ? "descending" : "ascending") : "none"}>
                  <button type="button" class="heading" onClick={() => setOrder({ by: column, descending: isBy && !order.descending })}>
                    {text.column[column]}
                    <span aria-hidden="true">{isBy ? (order.descending ? " ↓" : " ↑") : ""}</span>
                  </button>
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {sorted.map((one) => (
            <tr key={one.index} aria-current={current.value === one.index ? "true" : undefined}>
              {columns.map((column) => (column === "index" ? <First key={column} one={one} player={player} isNow={current.value === one.index} /> : <td key={column}>{shown(one, column)}</td>))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function First({ one, player, isNow }: { one: Stitch; player: Player; isNow: boolean }) {
  const { suturing: text } = words.value;
  return (
    <th scope="row">
      <button type="button" class="plain small" aria-label={text.play(one.index)} onClick={() => player.playSpan(one.start_s, one.stop_s)}>
        <span aria-hidden="true">▶ </span>
        {one.index}
      </button>
      {isNow && <span class="pill">{text.now}</span>}
    </th>
  );
}

function shown(one: Stitch, column: Column): string {
  const { suturing: text } = words.value;
  const value = one[column];
  if (value === null) return text.noValue;
  if (column === "proficiency") return one.proficiency_probability === null ? String(value) : text.sure(String(value), percent(one.proficiency_probability));
  if (typeof value === "string") return value;
  if (TIMES.includes(column)) return clockTenths(value);
  if (LENGTHS.includes(column)) return value > 0 ? number(value, 1) : text.noValue;
  return percent(value);
}
