/** What the rooms of the case view share: spans of the timeline, the player, and what is selected. */
import type { ReadonlySignal, Signal } from "@preact/signals";

/** A span of one lane: the model's, a person's, a gap, or unknown. Times are seconds of the video. */
export interface Span {
  /** Stable while the case is shown. */
  id: string;
  tag: string;
  category: string;
  startS: number;
  stopS: number;
  /** 0 to 1; null for what no model has answered. */
  confidence: number | null;
  source: "ai" | "manual" | "gap" | "unknown";
  /** What a person made of it; absent for a span that nobody has looked at. */
  state?: "accepted" | "rejected" | "changed" | "added";
  author?: string;
}

/** One lane of the timeline. `ordered`: the categories are a scale from low to high (proficiency). */
export interface Lane {
  tag: string;
  categories: string[];
  ordered: boolean;
  spans: Span[];
}

export interface Player {
  timeS: ReadonlySignal<number>;
  playing: ReadonlySignal<boolean>;
  rate: Signal<number>;
  /** [start, stop] that is played again and again; null: none. */
  loop: Signal<[number, number] | null>;
  durationS: number;
  /** [beginS, endS) is what may be seen: all of the video, or the part that a link shows. */
  beginS: number;
  endS: number;
  /** Frames per second, for a step of one frame. */
  fps: number;
  seek(seconds: number): void;
  toggle(): void;
  /** Plays [start, stop] once, and stops there. */
  playSpan(startS: number, stopS: number): void;
}

/** The span that is selected, and the stretch of time that is marked on the timeline; null: none. */
export interface Selection {
  span: Signal<Span | null>;
  range: Signal<[number, number] | null>;
}
