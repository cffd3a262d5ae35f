import { useComputed } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";

import type { Case, Cases } from "../api/cases";
import { api } from "../api/client";
import { useEvery, useResource } from "../api/resource";
import { useAction } from "../components/action";
import { sideOf } from "../compare/side";
import { Loading, Trouble } from "../components/messages";
import { NoCaseYet } from "../home/no-case-yet";
import { Card } from "../library/card";
import { isUnderWay } from "../library/case-words";
import { Filters, isFiltered, type Wanted, wantedOf } from "../library/filters";
import { Moments, momentsAddress, momentsWanted, type MomentsWanted } from "../library/moments";
import { usePlace } from "../library/place";
import { model } from "../model";
import { go, replace, toCompare, toLibrary } from "../router";
import { mayWrite } from "../session";
import { AddVideos } from "../upload/add-videos";
import { arrivals } from "../upload/queue";
import { words } from "../words";
import "./library.css";

const LOOK_EVERY_MS = 2000;
const TYPING_MS = 250;
const PAGE = 50;

/** One's cases: search in words, filters, order, page by page from the service. */
export function Library({ query }: { query: URLSearchParams }) {
  const { library } = words.value;
  const [wanted, setWanted] = useState(() => wantedOf(query));
  const asked = useSettled(wanted);
  const { cursors, turnTo, comeBack } = usePlace();
  const found = useResource<Cases>(pathOf(asked, cursors.at(-1)));
  const shown = useLast(found.data);
  useEffect(() => {
    if (shown) comeBack();
  }, [shown !== null]);
  const procedures = useComputed(() => Object.values(model.value?.instructions ?? {}).flatMap((tags) => tags.procedure ?? []));
  const [moments, setMoments] = useState(() => momentsWanted(query));
  useEffect(() => {
    setWanted(wantedOf(query));
    setMoments(momentsWanted(query));
  }, [query]);
  const change = (next: Wanted, nextMoments: MomentsWanted | null = moments) => {
    setWanted(next);
    setMoments(nextMoments);
    replace(toLibrary({ ...next, order: next.order === "newest" ? "" : next.order, ...momentsAddress(nextMoments) }));
    if (next !== wanted) turnTo([]);
  };
  useEvery(shown?.cases.some(isUnderWay) || found.error?.mayPass ? LOOK_EVERY_MS : 0, found.reload);
  useEffect(() => {
    if (arrivals.value) void found.reload();
  }, [arrivals.value]);
  const choice = useChoice(found.reload);
  // Of this very question: what was shown for a filter says nothing about all cases.
  const isEmpty = found.data?.total === 0 && !isFiltered(asked) && !isFiltered(wanted);
  return (
    <>
      <h1>{library.title}</h1>
      {mayWrite.value && <AddVideos />}
      {isEmpty ? (
        <NoCaseYet />
      ) : (
        <Filters
          wanted={wanted}
          procedures={procedures.value}
          onChange={(next) => change(next)}
          onMoments={(text) => change(wanted, { text })}
        />
      )}
      {moments && (
        <Moments
          key={JSON.stringify([moments, asked.procedure])}
          wanted={moments}
          procedure={asked.procedure}
          onClose={() => change(wanted, null)}
        />
      )}
      <Trouble error={found.error} again={found.reload} />
      {!shown && found.loading && <Loading />}
      {shown && !found.error && !isEmpty && (
        <>
          <div class="row library-bar">
            <span role="status">{library.found(shown.total)}</span>
            {shown.total > 1 && choice.bar}
          </div>
          {shown.total === 0 && <p>{library.nothing}</p>}
          <ul class="cases" aria-label={library.list} aria-busy={found.loading}>
            {shown.cases.map((one) => (
              <Card
                key={one.case_id}
                found={one}
                procedures={procedures.value}
                reload={found.reload}
                chosen={choice.placeOf(one)}
                onChoose={() => choice.toggle(one)}
              />
            ))}
          </ul>
          <div class="row">
            {cursors.length > 0 && (
              <button type="button" class="plain" onClick={() => turnTo(cursors.slice(0, -1))}>
                {library.previous}
              </button>
            )}
            {shown.next && (
              <button type="button" class="plain" onClick={() => turnTo([...cursors, shown.next!])}>
                {library.next}
              </button>
            )}
          </div>
        </>
      )}
    </>
  );
}

function pathOf(wanted: Wanted, cursor: string | undefined): string {
  const given = Object.entries({ ...wanted, cursor: cursor ?? "" }).filter(([, value]) => value);
  return `v1/cases?${new URLSearchParams([...given, ["limit", String(PAGE)]])}`;
}

/** The value once it has not changed for a moment: not every letter is a search. */
function useSettled<T>(value: T): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), TYPING_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}

/** What was shown last, until there is something newer, so that a search does not blink. */
function useLast<T>(value: T | null): T | null {
  const last = useRef(value);
  if (value) last.current = value;
  return last.current;
}

/** Choosing cases: to make one of them, or to compare two; in the order of the choice. */
function useChoice(reload: () => Promise<void>) {
  const { library } = words.value;
  const [chosen, setChosen] = useState<Case[] | null>(null);
  const group = useAction(async () => {
    await api("v1/cases", { method: "POST", json: { video_ids: chosen!.flatMap((one) => one.videos) } });
    setChosen(null);
    await reload();
  });
  const place = (found: Case) => (chosen ?? []).findIndex((one) => one.case_id === found.case_id) + 1;
  const bar = !chosen ? (
    <button type="button" class="plain small" onClick={() => setChosen([])}>
      {library.choose}
    </button>
  ) : (
    <div class="row">
      <Trouble error={group.error} />
      <span>{library.chosen(chosen.length)}</span>
      {mayWrite.value && (
        <button
          type="button"
          class="small"
          title={library.groupMeans}
          disabled={chosen.length < 2 || group.busy}
          onClick={() => void group.run()}
        >
          {library.group}
        </button>
      )}
      <button
        type="button"
        class="small"
        disabled={chosen.length !== 2}
        onClick={() => go(toCompare(...chosen.map(sideOf)))}
      >
        {library.compare}
      </button>
      <button type="button" class="plain small" onClick={() => setChosen(null)}>
        {library.chooseEnd}
      </button>
    </div>
  );
  return {
    bar,
    placeOf: (found: Case) => (chosen ? place(found) : null),
    toggle: (found: Case) =>
      setChosen((before) => {
        if (!before) return before;
        return place(found) ? before.filter((one) => one.case_id !== found.case_id) : [...before, found];
      }),
  };
}
