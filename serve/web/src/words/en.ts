import { comments } from "./en/comments";
import { edit } from "./en/edit";
import { compare } from "./en/compare";
import { failures, looksLike, refusals } from "./en/refusals";
import { mine } from "./en/mine";
import { review } from "./en/review";
import { files } from "./en/files";
import { summary } from "./en/summary";
import { suturing } from "./en/suturing";

/** English. A value is a text, or a function that makes one. Each view has a room of its own. */
import { library, upload } from "./en/library";
import { about, people, share, shared } from "./en/sharing";
import { account, home, model, setup } from "./en/start";

export const en = {
  page: {
    title: "Halsted",
    home: "Home",
    library: "Library",
    signOut: "Sign out",
    language: "Language",
    about: "About this software",
    menu: "Menu",
    skip: "Skip to the content",
    research: (version: string) =>
      `Research software, not a medical device. The model makes mistakes and says how sure it is. Model ${version}.`,
    researchOnly: "Research software, not a medical device. The model makes mistakes and says how sure it is.",
    loading: "Loading…",
    again: "Try again",
    close: "Close",
    cancel: "Cancel",
    left: (seconds: number) => (seconds > 90 ? `${Math.round(seconds / 60)} min left` : `${Math.ceil(seconds)} s left`),
  },
  signIn: {
    title: "Sign in",
    what: "Halsted maps videos of operations: what happens when, and how sure the model is.",
    hospital: "Sign in with your hospital's account",
    other: "Other ways to sign in",
    key: "Your key",
    keyHint: "Your administrator makes the key with the command `halsted serve key` and gives it to you once. If you have lost it, ask for a new one.",
    submit: "Sign in",
    signedOut: "You were signed out, because nothing was done for a while. Sign in again; an upload goes on when you are back.",
    refused: "Your hospital's account was refused. Ask whoever runs this site to give you access.",
  },
  errors: {
    away: "The service does not answer. Your work here is kept; the page tries again by itself.",
    busy: "The service has much to do. Wait a moment, then try again.",
    missing: "This case is not there. It was deleted, or it is not shared with you.",
    forbidden: "You may not do this. Ask the owner of the case, or an administrator of your site.",
    full: "The site has no room left. Delete a case, or ask an administrator for room.",
    other: (detail: string) => (detail ? sentence(detail) : "The service could not do this. Try again; if it fails again, tell whoever runs this site."),
  },
  refusals,
  failures,
  looksLike,
  compare,
  review,
  edit,
  files,
  summary,
  suturing,
  comments,
  setup,
  account,
  model,
  home,
  mine,
  library,
  upload,
  about,
  people,
  share,
  shared,
};

export type Words = typeof en;

export const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

export function sentence(text: string): string {
  const start = capital(text);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}
