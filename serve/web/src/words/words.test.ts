import { expect, test } from "vitest";

import { clock, clockTenths } from ".";
import { de } from "./de";
import { en } from "./en";

type Tree = { [key: string]: unknown };

function leaves(tree: Tree, path = ""): Map<string, unknown> {
  const found = new Map<string, unknown>();
  for (const [key, value] of Object.entries(tree))
    if (value !== null && typeof value === "object") for (const [name, leaf] of leaves(value as Tree, `${path}${key}.`)) found.set(name, leaf);
    else found.set(path + key, value);
  return found;
}

test("German has a word of its own for each English one", () => {
  const [english, german] = [leaves(en), leaves(de)];
  expect([...german.keys()].sort()).toEqual([...english.keys()].sort());
  for (const [key, value] of english) expect(typeof german.get(key), key).toBe(typeof value);
});

test.each([
  [0, "0:00"],
  [9.99, "0:09"],
  [75, "1:15"],
  [600, "10:00"],
  [3753, "1:02:33"],
  [36000, "10:00:00"],
  [-3, "0:00"],
])("%d seconds are %s", (seconds, text) => {
  expect(clock(seconds)).toBe(text);
});

test("tenths carry over", () => {
  expect(clockTenths(59.96)).toBe("1:00.0");
  expect(clockTenths(3.25)).toBe("0:03.3");
});
