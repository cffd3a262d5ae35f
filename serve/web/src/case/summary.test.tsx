import { render, screen } from "@testing-library/preact";
import { expect, test } from "vitest";

import { VIDEO } from "../testing/case";
import type { Lane, Span } from "./interfaces";
import { Summary } from "./summary";

const span = (tag: string, category: string, startS: number, stopS: number): Span => ({
  id: `${tag}${startS}`, tag, category, startS, stopS, confidence: 0.9, source: "ai",
});
const lane = (tag: string, ...spans: Span[]): Lane => ({ tag, categories: [], ordered: false, spans });
const TOTALS = { count: 3, handling_s: 4.25, driving_s: null, withdrawal_s: 2, high_share: 0.5, high_low: 0.2, high_high: 0.8, proficiency_n: 2 };

test("a printed page says procedure, stitches and time per step, and proficiency only where it was asked for", () => {
  const lanes = [lane("procedure", span("procedure", "Prostatectomy", 0, 100)), lane("step", span("step", "Suturing", 0, 60), span("step", "Suturing", 90, 95))];
  const { rerender } = render(<Summary video={VIDEO} lanes={lanes} found={{ stitches: [], totals: TOTALS }} withQuality={false} />);
  const text = () => document.querySelector(".summary")!.textContent!;
  expect(text()).toContain("Prostatectomy");
  expect(text()).toContain("Stitches3");
  expect(text()).toMatch(/median4.3 s.*mediannot known/);
  expect(text()).toContain("Suturing (2 times)1:05");
  expect(text()).not.toContain("High proficiency");
  rerender(<Summary video={VIDEO} lanes={lanes} found={{ stitches: [], totals: TOTALS }} withQuality />);
  expect(text()).toContain("High proficiency, of 2 judged50% (20%–80%)");
});

test("many steps stay on one page", () => {
  const spans = Array.from({ length: 30 }, (_, n) => span("step", `Step ${n}`, n * 10, n * 10 + 10));
  render(<Summary video={VIDEO} lanes={[lane("step", ...spans)]} found={null} withQuality={false} />);
  expect(screen.getAllByRole("row", { hidden: true })).toHaveLength(1 + 24 + 1);
  expect(document.querySelector(".summary")!.textContent).toContain("6 other steps1:00");
});
