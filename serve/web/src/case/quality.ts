/** Whether the page shows how well something was done. Hidden until asked: who reviews a case first sees what happens. */
import { signal } from "@preact/signals";

import type { Lane } from "./interfaces";
import { PROFICIENCY } from "./lanes";

export const qualityShown = signal(false);

export const shownLanes = (lanes: Lane[], withQuality: boolean): Lane[] =>
  withQuality ? lanes : lanes.filter((lane) => lane.tag !== PROFICIENCY);
