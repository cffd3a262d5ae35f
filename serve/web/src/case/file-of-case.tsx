/** One file of a case of several: what the service says of it, its map, what people say about it. It shows nothing. */
import { useEffect, useMemo } from "preact/hooks";

import type { CaseFile } from "../api/cases";
import { useEvery, useResource } from "../api/resource";
import type { Video } from "../api/types";
import { type CommentsOfCase, useComments } from "./comments";
import { type Layer, useLayer } from "./edit/layer";
import type { Lane } from "./interfaces";
import { lanesOfFile } from "./joined";
import type { TagKnown } from "./lanes";
import { isUnderWay, LATER_MS, SOON_MS, useMap } from "./map";

const NONE: Lane[] = [];

/** A file as far as it is known. `lanes`: null where there is no map. All times are those of the case. */
export interface FileSeen {
  video: Video;
  layer: Layer;
  comments: CommentsOfCase;
  isMapped: boolean;
  map: ReturnType<typeof useMap>;
  reload: () => Promise<void>;
}

interface Props {
  file: CaseFile;
  known: TagKnown[];
  /** Is told whatever is new of the file. */
  onSeen: (videoId: string, seen: FileSeen) => void;
}

export function FileOfCase({ file, known, onSeen }: Props) {
  const { data: video, error, reload } = useResource<Video>(`v1/videos/${file.video_id}`);
  useEvery(isUnderWay(video) ? SOON_MS : LATER_MS, () => {
    if (error?.status !== 404) void reload();
  });
  return video && <Loaded file={file} video={video} known={known} onSeen={onSeen} reload={reload} />;
}

function Loaded({ file, video, known, onSeen, reload }: Props & { video: Video; reload: () => Promise<void> }) {
  const offsetS = file.offset_s;
  const map = useMap(video);
  const lanes = useMemo(() => (map.rows ? lanesOfFile(map.rows, offsetS, known) : NONE), [map.rows, offsetS, known]);
  const mayRead = video.rights.includes("timeline");
  const layer = useLayer(video.video_id, lanes, {
    mayAnnotate: video.rights.includes("annotate"),
    durationS: file.duration_s,
    offsetS,
    modelAlone: !mayRead,
  });
  const comments = useComments(video.rights.includes("comment") ? video.video_id : null, offsetS);
  const isMapped = map.rows !== null;
  useEffect(
    () => onSeen(file.video_id, { video, layer, comments, isMapped, map, reload }),
    [video, layer, comments.list, comments.found.error, lanes, isMapped, map.error],
  );
  return null;
}

/** The comments of all files as those of the case: a new comment goes to the file that holds its moment. */
export function commentsOfCase(seen: readonly FileSeen[], at: (s: number) => FileSeen | undefined): CommentsOfCase {
  const all = seen.map((one) => one.comments);
  const list = all.flatMap((one) => one.list).sort((one, other) => one.at_s - other.at_s);
  const isThere = all.some((one) => one.found.data);
  return {
    list,
    times: list.map((one) => one.at_s),
    files: all.flatMap((one) => one.files),
    found: {
      data: isThere ? list : null,
      error: all.find((one) => one.found.error)?.found.error ?? null,
      loading: all.some((one) => one.found.loading),
      reload: async () => void (await Promise.all(all.map((one) => one.found.reload()))),
      put: () => {},
    },
    add: async (atS, text) => (await at(atS)?.comments.add(atS, text)) ?? [],
    remove: async (commentId) => {
      await all.find((one) => one.list.some((comment) => comment.comment_id === commentId))?.remove(commentId);
    },
  };
}
