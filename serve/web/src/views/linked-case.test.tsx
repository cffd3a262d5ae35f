import { render, screen, waitFor } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { App } from "../app";
import { replace } from "../router";
import { ID, VIDEO } from "../testing/case";
import { type Answer, refused, serve } from "../testing/service";
import { at, loaded, stubBrowser } from "../testing/video";

const ROWS = [{ tag: "step", category: "Suturing", start_s: 60, end_s: 150, confidence: 0.9, source: "ai" }];
const TAGS = [{ tag: "step", categories: ["Suturing", "Access"] }, { tag: "phase", categories: ["Driving"] }, { tag: "action", categories: ["Grasp"] }];
const clip = (from: number, to: number) => `v1/videos/${ID}/clip?start_s=${from}&stop_s=${to}`;
const bytes = () => new Response("moving pictures");

beforeEach(() => {
  stubBrowser();
  let made = 0;
  vi.stubGlobal("URL", Object.assign(URL, { createObjectURL: () => `blob:${++made}`, revokeObjectURL: vi.fn() }));
});
afterEach(() => vi.restoreAllMocks());

function open(link: { shows: string[]; from_s?: number; to_s?: number }, more: Record<string, Answer> = {}) {
  const rights = ["see", ...link.shows.map((one) => (one === "video" ? "watch" : one))];
  const asked = serve({
    "GET session": { user: null, name: null, role: "link", tenant: "north", csrf: "t", sign_on: false, link: { video_id: ID, from_s: null, to_s: null, expires_s: 1_900_000_000, tags: TAGS, ...link } },
    [`GET v1/videos/${ID}`]: { ...VIDEO, rights, relations: ["link"] },
    [`GET v1/videos/${ID}/timeline`]: link.shows.includes("timeline") ? { video_id: ID, rows: ROWS } : refused(403, ""),
    ...more,
  });
  replace(`#${ID}@${link.from_s ?? 0}`);
  dispatchEvent(new Event("hashchange"));
  render(<App />);
  return asked;
}

const picture = () => screen.findByLabelText<HTMLVideoElement>("Video");

test("a link to a part plays that part, one cut piece after the other", async () => {
  const asked = open(
    { shows: ["video", "timeline"], from_s: 60, to_s: 150 },
    { [`GET ${clip(60, 120)}`]: bytes, [`GET ${clip(120, 150)}`]: bytes },
  );
  const first = await picture();
  expect(first.getAttribute("src")).toBe("blob:1");
  expect(screen.queryByRole("button", { name: "Make a copy that plays here" })).toBeNull();
  await waitFor(() => {
    loaded(first); // the player listens once its effect has run
    expect(screen.getByRole<HTMLButtonElement>("button", { name: "Play" }).disabled).toBe(false);
  });
  expect(await screen.findByText("1:00 of 1:02:33")).toBeTruthy();
  at(first, 12);
  expect(await screen.findByText("1:12 of 1:02:33")).toBeTruthy();
  await waitFor(() => expect(asked.map((one) => one.path)).toContain(clip(120, 150)));
  first.dispatchEvent(new Event("ended"));
  await waitFor(async () => expect((await picture()).getAttribute("src")).toBe("blob:2"));
  expect(await screen.findByText("2:00 of 1:02:33")).toBeTruthy();
  expect(asked.map((one) => one.path)).not.toContain(`v1/videos/${ID}/content`);
});

test("a part that cannot be cut now says so, and is asked for again", async () => {
  let isBusy = true;
  open(
    { shows: ["video"], from_s: 60, to_s: 90 },
    { [`GET ${clip(60, 90)}`]: () => (isBusy ? refused(429, "") : bytes()) },
  );
  await screen.findByText(/The service has much to do/);
  isBusy = false;
  await picture();
});

test("a link that shows the map alone shows the map", async () => {
  open({ shows: ["timeline"] });
  expect(await screen.findByRole("slider", { name: "Position in the video" })).toBeTruthy();
  expect(screen.getByText("You may read the map of this case, and not see its video.")).toBeTruthy();
});

test("a link that shows the video alone says nothing of a map", async () => {
  open({ shows: ["video"] });
  expect((await picture()).getAttribute("src")).toBe(`v1/videos/${ID}/content`);
  expect(screen.queryByText(/not mapped yet/)).toBeNull();
});

test("the timeline of a link to a part shows that part alone, and says its place in the whole", async () => {
  open({ shows: ["timeline"], from_s: 60, to_s: 150 });
  const slider = await screen.findByRole("slider", { name: "Position in the video" });
  expect([slider.getAttribute("aria-valuemin"), slider.getAttribute("aria-valuemax")]).toEqual(["60", "150"]);
  expect(screen.getByText("You see a part of this case: 1:00 to 2:30 of 1:02:33.")).toBeTruthy();
  expect(screen.getByText("Shown: 1:00 to 2:30")).toBeTruthy();
  const part = screen.getByRole("slider", { name: "Part that the lanes show" });
  expect([part.style.left, part.style.width]).toEqual(["0%", "100%"]);
});

test("playback and keys stay within the part of a link", async () => {
  open({ shows: ["timeline"], from_s: 60, to_s: 150 });
  const slider = await screen.findByRole("slider", { name: "Position in the video" });
  slider.focus();
  await userEvent.keyboard("{End}");
  await waitFor(() => expect(slider.getAttribute("aria-valuenow")).toBe("150"));
  await userEvent.keyboard("{Home}");
  await waitFor(() => expect(slider.getAttribute("aria-valuenow")).toBe("60"));
});

test("the lanes and categories of a link stand in the taxonomy's order, as in the own case", async () => {
  const row = (tag: string, category: string, start_s: number) => ({ tag, category, start_s, end_s: start_s + 5, confidence: 0.9, source: "ai" });
  const rows = [row("action", "Grasp", 0), row("phase", "Driving", 1), row("step", "Access", 2), row("step", "Suturing", 8)];
  open({ shows: ["timeline"] }, { [`GET v1/videos/${ID}/timeline`]: { video_id: ID, rows } });
  await screen.findByRole("slider", { name: "Position in the video" });
  const names = [...document.querySelectorAll(".legend dt")].map((one) => one.textContent);
  expect(names).toEqual(["Step", "Phase of a stitch", "Action"]);
  expect(document.querySelector(".legend dd")!.textContent).toMatch(/Suturing.*Access/);
});
