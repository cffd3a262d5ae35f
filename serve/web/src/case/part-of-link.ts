/**
 * The picture of a link that shows a part of a video. Such a link gives no byte of the file, so the service cuts the
 * part, and the player takes one piece after the other. The piece behind the one that is shown is cut ahead.
 */
import { useEffect, useRef, useState } from "preact/hooks";

import { ApiError, file } from "../api/client";
import { linked } from "../session";
import type { Part, VideoPlayer } from "./video-player";

/** The service cuts a piece in about its own length at the worst, so a shorter one is there sooner. */
const PIECE_S = 60;
const AGAIN_MS = 3000;

/** The pieces of the part that the link shows; null where it shows the whole video, and for who came without a link. */
export function piecesOfLink(fps: number): Part[] | null {
  const link = linked.value;
  if (link?.from_s == null || link.to_s == null) return null;
  const { from_s: fromS, to_s: toS } = link;
  const count = Math.max(1, Math.ceil((toS - fromS) / PIECE_S));
  return Array.from({ length: count }, (_, n) => {
    const offsetS = fromS + n * PIECE_S;
    return { offsetS, durationS: Math.min(PIECE_S, toS - offsetS), fps };
  });
}

export interface Cut {
  /** The address of the piece that is shown; null while it is cut. */
  source: string | null;
  error: unknown;
  again: () => void;
}

/** The piece that the player shows, as a file of this tab; null where `isCut` says that the file itself is played. */
export function useCut(videoId: string, player: VideoPlayer, isCut: boolean): Cut | null {
  const part = player.part.value;
  const pieces = useRef(new Map<number, Promise<string>>());
  const [shown, setShown] = useState<{ part: number; source: string | null; error: unknown }>({ part: -1, source: null, error: null });
  const [tries, setTries] = useState(0);
  useEffect(() => {
    if (!isCut) return;
    const piece = (n: number): Promise<string> => {
      const known = pieces.current.get(n);
      if (known) return known;
      const { offsetS, durationS } = player.parts[n]!;
      const made = file(`v1/videos/${videoId}/clip?start_s=${offsetS}&stop_s=${offsetS + durationS}`).then((blob) => URL.createObjectURL(blob));
      pieces.current.set(n, made);
      made.catch(() => pieces.current.delete(n)); // the next try asks anew
      return made;
    };
    let isWanted = true;
    let timer = 0;
    piece(part).then(
      (source) => {
        if (!isWanted) return;
        setShown({ part, source, error: null });
        if (part + 1 < player.parts.length) piece(part + 1).catch(() => {});
      },
      (error: unknown) => {
        if (!isWanted) return;
        setShown({ part, source: null, error });
        if (error instanceof ApiError && error.mayPass) timer = window.setTimeout(() => setTries(tries + 1), AGAIN_MS);
      },
    );
    // A browser holds a piece in memory for as long as it has an address.
    for (const [n, made] of pieces.current)
      if (n !== part && n !== part + 1) {
        pieces.current.delete(n);
        void made.then(URL.revokeObjectURL, () => {});
      }
    return () => {
      isWanted = false;
      clearTimeout(timer);
    };
  }, [videoId, player, part, isCut, tries]);
  useEffect(
    () => () => {
      for (const made of pieces.current.values()) void made.then(URL.revokeObjectURL, () => {});
      pieces.current.clear();
    },
    [],
  );
  if (!isCut) return null;
  const now = shown.part === part ? shown : { source: null, error: null };
  return { ...now, again: () => setTries((before) => before + 1) };
}
