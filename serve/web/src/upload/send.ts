/** Sends one file in parts: what the service has is not sent again, and what fails for a moment is tried again. */
import { ApiError, api } from "../api/client";
import type { Upload } from "../api/types";
import { base64, hex, sha256 } from "./digest";

/** Where a file is. `share`: of its bytes, 0 to 1. `leftS`: seconds to go, null where nobody knows yet. */
export type Progress =
  | { kind: "reading" }
  | { kind: "sending"; share: number; leftS: number | null }
  | { kind: "checking" }
  | { kind: "retrying"; inS: number }
  | { kind: "signed out" };

export interface Sending {
  signal: AbortSignal;
  tell: (progress: Progress) => void;
  /** Resolves when the user is signed in again; rejects where the signal is aborted. */
  signedIn: () => Promise<void>;
}

const MARKED_BYTES = 1 << 20;
const LONGEST_WAIT_S = 30;

/**
 * The mark under which the browser keeps the id of a file's upload: a digest of the file's beginning, never its name.
 * Whoever chooses the same file again, also after a reload, goes on where it stopped.
 */
export async function markOf(file: File): Promise<string> {
  const digest = await sha256(await file.slice(0, MARKED_BYTES).arrayBuffer());
  return `upload ${digest ? hex(digest) : file.lastModified} ${file.size}`;
}

export const forget = (mark: string): void => localStorage.removeItem(mark);

/** Sends a file and gives the id of its video. The mark stays, so that a file of several is not sent twice. */
export async function sendFile(file: File, mark: string, sending: Sending): Promise<string> {
  const { signal, tell } = sending;
  tell({ kind: "reading" });
  const begun = await begin(file, mark, sending);
  if (begun.state === "complete" && begun.video_id) return begun.video_id;
  localStorage.setItem(mark, begun.upload_id);
  const where = `v1/uploads/${begun.upload_id}`;
  const there = new Map(begun.parts?.map((part) => [part.number, part.sha256]));
  const partBytes = begun.part_bytes!;
  const count = Math.ceil(file.size / partBytes);
  const startedMs = performance.now();
  let sent = 0;
  for (let number = 1; number <= count; number++) {
    const share = (number - 1) / count;
    const bytesPerS = (sent / (performance.now() - startedMs)) * 1000;
    tell({ kind: "sending", share, leftS: sent ? (file.size * (1 - share)) / bytesPerS : null });
    const part = await file.slice((number - 1) * partBytes, number * partBytes).arrayBuffer();
    const digest = await sha256(part);
    // A part of another file that begins alike has another digest, and is sent anew.
    if (there.has(number) && (!digest || there.get(number) === hex(digest))) continue;
    const headers: Record<string, string> = digest ? { "content-digest": `sha-256=:${base64(digest)}:` } : {};
    await withRetries(() => api(`${where}/parts/${number}`, { method: "PUT", body: part, headers, signal }), sending);
    sent += part.byteLength;
  }
  tell({ kind: "checking" });
  try {
    const done = await withRetries(() => api<Upload>(`${where}/complete`, { method: "POST", signal }), sending);
    return done.video_id!;
  } catch (error) {
    if (!signal.aborted) forget(mark); // the service refused the file: to go on with this upload is no use
    throw error;
  }
}

/** The upload that was begun for the file, where the service still has it; else a new one. */
async function begin(file: File, mark: string, sending: Sending): Promise<Upload> {
  const { signal } = sending;
  const kept = localStorage.getItem(mark);
  if (kept) {
    const before = await found(() => api<Upload>(`v1/uploads/${kept}`, { signal }), sending);
    if (before?.state === "open") return before;
    if (before?.state === "complete" && before.video_id) {
      const path = `v1/videos/${before.video_id}`;
      if (await found(() => api(path, { signal }), sending)) return before;
    }
  }
  const json = { size_bytes: file.size };
  return withRetries(() => api<Upload>("v1/uploads", { method: "POST", json, signal }), sending);
}

/** What the service has; null where it has it no longer, or for somebody else. */
async function found<T>(work: () => Promise<T>, sending: Sending): Promise<T | null> {
  try {
    return await withRetries(work, sending);
  } catch (error) {
    if (error instanceof ApiError && [403, 404].includes(error.status)) return null;
    throw error;
  }
}

/**
 * Tries again for as long as the network or the service does not answer, and waits for who was signed out. A refusal is
 * not tried again.
 */
export async function withRetries<T>(work: () => Promise<T>, sending: Sending): Promise<T> {
  for (let waitS = 1; ; waitS = Math.min(2 * waitS, LONGEST_WAIT_S)) {
    sending.signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof ApiError) || sending.signal.aborted) throw error;
      if (error.status === 401) {
        sending.tell({ kind: "signed out" });
        await sending.signedIn();
      } else if (error.mayPass) {
        sending.tell({ kind: "retrying", inS: waitS });
        await pause(waitS, sending.signal);
      } else throw error;
    }
  }
}

function pause(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((go, end) => {
    const timer = setTimeout(go, 1000 * seconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); end(signal.reason); }, { once: true });
  });
}
