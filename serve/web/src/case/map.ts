/** The map of a video, as the service has it now. */
import { useEffect, useState } from "preact/hooks";

import { useResource } from "../api/resource";
import type { Job, Timeline, Video } from "../api/types";
import { linked } from "../session";

/** `rows`: null while the map is not there, or not asked for yet. */
export interface MapOfVideo {
  rows: Timeline["rows"] | null;
  error: unknown;
  reload: () => Promise<void>;
}

/** The map of `video`; a job that ends brings it anew. */
export function useMap(video: Video): MapOfVideo {
  const where = `v1/videos/${video.video_id}`;
  const mayRead = video.rights.includes("timeline");
  // Whoever looks by a link learns nothing of jobs: there the map itself says whether it is there.
  const byLink = linked.value !== null;
  const jobs = useResource<Job[]>(mayRead && !byLink ? `${where}/maps` : null);
  const done = byLink && mayRead ? 1 : (jobs.data?.filter((job) => job.state === "done").length ?? 0);
  const timeline = useResource<Timeline>(done ? `${where}/timeline` : null);
  const newest = `${video.job?.job_id} ${video.job?.state}`;
  const [asked] = useState({ newest, done });
  useEffect(() => {
    if (asked.newest !== newest) void jobs.reload();
    asked.newest = newest;
  }, [newest]);
  useEffect(() => {
    if (asked.done && asked.done !== done) void timeline.reload();
    asked.done = done;
  }, [done]);
  const isNotMapped = byLink && timeline.error !== null && !timeline.error.mayPass;
  const error = jobs.error ?? (isNotMapped ? null : timeline.error);
  return { rows: timeline.data?.rows ?? null, error, reload: timeline.error ? timeline.reload : jobs.reload };
}
