/** What a colour of the timeline means: a category of its lane, a step of a scale, or nothing that the model knows. */
import type { Lane, Span } from "../interfaces";

export const CATEGORY_COLOURS = 10;
export const ORDERED_COLOURS = 3;
/** How much of a span's colour fills it, from the least sure to the surest. Text stands on it, so it never is full. */
export const [PALEST, FULLEST] = [0.1, 0.45];

/** The token of style/tokens.css that a category has in its lane. A scale of two has the ends of the colours. */
export function token(lane: Pick<Lane, "categories" | "ordered">, category: string): string {
  const index = Math.max(0, lane.categories.indexOf(category));
  if (!lane.ordered) return `--c${index % CATEGORY_COLOURS}`;
  const last = Math.max(1, lane.categories.length - 1);
  return `--o${Math.round((Math.min(index, last) / last) * (ORDERED_COLOURS - 1))}`;
}

/** The share of colour in a span's fill: the surer, the fuller. What a person has said is sure. */
export function shade(span: Pick<Span, "confidence" | "state" | "source">): number {
  const sure = span.state || span.source === "manual" ? 1 : (span.confidence ?? 0);
  return PALEST + (FULLEST - PALEST) * Math.min(1, Math.max(0, sure));
}

/** The names of all tokens that are drawn. */
export const TOKENS = [
  ...Array.from({ length: CATEGORY_COLOURS }, (_, n) => `--c${n}`),
  ...Array.from({ length: ORDERED_COLOURS }, (_, n) => `--o${n}`),
  ...["--ink", "--soft", "--line", "--edge", "--card", "--raised", "--accent", "--unknown", "--not-mapped", "--person", "--focus"],
];
export type Colours = Record<string, string>;

/** The colours as the browser computes them for light or dark, by token. A canvas can't read `var()` itself. */
export function resolved(within: HTMLElement): Colours {
  const probe = document.createElement("span");
  probe.hidden = true;
  within.append(probe);
  const found: Colours = {};
  for (const name of TOKENS) {
    probe.style.color = `var(${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  found["font"] = getComputedStyle(within).fontFamily;
  probe.remove();
  return found;
}
