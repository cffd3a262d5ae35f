/**
 * What happens, as captions of the video. A browser shows them where it fills the screen with the video alone: on
 * iPhones, and wherever somebody asks the video itself for full screen. There the page's own drawing is not seen.
 */
import { useEffect } from "preact/hooks";

import { words } from "../words";
import type { Lane } from "./interfaces";
import { happening } from "./now";
import { lowerThird } from "./overlay";

/** Captions are made when nothing more has changed for so long; at once where the video begins to fill the screen. */
const LATER_MS = 500;
const TAGS = ["step", "action", "phase", "anatomy"];

/** Stretches in which the picture says the same. */
export function captions(lanes: Lane[]): { startS: number; stopS: number; text: string }[] {
  const ends = lanes
    .filter((lane) => TAGS.includes(lane.tag))
    .flatMap((lane) => lane.spans.filter((span) => span.state !== "rejected").flatMap((span) => [span.startS, span.stopS]));
  const times = [...new Set(ends)].sort((one, other) => one - other);
  const found: { startS: number; stopS: number; text: string }[] = [];
  for (let n = 0; n + 1 < times.length; n++) {
    const text = lowerThird(happening(lanes, times[n]!)).join(" · ");
    const last = found.at(-1);
    if (!text) continue;
    if (last && last.text === text && last.stopS === times[n]) last.stopS = times[n + 1]!;
    else found.push({ startS: times[n]!, stopS: times[n + 1]!, text });
  }
  return found;
}

/** The video's track of captions. It is made once: a track that was added to a video can't be taken away. */
function trackOf(video: HTMLVideoElement): TextTrack {
  const label = words.peek().review.captions;
  const kept = [...video.textTracks].find((one) => one.kind === "captions");
  return kept ?? video.addTextTrack("captions", label, document.documentElement.lang);
}

function fill(track: TextTrack, lanes: Lane[], offsetS: number): void {
  if (track.mode === "disabled") track.mode = "hidden"; // a track that is disabled has no list of cues
  for (const cue of [...(track.cues ?? [])]) track.removeCue(cue);
  for (const { startS, stopS, text } of captions(lanes))
    if (stopS > offsetS) track.addCue(new VTTCue(Math.max(0, startS - offsetS), stopS - offsetS, escaped(text)));
}

/** A cue is WebVTT, in which these signs begin a tag or an entity. */
const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/**
 * Keeps the captions of a video up to `lanes`, which are those that are shown: corrected by people, and without
 * proficiency. They are seen while the video alone fills the screen, where `labels` is on. `source`: another one is
 * another video element. `offsetS`: when the file begins in its case.
 */
export function useCaptions(video: { current: HTMLVideoElement | null }, lanes: Lane[], labels: boolean, source: string | null, offsetS = 0): void {
  useEffect(() => {
    const shown = video.current;
    if (!shown?.addTextTrack) return;
    let isMade = false;
    const make = () => {
      if (!isMade) fill(trackOf(shown), lanes, offsetS);
      isMade = true;
    };
    const look = (isAlone: boolean) => {
      if (isAlone && labels) make();
      trackOf(shown).mode = isAlone && labels ? "showing" : "hidden";
    };
    const [begin, end, change] = [() => look(true), () => look(false), () => look(document.fullscreenElement === shown)];
    shown.addEventListener("webkitbeginfullscreen", begin);
    shown.addEventListener("webkitendfullscreen", end);
    document.addEventListener("fullscreenchange", change);
    if (document.fullscreenElement === shown) change();
    const timer = setTimeout(make, LATER_MS);
    return () => {
      clearTimeout(timer);
      shown.removeEventListener("webkitbeginfullscreen", begin);
      shown.removeEventListener("webkitendfullscreen", end);
      document.removeEventListener("fullscreenchange", change);
    };
  }, [lanes, labels, source, offsetS]);
}
