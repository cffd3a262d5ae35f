import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import type { ApiError } from "../api/client";
import { useEvery, useResource } from "../api/resource";
import type { Timeline, Video } from "../api/types";
import { lanesOf, spansAt, useTaxonomy } from "../case/lanes";
import type { Lane } from "../case/interfaces";
import { isUnderWay, SOON_MS } from "../case/map";
import { type Playable, sourceOf } from "../case/player";
import { token } from "../case/timeline/colours";
import { VideoPlayer } from "../case/video-player";
import { type Difference, differences, shared, takes } from "../compare/differences";
import { Pair } from "../compare/pair";
import { Loading, Trouble } from "../components/messages";
import { go, toCase, toCompare, toLibrary } from "../router";
import { clock, words } from "../words";
import "./compare.css";

const KEEP_EVERY_MS = 500;

/** Two cases side by side, aligned at a step; and what differs in time. Keyed by both ids in app.tsx. */
export function Compare({ videoIds }: { videoIds: string[] }) {
  const { compare } = words.value;
  const [one, other] = videoIds;
  return (
    <article class="compare" aria-labelledby="compare-title">
      <h1 id="compare-title">{compare.title}</h1>
      {one && other ? <Both one={one} other={other} /> : one ? <Choose one={one} /> : <Nothing />}
    </article>
  );
}

const Nothing = () => (
  <p>
    {words.value.compare.none} <a href={toLibrary()}>{words.value.review.toLibrary}</a>
  </p>
);

interface Listed {
  cases: { videos: string[]; title: string }[];
}

/** The second case, from the newest ones. */
function Choose({ one }: { one: string }) {
  const { compare } = words.value;
  const { data, error, reload } = useResource<Listed>("v1/cases?limit=100");
  if (error) return <Trouble error={error} again={reload} />;
  if (!data) return <Loading />;
  const others = data.cases.flatMap((found) => found.videos.filter((id) => id !== one).map((id) => ({ id, title: found.title })));
  return (
    <p class="field">
      <label for="other">{compare.choose}</label>
      <select id="other" value="" onChange={(event) => go(toCompare(one, event.currentTarget.value))}>
        <option value="">{compare.chooseNone}</option>
        {others.map(({ id, title }) => (
          <option key={id} value={id}>
            {title} · {id.slice(0, 6)}
          </option>
        ))}
      </select>
    </p>
  );
}

function Both({ one, other }: { one: string; other: string }) {
  const [a, b] = [useCase(one), useCase(other)];
  if (a.error || b.error) return <NotBoth ids={[one, other]} errors={[a.error, b.error]} again={() => Promise.all([a.reload(), b.reload()])} />;
  if (!a.video || !b.video) return <Loading />;
  return <Aligned key={`${one} ${other}`} one={{ ...a, video: a.video }} other={{ ...b, video: b.video }} />;
}

/** Which of the two does not come, and why; what is not there is not asked for again. */
function NotBoth({ ids, errors, again }: { ids: string[]; errors: (ApiError | null)[]; again: () => unknown }) {
  return (
    <>
      {errors.map((error, n) => error && (
        <section key={n} aria-label={words.value.about.name(ids[n]!)}>
          <h2>{words.value.about.name(ids[n]!)}</h2>
          <Trouble error={error} again={error.status === 404 ? undefined : again} />
        </section>
      ))}
      <a href={toLibrary()}>{words.value.review.toLibrary}</a>
    </>
  );
}

interface Shown {
  video: Video;
  /** null while it is asked for, and where the case is not mapped. */
  lanes: Lane[] | null;
  mapped: boolean;
}

function useCase(videoId: string) {
  const video = useResource<Video>(`v1/videos/${videoId}`);
  useEvery(isUnderWay(video.data) ? SOON_MS : 0, video.reload);
  const isMapped = video.data?.job?.state === "done";
  const timeline = useResource<Timeline>(isMapped ? `v1/videos/${videoId}/timeline` : null);
  const taxonomy = useTaxonomy();
  const lanes = useMemo(
    () => (timeline.data && taxonomy ? lanesOf(timeline.data.rows, taxonomy) : null),
    [timeline.data, taxonomy],
  );
  const reload = async () => {
    await Promise.all([video.reload(), timeline.reload()]);
  };
  return { video: video.data, lanes, mapped: isMapped, error: video.error ?? timeline.error, reload };
}

const laneOf = (shown: Shown, tag: string): Lane | undefined => shown.lanes?.find((lane) => lane.tag === tag);

function Aligned({ one, other }: { one: Shown; other: Shown }) {
  const { compare } = words.value;
  const pair = useMemo(
    () => new Pair(...([one, other].map(({ video }) => new VideoPlayer(video.duration_s, video.fps || 25)) as [VideoPlayer, VideoPlayer])),
    [],
  );
  const [stepOne, stepOther] = [laneOf(one, "step"), laneOf(other, "step")];
  const steps = useMemo(() => shared(stepOne, stepOther), [stepOne, stepOther]);
  const [step, setStep] = useState("");
  const [take, setTake] = useState<[number, number]>([0, 0]);
  const found = [takes(stepOne, step), takes(stepOther, step)] as const;
  useEffect(() => pair.align(found[0][take[0]]?.startS ?? 0, found[1][take[1]]?.startS ?? 0), [step, take, stepOne, stepOther]);
  useEffect(() => {
    const timer = setInterval(() => pair.one.playing.peek() && pair.other.playing.peek() && pair.keep(), KEEP_EVERY_MS);
    return () => {
      clearInterval(timer);
      pair.pause();
    };
  }, [pair]);
  return (
    <>
      <div class="row">
        <label for="align">{compare.alignAt}</label>
        <select
          id="align"
          value={step}
          onChange={(event) => {
            setTake([0, 0]);
            setStep(event.currentTarget.value);
          }}
        >
          <option value="">{compare.beginning}</option>
          {steps.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
        {found.map(
          (spans, n) =>
            spans.length > 1 && (
              <span class="row" key={n}>
                <label for={`take-${n}`}>{n ? compare.takeOther : compare.takeOne}</label>
                <select
                  id={`take-${n}`}
                  value={String(take[n])}
                  onChange={(event) => {
                    const chosen = Number(event.currentTarget.value);
                    setTake(n ? [take[0], chosen] : [chosen, take[1]]);
                  }}
                >
                  {spans.map((span, index) => (
                    <option key={span.id} value={String(index)}>
                      {compare.takeOf(index + 1, clock(span.startS))}
                    </option>
                  ))}
                </select>
              </span>
            ),
        )}
      </div>
      {one.lanes && other.lanes && steps.length === 0 && <p class="soft">{compare.nothingShared}</p>}
      <div class="pair">
        <Side shown={one} player={pair.one} />
        <Side shown={other} player={pair.other} />
      </div>
      <Together pair={pair} />
      <Table title={compare.perStep} rows={differences(stepOne, stepOther)} names={[one, other]} />
      <Table title={compare.perPhase} rows={differences(laneOf(one, "phase"), laneOf(other, "phase"))} names={[one, other]} />
      <p class="soft">{compare.warning}</p>
    </>
  );
}

const nameOf = (shown: Shown): string => words.value.about.name(shown.video.video_id);

function Side({ shown, player }: { shown: Shown; player: VideoPlayer }) {
  const { compare, review } = words.value;
  const element = useRef<HTMLVideoElement>(null);
  const source = sourceOf(shown.video as Playable);
  useEffect(() => (element.current ? player.attach(element.current) : undefined), [player, source]);
  const step = laneOf(shown, "step");
  return (
    <section class="card" aria-label={nameOf(shown)}>
      <h2>
        <a href={toCase(shown.video.video_id)}>{nameOf(shown)}</a>
      </h2>
      {source ? <video ref={element} src={source} aria-label={review.picture} playsInline preload="metadata" /> : <p>{review.pictureNone}</p>}
      {shown.mapped ? step && <Strip lane={step} player={player} /> : <p class="soft">{compare.notMapped}</p>}
      {step && <At lane={step} player={player} />}
    </section>
  );
}

function Strip({ lane, player }: { lane: Lane; player: VideoPlayer }) {
  return (
    <svg class="strip" viewBox={`0 0 ${player.durationS} 1`} preserveAspectRatio="none" aria-hidden="true">
      {lane.spans.map((span) => (
        <rect key={span.id} x={span.startS} width={span.stopS - span.startS} height="1" style={{ fill: `var(${token(lane, span.category)})` }}>
          <title>{span.category}</title>
        </rect>
      ))}
      <Now player={player} />
    </svg>
  );
}

const Now = ({ player }: { player: VideoPlayer }) => (
  <line class="now" x1={player.timeS.value} x2={player.timeS.value} y1="0" y2="1" />
);

const At = ({ lane, player }: { lane: Lane; player: VideoPlayer }) => (
  <p class="numbers">
    {clock(player.timeS.value)} · {spansAt(lane, player.timeS.value).map((span) => span.category).join(", ")}
  </p>
);

function Together({ pair }: { pair: Pair }) {
  const { compare } = words.value;
  const since = pair.sinceS.value;
  return (
    <div class="together row" role="group" aria-label={compare.playBoth}>
      <button type="button" onClick={() => pair.toggle()}>
        {pair.playing.value ? compare.pauseBoth : compare.playBoth}
      </button>
      <button type="button" class="plain" onClick={() => pair.seek(since - 5)}>
        {compare.back}
      </button>
      <button type="button" class="plain" onClick={() => pair.seek(since + 5)}>
        {compare.on}
      </button>
      <span class="numbers">{compare.since(`${since < 0 ? "−" : ""}${clock(Math.abs(since))}`)}</span>
    </div>
  );
}

function Table({ title, rows, names }: { title: string; rows: Difference[]; names: [Shown, Shown] }) {
  const { compare } = words.value;
  if (!rows.length) return null;
  const cell = (spent: Difference["one"]) =>
    spent.times ? `${clock(Math.round(spent.seconds))} (${compare.times(spent.times)})` : compare.absent;
  const difference = (moreS: number) => {
    const time = clock(Math.round(Math.abs(moreS)));
    return Math.abs(moreS) < 0.5 ? compare.same : moreS > 0 ? compare.more(time) : compare.less(time);
  };
  return (
    <section aria-label={title}>
      <h2>{title}</h2>
      <div class="scroll" tabIndex={0} role="region" aria-label={title}>
        <table>
          <thead>
            <tr>
              <th scope="col">{compare.category}</th>
              {names.map((shown, n) => (
                <th scope="col" class="n" key={n}>
                  {nameOf(shown)}
                </th>
              ))}
              <th scope="col" class="n">{compare.difference}</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.category}>
                <th scope="row">{row.category}</th>
                <td class="n">{cell(row.one)}</td>
                <td class="n">{cell(row.other)}</td>
                <td class="n">{difference(row.moreS)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
