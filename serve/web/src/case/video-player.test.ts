import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { at, loaded, stubBrowser } from "../testing/video";
import { VideoPlayer } from "./video-player";

beforeEach(stubBrowser);
afterEach(() => void vi.restoreAllMocks());

function opened(player: VideoPlayer): HTMLVideoElement {
  const video = document.createElement("video");
  player.attach(video);
  loaded(video);
  return video;
}

test("without a picture the position is where the user went, and nothing plays", () => {
  const player = new VideoPlayer(100, 25, 30);
  player.seek(50);
  player.toggle();
  expect([player.timeS.value, player.playing.value]).toEqual([50, false]);
  player.seek(1000);
  expect(player.timeS.value).toBe(100);
});

test("a picture that comes later begins where the user is", () => {
  const player = new VideoPlayer(100, 25, 30);
  player.seek(42);
  expect(opened(player).currentTime).toBe(42);
});

test("a frame on and a frame back show neighbours, from every time within a frame", () => {
  const player = new VideoPlayer(100, 25);
  opened(player);
  for (const within of [0, 0.001, 0.02, 0.039]) {
    player.seek(10 + within);
    player.step(1);
    expect(Math.floor(player.timeS.value * 25)).toBe(251);
    player.step(-1);
    expect(Math.floor(player.timeS.value * 25)).toBe(250);
  }
});

test("frames are single steps at 29.97 per second, too", () => {
  const player = new VideoPlayer(100, 30_000 / 1001, 10);
  const first = Math.floor(10 * player.fps);
  for (let n = 1; n <= 100; n++) {
    player.step(1);
    expect(Math.floor(player.timeS.value * player.fps)).toBe(first + n);
  }
});

test("a loop goes back to its start, for as long as it is there", () => {
  const player = new VideoPlayer(100, 25);
  const video = opened(player);
  player.loop.value = [10, 20];
  player.seek(19);
  player.play();
  at(video, 20.05);
  expect(video.currentTime).toBe(10);
  player.loop.value = null;
  at(video, 20.05);
  expect(video.currentTime).toBe(20.05);
});

test("a span is played once and stops at its end", () => {
  const player = new VideoPlayer(100, 25);
  const video = opened(player);
  player.playSpan(30, 35);
  expect([video.currentTime, player.playing.value]).toEqual([30, true]);
  at(video, 34);
  expect(player.playing.value).toBe(true);
  at(video, 35.01);
  expect(player.playing.value).toBe(false);
  player.play();
  at(video, 36);
  expect(player.playing.value).toBe(true);
});

test("who goes elsewhere while a span plays is not stopped at its end", () => {
  const player = new VideoPlayer(100, 25);
  const video = opened(player);
  player.playSpan(30, 35);
  player.seek(50);
  at(video, 51);
  expect(player.playing.value).toBe(true);
});

test("L plays, and again is faster up to four times", () => {
  const player = new VideoPlayer(100, 25);
  const video = opened(player);
  const rates = [1, 2, 3, 4, 5, 6].map(() => (player.faster(), video.playbackRate));
  expect(rates).toEqual([1, 1.5, 2, 3, 4, 4]);
});

test("where the user goes and where playback stops is counted, playback itself is not", () => {
  const player = new VideoPlayer(100, 25);
  const video = opened(player);
  player.seek(10);
  player.play();
  at(video, 11);
  at(video, 12);
  expect(player.jumps.value).toBe(1);
  player.pause();
  expect(player.jumps.value).toBe(2);
});

const PARTS = [
  { offsetS: 0, durationS: 30, fps: 25 },
  { offsetS: 30, durationS: 20, fps: 50 },
  { offsetS: 50, durationS: 50, fps: 25 },
];

/** A player of three files, with the element that shows the first of them; `next` shows the file that is gone to. */
function several(hasPicture = [true, true, true]) {
  const player = new VideoPlayer(100, 25, 0, PARTS, (part) => hasPicture[part]!);
  const video = document.createElement("video");
  let detach = player.attach(video);
  loaded(video);
  const next = () => {
    detach();
    video.currentTime = 0;
    detach = player.attach(video);
    loaded(video);
  };
  const end = () => {
    video.pause();
    video.dispatchEvent(new Event("ended"));
  };
  return { player, video, next, end };
}

test("the next file begins by itself where a file ends, in seconds of the case", () => {
  const { player, video, next, end } = several();
  player.play();
  at(video, 29.9);
  end();
  expect([player.part.value, player.timeS.value, player.playing.value]).toEqual([1, 30, true]);
  next();
  expect([video.paused, player.playing.value]).toEqual([false, true]);
  at(video, 5);
  expect(player.timeS.value).toBe(35);
});

test("who goes to a moment of another file sees it there, and plays on only where it played", () => {
  const { player, video, next } = several();
  player.seek(42);
  expect([player.part.value, player.timeS.value, player.fps]).toEqual([1, 42, 50]);
  next();
  expect([video.currentTime, video.paused]).toEqual([12, true]);
  player.play();
  player.seek(60);
  next();
  expect([video.currentTime, video.paused, player.timeS.value]).toEqual([10, false, 60]);
});

test("playback stops before a file that has no picture, and does not go on later", () => {
  const { player, video, end } = several([true, false, true]);
  player.play();
  at(video, 29.9);
  end();
  expect([player.part.value, player.timeS.value, player.playing.value]).toEqual([1, 30, false]);
});

test("a span and a loop go over the border of two files", () => {
  const { player, video, next, end } = several();
  player.playSpan(25, 35);
  end();
  next();
  at(video, 4);
  expect(player.playing.value).toBe(true);
  at(video, 5.1);
  expect([player.timeS.value, player.playing.value]).toEqual([35.1, false]);
  player.loop.value = [25, 35];
  player.play();
  at(video, 5.2);
  expect([player.part.value, player.timeS.value]).toEqual([0, 25]);
  next();
  expect([video.currentTime, video.paused]).toEqual([25, false]);
});

test("a frame is one of the file that is shown, also over the border", () => {
  const { player, next } = several();
  player.seek(30);
  next();
  player.step(1);
  expect(Math.floor((player.timeS.value - 30) * 50)).toBe(1);
  player.step(-1);
  player.step(-1);
  expect(player.part.value).toBe(0);
});
