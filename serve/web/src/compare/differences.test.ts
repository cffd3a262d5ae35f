import { expect, test } from "vitest";

import type { Lane, Span } from "../case/interfaces";
import { spent } from "../case/step-times";
import { differences, shared, takes } from "./differences";

const span = (category: string, startS: number, stopS: number, more: Partial<Span> = {}): Span => ({
  id: `${category}${startS}`, tag: "step", category, startS, stopS, confidence: 0.9, source: "ai", ...more,
});
const lane = (...spans: Span[]): Lane => ({ tag: "step", categories: ["Access", "Suturing", "Closure"], ordered: false, spans });

test("time per step is summed over its takes, and overlaps count once", () => {
  const found = spent(lane(span("Suturing", 0, 10), span("Suturing", 5, 12), span("Suturing", 20, 21)));
  expect(found.get("Suturing")).toEqual({ seconds: 13, times: 3 });
});

test("what a person rejected, what is not mapped and what is unknown count for nothing", () => {
  const found = spent(lane(span("Suturing", 0, 10, { state: "rejected" }), span("gap", 0, 9, { source: "gap" }), span("unknown", 0, 9, { source: "unknown" })));
  expect(found.size).toBe(0);
});

test("a step that only one case has is a row, in the order of the taxonomy", () => {
  const rows = differences(lane(span("Closure", 0, 4)), lane(span("Closure", 0, 3), span("Access", 5, 9)));
  expect(rows.map((row) => [row.category, row.one.seconds, row.other.seconds, row.moreS])).toEqual([
    ["Access", 0, 4, 4],
    ["Closure", 4, 3, -1],
  ]);
  expect(differences(undefined, undefined)).toEqual([]);
});

test("cases are aligned at steps that both have, at any take", () => {
  const [one, other] = [lane(span("Suturing", 3, 5), span("Suturing", 9, 12)), lane(span("Access", 0, 2), span("Suturing", 2, 4))];
  expect(shared(one, other)).toEqual(["Suturing"]);
  expect(takes(one, "Suturing").map((take) => take.startS)).toEqual([3, 9]);
});
