import { effect, signal } from "@preact/signals";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";

import type { Case, CaseFile } from "../api/cases";
import { type ApiError, api } from "../api/client";
import { useEvery, useResource } from "../api/resource";
import type { Timeline as TimelineAnswer } from "../api/types";
import { About } from "../case/about";
import { useLinks } from "../case/address";
import { Comments } from "../case/comments";
import { keepSelection, useControls } from "../case/controls";
import { EditPanel } from "../case/edit/panel";
import { DeleteCase } from "../case/delete";
import { commentsOfCase, FileOfCase, type FileSeen } from "../case/file-of-case";
import { CaseExports, Files } from "../case/files";
import { Help } from "../case/help";
import type { Selection, Span } from "../case/interfaces";
import { bordersOf, gapOf, joined, overBorders, placed, whyNone } from "../case/joined";
import { PROFICIENCY, type TagKnown, useTaxonomy } from "../case/lanes";
import { Legend } from "../case/legend";
import { LATER_MS, SOON_MS, UnderWay } from "../case/map";
import { Named } from "../case/named";
import { Now } from "../case/now";
import { People } from "../case/people";
import { Picture } from "../case/player";
import { qualityShown, shownLanes } from "../case/quality";
import { Share } from "../case/share";
import { useStitches } from "../case/stitches";
import { Summary } from "../case/summary";
import { Suturing } from "../case/suturing";
import { SpanTable } from "../case/timeline/span-table";
import { type Border, Timeline } from "../case/timeline/timeline";
import { VideoPlayer } from "../case/video-player";
import { Why } from "../case/why";
import { sideOf } from "../compare/side";
import { Loading, Trouble } from "../components/messages";
import { type Tab, Tabs } from "../components/tabs";
import { momentsAddress } from "../library/moments";
import { go, namedBy, replace, route, toCase, toCompare, toLibrary } from "../router";
import { clock, words } from "../words";
import { capital } from "../words/en";
import "./case.css";

const UNDER_WAY = ["cleaning", "queued", "mapping"];
const NO_ROWS: TimelineAnswer["rows"] = [];
const NO_TAGS: TagKnown[] = [];

interface Props {
  found: Case;
  /** The file at whose second `atS` to begin; null: `atS` is of the case. */
  videoId: string | null;
  atS: number;
  /** Why the case does not come anew. */
  error: ApiError | null;
  /** Asks the service for the case anew. */
  reload: () => Promise<void>;
}

/** One operation whose recorder made several files: one picture that goes on from file to file, one timeline. */
export function WholeCase({ found, videoId, atS, error, reload }: Props) {
  const known = useTaxonomy();
  const [seen, setSeen] = useState<Record<string, FileSeen>>({});
  const onSeen = useCallback((id: string, one: FileSeen) => setSeen((so) => ({ ...so, [id]: one })), []);
  useEvery(found.files.some((file) => UNDER_WAY.includes(file.state)) ? SOON_MS : LATER_MS, reload);
  const shape = JSON.stringify(found.files.map((file) => [file.video_id, file.offset_s, file.duration_s]));
  const files = useMemo(() => placed(found.files), [shape, found.files]);
  const player = usePlayer(files, shape, seen, videoId, atS);
  const first = files[0]!.video_id;
  useEffect(() => {
    namedBy.value = first;
    return () => {
      namedBy.value = null;
    };
  }, [first]);
  return (
    <article class="review-page" aria-labelledby="case-title">
      <div class="row title">
        <h1 id="case-title">{titleOf(found)}</h1>
        <Named found={found} />
        {files.some((file) => seen[file.video_id]?.video.rights.includes("timeline")) && <a href={toCompare(sideOf(found))}>{words.value.compare.openWhole}</a>}
      </div>
      <Trouble error={error} again={reload} />
      {known && files.map((file) => <FileOfCase key={`${file.video_id} ${file.offset_s}`} file={file} known={known} onSeen={onSeen} />)}
      <Reviewed {...{ found, files, seen, player, taxonomy: known ?? NO_TAGS, reload }} />
    </article>
  );
}

const titleOf = (found: Case): string => found.procedure.chosen ?? words.value.about.name(found.files[0]!.video_id);

/** The player of all files. Files that are put in another order are played in that; the moment stays. */
function usePlayer(files: readonly CaseFile[], shape: string, seen: Record<string, FileSeen>, videoId: string | null, atS: number): VideoPlayer {
  const latest = useRef({ files, seen });
  latest.current = { files, seen };
  const before = useRef<{ videoId: string; s: number } | null>(null);
  const player = useMemo(() => {
    const moment = before.current ?? { videoId, s: atS };
    const offsetS = files.find((file) => file.video_id === moment.videoId)?.offset_s ?? 0;
    const parts = files.map((file) => ({ offsetS: file.offset_s, durationS: file.duration_s, fps: 25 }));
    const last = parts.at(-1)!;
    const hasPicture = (part: number) => {
      const file = latest.current.files[part];
      return file !== undefined && whyNoPicture(latest.current.seen[file.video_id]) === null;
    };
    return new VideoPlayer(last.offsetS + last.durationS, last.fps, offsetS + moment.s, parts, hasPicture);
  }, [shape]);
  files.forEach((file, n) => {
    player.parts[n]!.fps = seen[file.video_id]?.video.fps || 25;
  });
  useEffect(
    () =>
      effect(() => {
        const file = files[player.part.value];
        if (file) before.current = { videoId: file.video_id, s: player.timeS.value - file.offset_s };
      }),
    [player],
  );
  useLinks((here) => {
    if (here.view === "whole") return here.atS;
    const file = here.view === "case" ? files.find((one) => one.video_id === here.videoId) : undefined;
    return file && here.view === "case" ? file.offset_s + here.atS : null;
  }, player);
  useAddress(player, files);
  return player;
}

/** The address names the file and its second, so that it stays true when files are added or put in another order. */
function useAddress(player: VideoPlayer, files: readonly CaseFile[]): void {
  useEffect(() => {
    let last = player.jumps.peek();
    return effect(() => {
      if (player.jumps.value === last) return;
      last = player.jumps.value;
      const file = files[player.part.peek()];
      const here = route.peek();
      if (file && (here.view === "case" || here.view === "whole")) replace(toCase(file.video_id, player.timeS.peek() - file.offset_s));
    });
  }, [player, files]);
}

/** Why a file cannot be played; null where it can, or where that is not known yet. */
function whyNoPicture(one: FileSeen | undefined): string | null {
  const { review } = words.peek();
  if (!one) return null;
  if (one.video.state === "cleaning") return review.cleaning;
  if (one.video.state === "failed") return review.failed;
  return one.video.rights.includes("watch") ? null : review.notYours;
}

interface ReviewedProps {
  found: Case;
  files: readonly CaseFile[];
  seen: Record<string, FileSeen>;
  player: VideoPlayer;
  taxonomy: TagKnown[];
  reload: () => Promise<void>;
}

function Reviewed({ found, files, seen, player, taxonomy, reload }: ReviewedProps) {
  const { review, files: text } = words.value;
  const selection = useMemo<Selection>(() => ({ span: signal(null), range: signal(null) }), [player]);
  const all = files.map((file) => seen[file.video_id]);
  const known = all.filter((one) => one !== undefined);
  const isMapped = known.some((one) => one.isMapped);
  const where = `v1/cases/${found.case_id}`;
  const mapped = files.map((file) => `${file.video_id} ${file.state}`).join();
  const whole = useWhole(isMapped ? `${where}/timeline` : null, mapped);
  const borders = useMemo(() => bordersOf(files, found.ends_hidden), [files, found.ends_hidden, words.value]);
  const lanesOfFiles = all.map((one) => one?.layer.lanes);
  const lanes = useMemo(() => {
    const gaps = files.flatMap((file, n) => (all[n] && !all[n].isMapped && file.duration_s > 0 ? [gapOf(file, whyNone(file, all[n].video.rights.includes("timeline"), files.length))] : []));
    return joined(lanesOfFiles.filter((one) => one !== undefined), whole ?? NO_ROWS, gaps);
  }, [files, whole, words.value, mapped, ...lanesOfFiles]);
  const withQuality = qualityShown.value;
  const shown = useMemo(() => shownLanes(lanes, withQuality), [lanes, withQuality]);
  const has = (tag: string) => lanes.some((lane) => lane.tag === tag && lane.spans.length > 0);
  const stitches = useStitches(has("phase") ? where : null).data;
  const at = (s: number) => all[player.partAt(s)];
  const comments = commentsOfCase(known, at);
  const controls = useControls(player, selection, shown);
  useEffect(() => keepSelection(selection, shown), [shown]);
  const part = player.part.value;
  void player.jumps.value; // links and clips are of the moment where the user went last
  const [file, here] = [files[part]!, all[part]];
  if (!here) return <Loading />;
  const beside = files.find((one) => one !== file)?.video_id ?? null;
  const inCase = { number: file.number, count: files.length, caseName: titleOf(found), beside, reload };
  const edited = ownerOf(selection.span.value, known) ?? here;
  const mayMap = known.filter((one) => one.video.rights.includes("map"));
  const map = mayMap.length
    ? async () => {
        for (const one of mayMap) await api(`v1/videos/${one.video.video_id}/maps`, { method: "POST", json: {} });
        await reload();
      }
    : undefined;
  const more = () => go(toLibrary(momentsAddress({ video_id: file.video_id, at_s: player.timeS.peek() - file.offset_s })));
  const tabs: Tab[] = [
    { key: "stitches", title: review.tabStitches, body: () => <Suturing where={where} player={player} onMap={map} /> },
    { key: "spans", title: review.tabSpans, body: () => <SpanTable lanes={shown} player={player} selection={selection} /> },
  ];
  if (known.some((one) => one.video.rights.includes("annotate")))
    tabs.push({
      key: "edit",
      title: review.tabEdit,
      body: () => (
        <>
          <p class="soft">{text.correcting(1 + all.indexOf(edited), files.length)}</p>
          <EditPanel key={edited.video.video_id} video={edited.video} layer={edited.layer} player={player} selection={selection} taxonomy={taxonomy} />
        </>
      ),
    });
  if (known.some((one) => one.video.rights.includes("comment")))
    tabs.push({ key: "comments", title: review.tabComments, body: () => <Comments video={here.video} player={player} comments={comments} /> });
  const note = whyNoPicture(here);
  const drag = here.layer.drag && ((span: Span, end: "start" | "stop", toS: number) => (ownerOf(span, known) ?? here).layer.drag?.(span, end, toS));
  return (
    <>
      <div class="review">
        <div class="stage">
          <Picture video={here.video} lanes={shown} player={player} controls={controls} reload={here.reload} note={note === null ? undefined : `${capital(text.nameOf(file.number, files.length))}: ${note}`} />
          <UnderWay video={here.video} isMapped={here.isMapped} error={here.map.error} again={here.map.reload} />
          {isMapped && <Timeline lanes={shown} player={player} selection={selection} jumps={player.jumps} comments={comments.times} borders={borders} onEnd={drag} />}
        </div>
        {isMapped && (
          <div class="beside">
            <Now lanes={shown} stitches={stitches?.stitches ?? []} player={player} hasQuality={has(PROFICIENCY)} onMore={more} />
            <Why where={where} player={player} />
            <Tabs name={review.tabs} tabs={tabs} />
            <Legend lanes={shown} />
          </div>
        )}
        {controls.isHelping && <Help onClose={controls.endHelp} />}
      </div>
      {isMapped && <Summary video={{ video_id: files[0]!.video_id, duration_s: player.durationS, job: here.video.job }} lanes={overBorders(lanes, borders)} found={stitches} chosen={found.procedure.chosen} suggested={found.procedure.suggested} files={inWords(files, borders)} />}
      <div class="under">
        <Files found={found} files={files} borders={borders} player={player} reload={reload}>
          <DeleteCase found={found} caseName={titleOf(found)} videos={known.map((one) => one.video)} />
        </Files>
        {isMapped && <CaseExports caseId={found.case_id} />}
        <div class="row per-file">
          <h2>{text.perFile(file.number, files.length)}</h2>
          {here.video.rights.includes("timeline") && <a href={toCompare(file.video_id)}>{words.value.compare.openFile(file.number, files.length)}</a>}
        </div>
        <About key={`about ${file.video_id}`} video={here.video} file={inCase} reload={here.reload} />
        <Share key={`share ${file.video_id}`} video={here.video} atS={player.timeS.peek() - file.offset_s} />
        <People key={`people ${file.video_id}`} video={here.video} reload={here.reload} />
      </div>
    </>
  );
}

/** The rows of the case that hold for the whole operation, as the service joins them; null until it has. */
function useWhole(path: string | null, mapped: string): TimelineAnswer["rows"] | null {
  const { data, reload } = useResource<TimelineAnswer>(path);
  const [asked] = useState({ mapped });
  useEffect(() => {
    if (asked.mapped !== mapped) void reload();
    asked.mapped = mapped;
  }, [mapped]);
  return data?.rows ?? null;
}

/** The file in whose layer a span is. */
const ownerOf = (span: Span | null, seen: readonly FileSeen[]): FileSeen | undefined =>
  span ? seen.find((one) => one.layer.find(span)) : undefined;

/** The files on the printed page: where each begins, and whether some are missing. */
function inWords(files: readonly CaseFile[], borders: readonly Border[]): string {
  const begins = files.map((file) => `${file.number}: ${clock(file.offset_s)}`).join(" · ");
  return borders.some((one) => one.isHidden) ? `${begins} (${words.value.files.missing})` : begins;
}
