import type { ReadonlySignal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";

import { clockTenths, words } from "../../words";
import { whatIs } from "../describe";
import type { Player, Span } from "../interfaces";
import { drag } from "./drag";
import { spanOfView, type View, xOf } from "./geometry";

export type End = "start" | "stop";

interface Props {
  span: Span;
  view: ReadonlySignal<View>;
  width: ReadonlySignal<number>;
  player: Player;
  onDrag: (span: Span, end: End, toS: number) => void;
}

/** The two ends of the selected span, to be moved: by the pointer, or with arrow keys (Shift: by one frame). */
export const Ends = (props: Props) => (
  <>
    <Handle key={`${props.span.id} start`} {...props} end="start" />
    <Handle key={`${props.span.id} stop`} {...props} end="stop" />
  </>
);

/** Where an end may be: within the video, and at least one frame from the other end. */
export function boundedEnd(span: Span, end: End, s: number, durationS: number, frameS: number): number {
  const bounded = end === "start" ? Math.min(Math.max(0, s), span.stopS - frameS) : Math.max(Math.min(durationS, s), span.startS + frameS);
  return Math.round(bounded * 1000) / 1000;
}

function Handle({ span, end, view, width, player, onDrag }: Props & { end: End }) {
  const { review } = words.value;
  const [draggedTo, setDraggedTo] = useState<number | null>(null);
  const endS = end === "start" ? span.startS : span.stopS;
  const s = draggedTo ?? endS;
  // Where the key before has moved the end: the next key may come before that is drawn.
  const asked = useRef<number | null>(null);
  useEffect(() => {
    asked.current = null;
  }, [endS]);
  const x = xOf(view.value, width.value, s);
  const frameS = 1 / player.fps;
  const bounded = (to: number) => boundedEnd(span, end, to, player.durationS, frameS);
  const isSeen = x >= -12 && x <= width.value + 12;
  return (
    <div
      class={`end ${end}`}
      role="slider"
      tabIndex={0}
      aria-label={(end === "start" ? review.startOf : review.stopOf)(whatIs(span))}
      aria-valuemin={0}
      aria-valuemax={player.durationS}
      aria-valuenow={Math.round(s * 1000) / 1000}
      aria-valuetext={clockTenths(s)}
      style={{ transform: `translateX(${x}px)`, visibility: isSeen ? undefined : "hidden" }}
      onKeyDown={(event) => {
        const byS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
        if (byS === undefined || event.ctrlKey || event.altKey) return;
        event.preventDefault();
        asked.current = bounded((asked.current ?? s) + byS * (event.shiftKey ? frameS : 1));
        onDrag(span, end, asked.current);
      }}
      onBlur={() => {
        asked.current = null;
      }}
      onPointerDown={(event) => {
        if (event.button !== 0) return;
        const perPixelS = spanOfView(view.peek()) / Math.max(1, width.peek());
        const to = (byX: number) => bounded(s + byX * perPixelS);
        drag(event, {
          move: ({ byX }) => setDraggedTo(to(byX)),
          end: ({ byX, moved }) => {
            setDraggedTo(null);
            if (moved) onDrag(span, end, to(byX));
          },
          cancel: () => setDraggedTo(null),
        });
      }}
    >
      {draggedTo !== null && <span class="told">{clockTenths(draggedTo)}</span>}
    </div>
  );
}
