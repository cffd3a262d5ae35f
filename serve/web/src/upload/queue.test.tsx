import { render, screen, waitFor } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test } from "vitest";

import { signedIn, signedOut } from "../testing/people";
import { type Answer, type Asked, refused, serve } from "../testing/service";
import { AddVideos } from "./add-videos";
import { add, arrivals, isSending, items, remove } from "./queue";
import { Tray } from "./tray";

const PART = 4;

/** A service that takes uploads: each gets the next number as id, and its video is `v` with that number. */
function takesUploads(more: Record<string, Answer> = {}, partBytes = PART): { asked: Asked[]; parts: Map<string, Map<number, string>> } {
  const parts = new Map<string, Map<number, string>>();
  const states = new Map<string, string>();
  const shown = (id: string) => ({
    upload_id: id,
    part_bytes: partBytes,
    state: states.get(id),
    video_id: states.get(id) === "complete" ? `v${id}` : null,
    parts: [...parts.get(id)!].map(([number, sha256]) => ({ number, sha256 })),
  });
  const answers: Record<string, Answer> = {
    "POST v1/uploads": () => {
      const id = String(parts.size + 1);
      parts.set(id, new Map());
      states.set(id, "open");
      for (let number = 1; number <= 9; number++)
        answers[`PUT v1/uploads/${id}/parts/${number}`] ??= (one: Asked) => {
          parts.get(id)!.set(number, digestOf(one));
          return {};
        };
      answers[`GET v1/uploads/${id}`] ??= () => shown(id);
      answers[`GET v1/videos/v${id}`] ??= {};
      answers[`POST v1/videos/v${id}/maps`] ??= {};
      answers[`POST v1/uploads/${id}/complete`] ??= () => {
        states.set(id, "complete");
        return shown(id);
      };
      return shown(id);
    },
    ...more,
  };
  return { asked: serve(answers), parts };
}

/** The digest that a part was sent with, as the service shows it. */
const digestOf = (one: Asked): string =>
  [...atob(one.headers["content-digest"]!.slice("sha-256=:".length, -1))]
    .map((letter) => letter.charCodeAt(0).toString(16).padStart(2, "0"))
    .join("");
const file = (name: string, text: string) => new File([text], name, { type: "video/mp4" });
const paths = (asked: Asked[]) => asked.map((one) => `${one.method} ${one.path}`);

beforeEach(() => signedIn());
afterEach(() => {
  for (const item of items.value) remove(item);
});

test("a file is sent in parts, is mapped, and leaves the tray; its name is never sent nor kept", async () => {
  const before = arrivals.value;
  const { asked } = takesUploads();
  add([file("Jane Doe.mp4", "0123456789")], "map suturing activity", false);
  await waitFor(() => expect(items.value).toHaveLength(0));
  expect(paths(asked)).toEqual([
    "POST v1/uploads",
    "PUT v1/uploads/1/parts/1",
    "PUT v1/uploads/1/parts/2",
    "PUT v1/uploads/1/parts/3",
    "POST v1/uploads/1/complete",
    "POST v1/videos/v1/maps",
  ]);
  expect(asked.at(-1)?.body).toEqual({ instruction: "map suturing activity" });
  expect(asked[1]?.headers["content-digest"]).toMatch(/^sha-256=:.{44}:$/);
  expect(JSON.stringify(asked) + JSON.stringify(localStorage)).not.toContain("Jane");
  expect(localStorage).toHaveLength(0);
  expect(arrivals.value).toBe(before + 1);
});

test("a file that was paused goes on with the parts that are missing, and is told by its content alone", async () => {
  let isHeld = true;
  const { asked } = takesUploads({
    "PUT v1/uploads/1/parts/2": () => (isHeld ? new Promise(() => {}) : {}),
  });
  render(<Tray />);
  add([file("a.mp4", "0123456789")], "", false);
  await screen.findByText(/sending 33% of 0.1 MB/);
  await userEvent.click(screen.getByRole("button", { name: "Pause" }));
  await screen.findByText("paused");
  await userEvent.click(screen.getByRole("button", { name: "Remove a.mp4" }));
  isHeld = false;
  asked.length = 0;
  add([file("renamed.mp4", "0123456789")], "", false);
  await waitFor(() => expect(items.value).toHaveLength(0));
  expect(paths(asked).filter((one) => one.includes("/parts/"))).toEqual([
    "PUT v1/uploads/1/parts/2",
    "PUT v1/uploads/1/parts/3",
  ]);
});

test("a file that begins like another one is not mixed with it", async () => {
  const MEGABYTE = 1 << 20;
  const like = (letter: string) => `${"x".repeat(MEGABYTE)}${letter.repeat(MEGABYTE)}z`;
  let isHeld = true;
  const { asked } = takesUploads({ "PUT v1/uploads/1/parts/3": () => (isHeld ? new Promise(() => {}) : {}) }, MEGABYTE);
  add([file("a.mp4", like("a"))], "", false);
  await waitFor(() => expect(paths(asked)).toContain("PUT v1/uploads/1/parts/3"));
  for (const item of items.value) remove(item);
  isHeld = false;
  asked.length = 0;
  add([file("b.mp4", like("b"))], "", false);
  await waitFor(() => expect(items.value).toHaveLength(0));
  expect(paths(asked).filter((one) => one.startsWith("PUT"))).toEqual([
    "PUT v1/uploads/1/parts/2",
    "PUT v1/uploads/1/parts/3",
  ]);
});

test("no answer is tried again by itself, and a refusal is told with a way to try again", async () => {
  let answers = [refused(503, ""), refused(422, "expected a video, found text")];
  takesUploads({ "POST v1/uploads/1/complete": () => answers.shift() ?? { video_id: "v1" } });
  render(<Tray />);
  add([file("a.mp4", "01")], "", false);
  await screen.findByText(/trying again in 1 s/);
  expect(await screen.findByText("Expected a video, found text.")).toHaveProperty("role", "alert");
  expect(screen.getByRole("button", { name: "Try again" })).toBeTruthy();
  expect(localStorage).toHaveLength(0);
});

test("who was signed out is told, and the upload goes on when the same person is back", async () => {
  let isExpired = true;
  const { asked } = takesUploads({ "POST v1/videos/v1/maps": () => (isExpired ? refused(401, "sign in") : {}) });
  render(<Tray />);
  add([file("a.mp4", "01")], "", false);
  await screen.findByText(/you were signed out; this goes on when you have signed in again/);
  isExpired = false;
  signedIn();
  await waitFor(() => expect(items.value).toHaveLength(0));
  expect(paths(asked).filter((one) => one.endsWith("/maps"))).toHaveLength(2);
});

test("who signs out, and who signs in after somebody else, sees no file of that person", async () => {
  takesUploads({ "POST v1/uploads/1/complete": () => new Promise(() => {}) });
  add([file("a.mp4", "01")], "", false);
  await waitFor(() => expect(items.value[0]?.state.value.kind).toBe("checking"));
  signedOut(true);
  expect(items.value).toHaveLength(1);
  signedIn("eve");
  expect(items.value).toHaveLength(0);
  signedIn("ada");
  add([file("b.mp4", "02")], "", false);
  signedOut(false);
  expect(items.value).toHaveLength(0);
});

test("several files of one operation become one case in the order of their names, once all have come", async () => {
  const { asked } = takesUploads({ "POST v1/cases": {} });
  render(<><AddVideos /><Tray /></>);
  const input = screen.getByLabelText("Choose videos");
  await userEvent.upload(input, [file("part 10.mp4", "ten"), file("part 2.mp4", "two"), file("part 1.mp4", "one")]);
  await screen.findByRole("dialog");
  expect(screen.getAllByRole("listitem").map((one) => one.textContent?.replace(/[↑↓]/g, ""))).toEqual([
    "part 1.mp4",
    "part 2.mp4",
    "part 10.mp4",
  ]);
  await userEvent.click(screen.getByRole("button", { name: "Move part 10.mp4 up" }));
  await userEvent.click(screen.getByRole("button", { name: "Send them" }));
  await waitFor(() => expect(items.value).toHaveLength(0));
  const grouped = asked.filter((one) => one.path === "v1/cases");
  expect(grouped).toHaveLength(1);
  const sizes = asked.filter((one) => one.path === "v1/uploads").length;
  expect(sizes).toBe(3);
  // Uploads begin in any order; what was sent tells which video is which file.
  const parts = asked.filter((one) => one.method === "PUT");
  const sent = new Map(parts.map((one) => [`v${/uploads\/(\w+)/.exec(one.path)?.[1]}`, new TextDecoder().decode(one.body as ArrayBuffer)]));
  const { video_ids } = grouped[0]?.body as { video_ids: string[] };
  expect(video_ids.map((id) => sent.get(id))).toEqual(["one", "ten", "two"]);
  expect(localStorage).toHaveLength(0);
});

test("files of different operations stay cases of their own", async () => {
  const { asked } = takesUploads();
  render(<AddVideos />);
  await userEvent.upload(screen.getByLabelText("Choose videos"), [file("a.mp4", "a"), file("b.mp4", "b")]);
  await userEvent.click(await screen.findByLabelText("Different operations: each becomes a case of its own"));
  await userEvent.click(screen.getByRole("button", { name: "Send them" }));
  await waitFor(() => expect(items.value).toHaveLength(0));
  expect(paths(asked)).not.toContain("POST v1/cases");
  expect(paths(asked).filter((one) => one.endsWith("/maps"))).toHaveLength(2);
});

test("a file of several that has come is not sent again when another one is chosen again", async () => {
  let isHeld = true;
  const { asked } = takesUploads({
    "POST v1/uploads/2/complete": () => (isHeld ? new Promise(() => {}) : { upload_id: "2", video_id: "v2" }),
    "POST v1/cases": {},
  });
  add([file("1.mp4", "one"), file("2.mp4", "two")], "", true);
  // Uploads begin in any order: either file may be the one that is held.
  const come = () => items.value.findIndex((item) => item.state.value.kind === "sent");
  await waitFor(() => expect(come()).toBeGreaterThanOrEqual(0));
  await waitFor(() => expect(paths(asked)).toContain("POST v1/uploads/2/complete"));
  const videoIds = come() ? ["v2", "v1"] : ["v1", "v2"];
  for (const item of items.value) item.stop?.abort();
  items.value = []; // as when the page is loaded again
  isHeld = false;
  asked.length = 0;
  add([file("1.mp4", "one"), file("2.mp4", "two")], "", true);
  await waitFor(() => expect(items.value).toHaveLength(0));
  expect(paths(asked).filter((one) => one.startsWith("PUT"))).toEqual([]);
  expect(asked.at(-1)).toMatchObject({ path: "v1/cases", body: { video_ids: videoIds } });
});

test("closing the tab while something is sent asks first, and not before or after", async () => {
  const isAsked = () => {
    const event = new Event("beforeunload", { cancelable: true });
    dispatchEvent(event);
    return event.defaultPrevented;
  };
  let go: (value: unknown) => void = () => {};
  takesUploads({ "POST v1/uploads/1/complete": () => new Promise((done) => (go = done)) });
  expect(isAsked()).toBe(false);
  add([file("a.mp4", "01")], "", false);
  await waitFor(() => expect(items.value[0]?.state.value.kind).toBe("checking"));
  expect(isAsked()).toBe(true);
  go({ video_id: "v1" });
  await waitFor(() => expect(isSending.value).toBe(false));
  expect(isAsked()).toBe(false);
});

test("a file that is dropped on the page is sent", async () => {
  const { asked } = takesUploads();
  render(<AddVideos />);
  const drop = Object.assign(new Event("drop", { cancelable: true }), { dataTransfer: { files: [file("a.mp4", "a")] } });
  dispatchEvent(drop);
  expect(drop.defaultPrevented).toBe(true);
  await waitFor(() => expect(paths(asked)).toContain("POST v1/uploads/1/complete"));
});
