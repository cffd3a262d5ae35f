/** What of a case can be followed over time: its length, a step, a phase of a stitch, the stitches, their proficiency. */
import type { OwnTrend, Quartiles, TrendCase } from "../api/trend";
import { clock, number, percent, words } from "../words";

/** One value of one case. `low`, `high`: of its interval; `n`: over how many stitches. */
export interface Value {
  value: number;
  low?: number;
  high?: number;
  n?: number;
}

export interface Measure {
  /** As in the address. */
  key: string;
  name: string;
  quartiles: (one: Quartiles) => boolean;
  /** null: the case does not say. */
  of: (found: TrendCase) => Value | null;
  /** Whether a model says it, so that values of different models are not compared. */
  byModel: boolean;
  write: (value: number) => string;
  /** The end of the scale that does not depend on the cases; null: the largest value. */
  most: number | null;
}

const alone = (value: number | null | undefined): Value | null => (value == null ? null : { value });

export function measuresOf(trend: OwnTrend): Measure[] {
  const { mine } = words.value;
  const plain = { byModel: true, most: null };
  const share = (found: TrendCase): Value | null => {
    const { high_share: value, high_low: low, high_high: high, high_n: n } = found.figures ?? {};
    return value == null ? null : { value, low: low ?? value, high: high ?? value, n };
  };
  return [
    { ...plain, key: "length", name: mine.length, byModel: false, quartiles: (one) => one.measure === "length", of: (found) => alone(found.duration_s), write: clock },
    { ...plain, key: "stitches", name: mine.stitches, quartiles: (one) => one.measure === "stitches", of: (found) => alone(found.figures?.stitches), write: number },
    { ...plain, key: "high", name: mine.high, quartiles: (one) => one.measure === "high share", of: share, write: percent, most: 1 },
    ...trend.steps.map((step): Measure => ({
      ...plain,
      key: `step:${step}`,
      name: mine.step(step),
      quartiles: (one) => one.measure === "step" && one.category === step,
      of: (found) => alone(found.figures?.steps_s[step]),
      write: clock,
    })),
    ...trend.phases.map((phase): Measure => ({
      ...plain,
      key: `phase:${phase}`,
      name: mine.phase(phase),
      quartiles: (one) => one.measure === "phase" && one.category === phase,
      of: (found) => {
        const its = found.figures?.phases[phase];
        return its ? { value: its.median_s, n: its.n } : null;
      },
      write: (value) => mine.seconds(number(value, 1)),
    })),
  ];
}

/**
 * Runs of cases whose values are joined by a line: where a case in between has no value, as after another model came,
 * the line ends and begins anew.
 */
export function runs(values: (Value | null)[]): [number, Value][][] {
  const found: [number, Value][][] = [];
  values.forEach((value, index) => {
    if (value === null) return;
    const last = found.at(-1);
    if (last && last.at(-1)![0] === index - 1) last.push([index, value]);
    else found.push([[index, value]]);
  });
  return found;
}

/** Places between cases where the model changes: [index of the later case, text]. */
export function changes(cases: TrendCase[]): [number, string][] {
  const { mine } = words.value;
  const found: [number, string][] = [];
  let before: string | null = null;
  cases.forEach((one, index) => {
    const now = one.model_versions.join(" + ");
    if (!now) return;
    if (before !== null && before !== now) found.push([index, mine.modelChange(before, now)]);
    before = now;
  });
  return found;
}
