import { render, screen, waitFor } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
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

test("the reading goes on at the beginning after a sign-in, and stays where a language is chosen", async () => {
  const ada = { ...NOBODY, user: "ada", name: "Ada", role: "auditor", tenant: "north", csrf: "t" };
  serve({ "GET session": NOBODY, "POST session": ada });
  render(<App />);
  const key = await screen.findByLabelText("Your key");
  await waitFor(() => expect(document.title).toBe("Sign in · Halsted"));
  expect(document.activeElement).toBe(document.body);
  const language = screen.getByLabelText("Language");
  await userEvent.selectOptions(language, "de");
  language.focus();
  await waitFor(() => expect(document.title).toBe("Anmelden · Halsted"));
  await new Promise((done) => setTimeout(done, 50)); // what would take the focus has taken it by then
  expect(document.activeElement).toBe(language);
  await userEvent.selectOptions(language, "en");
  await userEvent.type(key, "hk_1{Enter}");
  await screen.findByRole("button", { name: "Sign out" });
  await waitFor(() => expect(document.activeElement?.id).toBe("content"));
  await waitFor(() => expect(document.title).toBe("Home · Halsted"));
});
