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
