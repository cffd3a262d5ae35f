/**
 * Plays a case. The time is a signal of its own: with a picture it follows the video, without one (the browser can't
 * play the file, or it has not come yet) it is where the user last went, so the timeline works all the same.
 */
import { type ReadonlySignal, type Signal, batch, signal } from "@preact/signals";

import type { Player } from "./interfaces";

export const RATES = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4];

export class VideoPlayer implements Player {
  private readonly time: Signal<number>;
  private readonly isPlaying = signal(false);
  private readonly picture = signal(false);
  readonly rate = signal(1);
  readonly loop = signal<[number, number] | null>(null);
  /** Counts where the user has gone by hand: the address follows it. */
  readonly jumps = signal(0);
  private video: HTMLVideoElement | null = null;
  private stopAtS: number | null = null;

  constructor(
    readonly durationS: number,
    readonly fps: number,
    atS = 0,
  ) {
    this.time = signal(this.bounded(atS));
  }

  get timeS(): ReadonlySignal<number> {
    return this.time;
  }

  get playing(): ReadonlySignal<boolean> {
    return this.isPlaying;
  }

  /** Whether there is a picture that can be played. */
  get hasPicture(): ReadonlySignal<boolean> {
    return this.picture;
  }

  /** Plays through this element from now on. Returns what ends that. */
  attach(video: HTMLVideoElement): () => void {
    this.video = video;
    let frame = 0;
    const follow = () => {
      this.tick();
      if (!video.paused && !video.ended) frame = requestAnimationFrame(follow);
    };
    const on: Record<string, () => void> = {
      loadedmetadata: () => {
        video.playbackRate = this.rate.value;
        if (this.time.value > 0) video.currentTime = this.time.value;
        this.picture.value = true;
      },
      play: () => {
        this.isPlaying.value = true;
        cancelAnimationFrame(frame);
        frame = requestAnimationFrame(follow);
      },
      pause: () => {
        this.isPlaying.value = false;
        this.jumps.value++;
      },
      ended: () => {
        const loop = this.loop.value;
        if (loop) {
          this.go(loop[0]);
          void video.play();
        }
      },
      // The tab may be hidden, where no frame is drawn; a loop goes on there, too.
      timeupdate: () => this.tick(),
      seeked: () => this.tick(),
      emptied: () => batch(() => [(this.picture.value = false), (this.isPlaying.value = false)]),
    };
    for (const [name, act] of Object.entries(on)) video.addEventListener(name, act);
    const unfollow = this.rate.subscribe((rate) => {
      video.playbackRate = rate;
    });
    return () => {
      for (const [name, act] of Object.entries(on)) video.removeEventListener(name, act);
      cancelAnimationFrame(frame);
      unfollow();
      batch(() => [(this.picture.value = false), (this.isPlaying.value = false)]);
      this.video = null;
    };
  }

  seek(seconds: number): void {
    this.stopAtS = null;
    this.go(seconds);
    this.jumps.value++;
  }

  toggle(): void {
    if (this.isPlaying.value) this.pause();
    else this.play();
  }

  play(): void {
    this.stopAtS = null;
    this.start();
  }

  pause(): void {
    this.video?.pause();
  }

  playSpan(startS: number, stopS: number): void {
    this.loop.value = null;
    this.go(startS);
    this.stopAtS = this.bounded(stopS);
    this.start();
  }

  /** Goes where another player is, and plays on where it plays. */
  follow(seconds: number): void {
    this.go(seconds);
  }

  /** Moves by whole frames and stays there. A frame is shown from its time on, and a little later is surely in it. */
  step(frames: number): void {
    this.pause();
    const frame = Math.floor(this.time.value * this.fps + 0.01) + frames;
    this.seek(frame / this.fps + 0.001);
  }

  /** Plays; where it plays already, faster by one step of the usual speeds. */
  faster(): void {
    if (this.isPlaying.value) this.rate.value = RATES.find((rate) => rate >= 1 && rate > this.rate.value) ?? RATES.at(-1)!;
    else this.play();
  }

  private start(): void {
    if (!this.picture.value || !this.video) return;
    if (this.time.value >= this.durationS - 0.05) this.go(this.loop.value?.[0] ?? 0);
    // A browser refuses where a newer seek or pause comes first; that one then says how it stands.
    this.video.play().catch(() => {});
  }

  private go(seconds: number): void {
    const s = this.bounded(seconds);
    this.time.value = s;
    if (this.picture.value && this.video) this.video.currentTime = s;
  }

  private tick(): void {
    const video = this.video;
    if (!video || !this.picture.value || video.seeking) return;
    const s = this.bounded(video.currentTime);
    this.time.value = s;
    if (video.paused) return;
    const loop = this.loop.value;
    if (this.stopAtS !== null && s >= this.stopAtS) {
      this.stopAtS = null;
      video.pause();
    } else if (loop && (s >= loop[1] || s < loop[0] - 0.2)) this.go(loop[0]);
  }

  private bounded(seconds: number): number {
    return Math.min(Math.max(0, seconds), this.durationS);
  }
}
