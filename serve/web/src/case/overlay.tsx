import { useEffect } from "preact/hooks";

import type { Lane, Player } from "./interfaces";
import { happening, useHappening } from "./now";
import { words } from "../words";

/** What the picture says at a moment: the step, and the finest thing that is done in it, with its target. */
export function lowerThird(seen: ReturnType<typeof happening>): string[] {
  const of = (tag: string) => seen.find(({ lane }) => lane.tag === tag)?.span.category;
  return [of("step"), of("action") ?? of("phase"), of("anatomy")].filter((text): text is string => text !== undefined);
}

/** Annotations drawn on the picture, in its lower third. The same stands as text under "now", so readers skip it. */
export function Overlay({ lanes, player }: { lanes: Lane[]; player: Player }) {
  const [first, ...rest] = lowerThird(useHappening(lanes, player));
  if (!first) return null;
  return (
    <p class="lower-third" aria-hidden="true">
      <b>{first}</b> {rest.join(" · ")}
    </p>
  );
}

/** Stretches in which the picture says the same, for captions. */
export function captions(lanes: Lane[]): { startS: number; stopS: number; text: string }[] {
  const tags = ["step", "action", "phase", "anatomy"];
  const ends = lanes
    .filter((lane) => tags.includes(lane.tag))
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

/**
 * The same as captions, which a browser shows where only its own full screen is there (iPhones). They are made from the
 * lanes that are shown, so they say what the picture says: corrected by people, and without proficiency. `offsetS`: when
 * the file begins in its case.
 */
export function useCaptions(video: { current: HTMLVideoElement | null }, lanes: Lane[], offsetS = 0): void {
  useEffect(() => {
    const shown = video.current;
    if (!shown?.addTextTrack) return;
    let track: TextTrack | null = null;
    const label = words.peek().review.captions;
    const begin = () => {
      track ??= [...shown.textTracks].find((one) => one.label === label) ?? shown.addTextTrack("captions", label);
      for (const cue of [...(track.cues ?? [])]) track.removeCue(cue);
      for (const { startS, stopS, text } of captions(lanes))
        if (stopS > offsetS) track.addCue(new VTTCue(Math.max(0, startS - offsetS), stopS - offsetS, text));
      track.mode = "showing";
    };
    const end = () => {
      if (track) track.mode = "disabled";
    };
    shown.addEventListener("webkitbeginfullscreen", begin);
    shown.addEventListener("webkitendfullscreen", end);
    return () => {
      end();
      shown.removeEventListener("webkitbeginfullscreen", begin);
      shown.removeEventListener("webkitendfullscreen", end);
    };
  }, [lanes, offsetS]);
}

