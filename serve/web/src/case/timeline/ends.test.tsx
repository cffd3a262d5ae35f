import { signal } from "@preact/signals";
import { fireEvent, render, screen } from "@testing-library/preact";
import { expect, test, vi } from "vitest";

import type { Span } from "../interfaces";
import { VideoPlayer } from "../video-player";
import { Ends } from "./ends";

const SPAN: Span = { id: "a", tag: "step", category: "Dissection", startS: 60, stopS: 120, confidence: 0.9, source: "ai" };

test("keys that come faster than the page is drawn each move the end", () => {
  const onDrag = vi.fn();
  render(<Ends span={SPAN} view={signal({ fromS: 0, toS: 120 })} width={signal(600)} player={new VideoPlayer(120, 25)} onDrag={onDrag} />);
  const end = screen.getByRole("slider", { name: "End of Dissection" });
  end.focus();
  fireEvent.keyDown(end, { key: "ArrowLeft" });
  fireEvent.keyDown(end, { key: "ArrowLeft" });
  expect(onDrag.mock.calls.map((call) => call[2])).toEqual([119, 118]);
  fireEvent.keyDown(end, { key: "ArrowLeft", shiftKey: true });
  expect(onDrag.mock.calls.at(-1)?.[2]).toBeCloseTo(117.96);
});
