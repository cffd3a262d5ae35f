/** A canvas that is as wide as its box, sharp on every screen, and drawn at most once a frame. */
import { type ReadonlySignal, type Signal, effect, signal } from "@preact/signals";
import { type RefObject } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";

import { type Colours, resolved } from "./colours";

/** The width of an element in pixels; 0 before it is laid out. */
export function useWidth(element: RefObject<HTMLElement | null>): Signal<number> {
  const width = useMemo(() => signal(0), []);
  useLayoutEffect(() => {
    const box = element.current!;
    const look = () => {
      width.value = box.clientWidth;
    };
    look();
    const observer = new ResizeObserver(look);
    observer.observe(box);
    return () => observer.disconnect();
  }, []);
  return width;
}

/** Draws once in the next frame, however often it is asked to. */
export function oncePerFrame(draw: () => void): { ask: () => void; stop: () => void } {
  let frame = 0;
  const ask = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      draw();
    });
  };
  return { ask, stop: () => cancelAnimationFrame(frame) };
}

type Draw = (context: CanvasRenderingContext2D, colours: Colours, pixel: number) => void;

/**
 * Draws on `canvas` whenever its size, one of the signals in `watch` or something in `parts` changes, and when light
 * turns dark. `draw` gets the size of a device's pixel in CSS pixels.
 */
export function useDrawing(
  canvas: RefObject<HTMLCanvasElement | null>,
  width: Signal<number>,
  height: number,
  watch: ReadonlySignal<unknown>[],
  parts: unknown[],
  draw: Draw,
): void {
  const latest = useRef(draw);
  latest.current = draw;
  const size = useRef(height);
  size.current = height;
  const drawing = useRef<ReturnType<typeof oncePerFrame> | null>(null);
  useEffect(() => {
    const shown = canvas.current!;
    const context = shown.getContext("2d");
    if (!context) return;
    let colours: Colours | null = null;
    const paint = () => {
      colours ??= resolved(shown.parentElement!);
      const ratio = window.devicePixelRatio || 1;
      const [w, h] = [Math.round(width.peek() * ratio), Math.round(size.current * ratio)];
      if (shown.width !== w || shown.height !== h) [shown.width, shown.height] = [w, h];
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      latest.current(context, colours, 1 / ratio);
    };
    const own = oncePerFrame(paint);
    drawing.current = own;
    const unwatch = effect(() => {
      for (const one of [width, ...watch]) void one.value;
      own.ask();
    });
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const recolour = () => {
      colours = null;
      own.ask();
    };
    dark.addEventListener("change", recolour);
    return () => {
      unwatch();
      own.stop();
      drawing.current = null;
      dark.removeEventListener("change", recolour);
    };
  }, [width, ...watch]);
  useEffect(() => drawing.current?.ask(), [height, ...parts]);
}
