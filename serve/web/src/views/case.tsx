import { signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";

import { api } from "../api/client";
import { useEvery, useResource } from "../api/resource";
import type { Case } from "../api/cases";
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
import { isUnderWay, LATER_MS, type MapOfVideo, SOON_MS, UnderWay, useMap } from "../case/map";
import { Named } from "../case/named";
import { Now } from "../case/now";
import { piecesOfLink } from "../case/part-of-link";
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
import { Why } from "../case/why";
import { Loading, Trouble } from "../components/messages";
import { type Tab, Tabs } from "../components/tabs";
import { forgetDraftsAbout } from "../drafts";
import { momentsAddress } from "../library/moments";
import { go, route, toCompare, toLibrary } from "../router";
import { linked, mayRead } from "../session";
import { words } from "../words";
import { WholeCase } from "./whole-case";
import "./case.css";

/** One case: its video and map to review, and what can be done with it. Keyed by the case in app.tsx. */
export function CaseView({ videoId, atS }: { videoId: string; atS: number }) {
  const { review } = words.value;
  const { data: video, error, reload } = useResource<Video>(`v1/videos/${videoId}`);
  useEffect(() => {
    if (error?.status === 404) forgetDraftsAbout(videoId);
  }, [error]);
  // A link shows one file; who is signed in sees the operation that it is a file of.
  const whole = useResource<Case>(video?.case_id && mayRead.value && !linked.value ? `v1/cases/${video.case_id}` : null);
  const isKnown = !whole.loading;
  const isSeveral = whole.data !== null && isOfSeveral(whole.data);
  // Each file of an operation is asked for by itself; one that is deleted must not take the others away.
  useEvery(isSeveral ? 0 : isUnderWay(video) ? SOON_MS : LATER_MS, () => {
    if (error?.status !== 404) void reload();
  });
  if (whole.data && isSeveral)
    return <WholeCase key={whole.data.case_id} found={whole.data} videoId={videoId} atS={atS} error={whole.error} reload={whole.reload} />;
  const may = (right: string) => video?.rights.includes(right) ?? false;
  const isThere = video !== null && !["cleaning", "failed"].includes(video.state);
  return (
    <article class="review-page" aria-labelledby="case-title">
      <div class="row title">
        <h1 id="case-title">{whole.data?.procedure.chosen ?? words.value.about.name(videoId)}</h1>
        {whole.data && <Named found={whole.data} />}
        {mayRead.value && isThere && isKnown && may("timeline") && <a href={toCompare(videoId)}>{words.value.compare.open}</a>}
      </div>
      <Trouble error={error} again={error?.status === 404 ? undefined : reload} />
      {error?.status === 404 && mayRead.value && <a href={toLibrary()}>{review.toLibrary}</a>}
      {((!video && !error) || !isKnown) && <Loading />}
      {video && isKnown && isThere && (may("watch") || may("timeline")) && <Review video={video} procedure={whole.data?.procedure ?? null} atS={atS} reload={reload} />}
      {video && isThere && !may("watch") && !may("timeline") && video.consent !== "withdrawn" && <p class="notice">{review.notYours}</p>}
      {video?.state === "cleaning" && <p class="notice">{review.cleaning}</p>}
      {video?.state === "failed" && <p class="notice bad">{review.failed}</p>}
      {video && isKnown && <Under video={video} atS={atS} reload={reload} />}
    </article>
  );
}

/** A case by its own number: of several files, or the one file that it has. */
export function WholeView({ caseId, atS }: { caseId: string; atS: number }) {
  const { data: found, error, reload } = useResource<Case>(`v1/cases/${caseId}`);
  if (!found)
    return (
      <article class="review-page" aria-labelledby="case-title">
        <h1 id="case-title">{words.value.about.name(caseId)}</h1>
        {error ? <Trouble error={error} again={error.status === 404 ? undefined : reload} /> : <Loading />}
        {error?.status === 404 && <a href={toLibrary()}>{words.value.review.toLibrary}</a>}
      </article>
    );
  if (!isOfSeveral(found)) return <CaseView videoId={found.files[0]!.video_id} atS={atS} />;
  return <WholeCase found={found} videoId={null} atS={atS} error={error} reload={reload} />;
}

/** Whether a case has several files, also such that the user may not see. */
export const isOfSeveral = (found: Case): boolean =>
  found.files.length > 1 || found.ends_hidden || found.files.some((file) => file.after_hidden);

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

function Review({ video, procedure, atS, reload }: { video: Video; procedure: Case["procedure"] | null; atS: number; reload: () => Promise<void> }) {
  const map = useMap(video);
  const taxonomy = useTaxonomy();
  const lanes = useMemo(() => (map.rows && taxonomy ? lanesOf(map.rows, taxonomy) : null), [map.rows, taxonomy]);
  const player = useMemo(() => {
    const fps = video.fps || 25;
    return new VideoPlayer(video.duration_s, fps, atS, piecesOfLink(fps) ?? undefined);
  }, [video.video_id, video.duration_s]);
  const selection = useMemo<Selection>(() => ({ span: signal(null), range: signal(null) }), [video.video_id]);
  useAddress(video.video_id, player);
  return <Mapped {...{ video, procedure, player, selection, lanes, map, taxonomy: taxonomy ?? [], reload }} />;
}

interface MappedProps {
  video: Video;
  /** Which procedure it is, as a person says and as the map suggests. */
  procedure: Case["procedure"] | null;
  player: VideoPlayer;
  selection: Selection;
  lanes: Lane[] | null;
  map: MapOfVideo;
  taxonomy: TagKnown[];
  reload: () => Promise<void>;
}

const NONE: Lane[] = [];

function Mapped({ video, procedure, player, selection, lanes, map, taxonomy, reload }: MappedProps) {
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
  const found = useStitches(has("phase") && !linked.value ? `v1/videos/${video.video_id}` : null).data;
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
    tabs.push({ key: "stitches", title: review.tabStitches, body: () => <Suturing where={`v1/videos/${video.video_id}`} player={player} onMap={askForMap} /> });
  tabs.push({ key: "spans", title: review.tabSpans, body: () => <SpanTable lanes={shown} player={player} selection={selection} /> });
  if (video.rights.includes("annotate"))
    tabs.push({ key: "edit", title: review.tabEdit, body: () => <EditPanel {...{ video, layer, player, selection, taxonomy }} /> });
  if (video.rights.includes("comment"))
    tabs.push({ key: "comments", title: review.tabComments, body: () => <Comments video={video} player={player} comments={comments} /> });
  return (
    <>
      <div class="review">
        <div class="stage">
          <Picture video={video} lanes={shown} player={player} controls={controls} reload={reload} note={video.rights.includes("watch") ? undefined : review.mapAlone} />
          <UnderWay video={video} isMapped={lanes !== null} error={map.error} again={map.reload} />
          {lanes && <Timeline lanes={shown} player={player} selection={selection} jumps={player.jumps} comments={comments.times} onEnd={layer.drag} />}
        </div>
        {lanes && (
          <div class="beside">
            <Now lanes={shown} stitches={stitches} player={player} hasQuality={has(PROFICIENCY)} onMore={more} />
            <Why where={`v1/videos/${video.video_id}`} player={player} />
            <Tabs name={review.tabs} tabs={tabs} />
            <Legend lanes={shown} />
          </div>
        )}
        {controls.isHelping && <Help onClose={controls.endHelp} />}
      </div>
      {lanes && <Summary video={video} chosen={procedure?.chosen} suggested={procedure?.suggested} lanes={all} found={found} />}
    </>
  );
}

