import { render, screen, within } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test } from "vitest";

import type { Cohort, OwnTrend, TrendCase } from "../api/trend";
import { signedIn } from "../testing/people";
import { serve } from "../testing/service";
import { Mine } from "./mine";

const FIGURES = {
  steps_s: { Suturing: 1200 }, phases: { Driving: { median_s: 4, n: 6 } }, stitches: 8,
  high_share: 0.5, high_low: 0.22, high_high: 0.78, high_n: 8,
};
const of = (n: number, version: string, more: Partial<TrendCase> = {}): TrendCase => ({
  case_id: `c${n}`, video_id: `${n}`.repeat(32), day: `2025-0${n}-01`, duration_s: 3600 + n, model_versions: [version], complete: true, figures: FIGURES, ...more,
});
const TREND: OwnTrend = {
  procedure: "Prostatectomy",
  procedures: [{ procedure: "Prostatectomy", cases: 3 }, { procedure: "Bypass", cases: 1 }],
  model_version: "v2",
  model_versions: [{ model_version: "v1", cases: 1 }, { model_version: "v2", cases: 2 }],
  steps: ["Suturing"],
  phases: ["Driving"],
  cases: [of(1, "v1", { figures: null }), of(2, "v2"), of(3, "v2", { complete: false })],
  unmapped: 0,
  with_others: 1,
  earlier: 0,
  unnamed: 2,
};
const COHORT: Cohort = {
  state: "shown", least_cases: 20, least_surgeons: 5, missing_at_most: null, cases: 25, day: "2025-06-01", model_version: "v2",
  quartiles: [
    { measure: "length", category: null, low: 3000, median: 3600, high: 4200, cases: 25 },
    { measure: "step", category: "Suturing", low: 600, median: 900, high: 1200, cases: 20 },
  ],
};
const TREND_PATH = "GET v1/home/trend";
const COHORT_PATH = "GET v1/home/cohort?procedure=Prostatectomy";

function open(query = "", answers: Record<string, unknown> = {}) {
  const asked = serve({ [TREND_PATH]: TREND, [COHORT_PATH]: COHORT, ...answers });
  const shown = render(<Mine query={new URLSearchParams(query)} />);
  return { asked, shown };
}
const rows = async () => within(await screen.findByRole("region", { name: "The same as a table" })).getAllByRole("row").map((row) => row.textContent);
const plot = () => screen.getByRole("img");

beforeEach(() => signedIn());

test("the length of all cases is compared, whatever the model, and a table says the same", async () => {
  const { shown } = open();
  expect(await rows()).toHaveLength(4);
  expect((await rows())[1]).toMatch(/2025.*1:00:01v1$/);
  expect(shown.container.querySelectorAll("circle")).toHaveLength(3);
  expect(shown.container.querySelectorAll(".break, .none")).toHaveLength(0);
  expect(plot().getAttribute("aria-label")).toMatch(/^Length of the operation, case by case: .*1:00:03$/);
  expect(await screen.findByText(/In at least 25 cases of colleagues the median is 1:00:00; half of them lie between 50:00 and 1:10:00/)).toBeTruthy();
  expect(shown.container.querySelector(".usual rect")).toBeTruthy();
  expect(screen.getByText(/Left out: 2 without a procedure/)).toBeTruthy();
  expect(screen.getByText(/Left out: 1 to which somebody else/)).toBeTruthy();
});

test("another model is a break in the line, and its cases are counted and named", async () => {
  const { shown } = open("measure=step:Suturing");
  expect(await rows()).toHaveLength(4);
  expect((await rows())[1]).toContain("not compared");
  expect((await rows())[3]).toContain("(parts not mapped)");
  expect(shown.container.querySelector(".break")!.textContent).toBe("model v1 → v2");
  expect(shown.container.querySelectorAll("circle")).toHaveLength(2);
  expect(shown.container.querySelectorAll("circle.incomplete")).toHaveLength(1);
  expect(screen.getByText(/Not compared: 1 mapped by model v1/)).toBeTruthy();
});

test("a share has its interval and its number of stitches", async () => {
  open("measure=high");
  expect((await rows())[2]).toMatch(/50%22% to 78%8v2$/);
  expect(await screen.findByText("Too few cases of colleagues have this to compare with.")).toBeTruthy();
});

test("what is chosen is asked for and stands in the address, and the table is saved as it is seen", async () => {
  const { asked } = open("", { "GET v1/home/trend?since=2025-02-01": TREND, "GET v1/home/trend?procedure=Bypass&since=2025-02-01": { ...TREND, procedure: "Bypass" }, "GET v1/home/cohort?procedure=Bypass": { ...COHORT, state: "none of yours" } });
  await rows();
  const since = screen.getByLabelText("From");
  await userEvent.type(since, "2025-02-01");
  since.dispatchEvent(new Event("change", { bubbles: true }));
  await userEvent.selectOptions(await screen.findByLabelText("Procedure"), "Bypass");
  await rows();
  expect(asked.at(-1)!.path).toMatch(/Bypass/);
  expect(location.hash).toBe("#mine?procedure=Bypass&since=2025-02-01");
  expect(screen.getByRole("link", { name: /CSV/ }).getAttribute("href")).toBe("v1/home/trend?procedure=Bypass&since=2025-02-01&format=csv");
});

test("too few cases of others say how many are missing at most; a band of another model is not drawn", async () => {
  const few = { ...COHORT, state: "too few", missing_at_most: 5, quartiles: [], cases: null, day: null, model_version: null };
  const first = open("", { [COHORT_PATH]: few });
  expect(await screen.findByText(/needs 20 cases with consent by 5 surgeons. At most 5 cases are missing/)).toBeTruthy();
  first.shown.unmount();
  const { shown } = open("measure=step:Suturing", { [COHORT_PATH]: { ...COHORT, model_version: "v1" } });
  expect(await screen.findByText(/mapped by model v1; maps of two models are not compared/)).toBeTruthy();
  expect(shown.container.querySelector(".usual")).toBeNull();
});

test("who has no case yet reads so", async () => {
  open("", { [TREND_PATH]: { ...TREND, procedure: null, procedures: [], cases: [] } });
  expect(await screen.findByText(/You have no case of your own yet/)).toBeTruthy();
});

test("one missing case is one case", async () => {
  open("", { [COHORT_PATH]: { ...COHORT, state: "too few", missing_at_most: 1, quartiles: [] } });
  expect(await screen.findByText(/At most 1 case is missing, if enough surgeons have them/)).toBeTruthy();
});
