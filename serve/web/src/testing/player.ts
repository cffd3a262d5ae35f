/** A player for tests of components: no video, the same interface; `played` and `sought` say what was asked of it. */
import { type Signal, signal } from "@preact/signals";

import type { Player, Selection, Span } from "../case/interfaces";

export interface SilentPlayer extends Player {
  sought: number[];
  played: [number, number][];
  timeS: Signal<number>;
}

export function silentPlayer(durationS = 600, fps = 25): SilentPlayer {
  const timeS = signal(0);
  const playing = signal(false);
  const [sought, played]: [number[], [number, number][]] = [[], []];
  return {
    timeS,
    playing,
    rate: signal(1),
    loop: signal<[number, number] | null>(null),
    durationS,
    beginS: 0,
    endS: durationS,
    fps,
    sought,
    played,
    seek: (seconds) => {
      sought.push(seconds);
      timeS.value = seconds;
    },
    toggle: () => {
      playing.value = !playing.value;
    },
    playSpan: (startS, stopS) => {
      played.push([startS, stopS]);
      timeS.value = startS;
    },
  };
}

export const nothingSelected = (): Selection => ({ span: signal<Span | null>(null), range: signal<[number, number] | null>(null) });
