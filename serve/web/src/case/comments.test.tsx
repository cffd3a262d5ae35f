import { render, screen, waitFor, within } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";

import type { Video } from "../api/types";
import { silentPlayer } from "../testing/player";
import { type Answer, refused, serve } from "../testing/service";
import { Comments, useComments } from "./comments";

const ID = "3f".repeat(16);
const PATH = `v1/videos/${ID}/comments`;
const VIDEO = { video_id: ID, rights: ["comment"], relations: ["surgeon"] } as unknown as Video;
const comment = (comment_id: string, at_s: number, text: string, mine: boolean) => ({ comment_id, at_s, text, author_name: mine ? "Eve" : "Max", mine, created_s: 1_794_000_000 });

function Shown({ video, player }: { video: Video; player: ReturnType<typeof silentPlayer> }) {
  const comments = useComments(ID);
  return (
    <>
      <p data-testid="times">{comments.times.join()}</p>
      <Comments video={video} player={player} comments={comments} />
    </>
  );
}
async function opened(answers: Record<string, Answer> = {}, video = VIDEO) {
  const asked = serve({ [`GET ${PATH}`]: [comment("b", 75.5, "Watch the angle", false), comment("a", 12, "Good start", true)], ...answers });
  const [player, user] = [silentPlayer(), userEvent.setup()];
  render(<Shown video={video} player={player} />);
  await waitFor(() => expect(screen.queryByText("Loading…")).toBeNull());
  return { asked, player, user };
}
const items = () => screen.getAllByRole("listitem").map((one) => one.textContent);

beforeEach(() => {
  HTMLDialogElement.prototype.showModal = vi.fn();
  HTMLDialogElement.prototype.close = vi.fn();
});

test("comments stand in the order of their times, each leads to its moment, and the timeline gets their times", async () => {
  const { player, user } = await opened();
  expect(items()[0]).toContain("Good start");
  expect(items()[1]).toContain("Max");
  expect(screen.getByTestId("times").textContent).toBe("12,75.5");
  await user.click(screen.getByRole("button", { name: "Go to 1:15.5" }));
  expect(player.sought).toEqual([75.5]);
});

test("a comment belongs to the moment at which its writing began", async () => {
  const { asked, player, user } = await opened({ [`POST ${PATH}`]: { ...comment("c", 30, "The needle slips", true), looks_like: [] } });
  player.timeS.value = 30;
  const field = await screen.findByLabelText("Comment at 0:30.0");
  await user.type(field, "The needle");
  player.timeS.value = 42;
  await user.type(field, " slips ");
  await user.click(screen.getByRole("button", { name: "Add the comment" }));
  await waitFor(() => expect(items()).toHaveLength(3));
  expect(asked.at(-1)).toMatchObject({ method: "POST", body: { at_s: 30, text: "The needle slips" } });
  expect(items()[1]).toContain("The needle slips");
  expect(screen.getByTestId("times").textContent).toBe("12,30,75.5");
  expect((field as HTMLTextAreaElement).value).toBe("");
  expect(await screen.findByLabelText("Comment at 0:42.0")).toBeTruthy();
});

test("what looks as if it named a patient is said", async () => {
  const { user } = await opened({ [`POST ${PATH}`]: { ...comment("c", 0, "Mrs Miller", true), looks_like: ["person"] } });
  await user.type(screen.getByRole("textbox"), "Mrs Miller");
  await user.click(screen.getByRole("button", { name: "Add the comment" }));
  expect((await screen.findByRole("alert")).textContent).toContain("delete it if it names a patient: this looks like a person's name");
});

test("a comment that could not be added stays written", async () => {
  const { user } = await opened({ [`POST ${PATH}`]: refused(503, "") });
  await user.type(screen.getByRole("textbox"), "The angle");
  await user.click(screen.getByRole("button", { name: "Add the comment" }));
  expect((await screen.findByRole("alert")).textContent).toContain("The service has much to do");
  expect((screen.getByRole("textbox") as HTMLTextAreaElement).value).toBe("The angle");
});

test("one's own comment can be deleted; the owner of the case deletes any", async () => {
  const { user } = await opened({ [`DELETE ${PATH}/a`]: null });
  expect(within(screen.getAllByRole("listitem")[1]!).queryByRole("button", { name: /Delete/ })).toBeNull();
  const remove = () => user.click(screen.getByRole("button", { name: "Delete the comment of Eve at 0:12.0" }));
  await remove();
  await user.click(within(screen.getByLabelText("Delete")).getByText("Cancel"));
  expect(items()).toHaveLength(2);
  await remove();
  await user.click(within(screen.getByLabelText("Delete")).getByText("Delete", { selector: "button" }));
  await waitFor(() => expect(items()).toHaveLength(1));
});

test("the owner of the case may delete every comment", async () => {
  await opened({}, { ...VIDEO, relations: ["owner"] } as Video);
  expect(screen.getAllByRole("button", { name: /^Delete/ })).toHaveLength(2);
});

test("nothing can be written before the comments are there", async () => {
  await opened({ [`GET ${PATH}`]: refused(403, "") });
  expect(screen.getByRole("alert").textContent).toContain("You may not do this");
  expect(screen.queryByRole("textbox")).toBeNull();
});

test("a text is shown as it was written, and never as markup", async () => {
  await opened({ [`GET ${PATH}`]: [comment("x", 1, "<img src=x onerror=alert(1)>", false)] });
  expect(screen.getByText("<img src=x onerror=alert(1)>")).toBeTruthy();
  expect(document.querySelector("img")).toBeNull();
});
