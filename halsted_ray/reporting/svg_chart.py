"""Draws the charts of a report as SVG, from the same descriptions that Plotly takes, without Plotly's 4.8 MB.

Only what the charts of this package use is drawn: lines, bands, marks and bars (side by side or stacked) with error
bars, on axes of numbers or of categories. Whatever else a description holds is an error here, and no chart that is
silently less. What a mark stands for is its SVG title, which browsers show under the pointer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from halsted_ray.reporting.lanes import TOKENS
from halsted_ray.reporting.map_plots import PlotlyFigure

WIDTH_PX, PAIR_PX, TRIO_PX = 900.0, 460.0, 320.0
"""About how wide a card is: alone, beside another one, as one of three."""
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 46.0, 14.0, 10.0, 42.0
MOST_TICKS = 6
LETTER_PX = 6.2
"""About the width of a letter, to leave room for the names of categories."""
THEMED = TOKENS | {"#1d2733": "var(--ink)", "#c9ced4": "var(--edge)", "#fff": "var(--card)"}
"""Colour of a description → its name in tokens.css, so that a dark page stays readable."""
SYMBOLS = {
    "circle": "M{r},0A{r},{r} 0 1 1 -{r},0A{r},{r} 0 1 1 {r},0Z",
    "square": "M-{r},-{r}H{r}V{r}H-{r}Z",
    "diamond": "M0,-{r}L{r},0L0,{r}L-{r},0Z",
    "triangle-up": "M0,-{r}L{r},{r}H-{r}Z",
    "line-ns": "M0,-{r}V{r}",
}


@dataclass
class _Axis:
    """One axis: values or names → pixels in [``from_px``, ``to_px``]."""

    spec: dict[str, Any]
    names: list[str]
    low: float
    high: float
    from_px: float = 0.0
    to_px: float = 1.0

    def at(self, value: Any) -> float:
        """The pixel of a value, or of the middle of a category."""
        place = self.names.index(value) + 0.5 if self.names else float(value)
        return self.from_px + (place - self.low) / (self.high - self.low) * (self.to_px - self.from_px)

    def ticks(self) -> list[tuple[float, str]]:
        """(pixel, text) of each tick."""
        if not self.spec.get("showticklabels", True):
            return []
        if self.names:
            return [(self.at(name), name) for name in self.names]
        if "tickvals" in self.spec:
            return [
                (self.at(value), str(text))
                for value, text in zip(self.spec["tickvals"], self.spec["ticktext"], strict=True)
            ]
        low, high = sorted((self.low, self.high))
        rough = (high - low) / MOST_TICKS
        scale = 10.0 ** math.floor(math.log10(rough))
        step = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= rough * 0.999)
        first = math.ceil(low / step - 1e-9)
        values = [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]
        return [(self.at(value), self.text(value)) for value in values]

    def text(self, value: Any) -> str:
        """A value as a reader sees it."""
        if isinstance(value, str):
            return value
        if self.spec.get("tickformat") == ".0%":
            return f"{100 * value:.4g}%"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def chart_svg(title: str, plot: PlotlyFigure, width_px: float = WIDTH_PX) -> str:
    """Returns the HTML of one chart: its legend, where it has one, and the SVG. ``title``: what it is called for those
    who do not see it. ``width_px``: at this width letters have their size; the page stretches it."""
    layout, traces = plot["layout"], plot["data"]
    height = float(layout["height"])
    x, y = _axis("x", plot), _axis("y", plot)
    beside = 30 if y.spec.get("title", {}).get("text") else 18
    left = max([LEFT_PX, *(beside + LETTER_PX * len(text) for _, text in y.ticks())])
    bare = not x.spec.get("showticklabels", True)
    x.from_px, x.to_px = (4.0 if bare else left), width_px - RIGHT_PX
    y.from_px, y.to_px = height - (4.0 if bare else BOTTOM_PX), TOP_PX
    drawn = "".join(_bars(traces, x, y, layout) if any(one["type"] == "bar" for one in traces) else ())
    drawn += "".join(_scatter(trace, x, y) for trace in traces if trace["type"] == "scatter")
    return (
        f"{_legend(layout, traces)}"
        f'<svg class="chart" viewBox="0 0 {width_px:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{_grid(x, y, height)}{drawn}</svg>"
    )


def _axis(side: str, plot: PlotlyFigure) -> _Axis:
    spec = plot["layout"].get(f"{side}axis", {})
    values = [value for trace in plot["data"] for value in trace[side] if value is not None]
    if spec.get("type") == "category":
        names = list(dict.fromkeys(values))
        is_reversed = (spec.get("autorange") == "reversed") == (side == "x")
        low, high = 0.0, float(max(1, len(names)))
        return _Axis(spec, names, *((high, low) if is_reversed else (low, high)))
    if "range" in spec:
        return _Axis(spec, [], *map(float, spec["range"]))
    if side == "y" and plot["layout"].get("barmode") == "stack":
        sums: dict[str, float] = {}
        for trace in plot["data"]:
            for name, value in zip(trace["x"], trace["y"], strict=True):
                sums[name] = sums.get(name, 0.0) + (value or 0.0)
        values = list(sums.values())
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = min(0.0, low) if spec.get("rangemode") == "tozero" else low
    room = 0.04 * ((high - low) or 1.0)
    return _Axis(spec, [], low if spec.get("rangemode") == "tozero" else low - room, high + room)


def _grid(x: _Axis, y: _Axis, height: float) -> str:
    found = []
    if x.spec.get("showgrid", True) and not x.names:
        found += [f'<path class="grid" d="M{at:.1f},{y.from_px:.1f}V{y.to_px:.1f}"/>' for at, _ in x.ticks()]
    if y.spec.get("showgrid", True) and not y.names:
        found += [f'<path class="grid" d="M{x.from_px:.1f},{at:.1f}H{x.to_px:.1f}"/>' for at, _ in y.ticks()]
    found += [
        f'<text x="{at:.1f}" y="{y.from_px + 16:.1f}" text-anchor="middle">{escape(text)}</text>'
        for at, text in x.ticks()
    ]
    found += [
        f'<text x="{x.from_px - 6:.1f}" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>'
        for at, text in y.ticks()
    ]
    titles = [axis.spec.get("title", {}).get("text", "") for axis in (x, y)]
    if titles[0]:
        found.append(
            f'<text x="{(x.from_px + x.to_px) / 2:.1f}" y="{height - 6:g}" text-anchor="middle">'
            f"{escape(titles[0])}</text>"
        )
    if titles[1]:
        middle = (y.from_px + y.to_px) / 2
        found.append(
            f'<text transform="translate(11,{middle:.1f}) rotate(-90)" text-anchor="middle">{escape(titles[1])}</text>'
        )
    return "".join(found)


def _scatter(trace: dict[str, Any], x: _Axis, y: _Axis) -> str:
    points = [
        None if one is None or other is None else (x.at(one), y.at(other))
        for one, other in zip(trace["x"], trace["y"], strict=True)
    ]
    if trace.get("fill") == "toself":
        area = " ".join(f"{one[0]:.1f},{one[1]:.1f}" for one in points if one)
        return f'<polygon points="{area}" style="fill:{_colour(trace["fillcolor"])};opacity:{trace["opacity"]}"/>'
    found = ""
    if "lines" in trace["mode"]:
        line = trace["line"]
        dash = ";stroke-dasharray:2 3" if line.get("dash") == "dot" else ""
        path = " ".join(f"{one[0]:.1f},{one[1]:.1f}" for one in points if one)
        found = (
            f'<polyline points="{path}" style="fill:none;stroke:{_colour(line["color"])};'
            f'stroke-width:{line["width"]}{dash}"><title>{escape(trace.get("name", ""))}</title></polyline>'
        )
    if "markers" in trace["mode"]:
        found += _marks(trace, points, x, y)
    return found


def _marks(trace: dict[str, Any], points: Sequence[tuple[float, float] | None], x: _Axis, y: _Axis) -> str:
    line = trace.get("line", {})
    marker = {"color": line.get("color", "#33658a"), "size": 6, **trace.get("marker", {})}
    symbol, _, style = str(marker.get("symbol", "circle")).partition("-open")
    is_open = style != "" or "-open" in str(marker.get("symbol", ""))
    colour = _colour(marker["color"])
    fill = "none" if is_open or symbol == "line-ns" else colour
    whole = f'<g style="fill:{fill};stroke:{colour};stroke-width:{2 if is_open or symbol == "line-ns" else 0.5};'
    whole += f'opacity:{marker.get("opacity", 1)}">'
    for index, point in enumerate(points):
        if point is None:
            continue
        size = marker["size"][index] if isinstance(marker["size"], list) else marker["size"]
        whole += _whisker(trace.get("error_x"), index, trace["x"], x, point[1], across=False)
        shape = SYMBOLS[symbol].format(r=f"{size / 2:.3g}")
        said = escape(_said(trace, index, x, y))
        whole += f'<path d="{shape}" transform="translate({point[0]:.1f},{point[1]:.1f})"><title>{said}</title></path>'
    return whole + "</g>"


def _bars(traces: Sequence[dict[str, Any]], x: _Axis, y: _Axis, layout: dict[str, Any]) -> list[str]:
    """All bars: of several traces side by side, or one on the other."""
    bars = [trace for trace in traces if trace["type"] == "bar"]
    is_stack = layout.get("barmode") == "stack"
    slot = abs(x.to_px - x.from_px) / max(1, len(x.names))
    wide = slot * (0.95 if is_stack else 0.8 / max(1, len(bars)))
    below: dict[str, float] = {}
    found = []
    for place, trace in enumerate(bars):
        for index, (name, value) in enumerate(zip(trace["x"], trace["y"], strict=True)):
            if value is None:
                continue
            base = below.get(name, 0.0) if is_stack else 0.0
            below[name] = base + value
            left = x.at(name) - wide / 2 if is_stack else x.at(name) - slot * 0.4 + place * wide
            top, bottom = y.at(base + value), y.at(base)
            found.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(1.0, wide - 1):.1f}" '
                f'height="{max(0.0, bottom - top):.1f}" style="fill:{_colour(trace["marker"]["color"])}">'
                f"<title>{escape(_said(trace, index, x, y))}</title></rect>"
            )
            found.append(_whisker(trace.get("error_y"), index, trace["y"], y, left + wide / 2, across=True))
    return found


def _whisker(
    error: dict[str, Any] | None, index: int, values: Sequence[float], axis: _Axis, other_px: float, across: bool
) -> str:
    """The error bar of one value; ``across``: it stands upright."""
    if error is None:
        return ""
    up, down = error["array"][index], error["arrayminus"][index]
    if not up and not down:
        return ""
    start, stop = axis.at(values[index] - down), axis.at(values[index] + up)
    path = f"M{other_px:.1f},{start:.1f}V{stop:.1f}" if across else f"M{start:.1f},{other_px:.1f}H{stop:.1f}"
    return f'<path d="{path}" style="fill:none;stroke:{_colour(error["color"])};stroke-width:{error["thickness"]}"/>'


def _said(trace: dict[str, Any], index: int, x: _Axis, y: _Axis) -> str:
    """What a mark or a bar stands for, in words."""
    if "hovertext" in trace:
        return re.sub(r"<br>", "\n", trace["hovertext"][index])
    name = f"{trace['name']}: " if trace.get("name") else ""
    return f"{name}{x.text(trace['x'][index])}, {y.text(trace['y'][index])}"


def _legend(layout: dict[str, Any], traces: Sequence[dict[str, Any]]) -> str:
    named = [one for one in traces if one.get("name") and one.get("showlegend", True)]
    if not named or (len(traces) < 2 and not layout.get("showlegend")):
        return ""
    colours = [_colour((one.get("marker") or one["line"])["color"]) for one in named]
    entries = "".join(
        f'<li><i style="background:{colour}"></i>{escape(one["name"])}</li>'
        for one, colour in zip(named, colours, strict=True)
    )
    return f'<ul class="legend">{entries}</ul>'


def _colour(colour: str) -> str:
    return escape(THEMED.get(colour, colour))
