import { act, cleanup, render } from "@testing-library/preact";
import { useRef } from "preact/hooks";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { captions, useCaptions } from "./captions";
import type { Lane, Span } from "./interfaces";

const span = (tag: string, category: string, startS: number, stopS: number, more: Partial<Span> = {}): Span => ({
  id: `${tag}${startS}`, tag, category, startS, stopS, confidence: 0.9, source: "ai", ...more,
});
const lane = (tag: string, ...spans: Span[]): Lane => ({ tag, categories: [], ordered: false, spans });
const LANES = [lane("step", span("step", "Suturing", 0, 60)), lane("action", span("action", "Cut <1 & 2", 10, 20))];

/** What jsdom lacks: text tracks. */
class Track {
  mode = "hidden";
  cues: { startTime: number; endTime: number; text: string }[] = [];
  constructor(readonly kind: string, readonly label: string) {}
  addCue(cue: Track["cues"][0]) {
    this.cues.push(cue);
  }
  removeCue(cue: Track["cues"][0]) {
    this.cues = this.cues.filter((one) => one !== cue);
  }
}

function Shown({ lanes, labels }: { lanes: Lane[]; labels: boolean }) {
  const element = useRef<HTMLVideoElement>(null);
  useCaptions(element, lanes, labels, "content");
  return <video ref={element} />;
}

let tracks: Track[];
let filling: Element | null;
const fillScreen = (element: Element | null) => {
  filling = element;
  document.dispatchEvent(new Event("fullscreenchange"));
};

beforeEach(() => {
  [tracks, filling] = [[], null];
  vi.useFakeTimers();
  vi.stubGlobal("VTTCue", class { constructor(readonly startTime: number, readonly endTime: number, readonly text: string) {} });
  Object.defineProperty(document, "fullscreenElement", { configurable: true, get: () => filling });
  Object.defineProperties(HTMLVideoElement.prototype, {
    textTracks: { configurable: true, get: () => tracks },
    addTextTrack: { configurable: true, value: (kind: string, label: string) => tracks[tracks.push(new Track(kind, label)) - 1] },
  });
});
afterEach(() => {
  cleanup();
  vi.useRealTimers();
  for (const name of ["textTracks", "addTextTrack"]) Reflect.deleteProperty(HTMLVideoElement.prototype, name);
  Reflect.deleteProperty(document, "fullscreenElement");
});

test("a caption lasts as long as the picture says the same, and says nothing of what was rejected", () => {
  const rejected = lane("action", span("action", "Cut", 10, 20, { state: "rejected" }), span("action", "Push", 30, 40));
  expect(captions([LANES[0]!, rejected])).toEqual([
    { startS: 0, stopS: 30, text: "Suturing" },
    { startS: 30, stopS: 40, text: "Suturing · Push" },
    { startS: 40, stopS: 60, text: "Suturing" },
  ]);
});

test("captions are there soon, unseen, and are seen while the video alone fills the screen", () => {
  const { rerender } = render(<Shown lanes={LANES} labels />);
  act(() => void vi.advanceTimersByTime(1000));
  expect(tracks.map((one) => [one.kind, one.mode])).toEqual([["captions", "hidden"]]);
  expect(tracks[0]!.cues.map((one) => one.text)).toEqual(["Suturing", "Suturing · Cut &lt;1 &amp; 2", "Suturing"]);
  fillScreen(document.querySelector("video"));
  expect(tracks[0]!.mode).toBe("showing");
  rerender(<Shown lanes={[lane("step", span("step", "Dissection", 0, 60))]} labels />);
  expect(tracks[0]!.cues.map((one) => one.text), "a correction in full screen").toEqual(["Dissection"]);
  fillScreen(null);
  expect(tracks[0]!.mode).toBe("hidden");
  fillScreen(document.body);
  expect(tracks[0]!.mode, "there the page draws it by itself").toBe("hidden");
});

test("who switched off what is drawn on the picture gets no captions", () => {
  render(<Shown lanes={LANES} labels={false} />);
  fillScreen(document.querySelector("video"));
  expect(tracks[0]!.mode).toBe("hidden");
});

test("an iPhone says by itself that its player fills the screen", () => {
  render(<Shown lanes={LANES} labels />);
  const video = document.querySelector("video")!;
  video.dispatchEvent(new Event("webkitbeginfullscreen"));
  expect([tracks[0]!.mode, tracks[0]!.cues.length]).toEqual(["showing", 3]);
  video.dispatchEvent(new Event("webkitendfullscreen"));
  expect(tracks[0]!.mode).toBe("hidden");
});
