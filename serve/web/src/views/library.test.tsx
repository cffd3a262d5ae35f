import { render, screen, waitFor, within } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";

import type { Case } from "../api/cases";
import { caseId as ID, found } from "../testing/case";
import { signedIn } from "../testing/people";
import { refused, serve } from "../testing/service";
import { speak } from "../words";
import { Library } from "./library";

const page = (cases: Case[], next: string | null = null) => ({ cases, total: cases.length, next });
const FIRST = "GET v1/cases?limit=50";
const view = (query = "") => render(<Library query={new URLSearchParams(query)} />);

beforeEach(() => {
  signedIn();
  speak("en");
});

test("a case says its procedure, date, length, stitches, labels, steps and state in words", async () => {
  serve({ [FIRST]: page([found(1)]) });
  view();
  const card = within(await screen.findByRole("listitem"));
  expect(card.getByRole("link", { name: "Prostatectomy" }).getAttribute("href")).toBe(`#${ID(1)}`);
  expect(card.getByText("suggested by the map")).toBeTruthy();
  expect(card.getByText(/Operated on .*3.* · 1:02:33 · 42 stitches/)).toBeTruthy();
  expect(card.getByText("Suturing mapped, dissection not asked for")).toBeTruthy();
  expect(card.getByText("teaching")).toBeTruthy();
  expect(card.getByRole("img", { name: "Steps in order: Dissection, Suturing" })).toBeTruthy();
});

test.each([
  [{ state: "mapping", done_share: 0.25 }, "Being mapped, 25%"],
  [{ state: "failed", reason: "no frame" }, "Failed: no frame"],
  [{ state: "new" }, "Not mapped yet"],
  [{ state: "partial" }, "Mapped, with gaps"],
  [{ state: "review" }, "To be looked through"],
])("a case that is %o says so", async (status, text) => {
  serve({ [FIRST]: page([found(1, { status: { ...found(1).status, asked: [], ...status } as Case["status"] })]) });
  view();
  expect(await screen.findByText(text)).toBeTruthy();
});

test("words and filters are asked of the service and stand in the address", async () => {
  const asked = serve({
    [FIRST]: page([found(1)]),
    "GET v1/cases?q=knot&limit=50": page([]),
    "GET v1/cases?q=knot&status=mapped&limit=50": page([found(2)]),
  });
  view();
  await screen.findByRole("listitem");
  await userEvent.type(screen.getByLabelText("Search"), "knot");
  await screen.findByText("No case is like this. Remove a filter, or search for fewer words.");
  expect(asked.map((one) => one.path)).not.toContain("v1/cases?q=kno&limit=50");
  await userEvent.selectOptions(screen.getByLabelText("State"), "mapped");
  await screen.findByRole("listitem");
  expect(location.hash).toBe("#library?q=knot&status=mapped");
});

test("what stands in the address is looked for", async () => {
  const asked = serve({ "GET v1/cases?label=teaching&order=longest&limit=50": page([found(1)]) });
  view("label=teaching&order=longest");
  await screen.findByRole("listitem");
  expect(screen.getByLabelText("Label")).toHaveProperty("value", "teaching");
  expect(asked).toHaveLength(1);
});

test("pages come from the service, forward and back", async () => {
  serve({ [FIRST]: page([found(1)], "c2"), "GET v1/cases?cursor=c2&limit=50": page([found(2)]) });
  view();
  await userEvent.click(await screen.findByRole("button", { name: "Next cases" }));
  await waitFor(() => expect(screen.getByText(new RegExp(`Case ${ID(2).slice(0, 6)}`))).toBeTruthy());
  expect(screen.queryByRole("button", { name: "Next cases" })).toBeNull();
  await userEvent.click(screen.getByRole("button", { name: "Previous cases" }));
  await waitFor(() => expect(screen.getByText(new RegExp(`Case ${ID(1).slice(0, 6)}`))).toBeTruthy());
});

test("a description is saved, and a label that looks like a name is warned of", async () => {
  let looks_like = [{ text: "Doe", kind: "person" }];
  const asked = serve({ [FIRST]: page([found(1)]), [`PATCH v1/cases/${ID(1)}`]: () => ({ ...found(1), looks_like }) });
  view();
  await userEvent.click(await screen.findByRole("button", { name: "Describe Prostatectomy" }));
  await userEvent.type(screen.getByLabelText("Procedure", { selector: "input" }), "Nephrectomy");
  await userEvent.clear(screen.getByLabelText("Labels, with a comma between them"));
  await userEvent.type(screen.getByLabelText("Labels, with a comma between them"), "Doe, , teaching ");
  await userEvent.click(screen.getByRole("button", { name: "Save" }));
  expect((await screen.findByRole("alert")).textContent).toContain("Doe: this looks like a person's name");
  expect(asked.find((one) => one.method === "PATCH")?.body).toEqual({
    procedure: "Nephrectomy",
    labels: ["Doe", "teaching"],
  });
  looks_like = [];
  await userEvent.click(screen.getByRole("button", { name: "Save" }));
  await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
});

test("cases are made one in the order of the choice, and a case of several files is taken apart", async () => {
  const cases = [found(1), found(2, { videos: [ID(2), ID(3)] })];
  const asked = serve({ [FIRST]: page(cases), "POST v1/cases": found(2), [`DELETE v1/cases/${ID(2)}`]: null });
  view();
  await userEvent.click(await screen.findByRole("button", { name: "Choose cases" }));
  const boxes = screen.getAllByRole("checkbox");
  expect(screen.getByRole("button", { name: "Make one case of them" })).toHaveProperty("disabled", true);
  await userEvent.click(boxes[1]!);
  await userEvent.click(boxes[0]!);
  await userEvent.click(screen.getByRole("button", { name: "Make one case of them" }));
  await waitFor(() => expect(screen.queryByText("2 chosen")).toBeNull());
  expect(asked.find((one) => one.method === "POST")?.body).toEqual({ video_ids: [ID(2), ID(3), ID(1)] });

  await userEvent.click(screen.getByRole("button", { name: "Take apart" }));
  const dialog = within(await screen.findByRole("dialog"));
  expect(dialog.getByText(/Its 2 files become cases of their own. No video is deleted./)).toBeTruthy();
  await userEvent.click(dialog.getByRole("button", { name: "Take apart" }));
  await waitFor(() => expect(asked.map((one) => `${one.method} ${one.path}`)).toContain(`DELETE v1/cases/${ID(2)}`));
});

test("two chosen cases are compared", async () => {
  serve({ [FIRST]: page([found(1), found(2)]) });
  view();
  await userEvent.click(await screen.findByRole("button", { name: "Choose cases" }));
  for (const box of screen.getAllByRole("checkbox")) await userEvent.click(box);
  await userEvent.click(screen.getByRole("button", { name: "Compare" }));
  expect(location.hash).toBe(`#compare=${ID(1)},${ID(2)}`);
});

test("the way back from a case leads to the page of the list that was left, and to where it was scrolled", async () => {
  const scrolled = vi.fn();
  vi.stubGlobal("scrollTo", scrolled);
  const asked = serve({ [FIRST]: { ...page([found(1)]), next: "c1" }, "GET v1/cases?cursor=c1&limit=50": page([found(2)]) });
  const before = view();
  await userEvent.click(await screen.findByRole("button", { name: "Next cases" }));
  await waitFor(() => expect(asked).toHaveLength(2));
  Object.defineProperty(window, "scrollY", { value: 640, configurable: true });
  dispatchEvent(new Event("scroll"));
  await waitFor(() => expect((history.state as { place: { y: number } }).place.y).toBe(640));
  before.unmount();
  asked.length = 0;
  view();
  await waitFor(() => expect(scrolled).toHaveBeenCalledWith(0, 640));
  expect(asked.map((one) => one.path)).toEqual(["v1/cases?cursor=c1&limit=50"]);
  history.replaceState(null, "");
  vi.unstubAllGlobals();
});

test("who may not describe a case gets no button for it", async () => {
  serve({ [FIRST]: page([found(1, { rights: ["see", "watch"], mine: false })]) });
  view();
  await screen.findByText("Shared with me");
  expect(screen.queryByRole("button", { name: /Describe/ })).toBeNull();
});

test("a service that is away is said, and the page tries again by itself", async () => {
  let isAway = true;
  serve({ [FIRST]: () => (isAway ? refused(502, "") : page([found(1)])) });
  view();
  await screen.findByText(/The service does not answer. Your work here is kept; the page tries again by itself./);
  isAway = false;
  await screen.findByRole("listitem");
  expect(screen.queryByRole("alert")).toBeNull();
});

const MOMENT = { video_id: ID(2), start_s: 75, stop_s: 80, similarity: 0.913, row: { tag: "step", category: "Suturing", start_s: 60, stop_s: 90 } };

test("moments that the words describe are shown as cards that open the case there", async () => {
  const asked = serve({
    [FIRST]: page([found(1)]),
    "GET v1/cases?q=needle&limit=50": page([]),
    "POST v1/search": { moments: [MOMENT, { ...MOMENT, start_s: 700, row: null }] },
  });
  view();
  expect((screen.getByRole("button", { name: "Find moments" }) as HTMLButtonElement).disabled).toBe(true);
  await userEvent.type(screen.getByLabelText("Search"), "needle");
  await userEvent.click(screen.getByRole("button", { name: "Find moments" }));
  const list = within(await screen.findByRole("list", { name: "Moments: needle" }));
  const [first, second] = await waitFor(() => {
    const links = list.getAllByRole("link");
    expect(links.length).toBe(2);
    return links;
  });
  expect(first!.getAttribute("href")).toBe(`#${ID(2)}@75`);
  expect(first!.textContent).toMatch(/1:15 of .*Suturing91% alike/);
  expect(second!.textContent).toContain("the model says nothing");
  expect(asked.find((one) => one.method === "POST")?.body).toEqual({ text: "needle" });
  expect(location.hash).toBe("#library?q=needle&moments=needle");
  await userEvent.click(screen.getByRole("button", { name: "Close the moments" }));
  expect(screen.queryByRole("list", { name: "Moments: needle" })).toBeNull();
  expect(location.hash).toBe("#library?q=needle");
});

test("moments like a second of a case are asked for by the address, with the chosen procedure", async () => {
  const asked = serve({
    "GET v1/cases?procedure=Hernia&limit=50": page([]),
    "POST v1/search": { moments: [] },
  });
  view(`like=${ID(1)}@75.5&procedure=Hernia`);
  expect(await screen.findByText(/^No moment is like this/)).toBeTruthy();
  expect(screen.getByRole("heading", { name: /Moments like 1:15 of/ })).toBeTruthy();
  expect(asked.find((one) => one.method === "POST")?.body).toEqual({ video_id: ID(1), at_s: 75.5, procedure: "Hernia" });
});

test("a site without a model for words says so", async () => {
  serve({ [FIRST]: page([]), "POST v1/search": refused(409, "this site has no model for questions in words") });
  view("moments=needle");
  expect(await screen.findByText(/no model for questions in words/)).toBeTruthy();
});
