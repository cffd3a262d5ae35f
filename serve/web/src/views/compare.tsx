import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import type { ApiError } from "../api/client";
import type { Case } from "../api/cases";
import { useResource } from "../api/resource";
import { spansAt } from "../case/lanes";
import type { Lane } from "../case/interfaces";
import { type Playable, sourceOf } from "../case/player";
import { token } from "../case/timeline/colours";
import { VideoPlayer } from "../case/video-player";
import { type Difference, differences, shared, takes } from "../compare/differences";
import { Pair } from "../compare/pair";
import { type FileOfSide, nameOf, type Side, sideOf, useSide } from "../compare/side";
import { Choice } from "../components/choice";
import { Loading, Trouble } from "../components/messages";
import { go, toCompare, toLibrary } from "../router";
import { clock, words } from "../words";
import "./compare.css";

const KEEP_EVERY_MS = 500;

/** Two cases side by side, aligned at a step; and what differs in time. Keyed by both ids in app.tsx. */
export function Compare({ sides }: { sides: string[] }) {
  const { compare } = words.value;
  const [one, other] = sides;
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
  cases: Pick<Case, "case_id" | "videos" | "title">[];
}

/** The second case, from the newest ones: each whole, and a case of several files also by its files. */
function Choose({ one }: { one: string }) {
  const { compare, files, library } = words.value;
  const [other, setOther] = useState("");
  const { data, error, reload } = useResource<Listed>("v1/cases?limit=100");
  if (error) return <Trouble error={error} again={reload} />;
  if (!data) return <Loading />;
  const others = data.cases
    .flatMap((found) => {
      const count = found.videos.length;
      const name = `${found.title} · ${found.videos[0]!.slice(0, 6)}`;
      const ofFiles = found.videos.map((id, n): [string, string] => [id, `${name} · ${files.nameOf(n + 1, count)}`]);
      const whole: [string, string] = [sideOf(found), count > 1 ? compare.whole(name, count) : name];
      return count > 1 ? [whole, ...ofFiles] : [whole];
    })
    .filter(([id]) => id !== one);
  if (others.length === 0) return <p>{compare.noOther}</p>;
  return (
    <form
      class="row"
      onSubmit={(event) => {
        event.preventDefault();
        if (other) go(toCompare(one, other));
      }}
    >
      <Choice id="other" label={compare.choose} value={other} onChange={setOther} options={[["", compare.chooseNone], ...others]} />
      <button disabled={!other}>{library.compare}</button>
    </form>
  );
}

function Both({ one, other }: { one: string; other: string }) {
  const [a, b] = [useSide(one), useSide(other)];
  if (a.error || b.error) return <NotBoth ids={[one, other]} errors={[a.error, b.error]} again={() => Promise.all([a.reload(), b.reload()])} />;
  if (!a.side || !b.side) return <Loading />;
  return <Aligned key={`${lengths(a.side)} ${lengths(b.side)}`} one={a.side} other={b.side} />;
}

/** Files that are added or put in another order make another player. */
const lengths = (side: Side): string => side.files.map((file) => `${file.videoId} ${file.offsetS}`).join();

/** Which of the two does not come, and why; what is not there is not asked for again. */
function NotBoth({ ids, errors, again }: { ids: string[]; errors: (ApiError | null)[]; again: () => unknown }) {
  return (
    <>
      {errors.map((error, n) => error && (
        <section key={n} aria-label={nameOf(ids[n]!)}>
          <h2>{nameOf(ids[n]!)}</h2>
          <Trouble error={error} again={error.status === 404 ? undefined : again} />
        </section>
      ))}
      <a href={toLibrary()}>{words.value.review.toLibrary}</a>
    </>
  );
}

const laneOf = (shown: Side, tag: string): Lane | undefined => shown.lanes?.find((lane) => lane.tag === tag);

function Aligned({ one, other }: { one: Side; other: Side }) {
  const { compare } = words.value;
  const pair = useMemo(
    () => new Pair(playerOf(one), playerOf(other)),
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
        <SideShown shown={one} player={pair.one} />
        <SideShown shown={other} player={pair.other} />
      </div>
      <Together pair={pair} />
      <Table title={compare.perStep} rows={differences(stepOne, stepOther)} names={[one, other]} />
      <Table title={compare.perPhase} rows={differences(laneOf(one, "phase"), laneOf(other, "phase"))} names={[one, other]} />
      <p class="soft">{compare.warning}</p>
    </>
  );
}

const FPS = 25; // both move by seconds alone, so no frame is counted

function playerOf({ files }: Side): VideoPlayer {
  const last = files.at(-1)!;
  const parts = files.map(({ offsetS, durationS }) => ({ offsetS, durationS, fps: FPS }));
  return new VideoPlayer(last.offsetS + last.durationS, FPS, 0, parts, (part) => files[part]?.hasPicture ?? false);
}

function SideShown({ shown, player }: { shown: Side; player: VideoPlayer }) {
  const { compare, files } = words.value;
  const step = laneOf(shown, "step");
  const [part, count] = [player.part.value, shown.files.length];
  return (
    <section class="card" aria-label={shown.name}>
      <h2>
        <a href={shown.href}>{shown.name}</a>
      </h2>
      <FilePicture file={shown.files[part]!} player={player} />
      {count > 1 && <p class="soft">{files.heading(part + 1, count)}</p>}
      {shown.isMapped ? step && <Strip lane={step} player={player} /> : <p class="soft">{compare.notMapped}</p>}
      {step && <At lane={step} player={player} />}
    </section>
  );
}

/** The picture of the file that is played. */
function FilePicture({ file, player }: { file: FileOfSide; player: VideoPlayer }) {
  const { review } = words.value;
  const element = useRef<HTMLVideoElement>(null);
  const { data: video } = useResource<Playable>(`v1/videos/${file.videoId}`);
  const mayWatch = video?.rights.includes("watch") ?? true;
  const source = video && mayWatch && file.hasPicture ? sourceOf(video) : null;
  useEffect(() => (element.current ? player.attach(element.current) : undefined), [player, source]);
  if (source) return <video ref={element} src={source} aria-label={review.picture} playsInline preload="metadata" />;
  return video && <p>{mayWatch ? review.pictureNone : review.notYours}</p>;
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

function Table({ title, rows, names }: { title: string; rows: Difference[]; names: [Side, Side] }) {
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
      <div class="scroll" tabIndex={0} role="group" aria-label={title}>
        <table>
          <thead>
            <tr>
              <th scope="col">{compare.category}</th>
              {names.map((shown, n) => (
                <th scope="col" class="n" key={n}>
                  {shown.name}
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
