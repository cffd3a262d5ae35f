import { Choice } from "../components/choice";
import { words } from "../words";

/** What the library is asked for, as it stands in the address. Empty: everything. */
export interface Wanted {
  q: string;
  procedure: string;
  label: string;
  status: string;
  since: string;
  until: string;
  order: string;
}

export const NOTHING: Wanted = { q: "", procedure: "", label: "", status: "", since: "", until: "", order: "" };
export const wantedOf = (query: URLSearchParams): Wanted =>
  Object.fromEntries(Object.keys(NOTHING).map((name) => [name, query.get(name) ?? ""])) as unknown as Wanted;
export const isFiltered = (wanted: Wanted): boolean =>
  Object.entries(wanted).some(([name, value]) => name !== "order" && value !== "");

interface Props {
  wanted: Wanted;
  procedures: string[];
  onChange: (wanted: Wanted) => void;
  /** Looks for moments that the words of the search describe. */
  onMoments: (text: string) => void;
}

/** The search in words, filters, and the order. */
export function Filters({ wanted, procedures, onChange, onMoments }: Props) {
  const { library } = words.value;
  const set = (name: keyof Wanted) => (value: string) => onChange({ ...wanted, [name]: value });
  const field = (name: "q" | "label" | "since" | "until", label: string, type: "search" | "text" | "date") => (
    <div class="field">
      <label for={`library-${name}`}>{label}</label>
      <input
        id={`library-${name}`}
        type={type as "text"}
        maxLength={type === "date" ? undefined : 200}
        placeholder={name === "q" ? library.searchHint : undefined}
        value={wanted[name]}
        onInput={(event) => set(name)(event.currentTarget.value)}
      />
    </div>
  );
  return (
    <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
      <div class="row">
        {field("q", library.search, "search")}
        <button type="button" class="plain" title={library.moments.findMeans} disabled={!wanted.q.trim()} onClick={() => onMoments(wanted.q.trim())}>
          {library.moments.find}
        </button>
        <Choice id="library-order" label={library.order} value={wanted.order || "newest"} onChange={set("order")} options={library.orders} />
      </div>
      <details open={["procedure", "label", "status", "since", "until"].some((name) => wanted[name as keyof Wanted])}>
        <summary>{library.filters}</summary>
        <div class="row">
          <Choice
            id="library-procedure"
            label={library.procedure}
            value={wanted.procedure}
            onChange={set("procedure")}
            options={[["", library.any], ...procedures.map((one): [string, string] => [one, one])]}
          />
          <Choice
            id="library-status"
            label={library.status}
            value={wanted.status}
            onChange={set("status")}
            options={[["", library.any], ...Object.entries(library.states)]}
          />
          {field("label", library.label, "text")}
          {field("since", library.since, "date")}
          {field("until", library.until, "date")}
          <button type="button" class="plain" disabled={!isFiltered(wanted)} onClick={() => onChange({ ...NOTHING, order: wanted.order })}>
            {library.clear}
          </button>
        </div>
      </details>
    </form>
  );
}
