import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { ID, type KeptLayer, empty, keepLayer as keeping, marked } from "../../testing/annotations";
import type { Lane } from "../interfaces";
import type { Mark } from "./changes";
import { accept, reject, setCategory } from "./corrections";
import { Layer } from "./layer";
import { kept } from "./unsaved";

const LANE: Lane = {
  tag: "phase",
  categories: ["Driving", "Withdrawal", "Needle Handling"],
  ordered: false,
  spans: [0, 10, 20].map((startS) => ({ id: `phase|Driving|${startS * 1000}|${(startS + 10) * 1000}`, tag: "phase", category: "Driving", startS, stopS: startS + 10, confidence: 0.9, source: "ai" })),
};
const EMPTY = empty();

async function opened(userId = "eve"): Promise<Layer> {
  const layer = new Layer(ID, userId, "Eve", { mayAnnotate: true, durationS: 60 });
  layer.show([LANE]);
  await layer.begin();
  return layer;
}
const answer = (status: number, body: unknown) => new Response(JSON.stringify(body), { status });
const saved = (layer: Layer) => vi.waitFor(() => expect(layer.unsaved.value).toBe(0));

beforeEach(() => {
  sessionStorage.clear();
});
afterEach(() => {
  vi.useRealTimers();
});

test("a change is seen at once, sent, and kept in the tab until the service has it", async () => {
  const service = keeping();
  const layer = await opened();
  layer.apply(setCategory(layer.spans.value[0]!, "Withdrawal"));
  expect(layer.spans.value[0]).toMatchObject({ category: "Withdrawal", state: "changed", mine: true });
  expect(kept("eve", ID)).toHaveLength(1);
  await saved(layer);
  expect(kept("eve", ID)).toHaveLength(0);
  expect(service.posts()).toEqual([{ revision: 0, changes: [expect.objectContaining({ op: "change", category: "Withdrawal", row: { tag: "phase", category: "Driving", start_s: 0, stop_s: 10 } })] }]);
  expect(layer.spans.value[0]).toMatchObject({ category: "Withdrawal", state: "changed" });
});

test("changes are sent one after the other, in the order in which they were made", async () => {
  const service = keeping();
  const layer = await opened();
  for (const n of [2, 0, 1]) layer.apply(reject(layer.spans.value[n]!));
  await saved(layer);
  expect(service.posts().map((one) => one.changes[0]!.start_s)).toEqual([20, 0, 10]);
});

test("while the service is away a change waits and is sent again, longer and longer apart", async () => {
  const service = keeping();
  const layer = await opened();
  vi.useFakeTimers();
  service.fail = () => answer(503, { detail: "busy" });
  layer.apply(reject(layer.spans.value[0]!));
  await vi.advanceTimersByTimeAsync(0);
  expect(layer.error.value).toMatchObject({ status: 503 });
  await vi.advanceTimersByTimeAsync(2000);
  expect(service.posts()).toHaveLength(2);
  await vi.advanceTimersByTimeAsync(2000);
  expect(service.posts()).toHaveLength(2);
  service.fail = null;
  await vi.advanceTimersByTimeAsync(2000);
  expect(layer.unsaved.value).toBe(0);
  expect(layer.error.value).toBeNull();
  expect(layer.spans.value[0]).toMatchObject({ state: "rejected" });
});

test("a change that arrived, whose answer was lost, is not made twice", async () => {
  const service = keeping();
  const layer = await opened();
  vi.useFakeTimers();
  const change = setCategory(layer.spans.value[0]!, "Withdrawal");
  service.fail = () => {
    service.state = { ...EMPTY, revision: 1, spans: [marked(change[0]!, true)] };
    return answer(504, {});
  };
  layer.apply(change);
  await vi.advanceTimersByTimeAsync(2000);
  expect(layer.unsaved.value).toBe(0);
  expect(service.posts()).toHaveLength(1);
});

test("a reload of the page sends what was not saved, and never in the name of somebody else", async () => {
  const service = keeping();
  service.fail = () => answer(503, {});
  const layer = await opened();
  layer.apply(reject(layer.spans.value[1]!));
  await vi.waitFor(() => expect(layer.error.value).not.toBeNull());
  layer.end();
  service.fail = null;
  const others = await opened("max");
  expect(others.unsaved.value).toBe(0);
  const again = await opened();
  expect(again.spans.value[1]).toMatchObject({ state: "rejected" });
  await saved(again);
  expect(service.state.spans).toHaveLength(1);
});

test("a change made on what somebody has seen is sent as made on that, not on what came since", async () => {
  const service = keeping();
  service.fail = () => answer(503, {});
  const layer = await opened();
  layer.apply(reject(layer.spans.value[1]!));
  await vi.waitFor(() => expect(layer.error.value).not.toBeNull());
  layer.end();
  service.fail = null;
  service.state = { ...EMPTY, revision: 7 };
  await saved(await opened());
  expect(service.posts().at(-1)).toMatchObject({ revision: 0 });
});

test("undo and redo are changes of their own", async () => {
  const service = keeping();
  const layer = await opened();
  layer.apply(setCategory(layer.spans.value[0]!, "Withdrawal"));
  layer.undo();
  expect(layer.spans.value[0]).toMatchObject({ category: "Driving", source: "ai" });
  layer.redo();
  expect(layer.spans.value[0]).toMatchObject({ category: "Withdrawal", state: "changed" });
  await saved(layer);
  expect(service.posts().map((one) => one.changes.map((change) => change.op))).toEqual([["change"], ["remove"], ["add"]]);
  expect([layer.canUndo.value, layer.canRedo.value]).toEqual([true, false]);
});

const clashing = async (): Promise<[KeptLayer, Layer, Mark]> => {
  const service = keeping();
  const first = { tag: "phase", category: "Driving", start_s: 0, stop_s: 10, span_id: "a", op: "add" as const, row: null };
  service.state = { ...EMPTY, revision: 1, spans: [marked(first, true)] };
  const layer = await opened();
  const theirs = { ...marked({ ...first, category: "Needle Handling" }, false) };
  service.fail = () => {
    service.state = { ...EMPTY, revision: 2, spans: [theirs] };
    service.fail = null;
    return answer(409, { detail: "changed", spans: [theirs] });
  };
  layer.apply(setCategory(layer.find("a")!, "Withdrawal"));
  layer.apply(setCategory(layer.find("a")!, "Driving"));
  layer.apply(reject(layer.spans.value.find((span) => span.startS === 20)!));
  await vi.waitFor(() => expect(layer.clash.value).not.toBeNull());
  return [service, layer, theirs];
};

test("somebody else's word against mine is shown, and mine is sent again where I keep it", async () => {
  const [service, layer, theirs] = await clashing();
  expect(layer.clash.value).toEqual({ mine: [expect.objectContaining({ category: "Withdrawal" })], theirs: [theirs] });
  expect(service.posts()).toHaveLength(1);
  await layer.settle(true);
  await saved(layer);
  expect(service.posts().slice(1).map((one) => [one.revision, one.changes[0]!.category, one.changes[0]!.start_s])).toEqual([[2, "Withdrawal", 0], [2, "Driving", 0], [1, "Driving", 20]]);
});

test("where theirs stands, nothing more of mine about this span is sent, and the rest is", async () => {
  const [service, layer] = await clashing();
  await layer.settle(false);
  await saved(layer);
  expect(service.posts().slice(1).map((one) => one.changes[0]!.start_s)).toEqual([20]);
  expect(layer.find("a")).toMatchObject({ category: "Needle Handling", author: "Max" });
  layer.undo();
  expect(layer.canUndo.value).toBe(false);
});

test("a change that the service refuses says so, and can be given up", async () => {
  const service = keeping();
  const layer = await opened();
  service.fail = () => answer(400, { detail: "phase has no category" });
  layer.apply(setCategory(layer.spans.value[0]!, "Nonsense"));
  await vi.waitFor(() => expect(layer.error.value).toMatchObject({ status: 400 }));
  expect(layer.unsaved.value).toBe(1);
  layer.giveUp();
  expect(layer.unsaved.value).toBe(0);
  expect(layer.spans.value[0]).toMatchObject({ category: "Driving", source: "ai" });
});

test("a row that was answered is found by the id that it had, and an end can be moved", async () => {
  keeping();
  const layer = await opened();
  const before = layer.spans.value[0]!;
  layer.apply(accept(before));
  expect(layer.find(before)).toMatchObject({ state: "accepted" });
  expect(layer.moveEnd(before, "stop", 8.04)).toMatchObject({ startS: 0, stopS: 8.04, state: "changed" });
  expect(layer.find("nothing")).toBeNull();
});

test("ends are dragged only by whom the case lets annotate", async () => {
  keeping();
  expect(new Layer(ID, "eve", "Eve").drag).toBeUndefined();
  const layer = await opened();
  layer.drag!(layer.spans.value[2]!, "stop", 99);
  expect(layer.lanes[0]!.spans[2]).toMatchObject({ stopS: 60, state: "changed", author: "Eve" });
});
