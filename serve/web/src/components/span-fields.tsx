import { clock, words } from "../words";
import { parseClock } from "../words/parse-clock";

/** Two times as a person writes them. */
export interface SpanText {
  from: string;
  to: string;
}

export const spanText = (startS: number, stopS: number): SpanText => ({ from: clock(startS), to: clock(stopS) });

/** [start, stop] in seconds within a video; null where the texts are no span of it. The end may be rounded up. */
export function spanOf(text: SpanText, durationS: number): [number, number] | null {
  const [start, stop] = [parseClock(text.from), parseClock(text.to)];
  if (start === null || stop === null) return null;
  const end = Math.min(stop, durationS);
  return start < end ? [start, end] : null;
}

/** The fields for a part of a video. */
export function SpanFields({ id, value, onChange }: { id: string; value: SpanText; onChange: (value: SpanText) => void }) {
  const { share } = words.value;
  return (
    <>
      {(["from", "to"] as const).map((end) => (
        <div class="field" key={end}>
          <label for={`${id}-${end}`}>{share[end]}</label>
          <input
            id={`${id}-${end}`}
            size={8}
            inputMode="decimal"
            autocomplete="off"
            value={value[end]}
            onInput={(event) => onChange({ ...value, [end]: event.currentTarget.value })}
          />
        </div>
      ))}
    </>
  );
}
