import type { Lane } from "./interfaces";
import { laneName } from "./describe";
import { GAP, isBand, UNKNOWN } from "./lanes";
import { Swatch } from "./swatch";
import { words } from "../words";

/** The categories that a lane shows, in the taxonomy's order: all of a scale, of others those that occur. */
export function categoriesShown(lane: Lane): string[] {
  if (lane.ordered) return lane.categories;
  const there = new Set(lane.spans.map((span) => span.category));
  return lane.categories.filter((category) => there.has(category));
}

export function Legend({ lanes }: { lanes: Lane[] }) {
  const { review } = words.value;
  const has = (state: string) => lanes.some((lane) => lane.spans.some((span) => span.state && (state === "" || span.state === state)));
  return (
    <details class="legend card">
      <summary>{review.legend}</summary>
      <dl>
        {lanes
          .filter((lane) => !isBand(lane) && lane.spans.length > 0)
          .map((lane) => (
            <div key={lane.tag}>
              <dt>{laneName(lane.tag)}</dt>
              <dd>
                {categoriesShown(lane).map((category) => (
                  <span class="named" key={category}>
                    <Swatch lane={lane} category={category} /> {category}
                  </span>
                ))}
                {lane.ordered && <span class="soft">({review.legendScale})</span>}
              </dd>
            </div>
          ))}
      </dl>
      <ul>
        <li>{review.legendShade}</li>
        {has("") && <li>{review.legendPerson}</li>}
        {has("rejected") && <li>{review.legendRejected}</li>}
        {lanes.some((lane) => lane.tag === UNKNOWN) && <li>{review.legendUnknown}</li>}
        {lanes.some((lane) => lane.tag === GAP) && <li>{review.legendGap}</li>}
      </ul>
    </details>
  );
}
