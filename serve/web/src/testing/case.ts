/** A case for tests of components. */
import type { Case } from "../api/cases";
import type { Job, Video } from "../api/types";

export const ID = "3f2a9c".padEnd(32, "0");
export const JOB: Job = {
  job_id: "j1", kind: "map", video_id: ID, tasks: ["macro"], state: "running", outcome: null, reason: null,
  phase: "mapping", model_version: "v3", done_s: 30, total_s: 120, eta_s: 9, failed_segments: 0, attempts: 1,
};
export const VIDEO: Video = {
  video_id: ID, case_id: "c1".repeat(8), position: 1, playback: "direct", size_bytes: 1.5e9, duration_s: 3753, width: 1920, height: 1080, fps: 25, codec: "h264",
  created_s: 1_790_000_000, state: "ready", reason: null, cleaning: null, cleaning_job: null, job: null,
  relations: ["owner"], rights: ["see", "watch", "timeline", "map", "delete"], consent: "unknown", keep_until_s: null,
  legal_hold: false,
};

export const caseId = (n: number) => String(n).repeat(16);
/** A case as the library lists it. */
export const found = (n: number, changes: Partial<Case> = {}): Case => ({
  case_id: caseId(n),
  videos: [caseId(n)],
  files: [],
  ends_hidden: false,
  title: "",
  procedure: { suggested: "Prostatectomy", chosen: null, confidence: 0.8 },
  operated_on: "2026-11-03",
  created_s: 1_790_000_000,
  duration_s: 3753,
  labels: ["teaching"],
  strip: [[0, 0.5, 1], [0.5, 1, 0]],
  strip_categories: ["Suturing", "Dissection"],
  status: { state: "mapped", done_share: 1, asked: ["proficiency"], not_asked: ["micro"], reason: null },
  poster: null,
  mine: true,
  rights: ["see", "watch", "timeline", "map", "describe"],
  stitches: 42,
  ...changes,
});
