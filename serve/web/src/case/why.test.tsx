import { act, render, screen, waitFor, within } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test } from "vitest";

import { session } from "../session";
import { silentPlayer } from "../testing/player";
import { type Asked, refused, serve } from "../testing/service";
import { speak } from "../words";
import { qualityShown } from "./quality";
import { type Evidence, type Explanation, SETTLED_MS, type Statement, Why } from "./why";

const WHERE = "v1/videos/3f2a";
const path = (s: number) => `${WHERE}/explanation?at_s=${s}`;
const row = (n: number, tag: string, category: string, start_s: number, stop_s: number): Evidence => ({ row: n, tag, category, start_s, stop_s, confidence: 0.9, source: "ai" });
const DRIVING = row(5, "phase", "Driving", 5, 15);
const BLADDER = row(4, "anatomy", "Bladder", 5, 15);
const SUTURING = row(3, "step", "Suturing", 0, 40);
const LATER = row(6, "phase", "Withdrawal", 115, 120);
const one = (level: Statement["level"], about: string, said: string | null, rests_on: Evidence[], more: Partial<Statement> = {}): Statement => ({
  level, about, said, rests_on, confidence: said === null ? null : 0.88, why: "", needs: null, missing: [], ...more,
});
const found = (at_s: number, statements?: Statement[]): Explanation => ({
  at_s,
  statements: statements ?? [
    one("perception", "anatomy", "Bladder", [BLADDER]),
    one("perception", "arm", null, [SUTURING], { why: "not asked", needs: ["step", "Dissection"] }),
    one("perception", "instrument", null, [SUTURING], { why: "not asked", needs: ["step", "Dissection"] }),
    one("relation", "acts", "Driving, anatomy Bladder", [DRIVING, BLADDER], { missing: ["extent"] }),
    one("context", "step", "Suturing", [SUTURING]),
    one("context", "proficiency", "High", [row(2, "proficiency", "High", 5, 15)]),
    one("context", "phase before", null, [], { why: "none there" }),
    one("context", "phase next", "Withdrawal, begins in 105.0 s", [LATER]),
  ],
});
const asWords = (asked: Asked) => found(Number(asked.path.split("=")[1]));
const everywhere = (seconds: number[]) => Object.fromEntries(seconds.map((s) => [`GET ${path(s)}`, asWords]));
const settled = () => act(() => new Promise((done) => setTimeout(done, SETTLED_MS + 50)));
const open = () => userEvent.click(screen.getByRole("button", { name: "Why this?" }));

beforeEach(() => {
  qualityShown.value = false;
});
afterEach(() => {
  speak("en");
  session.value = null;
});

test("it asks when it is opened and when the video stands still, and never with the frames", async () => {
  const asked = serve(everywhere([10, 30, 42]));
  const player = silentPlayer();
  player.timeS.value = 10;
  render(<Why where={WHERE} player={player} />);
  await settled();
  expect(asked).toHaveLength(0);
  await open();
  expect(await screen.findByText("At 0:10.0.")).toBeTruthy();
  act(() => player.toggle());
  for (let s = 11; s < 31; s++) act(() => void (player.timeS.value = s));
  await settled();
  expect(asked.map((each) => each.path)).toEqual([path(10)]);
  act(() => player.toggle());
  for (let s = 31; s < 43; s++) act(() => void (player.timeS.value = s));
  expect(await screen.findByText("At 0:42.0.")).toBeTruthy();
  expect(asked.map((each) => each.path)).toEqual([path(10), path(42)]);
  await open();
  act(() => void (player.timeS.value = 30));
  await settled();
  expect(asked).toHaveLength(2);
});

test("while the video plays it says the moment of the press", async () => {
  const asked = serve(everywhere([0, 30]));
  const player = silentPlayer();
  render(<Why where={WHERE} player={player} />);
  await open();
  await screen.findByText("At 0:00.0.");
  act(() => player.toggle());
  act(() => void (player.timeS.value = 30));
  await userEvent.click(await screen.findByRole("button", { name: "Say it for this moment" }));
  expect(await screen.findByText("At 0:30.0.")).toBeTruthy();
  expect(asked).toHaveLength(2);
});

test("an answer that comes late is dropped, and what was shown keeps its own time until then", async () => {
  const late: ((answer: Explanation) => void)[] = [];
  const slow = () => new Promise<Explanation>((answer) => late.push(answer));
  serve({ [`GET ${path(1)}`]: asWords, [`GET ${path(2)}`]: slow, [`GET ${path(3)}`]: slow });
  const player = silentPlayer();
  player.timeS.value = 1;
  render(<Why where={WHERE} player={player} />);
  await open();
  await screen.findByText("At 0:01.0.");
  for (const [n, s] of [2, 3].entries()) {
    act(() => void (player.timeS.value = s));
    await waitFor(() => expect(late).toHaveLength(n + 1));
  }
  expect(screen.getByText("At 0:01.0.")).toBeTruthy();
  late[1]!(found(3));
  expect(await screen.findByText("At 0:03.0.")).toBeTruthy();
  late[0]!(found(2));
  await settled();
  expect(screen.getByText("At 0:03.0.")).toBeTruthy();
});

test("what is unknown over one stretch is told once, whichever rows say so", async () => {
  const unknown = (about: string, n: number, stop_s: number) => one("perception", about, null, [row(n, "unknown", "unknown", 0, stop_s)], { why: "not learned" });
  serve({ [`GET ${path(0)}`]: found(0, [unknown("arm", 1, 60), unknown("anatomy", 2, 60), unknown("step", 3, 90)]) });
  render(<Why where={WHERE} player={silentPlayer()} />);
  await open();
  const items = await screen.findAllByRole("listitem");
  expect(items.map((each) => each.textContent)).toEqual([
    "Arm, Target: unlike what the model has learned0:00.0–1:00.0", "Step: unlike what the model has learned0:00.0–1:30.0",
  ]);
});

test("each row of a statement is a button that goes to it, also by the keyboard", async () => {
  serve({ [`GET ${path(10)}`]: asWords, [`GET ${path(5)}`]: asWords, [`GET ${path(115)}`]: asWords });
  const player = silentPlayer();
  player.timeS.value = 10;
  render(<Why where={WHERE} player={player} />);
  await open();
  const doing = (await screen.findByText("Driving, Target Bladder")).closest("div")!;
  expect(doing.textContent).toContain("88% sure; not known: Extent");
  expect(within(doing).getAllByRole("button").map((each) => each.textContent)).toEqual(["Driving 0:05.0–0:15.0", "Bladder 0:05.0–0:15.0"]);
  await userEvent.click(within(doing).getByRole("button", { name: "Go to Driving 0:05.0–0:15.0" }));
  await screen.findByText("At 0:05.0.");
  screen.getByRole("button", { name: "Go to Withdrawal 1:55.0–2:00.0" }).focus();
  await userEvent.keyboard("{Enter}");
  expect(player.sought).toEqual([5, 115]);
  // Who speaks to the browser says what stands on the button.
  for (const each of doing.querySelectorAll("button[aria-label]")) expect(each.getAttribute("aria-label")).toContain(each.textContent);
});

test("what is not known is said once for each reason, with the row that says so", async () => {
  serve(everywhere([10]));
  const player = silentPlayer();
  player.timeS.value = 10;
  render(<Why where={WHERE} player={player} />);
  await open();
  const unknown = (await screen.findByRole("heading", { name: "Not known" })).nextElementSibling!;
  expect([...unknown.children].map((each) => each.textContent)).toEqual([
    "Arm, Instrument: asked only where Step is Dissection; here it is Suturing0:00.0–0:40.0",
    "Phase of a stitch before: the map has no such row",
  ]);
});

test("a moment of which the map says nothing is said in one sentence", async () => {
  const gap = row(1, "gap", "corrupt", 0, 60);
  serve({ [`GET ${path(0)}`]: found(0, [one("perception", "arm", null, [gap], { why: "not mapped" }), one("relation", "acts", null, [], { why: "nothing done" })]) });
  render(<Why where={WHERE} player={silentPlayer()} />);
  await open();
  expect(await screen.findByText("The map says nothing of this moment.")).toBeTruthy();
  expect(screen.getByText(/^Arm: Not mapped: corrupt/)).toBeTruthy();
  expect(screen.getByText(/the map names neither an action nor a phase here/)).toBeTruthy();
});

test("proficiency stays hidden until it is asked for", async () => {
  serve(everywhere([0]));
  render(<Why where={WHERE} player={silentPlayer()} />);
  await open();
  await screen.findByText("Driving, Target Bladder");
  expect(screen.queryByText("High")).toBeNull();
  act(() => void (qualityShown.value = true));
  expect(await screen.findByText("High")).toBeTruthy();
});

test("a refusal is said in words, and can be asked again", async () => {
  let tries = 0;
  serve({ [`GET ${path(0)}`]: (asked: Asked) => (tries++ ? asWords(asked) : refused(503, "x")) });
  render(<Why where={WHERE} player={silentPlayer()} />);
  await open();
  expect((await screen.findByRole("alert")).textContent).toContain("has much to do");
  await userEvent.click(screen.getByRole("button", { name: "Try again" }));
  expect(await screen.findByText("At 0:00.0.")).toBeTruthy();
});

test("the end of the video, and of the part of a link, is asked as the moment before it", async () => {
  const asked = serve({});
  const player = silentPlayer(600);
  player.timeS.value = 600;
  const { unmount } = render(<Why where={WHERE} player={player} />);
  await open();
  await screen.findByRole("alert");
  unmount();
  session.value = { link: { video_id: "3f2a", from_s: 20, to_s: 40, shows: ["timeline"], expires_s: 0 } } as typeof session.value;
  player.timeS.value = 0;
  render(<Why where={WHERE} player={player} />);
  await open();
  await screen.findByRole("alert");
  act(() => void (player.timeS.value = 40));
  await waitFor(() => expect(asked.map((each) => each.path)).toEqual([path(599.999), path(20), path(39.999)]));
});

test("in German the statements are German too", async () => {
  speak("de");
  serve(everywhere([0]));
  render(<Why where={WHERE} player={silentPlayer()} />);
  await userEvent.click(screen.getByRole("button", { name: "Warum steht das da?" }));
  expect(await screen.findByText("Driving, Ziel Bladder")).toBeTruthy();
  expect(screen.getByText("Withdrawal, beginnt in 1:55")).toBeTruthy();
  expect(screen.getByText(/^Arm, Instrument: wird nur gefragt, wo Schritt Dissection ist; hier ist es Suturing/)).toBeTruthy();
});
