import fc from "fast-check";
import { expect, test } from "vitest";

import { clockHundredths, parseTime } from "./times";

test.each([
  ["1:02:33.4", 3753.4],
  ["62:33", 3753],
  ["2:33,25", 153.25],
  [" 33.4 ", 33.4],
  ["150", 150],
  ["0:05.", 5],
  ["1:60", null],
  ["1:75:00", null],
  ["", null],
  ["ten", null],
  ["-3", null],
  ["1:2:3:4", null],
])("%s is %s seconds", (text, seconds) => {
  expect(parseTime(text)).toBe(seconds);
});

test("a time that is shown can be written back", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4 * 360_000 }), (hundredths) => {
      expect(parseTime(clockHundredths(hundredths / 100))).toBeCloseTo(hundredths / 100, 6);
    }),
  );
});
