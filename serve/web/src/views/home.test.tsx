import { render, screen, within } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test } from "vitest";

import type { Home } from "../api/cases";
import { signedIn } from "../testing/people";
import { serve } from "../testing/service";
import { HomeView } from "./home";

const ID = "3f2a9c".padEnd(32, "0");
const MONTH: Home = {
  days: 30,
  cases: 7,
  hours: 21.42,
  stitches: 311,
  high_share: 0.62,
  high_low: 0.55,
  high_high: 0.69,
  high_n: 180,
  model_versions: ["v3"],
  phases: [{ category: "Needle driving", median_s: 7.94, n: 180 }],
  trend: [
    { week: "2026-11-02", cases: 1, hours: 2, stitches: 40, high_share: null },
    { week: "2026-11-09", cases: 6, hours: 19.4, stitches: 271, high_share: 0.62 },
  ],
  moments: [{ video_id: ID, start_s: 75, stop_s: 83, tag: "phase", category: "Needle driving", why: "least sure" }],
  jobs: [],
};
const NOTHING: Home = {
  ...MONTH, cases: 0, hours: 0, stitches: 0, high_share: null, high_low: null, high_high: null, high_n: 0,
  model_versions: [], phases: [], trend: [], moments: [],
};
const PATH = "GET v1/home?days=30";
const region = async (name: string) => within(await screen.findByRole("region", { name }));

beforeEach(() => signedIn());

test("a month says how much there was, and the share with n, interval and model version", async () => {
  serve({ [PATH]: MONTH });
  render(<HomeView />);
  const days = await region("The last 30 days");
  for (const text of ["7", "21.4", "311", "62%", "95% interval 55% to 69%, from 180 stitches", "Model v3"])
    expect(days.getByText(text), text).toBeTruthy();
  const phases = await region("Median time per phase of a stitch");
  expect(phases.getAllByRole("cell").map((one) => one.textContent)).toEqual(["Needle driving", "7.9 s", "180"]);
});

test("one is one, and a short case is told in minutes", async () => {
  serve({ [PATH]: { ...MONTH, cases: 1, hours: 0.025, stitches: 1 } });
  render(<HomeView />);
  const days = await region("The last 30 days");
  for (const text of ["case", "2", "minutes of video", "stitch"]) expect(days.getByText(text), text).toBeTruthy();
});

test("a share that nobody can tell is no number", async () => {
  serve({ [PATH]: { ...MONTH, high_share: null, high_low: null, high_high: null, high_n: 0 } });
  render(<HomeView />);
  expect((await region("The last 30 days")).getByText("No stitch was judged in this time.")).toBeTruthy();
});

test("the trend has its weeks in words and as a table", async () => {
  serve({ [PATH]: MONTH });
  render(<HomeView />);
  const trend = await region("From week to week");
  expect(trend.getByRole("img").getAttribute("aria-label")).toMatch(/^cases from week to week: .*2026 1; .*2026 6$/);
  await userEvent.selectOptions(trend.getByLabelText("Shown"), "high_share");
  expect(trend.getByRole("img").getAttribute("aria-label")).toMatch(/2026 –; .*2026 62%$/);
});

test("a moment worth a look leads to where it is", async () => {
  serve({ [PATH]: MONTH });
  render(<HomeView />);
  const moments = await region("Worth a look");
  expect(moments.getByText("The model is least sure here")).toBeTruthy();
  expect(moments.getByRole("link").getAttribute("href")).toBe(`#${ID}@75`);
});

test("what is under way is shown with its progress", async () => {
  const job = { job_id: "j", kind: "map", video_id: ID, state: "running", done_s: 30, total_s: 120, eta_s: 9 };
  serve({ [PATH]: { ...NOTHING, jobs: [job] } });
  render(<HomeView />);
  const jobs = await region("Under way");
  expect(jobs.getByText("25%, 9 s left")).toBeTruthy();
  expect(jobs.getByRole("progressbar", { name: "Map of Case 3f2a9c" })).toBeTruthy();
});

test("a site without a case offers a sample", async () => {
  const asked = serve({ [PATH]: NOTHING, "GET v1/cases?limit=1": { cases: [], total: 0, next: null }, "POST v1/sample-case": { video_id: ID } });
  render(<HomeView />);
  await userEvent.click(await screen.findByRole("button", { name: "Try it with a sample case" }));
  expect(asked.at(-1)?.path).toBe("v1/sample-case");
  expect(location.hash).toBe(`#${ID}`);
});

test("a month without a case is not a site without one", async () => {
  serve({ [PATH]: NOTHING, "GET v1/cases?limit=1": { cases: [], total: 3, next: null } });
  render(<HomeView />);
  expect(await screen.findByText(/No case was added in the last 30 days./)).toBeTruthy();
  expect(screen.queryByText("There is no case yet")).toBeNull();
});
