/** Where somebody is in the list: kept with the entry of the history, so that the way back from a case leads there. */
import { useEffect, useRef, useState } from "preact/hooks";

interface Place {
  /** The cursors of the pages before the one that is shown, and of it. */
  cursors: string[];
  /** How far it is scrolled, in pixels. */
  y: number;
}

const SETTLED_MS = 200;

function kept(): Place | null {
  const place = (history.state as { place?: Place } | null)?.place;
  return place ?? null;
}

const keep = (place: Place): void => history.replaceState({ place }, "");

interface PlaceInList {
  cursors: string[];
  turnTo: (cursors: string[]) => void;
  /** Scrolls to where the user was; to be called once the list is shown. */
  comeBack: () => void;
}

export function usePlace(): PlaceInList {
  const [entered] = useState(kept);
  const [cursors, setCursors] = useState(entered?.cursors ?? []);
  const latest = useRef(cursors);
  latest.current = cursors;
  useEffect(() => {
    let timer = 0;
    const scrolled = () => {
      clearTimeout(timer);
      timer = window.setTimeout(() => keep({ cursors: latest.current, y: scrollY }), SETTLED_MS);
    };
    addEventListener("scroll", scrolled, { passive: true });
    return () => {
      clearTimeout(timer);
      removeEventListener("scroll", scrolled);
    };
  }, []);
  return {
    cursors,
    turnTo: (next) => {
      setCursors(next);
      keep({ cursors: next, y: 0 });
    },
    comeBack: () => entered && scrollTo(0, entered.y),
  };
}
