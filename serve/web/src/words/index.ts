/** The page's words, in the user's language. English is the model: each other language has exactly its keys. */
import { computed, signal } from "@preact/signals";

import { de } from "./de";
import { en, type Words } from "./en";

export const LANGUAGES = { en: "English", de: "Deutsch" } as const;
export type Language = keyof typeof LANGUAGES;
const KEPT = "halsted language";

const isLanguage = (text: string | null): text is Language => text !== null && text in LANGUAGES;

function first(): Language {
  const kept = localStorage.getItem(KEPT);
  if (isLanguage(kept)) return kept;
  const asked = navigator.languages.map((one) => one.slice(0, 2)).find(isLanguage);
  return asked ?? "en";
}

export const language = signal<Language>(first());
const ALL: Record<Language, Words> = { en, de };
/** The words of the language; a component that reads it is drawn again when the language changes. */
export const words = computed<Words>(() => ALL[language.value]);

export function speak(wanted: Language): void {
  language.value = wanted;
  localStorage.setItem(KEPT, wanted);
}

language.subscribe((value) => {
  document.documentElement.lang = value;
});

/** The browser's own region, where it speaks the same language: dates are then as the user's site has them. */
const region = computed(() => navigator.languages.find((one) => one.startsWith(language.value)) ?? language.value);

/** 1:02:33, or 2:33 below an hour. */
export function clock(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  const two = (n: number) => String(n).padStart(2, "0");
  const rest = `${two(Math.floor((s % 3600) / 60))}:${two(s % 60)}`;
  return s >= 3600 ? `${Math.floor(s / 3600)}:${rest}` : rest.replace(/^0/, "");
}

/** The sign before a fraction, as the language writes it. A browser's region may write it otherwise. */
export const point = (): string => (language.value === "de" ? "," : ".");

/** 1:02:33.4, for ends that a person edits. */
export const clockTenths = (seconds: number): string => {
  const tenths = Math.round(Math.max(0, seconds) * 10);
  return `${clock(Math.floor(tenths / 10))}${point()}${tenths % 10}`;
};

export const percent = (share: number): string =>
  new Intl.NumberFormat(region.value, { style: "percent", maximumFractionDigits: 0 }).format(share);
export const number = (value: number, digits = 0): string =>
  new Intl.NumberFormat(region.value, { maximumFractionDigits: digits }).format(value);
export const date = (seconds: number): string =>
  new Intl.DateTimeFormat(region.value, { dateStyle: "medium" }).format(new Date(1000 * seconds));
export const dateTime = (seconds: number): string =>
  new Intl.DateTimeFormat(region.value, { dateStyle: "medium", timeStyle: "short" }).format(new Date(1000 * seconds));
/** A calendar day as the API writes it, 2026-11-03. */
export const day = (iso: string): string =>
  new Intl.DateTimeFormat(region.value, { dateStyle: "medium", timeZone: "UTC" }).format(new Date(`${iso}T00:00:00Z`));
export const size = (bytes: number): string =>
  bytes >= 1e9 ? `${number(bytes / 1e9, 1)} GB` : `${number(Math.max(0.1, bytes / 1e6), 1)} MB`;
