import { signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";

import { api } from "../api/client";
import { useEvery, useResource } from "../api/resource";
import type { Video } from "../api/types";
import { About } from "../case/about";
import { useAddress } from "../case/address";
import { Comments, useComments } from "../case/comments";
import { keepSelection, useControls } from "../case/controls";
import { useLayer } from "../case/edit/layer";
import { EditPanel } from "../case/edit/panel";
import { Help } from "../case/help";
import type { Lane, Selection } from "../case/interfaces";
import { type TagKnown, lanesOf, PROFICIENCY, useTaxonomy } from "../case/lanes";
import { Legend } from "../case/legend";
import { type MapOfVideo, useMap } from "../case/map";
import { Now } from "../case/now";
import { People } from "../case/people";
import { Picture } from "../case/player";
import { qualityShown, shownLanes } from "../case/quality";
import { Share } from "../case/share";
import { useStitches } from "../case/stitches";
import { Summary } from "../case/summary";
import { Suturing } from "../case/suturing";
import { SpanTable } from "../case/timeline/span-table";
import { Timeline } from "../case/timeline/timeline";
import { VideoPlayer } from "../case/video-player";
import { Loading, Trouble } from "../components/messages";
import { type Tab, Tabs } from "../components/tabs";
import { route, toCompare, toLibrary } from "../router";
import { linked, mayRead } from "../session";
import { percent, words } from "../words";
import "./case.css";

const [SOON_MS, LATER_MS] = [2000, 20_000];

const isUnderWay = (video: Video | null): boolean =>
  video?.state === "cleaning" ||
  ["queued", "running"].includes(video?.job?.state ?? "") ||
  (video as { playback?: string } | null)?.playback === "making";

/** One case: its video and map to review, and what can be done with it. Keyed by the case in app.tsx. */
export function CaseView({ videoId, atS }: { videoId: string; atS: number }) {
  const { review } = words.value;
  const { data: video, error, reload } = useResource<Video>(`v1/videos/${videoId}`);
  useEvery(isUnderWay(video) ? SOON_MS : LATER_MS, () => {
    if (error?.status !== 404) void reload();
  });
  const may = (right: string) => video?.rights.includes(right) ?? false;
  const isThere = video !== null && !["cleaning", "failed"].includes(video.state);
  return (
    <article class="review-page" aria-labelledby="case-title">
      <div class="row title">
        <h1 id="case-title">{words.value.about.name(videoId)}</h1>
        {mayRead.value && may("timeline") && <a href={toCompare(videoId)}>{words.value.compare.open}</a>}
      </div>
      <Trouble error={error} again={error?.status === 404 ? undefined : reload} />
      {error?.status === 404 && mayRead.value && <a href={toLibrary()}>{review.toLibrary}</a>}
      {!video && !error && <Loading />}
      {video && isThere && may("watch") && <Review video={video} atS={atS} reload={reload} />}
      {video && isThere && !may("watch") && video.consent !== "withdrawn" && <p class="notice">{review.notYours}</p>}
      {video?.state === "cleaning" && <p class="notice">{review.cleaning}</p>}
      {video?.state === "failed" && <p class="notice bad">{review.failed}</p>}
      {video && <Under video={video} atS={atS} reload={reload} />}
    </article>
  );
}

function Under({ video, atS, reload }: { video: Video; atS: number; reload: () => Promise<void> }) {
  const here = route.value;
  return (
    <div class="under">
      <About video={video} reload={reload} />
      <Share video={video} atS={here.view === "case" ? here.atS : atS} />
      <People video={video} reload={reload} />
    </div>
  );
}

function Review({ video, atS, reload }: { video: Video; atS: number; reload: () => Promise<void> }) {
  const map = useMap(video);
  const taxonomy = useTaxonomy();
  const lanes = useMemo(() => (map.rows && taxonomy ? lanesOf(map.rows, taxonomy) : null), [map.rows, taxonomy]);
  const player = useMemo(() => new VideoPlayer(video.duration_s, video.fps || 25, atS), [video.video_id, video.duration_s]);
  const selection = useMemo<Selection>(() => ({ span: signal(null), range: signal(null) }), [video.video_id]);
  useAddress(video.video_id, atS, player);
  return <Mapped {...{ video, player, selection, lanes, map, taxonomy: taxonomy ?? [], reload }} />;
}

interface MappedProps {
  video: Video;
  player: VideoPlayer;
  selection: Selection;
  lanes: Lane[] | null;
  map: MapOfVideo;
  taxonomy: TagKnown[];
  reload: () => Promise<void>;
}

const NONE: Lane[] = [];

function Mapped({ video, player, selection, lanes, map, taxonomy, reload }: MappedProps) {
  const { review } = words.value;
  const layer = useLayer(video.video_id, lanes ?? NONE, {
    mayAnnotate: video.rights.includes("annotate"),
    durationS: video.duration_s,
    modelAlone: linked.value !== null,
  });
  const all = lanes ? layer.lanes : NONE;
  const withQuality = qualityShown.value;
  const shown = useMemo(() => shownLanes(all, withQuality), [all, withQuality]);
  const has = (tag: string) => all.some((lane) => lane.tag === tag && lane.spans.length > 0);
  const found = useStitches(has("phase") && !linked.value ? video.video_id : null).data;
  const stitches = found?.stitches ?? [];
  const comments = useComments(video.rights.includes("comment") ? video.video_id : null);
  const controls = useControls(player, selection, shown);
  useEffect(() => keepSelection(selection, shown), [shown]);
  const askForMap = video.rights.includes("map")
    ? async () => {
        await api(`v1/videos/${video.video_id}/maps`, { method: "POST", json: {} });
        await reload();
      }
    : undefined;
  const tabs: Tab[] = [];
  if (!linked.value)
    tabs.push({ key: "stitches", title: review.tabStitches, body: () => <Suturing videoId={video.video_id} player={player} onMap={askForMap} /> });
  tabs.push({ key: "spans", title: review.tabSpans, body: () => <SpanTable lanes={shown} player={player} selection={selection} /> });
  if (video.rights.includes("annotate"))
    tabs.push({ key: "edit", title: review.tabEdit, body: () => <EditPanel {...{ video, layer, player, selection, taxonomy }} /> });
  if (video.rights.includes("comment"))
    tabs.push({ key: "comments", title: review.tabComments, body: () => <Comments video={video} player={player} comments={comments} /> });
  return (
    <>
      <div class="review">
        <div class="stage">
          <Picture video={video} lanes={shown} player={player} controls={controls} reload={reload} />
          <UnderWay video={video} isMapped={lanes !== null} error={map.error} again={map.reload} />
          {lanes && <Timeline lanes={shown} player={player} selection={selection} jumps={player.jumps} comments={comments.times} onEnd={layer.drag} />}
        </div>
        {lanes && (
          <div class="beside">
            <Now lanes={shown} stitches={stitches} player={player} hasQuality={has(PROFICIENCY)} />
            <Tabs name={review.tabs} tabs={tabs} />
            <Legend lanes={shown} />
          </div>
        )}
        {controls.isHelping && <Help onClose={controls.endHelp} />}
      </div>
      {lanes && <Summary video={video} lanes={all} found={found} />}
    </>
  );
}

/** A map that is under way, or not there, or does not come, in words. */
function UnderWay({ video, isMapped, error, again }: { video: Video; isMapped: boolean; error: unknown; again: () => Promise<void> }) {
  const { review } = words.value;
  const job = video.job;
  const share = job?.total_s ? percent(job.done_s / job.total_s) : percent(0);
  if (error) return <Trouble error={error} again={again} />;
  if (job?.state === "running") {
    const minutes = job.eta_s === null ? "" : review.minutesLeft(Math.max(1, Math.round(job.eta_s / 60)));
    return <p class="notice" role="status">{isMapped ? review.remapping(share) : review.mapping(share, minutes)}</p>;
  }
  if (job?.state === "queued" && !isMapped) return <p class="notice" role="status">{review.queued}</p>;
  if (!isMapped && (!job || ["failed", "cancelled"].includes(job.state))) return <p class="notice">{review.notMapped}</p>;
  return isMapped || !video.rights.includes("timeline") ? null : <Loading />;
}
