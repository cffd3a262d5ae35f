import { render, screen } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { afterEach, expect, test, vi } from "vitest";

import { nameOf, switchSingleKeys, useKeys } from "./keys";

afterEach(() => switchSingleKeys(true));

const done = vi.fn();

function Room() {
  const keys = ["Space", "K", "ArrowLeft", "PageDown", "[", "Ctrl+Z"];
  useKeys(Object.fromEntries(keys.map((key) => [key, () => done(key)])));
  return (
    <>
      <input aria-label="field" />
      <button type="button">button</button>
      <div data-keys tabIndex={0} aria-label="near" />
      <p tabIndex={0} aria-label="far" />
    </>
  );
}

async function typed(where: string, keys: string): Promise<unknown[]> {
  screen.getByLabelText(where).focus();
  done.mockClear();
  await userEvent.keyboard(keys);
  return done.mock.calls.flat();
}

test("keys work on the page, and not where somebody writes", async () => {
  render(<Room />);
  expect(await typed("far", "k [[{ArrowLeft}{Control>}z{/Control}")).toEqual(["K", "Space", "[", "ArrowLeft", "Ctrl+Z"]);
  expect(await typed("field", "k [[{ArrowLeft}{Control>}z{/Control}")).toEqual([]);
  screen.getByRole("button").focus();
  done.mockClear();
  await userEvent.keyboard(" k");
  expect(done.mock.calls.flat()).toEqual(["K"]);
});

test("keys that scroll a page do so but for the video and the timeline", async () => {
  render(<Room />);
  expect(await typed("far", "{PageDown}")).toEqual([]);
  expect(await typed("near", "{PageDown}")).toEqual(["PageDown"]);
});

test("single keys can be switched off and then work near the video only", async () => {
  render(<Room />);
  switchSingleKeys(false);
  expect(await typed("far", "k{Control>}z{/Control}")).toEqual(["Ctrl+Z"]);
  expect(await typed("near", "k")).toEqual(["K"]);
  expect(localStorage.getItem("halsted single keys")).toBe("off");
});

test("with a dialog open the keys are the dialog's", async () => {
  render(
    <>
      <Room />
      <dialog open />
    </>,
  );
  expect(await typed("far", "k")).toEqual([]);
});

test("a sign is its own name on every keyboard", () => {
  const german = new KeyboardEvent("keydown", { key: "[", ctrlKey: true, altKey: true, modifierAltGraph: true });
  expect(nameOf(german)).toBe("[");
  expect(nameOf(new KeyboardEvent("keydown", { key: "?", shiftKey: true }))).toBe("?");
  expect(nameOf(new KeyboardEvent("keydown", { key: "z", metaKey: true, shiftKey: true }))).toBe("Ctrl+Shift+Z");
});
