import { computed } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { ApiError, api, file } from "../api/client";
import { useEvery } from "../api/resource";
import type { Video } from "../api/types";
import { useAction } from "../components/action";
import { Trouble } from "../components/messages";
import { linked } from "../session";
import { clock, number, words } from "../words";
import { useCaptions } from "./captions";
import { Icon } from "./icons";
import type { Lane } from "./interfaces";
import { Overlay } from "./overlay";
import { useCut } from "./part-of-link";
import "./player.css";
import { RATES, type VideoPlayer } from "./video-player";

const AGAIN_MS = 3000;

/** How the service says a browser can play the file. Absent: as it is. */
export type Playable = Video & { playback?: "direct" | "proxy" | "making" | "none" };

export const sourceOf = (video: Playable): string | null => {
  const content = `v1/videos/${video.video_id}/content`;
  if (video.playback === "proxy") return `${content}?copy=proxy`;
  return video.playback === "making" || video.playback === "none" ? null : content;
};

interface Shown {
  video: Playable;
  /** The lanes that may be seen, for what is drawn on the picture. */
  lanes: Lane[];
  player: VideoPlayer;
  controls: ControlsProps;
  reload: () => Promise<void>;
  /** Why this file has no picture, in words, in place of the picture. */
  note?: string;
}

/** The picture, what is drawn on it, and the controls: all three are in the full screen, too. */
export function Picture({ video, lanes, player, controls, reload, note }: Shown) {
  const { review } = words.value;
  const element = useRef<HTMLVideoElement>(null);
  const isCut = linked.value?.from_s != null && !note;
  const cut = useCut(video.video_id, player, isCut);
  const source = cut ? cut.source : sourceOf(video);
  const failure = useFailure(source);
  const isShown = source !== null && failure.of === null && !note;
  useEffect(() => (isShown && element.current ? player.attach(element.current) : undefined), [player, isShown, source]);
  useCaptions(element, lanes, controls.labels, isShown ? source : null, player.parts[player.part.value]!.offsetS);
  const copy = useAction(async () => {
    await api(`v1/videos/${video.video_id}/proxy`, { method: "POST" });
    await reload();
  });
  return (
    <div class="picture" id={PICTURE} data-keys>
      <div class="screen">
        {isShown ? (
          <video
            ref={element}
            src={source}
            aria-label={review.picture}
            playsInline
            preload="metadata"
            disableRemotePlayback
            onClick={() => player.toggle()}
            onError={(event) => event.currentTarget.error && void failure.look()}
          />
        ) : (
          <div class="no-picture" role="status">
            {!cut?.error && !failure.error && <p>{note ?? pictureWords(video, source === null && cut !== null)}</p>}
            {cut && <Trouble error={cut.error} again={cut.again} />}
            <Trouble error={failure.error} again={failure.again} />
            {!note && !failure.error && !linked.value && video.playback !== undefined && video.playback !== "making" && video.playback !== "proxy" && (
              <button type="button" class="small" disabled={copy.busy} onClick={() => void copy.run()}>
                {review.makeCopy}
              </button>
            )}
            <Trouble error={copy.error} />
          </div>
        )}
        {controls.labels && <Overlay lanes={lanes} player={player} />}
      </div>
      <Controls {...controls} player={player} />
    </div>
  );
}

/** Why the picture of `source` does not come. `of`: the source that failed; `error`: of the service, which then gives it
 * not now; without one the browser can't play it. */
function useFailure(source: string | null) {
  const [found, setFound] = useState<{ of: string; error: unknown } | null>(null);
  const { of, error } = found !== null && found.of === source ? found : { of: null, error: null };
  const again = () => setFound(null);
  useEvery(error instanceof ApiError && error.mayPass ? AGAIN_MS : 0, again);
  const look = async () => {
    if (source === null) return;
    let refusal: unknown = null;
    // A piece of a link lies in this tab; of a file a browser does not tell what the service has answered.
    if (!source.startsWith("blob:"))
      await file(source, { headers: { range: "bytes=0-0" } }).catch((answer: unknown) => {
        refusal = answer;
      });
    setFound({ of: source, error: refusal });
  };
  return { of, error, again, look };
}

function pictureWords(video: Playable, isBeingCut: boolean): string {
  const { review } = words.value;
  if (isBeingCut) return review.pictureCut;
  return video.playback === "making" ? review.pictureMaking : review.pictureNone;
}

const PICTURE = "picture";

/** Fills the screen with the picture, what is drawn on it and the controls; again: ends it. */
export function toggleFullScreen(): void {
  if (document.fullscreenElement) return void document.exitFullscreen();
  const box = document.getElementById(PICTURE);
  const video = box?.querySelector("video") as (HTMLVideoElement & { webkitEnterFullscreen?: () => void }) | null | undefined;
  // An iPhone gives full screen to a video only; captions then say what is drawn here.
  if (box?.requestFullscreen) void box.requestFullscreen().catch(() => {});
  else video?.webkitEnterFullscreen?.();
}

export interface ControlsProps {
  labels: boolean;
  setLabels: (on: boolean) => void;
  toStep: (direction: -1 | 1) => void;
  /** Repeats what is selected; where something is repeated, no more. */
  loop: () => void;
  help: () => void;
}

function Controls({ player, labels, setLabels, toStep, loop, help }: ControlsProps & { player: VideoPlayer }) {
  const { review } = words.value;
  const isPlaying = player.playing.value;
  const has = player.hasPicture.value;
  const [isFull, setFull] = useState(false);
  useEffect(() => {
    const look = () => setFull(Boolean(document.fullscreenElement));
    document.addEventListener("fullscreenchange", look);
    return () => document.removeEventListener("fullscreenchange", look);
  }, []);
  return (
    <div class="controls" role="group" aria-label={review.controls}>
      <Sign of="stepBack" name={review.stepBack} act={() => toStep(-1)} />
      <Sign of="frameBack" name={review.frameBack} act={() => player.step(-1)} />
      <Sign of={isPlaying ? "pause" : "play"} name={isPlaying ? review.pause : review.play} act={() => player.toggle()} disabled={!has} main />
      <Sign of="frameOn" name={review.frameOn} act={() => player.step(1)} />
      <Sign of="stepOn" name={review.stepOn} act={() => toStep(1)} />
      <Time player={player} />
      <label class="seen-by-readers" for="speed">
        {review.speed}
      </label>
      <select
        id="speed"
        value={String(player.rate.value)}
        onChange={(event) => {
          player.rate.value = Number(event.currentTarget.value);
        }}
      >
        {RATES.map((rate) => (
          <option key={rate} value={String(rate)}>
            {review.speedOf(number(rate, 2))}
          </option>
        ))}
      </select>
      <Sign of="loop" name={player.loop.value ? review.loopOff : review.loop} act={loop} pressed={player.loop.value !== null} />
      <Sign of="labels" name={review.labels} act={() => setLabels(!labels)} pressed={labels} />
      <Sign of="full" name={isFull ? review.leaveFullScreen : review.fullScreen} act={toggleFullScreen} />
      <Sign of="keys" name={review.keys} act={help} />
    </div>
  );
}

function Time({ player }: { player: VideoPlayer }) {
  // Drawn anew once a second, not with every frame.
  const whole = useMemo(() => computed(() => Math.floor(player.timeS.value)), [player]).value;
  return <span class="numbers time">{words.value.review.time(clock(whole), clock(player.durationS))}</span>;
}

interface SignProps {
  of: Parameters<typeof Icon>[0]["of"];
  name: string;
  act: () => void;
  pressed?: boolean;
  disabled?: boolean;
  main?: boolean;
}

const Sign = ({ of, name, act, pressed, disabled, main }: SignProps) => (
  <button
    type="button"
    class={main ? "sign main" : "sign plain"}
    aria-label={name}
    title={name}
    aria-pressed={pressed}
    disabled={disabled}
    onClick={act}
  >
    <Icon of={of} />
  </button>
);
