/** What jsdom lacks of a browser and a case needs: a video that plays, sizes of elements, canvases, media queries. */
import { vi } from "vitest";

/** Stands in for the media engine. `play` and `pause` tell as a browser does; the time moves only by `at`. */
export function stubBrowser(): void {
  vi.stubGlobal("ResizeObserver", class {
    observe() {}
    disconnect() {}
  });
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener() {}, removeEventListener() {} }));
  vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockReturnValue(null);
  vi.spyOn(Element.prototype, "clientWidth", "get").mockReturnValue(1000);
  const playing = new WeakSet<HTMLMediaElement>();
  vi.spyOn(HTMLMediaElement.prototype, "paused", "get").mockImplementation(function (this: HTMLMediaElement) {
    return !playing.has(this);
  });
  vi.spyOn(HTMLMediaElement.prototype, "play").mockImplementation(async function (this: HTMLMediaElement) {
    playing.add(this);
    this.dispatchEvent(new Event("play"));
  });
  vi.spyOn(HTMLMediaElement.prototype, "pause").mockImplementation(function (this: HTMLMediaElement) {
    if (!playing.delete(this)) return;
    this.dispatchEvent(new Event("pause"));
  });
}

/** The video has come as far as its times and size. */
export const loaded = (video: HTMLVideoElement): boolean => video.dispatchEvent(new Event("loadedmetadata"));

/** Playback has come to second `s`. */
export function at(video: HTMLVideoElement, s: number): void {
  video.currentTime = s;
  video.dispatchEvent(new Event("timeupdate"));
}
