import { expect, test } from "vitest";

import { boundedEnd } from "./ends";
import { following, moved, SHORTEST_S, showing, sOf, spanOfView, ticks, within, xOf, zoomed } from "./geometry";

const HOUR = 3600;

test("a pixel and its second are one place", () => {
  const view = { fromS: 100, toS: 400 };
  for (const x of [0, 1, 333.3, 899, 900]) expect(xOf(view, 900, sOf(view, 900, x))).toBeCloseTo(x, 9);
  expect(sOf(view, 900, 450)).toBe(250);
});

test("zooming keeps the second under the pointer where it is", () => {
  let view = { fromS: 0, toS: HOUR };
  for (let n = 0; n < 6; n++) {
    const x = xOf(view, 1000, 900);
    view = zoomed(view, 1 / 1.6, 900, HOUR);
    expect(xOf(view, 1000, 900)).toBeCloseTo(x, 6);
  }
});

test("no part is shorter than two seconds, none is outside of the video", () => {
  let view = { fromS: 0, toS: HOUR };
  for (let n = 0; n < 60; n++) view = zoomed(view, 0.5, HOUR, HOUR);
  expect(spanOfView(view)).toBeCloseTo(SHORTEST_S, 9);
  expect(view.toS).toBeCloseTo(HOUR, 6);
  expect(zoomed(view, 1e9, 10, HOUR)).toEqual({ fromS: 0, toS: HOUR });
  expect(moved({ fromS: 0, toS: 10 }, -5, HOUR)).toEqual({ fromS: 0, toS: 10 });
  expect(moved({ fromS: 3590, toS: 3600 }, 99, HOUR)).toEqual({ fromS: 3590, toS: 3600 });
  expect(within({ fromS: 0, toS: 10 }, 1)).toEqual({ fromS: 0, toS: 1 });
});

test("the lanes turn a page before playback leaves them", () => {
  const view = { fromS: 100, toS: 200 };
  expect(following(view, 150, HOUR)).toBe(view);
  expect(following(view, 189, HOUR)).toBe(view);
  const next = following(view, 191, HOUR);
  expect(next).toEqual({ fromS: 181, toS: 281 });
  expect(following({ fromS: 3500, toS: 3600 }, 3599, HOUR)).toEqual({ fromS: 3500, toS: 3600 });
  expect(following(view, 20, HOUR)).toEqual({ fromS: 10, toS: 110 });
});

test("a selected span is brought into view, as a whole", () => {
  const view = { fromS: 0, toS: 60 };
  expect(showing(view, 10, 20, HOUR)).toBe(view);
  const far = showing(view, 1000, 1010, HOUR);
  expect(far.fromS).toBeLessThan(1000);
  expect(far.toS).toBeGreaterThan(1010);
  const long = showing(view, 1000, 2000, HOUR);
  expect([long.fromS, long.toS]).toEqual([900, 2100]);
});

test.each([
  [{ fromS: 0, toS: HOUR }, 300],
  [{ fromS: 0, toS: 60 }, 5],
  [{ fromS: 10.3, toS: 12.3 }, 0.2],
  [{ fromS: 0, toS: 3 * HOUR }, 900],
])("times above %o are round ones and have room", (view, stepS) => {
  const found = ticks(view, 900, 60);
  expect(found.stepS).toBe(stepS);
  expect(found.at.every((s) => s >= view.fromS - 1e-6 && s <= view.toS)).toBe(true);
  for (let n = 1; n < found.at.length; n++)
    expect(xOf(view, 900, found.at[n]!) - xOf(view, 900, found.at[n - 1]!)).toBeGreaterThanOrEqual(59.9);
});

test("an end stays within the video and a frame from the other end", () => {
  const span = { id: "1", tag: "step", category: "Suturing", startS: 10, stopS: 20, confidence: 1, source: "ai" as const };
  expect(boundedEnd(span, "start", -3, 100, 0.04)).toBe(0);
  expect(boundedEnd(span, "start", 25, 100, 0.04)).toBe(19.96);
  expect(boundedEnd(span, "stop", 5, 100, 0.04)).toBe(10.04);
  expect(boundedEnd(span, "stop", 500, 100, 0.04)).toBe(100);
  expect(boundedEnd(span, "stop", 15.12345, 100, 0.04)).toBe(15.123);
});
