import { render, screen, waitFor } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";

import { App } from "../app";
import { refused, serve } from "../testing/service";

const NOBODY = { user: null, name: null, role: null, tenant: null, csrf: null, sign_on: false };

test("a wrong key says so in words, a right key signs in", async () => {
  let right = false;
  const asked = serve({
    "GET session": NOBODY,
    "POST session": () => (right ? { ...NOBODY, user: "eve", name: "Eve", role: "auditor", tenant: "north", csrf: "t" } : refused(401, "this key is not valid; ask the operator of your site for a key")),
  });
  render(<App />);
  await userEvent.type(await screen.findByLabelText("Your key"), "wrong");
  await userEvent.click(screen.getByRole("button", { name: "Sign in" }));
  expect(await screen.findByRole("alert")).toHaveProperty("textContent", expect.stringMatching(/^This key is not valid/));
  right = true;
  await userEvent.click(screen.getByRole("button", { name: "Sign in" }));
  await waitFor(() => expect(screen.getByText("Eve, north")).toBeTruthy());
  expect(asked.filter((one) => one.method === "POST").map((one) => one.body)).toEqual([{ key: "wrong" }, { key: "wrong" }]);
});

test("the hospital's sign-in comes first where the site has one", async () => {
  serve({ "GET session": { ...NOBODY, sign_on: true } });
  render(<App />);
  const link = await screen.findByRole("link", { name: "Sign in with your hospital's account" });
  expect(link.getAttribute("href")).toBe("session/sign-on");
  expect(screen.getByText("Other ways to sign in").tagName).toBe("SUMMARY");
});

test("the field for a key says where a key comes from", async () => {
  serve({ "GET session": NOBODY });
  render(<App />);
  const field = await screen.findByLabelText("Your key");
  expect(document.getElementById(field.getAttribute("aria-describedby")!)!.textContent).toContain("halsted serve key");
});
