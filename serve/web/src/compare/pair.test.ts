import { expect, test } from "vitest";

import { VideoPlayer } from "../case/video-player";
import { Pair } from "./pair";

const pair = () => new Pair(new VideoPlayer(100, 25), new VideoPlayer(50, 25));
const times = (both: Pair) => [both.one.timeS.value, both.other.timeS.value];

test("both stand where they are aligned, and move together", () => {
  const both = pair();
  both.align(30, 5);
  expect(times(both)).toEqual([30, 5]);
  both.seek(10);
  expect(times(both)).toEqual([40, 15]);
  expect(both.sinceS.value).toBe(10);
});

test("a video that drifts is moved to the other's time, and not beyond its own end", () => {
  const both = pair();
  both.align(30, 5);
  both.one.seek(32);
  both.keep();
  expect(times(both)).toEqual([32, 7]);
  both.one.seek(32.1);
  both.keep();
  expect(times(both)).toEqual([32.1, 7]);
  both.one.seek(90);
  both.keep();
  expect(times(both)).toEqual([90, 7]);
});
