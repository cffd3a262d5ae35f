/** The seconds that a person means by 1:02:33.4, 2:33 or 33; null where it is no time. */
export function parseClock(text: string): number | null {
  const found = /^(?:(?:(\d{1,3}):)?(\d{1,2}):)?(\d{1,6}(?:[.,]\d{1,3})?)$/.exec(text.trim());
  if (!found) return null;
  const [, hours, minutes, rest = ""] = found;
  const seconds = Number(rest.replace(",", "."));
  if (minutes !== undefined && seconds >= 60) return null;
  if (Number(minutes ?? 0) >= 60) return null;
  return 3600 * Number(hours ?? 0) + 60 * Number(minutes ?? 0) + seconds;
}
