/**
 * Where the user is, in the address behind `#`, so that a reload and a link lead to the same place:
 *
 *     #                      home
 *     #library?q=suturing    the library and what is looked for
 *     #mine?since=2026-01-01 one's own cases over time
 *     #3f2a…@75.5            a case, from its second 75.5 on
 *     #case=c1…@75.5         all files of an operation, from second 75.5 of the case on
 *     #compare=3f2a…,9c01…   two cases side by side; `case=c1…` in place of a file is all files of an operation
 *     #setup=TOKEN           the first administrator of a site
 *     #shared=TOKEN          a case that somebody shared by a link
 *     #refused               the identity provider refused the sign-in
 */
import { signal } from "@preact/signals";

export type Route =
  | { view: "home" }
  | { view: "library"; query: URLSearchParams }
  | { view: "mine"; query: URLSearchParams }
  | { view: "case"; videoId: string; atS: number }
  | { view: "whole"; caseId: string; atS: number }
  | { view: "compare"; sides: string[] }
  | { view: "setup"; token: string }
  | { view: "shared"; token: string }
  | { view: "refused" };

export function parse(hash: string): Route {
  const text = hash.replace(/^#/, "");
  const [name = "", ...rest] = text.split("=");
  const value = rest.join("=");
  if (name === "setup") return { view: "setup", token: value };
  if (name === "shared") return { view: "shared", token: value };
  if (name === "refused") return { view: "refused" };
  if (name === "compare") return { view: "compare", sides: value.split(",").filter((one) => isVideoId(caseOfWhole(one) ?? one)) };
  if (name === "case") {
    const [caseId = "", second = ""] = value.split("@");
    return isVideoId(caseId) ? { view: "whole", caseId, atS: Math.max(0, Number(second) || 0) } : { view: "home" };
  }
  if (/^library(\?|$)/.test(text)) return { view: "library", query: new URLSearchParams(text.split("?")[1] ?? "") };
  if (/^mine(\?|$)/.test(text)) return { view: "mine", query: new URLSearchParams(text.split("?")[1] ?? "") };
  const [id = "", second = ""] = text.split("@");
  if (isVideoId(id)) return { view: "case", videoId: id, atS: Math.max(0, Number(second) || 0) };
  return { view: "home" };
}

export const isVideoId = (text: string): boolean => /^[0-9a-f]{16,64}$/.test(text);

/** The video by whose number the case of several files that is shown is called; null: none is shown. */
export const namedBy = signal<string | null>(null);

export const toHome = "#";
export const toLibrary = (query: Record<string, string> = {}): string => {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  return text ? `#library?${text}` : "#library";
};
export const toMine = (query: Record<string, string> = {}): string => toLibrary(query).replace("#library", "#mine");
export const toCase = (videoId: string, atS = 0): string =>
  atS > 0 ? `#${videoId}@${Math.round(atS * 10) / 10}` : `#${videoId}`;
/** All files of an operation. A link to a moment names the file (`toCase`): it stays true when files are put in order. */
export const toWhole = (caseId: string): string => `#case=${caseId}`;
/** `sides`: ids of videos, and of cases by `ofWhole`. */
export const toCompare = (...sides: string[]): string => `#compare=${sides.join(",")}`;
const WHOLE = "case=";
/** All files of a case, as a side of a comparison. */
export const ofWhole = (caseId: string): string => WHOLE + caseId;
/** The case that a side of a comparison is all files of; null: it is a single file. */
export const caseOfWhole = (side: string): string | null => (side.startsWith(WHOLE) ? side.slice(WHOLE.length) : null);

// Below what `parse` needs: the page may be opened at any address.
export const route = signal<Route>(parse(location.hash));
addEventListener("hashchange", () => {
  route.value = parse(location.hash);
});

export function go(hash: string): void {
  location.hash = hash;
}

/** Leads to another view in the place of this one: the way back does not come here again, as to a secret in the address. */
export function lead(hash: string): void {
  replace(hash);
  route.value = parse(location.hash);
}

/** Changes the address without a step of the history, as while a video is played. */
export function replace(hash: string): void {
  history.replaceState(null, "", hash || "#");
}
