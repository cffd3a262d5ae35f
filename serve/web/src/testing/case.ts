/** A case for tests of components. */
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
