/** A case of the library in words. */
import type { Case } from "../api/cases";
import { because } from "../components/messages";
import { taskName } from "../model";
import { language, percent, words } from "../words";
import { capital } from "../words/en";

/** The procedure, as a person says or else as the map suggests; without either, the case's number. */
export const titleOf = (found: Case): string =>
  found.procedure.chosen ?? found.procedure.suggested ?? words.value.about.name(found.videos[0] ?? found.case_id);

/** "Suturing mapped, needle driving not asked for", or how far the case is. */
export function statusOf(found: Case): string {
  const { library } = words.value;
  const { state, asked, not_asked: notAsked, done_share: share, reason, cause } = found.status;
  if (state === "cleaning" || state === "mapping") return `${library.states[state]}, ${percent(share)}`;
  if (state === "failed" && (reason || cause)) return `${library.states.failed}: ${because({ reason, cause })}`;
  if (state !== "mapped" || asked.length === 0) return library.states[state] ?? state;
  const list = new Intl.ListFormat(language.value, { type: "conjunction" });
  const parts = [library.mapped(list.format(asked.map(taskName)))];
  if (notAsked.length) parts.push(library.notAsked(list.format(notAsked.map(taskName))));
  return capital(parts.join(", "));
}

export const isUnderWay = (found: Case): boolean => ["cleaning", "queued", "mapping"].includes(found.status.state);

/** The steps in the order in which each first comes. */
export function stepsOf(found: Case): string[] {
  const order = [...found.strip].sort((one, other) => one[0] - other[0]).map(([, , index]) => found.strip_categories[index]);
  return [...new Set(order)].filter((name) => name !== undefined);
}
