/** What a person does to a span, as changes of the layer. Pure; a person's one deed is one list of changes. */
import { type Change, type ModelRow, newSpanId, rounded } from "./changes";
import { type LayerSpan, isWholeRow } from "./merged";

/** The shortest span that a person can make: below it a span could not be taken hold of again. */
export const SHORTEST_S = 0.04;

/**
 * The changes of `span` into `content`. The answer to a whole row names it. What people have left of a row is added as
 * a span of its own, so that the rest of the row, elsewhere, stays unanswered.
 */
function changesOf(span: LayerSpan, op: "change" | "accept" | "reject", content: Partial<ModelRow> = {}): Change[] {
  const whole: ModelRow = { tag: span.tag, category: span.category, start_s: span.startS, stop_s: span.stopS, ...content };
  const isAnswer = span.spanId !== null || isWholeRow(span);
  const one: Change = {
    ...whole,
    start_s: rounded(whole.start_s),
    stop_s: rounded(whole.stop_s),
    op: isAnswer ? op : "add",
    span_id: span.spanId ?? newSpanId(),
    row: isAnswer ? span.row : null,
  };
  return isAnswer || op !== "reject" ? [one] : [one, { ...one, op: "reject" }];
}

/** Gaps and unknown stretches are no statements of the model, so there is nothing to answer. */
export const isEditable = (span: LayerSpan): boolean => span.source === "ai" || span.source === "manual";

/** Says that the span is right: a row of the model, another person's span, or what was rejected before. */
export const accept = (span: LayerSpan): Change[] =>
  span.mine && span.state !== "rejected" ? [] : changesOf(span, "accept");

export const reject = (span: LayerSpan): Change[] => (span.state === "rejected" ? [] : changesOf(span, "reject"));

/** Takes a person's word back: where it answered a row, the model's row is there again. */
export function withdraw(span: LayerSpan): Change[] {
  if (span.spanId === null) return [];
  return [{ op: "remove", span_id: span.spanId, tag: span.tag, category: span.category, start_s: span.startS, stop_s: span.stopS, row: span.row }];
}

export function setCategory(span: LayerSpan, category: string): Change[] {
  return category === span.category && span.state !== "rejected" ? [] : changesOf(span, "change", { category });
}

/** The span from `startS` to `stopS`, kept inside the video; nothing where it would be shorter than SHORTEST_S. */
export function setEnds(span: LayerSpan, startS: number, stopS: number, durationS: number): Change[] {
  const [start_s, stop_s] = [rounded(Math.max(0, startS)), rounded(Math.min(durationS, stopS))];
  if (stop_s - start_s < SHORTEST_S || (start_s === span.startS && stop_s === span.stopS)) return [];
  return changesOf(span, "change", { start_s, stop_s });
}

export const canSplit = (span: LayerSpan, atS: number): boolean =>
  atS - span.startS >= SHORTEST_S && span.stopS - atS >= SHORTEST_S && span.state !== "rejected";

/** The span as two that meet at `atS`. */
export function split(span: LayerSpan, atS: number): Change[] {
  if (!canSplit(span, atS)) return [];
  const second: Change = {
    op: "add",
    span_id: newSpanId(),
    tag: span.tag,
    category: span.category,
    start_s: rounded(atS),
    stop_s: rounded(span.stopS),
    row: null,
  };
  return [...changesOf(span, "change", { stop_s: atS }), second];
}

/** The next span of the same lane that a merge can take; null where there is none. */
export function neighbour(spans: readonly LayerSpan[], span: LayerSpan): LayerSpan | null {
  if (span.state === "rejected") return null;
  return (
    spans.find(
      (other) => other.id !== span.id && other.tag === span.tag && isEditable(other) && other.state !== "rejected" && other.startS >= span.startS,
    ) ?? null
  );
}

/** `span` and `next` as one, with the category of `span`. A row of the model below it gives place by itself. */
export function merge(span: LayerSpan, next: LayerSpan): Change[] {
  const ends = { start_s: Math.min(span.startS, next.startS), stop_s: Math.max(span.stopS, next.stopS) };
  return [...changesOf(span, "change", ends), ...withdraw(next)];
}

export function add(tag: string, category: string, startS: number, stopS: number): Change[] {
  const [start_s, stop_s] = [rounded(startS), rounded(stopS)];
  return stop_s - start_s < SHORTEST_S ? [] : [{ op: "add", span_id: newSpanId(), tag, category, start_s, stop_s, row: null }];
}

/** A moment that is like a corrected span, and the model's row there. */
export interface Moment {
  video_id: string;
  start_s: number;
  stop_s: number;
  similarity: number;
  row: (ModelRow & { confidence?: number }) | null;
}

/** The same statement as `span` makes, about `moment`; null where it would say nothing new. */
export function sameAt(span: LayerSpan, moment: Moment): Change | null {
  const row = moment.row && moment.row.tag === span.tag ? moment.row : null;
  const answered: ModelRow | null = row && { tag: row.tag, category: row.category, start_s: row.start_s, stop_s: row.stop_s };
  if (span.state === "rejected") {
    if (!answered || answered.category !== span.category) return null;
    return { ...answered, op: "reject", span_id: newSpanId(), row: answered };
  }
  if (!answered) return add(span.tag, span.category, moment.start_s, moment.stop_s)[0] ?? null;
  const op = answered.category === span.category ? "accept" : "change";
  return { ...answered, category: span.category, op, span_id: newSpanId(), row: answered };
}
