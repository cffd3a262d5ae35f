/** Seconds to pixels and back: which part of the video the lanes show, in a width of so many pixels. */

/** [fromS, toS): what the lanes show. */
export interface View {
  fromS: number;
  toS: number;
}

/** The shortest part that can be shown, in seconds: then a frame at 25 per second is some 20 pixels wide. */
export const SHORTEST_S = 2;

export const spanOfView = (view: View): number => view.toS - view.fromS;
export const xOf = (view: View, width: number, s: number): number => ((s - view.fromS) / spanOfView(view)) * width;
export const sOf = (view: View, width: number, x: number): number =>
  view.fromS + (x / Math.max(1, width)) * spanOfView(view);

/** The same part, moved and shortened to lie within [beginS, endS), which is what may be seen. */
export function within(view: View, endS: number, beginS = 0): View {
  const wholeS = endS - beginS;
  const length = Math.min(wholeS, Math.max(Math.min(SHORTEST_S, wholeS), spanOfView(view)));
  const fromS = Math.min(Math.max(beginS, view.fromS), endS - length);
  return { fromS, toS: fromS + length };
}

/** Shows `factor` times as much, with second `aroundS` staying where it is. */
export function zoomed(view: View, factor: number, aroundS: number, endS: number, beginS = 0): View {
  const wholeS = endS - beginS;
  const length = Math.min(wholeS, Math.max(Math.min(SHORTEST_S, wholeS), spanOfView(view) * factor));
  const share = (aroundS - view.fromS) / spanOfView(view);
  const fromS = aroundS - share * length;
  return within({ fromS, toS: fromS + length }, endS, beginS);
}

export const moved = (view: View, byS: number, endS: number, beginS = 0): View =>
  within({ fromS: view.fromS + byS, toS: view.toS + byS }, endS, beginS);

/**
 * The part to show when playback is at `s`. It turns a page where the position comes near its end, and does not glide:
 * labels can then be read while the video plays.
 */
export function following(view: View, s: number, endS: number, beginS = 0): View {
  const length = spanOfView(view);
  if (s >= view.fromS && (s <= view.toS - 0.1 * length || view.toS >= endS)) return view;
  return within({ fromS: s - 0.1 * length, toS: s + 0.9 * length }, endS, beginS);
}

/** Moves the part so far that [startS, stopS) is seen, and shows more where it does not fit. */
export function showing(view: View, startS: number, stopS: number, endS: number, beginS = 0): View {
  if (startS >= view.fromS && stopS <= view.toS) return view;
  const length = Math.max(spanOfView(view), (stopS - startS) * 1.2);
  const middle = (startS + stopS) / 2;
  return within({ fromS: middle - length / 2, toS: middle + length / 2 }, endS, beginS);
}

const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

/** The times to write above the lanes: round ones, at least `apart` pixels from each other. `stepS`: between two. */
export function ticks(view: View, width: number, apart = 72): { stepS: number; at: number[] } {
  const perS = width / spanOfView(view);
  const stepS = STEPS_S.find((step) => step * perS >= apart) ?? 14400;
  const at: number[] = [];
  for (let n = Math.ceil(view.fromS / stepS - 1e-9); n * stepS <= view.toS; n++) at.push(n * stepS);
  return { stepS, at };
}
