import { render, screen, waitFor } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";

import { App } from "../app";
import { ID, VIDEO } from "../testing/case";
import { refused, serve } from "../testing/service";

const NOBODY = { user: null, name: null, role: null, tenant: null, csrf: null, sign_on: false };
const LINK = { video_id: ID, from_s: 60, to_s: 120, shows: ["video", "timeline"], expires_s: 1_900_000_000, tags: [] };
const open = (hash: string) => {
  location.hash = hash;
  dispatchEvent(new Event("hashchange"));
  render(<App />);
};

test("a link opens its case at its place, for reading, and its secret leaves the address", async () => {
  const asked = serve({
    "GET session": NOBODY,
    "POST session/link": { ...NOBODY, role: "link", csrf: "t", link: LINK },
    [`GET v1/videos/${ID}`]: { ...VIDEO, rights: ["see", "watch", "timeline"] },
  });
  open("#shared=SECRET");
  expect(await screen.findByText(/You look at this case by a link/)).toBeTruthy();
  expect(asked.find((one) => one.method === "POST")?.body).toEqual({ token: "SECRET" });
  await waitFor(() => expect(location.hash).toBe(`#${ID}@60`));
  await waitFor(() => expect(screen.getByRole("region", { name: "About this case" })).toBeTruthy());
  expect(screen.queryByRole("button", { name: /Delete|Start|Stop/ })).toBeNull();
  expect(screen.queryByRole("navigation")).toBeNull();
});

test("the way back leads to no secret", async () => {
  serve({
    "GET session": NOBODY,
    "POST session/link": { ...NOBODY, role: "link", csrf: "t", link: LINK },
    [`GET v1/videos/${ID}`]: VIDEO,
  });
  location.hash = "#shared=SECRET";
  const steps = history.length;
  open("#shared=SECRET");
  await screen.findByText(/You look at this case by a link/);
  await waitFor(() => expect(location.hash).toBe(`#${ID}@60`));
  expect(history.length).toBe(steps);
});

test("who opens a link that has ended stays signed in", async () => {
  serve({
    "GET session": { ...NOBODY, user: "ada", name: "Ada", role: "surgeon", tenant: "north", csrf: "t" },
    "GET v1/models": { models: [] },
    "POST session/link": refused(401, "this link has ended; ask whoever sent it for a new one"),
  });
  open("#shared=OLD");
  await userEvent.click(await screen.findByRole("button", { name: "Open the case" }));
  expect((await screen.findByRole("alert")).textContent).toContain("This link has ended");
  expect(screen.getByRole("button", { name: "Sign out" })).toBeTruthy();
  expect(screen.getByRole("navigation")).toBeTruthy();
});

test("a link that has ended says whom to ask", async () => {
  serve({ "GET session": NOBODY, "POST session/link": refused(401, "this link has ended; ask whoever sent it for a new one") });
  open("#shared=OLD");
  expect((await screen.findByRole("alert")).textContent).toContain("This link has ended; ask whoever sent it for a new one.");
});

test("who is signed in is asked before a link takes the place of the session", async () => {
  const asked = serve({
    "GET session": { ...NOBODY, user: "ada", name: "Ada", role: "surgeon", tenant: "north", csrf: "t" },
    "GET v1/models": { models: [] },
    "POST session/link": { ...NOBODY, role: "link", csrf: "t", link: LINK },
    [`GET v1/videos/${ID}`]: VIDEO,
  });
  open("#shared=SECRET");
  await screen.findByText(/You are signed in as Ada/);
  await new Promise((done) => setTimeout(done, 50)); // what begins by itself has begun by then
  expect(asked.filter((one) => one.method === "POST")).toEqual([]);
  await userEvent.click(screen.getByRole("button", { name: "Open the case" }));
  await screen.findByText(/You look at this case by a link/);
});

test("a link that ends while somebody looks says so", async () => {
  let isOver = false;
  serve({
    "GET session": NOBODY,
    "POST session/link": { ...NOBODY, role: "link", csrf: "t", link: LINK },
    [`GET v1/videos/${ID}`]: () => (isOver ? refused(401, "sign in") : VIDEO),
  });
  open("#shared=SECRET");
  await screen.findByText(/You look at this case by a link/);
  isOver = true;
  expect(await screen.findByText(/This link shows no case any more/)).toBeTruthy();
});
