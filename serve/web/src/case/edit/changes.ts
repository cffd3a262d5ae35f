/** A person's layer: what people say about a map, as changes. Pure: knows no service and no page. */

/** A row of the model's timeline. Times are seconds of the video, [start, stop). */
export interface ModelRow {
  tag: string;
  category: string;
  start_s: number;
  stop_s: number;
}

export type Op = "add" | "change" | "remove" | "accept" | "reject";

/** One change. It carries the whole span that its author now means. `row`: the model's row that the span answers. */
export interface Change extends ModelRow {
  op: Op;
  span_id: string;
  row: ModelRow | null;
}

export type State = "accepted" | "rejected" | "changed" | "added";

/** What somebody says now, as the service answers it. */
export interface Mark extends ModelRow {
  span_id: string;
  state: State;
  row: ModelRow | null;
  author: string;
  author_name: string;
  at_s: number;
  mine: boolean;
}

export interface Conflict {
  tag: string;
  start_s: number;
  stop_s: number;
  span_ids: string[];
}

export interface Annotations {
  revision: number;
  spans: Mark[];
  conflicts: Conflict[];
  history_count: number;
}

export type Marks = ReadonlyMap<string, Mark>;

/** Who makes a change that the service has not answered yet. */
export interface Author {
  author: string;
  author_name: string;
}

/** The service keeps times to the millisecond; two times are the same where they agree to it. */
export const toMs = (seconds: number): number => Math.round(seconds * 1000);
export const rounded = (seconds: number): number => toMs(seconds) / 1000;

/** A span that lies `byS` seconds later: from the time of a file to that of its case, or back. */
export function shifted<T extends { start_s: number; stop_s: number }>(one: T, byS: number): T {
  return byS ? { ...one, start_s: rounded(one.start_s + byS), stop_s: rounded(one.stop_s + byS) } : one;
}

/** The same of spans with the rows that they answer. */
export const moved = <T extends ModelRow & { row: ModelRow | null }>(spans: readonly T[], byS: number): T[] =>
  byS ? spans.map((one) => ({ ...shifted(one, byS), row: one.row && shifted(one.row, byS) })) : [...spans];

export const isSame = (one: ModelRow, other: ModelRow): boolean =>
  one.tag === other.tag &&
  one.category === other.category &&
  toMs(one.start_s) === toMs(other.start_s) &&
  toMs(one.stop_s) === toMs(other.stop_s);

/** Identifies a row of the model while the case is shown. */
export const rowId = (row: ModelRow): string => `${row.tag}|${row.category}|${toMs(row.start_s)}|${toMs(row.stop_s)}`;

export const marksOf = (spans: Iterable<Mark>): Marks => new Map([...spans].map((mark) => [mark.span_id, mark]));

export const contentOf = ({ tag, category, start_s, stop_s }: ModelRow): ModelRow => ({ tag, category, start_s, stop_s });

function stateAfter(change: Change): State {
  if (change.op === "reject") return "rejected";
  if (!change.row) return "added";
  return isSame(change, change.row) ? "accepted" : "changed";
}

/** The layer after `change`, by the rule of the service: the last change of a span is what holds. */
export function applied(marks: Marks, change: Change, by: Author, atS: number): Marks {
  const after = new Map(marks);
  if (change.op === "remove") after.delete(change.span_id);
  else
    after.set(change.span_id, {
      ...contentOf(change),
      span_id: change.span_id,
      row: change.row,
      state: stateAfter(change),
      ...by,
      at_s: atS,
      mine: true,
    });
  return after;
}

export const allApplied = (marks: Marks, changes: Iterable<Change>, by: Author, atS: number): Marks =>
  [...changes].reduce((so, change) => applied(so, change, by, atS), marks);

/** The changes after which the layer says again what `mark` says. `isThere`: a span of its id is in the layer. */
function restoring(mark: Mark, isThere: boolean): Change[] {
  const same = { ...contentOf(mark), span_id: mark.span_id, row: mark.row };
  // A rejection keeps the content that its span has, so the content comes first.
  const back: Change[] = [{ ...same, op: isThere ? "change" : "add" }];
  if (mark.state === "rejected") back.push({ ...same, op: "reject" });
  return back;
}

/** The changes that lead from the layer after `changes` back to `marks`, for undo, and from there for redo. */
export function inverses(marks: Marks, changes: readonly Change[]): Change[] {
  const touched = [...new Set(changes.map((change) => change.span_id))];
  const after = allApplied(marks, changes, { author: "", author_name: "" }, 0);
  return touched.reverse().flatMap((span_id): Change[] => {
    const [before, now] = [marks.get(span_id), after.get(span_id)];
    if (before) return restoring(before, now !== undefined);
    return now ? [{ ...contentOf(now), op: "remove", span_id, row: now.row }] : [];
  });
}

/** The same wish about a newer layer, in which somebody else has removed spans or brought them back. */
export function rebased(marks: Marks, changes: readonly Change[], by: Author): Change[] {
  const wanted: Change[] = [];
  let so = marks;
  for (const change of changes) {
    const isThere = so.has(change.span_id);
    let now: Change[] = [change];
    if (!isThere && change.op === "remove") now = [];
    else if (!isThere && change.op === "reject") now = [{ ...change, op: "add" }, change];
    else if (!isThere) now = [{ ...change, op: "add" }];
    else if (change.op === "add") now = [{ ...change, op: "change" }];
    wanted.push(...now);
    so = allApplied(so, now, by, 0);
  }
  return wanted;
}

/** Whether the layer already says what `change` wants, such as after an answer that got lost on its way. */
export function isDone(marks: Marks, change: Change): boolean {
  const mark = marks.get(change.span_id);
  if (change.op === "remove") return !mark;
  return mark !== undefined && mark.mine && isSame(mark, change) && mark.state === stateAfter(change);
}

/** An id of a new span: 16 hexadecimal digits. */
export function newSpanId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
