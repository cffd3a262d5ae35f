import { expect, test } from "vitest";

import type { CaseFile } from "../api/cases";
import type { Row } from "../api/types";
import { bordersOf, gapOf, joined, lanesOfFile, overBorders, placed, whyNone } from "./joined";

const KNOWN = [
  { tag: "procedure", categories: ["Prostatectomy", "Hysterectomy"], ordered: false },
  { tag: "step", categories: ["Suturing", "Dissection"], ordered: false },
];
const file = (number: number, offset_s: number, duration_s: number, more: Partial<CaseFile> = {}): CaseFile => ({
  video_id: `${number}`.repeat(16), number, offset_s, duration_s, state: "mapped", after_hidden: false, ...more,
});
const row = (tag: string, category: string, start_s: number, end_s: number): Row => ({ tag, category, start_s, end_s, confidence: 0.9, source: "ai" });
const TWO = [
  lanesOfFile([row("procedure", "Prostatectomy", 0, 30), row("step", "Suturing", 10, 30)], 0, KNOWN),
  lanesOfFile([row("procedure", "Hysterectomy", 0, 20), row("step", "Suturing", 0, 5), row("step", "Dissection", 5, 20)], 30, KNOWN),
];
const spans = (lanes: ReturnType<typeof joined>, tag: string) => lanes.find((lane) => lane.tag === tag)?.spans.map((span) => [span.category, span.startS, span.stopS]);

test("lanes of files stand one behind the other, and what holds for the operation is said once", () => {
  const lanes = joined(TWO, [row("procedure", "Prostatectomy", 0, 50)], []);
  expect(spans(lanes, "step")).toEqual([["Suturing", 10, 30], ["Suturing", 30, 35], ["Dissection", 35, 50]]);
  expect(spans(lanes, "procedure")).toEqual([["Prostatectomy", 0, 50]]);
});

test("a person's word of one file about the operation stands before the model's", () => {
  const said = TWO.map((lanes, n) => lanes.map((lane) => (n && lane.tag === "procedure" ? { ...lane, spans: lane.spans.map((span) => ({ ...span, state: "accepted" as const })) } : lane)));
  expect(spans(joined(said, [row("procedure", "Prostatectomy", 0, 50)], []), "procedure")).toEqual([["Hysterectomy", 0, 50]]);
});

test("a step that a recorder has cut is counted once, but not over files that are hidden", () => {
  const lanes = joined(TWO, [], []);
  const open = bordersOf([file(1, 0, 30), file(2, 30, 20)], false);
  expect(spans(overBorders(lanes, open), "step")).toEqual([["Suturing", 10, 35], ["Dissection", 35, 50]]);
  const hidden = bordersOf([file(1, 0, 30), file(2, 30, 20, { after_hidden: true })], false);
  expect(spans(overBorders(lanes, hidden), "step")?.length).toBe(3);
});

test("a file without a map is a stretch that says why", () => {
  const cleaning = file(2, 30, 20, { state: "cleaning" });
  const why = whyNone(cleaning, true, 3);
  expect(why).toBe("file 2 of 3 is being cleaned");
  expect(spans(joined(TWO.slice(0, 1), [], [gapOf(cleaning, why)]), "gap")).toEqual([[why, 30, 50]]);
});

test("where files meet nothing is invented, and where files are hidden it is said", () => {
  const borders = bordersOf([file(1, 0, 30), file(2, 30, 20, { after_hidden: true })], true);
  expect(borders.map((one) => [one.s, one.isHidden])).toEqual([[30, true], [50, true]]);
  expect(bordersOf([file(1, 0, 30), file(2, 30, 20)], false)[0]!.label).toMatch(/How much time lies between the files is not known/);
});

test("files begin at whole milliseconds, as people's words are kept", () => {
  expect(placed([file(2, 30.0005000001, 20)])[0]!.offset_s).toBe(30.001);
});
