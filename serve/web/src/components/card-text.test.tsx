import { render, screen } from "@testing-library/preact";
import { expect, test } from "vitest";

import { CardText } from "./card-text";

const CARD = `# The model

It is what \`make demo\`
trains, and **no** product.

| tag | exact |
|---|--:|
| step | 99.8% |

- one
  goes on
- two`;

test("a card is read as headings, paragraphs, tables and lists, without the signs of its markup", () => {
  const { container } = render(<CardText text={CARD} />);
  expect(screen.getByRole("heading", { name: "The model" })).toBeTruthy();
  expect(screen.getAllByRole("row").map((row) => row.textContent)).toEqual(["tagexact", "step99.8%"]);
  expect(screen.getAllByRole("listitem").map((item) => item.textContent)).toEqual(["one goes on", "two"]);
  expect(container.querySelector("p")?.textContent).toBe("It is what make demo trains, and no product.");
  expect(container.textContent).not.toMatch(/[#|`*]/);
});

test("markup in a card is text", () => {
  const { container } = render(<CardText text={"<img src=x onerror=alert(1)> [a](javascript:alert(1))"} />);
  expect(container.querySelector("img, a")).toBeNull();
  expect(container.textContent).toBe("<img src=x onerror=alert(1)> [a](javascript:alert(1))");
});
