/** What the buttons under the picture and the keys do, for a case of one file or of several. */
import { useState } from "preact/hooks";

import { useKeys } from "../components/keys";
import type { Lane, Selection, Span } from "./interfaces";
import { neighbours } from "./lanes";
import { type ControlsProps, toggleFullScreen } from "./player";
import { take } from "./timeline/timeline";
import type { VideoPlayer } from "./video-player";

const LABELS_KEPT = "halsted labels on the picture";

/** After a change the selected span is another object, or gone; proficiency is gone while it is hidden. */
export function keepSelection(selection: Selection, lanes: Lane[]): void {
  const before = selection.span.peek();
  if (!before) return;
  const spans = lanes.find((lane) => lane.tag === before.tag)?.spans ?? [];
  const same = (span: Span) => span.startS === before.startS || span.stopS === before.stopS;
  const after = spans.find((span) => span.id === before.id) ?? spans.find((span) => span.category === before.category && same(span)) ?? null;
  if (after !== before) take(selection, after);
}

/** What the buttons under the picture and the keys do. */
export function useControls(player: VideoPlayer, selection: Selection, lanes: Lane[]): ControlsProps & { isHelping: boolean; endHelp: () => void } {
  const [labels, setLabels] = useState(localStorage.getItem(LABELS_KEPT) !== "off");
  const [isHelping, setHelping] = useState(false);
  const steps = lanes.find((lane) => lane.tag === "step" && lane.spans.length) ?? lanes.find((lane) => lane.spans.length);
  const s = () => player.timeS.peek();
  const toStep = (direction: -1 | 1) => {
    const { before, after } = neighbours(steps, s());
    const to = direction < 0 ? before : after;
    if (to !== null) player.seek(to);
  };
  const loop = () => {
    if (player.loop.value) player.loop.value = null;
    else {
      const now = steps?.spans.find((span) => span.startS <= s() && s() < span.stopS);
      player.loop.value = selection.range.value ?? (now ? [now.startS, now.stopS] : null);
      if (player.loop.value) player.seek(player.loop.value[0]);
    }
  };
  const loopEnd = (end: 0 | 1) => {
    const [from, to] = player.loop.value ?? [player.beginS, player.endS];
    const next: [number, number] = end === 0 ? [s(), to] : [from, s()];
    player.loop.value = next[0] < next[1] ? next : end === 0 ? [s(), player.endS] : [player.beginS, s()];
  };
  const keys: Record<string, () => void> = {
    Space: () => player.toggle(),
    K: () => player.toggle(),
    L: () => player.faster(),
    J: () => player.seek(s() - 10),
    ArrowLeft: () => player.seek(s() - 5),
    ArrowRight: () => player.seek(s() + 5),
    ",": () => player.step(-1),
    ".": () => player.step(1),
    PageUp: () => toStep(-1),
    PageDown: () => toStep(1),
    Home: () => player.seek(player.beginS),
    End: () => player.seek(player.endS),
    "[": () => loopEnd(0),
    "]": () => loopEnd(1),
    R: loop,
    F: toggleFullScreen,
    "?": () => setHelping(true),
    Escape: () => take(selection, null),
  };
  useKeys(keys);
  const keepLabels = (on: boolean) => {
    setLabels(on);
    if (on) localStorage.removeItem(LABELS_KEPT);
    else localStorage.setItem(LABELS_KEPT, "off");
  };
  const help = () => setHelping(true);
  return { labels, setLabels: keepLabels, toStep, loop, help, isHelping, endHelp: () => setHelping(false) };
}
