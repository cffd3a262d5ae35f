/** A span in words. */
import { percent, words } from "../words";
import type { Span } from "./interfaces";

/** The name of a lane for people. */
export function laneName(tag: string): string {
  return words.value.review.tags[tag] ?? tag.charAt(0).toUpperCase() + tag.slice(1).replaceAll("_", " ");
}

/** What happens in a span, such as "Suturing". */
export function whatIs(span: Span): string {
  const { review } = words.value;
  if (span.source === "gap") return review.gap(span.category === "gap" ? "" : span.category);
  if (span.source === "unknown") return review.unknown;
  return span.category;
}

/** How sure the model is, or what a person made of it. */
export function surety(span: Span): string {
  const { review } = words.value;
  const parts: string[] = [];
  if (span.confidence !== null && span.state !== "added") parts.push(review.sure(percent(span.confidence)));
  if (span.state) parts.push(`${review.states[span.state]}${span.author ? ` ${review.by(span.author)}` : ""}`);
  return parts.join(", ");
}
