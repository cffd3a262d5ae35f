import { render, screen } from "@testing-library/preact";
import { expect, test } from "vitest";

import { App } from "./app";
import { refused, serve } from "./testing/service";

const NOBODY = { user: null, name: null, role: null, tenant: null, csrf: null, sign_on: false };

test("a service that is away when the page is opened is asked again without a click", async () => {
  let isAway = true;
  serve({ "GET session": () => (isAway ? refused(503, "") : NOBODY) });
  render(<App />);
  await screen.findByRole("alert");
  isAway = false;
  expect(await screen.findByLabelText("Your key")).toBeTruthy();
});

test.each([
  ["auditor", "Your role sees no case."],
  ["monitor", "Your role sees no case."],
])("a %s is told that there is no case to see, and gets no menu", async (role, text) => {
  serve({ "GET session": { ...NOBODY, user: "olga", name: "Olga", role, tenant: "north", csrf: "t" } });
  render(<App />);
  expect(await screen.findByRole("heading", { name: text })).toBeTruthy();
  expect(screen.queryByRole("navigation")).toBeNull();
});
