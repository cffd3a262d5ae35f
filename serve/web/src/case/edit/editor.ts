/** What a person does to the selected span, by button or by key. */
import { useSignal } from "@preact/signals";
import { useMemo, useState } from "preact/hooks";

import type { Player, Selection } from "../interfaces";
import { qualityShown, shownLanes } from "../quality";
import { type Change, rowId } from "./changes";
import { accept, add, isEditable, merge, neighbour, reject, setCategory, setEnds, split, withdraw } from "./corrections";
import type { Layer } from "./layer";
import type { LayerLane, LayerSpan } from "./merged";
import { progress, toLookAt } from "./review-queue";

/** How long a span is that is added where nothing is marked. */
export const ADDED_S = 2;

export interface Editor {
  lanes: LayerLane[];
  /** The selected span as it is now; null: none, or one that cannot be changed. */
  span: LayerSpan | null;
  /** What a merge would take. */
  next: LayerSpan | null;
  /** The span that was corrected last. */
  corrected: LayerSpan | null;
  accept(): void;
  reject(): void;
  withdraw(): void;
  split(): void;
  merge(): void;
  setCategory(category: string): void;
  /** false: the span cannot end there. */
  setEnd(end: "start" | "stop", toS: number): boolean;
  add(tag: string, category: string): void;
  queue: ReviewQueue;
}

export interface ReviewQueue {
  tag: string | null;
  looked: number;
  all: number;
  isEnd: boolean;
  hasBefore: boolean;
  /** Shows one lane alone; null: all lanes. */
  filter(tag: string | null): void;
  next(): void;
  before(): void;
}

/** The stretch that a new span takes: what is marked, what is repeated, or a little from here on. */
export function stretch(player: Player, selection: Selection): [number, number] {
  const hereS = Math.max(0, Math.min(player.timeS.value, player.durationS - ADDED_S));
  return selection.range.value ?? player.loop.value ?? [hereS, Math.min(player.durationS, hereS + ADDED_S)];
}

export function useEditor(layer: Layer, player: Player, selection: Selection): Editor {
  const correctedId = useSignal<string | null>(null);
  const lanes = shownLanes(layer.lanes, qualityShown.value) as LayerLane[];
  const chosen = layer.find(selection.span.value);
  const span = chosen && isEditable(chosen) ? chosen : null;
  const next = span && neighbour(layer.spans.value, span);
  const corrected = layer.find(correctedId.value);
  const queue = useQueue(layer, lanes, player, selection);

  const act = (changes: Change[]): void => {
    const first = changes[0];
    if (!first) return;
    layer.apply(changes);
    const isGone = first.op === "remove";
    selection.span.value = layer.find(isGone ? first.row && rowId(first.row) : first.span_id);
    correctedId.value = isGone ? null : first.span_id;
  };
  /** An answer to what the queue shows goes on to the next. */
  const answer = (changes: Change[]): void => {
    const isInQueue = span !== null && queue.shows(span);
    act(changes);
    if (isInQueue) queue.next();
  };
  return {
    lanes,
    span,
    next,
    corrected,
    queue,
    accept: () => span && answer(accept(span)),
    reject: () => span && answer(reject(span)),
    withdraw: () => span && act(withdraw(span)),
    split: () => span && act(split(span, player.timeS.value)),
    merge: () => span && next && act(merge(span, next)),
    setCategory: (category) => span && act(setCategory(span, category)),
    setEnd: (end, toS) => {
      if (!span) return false;
      const changes = end === "start" ? setEnds(span, toS, span.stopS, player.durationS) : setEnds(span, span.startS, toS, player.durationS);
      act(changes);
      return changes.length > 0;
    },
    add: (tag, category) => {
      const [startS, stopS] = stretch(player, selection);
      act(add(tag, category, startS, stopS));
      selection.range.value = null;
    },
  };
}

function useQueue(layer: Layer, lanes: LayerLane[], player: Player, selection: Selection): ReviewQueue & { shows(span: LayerSpan): boolean } {
  const tag = useSignal<string | null>(null);
  const waiting = useMemo(() => toLookAt(lanes, tag.value), [layer.lanes, tag.value, qualityShown.value]);
  const counted = useMemo(() => progress(lanes, tag.value), [layer.lanes, tag.value, qualityShown.value]);
  /** Ids of what the queue has shown, in order; what was passed over is not shown again. */
  const [trail] = useState<string[]>(() => []);
  const place = useSignal(-1);
  const show = (n: number): void => {
    place.value = n;
    const span = layer.find(trail[n] ?? null);
    if (!span) return;
    selection.span.value = span;
    player.seek(span.startS);
  };
  const next = (): void => {
    if (place.value < trail.length - 1) return show(place.value + 1);
    const seen = new Set(trail);
    const now = toLookAt(shownLanes(layer.lanes, qualityShown.value) as LayerLane[], tag.value).find((span) => !seen.has(span.id));
    if (!now) return;
    trail.push(now.id);
    show(trail.length - 1);
  };
  const isEnd = place.value >= trail.length - 1 && waiting.every((span) => trail.includes(span.id));
  return {
    tag: tag.value,
    ...counted,
    isEnd,
    hasBefore: place.value > 0,
    filter: (wanted) => {
      tag.value = wanted;
      place.value = trail.length - 1;
    },
    next,
    before: () => place.value > 0 && show(place.value - 1),
    shows: (span) => {
      const shown = layer.find(trail[place.value] ?? null);
      return shown !== null && shown.id === span.id;
    },
  };
}
