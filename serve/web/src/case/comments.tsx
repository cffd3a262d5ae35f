import { useComputed } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { api } from "../api/client";
import { type Resource, useResource } from "../api/resource";
import type { Video } from "../api/types";
import { useAction } from "../components/action";
import { Dialog } from "../components/dialog";
import { Loading, Trouble } from "../components/messages";
import { type DraftName, draftOf, forgetDraft, keepDraft } from "../drafts";
import { whose } from "../session";
import { clockTenths, dateTime, words } from "../words";
import type { Player } from "./interfaces";
import "./comments.css";

const LONGEST = 2000;

/** A comment at a time of the video (`at_s`, seconds). `text` is no markup. */
export interface Comment {
  comment_id: string;
  at_s: number;
  text: string;
  author_name: string;
  mine: boolean;
  created_s: number;
}

export interface CommentsOfCase {
  found: Resource<Comment[]>;
  /** The comments in the order of their times. */
  list: Comment[];
  /** When something was said, for marks on the timeline. */
  times: number[];
  /** The files that comments can be on, in order, and when each begins in its case. */
  files: { videoId: string; offsetS: number }[];
  /** Adds a comment, and gives what in it looks as if it named the patient (`looksLike` of the words). */
  add: (atS: number, text: string) => Promise<string[]>;
  remove: (commentId: string) => Promise<void>;
}

/**
 * The comments of a file, for the list and for the marks on the timeline, in seconds of its case. `videoId` null: the
 * caller may not read them. `offsetS`: when the file begins in its case.
 */
export function useComments(videoId: string | null, offsetS = 0): CommentsOfCase {
  const path = `v1/videos/${videoId}/comments`;
  const found = useResource<Comment[]>(videoId && path);
  const list = useMemo(
    () => (found.data ?? []).map((one) => ({ ...one, at_s: one.at_s + offsetS })).sort((one, other) => one.at_s - other.at_s),
    [found.data, offsetS],
  );
  const times = useMemo(() => list.map((comment) => comment.at_s), [list]);
  return {
    found,
    list,
    times,
    files: videoId ? [{ videoId, offsetS }] : [],
    add: async (atS, text) => {
      const { looks_like: kinds, ...comment } = await api<Comment & { looks_like: string[] }>(path, { method: "POST", json: { at_s: Math.max(0, Math.round((atS - offsetS) * 1000) / 1000), text } });
      found.put([...(found.data ?? []), comment]);
      return kinds;
    },
    remove: async (commentId) => {
      await api(`${path}/${commentId}`, { method: "DELETE" });
      found.put((found.data ?? []).filter((comment) => comment.comment_id !== commentId));
    },
  };
}

/** What people have written about moments of the case. */
export function Comments({ video, player, comments }: { video: Video; player: Player; comments: CommentsOfCase }) {
  const { comments: text } = words.value;
  const { found, list } = comments;
  const removal = useAction(comments.remove);
  const [asked, setAsked] = useState<Comment | null>(null);
  const ownsCase = video.relations.some((relation) => relation === "owner" || relation === "administrator");
  return (
    <section class="comments" aria-labelledby="comments-title">
      <h2 id="comments-title">{text.title}</h2>
      {found.loading && <Loading />}
      <Trouble error={found.error} again={found.reload} />
      {found.data && list.length === 0 && <p class="soft">{text.none}</p>}
      <ol>
        {list.map((one) => (
          <li key={one.comment_id}>
            <div class="row">
              <button type="button" class="plain small numbers" aria-label={text.goTo(clockTenths(one.at_s))} onClick={() => player.seek(one.at_s)}>
                {clockTenths(one.at_s)}
              </button>
              <span class="soft">
                {one.author_name}, {dateTime(one.created_s)}
              </span>
              {(one.mine || ownsCase) && (
                <button type="button" class="danger small" aria-label={text.removeOf(one.author_name, clockTenths(one.at_s))} disabled={removal.busy} onClick={() => setAsked(one)}>
                  {text.remove}
                </button>
              )}
            </div>
            <p class="said">{one.text}</p>
          </li>
        ))}
      </ol>
      <Trouble error={removal.error} />
      {asked && (
        <Dialog title={text.remove} onClose={() => setAsked(null)}>
          <p>{text.sure(asked.author_name, clockTenths(asked.at_s))}</p>
          <div class="row">
            <button type="button" class="plain" onClick={() => setAsked(null)}>
              {words.value.page.cancel}
            </button>
            <button
              type="button"
              class="danger"
              onClick={() => {
                setAsked(null);
                void removal.run(asked.comment_id);
              }}
            >
              {text.remove}
            </button>
          </div>
        </Dialog>
      )}
      {found.data && <NewComment player={player} comments={comments} />}
    </section>
  );
}

/** A comment that is not sent, among those of the file in which its writing began. `fileS`: seconds of that file. */
interface Begun {
  written: string;
  fileS: number;
}

const nameOf = (author: string, videoId: string): DraftName => ({ author, of: videoId, field: "comment" });

/** The comments of a file that are not sent: the one that is in the field stands first. */
const begunIn = (name: DraftName): Begun[] => draftOf<Begun[]>(name) ?? [];

function keepBegun(name: DraftName, begun: Begun[]): void {
  if (begun.length > 0) keepDraft(name, begun);
  else forgetDraft(name);
}

function NewComment({ player, comments }: { player: Player; comments: CommentsOfCase }) {
  const { comments: text } = words.value;
  const [written, setWritten] = useState("");
  const [warnings, setWarnings] = useState<string[]>([]);
  // A comment belongs to the moment at which its writing began, although the video may play on.
  const [begunS, setBegunS] = useState<number | null>(null);
  const nowS = useComputed(() => Math.round(player.timeS.value * 10) / 10);
  const atS = begunS ?? nowS.value;
  const [author] = useState(whose.peek());
  const { files } = comments;
  /** Where the text that is in the field is kept; null: the field is empty. Other texts that are begun stay. */
  const kept = useRef<DraftName | null>(null);
  const forget = () => {
    if (kept.current) keepBegun(kept.current, begunIn(kept.current).slice(1));
    kept.current = null;
  };
  const write = (now: string) => {
    const sinceS = begunS ?? nowS.peek();
    setWritten(now);
    setBegunS(now ? sinceS : null);
    forget();
    const file = files.findLast((one) => one.offsetS <= sinceS) ?? files[0];
    if (!now || !file) return;
    kept.current = nameOf(author, file.videoId);
    keepBegun(kept.current, [{ written: now, fileS: sinceS - file.offsetS }, ...begunIn(kept.current)]);
  };
  const restore = () => {
    for (const { videoId, offsetS } of files) {
      const name = nameOf(author, videoId);
      const [begun] = begunIn(name);
      if (!begun) continue;
      kept.current = name;
      setWritten(begun.written);
      setBegunS(offsetS + begun.fileS);
      return;
    }
  };
  // The files of a case come one after the other, and what was begun may belong to a later one.
  useEffect(() => {
    if (!written) restore();
  }, [files.map((file) => file.videoId).join()]);
  const action = useAction(async () => {
    setWarnings([]);
    const found = await comments.add(atS, written.trim());
    forget();
    setWritten("");
    setBegunS(null);
    restore();
    setWarnings(found);
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (written.trim()) void action.run();
      }}
    >
      <div class="field">
        <label for="comment" class="numbers">
          {text.write(clockTenths(atS))}
        </label>
        <textarea
          id="comment"
          rows={3}
          maxLength={LONGEST}
          value={written}
          aria-describedby="comment-hint"
          onInput={(event) => write(event.currentTarget.value)}
          onBlur={() => !written && restore()}
        />
        <p id="comment-hint" class="soft">
          {text.hint}
        </p>
      </div>
      <Trouble error={action.error} />
      {warnings.length > 0 && (
        <p class="notice warn" role="alert">
          {text.warning(warnings.map((kind) => words.value.looksLike[kind] ?? kind).join("; "))}
        </p>
      )}
      <button disabled={action.busy || !written.trim()}>{text.add}</button>
    </form>
  );
}
