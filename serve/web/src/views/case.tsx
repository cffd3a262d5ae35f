import { effect, signal } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";

import { api } from "../api/client";
import { useEvery, useResource } from "../api/resource";
import type { Job, Timeline as TimelineAnswer, Video } from "../api/types";
import { About } from "../case/about";
import { Comments, useComments } from "../case/comments";
import { useLayer } from "../case/edit/layer";
import { EditPanel } from "../case/edit/panel";
import { Help } from "../case/help";
import type { Lane, Selection, Span } from "../case/interfaces";
import { type TagKnown, lanesOf, neighbours, PROFICIENCY, useTaxonomy } from "../case/lanes";
import { Legend } from "../case/legend";
import { Now } from "../case/now";
import { People } from "../case/people";
import { type ControlsProps, Picture, toggleFullScreen } from "../case/player";
import { qualityShown, shownLanes } from "../case/quality";
import { Share } from "../case/share";
import { useStitches } from "../case/stitches";
import { Summary } from "../case/summary";
import { Suturing } from "../case/suturing";
import { SpanTable } from "../case/timeline/span-table";
import { take, Timeline } from "../case/timeline/timeline";
import { VideoPlayer } from "../case/video-player";
import { useKeys } from "../components/keys";
import { Loading, Trouble } from "../components/messages";
import { type Tab, Tabs } from "../components/tabs";
import { momentsAddress } from "../library/moments";
import { go, replace, route, toCase, toCompare, toLibrary } from "../router";
import { linked, mayRead } from "../session";
import { percent, words } from "../words";
import "./case.css";

const [SOON_MS, LATER_MS] = [2000, 20_000];
const LABELS_KEPT = "halsted labels on the picture";

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

/** The map of a video: null while it is not there, or not asked for yet. */
function useMap(video: Video): { rows: TimelineAnswer["rows"] | null; error: unknown; reload: () => Promise<void> } {
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

function Review({ video, atS, reload }: { video: Video; atS: number; reload: () => Promise<void> }) {
  const map = useMap(video);
  const taxonomy = useTaxonomy();
  const lanes = useMemo(() => (map.rows && taxonomy ? lanesOf(map.rows, taxonomy) : null), [map.rows, taxonomy]);
  const player = useMemo(() => new VideoPlayer(video.duration_s, video.fps || 25, atS), [video.video_id, video.duration_s]);
  const selection = useMemo<Selection>(() => ({ span: signal(null), range: signal(null) }), [video.video_id]);
  useAddress(video.video_id, atS, player);
  return <Mapped {...{ video, player, selection, lanes, map, taxonomy: taxonomy ?? [], reload }} />;
}

/** The address follows where the user goes by hand and where playback stops; a link in the page leads elsewhere. */
function useAddress(videoId: string, atS: number, player: VideoPlayer): void {
  const [shown] = useState({ atS });
  useEffect(() => {
    if (shown.atS !== atS) player.seek(atS);
    shown.atS = atS;
  }, [atS]);
  useEffect(() => {
    let last = player.jumps.peek();
    return effect(() => {
      if (player.jumps.value === last) return;
      last = player.jumps.value;
      const here = route.peek();
      if (here.view === "case" && here.videoId === videoId) replace(toCase(videoId, player.timeS.peek()));
    });
  }, [player, videoId]);
}

interface MappedProps {
  video: Video;
  player: VideoPlayer;
  selection: Selection;
  lanes: Lane[] | null;
  map: ReturnType<typeof useMap>;
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
  const more = linked.value
    ? undefined
    : () => go(toLibrary(momentsAddress({ video_id: video.video_id, at_s: player.timeS.peek() })));
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
          <Now lanes={shown} stitches={stitches} player={player} hasQuality={has(PROFICIENCY)} onMore={more} />
          <Tabs name={review.tabs} tabs={tabs} />
          <Legend lanes={shown} />
        </div>
      )}
      {controls.isHelping && <Help onClose={controls.endHelp} />}
    </div>
    {lanes && <Summary video={video} lanes={all} found={found} withQuality={withQuality} />}
    </>
  );
}

/** After a change the selected span is another object, or gone; proficiency is gone while it is hidden. */
function keepSelection(selection: Selection, lanes: Lane[]): void {
  const before = selection.span.peek();
  if (!before) return;
  const spans = lanes.find((lane) => lane.tag === before.tag)?.spans ?? [];
  const same = (span: Span) => span.startS === before.startS || span.stopS === before.stopS;
  const after = spans.find((span) => span.id === before.id) ?? spans.find((span) => span.category === before.category && same(span)) ?? null;
  if (after !== before) take(selection, after);
}

/** What the buttons under the picture and the keys do. */
function useControls(player: VideoPlayer, selection: Selection, lanes: Lane[]): ControlsProps & { isHelping: boolean; endHelp: () => void } {
  const [labels, setLabels] = useState(localStorage.getItem(LABELS_KEPT) !== "off");
  const [isHelping, setHelping] = useState(false);
  const steps = lanes.find((lane) => lane.tag === "step" && lane.spans.length) ?? lanes.find((lane) => lane.spans.length);
  const s = () => player.timeS.peek();
  const toStep = (direction: -1 | 1) => {
    const { before, after } = neighbours(steps, s());
    const to = direction < 0 ? before : after;
    if (to !== null) player.seek(to);
  };
  const loop = () => {
    if (player.loop.value) player.loop.value = null;
    else {
      const now = steps?.spans.find((span) => span.startS <= s() && s() < span.stopS);
      player.loop.value = selection.range.value ?? (now ? [now.startS, now.stopS] : null);
      if (player.loop.value) player.seek(player.loop.value[0]);
    }
  };
  const loopEnd = (end: 0 | 1) => {
    const [from, to] = player.loop.value ?? [0, player.durationS];
    const next: [number, number] = end === 0 ? [s(), to] : [from, s()];
    player.loop.value = next[0] < next[1] ? next : end === 0 ? [s(), player.durationS] : [0, s()];
  };
  const keys: Record<string, () => void> = {
    Space: () => player.toggle(),
    K: () => player.toggle(),
    L: () => player.faster(),
    J: () => player.seek(s() - 10),
    ArrowLeft: () => player.seek(s() - 5),
    ArrowRight: () => player.seek(s() + 5),
    ",": () => player.step(-1),
    ".": () => player.step(1),
    PageUp: () => toStep(-1),
    PageDown: () => toStep(1),
    Home: () => player.seek(0),
    End: () => player.seek(player.durationS),
    "[": () => loopEnd(0),
    "]": () => loopEnd(1),
    R: loop,
    F: toggleFullScreen,
    "?": () => setHelping(true),
    Escape: () => take(selection, null),
  };
  useKeys(keys);
  const keepLabels = (on: boolean) => {
    setLabels(on);
    if (on) localStorage.removeItem(LABELS_KEPT);
    else localStorage.setItem(LABELS_KEPT, "off");
  };
  const help = () => setHelping(true);
  return { labels, setLabels: keepLabels, toStep, loop, help, isHelping, endHelp: () => setHelping(false) };
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
