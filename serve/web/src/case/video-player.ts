/**
 * Plays a case, whose picture may be in several files. The time is that of the case, and a signal of its own: with a
 * picture it follows the video, without one (the browser can't play the file, or it has not come yet) it is where the
 * user last went, so the timeline works all the same.
 */
import { type ReadonlySignal, type Signal, batch, signal } from "@preact/signals";

import type { Player } from "./interfaces";

export const RATES = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4];
/** So near to its end a file has been played. */
const END_S = 0.05;

/** One file of the case: when it begins and how long it is, in seconds of the case, and frames per second. */
export interface Part {
  offsetS: number;
  durationS: number;
  fps: number;
}

export class VideoPlayer implements Player {
  private readonly time: Signal<number>;
  private readonly isPlaying = signal(false);
  private readonly picture = signal(false);
  private readonly shown: Signal<number>;
  readonly rate = signal(1);
  readonly loop = signal<[number, number] | null>(null);
  /** Counts where the user has gone by hand: the address follows it. */
  readonly jumps = signal(0);
  private video: HTMLVideoElement | null = null;
  private stopAtS: number | null = null;
  /** Plays on as soon as the picture of the next file is there. */
  private goesOn = false;

  /** `parts`: the files of a case of several. `hasPictureAt`: whether a part has a picture to play on with. */
  constructor(
    readonly durationS: number,
    fps: number,
    atS = 0,
    readonly parts: readonly Part[] = [{ offsetS: 0, durationS, fps }],
    private readonly hasPictureAt: (part: number) => boolean = () => true,
  ) {
    this.time = signal(this.bounded(atS));
    this.shown = signal(this.partAt(this.time.value));
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

  /** The number of the file that is shown, from 0 on. */
  get part(): ReadonlySignal<number> {
    return this.shown;
  }

  get beginS(): number {
    return this.parts[0]!.offsetS;
  }

  get endS(): number {
    const { offsetS, durationS } = this.parts.at(-1)!;
    return offsetS + durationS;
  }

  get fps(): number {
    return this.here.fps;
  }

  private get here(): Part {
    return this.parts[this.shown.peek()]!;
  }

  /** The file that holds second `s` of the case; where two files meet, the later one. */
  partAt(s: number): number {
    let found = 0;
    for (let n = 1; n < this.parts.length; n++) if (this.parts[n]!.offsetS <= s && this.parts[n]!.durationS > 0) found = n;
    return found;
  }

  /** Plays the file that is shown through this element from now on. Returns what ends that. */
  attach(video: HTMLVideoElement): () => void {
    this.video = video;
    const part = this.shown.peek();
    let frame = 0;
    const follow = () => {
      this.tick();
      if (!video.paused && !video.ended) frame = requestAnimationFrame(follow);
    };
    const on: Record<string, () => void> = {
      loadedmetadata: () => {
        video.playbackRate = this.rate.value;
        const s = this.time.value - this.here.offsetS;
        if (s > 0) video.currentTime = s;
        this.picture.value = true;
        this.isComing = false;
        if (this.goesOn) this.begin();
      },
      play: () => {
        this.isPlaying.value = true;
        cancelAnimationFrame(frame);
        frame = requestAnimationFrame(follow);
      },
      pause: () => {
        if (this.goesOn) return;
        this.isPlaying.value = false;
        // The end of a file is no place where the user went by hand.
        if (!video.ended) this.jumps.value++;
      },
      ended: () => this.ended(),
      // The tab may be hidden, where no frame is drawn; a loop goes on there, too.
      timeupdate: () => this.tick(),
      seeked: () => this.tick(),
      emptied: () => batch(() => [(this.picture.value = false), (this.isPlaying.value = this.goesOn)]),
    };
    for (const [name, act] of Object.entries(on)) video.addEventListener(name, act);
    const unfollow = this.rate.subscribe((rate) => {
      video.playbackRate = rate;
    });
    // The metadata of a file may be there before anybody listens.
    if (video.readyState >= 1) on.loadedmetadata!();
    return () => {
      for (const [name, act] of Object.entries(on)) video.removeEventListener(name, act);
      cancelAnimationFrame(frame);
      unfollow();
      // The picture of another file is still to come; playing goes on with it.
      const goesOn = this.goesOn && this.shown.peek() !== part;
      batch(() => [(this.picture.value = false), (this.isPlaying.value = goesOn)]);
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
    if (this.goesOn) batch(() => [(this.goesOn = false), (this.isPlaying.value = false)]);
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
    const { offsetS, fps } = this.here;
    const frame = Math.floor((this.time.value - offsetS) * fps + 0.01) + frames;
    this.seek(offsetS + frame / fps + 0.001);
  }

  /** Plays; where it plays already, faster by one step of the usual speeds. */
  faster(): void {
    if (this.isPlaying.value) this.rate.value = RATES.find((rate) => rate >= 1 && rate > this.rate.value) ?? RATES.at(-1)!;
    else this.play();
  }

  private start(): void {
    if (this.time.value >= this.endS - END_S) this.go(this.loop.value?.[0] ?? this.beginS);
    if (!this.picture.value || !this.video) {
      // Another file has just been gone to, and its picture comes.
      if (this.isComing) batch(() => [(this.goesOn = true), (this.isPlaying.value = true)]);
      return;
    }
    this.begin();
  }

  /** Whether the user has just gone to another file that has a picture. */
  private isComing = false;

  private begin(): void {
    this.goesOn = false;
    // A browser refuses where a newer seek or pause comes first; that one then says how it stands.
    this.video?.play().catch(() => {
      if (this.video?.paused) this.isPlaying.value = false;
    });
  }

  private go(seconds: number): void {
    const s = this.bounded(seconds);
    const part = this.partAt(s);
    if (part !== this.shown.peek()) return this.enter(part, s);
    this.time.value = s;
    if (this.picture.value && this.video) this.video.currentTime = s - this.here.offsetS;
  }

  /** Shows another file from second `s` of the case on. It plays on where it played. */
  private enter(part: number, s: number): void {
    const goesOn = (this.isPlaying.peek() || this.goesOn) && this.hasPictureAt(part);
    this.isComing = this.hasPictureAt(part);
    this.goesOn = goesOn;
    this.video?.pause();
    batch(() => {
      this.shown.value = part;
      this.time.value = s;
      this.picture.value = false;
      this.isPlaying.value = goesOn;
    });
  }

  /** A file has come to its end: the next one begins by itself, where it has a picture. */
  private ended(): void {
    const loop = this.loop.value;
    const part = this.shown.peek();
    const endS = this.here.offsetS + this.here.durationS;
    const next = this.parts[part + 1];
    if (loop && (!next || loop[1] <= endS + END_S)) {
      this.go(loop[0]);
      this.isPlaying.value = true;
      if (this.picture.value) this.begin();
      else this.goesOn = this.isComing;
      return;
    }
    const isStopped = this.stopAtS !== null && this.stopAtS <= endS + END_S;
    if (!next || isStopped) {
      this.stopAtS = null;
      this.jumps.value++;
      return;
    }
    this.isPlaying.value = true; // a browser pauses at the end, and playing goes on in the next file
    this.enter(part + 1, next.offsetS);
    if (!this.goesOn) this.jumps.value++;
  }

  private tick(): void {
    const video = this.video;
    if (!video || !this.picture.value || video.seeking) return;
    const { offsetS, durationS } = this.here;
    const s = this.bounded(Math.min(video.currentTime, durationS) + offsetS);
    this.time.value = s;
    if (video.paused) return;
    const loop = this.loop.value;
    if (this.stopAtS !== null && s >= this.stopAtS) {
      this.stopAtS = null;
      video.pause();
    } else if (loop && (s >= loop[1] || s < loop[0] - 0.2)) this.go(loop[0]);
  }

  private bounded(seconds: number): number {
    return Math.min(Math.max(this.beginS, seconds), this.endS);
  }
}
