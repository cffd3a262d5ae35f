/**
 * Keys of the page: one listener for all. A key does nothing while somebody writes in a field, while a dialog is open,
 * or where the browser gives it a meaning of its own (Space on a button, arrows in a list of tabs).
 *
 * A user can switch single keys off (WCAG 2.1.4): they then work only while the focus is within `data-keys`.
 */
import { signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";

/** Name of a key, such as "K", "Space", "Shift+ArrowLeft", "Ctrl+Z" (on a Mac: ⌘Z) → what it does. */
export type Keys = Record<string, (event: KeyboardEvent) => void>;

const KEPT = "halsted single keys";
export const singleKeys = signal(localStorage.getItem(KEPT) !== "off");

export function switchSingleKeys(on: boolean): void {
  singleKeys.value = on;
  if (on) localStorage.removeItem(KEPT);
  else localStorage.setItem(KEPT, "off");
}

export function nameOf(event: KeyboardEvent): string {
  const isLetter = /^[a-z]$/i.test(event.key);
  const key = event.key === " " ? "Space" : isLetter ? event.key.toUpperCase() : event.key;
  // A sign such as [ or ? already says which other keys it took on this keyboard: AltGr on a German one.
  if (key.length === 1 && !isLetter && (event.getModifierState("AltGraph") || !(event.ctrlKey || event.metaKey || event.altKey))) return key;
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${event.shiftKey ? "Shift+" : ""}${key}`;
}

const WRITING = "textarea, select, [contenteditable], input:not([type=checkbox], [type=radio], [type=range], [type=button])";
const OWN: [RegExp, string][] = [
  [/Space$|Enter$/, "button, a, summary, input, [role=tab], [role=button], [role=option]"],
  [/Arrow|Home$|End$|Page/, "input, [role=tab], [role=option], [role=listbox], [role=menu]"],
];
/** Keys that move through a page. They move through the video only while the focus is within `data-keys`. */
const OF_THE_PAGE = /^(Home|End|PageUp|PageDown|Enter|ArrowUp|ArrowDown)$/;

const tables = new Set<{ current: Keys }>();

function onKey(event: KeyboardEvent): void {
  const target = event.target instanceof Element ? event.target : null;
  if (event.defaultPrevented || event.isComposing || target?.closest(WRITING) || document.querySelector("dialog[open]")) return;
  const name = nameOf(event);
  if (OWN.some(([keys, where]) => keys.test(name) && target?.closest(where))) return;
  const isNear = Boolean(target?.closest("[data-keys]"));
  if (!isNear && (OF_THE_PAGE.test(name) || (!singleKeys.value && name.replace("Shift+", "").length === 1))) return;
  // The newest room that knows the key takes it.
  for (const table of [...tables].reverse()) {
    const act = table.current[name];
    if (!act) continue;
    event.preventDefault();
    act(event);
    return;
  }
}

/** The keys work while the component is shown. */
export function useKeys(keys: Keys): void {
  const table = useRef(keys);
  table.current = keys;
  useLayoutEffect(() => {
    if (!tables.size) document.addEventListener("keydown", onKey);
    tables.add(table);
    return () => {
      tables.delete(table);
      if (!tables.size) document.removeEventListener("keydown", onKey);
    };
  }, []);
}
