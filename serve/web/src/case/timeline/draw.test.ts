import { expect, test } from "vitest";

import { categoriesShown } from "../legend";
import type { Lane, Span } from "../interfaces";
import { CATEGORY_COLOURS, FULLEST, PALEST, shade, token } from "./colours";
import { AXIS_H, eachVisible, LANE_H, spanUnder } from "./draw";
import tokens from "../../style/tokens.css?raw";

const span = (startS: number, stopS: number, more: Partial<Span> = {}): Span => ({ id: `${startS}`, tag: "step", category: "b", startS, stopS, confidence: 1, source: "ai", ...more });
const lane = (spans: Span[], more: Partial<Lane> = {}): Lane => ({ tag: "step", categories: ["a", "b", "c"], ordered: false, spans, ...more });

test("however long a lane is, no more is drawn than there are pixels", () => {
  const long = lane(Array.from({ length: 10_000 }, (_, n) => span(n, n + 1)));
  let drawn = 0;
  expect(eachVisible(long, { fromS: 0, toS: 10_000 }, 800, 1, () => drawn++)).toBe(drawn);
  expect(drawn).toBeLessThanOrEqual(801);
  expect(drawn).toBeGreaterThan(700);
});

test("a short span within a long one is drawn, too", () => {
  const seen: number[] = [];
  eachVisible(lane([span(0, 100), span(40, 42)]), { fromS: 0, toS: 100 }, 500, 1, (one) => seen.push(one.startS));
  expect(seen).toEqual([0, 40]);
});

test("what lies outside of the view is not drawn", () => {
  const seen: number[] = [];
  eachVisible(lane(Array.from({ length: 100 }, (_, n) => span(n, n + 1))), { fromS: 10, toS: 15 }, 1000, 1, (one) => seen.push(one.startS));
  expect(seen).toEqual([10, 11, 12, 13, 14]);
});

test("the shortest span under the pointer is taken, in the lane under it", () => {
  const [wide, short] = [span(0, 100), span(40, 42)];
  const lanes = [lane([span(0, 100, { tag: "procedure" })], { tag: "procedure" }), lane([wide, short])];
  expect(spanUnder(lanes, AXIS_H + LANE_H + 5, 41, 0)).toBe(short);
  expect(spanUnder(lanes, AXIS_H + LANE_H + 5, 60, 0)).toBe(wide);
  expect(spanUnder(lanes, AXIS_H + 5, 41, 0)?.tag).toBe("procedure");
  expect(spanUnder(lanes, AXIS_H + 5 * LANE_H, 41, 0)).toBe(null);
});

test("a colour is a category of its lane; proficiency goes from the pale end of its scale to the dark one", () => {
  expect(["a", "b", "c"].map((one) => token(lane([]), one))).toEqual(["--c0", "--c1", "--c2"]);
  const many = { categories: Array.from({ length: 12 }, (_, n) => String(n)), ordered: false };
  expect(token(many, "11")).toBe(`--c${11 % CATEGORY_COLOURS}`);
  const scale = { categories: ["Low", "High"], ordered: true };
  expect(["Low", "High"].map((one) => token(scale, one))).toEqual(["--o0", "--o2"]);
  expect(["Low", "Middle", "High"].map((one) => token({ ...scale, categories: ["Low", "Middle", "High"] }, one))).toEqual(["--o0", "--o1", "--o2"]);
});

test("the surer the fuller, and what a person said is full", () => {
  expect(shade(span(0, 1, { confidence: 0.2 }))).toBeLessThan(shade(span(0, 1, { confidence: 0.9 })));
  expect(shade(span(0, 1, { confidence: 0 }))).toBe(PALEST);
  expect(shade(span(0, 1, { confidence: 0.2, state: "accepted" }))).toBeCloseTo(FULLEST, 9);
});

test("the legend shows what occurs, and the whole of a scale", () => {
  expect(categoriesShown(lane([span(0, 1)]))).toEqual(["b"]);
  expect(categoriesShown(lane([span(0, 1)], { ordered: true }))).toEqual(["a", "b", "c"]);
});

type Rgb = [number, number, number];

function colour(name: string, dark: boolean): Rgb {
  const value = tokens.match(new RegExp(`${name}: (?:light-dark\\((#\\w{6}), (#\\w{6})\\)|(#\\w{6}))`))!;
  const hex = (value[3] ?? (dark ? value[2] : value[1]))!;
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)) as Rgb;
}

function luminance(rgb: Rgb): number {
  const [r, g, b] = rgb.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4)) as Rgb;
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

const contrast = (one: Rgb, other: Rgb): number => {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number];
  return (high + 0.05) / (low + 0.05);
};

test.each([false, true])("text on the fullest fill of every colour has a contrast of 4.5 (dark: %s)", (dark) => {
  const [ink, card] = [colour("--ink", dark), colour("--card", dark)];
  for (const name of [...Array.from({ length: CATEGORY_COLOURS }, (_, n) => `--c${n}`), "--o0", "--o1", "--o2"]) {
    const full = colour(name, dark);
    const fill = full.map((part, n) => part * FULLEST + card[n]! * (1 - FULLEST)) as Rgb;
    expect(contrast(ink, fill), name).toBeGreaterThanOrEqual(4.5);
  }
});
