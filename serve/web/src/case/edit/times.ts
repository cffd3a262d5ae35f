/** Times that a person writes: 1:02:33.4, 2:33, or seconds. */
import { clock, point } from "../../words";

/** Seconds of 1:02:33.4, 62:33.4 or 3753.4; null for what is no time. A comma is a decimal point, too. */
export function parseTime(text: string): number | null {
  const found = /^(?:(?:(\d+):)?(\d{1,3}):)?(\d+(?:[.,]\d*)?)$/.exec(text.trim());
  if (!found) return null;
  const [, hours, minutes, seconds] = found;
  const s = Number(seconds!.replace(",", "."));
  if (minutes !== undefined && s >= 60) return null;
  if (hours !== undefined && Number(minutes) >= 60) return null;
  return Number(hours ?? 0) * 3600 + Number(minutes ?? 0) * 60 + s;
}

/** 1:02:33.40: to the hundredth, so that a step of one frame is seen. */
export function clockHundredths(seconds: number): string {
  const hundredths = Math.round(Math.max(0, seconds) * 100);
  return `${clock(Math.floor(hundredths / 100))}${point()}${String(hundredths % 100).padStart(2, "0")}`;
}
