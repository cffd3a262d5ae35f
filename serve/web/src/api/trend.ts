/** What the service answers about one's own cases over time, and about what is usual at the hospital. Times: seconds. */
export interface MapFigures {
  steps_s: Record<string, number>;
  phases: Record<string, { median_s: number; n: number }>;
  stitches: number | null;
  high_share: number | null;
  high_low: number | null;
  high_high: number | null;
  high_n: number;
}

export interface TrendCase {
  case_id: string;
  video_id: string;
  /** A calendar day, 2026-11-03. */
  day: string;
  duration_s: number;
  model_versions: string[];
  /** false: a part of the case has no map. */
  complete: boolean;
  /** null: its map is not of the model that is compared. */
  figures: MapFigures | null;
}

export interface OwnTrend {
  procedure: string | null;
  procedures: { procedure: string; cases: number }[];
  model_version: string | null;
  /** `model_version` null: cases with maps of several models. */
  model_versions: { model_version: string | null; cases: number }[];
  steps: string[];
  phases: string[];
  cases: TrendCase[];
  unmapped: number;
  with_others: number;
  earlier: number;
  unnamed: number;
}

export interface Quartiles {
  measure: "length" | "step" | "phase" | "stitches" | "high share";
  category: string | null;
  low: number;
  median: number;
  high: number;
  cases: number;
}

export interface Cohort {
  state: "off" | "none of yours" | "too few" | "shown";
  least_cases: number;
  least_surgeons: number;
  missing_at_most: number | null;
  cases: number | null;
  day: string | null;
  model_version: string | null;
  quartiles: Quartiles[];
}
