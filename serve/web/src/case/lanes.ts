/** Lanes: the rows of a timeline by tag, each lane sorted so that what is at a time is found by binary search. */
import { useMemo } from "preact/hooks";

import { useResource } from "../api/resource";
import type { Row } from "../api/types";
import { linked } from "../session";
import type { Lane, Span } from "./interfaces";

/** A tag that the model knows: its categories in the order of the taxonomy, and whether they are a scale. */
export interface TagKnown {
  tag: string;
  categories: string[];
  ordered: boolean;
}

/** What lies over all lanes: stretches that are not mapped, and stretches that the model does not know. */
export const GAP = "gap";
export const UNKNOWN = "unknown";
export const PROFICIENCY = "proficiency";
/** Lanes that are shown without spans too, since their being empty says something of the whole operation. */
const ALWAYS = ["specialty", "procedure", "step"];
const ORDERED = [PROFICIENCY];

interface Models {
  models: { version: string; instructions: Record<string, Record<string, string[]>> }[];
}

/** The tags of the model that the service holds, in its order; null until it has answered, none where it can't say. */
export function useTaxonomy(): TagKnown[] | null {
  const link = linked.value; // which may not ask for models, and brings its tags along
  const { data, error } = useResource<Models>(link ? null : "v1/models");
  return useMemo(() => {
    if (link) return link.tags.map((one) => ({ ...one, ordered: ORDERED.includes(one.tag) }));
    return data || error ? tagsOf(data?.models[0]?.instructions ?? {}) : null;
  }, [data, error, link]);
}

export function tagsOf(instructions: Record<string, Record<string, string[]>>): TagKnown[] {
  return Object.values(instructions).flatMap((tags) =>
    Object.entries(tags).map(([tag, categories]) => ({ tag, categories, ordered: ORDERED.includes(tag) })),
  );
}

/** Sorts the rows into lanes. A tag that the model of today no longer knows has a lane of its own after those it knows. */
export function lanesOf(rows: Row[], known: TagKnown[]): Lane[] {
  const byTag = new Map<string, Span[]>();
  for (const row of rows) {
    const spans = byTag.get(row.tag) ?? [];
    spans.push(spanOf(row));
    byTag.set(row.tag, spans);
  }
  const tags = known.map((one) => one.tag);
  const others = [...byTag.keys()].filter((tag) => !tags.includes(tag) && tag !== GAP && tag !== UNKNOWN);
  const lanes: Lane[] = known
    .filter(({ tag }) => byTag.has(tag) || ALWAYS.includes(tag))
    .map((one) => ({ ...one, spans: sorted(byTag.get(one.tag) ?? []) }));
  for (const tag of others) {
    const spans = sorted(byTag.get(tag)!);
    const categories = [...new Set(spans.map((span) => span.category))].sort();
    lanes.push({ tag, categories, ordered: ORDERED.includes(tag), spans });
  }
  for (const tag of [GAP, UNKNOWN])
    if (byTag.has(tag)) lanes.push({ tag, categories: [], ordered: false, spans: sorted(byTag.get(tag)!) });
  return lanes;
}

/** Identifies a row while the case is shown, also after the service was asked anew. */
export const rowId = (row: Pick<Row, "tag" | "category" | "start_s" | "end_s">): string =>
  `${row.tag}|${row.category}|${Math.round(row.start_s * 1000)}|${Math.round(row.end_s * 1000)}`;

function spanOf(row: Row): Span {
  const isGap = row.tag === GAP || row.source === "gap";
  const isUnknown = row.tag === UNKNOWN || row.source === UNKNOWN;
  return {
    id: rowId(row),
    tag: row.tag,
    category: row.category,
    startS: row.start_s,
    stopS: row.end_s,
    confidence: isGap || isUnknown ? null : row.confidence,
    source: isGap ? "gap" : isUnknown ? "unknown" : row.source === "manual" ? "manual" : "ai",
  };
}

const sorted = (spans: Span[]): Span[] => spans.sort((one, other) => one.startS - other.startS || one.stopS - other.stopS);

export const isBand = (lane: Lane): boolean => lane.tag === GAP || lane.tag === UNKNOWN;

// The latest end among a lane's first n spans. It never falls, so it can be searched where spans overlap, too.
const latestEnds = new WeakMap<Span[], Float64Array>();

function endsOf(spans: Span[]): Float64Array {
  let ends = latestEnds.get(spans);
  if (!ends) {
    ends = new Float64Array(spans.length);
    let latest = -Infinity;
    for (let n = 0; n < spans.length; n++) ends[n] = latest = Math.max(latest, spans[n]!.stopS);
    latestEnds.set(spans, ends);
  }
  return ends;
}

/** The first index in [0, count) for which `isAfter` is true, where it is false before and true from there on. */
export function firstIndex(count: number, isAfter: (index: number) => boolean): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isAfter(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** [first, last) of the sorted spans outside of which none touches [fromS, toS). Inside, a few may not touch it. */
export function visible(spans: Span[], fromS: number, toS: number): [number, number] {
  const ends = endsOf(spans);
  const first = firstIndex(spans.length, (n) => ends[n]! > fromS);
  return [first, Math.max(first, firstIndex(spans.length, (n) => spans[n]!.startS >= toS))];
}

/** The spans of a lane that hold the second `s`. */
export function spansAt(lane: Lane, s: number): Span[] {
  const ends = endsOf(lane.spans);
  const last = firstIndex(lane.spans.length, (n) => lane.spans[n]!.startS > s);
  const found: Span[] = [];
  for (let n = last - 1; n >= 0 && ends[n]! > s; n--) if (lane.spans[n]!.stopS > s) found.push(lane.spans[n]!);
  return found.reverse();
}

/** The starts before and after second `s` in a lane: the step before (once more at its start) and the next one. */
export function neighbours(lane: Lane | undefined, s: number): { before: number; after: number | null } {
  const starts = lane?.spans.filter((span) => span.state !== "rejected").map((span) => span.startS) ?? [];
  const next = firstIndex(starts.length, (n) => starts[n]! > s + 0.1);
  const back = firstIndex(starts.length, (n) => starts[n]! >= s - 0.5);
  return { before: back > 0 ? starts[back - 1]! : 0, after: starts[next] ?? null };
}
