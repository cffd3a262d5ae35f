/** The address of a case names the moment that is shown. */
import { effect } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";

import { replace, route, toCase } from "../router";
import type { VideoPlayer } from "./video-player";

/** The address follows where the user goes by hand and where playback stops; a link in the page leads elsewhere. */
export function useAddress(videoId: string, atS: number, player: VideoPlayer): void {
  const [shown] = useState({ atS });
  useEffect(() => {
    if (shown.atS !== atS) player.seek(atS);
    shown.atS = atS;
  }, [atS]);
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
