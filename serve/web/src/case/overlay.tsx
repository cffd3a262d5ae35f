import type { Lane, Player } from "./interfaces";
import { happening, useHappening } from "./now";

/** What the picture says at a moment: the step, and the finest thing that is done in it, with its target. */
export function lowerThird(seen: ReturnType<typeof happening>): string[] {
  const of = (tag: string) => seen.find(({ lane }) => lane.tag === tag)?.span.category;
  return [of("step"), of("action") ?? of("phase"), of("anatomy")].filter((text): text is string => text !== undefined);
}

/** Annotations drawn on the picture, in its lower third. The same stands as text under "now", so readers skip it. */
export function Overlay({ lanes, player }: { lanes: Lane[]; player: Player }) {
  const [first, ...rest] = lowerThird(useHappening(lanes, player));
  if (!first) return null;
  return (
    <p class="lower-third" aria-hidden="true">
      <b>{first}</b> {rest.join(" · ")}
    </p>
  );
}
