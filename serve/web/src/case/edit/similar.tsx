import { useState } from "preact/hooks";

import { ApiError, api } from "../../api/client";
import type { Video } from "../../api/types";
import { useAction } from "../../components/action";
import { Trouble, told } from "../../components/messages";
import { toCase } from "../../router";
import { clockTenths, percent, words } from "../../words";
import type { Player } from "../interfaces";
import { type Annotations, type Change, rounded, rowId, shifted } from "./changes";
import { type Moment, sameAt } from "./corrections";
import type { Layer } from "./layer";
import type { LayerSpan } from "./merged";

const LIMIT = 20;

interface Offer {
  id: string;
  moment: Moment;
  change: Change;
}

/** Of the moments, those where the same would say something new, each row of the model once. */
export function offers(span: LayerSpan, moments: readonly Moment[], videoId: string, layer: Layer): Offer[] {
  const found = new Map<string, Offer>();
  for (const moment of moments) {
    const change = sameAt(span, moment);
    if (!change) continue;
    const isHere = moment.video_id === videoId;
    const answered = change.row && isHere ? layer.find(rowId(change.row))?.state : undefined;
    const overlaps = isHere && change.start_s < span.stopS && change.stop_s > span.startS;
    const id = `${moment.video_id} ${rowId(change)}`;
    if (!answered && !overlaps && !found.has(id)) found.set(id, { id, moment, change });
  }
  return [...found.values()];
}

/** Offers to say the same of moments that are like the corrected `span`. They are shown before anything is said. */
export function SimilarMoments({ video, layer, player, span }: { video: Video; layer: Layer; player: Player; span: LayerSpan | null }) {
  if (!span) return null;
  return <Offers key={`${span.id} ${span.category} ${span.state}`} video={video} layer={layer} player={player} span={span} />;
}

function Offers({ video, layer, player, span }: { video: Video; layer: Layer; player: Player; span: LayerSpan }) {
  const { edit: text } = words.value;
  const [found, setFound] = useState<Offer[] | null>(null);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [said, setSaid] = useState<string[]>([]);
  const look = useAction(async () => {
    setSaid([]);
    const [start_s, stop_s] = [span.startS, span.stopS].map((s) => String(rounded(s - layer.offsetS)));
    const query = new URLSearchParams({ start_s: start_s!, stop_s: stop_s!, limit: String(LIMIT), tag: span.tag });
    const moments = await api<Moment[]>(`v1/videos/${video.video_id}/similar?${query}`);
    // Moments of this file have the times of its case, as its layer has; those of other files keep their own.
    const here = moments.map((one) => (one.video_id === video.video_id ? { ...shifted(one, layer.offsetS), row: one.row && shifted(one.row, layer.offsetS) } : one));
    setFound(offers(span, here, video.video_id, layer));
  });
  const take = useAction(async () => {
    const taken = (found ?? []).filter((one) => chosen.has(one.id));
    const { done, refused } = await sayAt(taken, video.video_id, layer);
    setSaid([...(done.size ? [text.applied(done.size)] : []), ...refused]);
    setFound((found ?? []).filter((one) => !done.has(one.id)));
    setChosen(new Set([...chosen].filter((id) => !done.has(id))));
  });
  const choose = (id: string, on: boolean) => {
    const next = new Set(chosen);
    if (on) next.add(id);
    else next.delete(id);
    setChosen(next);
  };
  return (
    <div class="part" role="group" aria-labelledby="similar-title">
      <h3 id="similar-title">{text.similar}</h3>
      <p class="soft">{text.similarHint}</p>
      <button type="button" class="plain small" disabled={look.busy} onClick={() => void look.run()}>
        {text.similarFind}
      </button>
      <Trouble error={look.error} again={look.run} />
      {found?.length === 0 && said.length === 0 && <p role="status">{text.similarNone}</p>}
      {found && found.length > 0 && (
        <>
          <p id="similar-for">{span.state === "rejected" ? text.similarNot(span.category) : text.similarFor(span.category)}</p>
          <ul class="list" aria-labelledby="similar-for">
            {found.map((one) => (
              <li key={one.id}>
                <OfferLine one={one} isHere={one.moment.video_id === video.video_id} player={player} isChosen={chosen.has(one.id)} onChoose={(on) => choose(one.id, on)} />
              </li>
            ))}
          </ul>
          <button type="button" disabled={take.busy || chosen.size === 0} onClick={() => void take.run()}>
            {text.apply(chosen.size)}
          </button>
        </>
      )}
      <Trouble error={take.error} />
      {said.length > 0 && (
        <div role="status">
          {said.map((line) => (
            <p key={line}>{line}</p>
          ))}
        </div>
      )}
    </div>
  );
}

function OfferLine({ one, isHere, player, isChosen, onChoose }: { one: Offer; isHere: boolean; player: Player; isChosen: boolean; onChoose: (on: boolean) => void }) {
  const { edit: text } = words.value;
  const { change, moment } = one;
  const name = caseName(moment.video_id, isHere);
  const time = clockTenths(change.start_s);
  return (
    <>
      <label class="row">
        <input type="checkbox" checked={isChosen} onChange={(event) => onChoose(event.currentTarget.checked)} />
        <span>
          {text.choose(name, time)}
          <span class="soft">
            {" "}
            · {moment.row ? text.modelThere(moment.row.category) : text.nobodyThere} · {text.alike(percent(Math.max(0, moment.similarity)))}
          </span>
        </span>
      </label>
      {isHere ? (
        <button type="button" class="plain small" aria-label={`${text.play}: ${time}`} onClick={() => player.playSpan(change.start_s, change.stop_s)}>
          {text.play}
        </button>
      ) : (
        <a href={toCase(moment.video_id, change.start_s)} target="_blank" rel="noreferrer">
          {text.goTo(time)}
        </a>
      )}
    </>
  );
}

const caseName = (videoId: string, isHere: boolean): string => (isHere ? words.value.edit.thisCase : words.value.edit.case(videoId));

/** Says the chosen: of this case through its layer, so that undo takes it back; of other cases one after the other. */
async function sayAt(taken: readonly Offer[], videoId: string, layer: Layer): Promise<{ done: Set<string>; refused: string[] }> {
  const { edit: text } = words.value;
  const done = new Set<string>();
  const refused: string[] = [];
  const here = taken.filter((one) => one.moment.video_id === videoId);
  layer.apply(here.map((one) => one.change));
  for (const one of here) done.add(one.id);
  const others = new Map<string, Offer[]>();
  for (const one of taken) if (one.moment.video_id !== videoId) others.set(one.moment.video_id, [...(others.get(one.moment.video_id) ?? []), one]);
  for (const [id, wanted] of others) {
    try {
      for (const one of await sayInCase(id, wanted)) done.add(one.id);
      if (wanted.some((one) => !done.has(one.id))) refused.push(text.notApplied(caseName(id, false), text.similarAnswered));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      refused.push(text.notApplied(caseName(id, false), told(error)));
    }
  }
  return { done, refused };
}

/** Gives what was said: not what somebody has said something about since. */
async function sayInCase(videoId: string, wanted: readonly Offer[]): Promise<Offer[]> {
  const path = `v1/videos/${videoId}/annotations`;
  const { revision, spans } = await api<Annotations>(path);
  const answered = new Set(spans.flatMap((mark) => (mark.row ? [rowId(mark.row)] : [])));
  const free = wanted.filter(({ change }) => !change.row || !answered.has(rowId(change.row)));
  if (free.length) await api(path, { method: "POST", json: { revision, changes: free.map((one) => one.change) } });
  return free;
}
