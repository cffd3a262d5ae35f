import { type Signal, batch, computed, effect, signal } from "@preact/signals";
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { useKeys } from "../../components/keys";
import { clock, clockTenths, words } from "../../words";
import { laneName, surety, whatIs } from "../describe";
import type { Lane, Player, Selection, Span } from "../interfaces";
import { isBand } from "../lanes";
import { happening } from "../now";
import { useDrawing, useWidth } from "./canvas";
import { drag } from "./drag";
import { AXIS_H, drawLanes, heightOf, LANE_H, spanUnder } from "./draw";
import { type End, Ends } from "./ends";
import { following, moved, showing, sOf, spanOfView, type View, xOf, zoomed } from "./geometry";
import { Overview } from "./overview";
import "./timeline.css";

const ZOOM = 1.6;
const NONE: number[] = [];
const NO_BORDERS: Border[] = [];

/** Where one file of a case ends and the next begins, and what is to be said of it. */
export interface Border {
  s: number;
  label: string;
  /** Files lie here that the user may not see. */
  isHidden: boolean;
}

interface Props {
  lanes: Lane[];
  player: Player;
  selection: Selection;
  /** Counts where the user went by hand: the lanes then show that place. */
  jumps: Signal<number>;
  /** Times of comments, in seconds: each has a mark on the strip of the whole video. */
  comments?: number[];
  /** Where files of the case meet. */
  borders?: Border[];
  /** Moves an end of the selected span; absent where the user may not. */
  onEnd?: (span: Span, end: End, toS: number) => void;
}

/** Takes a span: it is selected, and its time is marked. */
export function take(selection: Selection, span: Span | null): void {
  batch(() => {
    selection.span.value = span;
    selection.range.value = span && [span.startS, span.stopS];
  });
}

/** The overview of the whole video, and the lanes over the part that is shown. */
export function Timeline({ lanes, player, selection, jumps, comments = NONE, borders = NO_BORDERS, onEnd }: Props) {
  const { review } = words.value;
  const { beginS, endS, durationS } = player;
  const view = useMemo(() => signal<View>({ fromS: beginS, toS: endS }), [player]);
  useFollowing(view, player, jumps, selection);
  const zoom = (factor: number) => {
    const { fromS, toS } = view.value;
    const s = player.timeS.value;
    view.value = zoomed(view.value, factor, s >= fromS && s <= toS ? s : (fromS + toS) / 2, endS, beginS);
  };
  useKeys({ "+": () => zoom(1 / ZOOM), "=": () => zoom(1 / ZOOM), "-": () => zoom(ZOOM), "−": () => zoom(ZOOM) });
  return (
    <section class="timeline" aria-label={review.timeline} data-keys>
      {(beginS > 0 || endS < durationS) && <p class="soft">{words.value.shared.partOf(clock(beginS), clock(endS), clock(durationS))}</p>}
      <Overview lanes={lanes} player={player} view={view} range={selection.range} comments={comments} borders={borders} />
      <Lanes lanes={lanes} player={player} selection={selection} view={view} borders={borders} onEnd={onEnd} />
      <Bar view={view} player={player} zoom={zoom} />
      <Taken selection={selection} player={player} />
    </section>
  );
}

/** Which part is shown, and buttons to change it. */
function Bar({ view, player, zoom }: { view: Signal<View>; player: Player; zoom: (factor: number) => void }) {
  const { review } = words.value;
  const { fromS, toS } = view.value;
  const whole = () => {
    view.value = { fromS: player.beginS, toS: player.endS };
  };
  return (
    <div class="row bar">
      <span class="soft numbers">{review.shown(clock(fromS), clock(toS))}</span>
      <span class="zoom">
        <button type="button" class="plain small" aria-label={review.zoomOut} title={review.zoomOut} onClick={() => zoom(ZOOM)}>
          −
        </button>
        <button type="button" class="plain small" aria-label={review.zoomIn} title={review.zoomIn} onClick={() => zoom(1 / ZOOM)}>
          +
        </button>
        <button type="button" class="plain small" onClick={whole} disabled={spanOfView(view.value) >= player.endS - player.beginS}>
          {review.zoomAll}
        </button>
      </span>
    </div>
  );
}

/** Shows where the user goes, and follows playback from there; a look at another part meanwhile stays. */
function useFollowing(view: Signal<View>, player: Player, jumps: Signal<number>, selection: Selection): void {
  useEffect(() => {
    let lastS = player.timeS.peek();
    let lastJump = jumps.peek();
    const ends = [
      effect(() => {
        const s = player.timeS.value;
        const jump = jumps.value;
        const shown = view.peek();
        const wasSeen = lastS >= shown.fromS && lastS <= shown.toS;
        if (wasSeen || jump !== lastJump) view.value = following(shown, s, player.endS, player.beginS);
        [lastS, lastJump] = [s, jump];
      }),
      effect(() => {
        const span = selection.span.value;
        if (span) view.value = showing(view.peek(), span.startS, span.stopS, player.endS, player.beginS);
      }),
    ];
    return () => ends.forEach((end) => end());
  }, [view, player, jumps, selection]);
}

interface LanesProps extends Omit<Props, "jumps" | "comments"> {
  borders: Border[];
  view: Signal<View>;
}

function Lanes({ lanes, player, selection, view, borders, onEnd }: LanesProps) {
  const { beginS, endS } = player;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const head = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const height = heightOf(lanes);
  const [hover, setHover] = useState<{ span: Span; x: number; y: number } | null>(null);
  useDrawing(canvas, width, height, [view, selection.span], [lanes, words.value], (context, colours, pixel) =>
    drawLanes(context, { lanes, view: view.value, width: width.value, selected: selection.span.value, label: whatIs }, colours, pixel),
  );
  useEffect(
    () =>
      effect(() => {
        const x = xOf(view.value, width.value, player.timeS.value);
        const line = head.current!;
        line.style.transform = `translateX(${x}px)`;
        line.style.visibility = x >= 0 && x <= width.value ? "visible" : "hidden";
      }),
    [player, view, width],
  );
  useWheel(box, view, player, width);
  const sAt = (x: number) => Math.min(Math.max(beginS, sOf(view.peek(), width.peek(), x)), endS);
  const under = (event: MouseEvent) => {
    const at = canvas.current!.getBoundingClientRect();
    const s = sOf(view.peek(), width.peek(), event.clientX - at.left);
    return spanUnder(lanes, event.clientY - at.top, s, (2 * spanOfView(view.peek())) / Math.max(1, width.peek()));
  };
  const takeNow = () => {
    const seen = happening(lanes, player.timeS.peek()).filter(({ lane }) => !isBand(lane));
    const shortest = seen.sort((one, other) => length(one.span) - length(other.span))[0];
    if (shortest) take(selection, shortest.span);
  };
  useKeys({ Enter: takeNow });
  const onPointerDown = (event: PointerEvent) => {
    if (event.button !== 0) return;
    setHover(null);
    const before = view.peek();
    const marks = event.pointerType !== "touch";
    const fromS = sAt(event.clientX - canvas.current!.getBoundingClientRect().left);
    drag(event, {
      move: ({ x, byX, moved: isMoved }) => {
        if (!isMoved) return;
        if (!marks) view.value = moved(before, (-byX / Math.max(1, width.peek())) * spanOfView(before), endS, beginS);
        else selection.range.value = fromS < sAt(x) ? [fromS, sAt(x)] : [sAt(x), fromS];
      },
      end: ({ moved: isMoved }) => {
        if (!isMoved) player.seek(fromS);
      },
    });
  };
  return (
    <div class="lanes">
      <div class="names" aria-hidden="true" style={{ paddingTop: `${AXIS_H}px` }}>
        {lanes
          .filter((lane) => !isBand(lane))
          .map((lane) => (
            <div key={lane.tag} style={{ height: `${LANE_H}px` }}>
              {laneName(lane.tag)}
            </div>
          ))}
      </div>
      <div class="drawn" ref={box} style={{ height: `${height}px` }}>
        <Position lanes={lanes} player={player}>
          <canvas
            ref={canvas}
            style={{ height: `${height}px` }}
            onPointerDown={onPointerDown}
            onDblClick={(event) => take(selection, under(event))}
            onPointerMove={(event) => {
              if (event.buttons || event.pointerType === "touch") return;
              const at = box.current!.getBoundingClientRect();
              const span = under(event);
              setHover(span && { span, x: event.clientX - at.left, y: event.clientY - at.top });
            }}
            onPointerLeave={() => setHover(null)}
          />
        </Position>
        {borders.map((one) => (
          <BorderLine key={one.label} border={one} view={view} width={width} />
        ))}
        <Marked range={selection.range} loop={player.loop} view={view} width={width} />
        {onEnd && selection.span.value && <Ends span={selection.span.value} view={view} width={width} player={player} onDrag={onEnd} />}
        <div class="head" ref={head} />
        {hover && <Hint {...hover} width={width.value} />}
      </div>
    </div>
  );
}

/** Where two files meet. Nobody knows how much time lies between them, so it has no width. */
function BorderLine({ border, view, width }: { border: Border; view: Signal<View>; width: Signal<number> }) {
  const x = xOf(view.value, width.value, border.s);
  if (x < 0 || x > width.value) return null;
  return <div class={border.isHidden ? "border hidden-files" : "border"} title={border.label} style={{ transform: `translateX(${x}px)` }} />;
}

const length = (span: Span): number => span.stopS - span.startS;

/** The position as a slider for keyboard and screen reader: its value is the time and what happens then. */
function Position({ lanes, player, children }: { lanes: Lane[]; player: Player; children: ComponentChildren }) {
  const whole = useMemo(() => computed(() => Math.floor(player.timeS.value)), [player]).value;
  const now = happening(lanes, player.timeS.peek()).map(({ span }) => whatIs(span));
  return (
    <div
      class="position"
      role="slider"
      tabIndex={0}
      aria-label={words.value.review.position}
      aria-valuemin={Math.floor(player.beginS)}
      aria-valuemax={Math.floor(player.endS)}
      aria-valuenow={whole}
      aria-valuetext={[clock(whole), ...now].join(", ")}
    >
      {children}
    </div>
  );
}

function Marked({ range, loop, view, width }: { range: Selection["range"]; loop: Player["loop"]; view: Signal<View>; width: Signal<number> }) {
  const box = ([startS, stopS]: [number, number], kind: string) => {
    const [left, right] = [xOf(view.value, width.value, startS), xOf(view.value, width.value, stopS)].map((x) =>
      Math.min(Math.max(-2, x), width.value + 2),
    ) as [number, number];
    return <div class={kind} style={{ transform: `translateX(${left}px)`, width: `${right - left}px` }} />;
  };
  return (
    <>
      {range.value && box(range.value, "marked")}
      {loop.value && box(loop.value, "looped")}
    </>
  );
}

/** What lies under the pointer. The same stands in the table of all spans. */
function Hint({ span, x, y, width }: { span: Span; x: number; y: number; width: number }) {
  const side = x > width / 2 ? { right: `${width - x + 12}px` } : { left: `${x + 12}px` };
  return (
    <div class="hint" style={{ ...side, top: `${y + 14}px` }}>
      <b>{whatIs(span)}</b> <span>{surety(span)}</span>
      <br />
      {laneName(span.tag)}, {clockTenths(span.startS)} – {clockTenths(span.stopS)}
    </div>
  );
}

/** What is selected or marked, in words, with what can be done with it. */
function Taken({ selection, player }: { selection: Selection; player: Player }) {
  const { review } = words.value;
  const [span, range] = [selection.span.value, selection.range.value];
  return (
    <div class="row taken" aria-live="polite">
      {range && (
        <>
          <span class="numbers">
            {span
              ? review.selected(whatIs(span), clockTenths(span.startS), clockTenths(span.stopS))
              : review.marked(clockTenths(range[0]), clockTenths(range[1]))}
          </span>
          <button type="button" class="plain small" onClick={() => player.playSpan(...range)}>
            {review.playIt}
          </button>
          <button type="button" class="plain small" onClick={() => take(selection, null)}>
            {review.clear}
          </button>
        </>
      )}
    </div>
  );
}

/** Ctrl and the wheel (or a pinch on a touchpad) change how much is shown; a sideways wheel moves. */
function useWheel(box: RefObject<HTMLElement | null>, view: Signal<View>, { beginS, endS }: Player, width: Signal<number>): void {
  useEffect(() => {
    const element = box.current!;
    const onWheel = (event: WheelEvent) => {
      const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      const shown = view.peek();
      const sideways = event.deltaX || (event.shiftKey ? event.deltaY : 0);
      if (event.ctrlKey || event.metaKey) {
        const s = sOf(shown, width.peek(), event.clientX - element.getBoundingClientRect().left);
        view.value = zoomed(shown, Math.exp(event.deltaY * unit * 0.004), s, endS, beginS);
      } else if (sideways) {
        view.value = moved(shown, ((sideways * unit) / Math.max(1, width.peek())) * spanOfView(shown), endS, beginS);
      } else return;
      event.preventDefault();
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, [view, beginS, endS, width]);
}
