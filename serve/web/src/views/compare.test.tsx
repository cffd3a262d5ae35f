import { render, screen, waitFor, within } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";

import { serve } from "../testing/service";
import { Compare } from "./compare";

const [ONE, OTHER] = ["1a".repeat(16), "2b".repeat(16)];
const row = (tag: string, category: string, start_s: number, end_s: number) => ({ tag, category, start_s, end_s, confidence: 0.9, source: "ai" });
const video = (id: string) => ({ video_id: id, duration_s: 100, fps: 25, state: "ready", rights: ["watch", "timeline"], job: { state: "done" } });
const MODELS = { models: [{ version: "1", instructions: { map: { step: ["Access", "Suturing"], phase: ["driving"] } } }] };

test("two cases are aligned at a step, at any take, and say what took longer", async () => {
  serve({
    "GET v1/models": MODELS,
    [`GET v1/videos/${ONE}`]: video(ONE),
    [`GET v1/videos/${OTHER}`]: video(OTHER),
    [`GET v1/videos/${ONE}/timeline`]: { rows: [row("step", "Access", 0, 10), row("step", "Suturing", 30, 50)] },
    [`GET v1/videos/${OTHER}/timeline`]: { rows: [row("step", "Suturing", 5, 20), row("step", "Suturing", 60, 70)] },
  });
  render(<Compare sides={[ONE, OTHER]} />);
  await screen.findByRole("option", { name: "Suturing" });
  await userEvent.selectOptions(screen.getByLabelText("Align at"), "Suturing");
  await waitFor(() => expect(screen.getByText("0:30 · Suturing")).toBeTruthy());
  expect(screen.getByText("0:05 · Suturing")).toBeTruthy();
  await userEvent.selectOptions(screen.getByLabelText("Take in the second case"), "1");
  await waitFor(() => expect(screen.getByText("1:00 · Suturing")).toBeTruthy());
  const table = within(screen.getAllByRole("table")[0]!);
  const texts = table.getAllByRole("row").map((found) => found.textContent);
  expect(texts.slice(1)).toEqual(["Access0:10 (once)not found0:10 shorter", "Suturing0:20 (once)0:25 (2 times)0:05 longer"]);
});

test("with one case the other is chosen from the library", async () => {
  serve({ "GET v1/cases?limit=100": { cases: [{ case_id: "c1", videos: [ONE], title: "Hysterectomy" }, { case_id: "c2", videos: [OTHER], title: "Whipple" }] } });
  render(<Compare sides={[ONE]} />);
  location.hash = "";
  await userEvent.selectOptions(await screen.findByLabelText("Compare with"), OTHER);
  expect(location.hash).toBe(""); // who goes through the list by the arrow keys stays here
  await userEvent.click(screen.getByRole("button", { name: "Compare" }));
  expect(location.hash).toBe(`#compare=${ONE},${OTHER}`);
});

test("a case that is not mapped says so", async () => {
  serve({
    "GET v1/models": MODELS,
    [`GET v1/videos/${ONE}`]: { ...video(ONE), job: null },
    [`GET v1/videos/${OTHER}`]: { ...video(OTHER), job: null },
  });
  render(<Compare sides={[ONE, OTHER]} />);
  expect(await screen.findAllByText("This case is not mapped yet, so nothing can be aligned.")).toHaveLength(2);
});

test("of two cases it is said which one is not there, and nothing is asked for again in vain", async () => {
  serve({ "GET v1/models": MODELS, [`GET v1/videos/${ONE}`]: video(ONE), [`GET v1/videos/${ONE}/timeline`]: { rows: [] } });
  render(<Compare sides={[ONE, OTHER]} />);
  const missing = within(await screen.findByRole("region", { name: "Case 2b2b2b" }));
  expect(missing.getByText(/This case is not there/)).toBeTruthy();
  expect(screen.queryByRole("button", { name: "Try again" })).toBeNull();
  expect(screen.queryByRole("region", { name: "Case 1a1a1a" })).toBeNull();
  expect(screen.getByRole("link", { name: "To the library" })).toBeTruthy();
});

const CASE = "c5".repeat(16);
const SECOND = "3c".repeat(16);
const WHOLE = {
  case_id: CASE, videos: [OTHER, SECOND], ends_hidden: false, procedure: { chosen: "Whipple", suggested: null, confidence: null },
  files: [OTHER, SECOND].map((video_id, n) => ({ video_id, number: n + 1, offset_s: 100 * n, duration_s: 100, state: "mapped", after_hidden: false })),
};

test("a case of several files is chosen whole, or by one of its files", async () => {
  serve({ "GET v1/cases?limit=100": { cases: [{ case_id: CASE, videos: [OTHER, SECOND], title: "Whipple" }] } });
  render(<Compare sides={[ONE]} />);
  const menu = within(await screen.findByLabelText("Compare with"));
  expect(menu.getAllByRole("option").map((one) => one.textContent).slice(1)).toEqual([
    "Whipple · 2b2b2b, all 2 files", "Whipple · 2b2b2b · file 1 of 2", "Whipple · 2b2b2b · file 2 of 2",
  ]);
  await userEvent.selectOptions(screen.getByLabelText("Compare with"), `case=${CASE}`);
  await userEvent.click(screen.getByRole("button", { name: "Compare" }));
  expect(location.hash).toBe(`#compare=${ONE},case=${CASE}`);
});

test("a whole case stands beside another case over all of its files, aligned at a step in any of them", async () => {
  serve({
    "GET v1/models": MODELS,
    [`GET v1/videos/${ONE}`]: video(ONE),
    [`GET v1/videos/${ONE}/timeline`]: { rows: [row("step", "Suturing", 30, 50)] },
    [`GET v1/cases/${CASE}`]: WHOLE,
    [`GET v1/cases/${CASE}/timeline`]: { rows: [row("step", "Access", 0, 90), row("step", "Suturing", 150, 190)] },
    [`GET v1/videos/${OTHER}`]: video(OTHER),
    [`GET v1/videos/${SECOND}`]: video(SECOND),
  });
  render(<Compare sides={[ONE, `case=${CASE}`]} />);
  const side = within(await screen.findByRole("region", { name: "Whipple, all 2 files" }));
  expect((await side.findByLabelText("Video")).getAttribute("src")).toBe(`v1/videos/${OTHER}/content`);
  expect(side.getByText("File 1 of 2")).toBeTruthy();
  expect(side.getByRole("link", { name: "Whipple, all 2 files" }).getAttribute("href")).toBe(`#case=${CASE}`);
  await screen.findByRole("option", { name: "Suturing" });
  await userEvent.selectOptions(screen.getByLabelText("Align at"), "Suturing");
  await waitFor(() => expect(side.getByText("2:30 · Suturing")).toBeTruthy());
  await waitFor(() => expect(side.getByLabelText("Video").getAttribute("src")).toBe(`v1/videos/${SECOND}/content`));
  expect(side.getByText("File 2 of 2")).toBeTruthy();
  const texts = within(screen.getAllByRole("table")[0]!).getAllByRole("row").map((found) => found.textContent);
  expect(texts.slice(1)).toEqual(["Accessnot found1:30 (once)1:30 longer", "Suturing0:20 (once)0:40 (once)0:20 longer"]);
});
