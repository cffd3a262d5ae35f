import { render, screen, waitFor, within } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import axe from "axe-core";
import { beforeEach, expect, test, vi } from "vitest";

import type { Video } from "../../api/types";
import { session } from "../../session";
import { ID, PATH, type KeptLayer, keepLayer, marked } from "../../testing/annotations";
import { nothingSelected, silentPlayer } from "../../testing/player";
import type { Answer } from "../../testing/service";
import type { Lane, Selection, Span } from "../interfaces";
import { qualityShown } from "../quality";
import type { Change } from "./changes";
import { tagsOf } from "../lanes";
import { useLayer } from "./layer";
import { EditPanel } from "./panel";

const OTHER = "9c".repeat(16);
const span = (startS: number, stopS: number, category: string, confidence: number, tag = "phase"): Span => ({ id: `${tag}|${category}|${startS * 1000}|${stopS * 1000}`, tag, category, startS, stopS, confidence, source: "ai" });
const LANES: Lane[] = [
  { tag: "step", categories: ["Suturing", "Dissection"], ordered: false, spans: [span(0, 60, "Suturing", 0.95, "step")] },
  { tag: "phase", categories: ["Needle Handling", "Driving", "Withdrawal"], ordered: false, spans: [span(0, 10, "Driving", 0.9), span(10, 20, "Withdrawal", 0.4), span(20, 30, "Driving", 0.6)] },
];
const KNOWN = tagsOf({ map: { step: ["Suturing", "Dissection"], phase: ["Needle Handling", "Driving", "Withdrawal"], anatomy: ["Uterus", "Bladder"] } });
const VIDEO = { video_id: ID, duration_s: 60, fps: 25, rights: ["watch", "timeline", "annotate"] } as unknown as Video;

function Shown({ video, player, selection }: { video: Video; player: ReturnType<typeof silentPlayer>; selection: Selection }) {
  const layer = useLayer(ID, LANES, { mayAnnotate: true, durationS: 60 });
  return (
    <>
      <p data-testid="lane">{layer.lanes.find((lane) => lane.tag === "phase")!.spans.map((one) => `${one.category} ${one.startS}-${one.stopS}${one.state ? ` ${one.state}` : ""}`).join("; ")}</p>
      <EditPanel video={video} layer={layer} player={player} selection={selection} taxonomy={KNOWN} />
    </>
  );
}

async function opened(answers: Record<string, Answer> = {}, video = VIDEO, begin: (service: KeptLayer) => void = () => {}) {
  const service = keepLayer(answers);
  begin(service);
  const [player, selection, user] = [silentPlayer(60, 25), nothingSelected(), userEvent.setup()];
  render(<Shown video={video} player={player} selection={selection} />);
  await screen.findByRole("heading", { name: "Correct the map" });
  await waitFor(() => expect(service.asked.length).toBeGreaterThan(0));
  const choose = async (id: string) => {
    selection.span.value = { ...span(0, 0, "", 0), id };
    await screen.findByText(/^Selected span/);
  };
  return { service, player, selection, user, choose };
}
const lane = () => screen.getByTestId("lane").textContent;
const button = (name: RegExp | string) => screen.getByRole("button", { name });
const saved = (service: KeptLayer, n: number) => waitFor(() => expect(service.posts()).toHaveLength(n));

beforeEach(() => {
  sessionStorage.clear();
  qualityShown.value = false;
  session.value = { user: "eve", name: "Eve", role: "surgeon", tenant: "north", csrf: "t", sign_on: false } as typeof session.value;
});

test("keys accept, reject, split, join, undo and redo, and each has a button that says its key", async () => {
  const { service, user, choose, player } = await opened();
  await choose("phase|Driving|0|10000");
  await user.keyboard("a");
  expect(lane()).toBe("Driving 0-10 accepted; Withdrawal 10-20; Driving 20-30");
  await user.keyboard("x");
  expect(lane()).toBe("Driving 0-10 rejected; Withdrawal 10-20; Driving 20-30");
  await user.keyboard("{Control>}z{/Control}");
  expect(lane()).toBe("Driving 0-10 accepted; Withdrawal 10-20; Driving 20-30");
  await user.keyboard("{Control>}{Shift>}z{/Shift}{/Control}");
  expect(lane()).toBe("Driving 0-10 rejected; Withdrawal 10-20; Driving 20-30");
  await user.keyboard("{Control>}z{/Control}");
  player.timeS.value = 4;
  await user.keyboard("s");
  expect(lane()).toBe("Driving 0-4 changed; Driving 4-10 added; Withdrawal 10-20; Driving 20-30");
  await user.keyboard("m");
  expect(lane()).toBe("Driving 0-10 accepted; Withdrawal 10-20; Driving 20-30");
  for (const [name, key] of [["Right", "A"], ["Wrong", "X"], ["Split here", "S"], ["Join with the next", "M"], ["Undo", "Control+Z"], ["Redo", "Control+Shift+Z"], ["Next", "G"], ["Before", "Shift+G"], ["Add", "N"]])
    expect(button(new RegExp(`^${name}`)).getAttribute("aria-keyshortcuts")).toBe(key);
  await saved(service, 7);
  expect(await screen.findByText("Everything is saved.")).toBeTruthy();
});

test("keys do nothing while somebody writes", async () => {
  const { service, user, choose } = await opened();
  await choose("phase|Driving|0|10000");
  await user.type(screen.getByLabelText("Start"), "ax");
  expect(service.posts()).toHaveLength(0);
});

test("a category is searched and chosen by keyboard", async () => {
  const { user, choose, service } = await opened();
  await choose("phase|Withdrawal|10000|20000");
  const menu = screen.getAllByRole("combobox", { name: "What it is" })[0]!;
  await user.click(menu);
  await user.type(menu, "han");
  expect(screen.getAllByRole("option", { hidden: false }).filter((one) => one.closest("[role=listbox]")).map((one) => one.textContent)).toEqual(["Needle Handling"]);
  await user.keyboard("{Enter}");
  expect(lane()).toContain("Needle Handling 10-20 changed");
  await saved(service, 1);
  expect(screen.getByText(/Changed by you/).textContent).toContain("The model said: Withdrawal, 0:10.0 to 0:20.0.");
});

test("Escape leaves the category as it was", async () => {
  const { user, choose, service } = await opened();
  await choose("phase|Withdrawal|10000|20000");
  const menu = screen.getAllByRole("combobox", { name: "What it is" })[0]! as HTMLInputElement;
  await user.click(menu);
  await user.keyboard("{ArrowDown}{Escape}");
  expect(menu.value).toBe("Withdrawal");
  expect(service.posts()).toHaveLength(0);
});

test("ends are written as times or moved by a frame; a time that cannot be is refused in words", async () => {
  const { user, choose } = await opened();
  await choose("phase|Withdrawal|10000|20000");
  const end = () => screen.getByLabelText("End") as HTMLInputElement;
  await user.clear(end());
  await user.type(end(), "0:18,5{Enter}");
  expect(lane()).toContain("Withdrawal 10-18.5 changed");
  await user.click(button("End: One frame earlier"));
  expect(lane()).toContain("Withdrawal 10-18.46 changed");
  await user.type(end(), "{ArrowUp}");
  expect(end().value).toBe("0:18.50");
  await user.clear(end());
  await user.type(end(), "0:05{Enter}");
  expect(screen.getByText(/Write a time such as/)).toBeTruthy();
  expect(end().getAttribute("aria-invalid")).toBe("true");
  expect(lane()).toContain("Withdrawal 10-18.5 changed");
});

test("a look into a field of a time changes nothing, although it shows less than is known", async () => {
  const { user, choose, service } = await opened({}, VIDEO, (kept) => {
    kept.state.spans = [marked({ op: "add", span_id: "a", tag: "phase", category: "Driving", start_s: 40.004, stop_s: 44.117, row: null })];
  });
  await screen.findByText(/40.004/);
  await choose("a");
  await user.click(screen.getByLabelText("Start"));
  await user.tab();
  expect(service.posts()).toHaveLength(0);
});

test("what is marked is added in any lane that the model knows", async () => {
  const { user, selection, service } = await opened();
  selection.range.value = [31, 34.5];
  await user.keyboard("n");
  expect(document.activeElement?.getAttribute("role")).toBe("combobox");
  await user.keyboard("{Escape}");
  await user.selectOptions(within(screen.getByRole("form", { name: "Add a span" })).getByRole("combobox", { name: "Lane" }), "anatomy");
  await user.click(within(screen.getByRole("form", { name: "Add a span" })).getByRole("combobox", { name: "What it is" }));
  await user.keyboard("blad{Enter}{Enter}");
  await saved(service, 1);
  expect(service.posts()[0]!.changes).toEqual([{ op: "add", span_id: expect.stringMatching(/^[0-9a-f]{16}$/), tag: "anatomy", category: "Bladder", start_s: 31, stop_s: 34.5, row: null }]);
  expect(selection.range.value).toBeNull();
  expect(selection.span.value).toMatchObject({ tag: "anatomy", state: "added" });
});

test("the queue goes from the least sure on, counts, filters by lane, and passes over what is skipped", async () => {
  const { user, player, selection } = await opened();
  const shown = () => selection.span.value && `${selection.span.value.category} ${selection.span.value.startS}`;
  expect(screen.getByText("0 of 4 looked at")).toBeTruthy();
  await user.keyboard("g");
  expect([shown(), player.sought.at(-1)]).toEqual(["Withdrawal 10", 10]);
  await user.keyboard("a");
  expect(screen.getByText("1 of 4 looked at")).toBeTruthy();
  expect(shown()).toBe("Driving 20");
  await user.keyboard("g");
  expect(shown()).toBe("Driving 0");
  await user.keyboard("{Shift>}g{/Shift}");
  expect(shown()).toBe("Driving 20");
  await user.selectOptions(within(screen.getByRole("group", { name: "To look at" })).getByLabelText("Lane"), "step");
  expect(screen.getByText("0 of 1 looked at")).toBeTruthy();
  await user.click(button(/^Next/));
  expect(shown()).toBe("Suturing 0");
  await user.keyboard("x");
  expect(screen.getByText("1 of 1 looked at")).toBeTruthy();
  expect(screen.getByText("You have seen every answer of this lane.")).toBeTruthy();
});

test("proficiency is not in the queue until it is asked for", async () => {
  LANES.push({ tag: "proficiency", categories: ["Low", "High"], ordered: true, spans: [span(0, 9, "Low", 0.1, "proficiency")] });
  try {
    await opened();
    expect(screen.getByText("0 of 4 looked at")).toBeTruthy();
    qualityShown.value = true;
    expect(await screen.findByText("0 of 5 looked at")).toBeTruthy();
  } finally {
    LANES.pop();
  }
});

const CONFLICT: Change = { op: "add", span_id: "a", tag: "phase", category: "Driving", start_s: 40, stop_s: 44, row: null };

test("what two people say differently is listed, and each is gone to", async () => {
  const { user, selection, player } = await opened({}, VIDEO, ({ state }) => {
    state.spans = [marked(CONFLICT), marked({ ...CONFLICT, span_id: "b", category: "Withdrawal", start_s: 41 }, false)];
    state.conflicts = [{ tag: "phase", start_s: 41, stop_s: 44, span_ids: ["a", "b"] }];
  });
  await user.click(await screen.findByRole("button", { name: /^Max: Withdrawal/ }));
  expect(selection.span.value).toMatchObject({ id: "b", author: "Max" });
  expect(player.sought).toEqual([41]);
  expect(button(/^You: Driving/)).toBeTruthy();
});

test("somebody else's word against mine is shown, and the one that I choose stands", async () => {
  const { user, service, choose } = await opened({}, VIDEO, ({ state }) => {
    state.spans = [marked(CONFLICT)];
    state.revision = 1;
  });
  HTMLDialogElement.prototype.showModal = vi.fn();
  HTMLDialogElement.prototype.close = vi.fn();
  await screen.findByText(/40-44/);
  const theirs = marked({ ...CONFLICT, category: "Needle Handling" }, false);
  service.fail = () => {
    service.fail = null;
    service.state = { ...service.state, revision: 2, spans: [theirs] };
    return new Response(JSON.stringify({ detail: "changed", spans: [theirs] }), { status: 409 });
  };
  await choose("a");
  await user.keyboard("x");
  const dialog = await screen.findByLabelText("Somebody else has changed this");
  expect(dialog.textContent).toContain("not Driving, 0:40.0–0:44.0");
  expect(dialog.textContent).toContain("Max: Needle Handling, 0:40.0–0:44.0");
  await user.click(within(dialog).getByText("Mine stands"));
  await saved(service, 2);
  expect(service.posts()[1]).toMatchObject({ revision: 2, changes: [{ op: "reject", span_id: "a" }] });
  await waitFor(() => expect(screen.queryByLabelText("Somebody else has changed this")).toBeNull());
});

test("the service's refusal is said, and the change can be dropped", async () => {
  const { user, service, choose } = await opened();
  service.fail = () => new Response(JSON.stringify({ detail: "times lie outside of the video" }), { status: 400 });
  await choose("phase|Driving|0|10000");
  await user.keyboard("a");
  expect(await screen.findByText(/Times lie outside of the video/)).toBeTruthy();
  expect(screen.getByText("1 change is not saved yet. It is kept in this tab.")).toBeTruthy();
  await user.click(button("Drop this change"));
  expect(lane()).toBe("Driving 0-10; Withdrawal 10-20; Driving 20-30");
});

test("while something is unsaved, closing the tab warns", async () => {
  const { user, service, choose } = await opened();
  const leave = () => {
    const event = new Event("beforeunload", { cancelable: true });
    dispatchEvent(event);
    return event.defaultPrevented;
  };
  expect(leave()).toBe(false);
  service.fail = () => new Response("{}", { status: 503 });
  await choose("phase|Driving|0|10000");
  await user.keyboard("a");
  expect(leave()).toBe(true);
});

const SIMILAR = `GET v1/videos/${ID}/similar?start_s=10&stop_s=20&limit=20&tag=phase`;
const row = (start_s: number, stop_s: number, category: string) => ({ tag: "phase", category, start_s, stop_s });

test("a correction offers the same for similar moments, which are shown before any is taken", async () => {
  const theirs = `v1/videos/${OTHER}/annotations`;
  const { user, service, choose, player } = await opened({
    [SIMILAR]: [
      { video_id: ID, start_s: 21, stop_s: 24, similarity: 0.93, row: row(20, 30, "Driving") },
      { video_id: ID, start_s: 25, stop_s: 28, similarity: 0.92, row: row(20, 30, "Driving") },
      { video_id: ID, start_s: 12, stop_s: 14, similarity: 0.99, row: row(10, 20, "Withdrawal") },
      { video_id: OTHER, start_s: 100, stop_s: 104, similarity: 0.8, row: row(98, 110, "Needle Handling") },
      { video_id: OTHER, start_s: 200, stop_s: 204, similarity: 0.7, row: row(198, 210, "Withdrawal") },
    ],
    [`GET ${theirs}`]: { revision: 5, spans: [marked({ op: "accept", span_id: "z", ...row(198, 210, "Withdrawal"), row: row(198, 210, "Withdrawal") })], conflicts: [], history_count: 5 },
    [`POST ${theirs}`]: { revision: 6, spans: [], conflicts: [], history_count: 6 },
  });
  await choose("phase|Withdrawal|10000|20000");
  expect(screen.queryByText("Similar moments")).toBeNull();
  await user.click(screen.getAllByRole("combobox", { name: "What it is" })[0]!);
  await user.keyboard("needle{Enter}");
  await user.click(button("Look for similar moments"));
  expect(await screen.findByText('Say "Needle Handling" also for:')).toBeTruthy();
  const offered = screen.getAllByRole("checkbox").map((box) => box.parentElement!.textContent);
  expect(offered).toEqual([
    "This case at 0:20.0 · the model says Driving · 93% alike",
    "Case 9c9c9c at 1:38.0 · the model says Needle Handling · 80% alike",
    "Case 9c9c9c at 3:18.0 · the model says Withdrawal · 70% alike",
  ]);
  await user.click(button("Play it: 0:20.0"));
  expect(player.played).toEqual([[20, 30]]);
  await saved(service, 1);
  for (const box of screen.getAllByRole("checkbox")) await user.click(box);
  await user.click(button("Say so for 3 moments"));
  expect(await screen.findByText("Said for 2 moments.")).toBeTruthy();
  expect(screen.getByText("Case 9c9c9c: not said. Somebody has said something there already.")).toBeTruthy();
  expect(service.posts()[1]!.changes).toMatchObject([{ op: "change", category: "Needle Handling", start_s: 20, stop_s: 30, row: row(20, 30, "Driving") }]);
  const other = service.asked.filter((one) => one.method === "POST" && one.path === theirs).map((one) => one.body);
  expect(other).toMatchObject([{ revision: 5, changes: [{ op: "accept", category: "Needle Handling", row: row(98, 110, "Needle Handling") }] }]);
  await user.keyboard("{Control>}z{/Control}");
  expect(lane()).toContain("Driving 20-30");
});

test("who may not annotate sees what people say, and no button that changes it", async () => {
  await opened({}, { ...VIDEO, rights: ["watch", "timeline"] } as Video);
  expect(screen.getByText(/You can see what people have said/)).toBeTruthy();
  expect(screen.queryByRole("button")).toBeNull();
  expect(screen.getByText(/Where people differ/)).toBeTruthy();
});

test("who changed what and how far people agree are told when they are opened", async () => {
  const { user, player } = await opened(
    {
      [`GET ${PATH}/history?after=0&limit=200`]: [
        { revision: 1, author_name: "Eve", mine: true, at_s: 1_794_000_000, op: "add", span_id: "a", ...row(40, 44, "Driving") },
        { revision: 2, author_name: "Max", mine: false, at_s: 1_794_000_100, op: "reject", span_id: "a", ...row(40, 44, "Driving") },
      ],
      [`GET ${PATH}/agreement`]: { pairs: [{ one_name: "Eve", other_name: "Max", tag: "phase", kappa: 0.71, boundary_error_s: 0.4, n: 120 }, { one_name: "Eve", other_name: "Max", tag: "step", kappa: null, boundary_error_s: null, n: 60 }] },
    },
    VIDEO,
    ({ state }) => Object.assign(state, { revision: 2, history_count: 2 }),
  );
  const open = async (name: RegExp) => {
    const details = (await screen.findByText(name)).closest("details")!;
    details.open = true;
    details.dispatchEvent(new Event("toggle"));
    return details;
  };
  const history = await open(/Who changed what \(2\)/);
  await waitFor(() => expect(within(history).getAllByRole("listitem").map((one) => one.firstChild!.textContent)).toEqual(["Max rejected Phase of a stitch: Driving", "Eve added Phase of a stitch: Driving"]));
  await user.click(within(history).getAllByRole("button", { name: "0:40.0–0:44.0" })[0]!);
  expect(player.sought).toEqual([40]);
  const agreement = await open(/How far people agree/);
  const table = await within(agreement).findByRole("table");
  expect(within(table).getAllByRole("row").slice(1).map((one) => one.textContent)).toEqual(["Eve and MaxPhase of a stitch0.71 (well)0.4 s120", "Eve and MaxStep––60"]);
});

test("what people have said goes into the atlas, once everything is saved", async () => {
  const { user } = await opened({ [`POST ${PATH}/commit`]: { version: 12, samples: 7, disputed: 1, release: null } }, VIDEO, ({ state }) => Object.assign(state, { revision: 2 }));
  await waitFor(() => expect((screen.getByText("Put it into the atlas") as HTMLButtonElement).disabled).toBe(false));
  await user.click(screen.getByText("Put it into the atlas"));
  expect((await screen.findByText(/7 examples are in the atlas, version 12/)).textContent).toContain("1 span is left out");
});

test("axe finds nothing", async () => {
  const { choose, user } = await opened();
  await choose("phase|Withdrawal|10000|20000");
  await user.click(screen.getAllByRole("combobox", { name: "What it is" })[0]!);
  const { violations } = await axe.run(document.body, { rules: { "color-contrast": { enabled: false }, region: { enabled: false } } });
  expect(violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join()}`)).toEqual([]);
});
