/** Draws lanes on a canvas. Nothing here keeps anything: a picture follows from its arguments. */
import { clock, clockTenths } from "../../words";
import type { Lane, Span } from "../interfaces";
import { GAP, isBand, visible } from "../lanes";
import { type Colours, shade, token } from "./colours";
import { type View, ticks, xOf } from "./geometry";

export const [AXIS_H, LANE_H] = [24, 28];
const [PAD_PX, EDGE_PX, TEXT_FROM_PX] = [3, 3, 30];

export interface Picture {
  lanes: Lane[];
  view: View;
  width: number;
  selected: Span | null;
  /** What stands on a span, and on a stretch that is not mapped or unknown. */
  label: (span: Span) => string;
}

export const heightOf = (lanes: Lane[]): number => AXIS_H + Math.max(1, lanes.filter((lane) => !isBand(lane)).length) * LANE_H;

/**
 * Calls `draw` for the spans of a lane that the view shows, with their left and right end in pixels. Where many spans
 * fall into one pixel only the first is drawn: so the work is bounded by the width, whatever the length of the lane.
 */
export function eachVisible(
  lane: Lane,
  view: View,
  width: number,
  pixel: number,
  draw: (span: Span, left: number, right: number) => void,
): number {
  const [first, last] = visible(lane.spans, view.fromS, view.toS);
  let [lastColumn, count] = [-Infinity, 0];
  for (let n = first; n < last; n++) {
    const span = lane.spans[n]!;
    const right = xOf(view, width, span.stopS);
    if (right <= 0) continue;
    const left = xOf(view, width, span.startS);
    const column = Math.floor(left / pixel);
    if (right - left < pixel && column === lastColumn) continue;
    draw(span, left, Math.max(right, left + pixel));
    lastColumn = column;
    count++;
  }
  return count;
}

/** Draws the time axis, the lanes, and over them what is not mapped. Returns how many spans it drew. */
export function drawLanes(context: CanvasRenderingContext2D, picture: Picture, colours: Colours, pixel: number): number {
  const { lanes, view, width } = picture;
  const height = heightOf(lanes);
  context.clearRect(0, 0, width, height);
  context.font = `13px ${colours["font"]}`;
  context.textBaseline = "middle";
  drawAxis(context, view, width, height, colours);
  let [top, drawn] = [AXIS_H, 0];
  for (const lane of lanes) {
    if (isBand(lane)) continue;
    drawn += drawLane(context, lane, picture, top, colours, pixel);
    top += LANE_H;
    context.fillStyle = colours["--line"]!;
    context.fillRect(0, top - 1, width, 1);
  }
  for (const lane of lanes)
    if (isBand(lane)) drawn += drawBands(context, lane, picture, AXIS_H, height, colours, pixel);
  return drawn;
}

function drawAxis(context: CanvasRenderingContext2D, view: View, width: number, height: number, colours: Colours): void {
  const { stepS, at } = ticks(view, width);
  for (const s of at) {
    const x = Math.round(xOf(view, width, s));
    context.fillStyle = colours["--line"]!;
    context.fillRect(x, 0, 1, height);
    context.fillStyle = colours["--soft"]!;
    context.fillText(stepS < 1 ? clockTenths(s) : clock(s), x + 4, AXIS_H / 2);
  }
}

function drawLane(
  context: CanvasRenderingContext2D,
  lane: Lane,
  picture: Picture,
  top: number,
  colours: Colours,
  pixel: number,
): number {
  const [y, h] = [top + PAD_PX, LANE_H - 2 * PAD_PX];
  return eachVisible(lane, picture.view, picture.width, pixel, (span, left, right) => {
    const colour = colours[token(lane, span.category)]!;
    const from = Math.max(left, -1);
    const w = Math.max(pixel, Math.min(right, picture.width + 1) - from - (right - left > 3 ? 1 : 0));
    context.fillStyle = colour;
    if (span.state === "rejected") {
      context.strokeStyle = colour;
      context.setLineDash([3, 3]);
      context.strokeRect(from + 0.5, y + 0.5, Math.max(1, w - 1), h - 1);
      context.setLineDash([]);
    } else {
      context.globalAlpha = shade(span);
      context.fillRect(from, y, w, h);
      context.globalAlpha = 1;
      context.fillRect(from, y + h - EDGE_PX, w, EDGE_PX);
    }
    if (span.state) {
      context.fillStyle = colours["--person"]!;
      context.fillRect(from, y, w, EDGE_PX);
    }
    if (picture.selected?.id === span.id) {
      context.strokeStyle = colours["--accent"]!;
      context.lineWidth = 2;
      context.strokeRect(from + 1, y, Math.max(1, w - 2), h);
      context.lineWidth = 1;
    }
    // The label stands at the left end of what is seen of the span, so that a long span keeps it.
    if (w > TEXT_FROM_PX) write(context, picture.label(span), from + 5, y + h / 2, w - 9, colours["--ink"]!);
  });
}

function drawBands(
  context: CanvasRenderingContext2D,
  lane: Lane,
  picture: Picture,
  top: number,
  bottom: number,
  colours: Colours,
  pixel: number,
): number {
  const colour = colours[lane.tag === GAP ? "--not-mapped" : "--unknown"]!;
  return eachVisible(lane, picture.view, picture.width, pixel, (span, left, right) => {
    const [from, to] = [Math.max(left, 0), Math.min(right, picture.width)];
    hatch(context, from, to, top, bottom, colour, lane.tag === GAP ? [1, 8] : [-1, 8], pixel);
    if (to - from <= TEXT_FROM_PX) return;
    const text = fitted(context, picture.label(span), to - from - 12);
    const y = top + LANE_H / 2 + (lane.tag === GAP ? 0 : LANE_H);
    context.fillStyle = colours["--card"]!;
    context.fillRect(from + 3, y - 9, context.measureText(text).width + 6, 18);
    context.fillStyle = colours["--ink"]!;
    context.fillText(text, from + 6, y);
  });
}

/** Lines at 45 degrees: rising (`1`) for what is not mapped, falling (`-1`) for what is unknown. */
function hatch(
  context: CanvasRenderingContext2D,
  from: number,
  to: number,
  top: number,
  bottom: number,
  colour: string,
  [direction, apart]: [number, number],
  pixel: number,
): void {
  context.save();
  context.beginPath();
  context.rect(from, top, Math.max(pixel, to - from), bottom - top);
  context.clip();
  context.fillStyle = colour;
  context.globalAlpha = 0.1;
  context.fillRect(from, top, to - from, bottom - top);
  context.globalAlpha = 0.6;
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.beginPath();
  const h = bottom - top;
  for (let x = Math.floor((from - h) / apart) * apart; x < to; x += apart) {
    context.moveTo(x, direction > 0 ? bottom : top);
    context.lineTo(x + h, direction > 0 ? top : bottom);
  }
  context.stroke();
  context.restore();
}

function write(context: CanvasRenderingContext2D, text: string, x: number, y: number, room: number, colour: string): void {
  context.fillStyle = colour;
  context.fillText(fitted(context, text, room), x, y);
}

// The width of a text in a font never changes, and asking for it is the dearest part of a frame.
const widths = new Map<string, number>();

function widthOf(context: CanvasRenderingContext2D, text: string): number {
  const key = `${context.font}|${text}`;
  let width = widths.get(key);
  if (width === undefined) {
    if (widths.size > 5000) widths.clear();
    widths.set(key, (width = context.measureText(text).width));
  }
  return width;
}

function fitted(context: CanvasRenderingContext2D, text: string, room: number): string {
  if (widthOf(context, text) <= room) return text;
  const letters = Math.floor((text.length * room) / widthOf(context, text)) - 1;
  return letters > 0 ? `${text.slice(0, letters)}…` : "";
}

/** Draws `view`, which is all that may be seen, in one strip: the step lane (or the first), and what is not mapped or unknown over it. */
export function drawOverview(
  context: CanvasRenderingContext2D,
  lanes: Lane[],
  view: View,
  width: number,
  height: number,
  colours: Colours,
  pixel: number,
): void {
  context.clearRect(0, 0, width, height);
  const lane = lanes.find((one) => one.tag === "step" && one.spans.length) ?? lanes.find((one) => !isBand(one) && one.spans.length);
  if (lane)
    eachVisible(lane, view, width, pixel, (span, left, right) => {
      if (span.state === "rejected") return;
      context.fillStyle = colours[token(lane, span.category)]!;
      context.globalAlpha = 0.25 + 2 * (shade(span) - 0.1);
      context.fillRect(left, 4, right - left, height - 8);
    });
  context.globalAlpha = 1;
  for (const band of lanes)
    if (isBand(band))
      eachVisible(band, view, width, pixel, (_span, left, right) =>
        hatch(context, left, right, 4, height - 4, colours[band.tag === GAP ? "--not-mapped" : "--unknown"]!, [band.tag === GAP ? 1 : -1, 5], pixel),
      );
}

/** The span under a point of the lanes, the shortest where several lie there. */
export function spanUnder(lanes: Lane[], y: number, s: number, slackS: number): Span | null {
  const shown = lanes.filter((lane) => !isBand(lane));
  const lane = shown[Math.floor((y - AXIS_H) / LANE_H)];
  const candidates = [lane, ...lanes.filter(isBand)].filter((one): one is Lane => one !== undefined);
  for (const one of candidates) {
    const [first, last] = visible(one.spans, s - slackS, s + slackS);
    let best: Span | null = null;
    for (let n = first; n < last; n++) {
      const span = one.spans[n]!;
      const holds = span.startS - slackS <= s && s < span.stopS + slackS;
      if (holds && (!best || span.stopS - span.startS < best.stopS - best.startS)) best = span;
    }
    if (best) return best;
  }
  return null;
}
