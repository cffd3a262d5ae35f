/** Two players that play as one: second 0 of both is where each of them is aligned. */
import { type Signal, computed, signal } from "@preact/signals";

import type { VideoPlayer } from "../case/video-player";

/** By how much two videos may drift apart while they play, before the second is moved. */
const DRIFT_S = 0.15;

export class Pair {
  readonly starts: Signal<[number, number]> = signal([0, 0]);
  readonly playing = computed(() => this.one.playing.value || this.other.playing.value);
  /** Seconds since the point of alignment. */
  readonly sinceS = computed(() => this.one.timeS.value - this.starts.value[0]);

  constructor(
    readonly one: VideoPlayer,
    readonly other: VideoPlayer,
  ) {}

  /** Both stand at their point of alignment from now on. */
  align(oneS: number, otherS: number): void {
    this.pause();
    this.starts.value = [oneS, otherS];
    this.seek(0);
  }

  seek(sinceS: number): void {
    const [oneS, otherS] = this.starts.peek();
    this.one.seek(oneS + sinceS);
    this.other.seek(otherS + sinceS);
  }

  toggle(): void {
    if (this.playing.value) return this.pause();
    this.keep(0);
    this.one.play();
    this.other.play();
  }

  pause(): void {
    this.one.pause();
    this.other.pause();
  }

  /** Moves the second player where it has drifted from the first. Called while both play. */
  keep(driftS = DRIFT_S): void {
    const [oneS, otherS] = this.starts.peek();
    const wantedS = otherS + this.one.timeS.peek() - oneS;
    if (wantedS < 0 || wantedS > this.other.durationS) return;
    if (Math.abs(this.other.timeS.peek() - wantedS) > driftS) this.other.follow(wantedS);
  }
}
