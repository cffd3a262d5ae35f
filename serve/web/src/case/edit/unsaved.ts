/** Changes that the service has not answered yet, kept in the tab so that a reload loses none. */
import type { Change } from "./changes";

/** What a person did at once: its changes are made together or not at all. */
export interface Deed {
  changes: Change[];
  /** When, in seconds since 1970. */
  atS: number;
  /** The revision that its author saw. */
  revision: number | undefined;
  /** Whether it was sent before; its answer may then have been lost. */
  isTried?: boolean;
}

const nameOf = (userId: string, videoId: string): string => `halsted unsaved ${userId} ${videoId}`;

export function keep(userId: string, videoId: string, deeds: readonly Deed[]): void {
  if (deeds.length) sessionStorage.setItem(nameOf(userId, videoId), JSON.stringify(deeds));
  else sessionStorage.removeItem(nameOf(userId, videoId));
}

export function kept(userId: string, videoId: string): Deed[] {
  const text = sessionStorage.getItem(nameOf(userId, videoId));
  return text ? (JSON.parse(text) as Deed[]) : [];
}
