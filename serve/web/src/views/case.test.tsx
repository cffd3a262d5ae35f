import { fireEvent, render, screen, waitFor, within } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { qualityShown } from "../case/quality";
import { go, replace, route, toCase } from "../router";
import { type Answer, refused, serve } from "../testing/service";
import { at, loaded, stubBrowser } from "../testing/video";
import { CaseView } from "./case";

const [ID, OTHER] = ["aa".repeat(8), "bb".repeat(8)];
const MODELS = {
  models: [
    {
      version: "v1",
      instructions: {
        "map procedure type": { specialty: ["Urology"], procedure: ["Prostatectomy"], step: ["Suturing", "Dissection"] },
        "map suturing activity": { phase: ["Driving", "Withdrawal"], proficiency: ["Low", "High"] },
      },
    },
  ],
};
const ROWS = [
  ["procedure", "Prostatectomy", 0, 120],
  ["step", "Suturing", 0, 60],
  ["step", "Dissection", 60, 110],
  ["phase", "Driving", 10, 20],
  ["proficiency", "High", 10, 20],
  ["gap", "no frame decodes", 110, 120],
].map(([tag, category, start_s, end_s]) => ({ tag, category, start_s, end_s, confidence: 0.9, source: tag === "gap" ? "gap" : "ai" }));
const DONE = { job_id: "j1", kind: "map", state: "done", done_s: 120, total_s: 120, eta_s: 0 };

const video = (more: object = {}) => ({
  video_id: ID, duration_s: 120, fps: 25, width: 640, height: 360, size_bytes: 1e6, codec: "h264", created_s: 1.7e9, relations: ["owner"], legal_hold: false, state: "ready", consent: "given", job: DONE, rights: ["see", "watch", "timeline", "map"], ...more,
});

function answers(more: Record<string, Answer> = {}, id = ID): Record<string, Answer> {
  return {
    "GET v1/models": MODELS,
    [`GET v1/videos/${id}`]: video({ video_id: id }),
    [`GET v1/videos/${id}/maps`]: [DONE],
    [`GET v1/videos/${id}/timeline`]: { video_id: id, rows: ROWS },
    [`GET v1/videos/${id}/stitches`]: { stitches: [{ index: 1, start_s: 8, stop_s: 25, target: "Bladder", direction: null, extent: null }] },
    [`GET v1/videos/${id}/annotations`]: { revision: 0, spans: [], conflicts: [], history_count: 0 },
    [`GET v1/videos/${id}/comments`]: { comments: [] },
    ...more,
  };
}

function open(atS = 0, id = ID) {
  replace(toCase(id, atS)); // without the event of the address, which jsdom would send later
  route.value = { view: "case", videoId: id, atS };
  return render(<CaseView key={id} videoId={id} atS={atS} />);
}

const position = () => screen.findByRole("slider", { name: "Position in the video" });
const picture = () => screen.getByLabelText<HTMLVideoElement>("Video");
const panel = () => within(screen.getByRole("tabpanel"));
const now = () => within(screen.getByRole("region", { name: "Now" }));

beforeEach(() => {
  stubBrowser();
  qualityShown.value = false;
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

test("beside the picture stands what happens now, and proficiency only when asked for", async () => {
  serve(answers());
  open(12);
  await position();
  loaded(picture());
  expect(picture().currentTime).toBe(12);
  for (const text of ["Suturing", "Driving", "1 of 1", "Target: Bladder"]) expect(await now().findByText(text)).toBeTruthy();
  expect(now().queryByText("High")).toBe(null);
  await userEvent.click(now().getByRole("button", { name: "Show proficiency" }));
  expect(now().getByText("High")).toBeTruthy();
  at(picture(), 70);
  await waitFor(() => expect(now().getByText("Dissection")).toBeTruthy());
  expect(now().queryByText("Suturing")).toBe(null);
});

test("the position says the time and what happens, and the keys move it", async () => {
  serve(answers());
  open();
  const slider = await position();
  slider.focus();
  expect(slider.getAttribute("aria-valuetext")).toBe("0:00, Prostatectomy, Suturing");
  const places: [string, string][] = [
    ["{PageDown}", "1:00"], ["{ArrowRight}", "1:05"], ["{PageUp}", "1:00"], ["{PageUp}", "0:00"], ["{End}", "2:00"], ["{Home}", "0:00"], ["{ArrowRight}{ArrowRight}j", "0:00"],
  ];
  for (const [keys, time] of places) {
    await userEvent.keyboard(keys);
    await waitFor(() => expect(slider.getAttribute("aria-valuetext")).toMatch(new RegExp(`^${time}`)));
  }
});

test("the address follows where the user goes", async () => {
  serve(answers());
  open();
  (await position()).focus();
  await userEvent.keyboard("{ArrowRight}");
  await waitFor(() => expect(location.hash).toBe(`#${ID}@5`));
});

test("Enter takes what happens now, R repeats it, Escape lets it go", async () => {
  serve(answers());
  open(12);
  (await position()).focus();
  await userEvent.keyboard("{Enter}");
  expect(await screen.findByText("Selected: Driving, 0:10.0 to 0:20.0")).toBeTruthy();
  await userEvent.keyboard("r");
  expect(screen.getByRole("button", { name: "End repeating", pressed: true })).toBeTruthy();
  await userEvent.keyboard("r{Escape}");
  expect(screen.getByRole("button", { name: "Repeat", pressed: false })).toBeTruthy();
  expect(screen.queryByText(/^Selected/)).toBe(null);
});

test("a click goes to where it was made, a drag marks a stretch", async () => {
  serve(answers());
  open();
  const canvas = (await position()).querySelector("canvas")!;
  canvas.setPointerCapture = () => {};
  const pointer = (kind: string, x: number) => fireEvent(canvas, new MouseEvent(kind, { clientX: x, bubbles: true, button: 0 }));
  pointer("pointerdown", 500);
  pointer("pointerup", 500);
  await waitFor(() => expect(location.hash).toBe(`#${ID}@60`));
  pointer("pointerdown", 100);
  pointer("pointermove", 250);
  pointer("pointerup", 250);
  expect(await screen.findByText("Marked: 0:12.0 to 0:30.0")).toBeTruthy();
  expect(location.hash).toBe(`#${ID}@60`);
});

test("every span is in a table with a filter and a search, and each can be gone to and selected", async () => {
  serve(answers());
  open();
  await position();
  await userEvent.click(screen.getByRole("tab", { name: "All spans" }));
  const rows = () => panel().getAllByRole("row").slice(1).map((row) => row.textContent);
  expect(rows().map((text) => /Suturing|Dissection/.exec(text!)?.[0])).toEqual(["Suturing", "Dissection"]);
  await userEvent.selectOptions(panel().getByLabelText("Lane"), "All lanes");
  expect(rows().length).toBe(5);
  expect(panel().queryByText("High")).toBe(null);
  await userEvent.type(panel().getByRole("searchbox", { name: "Search" }), "no frame");
  expect(rows()).toEqual([expect.stringContaining("Not mapped: no frame decodes")]);
  await userEvent.clear(panel().getByRole("searchbox", { name: "Search" }));
  await userEvent.click(screen.getByRole("button", { name: "Select Dissection at 1:00.0" }));
  expect(screen.getByText("Selected: Dissection, 1:00.0 to 1:50.0")).toBeTruthy();
  await userEvent.click(screen.getByRole("button", { name: "Go to 1:50.0" }));
  await waitFor(() => expect(location.hash).toBe(`#${ID}@110`));
});

test("ten thousand spans come page by page", async () => {
  const many = Array.from({ length: 10_000 }, (_, n) => ({ tag: "step", category: n % 2 ? "Suturing" : "Dissection", start_s: n / 100, end_s: (n + 1) / 100, confidence: 0.5, source: "ai" }));
  serve(answers({ [`GET v1/videos/${ID}/timeline`]: { video_id: ID, rows: many } }));
  open();
  await position();
  await userEvent.click(screen.getByRole("tab", { name: "All spans" }));
  expect(screen.getByText("1 to 50 of 10000")).toBeTruthy();
  await userEvent.click(screen.getByRole("button", { name: "Later" }));
  expect(screen.getByText("51 to 100 of 10000")).toBeTruthy();
  expect(panel().getAllByRole("row").length).toBe(51);
});

test("a file that the browser can't play has its timeline, and a copy is made when asked for", async () => {
  let playback = "none";
  const asked = serve(answers({
    [`GET v1/videos/${ID}`]: () => video({ playback }),
    [`POST v1/videos/${ID}/proxy`]: () => ((playback = "making"), DONE),
  }));
  open();
  await position();
  expect(screen.getByText(/can't play the file\. The timeline works/)).toBeTruthy();
  await userEvent.click(screen.getByRole("button", { name: "Make a copy that plays here" }));
  expect(await screen.findByText(/A copy that it can play is being made/)).toBeTruthy();
  expect(asked.filter((one) => one.path.includes("content"))).toEqual([]);
});

test("a picture that the service does not give now comes by itself, and nobody is told that the browser can't play it", async () => {
  let content = refused(503, "");
  serve(answers({ [`GET v1/videos/${ID}/content`]: () => content }));
  const fail = () => {
    Object.defineProperty(picture(), "error", { value: { code: 4 }, configurable: true });
    picture().dispatchEvent(new Event("error"));
  };
  open();
  await position();
  fail();
  expect(await screen.findByText(/much to do/)).toBeTruthy();
  expect(screen.queryByText(/can't play/)).toBe(null);
  await waitFor(() => expect(picture().isConnected).toBe(true));
  content = new Response("x", { status: 206 });
  fail();
  expect(await screen.findByText(/can't play the file/)).toBeTruthy();
});

test("a copy that plays is played", async () => {
  serve(answers({ [`GET v1/videos/${ID}`]: video({ playback: "proxy" }) }));
  open();
  await position();
  expect(picture().getAttribute("src")).toBe(`v1/videos/${ID}/content?copy=proxy`);
});

test.each([
  [{ job: { ...DONE, state: "queued", done_s: 0 } }, /waits for its turn/],
  [{ job: { ...DONE, state: "running", done_s: 30, eta_s: 125 } }, /25% of the video is done, about 2 minutes to go/],
  [{ job: null }, /what happens when is here after a map/],
])("a case without a map says how it stands, and the video is there (%#)", async (more, text) => {
  serve(answers({ [`GET v1/videos/${ID}`]: video(more), [`GET v1/videos/${ID}/maps`]: [] }));
  open();
  expect(await screen.findByText(text)).toBeTruthy();
  expect(picture()).toBeTruthy();
});

test("the map appears by itself when it is done", async () => {
  vi.useFakeTimers({ shouldAdvanceTime: true });
  let job: object = { ...DONE, state: "running", done_s: 30 };
  const asked = serve(answers({ [`GET v1/videos/${ID}`]: () => video({ job }), [`GET v1/videos/${ID}/maps`]: () => [job] }));
  open();
  await screen.findByText(/is being mapped/);
  await waitFor(() => expect(asked.some((one) => one.path.endsWith("/maps"))).toBe(true));
  await vi.advanceTimersByTimeAsync(100);
  job = DONE;
  await vi.advanceTimersByTimeAsync(2500);
  expect(await position()).toBeTruthy();
  vi.useRealTimers();
});

test.each([
  [{ state: "cleaning", job: null }, /The video is being cleaned/],
  [{ state: "failed", job: null }, /Below it says why/],
  [{ rights: ["see"] }, /may see that this case is there/],
])("a case that can't be watched says why, and nothing is asked of its video (%#)", async (more, text) => {
  const asked = serve(answers({ [`GET v1/videos/${ID}`]: video(more) }));
  open();
  expect(await screen.findByText(text)).toBeTruthy();
  expect(asked.some((one) => one.path.endsWith("/timeline"))).toBe(false);
  expect(document.querySelector("video")).toBe(null);
});

test("a case that is gone says so, and is not asked for again and again", async () => {
  vi.useFakeTimers({ shouldAdvanceTime: true });
  let isThere = true;
  const asked = serve(answers({ [`GET v1/videos/${ID}`]: () => (isThere ? video() : refused(404, "no video")) }));
  open();
  await position();
  isThere = false;
  await vi.advanceTimersByTimeAsync(21_000);
  expect((await screen.findByRole("alert")).textContent).toMatch(/^This case is not there/);
  expect(document.querySelector("video")).toBe(null);
  const count = asked.length;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked.length).toBe(count);
  vi.useRealTimers();
});

test("an answer for the case before is never shown under this one", async () => {
  let answer: (found: unknown) => void = () => {};
  serve({
    ...answers({ [`GET v1/videos/${ID}/timeline`]: () => new Promise((done) => (answer = done)) }),
    ...answers({ [`GET v1/videos/${OTHER}/timeline`]: { video_id: OTHER, rows: [] } }, OTHER),
  });
  const { rerender } = open();
  await waitFor(() => expect(picture()).toBeTruthy());
  rerender(<CaseView key={OTHER} videoId={OTHER} atS={0} />);
  answer({ video_id: ID, rows: ROWS });
  const slider = await position();
  expect(screen.getByRole("heading", { level: 1 }).textContent).toBe("Case bbbbbb");
  expect(slider.getAttribute("aria-valuetext")).toBe("0:00");
});

test("a link to a moment leads there, also when it led there before", async () => {
  serve(answers());
  open(12);
  const slider = await position();
  slider.focus();
  await userEvent.keyboard("{End}");
  await waitFor(() => expect(location.hash).toBe(toCase(ID, 120)));
  go(toCase(ID, 12));
  await waitFor(() => expect(slider.getAttribute("aria-valuetext")).toMatch(/^0:12/));
});

test("moments like the one that is shown are looked for in all cases", async () => {
  serve(answers());
  open(75.5);
  await userEvent.click(await screen.findByRole("button", { name: "More like this moment" }));
  expect(location.hash).toBe(`#library?like=${ID}%4075.5`);
});
