/** The stitches of a map, as the service finds them over its rows. */
import { type Resource, useResource } from "../api/resource";

/** Times and lengths in seconds of the video; `confidence` and `proficiency_probability` 0 to 1. */
export interface Stitch {
  index: number;
  start_s: number;
  stop_s: number;
  target: string | null;
  direction: string | null;
  extent: string | null;
  handling_s: number;
  driving_s: number;
  withdrawal_s: number;
  proficiency: string | null;
  proficiency_probability: number | null;
  confidence: number;
}

/** Medians in seconds, and the share of high proficiency (0 to 1), each with the ends of its interval. */
export interface StitchTotals {
  count: number;
  handling_s: number | null;
  handling_low_s?: number | null;
  handling_high_s?: number | null;
  driving_s: number | null;
  driving_low_s?: number | null;
  driving_high_s?: number | null;
  withdrawal_s: number | null;
  withdrawal_low_s?: number | null;
  withdrawal_high_s?: number | null;
  high_share: number | null;
  high_low: number | null;
  high_high: number | null;
  proficiency_n: number;
}

export interface Stitches {
  model_version?: string;
  /** false: parts of the case are not mapped. */
  complete?: boolean;
  /** false: the map was asked for without the suturing. */
  asked?: boolean;
  stitches: Stitch[];
  totals?: StitchTotals;
}

/** `where`: of a file, `v1/videos/…`, or of a case, `v1/cases/…`; null: nothing is asked, as without suturing. */
export const useStitches = (where: string | null): Resource<Stitches> => useResource<Stitches>(where && `${where}/stitches`);

export const stitchAt = (stitches: Stitch[], s: number): Stitch | undefined =>
  stitches.find((one) => one.start_s <= s && s < one.stop_s);
