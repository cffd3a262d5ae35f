import fc from "fast-check";
import { describe, expect, test } from "vitest";

import type { Lane, Span } from "../interfaces";
import { type Change, type Mark, type Marks, type ModelRow, allApplied, inverses, isDone, marksOf, rebased } from "./changes";
import { accept, add, merge, neighbour, reject, sameAt, setCategory, setEnds, split, withdraw } from "./corrections";
import { type LayerSpan, merged as mergedLanes, without } from "./merged";

const ME = { author: "me", author_name: "Eve" };
const CATEGORIES = ["Driving", "Withdrawal", "Needle Handling"];
const row = (startS: number, stopS: number, category = "Driving", source: Span["source"] = "ai"): Span => ({ id: `phase|${category}|${startS * 1000}|${stopS * 1000}`, tag: "phase", category, startS, stopS, confidence: 0.9, source });
const lane = (spans: Span[]): Lane => ({ tag: "phase", categories: CATEGORIES, ordered: false, spans });
const merged = (rows: Span[], marks: Marks): LayerSpan[] => mergedLanes([lane(rows)], marks)[0]!.spans;
const modelRow = (start_s: number, stop_s: number, category = "Driving"): ModelRow => ({ tag: "phase", category, start_s, stop_s });
const mark = (span_id: string, content: Partial<Mark>): Mark => ({ span_id, tag: "phase", category: "Driving", start_s: 0, stop_s: 1, state: "added", row: null, author: "x", author_name: "Max", at_s: 0, mine: false, ...content });
const shown = (spans: LayerSpan[]) => spans.map((span) => [span.category, span.startS, span.stopS, span.state ?? "model"]);
const after = (rows: Span[], ...deeds: ((spans: LayerSpan[]) => Change[])[]): [LayerSpan[], Marks] => {
  let marks: Marks = new Map();
  for (const deed of deeds) marks = allApplied(marks, deed(merged(rows, marks)), ME, 1);
  return [merged(rows, marks), marks];
};

/** Rows of one lane, end to end, as a timeline has them. */
const ROWS = fc.array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.constantFrom(...CATEGORIES)), { minLength: 1, maxLength: 8 }).map((lengths) => {
  let at = 0;
  return lengths.map(([length, category]) => row(at, (at += length), category));
});
/** What a person does next: a kind, which span, and where. */
const DEED = fc.record({ kind: fc.constantFrom("accept", "reject", "category", "ends", "split", "merge", "add", "withdraw"), which: fc.nat(20), share: fc.double({ min: 0, max: 1, noNaN: true }) });
type Deed = { kind: string; which: number; share: number };

function changesOf(spans: LayerSpan[], { kind, which, share }: Deed): Change[] {
  const span = spans[which % spans.length]!;
  const at = span.startS + share * (span.stopS - span.startS);
  const next = neighbour(spans, span);
  switch (kind) {
    case "accept": return accept(span);
    case "reject": return reject(span);
    case "category": return setCategory(span, CATEGORIES[which % 3]!);
    case "ends": return setEnds(span, at, span.stopS + share, 100);
    case "split": return split(span, at);
    case "merge": return next ? merge(span, next) : [];
    case "add": return add("phase", CATEGORIES[which % 3]!, at, at + 1 + share);
    default: return withdraw(span);
  }
}

/** What the service refuses: an addition of what is there, and any other change of what was removed. */
function replayedByService(marks: Marks, known: Set<string>, changes: Change[]): void {
  const there = new Set(marks.keys());
  for (const change of changes) {
    if (change.op === "add") expect(there.has(change.span_id)).toBe(false);
    else if (!there.has(change.span_id)) {
      expect(known.has(change.span_id)).toBe(false);
      expect(change.op).not.toBe("remove");
      expect(change.row).not.toBeNull();
    }
    known.add(change.span_id);
    if (change.op === "remove") there.delete(change.span_id);
    else there.add(change.span_id);
  }
}

const said = (marks: Marks) => [...marks.values()].map(({ span_id, tag, category, start_s, stop_s, state, row: of }) => ({ span_id, tag, category, start_s, stop_s, state, row: of })).sort((one, other) => one.span_id.localeCompare(other.span_id));

describe("any sequence of deeds", () => {
  test("is one that the service takes, and undo and redo lead back and forth through every state", () => {
    fc.assert(
      fc.property(ROWS, fc.array(DEED, { maxLength: 8 }), (rows, deeds) => {
        const states: Marks[] = [new Map()];
        const undos: Change[][] = [];
        const known = new Set<string>();
        for (const deed of deeds) {
          const now = states.at(-1)!;
          const spans = merged(rows, now);
          if (!spans.length) break;
          const changes = changesOf(spans, deed);
          replayedByService(now, known, changes);
          undos.push(inverses(now, changes));
          states.push(allApplied(now, changes, ME, 0));
        }
        let now = states.at(-1)!;
        const redos: Change[][] = [];
        for (let n = undos.length - 1; n >= 0; n--) {
          replayedByService(now, known, undos[n]!);
          redos.push(inverses(now, undos[n]!));
          now = allApplied(now, undos[n]!, ME, 0);
          expect(said(now)).toEqual(said(states[n]!));
        }
        for (let n = 1; n < states.length; n++) {
          const again = redos.pop()!;
          replayedByService(now, known, again);
          now = allApplied(now, again, ME, 0);
          expect(said(now)).toEqual(said(states[n]!));
        }
      }),
      { numRuns: 300 },
    );
  });

  test("leaves no time in which a person's span and a row of the model of the same lane overlap", () => {
    fc.assert(
      fc.property(ROWS, fc.array(DEED, { maxLength: 8 }), (rows, deeds) => {
        let marks: Marks = new Map();
        for (const deed of deeds) {
          const spans = merged(rows, marks);
          if (spans.length) marks = allApplied(marks, changesOf(spans, deed), ME, 0);
        }
        const spans = merged(rows, marks);
        const persons = spans.filter((span) => span.state && span.state !== "rejected");
        for (const span of spans.filter((one) => !one.state)) {
          expect(span.stopS).toBeGreaterThan(span.startS);
          for (const other of persons) expect(Math.min(span.stopS, other.stopS) - Math.max(span.startS, other.startS)).toBeLessThanOrEqual(0);
        }
        expect(new Set(spans.map((span) => span.id)).size).toBe(spans.length);
      }),
    );
  });
});

test("what is cut out of an interval and what is left make it up again", () => {
  const interval = fc.tuple(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 1, max: 20 })).map(([from, length]): [number, number] => [from, from + length]);
  fc.assert(
    fc.property(interval, fc.array(interval), (of, cuts) => {
      const left = without(of, cuts);
      for (let second = of[0]; second < of[1]; second++) {
        const isCut = cuts.some(([from, to]) => from <= second && second < to);
        expect(left.some(([from, to]) => from <= second && second < to)).toBe(!isCut);
      }
    }),
  );
});

test("an accepted row is shown once, as a person's", () => {
  expect(shown(after([row(0, 5)], (spans) => accept(spans[0]!))[0])).toEqual([["Driving", 0, 5, "accepted"]]);
});

test("the answer to a row keeps the row's id, also where two people answer it", () => {
  const [spans] = after([row(0, 5)], (now) => setCategory(now[0]!, "Withdrawal"));
  expect(spans.map((span) => span.id)).toEqual([row(0, 5).id]);
  const answers = ["a", "b"].map((id) => mark(id, { ...modelRow(0, 5), row: modelRow(0, 5), state: "accepted", mine: id === "b" }));
  expect(merged([row(0, 5)], marksOf(answers)).map((span) => [span.spanId, span.id])).toEqual([["a", "a"], ["b", row(0, 5).id]]);
});

test("a rejected row stays to be seen, and can be accepted after all", () => {
  const [spans] = after([row(0, 5)], (now) => reject(now[0]!));
  expect(shown(spans)).toEqual([["Driving", 0, 5, "rejected"]]);
  expect(shown(after([row(0, 5)], (now) => reject(now[0]!), (now) => accept(now[0]!))[0])).toEqual([["Driving", 0, 5, "accepted"]]);
});

test("a span that begins later denies the time before it, too", () => {
  const [spans] = after([row(0, 10), row(10, 20, "Withdrawal")], (now) => setEnds(now[1]!, 12, 20, 60));
  expect(shown(spans)).toEqual([["Driving", 0, 10, "model"], ["Withdrawal", 12, 20, "changed"]]);
});

test("an end that moves into the neighbour shortens the neighbour, whose rest is still the model's", () => {
  const [spans] = after([row(0, 10), row(10, 20, "Withdrawal")], (now) => setEnds(now[0]!, 0, 12, 60));
  expect(shown(spans)).toEqual([["Driving", 0, 12, "changed"], ["Withdrawal", 12, 20, "model"]]);
});

test("the rest of a row is answered without a word on the other rest", () => {
  const [spans] = after([row(0, 10)], () => add("phase", "Withdrawal", 4, 6), (now) => accept(now[0]!), (now) => reject(now.at(-1)!));
  expect(shown(spans)).toEqual([["Driving", 0, 4, "added"], ["Withdrawal", 4, 6, "added"], ["Driving", 6, 10, "rejected"]]);
});

test("a split makes two that meet at the playhead, and none too short to take hold of", () => {
  expect(shown(after([row(0, 10)], (now) => split(now[0]!, 4))[0])).toEqual([["Driving", 0, 4, "changed"], ["Driving", 4, 10, "added"]]);
  expect(after([row(0, 10)], (now) => split(now[0]!, 0.01))[1].size).toBe(0);
});

test("a merge takes the category of the selected span, and leaves nothing of the other", () => {
  const rows = [row(0, 4), row(4, 9, "Withdrawal"), row(9, 12)];
  const [spans] = after(rows, (now) => accept(now[1]!), (now) => merge(now[0]!, now[1]!));
  expect(shown(spans)).toEqual([["Driving", 0, 9, "changed"], ["Driving", 9, 12, "model"]]);
});

test("ends stay inside the video", () => {
  expect(shown(after([row(2, 10)], (now) => setEnds(now[0]!, -3, 99, 60))[0])).toEqual([["Driving", 0, 60, "changed"]]);
});

test("gaps are not cut", () => {
  const gap = row(0, 10, "no_picture", "gap");
  expect(shown(after([gap], () => add("phase", "Driving", 2, 4))[0])).toEqual([["no_picture", 0, 10, "model"], ["Driving", 2, 4, "added"]]);
});

test("a change whose answer was lost is known again in what the service has", () => {
  const [, marks] = after([row(0, 5)], (now) => setCategory(now[0]!, "Withdrawal"));
  const change: Change = { ...modelRow(0, 5, "Withdrawal"), op: "change", span_id: [...marks.keys()][0]!, row: modelRow(0, 5) };
  expect(isDone(marks, change)).toBe(true);
  expect(isDone(marks, { ...change, stop_s: 4 })).toBe(false);
  expect(isDone(marks, { ...change, op: "remove" })).toBe(false);
  expect(isDone(marksOf([mark(change.span_id, { ...modelRow(0, 5, "Withdrawal"), row: modelRow(0, 5), state: "changed" })]), change)).toBe(false);
});

test("my wish is told anew where somebody else has removed the span, or brought it back", () => {
  const change: Change = { ...modelRow(0, 5), op: "change", span_id: "a", row: null };
  const there = marksOf([mark("a", {})]);
  const ops = (marks: Marks, op: Change["op"]) => rebased(marks, [{ ...change, op }], ME).map((one) => one.op);
  expect(ops(new Map(), "change")).toEqual(["add"]);
  expect(ops(new Map(), "reject")).toEqual(["add", "reject"]);
  expect(ops(new Map(), "remove")).toEqual([]);
  expect(ops(there, "add")).toEqual(["change"]);
  expect(ops(there, "reject")).toEqual(["reject"]);
});

test("a similar moment gets the same word, and none where there is nothing to say", () => {
  const [[span]] = after([row(0, 5)], (now) => setCategory(now[0]!, "Withdrawal"));
  const moment = { video_id: "v", start_s: 50, stop_s: 52, similarity: 0.9 };
  const there = { ...modelRow(48, 55), confidence: 0.4 };
  expect(sameAt(span!, { ...moment, row: there })).toMatchObject({ op: "change", category: "Withdrawal", start_s: 48, stop_s: 55, row: modelRow(48, 55) });
  expect(sameAt(span!, { ...moment, row: { ...there, category: "Withdrawal" } })).toMatchObject({ op: "accept", category: "Withdrawal" });
  expect(sameAt(span!, { ...moment, row: null })).toMatchObject({ op: "add", category: "Withdrawal", start_s: 50, row: null });
  const [[rejected]] = after([row(0, 5)], (now) => reject(now[0]!));
  expect(sameAt(rejected!, { ...moment, row: there })).toMatchObject({ op: "reject", start_s: 48 });
  expect(sameAt(rejected!, { ...moment, row: { ...there, category: "Withdrawal" } })).toBeNull();
  expect(sameAt(rejected!, { ...moment, row: null })).toBeNull();
});

test("a lane in which only a person has seen something is shown, too", () => {
  const [change] = add("anatomy", "Uterus", 1, 3);
  const lanes = mergedLanes([lane([row(0, 5)])], allApplied(new Map(), [change!], ME, 0));
  expect(lanes.map((one) => [one.tag, one.categories, one.spans.length])).toEqual([["phase", CATEGORIES, 1], ["anatomy", ["Uterus"], 1]]);
});
