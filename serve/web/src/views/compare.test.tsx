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
  render(<Compare videoIds={[ONE, OTHER]} />);
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
  serve({ "GET v1/cases?limit=100": { cases: [{ videos: [ONE, OTHER], title: "Hysterectomy" }] } });
  render(<Compare videoIds={[ONE]} />);
  await userEvent.selectOptions(await screen.findByLabelText("Compare with"), OTHER);
  expect(location.hash).toBe(`#compare=${ONE},${OTHER}`);
});

test("a case that is not mapped says so", async () => {
  serve({
    "GET v1/models": MODELS,
    [`GET v1/videos/${ONE}`]: { ...video(ONE), job: null },
    [`GET v1/videos/${OTHER}`]: { ...video(OTHER), job: null },
  });
  render(<Compare videoIds={[ONE, OTHER]} />);
  expect(await screen.findAllByText("This case is not mapped yet, so nothing can be aligned.")).toHaveLength(2);
});

test("of two cases it is said which one is not there, and nothing is asked for again in vain", async () => {
  serve({ "GET v1/models": MODELS, [`GET v1/videos/${ONE}`]: video(ONE), [`GET v1/videos/${ONE}/timeline`]: { rows: [] } });
  render(<Compare videoIds={[ONE, OTHER]} />);
  const missing = within(await screen.findByRole("region", { name: "Case 2b2b2b" }));
  expect(missing.getByText(/This case is not there/)).toBeTruthy();
  expect(screen.queryByRole("button", { name: "Try again" })).toBeNull();
  expect(screen.queryByRole("region", { name: "Case 1a1a1a" })).toBeNull();
  expect(screen.getByRole("link", { name: "To the library" })).toBeTruthy();
});
