import { useState } from "preact/hooks";

import type { Link, LinkMade } from "../api/cases";
import { ApiError, api } from "../api/client";
import { useResource } from "../api/resource";
import type { Video } from "../api/types";
import { useAction } from "../components/action";
import { Choice } from "../components/choice";
import { Trouble } from "../components/messages";
import { Secret } from "../components/secret";
import { SpanFields, spanOf, spanText } from "../components/span-fields";
import "../components/plain-list.css";
import { clock, date, dateTime, words } from "../words";

const SHOWS: Record<string, string[]> = { both: ["video", "timeline"], video: ["video"], timeline: ["timeline"] };

/** Read-only links to a case: makes one, lists those that run, ends one. */
export function Links({ video }: { video: Video }) {
  const { share } = words.value;
  const where = `v1/videos/${video.video_id}/links`;
  const links = useResource<Link[]>(where);
  const [days, setDays] = useState("7");
  const [shows, setShows] = useState("both");
  const [isRated, setRated] = useState(false);
  const [isPart, setPart] = useState(false);
  const [span, setSpan] = useState(() => spanText(0, video.duration_s));
  const [made, setMade] = useState("");
  const action = useAction(async () => {
    setMade("");
    const json: Record<string, unknown> = { days: Number(days), shows: [...SHOWS[shows]!, ...(isRated && shows !== "video" ? ["proficiency"] : [])] };
    if (isPart) {
      const found = spanOf(span, video.duration_s);
      if (!found) throw new ApiError(422, share.timeRule);
      [json.from_s, json.to_s] = found;
    }
    setMade((await api<LinkMade>(where, { method: "POST", json })).url);
    await links.reload();
  });
  return (
    <section aria-labelledby="share-links">
      <h2 id="share-links">{share.links}</h2>
      <p class="soft">{share.linksMean}</p>
      <Trouble error={action.error ?? links.error} />
      <form
        class="row"
        aria-labelledby="share-links"
        onSubmit={(event) => {
          event.preventDefault();
          void action.run();
        }}
      >
        <Choice id="link-days" label={share.days} value={days} onChange={setDays} options={share.periods} />
        <Choice
          id="link-shows"
          label={share.shows}
          value={shows}
          onChange={setShows}
          options={{ both: share.both, video: share.onlyVideo, timeline: share.onlyMap }}
        />
        {shows !== "video" && (
          <label class="check">
            <input type="checkbox" checked={isRated} onChange={(event) => setRated(event.currentTarget.checked)} />
            {share.withProficiency}
          </label>
        )}
        <label class="check">
          <input type="checkbox" checked={isPart} onChange={(event) => setPart(event.currentTarget.checked)} />
          {share.part}
        </label>
        {isPart && <SpanFields id="link" value={span} onChange={setSpan} />}
        <button disabled={action.busy}>{share.make}</button>
      </form>
      <div role="status">
        {made && (
          <>
            <p>{share.made}</p>
            <Secret text={made} />
          </>
        )}
      </div>
      {links.data && links.data.length > 0 && (
        <ul class="plain-list" aria-label={share.linkList}>
          {links.data.map((link) => (
            <LinkLine key={link.link_id} where={where} link={link} reload={links.reload} />
          ))}
        </ul>
      )}
    </section>
  );
}

function LinkLine({ where, link, reload }: { where: string; link: Link; reload: () => Promise<void> }) {
  const { share } = words.value;
  const action = useAction(async () => {
    await api(`${where}/${link.link_id}`, { method: "DELETE" });
    await reload();
  });
  const has = (what: string) => link.shows.includes(what);
  const shown = has("video") && has("timeline") ? share.both : has("video") ? share.onlyVideo : share.onlyMap;
  const what = has("proficiency") ? share.andProficiency(shown) : shown;
  const part = link.from_s !== null && link.to_s !== null ? ` ${share.partLine(clock(link.from_s), clock(link.to_s))}` : "";
  return (
    <li class="row">
      <span class="what">{share.linkLine(what + part, date(link.expires_s), link.created_by_name)}</span>
      <button
        type="button"
        class="danger small"
        aria-label={share.endOf(dateTime(link.created_s))}
        disabled={action.busy}
        onClick={() => void action.run()}
      >
        {share.end}
      </button>
      <Trouble error={action.error} />
    </li>
  );
}
