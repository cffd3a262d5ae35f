import { expect, test } from "vitest";

import type { Row } from "../api/types";
import type { Lane, Span } from "./interfaces";
import { firstIndex, lanesOf, neighbours, spansAt, tagsOf, visible } from "./lanes";

const KNOWN = tagsOf({
  "map procedure type": { specialty: ["Urology"], procedure: ["Prostatectomy"], step: ["Suturing", "Dissection"] },
  "map suturing activity": { phase: ["Driving", "Withdrawal"], proficiency: ["Low", "High"] },
});
const row = (tag: string, category: string, start_s: number, end_s: number, source = "ai"): Row => ({ tag, category, start_s, end_s, confidence: 0.5, source });

function lane(spans: [number, number][]): Lane {
  const made = spans.map(([startS, stopS], n): Span => ({ id: String(n), tag: "step", category: "a", startS, stopS, confidence: 1, source: "ai" }));
  return { tag: "step", categories: ["a"], ordered: false, spans: made.sort((one, other) => one.startS - other.startS) };
}

test("lanes come in the order of the taxonomy; what it does not know comes after, and bands last", () => {
  const rows = [row("gap", "no frame decodes", 5, 6, "gap"), row("knot", "Tie", 0, 1), row("phase", "Driving", 3, 4), row("phase", "Withdrawal", 1, 3), row("unknown", "unknown", 8, 9, "unknown")];
  const lanes = lanesOf(rows, KNOWN);
  expect(lanes.map((one) => one.tag)).toEqual(["specialty", "procedure", "step", "phase", "knot", "gap", "unknown"]);
  expect(lanes[3]!.spans.map((span) => span.startS)).toEqual([1, 3]);
  expect(lanes[5]!.spans[0]).toMatchObject({ source: "gap", confidence: null });
  expect(lanes[6]!.spans[0]).toMatchObject({ source: "unknown", confidence: null });
});

test("proficiency is a scale", () => {
  expect(lanesOf([row("proficiency", "Low", 0, 1)], KNOWN).find((one) => one.tag === "proficiency")?.ordered).toBe(true);
  expect(KNOWN.filter((one) => one.ordered).map((one) => one.tag)).toEqual(["proficiency"]);
});

test("the first index is found for every length and place", () => {
  for (let count = 0; count < 9; count++) for (let first = 0; first <= count; first++) expect(firstIndex(count, (n) => n >= first)).toBe(first);
});

test("what is seen and what holds a second is what a look at every span finds, also where spans overlap", () => {
  let seed = 7;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  for (let round = 0; round < 40; round++) {
    const one = lane(Array.from({ length: 1 + Math.floor(random() * 60) }, () => {
      const from = random() * 100;
      return [from, from + 0.01 + random() * (round % 4 === 0 ? 60 : 3)];
    }));
    const [from, to] = [random() * 90, 90 + random() * 10];
    const [first, last] = visible(one.spans, from, to);
    one.spans.forEach((span, n) => {
      if (span.stopS > from && span.startS < to) expect(n >= first && n < last).toBe(true);
    });
    const s = random() * 100;
    expect(spansAt(one, s)).toEqual(one.spans.filter((span) => span.startS <= s && s < span.stopS));
  }
});

test("of 10,000 neighbours a view of a minute takes a minute's worth", () => {
  const one = lane(Array.from({ length: 10_000 }, (_, n) => [n, n + 1]));
  expect(visible(one.spans, 5000, 5060)).toEqual([5000, 5060]);
});

test("the step before is this one's start, and from there the one before it", () => {
  const one = lane([[0, 10], [10, 20], [20, 30]]);
  expect(neighbours(one, 15)).toEqual({ before: 10, after: 20 });
  expect(neighbours(one, 10)).toEqual({ before: 0, after: 20 });
  expect(neighbours(one, 25)).toEqual({ before: 20, after: null });
  expect(neighbours(undefined, 25)).toEqual({ before: 0, after: null });
});
