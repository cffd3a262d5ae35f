/** Who is signed in: a user, or somebody who looks at one case by a read-only link. */
import { computed, signal } from "@preact/signals";

import type { LinkedCase } from "./api/cases";
import { api, onExpired, useToken } from "./api/client";
import type { Session as SignedIn } from "./api/types";
import { forgetAllDrafts, forgetDraftsOfOthers } from "./drafts";

export type Session = SignedIn & { link?: LinkedCase | null };

export const session = signal<Session | null>(null);
/** Set when a session ends by itself, so that the sign-in says so. */
export const wasSignedOut = signal(false);
/** Set when a read-only link ends while somebody looks at its case. */
export const linkHasEnded = signal(false);

export const isSignedIn = computed(() => Boolean(session.value?.user));
/** The one case that a link shows; null for everybody who came without a link. */
export const linked = computed(() => session.value?.link ?? null);
export const mayRead = computed(() => isSignedIn.value && !["auditor", "monitor"].includes(session.value?.role ?? ""));
export const mayWrite = computed(() => ["surgeon", "admin"].includes(session.value?.role ?? ""));
/** Whose session it is: another text for another person. */
export const whose = computed(() => (session.value?.user ? `${session.value.tenant}/${session.value.user}` : ""));

function take(found: Session): void {
  useToken(found.csrf);
  session.value = found;
  // A session that ended by itself leaves the drafts for the person to come back; a link is for anybody.
  if (found.user) forgetDraftsOfOthers(whose.value);
  else if (found.link) forgetAllDrafts();
  if (found.user) wasSignedOut.value = false;
  if (found.user || found.link) linkHasEnded.value = false;
}

export async function begin(): Promise<void> {
  take(await api<Session>("session"));
}

export async function signIn(key: string): Promise<void> {
  take(await api<Session>("session", { method: "POST", json: { key } }));
}

/** Begins a session with the token of a read-only link. It takes the place of the session before. */
export async function openLink(token: string): Promise<void> {
  take(await api<Session>("session/link", { method: "POST", json: { token } }));
}

export async function signOut(): Promise<void> {
  try {
    await api("session", { method: "DELETE" });
    await begin();
  } finally {
    forgetAllDrafts(); // last, since the fields are there, and keep what is typed, until the session is over
  }
}

onExpired(() => {
  if (!session.value?.user && !session.value?.link) return;
  useToken("");
  wasSignedOut.value = Boolean(session.value.user);
  linkHasEnded.value = Boolean(session.value.link);
  session.value = { ...session.value, user: null, role: null, csrf: null, key_id: null, link: null };
});
