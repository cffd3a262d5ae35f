import { api } from "../api/client";
import { useResource } from "../api/resource";
import type { People as PeopleShown, Share as ShareShown, Video } from "../api/types";
import { useAction } from "../components/action";
import { Trouble } from "../components/messages";
import "../components/plain-list.css";
import { date, words } from "../words";
import { Keeping } from "./keeping";
import "./people.css";
import { ShareForm } from "./share-form";

interface Props {
  video: Video;
  /** Asks the service for the case anew, since what the user may do with it has changed. */
  reload: () => Promise<void>;
}

/** Whose case it is, with whom it is shared, the patient's consent, how long the case is kept, and a legal hold. */
export function People({ video, reload }: Props) {
  const { people: text } = words.value;
  const may = (right: string) => video.rights.includes(right);
  const found = useResource<PeopleShown>(may("people") ? `v1/videos/${video.video_id}/people` : null);
  const people = found.data;
  if (!may("people")) return null;
  if (!people) return <Trouble error={found.error} again={found.reload} />;
  return (
    <details class="card people">
      <summary>{summaryOf(video, people)}</summary>
      {people.shares.length === 0 && <p class="soft">{text.sharedNobody}</p>}
      <ul class="plain-list" aria-label={text.shares}>
        {people.shares.map((share) => (
          <Share key={share.share_id} video={video} share={share} mayEnd={may("share")} reload={found.reload} />
        ))}
      </ul>
      {may("share") && <ShareForm videoId={video.video_id} reload={found.reload} />}
      {may("keep") && <Keeping video={video} reload={reload} />}
      {may("hold") && <Hold video={video} reload={reload} />}
    </details>
  );
}

function summaryOf(video: Video, people: PeopleShown): string {
  const { people: text } = words.value;
  return [
    people.owner_name ? text.caseOf(people.owner_name) : text.nobodys,
    people.shares.length ? text.sharedWith(people.shares.length) : text.notShared,
    text.consents[video.consent] ?? video.consent,
    video.keep_until_s ? text.keptUntil(date(video.keep_until_s)) : text.keptOpen,
    ...(video.legal_hold ? [text.hold] : []),
  ].join(" · ");
}

interface ShareProps {
  video: Video;
  share: ShareShown;
  mayEnd: boolean;
  reload: () => Promise<void>;
}

/** One share: with whom, as what, until when, from whom. */
function Share({ video, share, mayEnd, reload }: ShareProps) {
  const { people: text } = words.value;
  const action = useAction(async () => {
    await api(`v1/videos/${video.video_id}/shares/${share.share_id}`, { method: "DELETE" });
    await reload();
  });
  const from = share.granted_by_name && share.expires_s ? `, ${text.from(share.granted_by_name)}` : "";
  return (
    <li class="row">
      <div class="what">
        <b>{share.name}</b>
        <span class="soft">
          {text.relations[share.relation] ?? share.relation},{" "}
          {share.expires_s ? text.until(date(share.expires_s)) : text.always}
          {from}
        </span>
      </div>
      {mayEnd && (
        <button
          type="button"
          class="danger small"
          aria-label={text.withdrawOf(share.name)}
          disabled={action.busy}
          onClick={() => void action.run()}
        >
          {text.withdraw}
        </button>
      )}
      <Trouble error={action.error} />
    </li>
  );
}

function Hold({ video, reload }: Props) {
  const { people: text } = words.value;
  const action = useAction(async () => {
    await api(`v1/videos/${video.video_id}/hold`, { method: "PUT", json: { legal_hold: !video.legal_hold } });
    await reload();
  });
  return (
    <>
      <Trouble error={action.error} />
      <button type="button" class="plain" disabled={action.busy} onClick={() => void action.run()}>
        {video.legal_hold ? text.endHold : text.beginHold}
      </button>
    </>
  );
}
