interface Props {
  id: string;
  label: string;
  value: string;
  onChange: (value: string) => void;
  /** Value → text, in the order of a list, or of an object's keys. */
  options: [string, string][] | Record<string, string>;
}

/** A choice of one out of a few, with its label. */
export function Choice({ id, label, value, onChange, options }: Props) {
  const pairs = Array.isArray(options) ? options : Object.entries(options);
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {pairs.map(([one, text]) => (
          <option key={one} value={one}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}
