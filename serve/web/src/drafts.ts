/**
 * Texts that a person has begun and not sent. They are kept in this tab alone, by person and by what they belong to, so
 * that the end of a session or a reload loses none. They can name a patient, so they go when the person signs out, when
 * somebody else comes in on this tab, and with the case.
 */
const PREFIX = "halsted draft ";

/** What a draft belongs to. `of`: the id of a video, or of a case. */
export interface DraftName {
  /** `whose` of the session. */
  author: string;
  of: string;
  field: string;
}

const keyOf = ({ author, of, field }: DraftName): string => PREFIX + JSON.stringify([author, of, field]);

export function keepDraft(name: DraftName, draft: unknown): void {
  try {
    sessionStorage.setItem(keyOf(name), JSON.stringify(draft));
  } catch {
    // A tab without storage, or with a full one: the text then stays in its field alone.
  }
}

/** The draft of this name; null where there is none. */
export function draftOf<T>(name: DraftName): T | null {
  try {
    const text = sessionStorage.getItem(keyOf(name));
    return text === null ? null : (JSON.parse(text) as T);
  } catch {
    return null; // a tab without storage
  }
}

export function forgetDraft(name: DraftName): void {
  try {
    sessionStorage.removeItem(keyOf(name));
  } catch {
    // A tab without storage keeps none.
  }
}

export const forgetAllDrafts = (): void => forgetWhere(() => true);

/** Another person comes in on this tab. */
export const forgetDraftsOfOthers = (author: string): void => forgetWhere(([whose]) => whose !== author);

/** The video, or the case, is deleted. */
export const forgetDraftsAbout = (id: string): void => forgetWhere(([, of]) => of === id);

function forgetWhere(isGone: (name: string[]) => boolean): void {
  try {
    for (const key of Object.keys(sessionStorage))
      if (key.startsWith(PREFIX) && isGone(JSON.parse(key.slice(PREFIX.length)) as string[])) sessionStorage.removeItem(key);
  } catch {
    // A tab without storage keeps none.
  }
}
