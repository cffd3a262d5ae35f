import { useEffect, useState } from "preact/hooks";

import { api } from "../api/client";
import type { Moment } from "../case/edit/corrections";
import { useAction } from "../components/action";
import { Loading, Trouble } from "../components/messages";
import { isVideoId, toCase } from "../router";
import { clock, percent, words } from "../words";
import "./moments.css";

/** What moments are looked for: those that words describe, or those like a second of a case. */
export type MomentsWanted = { text: string } | { video_id: string; at_s: number };

/** `moments=WORDS` or `like=VIDEO@SECOND` of the address; null where it names neither. */
export function momentsWanted(query: URLSearchParams): MomentsWanted | null {
  const [videoId = "", second = ""] = (query.get("like") ?? "").split("@");
  if (isVideoId(videoId)) return { video_id: videoId, at_s: Math.max(0, Number(second) || 0) };
  const text = query.get("moments")?.trim();
  return text ? { text } : null;
}

export const momentsAddress = (wanted: MomentsWanted | null): Record<string, string> => {
  if (!wanted) return {};
  return "text" in wanted ? { moments: wanted.text } : { like: `${wanted.video_id}@${Math.round(wanted.at_s * 10) / 10}` };
};

interface Props {
  wanted: MomentsWanted;
  /** Only moments of which the map says this procedure; empty: all. */
  procedure: string;
  onClose: () => void;
}

/** The moments that were found in one's cases. Keyed by what is wanted. */
export function Moments({ wanted, procedure, onClose }: Props) {
  const { moments: text } = words.value.library;
  const [found, setFound] = useState<Moment[] | null>(null);
  const search = useAction(async () => {
    const json = { ...wanted, ...(procedure && { procedure }) };
    setFound((await api<{ moments: Moment[] }>("v1/search", { method: "POST", json })).moments);
  });
  useEffect(() => void search.run(), []);
  return (
    <section class="moments card" aria-labelledby="moments-title">
      <div class="row library-bar">
        <h2 id="moments-title">{titleOf(wanted)}</h2>
        <button type="button" class="plain small" onClick={onClose}>
          {text.close}
        </button>
      </div>
      <Trouble error={search.error} again={search.run} />
      {search.busy && <Loading />}
      {found && !search.busy && <p role="status">{found.length ? text.found(found.length) : text.none}</p>}
      <ul aria-labelledby="moments-title" aria-busy={search.busy}>
        {(found ?? []).map((one) => (
          <li key={`${one.video_id} ${one.start_s}`}>
            <MomentCard moment={one} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function MomentCard({ moment }: { moment: Moment }) {
  const { library, about } = words.value;
  const [hasPoster, setHasPoster] = useState(true);
  return (
    <a href={toCase(moment.video_id, moment.start_s)}>
      <span class="poster">
        {hasPoster ? (
          <img src={`v1/videos/${moment.video_id}/poster`} alt="" loading="lazy" onError={() => setHasPoster(false)} />
        ) : (
          <span class="soft">{library.noPoster}</span>
        )}
      </span>
      <b>{library.moments.at(clock(moment.start_s), about.name(moment.video_id))}</b>
      <span>{moment.row ? moment.row.category : library.moments.noRow}</span>
      <span class="soft">{library.moments.alike(percent(Math.max(0, moment.similarity)))}</span>
    </a>
  );
}

function titleOf(wanted: MomentsWanted): string {
  const { library, about } = words.value;
  if ("text" in wanted) return library.moments.described(wanted.text);
  return library.moments.like(clock(wanted.at_s), about.name(wanted.video_id));
}
