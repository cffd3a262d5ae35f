import { expect, test, vi } from "vitest";

import { ofWhole, parse, toCase, toCompare, toLibrary, toWhole } from "./router";

const ID = "3f".repeat(16);
const OTHER = "9c".repeat(16);

test.each([
  ["", { view: "home" }],
  ["#", { view: "home" }],
  ["#nonsense", { view: "home" }],
  [toCase(ID), { view: "case", videoId: ID, atS: 0 }],
  [toCase(ID, 75.49), { view: "case", videoId: ID, atS: 75.5 }],
  [`#${ID}@-3`, { view: "case", videoId: ID, atS: 0 }],
  [`#${ID}@x`, { view: "case", videoId: ID, atS: 0 }],
  [toCompare(ID, OTHER), { view: "compare", sides: [ID, OTHER] }],
  [toCompare(ofWhole(ID), OTHER), { view: "compare", sides: [`case=${ID}`, OTHER] }],
  ["#compare=../../x,case=../../y", { view: "compare", sides: [] }],
  [toWhole(ID), { view: "whole", caseId: ID, atS: 0 }],
  [`#case=${ID}@75.5`, { view: "whole", caseId: ID, atS: 75.5 }],
  ["#case=../../x", { view: "home" }],
  ["#setup=a=b", { view: "setup", token: "a=b" }],
  ["#shared=abc", { view: "shared", token: "abc" }],
  ["#refused", { view: "refused" }],
])("%s is an address", (hash, route) => {
  expect(parse(hash)).toEqual(route);
});

test("the library's address keeps what is looked for", () => {
  const found = parse(toLibrary({ q: "knot tying", status: "" }));
  expect(found.view).toBe("library");
  expect(found.view === "library" && [...found.query]).toEqual([["q", "knot tying"]]);
});

test.each([toCompare(ID, OTHER), toWhole(ID), toLibrary({ q: "x" }), toCase(ID, 5)])("the page can be opened at %s, as after a reload", async (hash) => {
  location.hash = hash;
  vi.resetModules();
  const opened = await import("./router");
  expect(opened.route.value).toEqual(parse(hash));
});
