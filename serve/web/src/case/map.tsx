/** The map of a file: whether it is there, and how far it is. */
import { useEffect, useState } from "preact/hooks";

import { useResource } from "../api/resource";
import type { Job, Timeline as TimelineAnswer, Video } from "../api/types";
import { Loading, Trouble } from "../components/messages";
import { linked } from "../session";
import { percent, words } from "../words";

export const [SOON_MS, LATER_MS] = [2000, 20_000];

export const isUnderWay = (video: Video | null): boolean =>
  video?.state === "cleaning" ||
  ["queued", "running"].includes(video?.job?.state ?? "") ||
  (video as { playback?: string } | null)?.playback === "making";

/** `rows`: null while the map is not there, or not asked for yet. */
export interface MapOfVideo {
  rows: TimelineAnswer["rows"] | null;
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
  const timeline = useResource<TimelineAnswer>(done ? `${where}/timeline` : null);
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

/** A map that is under way, or not there, or does not come, in words. */
export function UnderWay({ video, isMapped, error, again }: { video: Video; isMapped: boolean; error: unknown; again: () => Promise<void> }) {
  const { review } = words.value;
  const job = video.job;
  const share = job?.total_s ? percent(job.done_s / job.total_s) : percent(0);
  if (!video.rights.includes("timeline")) return null; // whether there is a map is not said
  if (error) return <Trouble error={error} again={again} />;
  const minutes = job?.eta_s == null ? "" : review.minutesLeft(Math.max(1, Math.round(job.eta_s / 60)));
  const isRunning = job?.state === "running";
  let shown = "";
  if (isRunning) shown = isMapped ? review.remapping(share) : review.mapping(share, minutes);
  else if (job?.state === "queued" && !isMapped) shown = review.queued;
  else if (!isMapped && (!job || ["failed", "cancelled"].includes(job.state))) shown = review.notMapped;
  return (
    <>
      {/* Readers of the screen are told where it begins and ends, and not each per cent. */}
      <p class="seen-by-readers" role="status">
        {isRunning ? review.underWay : isMapped ? review.isThere : ""}
      </p>
      {shown ? <p class="notice">{shown}</p> : !isMapped && <Loading />}
    </>
  );
}
