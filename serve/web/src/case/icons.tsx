/** Signs on buttons. The button has the name. */
const SHAPES = {
  play: "M7 4v16l13-8z",
  pause: "M6 4h4v16H6zM14 4h4v16h-4z",
  frameBack: "M15 5v14l-9-7zM17 5h2v14h-2z",
  frameOn: "M9 5v14l9-7zM5 5h2v14H5z",
  stepBack: "M12 5v14l-8-7zM20 5v14l-8-7zM2 5h2v14H2z",
  stepOn: "M12 5v14l8-7zM4 5v14l8-7zM20 5h2v14h-2z",
  loop: "M6 7h9v-4l6 5-6 5V9H8v4H6zM18 17H9v4l-6-5 6-5v4h7v-4h2z",
  labels: "M3 5h18v14H3zm2 2v10h14V7zm1.500 6h6v2h-6zm7.500 0h3v2h-3z",
  full: "M4 4h6v2H6v4H4zM14 4h6v6h-2V6h-4zM4 14h2v4h4v2H4zM18 14h2v6h-6v-2h4z",
  keys: "M2 6h20v12H2zm2 2v8h16V8zm1 1h2v2H5zm4 0h2v2H9zm4 0h2v2h-2zm4 0h2v2h-2zM7 13h10v2H7z",
} as const;

export const Icon = ({ of }: { of: keyof typeof SHAPES }) => (
  <svg class="icon" viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" focusable="false">
    <path fill="currentColor" fill-rule="evenodd" d={SHAPES[of]} />
  </svg>
);
