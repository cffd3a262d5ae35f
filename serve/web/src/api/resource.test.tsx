import { render, screen, waitFor } from "@testing-library/preact";
import { expect, test } from "vitest";

import { refused, serve } from "../testing/service";
import { useResource } from "./resource";

function Shown({ path }: { path: string | null }) {
  const found = useResource<{ name: string }>(path);
  return (
    <>
      <p data-testid="shown">{found.data?.name ?? (found.error ? `error ${found.error.status}` : found.loading ? "loading" : "nothing")}</p>
      <button onClick={() => void found.reload()}>reload</button>
    </>
  );
}
const shown = () => screen.getByTestId("shown").textContent;

test("an answer that comes late is never shown under another address", async () => {
  let answerA: (value: unknown) => void = () => {};
  serve({ "GET a": () => new Promise((done) => (answerA = done)), "GET b": { name: "B" } });
  const { rerender } = render(<Shown path="a" />);
  expect(shown()).toBe("loading");
  rerender(<Shown path="b" />);
  expect(shown()).toBe("loading");
  await waitFor(() => expect(shown()).toBe("B"));
  answerA({ name: "A" });
  await new Promise((done) => setTimeout(done, 5));
  expect(shown()).toBe("B");
});

test("another address clears what is shown at once", async () => {
  serve({ "GET a": { name: "A" }, "GET b": () => new Promise(() => {}) });
  const { rerender } = render(<Shown path="a" />);
  await waitFor(() => expect(shown()).toBe("A"));
  rerender(<Shown path="b" />);
  expect(shown()).toBe("loading");
  rerender(<Shown path={null} />);
  expect(shown()).toBe("nothing");
});

test.each([
  [503, "A"],
  [404, "error 404"],
  [403, "error 403"],
])("what is shown stays while the service is away, and goes where it is closed (%i)", async (status, then) => {
  let answers: unknown = { name: "A" };
  serve({ "GET a": () => answers });
  render(<Shown path="a" />);
  await waitFor(() => expect(shown()).toBe("A"));
  answers = refused(status, "");
  screen.getByText("reload").click();
  await new Promise((done) => setTimeout(done, 5));
  await waitFor(() => expect(shown()).toBe(then));
});
