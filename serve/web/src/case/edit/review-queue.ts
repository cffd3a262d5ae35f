/** What to look at next: the model's answers that nobody has looked at, least sure first. */
import { rowId } from "./changes";
import type { LayerLane, LayerSpan } from "./merged";

/** Of the lanes (`tag` null: of all), least sure first, of equally sure ones the earlier first. */
export function toLookAt(lanes: readonly LayerLane[], tag: string | null): LayerSpan[] {
  return lanes
    .filter((lane) => tag === null || lane.tag === tag)
    .flatMap((lane) => lane.spans.filter((span) => span.source === "ai"))
    .sort((one, other) => (one.confidence ?? 0) - (other.confidence ?? 0) || one.startS - other.startS);
}

/** How many of the model's rows somebody has looked at, and how many there are. A row that is cut counts once. */
export function progress(lanes: readonly LayerLane[], tag: string | null): { looked: number; all: number } {
  const [looked, rest] = [new Set<string>(), new Set<string>()];
  for (const lane of lanes)
    if (tag === null || lane.tag === tag)
      for (const span of lane.spans) if (span.row) (span.state ? looked : rest).add(rowId(span.row));
  for (const id of looked) rest.delete(id);
  return { looked: looked.size, all: looked.size + rest.size };
}
