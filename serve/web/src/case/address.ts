/** The address of a case names the moment that is shown. */
import { effect } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

import { replace, type Route, route, toCase } from "../router";
import type { VideoPlayer } from "./video-player";

/**
 * Goes where a link, or the way back, leads; also where it led to before. `momentOf`: the second that an address means;
 * null: it is of something else.
 */
export function useLinks(momentOf: (here: Route) => number | null, player: VideoPlayer): void {
  const here = route.value;
  const before = useRef(here);
  // With the address, before the user can do something else.
  useLayoutEffect(() => {
    if (before.current === here) return;
    before.current = here;
    const atS = momentOf(here);
    if (atS !== null && atS !== player.timeS.peek()) player.seek(atS);
  }, [here]);
}

/** The address follows where the user goes by hand and where playback stops; a link in the page leads elsewhere. */
export function useAddress(videoId: string, player: VideoPlayer): void {
  useLinks((here) => (here.view === "case" && here.videoId === videoId ? here.atS : null), player);
  useEffect(() => {
    let last = player.jumps.peek();
    return effect(() => {
      if (player.jumps.value === last) return;
      last = player.jumps.value;
      const here = route.peek();
      if (here.view === "case" && here.videoId === videoId) replace(toCase(videoId, player.timeS.peek()));
    });
  }, [player, videoId]);
}
