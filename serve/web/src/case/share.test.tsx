import { fireEvent, render, screen, waitFor, within } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";

import { ID, JOB, VIDEO } from "../testing/case";
import { signedIn } from "../testing/people";
import { refused, serve } from "../testing/service";
import { Share } from "./share";

const RIGHTS = [...VIDEO.rights, "share"];
const LINKS = `v1/videos/${ID}/links`;
const MAPS = { [`GET v1/videos/${ID}/maps`]: [{ ...JOB, state: "done" }] };

function show(rights = RIGHTS, atS = 75) {
  render(<Share video={{ ...VIDEO, rights }} atS={atS} />);
  const details = screen.getByText("Share and save").closest("details")!;
  details.open = true;
  fireEvent(details, new Event("toggle"));
}

beforeEach(() => signedIn());

test("a link to this moment is copied, or shown where the browser has no clipboard", async () => {
  serve({ ...MAPS, [`GET ${LINKS}`]: [] });
  const writeText = vi.fn(async () => {});
  vi.stubGlobal("navigator", Object.assign(Object.create(navigator), { clipboard: { writeText } }));
  show();
  fireEvent.click(screen.getByRole("button", { name: "Copy the link" }));
  await screen.findByText("The link is copied.");
  expect(writeText).toHaveBeenCalledWith(`${location.origin}/#${ID}@75`);
  writeText.mockRejectedValueOnce(new Error("no clipboard"));
  fireEvent.click(screen.getByRole("button", { name: "Copy the link" }));
  expect(await screen.findByText(`${location.origin}/#${ID}@75`)).toBeTruthy();
  vi.unstubAllGlobals();
});

test("a read-only link is made for a part, shown once, and ended", async () => {
  const link = { link_id: "l1", created_by_name: "ada", created_s: 1_790_000_000, expires_s: 1_790_600_000, from_s: 60, to_s: 120, shows: ["video"] };
  let links: unknown[] = [];
  const asked = serve({
    ...MAPS,
    [`GET ${LINKS}`]: () => links,
    [`POST ${LINKS}`]: () => (links = [link], { ...link, url: "https://site/#shared=SECRET" }),
    [`DELETE ${LINKS}/l1`]: () => (links = [], null),
  });
  show();
  await userEvent.selectOptions(await screen.findByLabelText("It ends after"), "30");
  await userEvent.selectOptions(screen.getByLabelText("It shows"), "video");
  await userEvent.click(screen.getByLabelText("Only a part of the video"));
  const form = within(screen.getByRole("form", { name: "Read-only links" }));
  for (const [field, text] of [["From", "1:00"], ["to", "2:00"]] as const) {
    await userEvent.clear(form.getByLabelText(field));
    await userEvent.type(form.getByLabelText(field), text);
  }
  await userEvent.click(form.getByRole("button", { name: "Make a link" }));
  expect(await screen.findByText("https://site/#shared=SECRET")).toBeTruthy();
  expect(asked.find((one) => one.method === "POST")?.body).toEqual({ days: 30, shows: ["video"], from_s: 60, to_s: 120 });
  expect(await screen.findByText(/Shows the video from 1:00 to 2:00, until .*, made by ada/)).toBeTruthy();
  await userEvent.click(screen.getByRole("button", { name: /^End it/ }));
  await waitFor(() => expect(screen.queryByText(/made by ada/)).toBeNull());
});

test("proficiency is shown by a link to the map only where that is asked for, and never with the video alone", async () => {
  const link = { link_id: "l1", created_by_name: "ada", created_s: 1_790_000_000, expires_s: 1_790_600_000, from_s: null, to_s: null, shows: ["timeline", "proficiency"] };
  const asked = serve({ ...MAPS, [`GET ${LINKS}`]: [link], [`POST ${LINKS}`]: { ...link, url: "https://site/#shared=SECRET" } });
  show();
  expect(await screen.findByText(/Shows the map with proficiency, until/)).toBeTruthy();
  const make = () => userEvent.click(screen.getByRole("button", { name: "Make a link" }));
  const sent = () => asked.filter((one) => one.method === "POST").map((one) => (one.body as { shows: string[] }).shows);
  await make();
  await userEvent.selectOptions(screen.getByLabelText("It shows"), "timeline");
  await userEvent.click(screen.getByLabelText("Also show the proficiency of stitches"));
  await make();
  await userEvent.selectOptions(screen.getByLabelText("It shows"), "video");
  expect(screen.queryByLabelText("Also show the proficiency of stitches")).toBeNull();
  await make();
  await waitFor(() => expect(sent()).toEqual([["video", "timeline"], ["timeline", "proficiency"], ["video"]]));
});

test.each([
  ["soon", "2:00", "Write the times as"],
  ["2:00", "1:00", "Write the times as"],
  ["0:00", "2:01", "Choose a part of at most 2:00."],
])("a clip from %s to %s is refused in words, and not asked for", async (from, to, words) => {
  const asked = serve({ ...MAPS, [`GET ${LINKS}`]: [] });
  show();
  const form = within(await screen.findByRole("form", { name: "A clip" }));
  fireEvent.input(form.getByLabelText("From"), { target: { value: from } });
  fireEvent.input(form.getByLabelText("to"), { target: { value: to } });
  await userEvent.click(form.getByRole("button", { name: "Save the clip" }));
  expect((await screen.findByRole("alert")).textContent).toContain(words);
  expect(asked.filter((one) => one.path.includes("/clip"))).toEqual([]);
});

test("a clip is asked for with its labels, and what the service refuses is told", async () => {
  const path = `v1/videos/${ID}/clip?start_s=75&stop_s=85&labels=burnt`;
  const asked = serve({ ...MAPS, [`GET ${LINKS}`]: [], [`GET ${path}`]: refused(422, "the video is not one that can be cut") });
  show();
  await userEvent.click(await screen.findByLabelText("Burn what the model says into the picture"));
  await userEvent.click(screen.getByRole("button", { name: "Save the clip" }));
  expect((await screen.findByRole("alert")).textContent).toContain("The video is not one that can be cut.");
  expect(asked.at(-1)?.path).toBe(path);
});

test("the map is saved for people and for other systems once there is one", async () => {
  serve({ ...MAPS, [`GET ${LINKS}`]: [] });
  show();
  const list = await screen.findByRole("list", { name: "For other systems" });
  expect(within(list).getAllByRole("link").map((one) => one.getAttribute("href"))).toEqual(
    ["dicom", "fhir", "fhir-r4"].map((format) => `v1/videos/${ID}/timeline?format=${format}`),
  );
  expect(screen.getByRole("link", { name: "Captions (VTT)" }).getAttribute("download")).toBe(`${ID}.vtt`);
});

test("who may not share gets no links, and where nothing is mapped there is nothing to save", async () => {
  const asked = serve({ [`GET v1/videos/${ID}/maps`]: [{ ...JOB, state: "failed" }] });
  show(["see", "watch", "timeline"]);
  await waitFor(() => expect(asked.map((one) => one.path)).toContain(`v1/videos/${ID}/maps`));
  expect(screen.queryByText("Read-only links")).toBeNull();
  expect(screen.queryByText("Save the map")).toBeNull();
  expect(asked.map((one) => one.path)).not.toContain(LINKS);
});
