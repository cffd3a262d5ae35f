/** What the service answers about cases, the home view, the model and links. */
import type { Job } from "./types";

/** Why something failed, for a sentence in any language. */
export interface Cause {
  code: string;
  values: Record<string, string | number>;
}

/** `mapped`, and so on, in the order in which a case goes through them. */
export type CaseState = "cleaning" | "review" | "failed" | "new" | "queued" | "mapping" | "mapped" | "partial";

/** A file of a case: when it begins on the case's axis of time, how long it is, and how far. */
export interface CaseFile {
  video_id: string;
  /** From 1 on. */
  number: number;
  offset_s: number;
  duration_s: number;
  state: CaseState;
  /** Files lie before it that the caller may not see. */
  after_hidden: boolean;
}

export interface Case {
  case_id: string;
  /** The case's videos in the order in which they are played. */
  videos: string[];
  files: CaseFile[];
  /** Files lie behind the last one that the caller may not see. */
  ends_hidden: boolean;
  title: string;
  procedure: { suggested: string | null; chosen: string | null; confidence: number | null };
  /** A calendar day, 2026-11-03. */
  operated_on: string | null;
  created_s: number;
  duration_s: number;
  labels: string[];
  /** [start, stop, category]: shares of the length, and an index into `strip_categories`. */
  strip: [number, number, number][];
  strip_categories: string[];
  status: { state: CaseState; done_share: number; asked: string[]; not_asked: string[]; reason: string | null; cause?: Cause | null };
  poster: string | null;
  mine: boolean;
  rights: string[];
  stitches: number | null;
}

export interface Cases {
  cases: Case[];
  total: number;
  next: string | null;
}

export interface Moment {
  video_id: string;
  start_s: number;
  stop_s: number;
  tag: string;
  category: string;
  why: string;
}

export interface Home {
  days: number;
  cases: number;
  hours: number;
  stitches: number;
  high_share: number | null;
  high_low: number | null;
  high_high: number | null;
  high_n: number;
  model_versions: string[];
  phases: { category: string; median_s: number; n: number }[];
  trend: { week: string; cases: number; hours: number; stitches: number; high_share: number | null }[];
  moments: Moment[];
  jobs: Job[];
}

/** The model that is served. `instructions`: what it can be asked → tag → the tag's categories. */
export interface Model {
  version: string;
  card: string | null;
  instructions: Record<string, Record<string, string[]>>;
}

/** What a read-only link shows of one case. */
export interface LinkedCase {
  video_id: string;
  from_s: number | null;
  to_s: number | null;
  shows: string[];
  expires_s: number;
  /** What its map can say, in the order of the taxonomy. */
  tags: { tag: string; categories: string[] }[];
}

export interface Link {
  link_id: string;
  created_by_name: string;
  created_s: number;
  expires_s: number;
  from_s: number | null;
  to_s: number | null;
  shows: string[];
}

export interface LinkMade extends Link {
  url: string;
}
