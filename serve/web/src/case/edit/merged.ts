/** The model's lanes and what people say of them, as one. */
import type { Lane, Span } from "../interfaces";
import { type Mark, type Marks, type ModelRow, rowId } from "./changes";

/**
 * A span of the layer. The answer to a row keeps the row's `id`, so that what is selected stays selected.
 *
 * `spanId`: by which the service knows what a person said; null: only the model says so. `row`: the model's whole row,
 * of which the span shows all, or what people have left of it. `author`: the name of whoever said it.
 */
export interface LayerSpan extends Span {
  spanId: string | null;
  row: ModelRow | null;
  mine: boolean;
}

export interface LayerLane extends Lane {
  spans: LayerSpan[];
}

type Interval = [number, number];

const rowOf = (span: Span): ModelRow => ({ tag: span.tag, category: span.category, start_s: span.startS, stop_s: span.stopS });

/** `of` without the time in `cuts`. */
export function without(of: Interval, cuts: readonly Interval[]): Interval[] {
  const left: Interval[] = [];
  let [from] = of;
  for (const [start, stop] of [...cuts].sort((one, other) => one[0] - other[0])) {
    if (stop <= from || start >= of[1]) continue;
    if (start > from) left.push([from, start]);
    from = Math.max(from, stop);
  }
  if (from < of[1]) left.push([from, of[1]]);
  return left;
}

const ofMark = (mark: Mark, id: string, confidence: number | null): LayerSpan => ({
  id,
  spanId: mark.span_id,
  tag: mark.tag,
  category: mark.category,
  startS: mark.start_s,
  stopS: mark.stop_s,
  confidence,
  source: "manual",
  state: mark.state,
  author: mark.author_name,
  row: mark.row,
  mine: mark.mine,
});

/** What `marks`, in order of their starts, leave of a span of the model. A span that is left whole keeps its id. */
function leftOf(span: Span, marks: readonly Mark[]): LayerSpan[] {
  const row = rowOf(span);
  const cuts: Interval[] = [];
  for (const mark of marks) {
    if (mark.start_s >= span.stopS) break;
    if (mark.stop_s > span.startS && (mark.state !== "rejected" || mark.category === span.category)) cuts.push([mark.start_s, mark.stop_s]);
  }
  const parts = without([span.startS, span.stopS], cuts);
  return parts.map(([startS, stopS], n) => ({ ...span, id: n ? `${span.id}|${n}` : span.id, startS, stopS, spanId: null, row, mine: false }));
}

/**
 * The lanes with the spans of people in them, each in order of time. A row that somebody has answered gives place to
 * the answer. A person's span also cuts the other rows of its tag, and a rejected span those of its tag and category
 * alone. Gaps, and what the model does not know, stay whole.
 *
 * Costs the rows of a lane times the marks of its tag.
 */
export function merged(lanes: readonly Lane[], marks: Marks): LayerLane[] {
  /** Id of the row → the mark that is shown in its place: mine before that of another. */
  const answered = new Map<string, Mark>();
  const byTag = new Map<string, Mark[]>();
  for (const mark of [...marks.values()].sort((one, other) => one.start_s - other.start_s)) {
    if (mark.row && (mark.mine || !answered.has(rowId(mark.row)))) answered.set(rowId(mark.row), mark);
    byTag.set(mark.tag, [...(byTag.get(mark.tag) ?? []), mark]);
  }
  const confidences = new Map<string, number | null>();
  const shown = lanes.map((lane): LayerLane => {
    const said = byTag.get(lane.tag) ?? [];
    const spans: LayerSpan[] = [];
    for (const span of lane.spans) {
      if (span.source !== "ai") spans.push({ ...span, spanId: null, row: null, mine: false });
      else if (!answered.has(rowId(rowOf(span)))) spans.push(...leftOf(span, said));
      else confidences.set(rowId(rowOf(span)), span.confidence);
    }
    return { ...lane, spans };
  });
  for (const [tag, said] of byTag) {
    let lane = shown.find((one) => one.tag === tag);
    if (!lane) shown.push((lane = { tag, categories: [...new Set(said.map((mark) => mark.category))].sort(), ordered: false, spans: [] }));
    for (const mark of said) {
      const row = mark.row && rowId(mark.row);
      const id = row !== null && answered.get(row) === mark ? row : mark.span_id;
      lane.spans.push(ofMark(mark, id, row === null ? null : (confidences.get(row) ?? null)));
    }
    lane.spans.sort((one, other) => one.startS - other.startS || one.stopS - other.stopS);
  }
  return shown;
}

/** Whether the span is the model's whole row, as the model gave it. */
export const isWholeRow = (span: LayerSpan): boolean =>
  span.row !== null && span.startS === span.row.start_s && span.stopS === span.row.stop_s;
