import { act, render, screen } from "@testing-library/preact";
import { afterEach, expect, test } from "vitest";

import { VIDEO } from "../testing/case";
import type { Lane, Span } from "./interfaces";
import { qualityShown } from "./quality";
import { Summary } from "./summary";

const span = (tag: string, category: string, startS: number, stopS: number): Span => ({
  id: `${tag}${startS}`, tag, category, startS, stopS, confidence: 0.9, source: "ai",
});
const lane = (tag: string, ...spans: Span[]): Lane => ({ tag, categories: [], ordered: false, spans });
const TOTALS = { count: 3, handling_s: 4.25, driving_s: null, withdrawal_s: 2, high_share: 0.5, high_low: 0.2, high_high: 0.8, proficiency_n: 2 };

afterEach(() => void (qualityShown.value = false));

test("a printed page says procedure, stitches and time per step, and proficiency only where it was asked for", () => {
  const lanes = [lane("procedure", span("procedure", "Prostatectomy", 0, 100)), lane("step", span("step", "Suturing", 0, 60), span("step", "Suturing", 90, 95))];
  render(<Summary video={VIDEO} lanes={lanes} found={{ stitches: [], totals: TOTALS }} />);
  const text = () => document.querySelector(".summary")!.textContent!;
  expect(text()).toContain("Prostatectomy");
  expect(text()).toContain("Stitches3");
  expect(text()).toMatch(/median4.3 s.*mediannot known/);
  expect(text()).toContain("Suturing (2 times)1:05");
  expect(text()).not.toContain("High proficiency");
  act(() => void (qualityShown.value = true));
  expect(text()).toContain("High proficiency, of 2 judged50% (20%–80%)");
});

test("the procedure that the map suggests is that of the library", () => {
  render(<Summary video={VIDEO} lanes={[lane("procedure", span("procedure", "Prostatectomy", 0, 100))]} found={null} suggested="Pyeloplasty" />);
  expect(document.querySelector("dl")!.textContent).toContain("Procedure, by the mapPyeloplasty");
});

test("what a person says the procedure is stands on the page in the place of what the map says", () => {
  render(<Summary video={VIDEO} lanes={[lane("procedure", span("procedure", "Prostatectomy", 0, 100))]} found={null} chosen="Simple prostatectomy" />);
  const text = document.querySelector(".summary")!.textContent!;
  expect(text).toContain("ProcedureSimple prostatectomy");
  expect(text).not.toContain("by the map");
});

test("what a person has rejected, and what is not mapped, is neither counted nor drawn", () => {
  const rejected = { ...span("step", "Suturing", 70, 80), state: "rejected" as const };
  const gap = { ...span("step", "no frame decodes", 80, 90), source: "gap" as const };
  const wrong = { ...span("procedure", "Bypass", 0, 50), state: "rejected" as const };
  const lanes = [lane("procedure", wrong, span("procedure", "Prostatectomy", 50, 100)), lane("step", span("step", "Suturing", 0, 60), rejected, gap)];
  render(<Summary video={VIDEO} lanes={lanes} found={null} />);
  const text = document.querySelector(".summary")!.textContent!;
  expect(text).toContain("Suturing (once)1:00");
  expect(text).toContain("Prostatectomy");
  expect(text).not.toMatch(/Bypass|no frame/);
  expect(document.querySelectorAll(".summary rect")).toHaveLength(1);
});

test("many steps stay on one page", () => {
  const spans = Array.from({ length: 30 }, (_, n) => span("step", `Step ${n}`, n * 10, n * 10 + 10));
  render(<Summary video={VIDEO} lanes={[lane("step", ...spans)]} found={null} />);
  expect(screen.getAllByRole("row", { hidden: true })).toHaveLength(1 + 24 + 1);
  expect(document.querySelector(".summary")!.textContent).toContain("6 other steps1:00");
});
