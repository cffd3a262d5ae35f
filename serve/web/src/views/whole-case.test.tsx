import { render, screen, waitFor, within } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { qualityShown } from "../case/quality";
import { replace, route } from "../router";
import { session } from "../session";
import { type Answer, serve } from "../testing/service";
import { at, loaded, stubBrowser } from "../testing/video";
import { CaseView, WholeView } from "./case";

const [CASE, ONE, TWO] = ["c1".repeat(8), "aa".repeat(8), "bb".repeat(8)];
const MODELS = { models: [{ version: "v1", instructions: { "map procedure type": { procedure: ["Prostatectomy"], step: ["Suturing", "Dissection"] }, "map suturing activity": { phase: ["Driving"] } } }] };
const DONE = { job_id: "j1", kind: "map", state: "done", done_s: 60, total_s: 60, eta_s: 0 };
const row = (tag: string, category: string, start_s: number, end_s: number) => ({ tag, category, start_s, end_s, confidence: 0.9, source: "ai" });
const ROWS: Record<string, object[]> = {
  [ONE]: [row("step", "Dissection", 0, 40), row("step", "Suturing", 40, 60), row("phase", "Driving", 50, 60)],
  [TWO]: [row("step", "Suturing", 0, 20), row("step", "Dissection", 20, 30)],
};
const video = (id: string, more: object = {}) => ({
  video_id: id, case_id: CASE, duration_s: id === ONE ? 60 : 30, fps: 25, width: 640, height: 360, size_bytes: 1e6, codec: "h264", created_s: 1.7e9, relations: ["owner"],
  legal_hold: false, state: "ready", consent: "given", job: DONE, rights: ["see", "watch", "timeline", "map", "annotate", "comment"], ...more,
});
const file = (id: string, number: number, offset_s: number, duration_s: number, more: object = {}) => ({ video_id: id, number, offset_s, duration_s, state: "mapped", after_hidden: false, ...more });
const found = (more: object = {}) => ({
  case_id: CASE, videos: [ONE, TWO], files: [file(ONE, 1, 0, 60), file(TWO, 2, 60, 30)], ends_hidden: false, title: "", procedure: { suggested: null, chosen: "Whipple", confidence: null },
  rights: ["see", "describe"], status: { state: "mapped" }, ...more,
});

function answers(more: Record<string, Answer> = {}): Record<string, Answer> {
  const ofFiles = [ONE, TWO].flatMap((id) => [
    [`GET v1/videos/${id}`, video(id)],
    [`GET v1/videos/${id}/maps`, [DONE]],
    [`GET v1/videos/${id}/timeline`, { video_id: id, rows: ROWS[id] }],
    [`GET v1/videos/${id}/annotations`, { revision: 0, spans: [], conflicts: [], history_count: 0 }],
    [`GET v1/videos/${id}/comments`, id === TWO ? [{ comment_id: "k1", at_s: 5, text: "see here", author_name: "Ben", mine: false, created_s: 1.7e9 }] : []],
  ]);
  return {
    "GET v1/models": MODELS,
    [`GET v1/cases/${CASE}`]: found(),
    [`GET v1/cases/${CASE}/timeline`]: { case_id: CASE, rows: [] },
    [`GET v1/cases/${CASE}/stitches`]: { stitches: [{ index: 1, start_s: 50, stop_s: 65, target: null, direction: null, extent: null, handling_s: 0, driving_s: 10, withdrawal_s: 5, proficiency: null, proficiency_probability: null, confidence: 0.9 }], totals: null, asked: true },
    ...Object.fromEntries(ofFiles),
    ...more,
  };
}

function open(atS = 0) {
  replace(`#case=${CASE}@${atS}`); // without the event of the address, which jsdom would send later
  route.value = { view: "whole", caseId: CASE, atS };
  return render(<WholeView caseId={CASE} atS={atS} />);
}

const position = () => screen.findByRole("slider", { name: "Position in the video" });
const picture = () => screen.getByLabelText<HTMLVideoElement>("Video");
const now = () => within(screen.getByRole("region", { name: "Now" }));

beforeEach(() => {
  stubBrowser();
  qualityShown.value = false;
  session.value = { user: "u1", name: "Ada", role: "surgeon", csrf: "x", key_id: "k", link: null } as never;
});
afterEach(() => vi.restoreAllMocks());

test("one picture and one timeline go over all files of an operation", async () => {
  serve(answers());
  open();
  const slider = await position();
  expect(slider.getAttribute("aria-valuemax")).toBe("90");
  expect(screen.getByRole("heading", { level: 1 }).textContent).toBe("Whipple");
  loaded(picture());
  expect(picture().getAttribute("src")).toBe(`v1/videos/${ONE}/content`);
  await userEvent.click(screen.getByRole("button", { name: "Play" }));
  at(picture(), 59.9);
  picture().pause();
  picture().dispatchEvent(new Event("ended"));
  await waitFor(() => expect(picture().getAttribute("src")).toBe(`v1/videos/${TWO}/content`));
  loaded(picture());
  await waitFor(() => expect(picture().paused).toBe(false));
  at(picture(), 25);
  await waitFor(() => expect(slider.getAttribute("aria-valuetext")).toBe("1:25, Dissection"));
});

test("the address names the file and its second, whatever the order of the files", async () => {
  serve(answers());
  open();
  (await position()).focus();
  await userEvent.keyboard("{End}{ArrowLeft}");
  await waitFor(() => expect(location.hash).toBe(`#${TWO}@25`));
});

test("a link to a moment of a file opens the operation there", async () => {
  serve(answers());
  route.value = { view: "case", videoId: TWO, atS: 5 };
  render(<CaseView videoId={TWO} atS={5} />);
  const slider = await position();
  expect(slider.getAttribute("aria-valuetext")).toMatch(/^1:05/);
  expect(picture().getAttribute("src")).toBe(`v1/videos/${TWO}/content`);
});

test("spans, stitches and comments have the times of the operation", async () => {
  serve(answers());
  open(62);
  await position();
  expect(await now().findByText("1 of 1")).toBeTruthy();
  await userEvent.click(screen.getByRole("tab", { name: "All spans" }));
  expect(screen.getByRole("button", { name: "Select Dissection at 1:20.0" })).toBeTruthy();
  await userEvent.click(screen.getByRole("tab", { name: "Comments" }));
  expect(screen.getAllByRole("button", { name: /1:05\.0/ }).length).toBeGreaterThan(0);
});

test("a correction is kept in the file, in the file's own seconds", async () => {
  const asked = serve(answers({
    [`POST v1/videos/${TWO}/annotations`]: { revision: 1, spans: [], conflicts: [], history_count: 1 },
  }));
  open(85);
  (await position()).focus();
  await userEvent.keyboard("{Enter}");
  await userEvent.click(screen.getByRole("tab", { name: "Correct" }));
  expect(screen.getByText(/You correct file 2 of 2/)).toBeTruthy();
  await userEvent.keyboard("a");
  await waitFor(() => expect(asked.some((one) => one.method === "POST")).toBe(true));
  const [change] = (asked.find((one) => one.method === "POST")!.body as { changes: object[] }).changes;
  expect(change).toMatchObject({ op: "accept", start_s: 20, stop_s: 30, row: { start_s: 20, stop_s: 30 } });
});

test("a file that is being cleaned is a stretch of unknown content that shifts nothing", async () => {
  serve(answers({
    [`GET v1/videos/${ONE}`]: video(ONE, { state: "cleaning", job: null }),
    [`GET v1/videos/${ONE}/maps`]: [],
    [`GET v1/cases/${CASE}`]: found({ files: [file(ONE, 1, 0, 60, { state: "cleaning" }), file(TWO, 2, 60, 30)] }),
  }));
  open();
  const slider = await position();
  expect(slider.getAttribute("aria-valuetext")).toMatch(/Not mapped: file 1 of 2 is being cleaned/);
  expect(screen.getByText(/File 1 of 2: The video is being cleaned/)).toBeTruthy();
  expect(document.querySelector("video")).toBe(null);
  await userEvent.click(screen.getByRole("button", { name: "Go to file 2" }));
  await waitFor(() => expect(slider.getAttribute("aria-valuetext")).toMatch(/^1:00, Suturing/));
});

test("a service that is away while a map is made is said over the case, which stays", async () => {
  let isAway = false;
  const mapping = found({ files: [file(ONE, 1, 0, 60), file(TWO, 2, 60, 30, { state: "mapping" })] });
  serve(answers({ [`GET v1/cases/${CASE}`]: () => (isAway ? new Response("", { status: 502 }) : mapping) }));
  open();
  await position();
  isAway = true;
  expect(await screen.findByText(/The service does not answer/)).toBeTruthy();
  expect(await position()).toBeTruthy();
  isAway = false;
  await waitFor(() => expect(screen.queryByText(/The service does not answer/)).toBeNull());
});

test("until it is known whether a case has several files, nothing of a single one is offered", async () => {
  let answer: (whole: unknown) => void = () => {};
  serve(answers({
    [`GET v1/videos/${TWO}`]: video(TWO, { rights: ["see", "watch", "timeline", "delete"] }),
    [`GET v1/cases/${CASE}`]: () => new Promise((done) => (answer = done)),
  }));
  render(<CaseView videoId={TWO} atS={0} />);
  await waitFor(() => expect(screen.getByText("Loading…")).toBeTruthy());
  await new Promise((done) => setTimeout(done, 100));
  expect(screen.queryByRole("button", { name: "Delete this case" })).toBeNull();
  answer(found());
  await position();
});

test("where files are hidden it is said, and nothing is counted over them", async () => {
  serve(answers({ [`GET v1/cases/${CASE}`]: found({ rights: ["see"], files: [file(ONE, 1, 0, 60), file(TWO, 2, 60, 30, { after_hidden: true })] }) }));
  open();
  await position();
  expect(screen.getByText(/Before file 2 a part of this operation is missing/)).toBeTruthy();
  expect(document.querySelectorAll(".border.hidden-files").length).toBe(2);
  expect(screen.queryByRole("button", { name: "Put file 2 earlier" })).toBe(null);
});

test("whoever may puts the files in another order", async () => {
  const asked = serve(answers({ "POST v1/cases": found() }));
  open();
  await position();
  await userEvent.click(screen.getByRole("button", { name: "Put file 2 earlier" }));
  await waitFor(() => expect(asked.find((one) => one.method === "POST")?.body).toEqual({ video_ids: [TWO, ONE] }));
});

test("the whole operation is saved and printed as one", async () => {
  serve(answers());
  open();
  await position();
  expect(screen.getByRole("link", { name: "Table (CSV)" }).getAttribute("href")).toBe(`v1/cases/${CASE}/timeline?format=csv`);
  const summary = within(document.querySelector<HTMLElement>(".summary")!);
  expect(summary.getByText("1:30")).toBeTruthy();
  expect(summary.getByText("1: 0:00 · 2: 1:00")).toBeTruthy();
  expect(summary.getByText("Suturing (once)")).toBeTruthy();
});

const RIGHTS = ["see", "watch", "timeline", "delete"];
const ours = (more: Record<string, Answer> = {}) => answers({ [`GET v1/videos/${ONE}`]: video(ONE, { rights: RIGHTS }), [`GET v1/videos/${TWO}`]: video(TWO, { rights: RIGHTS }), ...more });
const deleted = (asked: { method: string; path: string }[]) => asked.filter((one) => one.method === "DELETE").map((one) => one.path);
const confirm = async (name: string) => {
  const dialog = within(await screen.findByRole("dialog", { name }));
  await userEvent.click(dialog.getByRole("button", { name: "Delete" }));
  return dialog;
};

test("the button and the dialog of one file say which of how many, and that the others stay", async () => {
  const asked = serve(ours({ [`DELETE v1/videos/${ONE}`]: null }));
  open();
  await userEvent.click(await screen.findByRole("button", { name: "Delete file 1 of 2" }));
  expect(screen.queryByRole("button", { name: "Delete this case" })).toBeNull();
  expect(await screen.findByText(/Only file 1 goes.*The other files of this operation stay/)).toBeTruthy();
  await confirm("Delete file 1 of 2 of Whipple?");
  await waitFor(() => expect(location.hash).toBe(`#${TWO}`));
  expect(deleted(asked)).toEqual([`v1/videos/${ONE}`]);
});

test("the whole case is deleted with all of its files by one request, and their number is said", async () => {
  const asked = serve(ours({ [`DELETE v1/cases/${CASE}/files`]: null }));
  open();
  await userEvent.click(await screen.findByRole("button", { name: "Delete the whole case (2 files)" }));
  expect(await screen.findByText(/All 2 files of this operation go/)).toBeTruthy();
  await confirm("Delete Whipple with all 2 files?");
  await waitFor(() => expect(location.hash).toBe("#library"));
  expect(deleted(asked)).toEqual([`v1/cases/${CASE}/files`]);
});

test("where the whole case is refused, the dialog says why and the case stays, also under the address of a file", async () => {
  const held = () => new Response(JSON.stringify({ detail: "held", code: "legal-hold", values: {} }), { status: 409 });
  const asked = serve(ours({ [`DELETE v1/cases/${CASE}/files`]: held }));
  render(<CaseView videoId={TWO} atS={0} />);
  await userEvent.click(await screen.findByRole("button", { name: "Delete the whole case (2 files)" }));
  const before = location.hash;
  const dialog = await confirm("Delete Whipple with all 2 files?");
  expect((await dialog.findByRole("alert")).textContent).toMatch(/under a legal hold/);
  await userEvent.click(dialog.getByRole("button", { name: "Delete" }));
  await waitFor(() => expect(deleted(asked)).toEqual([`v1/cases/${CASE}/files`, `v1/cases/${CASE}/files`]));
  await userEvent.click(dialog.getByRole("button", { name: "Keep it" }));
  expect(location.hash).toBe(before);
  expect(screen.getByRole("button", { name: "Delete the whole case (2 files)" })).toBeTruthy();
});

test("whoever may delete only some files is told so, and is not offered the whole case", async () => {
  serve(answers({ [`GET v1/videos/${ONE}`]: video(ONE, { rights: RIGHTS }) }));
  open();
  expect(await screen.findByText(/You may delete 1 of the 2 files/)).toBeTruthy();
  expect(screen.queryByRole("button", { name: /whole case/ })).toBeNull();
});

test("the whole case, and the file that is shown, lead to a comparison", async () => {
  serve(answers());
  open();
  const whole = await screen.findByRole("link", { name: "Compare the whole case with another" });
  expect(whole.getAttribute("href")).toBe(`#compare=case=${CASE}`);
  expect(screen.getByRole("link", { name: "Compare file 1 of 2 alone" }).getAttribute("href")).toBe(`#compare=${ONE}`);
});
