import type { Lane } from "./interfaces";
import { token } from "./timeline/colours";

/** The colour of a category in its lane. Its name always stands beside it. */
export const Swatch = ({ lane, category }: { lane: Lane; category: string }) => (
  <span class="swatch" aria-hidden="true" style={{ background: `var(${token(lane, category)})` }} />
);
