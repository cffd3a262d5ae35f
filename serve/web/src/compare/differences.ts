/** What differs between two maps: how often each category of a lane was there and for how long, and takes of a step. */
import type { Lane, Span } from "../case/interfaces";
import { type Spent, counted, spent } from "../case/step-times";

export interface Difference {
  category: string;
  one: Spent;
  other: Spent;
  /** Seconds that the other took more than the one. */
  moreS: number;
}

/** A row per category that either has, in the order of the lane's categories. */
export function differences(one: Lane | undefined, other: Lane | undefined): Difference[] {
  const [ofOne, ofOther] = [spent(one), spent(other)];
  const order = [...(one?.categories ?? []), ...(other?.categories ?? [])];
  const categories = [...new Set([...order, ...ofOne.keys(), ...ofOther.keys()])];
  const none: Spent = { seconds: 0, times: 0 };
  return categories
    .filter((category) => ofOne.has(category) || ofOther.has(category))
    .map((category) => {
      const [a, b] = [ofOne.get(category) ?? none, ofOther.get(category) ?? none];
      return { category, one: a, other: b, moreS: b.seconds - a.seconds };
    });
}

/** The takes of a category: each time that it begins. */
export const takes = (lane: Lane | undefined, category: string): Span[] =>
  lane?.spans.filter((span) => span.category === category && counted(span)) ?? [];

/** The categories at which two cases can be aligned: both have them. */
export const shared = (one: Lane | undefined, other: Lane | undefined): string[] =>
  differences(one, other).flatMap((row) => (row.one.times && row.other.times ? [row.category] : []));
