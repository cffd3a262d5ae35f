import { useId, useState } from "preact/hooks";

import { words } from "../../words";
import { clockHundredths, parseTime } from "./times";

/**
 * One end of a span as a time that can be written, and moved by a frame. `onMove` says whether the span can have it;
 * `frameS`: the length of a frame in seconds.
 */
export function EndField({ label, valueS, frameS, onMove }: { label: string; valueS: number; frameS: number; onMove: (toS: number) => boolean }) {
  const { edit: text } = words.value;
  const id = useId();
  /** What is written and not taken yet; null: the field shows the end as it is, to the millisecond unchanged. */
  const [draft, setDraft] = useState<string | null>(null);
  const [isBad, setBad] = useState(false);
  const moved = (isTaken: boolean) => {
    setBad(!isTaken);
    if (isTaken) setDraft(null);
  };
  const take = () => {
    if (draft === null) return;
    const toS = parseTime(draft);
    if (draft === clockHundredths(valueS)) moved(true);
    else moved(toS !== null && onMove(toS));
  };
  const nudge = (frames: number) => moved(onMove(valueS + frames * frameS));
  return (
    <div class="field end">
      <label for={id}>{label}</label>
      <div class="row">
        <button type="button" class="plain small" aria-label={`${label}: ${text.earlier}`} title={text.earlier} onClick={() => nudge(-1)}>
          −
        </button>
        <input
          id={id}
          class="numbers"
          inputMode="decimal"
          autocomplete="off"
          aria-invalid={isBad}
          aria-describedby={isBad ? `${id}-bad` : undefined}
          value={draft ?? clockHundredths(valueS)}
          onInput={(event) => setDraft(event.currentTarget.value)}
          onBlur={take}
          onKeyDown={(event) => {
            if (event.key === "Enter") take();
            else if (event.key === "ArrowUp") nudge(1);
            else if (event.key === "ArrowDown") nudge(-1);
            else return;
            event.preventDefault();
          }}
        />
        <button type="button" class="plain small" aria-label={`${label}: ${text.later}`} title={text.later} onClick={() => nudge(1)}>
          +
        </button>
      </div>
      {isBad && (
        <p id={`${id}-bad`} class="bad-time" role="alert">
          {text.badTime}
        </p>
      )}
    </div>
  );
}
