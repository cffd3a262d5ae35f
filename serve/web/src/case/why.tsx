/** What the map's words for one moment rest on: statements that the service derives from rows, each row a way to it. */
import { effect } from "@preact/signals";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import { useResource } from "../api/resource";
import { Trouble } from "../components/messages";
import { linked } from "../session";
import { clock, clockTenths, number, percent, words } from "../words";
import { laneName } from "./describe";
import type { Player } from "./interfaces";
import { PROFICIENCY } from "./lanes";
import { qualityShown } from "./quality";
import "./why.css";

/** So long the moment must stand still before it is asked for: somebody who drags the position asks once. */
export const SETTLED_MS = 300;
const LEVELS = ["perception", "relation", "context"] as const;

/** A row of the map. Times in seconds of the video, or of the case where that was asked. */
export interface Evidence {
  row: number;
  start_s: number;
  stop_s: number;
  tag: string;
  category: string;
  confidence: number;
  source: string;
}

export interface Statement {
  level: (typeof LEVELS)[number];
  /** A tag, `acts`, or such as `step before` and `step next`. */
  about: string;
  /** null: it is not known, and `why` says why. */
  said: string | null;
  confidence: number | null;
  rests_on: Evidence[];
  why: "" | "no row" | "not learned" | "not mapped" | "not asked" | "none there" | "nothing done";
  /** Tag and category under which the tag is asked, where `why` is `not asked`. */
  needs: [string, string] | null;
  /** Tags of a relation that are not known. */
  missing: string[];
}

export interface Explanation {
  at_s: number;
  statements: Statement[];
}

/**
 * A quiet panel that says, once it is opened, what the map's words for this moment rest on. It asks when it is opened,
 * when the video stands still, and when it is pressed; never with the frames. `where`: of a file, `v1/videos/…`, or of
 * a case, `v1/cases/…`.
 */
export function Why({ where, player }: { where: string; player: Player }) {
  const { why: text } = words.value.review;
  const [isOpen, setOpen] = useState(false);
  const [askedS, setAskedS] = useState<number | null>(null);
  const id = useId();
  const ask = (s: number) => setAskedS(within(s, player.durationS));
  useEffect(() => {
    if (!isOpen) return;
    ask(player.timeS.peek());
    let timer = 0;
    const end = effect(() => {
      const s = player.timeS.value;
      clearTimeout(timer);
      if (!player.playing.value) timer = window.setTimeout(() => ask(s), SETTLED_MS);
    });
    return () => {
      end();
      clearTimeout(timer);
    };
  }, [isOpen, player]);
  const { data, error, loading, reload } = useResource<Explanation>(isOpen && askedS !== null ? `${where}/explanation?at_s=${askedS}` : null);
  // What was shown stays, under its own time, until the next answer is there: the panel does not jump at each pause.
  const last = useRef<{ where: string; found: Explanation } | null>(null);
  if (data) last.current = { where, found: data };
  const shown = data ?? (loading && last.current?.where === where ? last.current.found : null);
  return (
    <section class="why card">
      <h2>
        <button type="button" class="plain small" aria-expanded={isOpen} aria-controls={id} onClick={() => setOpen(!isOpen)}>
          {text.title}
        </button>
      </h2>
      <div id={id} hidden={!isOpen} aria-busy={loading}>
        <Trouble error={error} again={reload} />
        {loading && !shown && <p class="soft">{words.value.page.loading}</p>}
        {shown && <Explained found={shown} player={player} />}
        {player.playing.value && (
          <p>
            <button type="button" class="plain small" onClick={() => ask(player.timeS.peek())}>
              {text.askNow}
            </button>
          </p>
        )}
      </div>
    </section>
  );
}

/** `s` within what may be asked for: before the end of the video, and within the part that a link shows. */
function within(s: number, durationS: number): number {
  const [fromS, toS] = [linked.value?.from_s ?? 0, linked.value?.to_s ?? durationS];
  return Math.max(fromS, Math.min(s, toS - 0.001), 0);
}

function Explained({ found, player }: { found: Explanation; player: Player }) {
  const { why: text } = words.value.review;
  const statements = found.statements.filter((one) => one.about !== PROFICIENCY || qualityShown.value);
  const known = statements.filter((one) => one.said !== null);
  return (
    <>
      <p class="soft">
        <span role="status">{text.at(clockTenths(found.at_s))}</span> {text.how}
      </p>
      {known.length === 0 && <p>{text.nothing}</p>}
      {LEVELS.map((level) => {
        const own = known.filter((one) => one.level === level);
        if (own.length === 0) return null;
        return (
          <div key={level}>
            <h3>{text.levels[level]}</h3>
            <dl>
              {own.map((one, n) => (
                <div key={`${one.about} ${n}`}>
                  <dt>{nameOf(one.about)}</dt>
                  <dd>
                    <b>{saidOf(one, found.at_s)}</b>{" "}
                    <span class="soft">
                      {one.confidence !== null && words.value.review.sure(percent(one.confidence))}
                      {one.missing.length > 0 && `; ${text.notKnown(one.missing.map(laneName).join(", "))}`}
                    </span>
                    <Rows rows={one.rests_on} player={player} />
                  </dd>
                </div>
              ))}
            </dl>
          </div>
        );
      })}
      <Unknown statements={statements.filter((one) => one.said === null)} player={player} />
    </>
  );
}

/** What is not known, once for each reason and stretch. */
function Unknown({ statements, player }: { statements: Statement[]; player: Player }) {
  const groups = new Map<string, Statement[]>();
  for (const one of statements) {
    const key = `${reasonOf(one)} ${one.rests_on.map((row) => `${row.tag} ${row.start_s} ${row.stop_s}`).join()}`;
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  if (groups.size === 0) return null;
  return (
    <>
      <h3>{words.value.review.why.unknown}</h3>
      <ul class="soft">
        {[...groups.values()].map((own, n) => (
          <li key={n}>
            {own.map((one) => nameOf(one.about)).join(", ")}: {reasonOf(own[0]!)}
            <Rows rows={own[0]!.rests_on} player={player} />
          </li>
        ))}
      </ul>
    </>
  );
}

/** The rows of a statement, each a button that goes to its begin. Keyed by place: what has the focus keeps it. */
function Rows({ rows, player }: { rows: Evidence[]; player: Player }) {
  const { why: text } = words.value.review;
  return (
    <span class="rows">
      {rows.map((row, n) => {
        const [from, to] = [clockTenths(row.start_s), clockTenths(row.stop_s)];
        const what = row.tag === "gap" || row.tag === "unknown" ? laneName(row.tag) : row.category;
        return (
          <button key={n} type="button" class="plain small" aria-label={text.goTo(what, from, to)} title={text.row(row.row)} onClick={() => player.seek(row.start_s)}>
            {rows.length > 1 && `${what} `}
            <span class="numbers">{`${from}–${to}`}</span>
          </button>
        );
      })}
    </span>
  );
}

function nameOf(about: string): string {
  const { why: text } = words.value.review;
  if (about === "acts") return text.acts;
  const around = /^(.*) (before|next)$/.exec(about);
  return around ? text[around[2] as "before" | "next"](laneName(around[1]!)) : laneName(about);
}

/** What a statement says, in the user's language, from its rows. */
function saidOf(one: Statement, atS: number): string {
  const { why: text } = words.value.review;
  const [first, ...others] = one.rests_on;
  if (!first) return one.said ?? "";
  if (one.about === "acts") {
    const [instrument, arm] = ["instrument", "arm"].map((tag) => others.find((row) => row.tag === tag)?.category);
    const who = arm ? `${instrument ?? text.anInstrument} (${laneName("arm")}: ${arm})` : instrument;
    const more = others.filter((row) => row.tag !== "instrument" && row.tag !== "arm").map((row) => `${laneName(row.tag)} ${row.category}`);
    return [who ? `${who}: ${first.category}` : first.category, ...more].join(", ");
  }
  if (one.about.endsWith(" before")) return `${first.category}, ${text.ended(away(atS - first.stop_s))}`;
  if (one.about.endsWith(" next")) return `${first.category}, ${text.begins(away(first.start_s - atS))}`;
  return first.category;
}

const away = (seconds: number): string => (seconds < 90 ? `${number(seconds, 1)} s` : clock(seconds));

function reasonOf(one: Statement): string {
  const { review } = words.value;
  const first = one.rests_on[0];
  if (one.why === "not mapped" && first) return review.gap(first.category);
  if (one.why === "not asked" && one.needs && first) return review.why.notAsked(laneName(one.needs[0]), one.needs[1], first.category);
  return review.why.reasons[one.why] ?? review.why.reasons["no row"]!;
}
