/** A service for tests of corrections: it keeps the layer of one case as the real one does, in the order of requests. */
import type { Annotations, Change, Mark } from "../case/edit/changes";
import { type Answer, type Asked, serve } from "./service";

export const ID = "3f".repeat(16);
export const PATH = `v1/videos/${ID}/annotations`;

export type Sent = { revision: number; changes: Change[] };

export interface KeptLayer {
  asked: Asked[];
  state: Annotations;
  /** What the next change gets in place of its answer; null: the change is made. */
  fail: (() => unknown) | null;
  posts(): Sent[];
}

export const empty = (): Annotations => ({ revision: 0, spans: [], conflicts: [], history_count: 0 });

/** What the layer says after `change`; `mine`: it is the caller's. */
export function marked(change: Change, mine = true): Mark {
  const isAsRow = change.row !== null && change.row.category === change.category && change.row.start_s === change.start_s && change.row.stop_s === change.stop_s;
  const state = change.op === "reject" ? "rejected" : !change.row ? "added" : isAsRow ? "accepted" : "changed";
  const { op: _, ...content } = change;
  return { ...content, state, author: mine ? "p1" : "p2", author_name: mine ? "Eve" : "Max", at_s: 1_794_000_000, mine };
}

export function keepLayer(answers: Record<string, Answer> = {}): KeptLayer {
  const layer: KeptLayer = {
    asked: [],
    state: empty(),
    fail: null,
    posts: () => layer.asked.filter((one) => one.method === "POST" && one.path === PATH).map((one) => one.body as Sent),
  };
  layer.asked = serve({
    [`GET ${PATH}`]: () => layer.state,
    [`POST ${PATH}`]: (asked: Asked) => {
      const failed = layer.fail?.();
      if (failed) return failed;
      const { changes } = asked.body as Sent;
      const spans = new Map(layer.state.spans.map((span) => [span.span_id, span]));
      for (const change of changes)
        if (change.op === "remove") spans.delete(change.span_id);
        else spans.set(change.span_id, marked(change));
      const revision = layer.state.revision + changes.length;
      layer.state = { ...layer.state, revision, history_count: revision, spans: [...spans.values()] };
      return layer.state;
    },
    ...answers,
  });
  return layer;
}
