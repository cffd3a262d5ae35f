import type { Case } from "../api/cases";
import { words } from "../words";

/** What a case is called besides its heading: its number where a person named it, else what the map suggests. */
export function Named({ found }: { found: Case }) {
  const { about, library } = words.value;
  const { chosen, suggested } = found.procedure;
  if (chosen) return <p class="soft">{about.name(found.videos[0] ?? found.case_id)}</p>;
  return suggested ? <p class="soft">{`${suggested}, ${library.suggested}`}</p> : null;
}
