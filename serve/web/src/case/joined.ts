/** The lanes of all files of a case as lanes of the case. Their times are those of the case already. */
import type { CaseFile } from "../api/cases";
import type { Row } from "../api/types";
import { words } from "../words";
import type { Lane, Span } from "./interfaces";
import { GAP, isBand, lanesOf, type TagKnown } from "./lanes";
import { rounded, shifted } from "./edit/changes";
import type { Border } from "./timeline/timeline";

/** What a map states once for a whole operation, and so a case of several files, too. */
const OF_OPERATION = ["specialty", "procedure"];
/** Two spans that are nearer than this touch. */
const TOUCHING_S = 0.002;

/** Files in the order of the case. Times to the millisecond, as people's words about a map are kept. */
export const placed = (files: readonly CaseFile[]): CaseFile[] => files.map((file) => ({ ...file, offset_s: rounded(file.offset_s) }));

/** The lanes of one file, whose `rows` have the times of the file. */
export const lanesOfFile = (rows: Row[], offsetS: number, known: TagKnown[]): Lane[] =>
  lanesOf(
    rows.map((row) => {
      const { start_s, stop_s } = shifted({ start_s: row.start_s, stop_s: row.end_s }, offsetS);
      return { ...row, start_s, end_s: stop_s };
    }),
    known,
  );

/**
 * One set of lanes for the case. `whole`: the rows that hold for the whole operation, as the service says them of the
 * case; a person's word stands before them. `gaps`: files without a map.
 */
export function joined(ofFiles: readonly (readonly Lane[])[], whole: readonly Row[], gaps: readonly Span[]): Lane[] {
  const byTag = new Map<string, Lane>();
  for (const lanes of ofFiles)
    for (const lane of lanes) {
      const so = byTag.get(lane.tag);
      const categories = so ? [...new Set([...so.categories, ...lane.categories])] : lane.categories;
      byTag.set(lane.tag, { ...lane, categories, spans: [...(so?.spans ?? []), ...lane.spans] });
    }
  for (const tag of OF_OPERATION) {
    const lane = byTag.get(tag);
    if (lane) byTag.set(tag, { ...lane, spans: saidOnce(lane, whole) });
  }
  if (gaps.length) {
    const lane = byTag.get(GAP) ?? { tag: GAP, categories: [], ordered: false, spans: [] };
    byTag.set(GAP, { ...lane, spans: [...lane.spans, ...gaps].sort((one, other) => one.startS - other.startS) });
  }
  const lanes = [...byTag.values()];
  return [...lanes.filter((lane) => !isBand(lane)), ...lanes.filter(isBand)];
}

function saidOnce(lane: Lane, whole: readonly Row[]): Span[] {
  const row = whole.find((one) => one.tag === lane.tag);
  const said = lane.spans.filter((span) => span.state && span.state !== "rejected").at(-1);
  if (!row) return lane.spans;
  const [startS, stopS] = [row.start_s, row.end_s];
  if (said) return [{ ...said, startS, stopS }];
  return [{ id: `case ${lane.tag}`, tag: lane.tag, category: row.category, startS, stopS, confidence: row.confidence, source: "ai" }];
}

/** Spans that touch where files meet and say the same are one span, for counting: a recorder's cut begins no step anew. */
export function overBorders(lanes: readonly Lane[], borders: readonly Border[]): Lane[] {
  const cuts = borders.filter((one) => !one.isHidden).map((one) => one.s);
  return lanes.map((lane) => {
    const spans: Span[] = [];
    for (const span of lane.spans) {
      const last = spans.at(-1);
      const meets = last && Math.abs(span.startS - last.stopS) < TOUCHING_S && cuts.some((s) => Math.abs(s - span.startS) < TOUCHING_S);
      if (last && meets && last.category === span.category && last.source === span.source && last.state !== "rejected" && span.state !== "rejected")
        spans[spans.length - 1] = { ...last, stopS: span.stopS };
      else spans.push(span);
    }
    return { ...lane, spans };
  });
}

/** Why a file has no map to show, in words; null where it may have one. */
export function whyNone(file: CaseFile, mayRead: boolean, count: number): string {
  const { files } = words.value;
  const name = files.nameOf(file.number, count);
  return mayRead ? files.noMap(name, files.states[file.state] ?? file.state) : files.notYours(name);
}

/** The stretch of a file without a map. */
export const gapOf = (file: CaseFile, why: string): Span => ({
  id: `gap ${file.video_id}`, tag: GAP, category: why, startS: file.offset_s, stopS: file.offset_s + file.duration_s, confidence: null, source: "gap",
});

/** Where files meet, and where files lie that the user may not see. */
export function bordersOf(files: readonly CaseFile[], endsHidden: boolean): Border[] {
  const { files: text } = words.value;
  const borders = files
    .filter((file) => file.after_hidden || file.number > 1)
    .map((file) => ({ s: file.offset_s, isHidden: file.after_hidden, label: file.after_hidden ? text.hiddenBefore(file.number) : text.begins(file.number) }));
  const last = files.at(-1);
  return endsHidden && last ? [...borders, { s: last.offset_s + last.duration_s, isHidden: true, label: text.hiddenAfter }] : borders;
}
