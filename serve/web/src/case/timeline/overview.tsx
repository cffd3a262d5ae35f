import { type ReadonlySignal, type Signal, effect } from "@preact/signals";
import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { clock, words } from "../../words";
import type { Lane, Player } from "../interfaces";
import { useDrawing, useWidth } from "./canvas";
import { drag } from "./drag";
import { drawOverview } from "./draw";
import { moved, spanOfView, type View } from "./geometry";
import type { Border } from "./timeline";

export const OVERVIEW_H = 40;

interface Props {
  lanes: Lane[];
  player: Player;
  view: Signal<View>;
  range: ReadonlySignal<[number, number] | null>;
  /** Times of comments, in seconds. */
  comments: number[];
  /** Where files of the case meet. */
  borders: Border[];
}

/** The whole video, or the part that may be seen, in one strip that is always in view, with a window to drag over the part that the lanes show. */
export function Overview({ lanes, player, view, range, comments, borders }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const head = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const { beginS, endS } = player;
  const share = (s: number) => (s - beginS) / (endS - beginS);
  useDrawing(canvas, width, OVERVIEW_H, [], [lanes], (context, colours, pixel) =>
    drawOverview(context, lanes, { fromS: beginS, toS: endS }, width.value, OVERVIEW_H, colours, pixel),
  );
  useEffect(
    () =>
      effect(() => {
        head.current!.style.transform = `translateX(${share(player.timeS.value) * width.value}px)`;
      }),
    [player, width],
  );
  const toward = (x: number) => player.seek(beginS + (x / Math.max(1, width.peek())) * (endS - beginS));
  return (
    <div class="overview" ref={box} data-keys onPointerDown={(event) => event.button === 0 && drag(event, { end: ({ x }) => toward(x) })}>
      <canvas ref={canvas} aria-hidden="true" />
      {borders.map((one) => (
        <span key={one.label} class={one.isHidden ? "border hidden-files" : "border"} title={one.label} style={{ left: `${100 * share(one.s)}%` }} />
      ))}
      {comments.map((s) => (
        <span key={s} class="comment" style={{ left: `${100 * share(s)}%` }} />
      ))}
      <Window box={box} view={view} width={width} beginS={beginS} endS={endS} marked={range.value ?? player.loop.value} seekX={toward} />
      <div class="head" ref={head} />
    </div>
  );
}

interface WindowProps {
  box: RefObject<HTMLElement | null>;
  view: Signal<View>;
  width: ReadonlySignal<number>;
  beginS: number;
  endS: number;
  marked: [number, number] | null;
  seekX: (x: number) => void;
}

/** Over the part that the lanes show. It is drawn anew with every move, the strip under it is not. */
function Window({ box, view, width, beginS, endS, marked, seekX }: WindowProps) {
  const { review } = words.value;
  const { fromS, toS } = view.value;
  const percent = (lengthS: number) => `${(100 * lengthS) / (endS - beginS)}%`;
  const place = (s: number) => percent(s - beginS);
  return (
    <>
      {marked && <div class="marked" style={{ left: place(marked[0]), width: percent(marked[1] - marked[0]) }} />}
      <div
        class="window"
        role="slider"
        tabIndex={0}
        aria-label={review.part}
        aria-valuemin={Math.round(beginS)}
        aria-valuemax={Math.round(endS)}
        aria-valuenow={Math.round(fromS)}
        aria-valuetext={review.partOf(clock(fromS), clock(toS))}
        style={{ left: place(fromS), width: percent(toS - fromS) }}
        onKeyDown={(event) => {
          const by = { ArrowLeft: -0.25, ArrowDown: -0.25, ArrowRight: 0.25, ArrowUp: 0.25, PageDown: 1, PageUp: -1 }[event.key];
          if (by === undefined || event.ctrlKey || event.altKey || event.shiftKey) return;
          event.preventDefault();
          view.value = moved(view.value, by * spanOfView(view.value), endS, beginS);
        }}
        onPointerDown={(event) => {
          if (event.button !== 0) return;
          event.stopPropagation();
          const before = view.peek();
          const left = event.clientX - box.current!.getBoundingClientRect().left;
          drag(event, {
            move: (at) => {
              if (at.moved) view.value = moved(before, (at.byX / Math.max(1, width.peek())) * (endS - beginS), endS, beginS);
            },
            end: (at) => {
              if (!at.moved) seekX(left);
            },
          });
        }}
      />
    </>
  );
}
