/** The files that are being sent. They go on while the user moves between views; the tray shows them. */
import { computed, effect, signal, type Signal } from "@preact/signals";

import { api } from "../api/client";
import { wasSignedOut, whose } from "../session";
import { forget, markOf, type Progress, type Sending, sendFile, withRetries } from "./send";

export type State =
  | Progress
  | { kind: "waiting" }
  | { kind: "grouping" }
  | { kind: "paused" }
  | { kind: "failed"; error: unknown }
  | { kind: "sent" };

/** A file that is being sent, by one person. `share`: of its bytes that have come, 0 to 1. */
export interface Item {
  id: number;
  file: File;
  owner: string;
  state: Signal<State>;
  share: Signal<number>;
  batch: Batch;
  videoId: string | null;
  isMapped: boolean;
  stop: AbortController | null;
}

/** Files that were chosen together. `isOne`: they are of one operation, in this order. */
interface Batch {
  items: Item[];
  instruction: string;
  isOne: boolean;
}

/** More at once would not be faster on one line, and a surgeon's first case is there sooner. */
const MOST_AT_ONCE = 2;

export const items = signal<Item[]>([]);
/** Counts the cases that have come, so that a view which lists cases looks again. */
export const arrivals = signal(0);
/** How many files this person has sent since the page was opened. */
export const delivered = signal(0);
const IDLE: State["kind"][] = ["paused", "failed", "sent"];
export const isSending = computed(() => items.value.some((item) => !IDLE.includes(item.state.value.kind)));

let lastId = 0;

export function add(files: File[], instruction: string, isOne: boolean): void {
  const together: Batch[] = isOne ? [{ items: [], instruction, isOne }] : files.map(() => ({ items: [], instruction, isOne }));
  const added = files.map((file, index): Item => {
    const batch = together[isOne ? 0 : index]!;
    const item: Item = {
      id: ++lastId,
      file,
      owner: whose.value,
      state: signal<State>({ kind: "waiting" }),
      share: signal(0),
      batch,
      videoId: null,
      isMapped: false,
      stop: null,
    };
    batch.items.push(item);
    return item;
  });
  items.value = [...items.value, ...added];
  next();
}

export function pause(item: Item): void {
  item.stop?.abort();
  item.state.value = { kind: "paused" };
}

export function goOn(item: Item): void {
  item.state.value = { kind: "waiting" };
  next();
}

/** Takes a file out of the tray. What the service has of it stays there until it is chosen again, or gets old. */
export function remove(item: Item): void {
  item.stop?.abort();
  drop([item]);
  item.batch.items = item.batch.items.filter((other) => other !== item);
  const last = item.batch.items.at(-1);
  // The rest may have been waiting for this one alone.
  if (last && item.batch.items.every((one) => one.state.value.kind === "sent")) goOn(last);
  next();
}

const drop = (gone: Item[]): void => {
  items.value = items.value.filter((item) => !gone.includes(item));
};

function next(): void {
  const running = items.value.filter((item) => item.stop).length;
  const waiting = items.value.filter((item) => item.state.value.kind === "waiting" && !item.stop);
  for (const item of waiting.slice(0, Math.max(0, MOST_AT_ONCE - running))) void run(item);
}

async function run(item: Item): Promise<void> {
  const stop = new AbortController();
  item.stop = stop;
  const sending: Sending = {
    signal: stop.signal,
    tell: (progress) => {
      if (stop.signal.aborted) return;
      item.state.value = progress;
      if (progress.kind === "sending") item.share.value = progress.share;
      if (progress.kind === "checking") item.share.value = 1;
    },
    signedIn: () => signedIn(item.owner, stop.signal),
  };
  try {
    await deliver(item, sending);
  } catch (error) {
    if (!stop.signal.aborted) item.state.value = { kind: "failed", error };
  } finally {
    if (item.stop === stop) item.stop = null;
    next();
  }
}

/** Sends the file, asks for its map, and makes one case of the files of one operation once the last of them has come. */
async function deliver(item: Item, sending: Sending): Promise<void> {
  const { batch } = item;
  const { signal } = sending;
  item.videoId ??= await sendFile(item.file, await markOf(item.file), sending);
  if (!item.isMapped) {
    const json = batch.instruction ? { instruction: batch.instruction } : {};
    const path = `v1/videos/${item.videoId}/maps`;
    await withRetries(() => api(path, { method: "POST", json, signal }), sending);
    item.isMapped = true;
    arrivals.value++;
    delivered.value++;
  }
  if (batch.items.some((other) => !other.isMapped)) {
    item.state.value = { kind: "sent" };
    return;
  }
  const ids = [...new Set(batch.items.map((one) => one.videoId))];
  if (ids.length > 1) {
    item.state.value = { kind: "grouping" };
    await withRetries(() => api("v1/cases", { method: "POST", json: { video_ids: ids }, signal }), sending);
    arrivals.value++;
  }
  for (const one of batch.items) forget(await markOf(one.file));
  drop(batch.items);
}

function signedIn(owner: string, signal: AbortSignal): Promise<void> {
  return new Promise((go, end) => {
    const forgetAll = effect(() => {
      if (whose.value === owner) queueMicrotask(() => { forgetAll(); go(); });
    });
    signal.addEventListener("abort", () => { forgetAll(); end(signal.reason); }, { once: true });
  });
}

// Who was signed out by the service may come back. Who has signed out, or somebody else, sees no file of another person.
effect(() => {
  const now = whose.value;
  if (!now && wasSignedOut.peek()) return;
  delivered.value = 0;
  const gone = items.peek().filter((item) => item.owner !== now);
  for (const item of gone) item.stop?.abort();
  if (gone.length) drop(gone);
});

// A browser asks before it closes a tab that still sends.
const ask = (event: BeforeUnloadEvent) => event.preventDefault();
effect(() => {
  if (isSending.value) addEventListener("beforeunload", ask);
  else removeEventListener("beforeunload", ask);
});
