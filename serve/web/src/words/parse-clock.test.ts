import { expect, test } from "vitest";

import { clockTenths } from ".";
import { parseClock } from "./parse-clock";

test.each([
  ["1:02:33", 3753],
  ["2:33", 153],
  ["90:00", null],
  ["99:59", null],
  ["59:59.5", 3599.5],
  ["0:03,3", 3.3],
  [" 75 ", 75],
  ["1:75", null],
  ["1:60:00", null],
  ["", null],
  ["-1", null],
  ["soon", null],
])("%s is read as %s", (text, seconds) => {
  expect(parseClock(text)).toBe(seconds);
});

test("what is written is read again", () => {
  for (const seconds of [0, 59.9, 60, 3599.9, 3600, 12345.6]) expect(parseClock(clockTenths(seconds))).toBe(seconds);
});
