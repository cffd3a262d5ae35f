/** How often each category of a lane was there, and for how long. */
import type { Lane, Span } from "./interfaces";

export interface Spent {
  seconds: number;
  times: number;
}

/** Whether a span says that something happened: not what a person has rejected, a gap, or what is unknown. */
export const counted = (span: Span): boolean => span.state !== "rejected" && span.source !== "gap" && span.source !== "unknown";

/** Time per category of a lane: overlapping spans of one category count once. */
export function spent(lane: Lane | undefined): Map<string, Spent> {
  const found = new Map<string, Spent>();
  const until = new Map<string, number>();
  for (const span of lane?.spans ?? []) {
    if (!counted(span)) continue;
    const before = found.get(span.category) ?? { seconds: 0, times: 0 };
    const from = Math.max(span.startS, until.get(span.category) ?? -Infinity);
    until.set(span.category, Math.max(span.stopS, from));
    found.set(span.category, { seconds: before.seconds + Math.max(0, span.stopS - from), times: before.times + 1 });
  }
  return found;
}

/** The same in rows, in the order of the lane's categories. */
export function stepRows(lane: Lane | undefined): (Spent & { category: string })[] {
  const times = spent(lane);
  const categories = [...new Set([...(lane?.categories ?? []), ...times.keys()])];
  return categories.flatMap((category) => (times.has(category) ? [{ category, ...times.get(category)! }] : []));
}
