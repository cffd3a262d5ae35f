import { computed } from "@preact/signals";
import { useMemo } from "preact/hooks";

import type { Lane, Player, Span } from "./interfaces";
import { isBand, spansAt } from "./lanes";
import { laneName, surety, whatIs } from "./describe";
import { qualityShown } from "./quality";
import { type Stitch, stitchAt } from "./stitches";
import { words } from "../words";
import { Swatch } from "./swatch";

interface Happening {
  lane: Lane;
  span: Span;
}

/** What is seen at second `s`, by lane; without what a person has rejected. */
export const happening = (lanes: Lane[], s: number): Happening[] =>
  lanes.flatMap((lane) =>
    spansAt(lane, s)
      .filter((span) => span.state !== "rejected")
      .map((span) => ({ lane, span })),
  );

/** What is seen now. It changes where a span begins or ends, not with every frame, and so does what is drawn from it. */
export function useHappening(lanes: Lane[], player: Player): Happening[] {
  const found = useMemo(() => {
    let last: Happening[] = [];
    return computed(() => {
      const next = happening(lanes, player.timeS.value);
      const isSame = next.length === last.length && next.every(({ span }, n) => span === last[n]!.span);
      return isSame ? last : (last = next);
    });
  }, [lanes, player]);
  return found.value;
}

/** A stretch that is unknown in several lanes is told once. */
const withoutRepeats = (found: Happening[]): Happening[] =>
  found.filter(({ lane, span }, n) => !isBand(lane) || found.findIndex((one) => one.lane.tag === lane.tag && one.span.category === span.category) === n);

interface Props {
  lanes: Lane[];
  stitches: Stitch[];
  player: Player;
  hasQuality: boolean;
  /** Looks for moments like the one that is shown, in all cases; missing where the user may not. */
  onMore?: () => void;
}

/** What happens now, lane by lane. `lanes` are those that are shown, so without proficiency until it is asked for. */
export function Now({ lanes, stitches, player, hasQuality, onMore }: Props) {
  const { review } = words.value;
  const found = useHappening(lanes, player);
  const stitch = useMemo(() => computed(() => stitchAt(stitches, player.timeS.value)), [stitches, player]).value;
  return (
    <section class="now card" aria-labelledby="now-title">
      <h2 id="now-title">{review.now}</h2>
      {found.length === 0 && <p class="soft">{review.nothing}</p>}
      <dl>
        {withoutRepeats(found).map(({ lane, span }) => (
          <div key={span.id}>
            <dt>{laneName(lane.tag)}</dt>
            <dd>
              {!isBand(lane) && <Swatch lane={lane} category={span.category} />}
              <b>{isBand(lane) && span.source === "gap" ? span.category : whatIs(span)}</b> <span class="soft">{surety(span)}</span>
            </dd>
          </div>
        ))}
        {stitch && (
          <div>
            <dt>{review.stitch}</dt>
            <dd>
              <b>{review.stitchOf(stitch.index, stitches.length)}</b>{" "}
              {stitch.target && <span class="soft">{`${review.target}: ${stitch.target}`}</span>}
            </dd>
          </div>
        )}
      </dl>
      <div class="row">
        {onMore && (
          <button type="button" class="plain small" onClick={onMore}>
            {review.moreLikeThis}
          </button>
        )}
        {hasQuality && (
          <button
            type="button"
            class="plain small"
            aria-pressed={qualityShown.value}
            onClick={() => {
              qualityShown.value = !qualityShown.value;
            }}
          >
            {review.showQuality}
          </button>
        )}
      </div>
      {hasQuality && !qualityShown.value && <p class="soft">{review.quality}</p>}
    </section>
  );
}
