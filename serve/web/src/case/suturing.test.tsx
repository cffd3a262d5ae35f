import { render, screen, waitFor, within } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";

import { ApiError } from "../api/client";
import { silentPlayer } from "../testing/player";
import { refused, serve } from "../testing/service";
import { qualityShown } from "./quality";
import type { Stitch, Stitches } from "./stitches";
import { Suturing, ordered } from "./suturing";

const ID = "3f".repeat(16);
const PATH = `GET v1/videos/${ID}/stitches`;
const stitch = (index: number, more: Partial<Stitch> = {}): Stitch => ({
  index, start_s: 10 * index, stop_s: 10 * index + 8, target: "Uterus", direction: "In", extent: "Single", handling_s: 3, driving_s: 4,
  withdrawal_s: 1, proficiency: "High", proficiency_probability: 0.81, confidence: 0.9, ...more,
});
const MAP: Stitches = {
  model_version: "halsted 7",
  complete: true,
  stitches: [stitch(1, { driving_s: 6 }), stitch(2, { target: null, driving_s: 2, handling_s: 0 }), stitch(3, { target: "Bladder" })],
  totals: { count: 3, handling_s: 3, handling_low_s: null, handling_high_s: null, driving_s: 4, driving_low_s: 2, driving_high_s: 6, withdrawal_s: null, high_share: 1, high_low: 0.44, high_high: 1, proficiency_n: 3 },
};
const rows = () => within(screen.getByRole("table")).getAllByRole("row").slice(1);
const firsts = () => rows().map((row) => within(row).getByRole("button").textContent);

beforeEach(() => {
  qualityShown.value = false;
});

test("each stitch is a row that plays it, by a click or by Enter", async () => {
  serve({ [PATH]: MAP });
  const player = silentPlayer();
  render(<Suturing where={`v1/videos/${ID}`} player={player} />);
  await userEvent.click(await screen.findByRole("button", { name: "Play stitch 2" }));
  screen.getByRole("button", { name: "Play stitch 3" }).focus();
  await userEvent.keyboard("{Enter}");
  expect(player.played).toEqual([[20, 28], [30, 38]]);
  expect(rows()[0]!.textContent).toContain("0:10.0");
});

test("the stitch of this moment is marked while the video plays, by more than a colour", async () => {
  serve({ [PATH]: MAP });
  const player = silentPlayer();
  render(<Suturing where={`v1/videos/${ID}`} player={player} />);
  await screen.findByRole("table");
  expect(rows().filter((row) => row.getAttribute("aria-current"))).toHaveLength(0);
  player.timeS.value = 25;
  await waitFor(() => expect(rows()[1]!.getAttribute("aria-current")).toBe("true"));
  expect(within(rows()[1]!).getByText("now")).toBeTruthy();
  player.timeS.value = 29;
  await waitFor(() => expect(rows()[1]!.getAttribute("aria-current")).toBeNull());
});

test("proficiency is hidden until it is asked for, and then has its probability", async () => {
  serve({ [PATH]: MAP });
  render(<Suturing where={`v1/videos/${ID}`} player={silentPlayer()} />);
  await screen.findByRole("table");
  expect(document.body.textContent).not.toMatch(/High|proficiency /);
  await userEvent.click(screen.getByLabelText("Show proficiency"));
  expect(rows()[0]!.textContent).toContain("High, 81% sure");
  expect(screen.getByText("of high proficiency of 3 stitches that were judged")).toBeTruthy();
  expect(screen.getByText("95% interval 44% to 100%")).toBeTruthy();
});

test("totals have their intervals, and say where there are too few", async () => {
  serve({ [PATH]: MAP });
  render(<Suturing where={`v1/videos/${ID}`} player={silentPlayer()} />);
  await screen.findByRole("table");
  expect(screen.getByText("Driving, median").parentElement!.textContent).toBe("4 sDriving, median95% interval 2 s to 6 s");
  expect(screen.getByText("Needle handling, median").parentElement!.textContent).toContain("too few for an interval");
  expect(screen.getByText("Withdrawal, median").parentElement!.textContent).toBe("–Withdrawal, median");
});

test("a heading sorts by its column, then the other way round, and says so", async () => {
  serve({ [PATH]: MAP });
  render(<Suturing where={`v1/videos/${ID}`} player={silentPlayer()} />);
  const heading = await screen.findByRole("columnheader", { name: /Driving/ });
  await userEvent.click(within(heading).getByRole("button"));
  expect(firsts()).toEqual(["▶ 2", "▶ 3", "▶ 1"]);
  expect(heading.getAttribute("aria-sort")).toBe("ascending");
  await userEvent.click(within(heading).getByRole("button"));
  expect(firsts()).toEqual(["▶ 1", "▶ 3", "▶ 2"]);
  expect(heading.getAttribute("aria-sort")).toBe("descending");
});

test("a stitch without a value comes last either way", () => {
  for (const descending of [false, true]) expect(ordered(MAP.stitches, { by: "target", descending }).at(-1)!.index).toBe(2);
});

test("no suturing is said", async () => {
  serve({ [PATH]: { ...MAP, stitches: [] } });
  render(<Suturing where={`v1/videos/${ID}`} player={silentPlayer()} />);
  expect(await screen.findByText("No suturing was found in this case.")).toBeTruthy();
});

test("suturing that was not asked for is said, and can be mapped by whom the case lets", async () => {
  serve({ [PATH]: { ...MAP, asked: false, stitches: [] } });
  const onMap = vi.fn();
  const { rerender } = render(<Suturing where={`v1/videos/${ID}`} player={silentPlayer()} />);
  expect(await screen.findByText("Suturing was not asked for when this case was mapped.")).toBeTruthy();
  expect(screen.queryByText("No suturing was found in this case.")).toBeNull();
  expect(screen.queryByRole("button")).toBeNull();
  rerender(<Suturing where={`v1/videos/${ID}`} player={silentPlayer()} onMap={onMap} />);
  await userEvent.click(screen.getByRole("button", { name: "Map the suturing" }));
  expect(onMap).toHaveBeenCalledOnce();
  onMap.mockRejectedValueOnce(new ApiError(409, "a map is being made already"));
  await userEvent.click(screen.getByRole("button", { name: "Map the suturing" }));
  expect((await screen.findByRole("alert")).textContent).toContain("A map is being made already.");
});

test.each([[404, /not mapped yet/], [409, /not mapped yet/], [503, /has much to do/]])("an answer %i is said in words", async (status, says) => {
  serve({ [PATH]: refused(status, "x") });
  render(<Suturing where={`v1/videos/${ID}`} player={silentPlayer()} />);
  expect(await screen.findByText(says)).toBeTruthy();
});

test("a map with gaps says that stitches there are not counted, and the table can be taken as CSV", async () => {
  serve({ [PATH]: { ...MAP, complete: false } });
  render(<Suturing where={`v1/videos/${ID}`} player={silentPlayer()} />);
  expect(await screen.findByText("The map has gaps. Stitches there are not counted.")).toBeTruthy();
  expect(screen.getByRole("link", { name: "As a table (CSV)" }).getAttribute("href")).toBe(`v1/videos/${ID}/stitches?format=csv`);
});
