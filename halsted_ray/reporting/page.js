// Timelines are drawn when their video is opened, so that the page of a large archive opens at once.
const svgNode = (name, values, parent, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
};
const clock = (seconds) => {
  const whole = Math.round(seconds), two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
};
const NAMES_PX = 92, RIGHT_PX = 20, LANE_PX = 24, TRUTH_PX = 12, LETTER_PX = 6.2, TICK_PX = 80;
const TICKS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

function drawTimeline(place, zoom) {
  const { duration_s, lanes, gaps } = JSON.parse(place.querySelector("script").textContent);
  const drawing = place.querySelector(".timeline");
  const width = Math.max(drawing.clientWidth, 300) * zoom, scale = (width - NAMES_PX - RIGHT_PX) / Math.max(duration_s, 0.001);
  const x = (at_s) => NAMES_PX + at_s * scale;
  const heights = lanes.map((lane) => (lane.truth ? TRUTH_PX : LANE_PX));
  const height = heights.reduce((sum, own) => sum + own + 4, 0) + 24;
  drawing.replaceChildren();
  const svg = svgNode("svg", { width, height, role: "img", "aria-label": "timeline, one lane per tag" }, drawing);
  const pattern = svgNode("pattern", { id: `hatch-${place.id}`, width: 6, height: 6, patternUnits: "userSpaceOnUse",
    patternTransform: "rotate(45)" }, svgNode("defs", {}, svg));
  svgNode("rect", { width: 2, height: 6, style: "fill:var(--unknown)" }, pattern);
  const tick_s = TICKS_S.find((step_s) => step_s * scale >= TICK_PX) ?? TICKS_S.at(-1);
  for (let at_s = 0; at_s <= duration_s; at_s += tick_s) {
    svgNode("line", { x1: x(at_s), x2: x(at_s), y1: 0, y2: height - 20, class: "grid" }, svg);
    svgNode("text", { x: x(at_s), y: height - 6, class: "tick", "text-anchor": "middle" }, svg, clock(at_s));
  }
  let top = 2;
  lanes.forEach((lane, index) => {
    svgNode("text", { x: 0, y: top + heights[index] / 2 + 4, class: lane.truth ? "tick" : "" }, svg,
      lane.truth ? "truth" : lane.tag);
    for (const [start_s, stop_s, category, confidence] of lane.spans) {
      const name = lane.categories[category], span_px = Math.max((stop_s - start_s) * scale, 0.5);
      // A truth has no confidence; its lane is thinner instead.
      const shade = confidence === null ? 0.5 : 0.1 + 0.6 * confidence;
      const bar = svgNode("rect", { x: x(start_s), y: top, width: span_px, height: heights[index], "fill-opacity": shade,
        style: `fill:${lane.colours[category]}` }, svg);
      svgNode("title", {}, bar, `${lane.tag}${lane.truth ? " (truth)" : ""}: ${name}, ${clock(start_s)} to ${clock(stop_s)}` +
        (confidence === null ? "" : `, confidence ${confidence.toFixed(2)}`));
      if (!lane.truth && name.length * LETTER_PX < span_px - 6)
        svgNode("text", { x: x(start_s) + span_px / 2, y: top + heights[index] / 2 + 4, class: "name",
          "text-anchor": "middle" }, svg, name);
    }
    top += heights[index] + 4;
  });
  for (const [start_s, stop_s, reason, unknown] of gaps) {
    const fill = unknown ? `url(#hatch-${place.id})` : "var(--not-mapped)";
    const band = svgNode("rect", { x: x(start_s), y: 0, width: (stop_s - start_s) * scale, height: height - 20,
      "fill-opacity": unknown ? 0.7 : 0.3, style: `fill:${fill}` }, svg);
    svgNode("title", {}, band, `${reason}, ${clock(start_s)} to ${clock(stop_s)}`);
  }
}

const zoomOf = (place) => Number(place.querySelector(".zoom select").value);
for (const place of document.querySelectorAll("details.video")) {
  place.addEventListener("toggle", () => { if (place.open) drawTimeline(place, zoomOf(place)); });
  place.querySelector(".zoom select").addEventListener("change", () => drawTimeline(place, zoomOf(place)));
  if (place.open) drawTimeline(place, 1);
}
const order = document.querySelector("#order");
order?.addEventListener("change", () => {
  const list = document.querySelector("#videos"), direction = order.value === "confidence" ? 1 : -1;
  // A video without a value comes last.
  const value = (node) => (node.dataset[order.value] === "" ? direction * 1e12 : Number(node.dataset[order.value]));
  list.append(...[...list.children].sort((one, other) =>
    direction * (value(one) - value(other)) || one.id.localeCompare(other.id)));
});

// A list of many videos stays folded on paper. A4 has about 680 CSS pixels between its margins.
const PRINT_PX = 680;
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details.fold:not(.long)").forEach((fold) => { fold.open = true; });
  document.querySelectorAll(".video[open]").forEach((place) => {
    place.querySelector(".timeline").style.width = `${PRINT_PX}px`;
    drawTimeline(place, 1);
  });
});
window.addEventListener("afterprint", () => document.querySelectorAll(".video[open]").forEach((place) => {
  place.querySelector(".timeline").style.width = "";
  drawTimeline(place, zoomOf(place));
}));
