import { render, screen, waitFor, within } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";

import type { Video } from "../api/types";
import { ID, JOB, VIDEO } from "../testing/case";
import { signedIn } from "../testing/people";
import { refused, serve } from "../testing/service";
import { About } from "./about";

const show = (changes: Partial<Video>, reload = async () => {}) => render(<About video={{ ...VIDEO, ...changes }} reload={reload} />);
const region = () => screen.getByRole("region", { name: "About this case" });

beforeEach(() => signedIn());

test.each<[Partial<Video>, string]>([
  [{}, "Not mapped yet"],
  [{ job: { ...JOB, state: "queued", eta_s: null } }, "Waiting for its turn"],
  [{ job: JOB }, "Being mapped, 25%, 9 s left"],
  [{ job: { ...JOB, eta_s: 200 } }, "Being mapped, 25%, 3 min left"],
  [{ job: { ...JOB, state: "done", outcome: "partial" } }, "Mapped, with gaps"],
  [{ job: { ...JOB, state: "failed", reason: "the disk is full" } }, "The map failed: the disk is full"],
  [{ job: { ...JOB, state: "cancelled" } }, "The map was stopped"],
  [{ state: "cleaning" }, "Waiting to be cleaned"],
  [{ state: "cleaning", cleaning_job: { ...JOB, kind: "clean" } }, "Being cleaned, 25%"],
  [{ state: "failed", reason: "no frame" }, "It could not be cleaned, and its video was deleted: no frame"],
])("a case is said to be %o", (changes, text) => {
  serve({});
  show(changes);
  expect(within(region()).getByText(text)).toBeTruthy();
});

test("a map is stopped, and what failed is tried again", async () => {
  const asked = serve({ "POST v1/jobs/j1/cancel": {}, [`POST v1/videos/${ID}/maps`]: {} });
  const reload = vi.fn(async () => {});
  const { rerender } = show({ job: JOB }, reload);
  await userEvent.click(screen.getByRole("button", { name: "Stop" }));
  rerender(<About video={{ ...VIDEO, job: { ...JOB, state: "failed" } }} reload={reload} />);
  await userEvent.click(screen.getByRole("button", { name: "Try again" }));
  await waitFor(() => expect(reload).toHaveBeenCalledTimes(2));
  expect(asked.map((one) => one.path)).toEqual(["v1/jobs/j1/cancel", `v1/videos/${ID}/maps`]);
});

test("what was removed is said, with its certificate, and who looked through it says so", async () => {
  const cleaning = { level: "metadata" as const, looked_for: [], spans: 1, boxes: 2, removed: ["tags", "chapters"], sha256: "" };
  const asked = serve({ [`POST v1/videos/${ID}/certificate/accept`]: {} });
  show({ state: "review", cleaning });
  expect(region().textContent).toContain("Cleaned: 1 span hidden, 2 boxes hidden, the file's own tags, chapters removed. Its picture was not looked through.");
  expect(screen.getByRole("link", { name: "Certificate" }).getAttribute("href")).toBe(`v1/videos/${ID}/certificate`);
  await userEvent.click(screen.getByRole("button", { name: "I have looked through it" }));
  expect(asked).toHaveLength(1);
});

test("each part that was hidden stands in a list that leads to it, in the order of time", async () => {
  const cleaning = { level: "full" as const, looked_for: ["text"], spans: 1, boxes: 1, removed: [], sha256: "" };
  const black = { spans: [{ start_s: 62, stop_s: 1e9, reason: "out-of-body", score: 1 }], masks: [{ start_s: 5, stop_s: 7.5, reason: "text", score: 1 }] };
  const asked = serve({ [`GET v1/videos/${ID}/certificate`]: { black } });
  show({ state: "review", cleaning });
  expect(asked).toEqual([]);
  await userEvent.click(screen.getByText("Look at the 2 parts that were hidden"));
  const items = await screen.findAllByRole("listitem");
  expect(items.map((one) => one.textContent)).toEqual(["0:05.0–0:07.5 a box, text", "1:02.0–1:02:33.0 the whole picture, outside of the body"]);
  expect(within(items[0]!).getByRole("link").getAttribute("href")).toBe(`#${ID}@5`);
});

test("the dialog names the case that it deletes; a refusal stands in it and deletes nothing", async () => {
  location.hash = `#${ID}`;
  serve({ [`DELETE v1/videos/${ID}`]: refused(409, "the case is under a legal hold; an administrator ends the hold first") });
  show({});
  await userEvent.click(screen.getByRole("button", { name: "Delete this case" }));
  const dialog = within(await screen.findByRole("dialog", { name: "Delete Case 3f2a9c?" }));
  expect(dialog.getByText(/1:02:33 · 1920×1080 · 1.5 GB/)).toBeTruthy();
  await userEvent.click(dialog.getByRole("button", { name: "Delete" }));
  expect((await dialog.findByRole("alert")).textContent).toContain("an administrator ends the hold first");
  expect(location.hash).toBe(`#${ID}`);
  await userEvent.click(dialog.getByRole("button", { name: "Keep it" }));
  expect(screen.queryByRole("dialog")).toBeNull();
});

test("who may only look gets no button", () => {
  serve({});
  show({ rights: ["see", "watch", "timeline"], job: JOB });
  expect(screen.queryAllByRole("button")).toEqual([]);
});

test("a withdrawn consent is said with the day on which the case is deleted", () => {
  serve({});
  show({ consent: "withdrawn", rights: ["see", "delete"], keep_until_s: 1_790_000_000 });
  expect(screen.getByRole("status").textContent).toMatch(/picture and map are hidden, and the case is deleted on .*2026/);
});
