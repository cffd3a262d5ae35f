/** One side of a comparison: a file, or a whole operation of several files, as one length with one map. */
import { useEffect, useMemo } from "preact/hooks";

import type { ApiError } from "../api/client";
import type { Case } from "../api/cases";
import { useEvery, useResource } from "../api/resource";
import type { Timeline, Video } from "../api/types";
import type { Lane } from "../case/interfaces";
import { lanesOf, useTaxonomy } from "../case/lanes";
import { isUnderWay, SOON_MS } from "../case/map";
import { caseOfWhole, ofWhole, toCase, toWhole } from "../router";
import { words } from "../words";

/** A file of a side, in seconds of the side. `hasPicture` false: it is not cleaned. */
export interface FileOfSide {
  videoId: string;
  offsetS: number;
  durationS: number;
  hasPicture: boolean;
}

export interface Side {
  name: string;
  /** Where it is reviewed. */
  href: string;
  files: FileOfSide[];
  /** null while they are asked for, and where nothing is mapped. */
  lanes: Lane[] | null;
  isMapped: boolean;
}

export interface SideAsked {
  /** null until it is there. */
  side: Side | null;
  error: ApiError | null;
  reload: () => Promise<void>;
}

const MAPPED = ["mapped", "partial"];
const UNDER_WAY = ["cleaning", "queued", "mapping"];

/** `id`: of a video, or `ofWhole` of a case. */
export function useSide(id: string): SideAsked {
  const caseId = caseOfWhole(id);
  const where = caseId ? `v1/cases/${caseId}` : `v1/videos/${id}`;
  const video = useResource<Video>(caseId ? null : where);
  const whole = useResource<Case>(caseId ? where : null);
  useEvery(isUnderWay(video.data) ? SOON_MS : 0, video.reload);
  const isMapped = caseId ? Boolean(whole.data?.files.some((file) => MAPPED.includes(file.state))) : video.data?.job?.state === "done";
  const timeline = useResource<Timeline>(isMapped ? `${where}/timeline` : null);
  const taxonomy = useTaxonomy();
  const states = whole.data?.files.map((file) => file.state) ?? [];
  useEvery(states.some((state) => UNDER_WAY.includes(state)) ? SOON_MS : 0, whole.reload);
  useEffect(() => {
    if (timeline.data) void timeline.reload();
  }, [states.join()]);
  const lanes = useMemo(() => (timeline.data && taxonomy ? lanesOf(timeline.data.rows, taxonomy) : null), [timeline.data, taxonomy]);
  const found = caseId ? whole : video;
  const files = caseId ? filesOfCase(whole.data) : filesOfVideo(video.data);
  return {
    side: files && { name: nameOf(id, whole.data), href: caseId ? toWhole(caseId) : toCase(id), files, lanes, isMapped },
    error: found.error ?? timeline.error,
    reload: async () => void (await Promise.all([found.reload(), timeline.reload()])),
  };
}

/** The name of a side, also where it is not there. */
export function nameOf(id: string, found: Case | null = null): string {
  const { about, compare } = words.value;
  const caseId = caseOfWhole(id);
  if (!caseId) return about.name(id);
  return found ? compare.whole(found.procedure.chosen ?? about.name(found.videos[0] ?? caseId), found.files.length) : about.name(caseId);
}

/** A case of the library as a side. */
export const sideOf = (found: Pick<Case, "case_id" | "videos">): string => (found.videos.length > 1 ? ofWhole(found.case_id) : found.videos[0]!);

const filesOfVideo = (video: Video | null): FileOfSide[] | null =>
  video && [{ videoId: video.video_id, offsetS: 0, durationS: video.duration_s, hasPicture: true }];

const filesOfCase = (found: Case | null): FileOfSide[] | null =>
  found &&
  found.files.map((file) => ({
    videoId: file.video_id,
    offsetS: file.offset_s,
    durationS: file.duration_s,
    hasPicture: !["cleaning", "failed"].includes(file.state),
  }));
