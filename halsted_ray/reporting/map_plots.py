"""The timeline of a video as a Plotly figure, for notebooks (``MappedArchive.plot``)."""

from __future__ import annotations

from typing import Any

from halsted_ray.records import UNKNOWN
from halsted_ray.reporting.lanes import Timeline, colour
from halsted_ray.reporting.terminal import clock
from halsted_ray.taxonomy import Taxonomy

FONT = {"family": 'system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif', "size": 12, "color": "#1d2733"}
PlotlyFigure = dict[str, Any]
"""A Plotly figure as JSON values: ``data`` and ``layout``."""
LANE_PX, TRUTH_PX = 26, 14
MANY_SPANS = 60
"""In a lane with more spans each is only a pixel or two wide, and an outline would hide it."""
TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


def timeline_plot(timeline: Timeline, taxonomy: Taxonomy) -> PlotlyFigure:
    """Draws a timeline: a lane per tag, the truth as a thinner lane below it, gaps as grey bands, what the
    model does not know as yellow ones.

    The opacity of a span is its confidence.
    """
    places, names, at = [], [], 0.0
    for lane in timeline.lanes:
        height = TRUTH_PX if lane.is_truth else LANE_PX
        at += height / 2 + (1 if lane.is_truth else 5)
        places.append((at, height - (3 if lane.is_truth else 2)))
        names.append("truth" if lane.is_truth else lane.tag)
        at += height / 2
    bars = []
    for lane, (place, height) in zip(timeline.lanes, places, strict=True):
        spans = lane.spans
        bars.append(
            {
                "type": "bar",
                "orientation": "h",
                "showlegend": False,
                "width": height,
                "y": [place] * len(spans),
                "base": [span.start_s for span in spans],
                "x": [span.stop_s - span.start_s for span in spans],
                "text": [span.category for span in spans],
                "textposition": "none" if lane.is_truth else "inside",
                "insidetextanchor": "middle",
                "textangle": 0,
                "textfont": {"color": "#fff", "size": 11},
                "cliponaxis": True,
                "marker": {
                    "color": [colour(lane.tag, span.category, taxonomy) for span in spans],
                    "opacity": [0.55 if span.confidence is None else 0.4 + 0.6 * span.confidence for span in spans],
                    "line": {"width": 0.5 if len(spans) <= MANY_SPANS else 0, "color": "#fff"},
                },
                "hovertext": [
                    f"<b>{span.category}</b><br>{lane.tag}{' (truth)' if lane.is_truth else ''}"
                    f"<br>{clock(span.start_s, 1)} – {clock(span.stop_s, 1)}"
                    + ("" if span.confidence is None else f"<br>confidence {span.confidence:.2f}")
                    for span in spans
                ],
                "hoverinfo": "text",
            }
        )
    tick_s = next((tick for tick in TICKS_S if timeline.duration_s / tick <= 12), TICKS_S[-1])
    ticks_s = [tick_s * k for k in range(int(timeline.duration_s / tick_s) + 1)]
    layout = {
        "height": at + 58,
        "margin": {"l": 84, "r": 8, "t": 22, "b": 28},
        "font": FONT,
        "bargap": 0,
        "barmode": "overlay",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"align": "left"},
        "modebar": {"bgcolor": "rgba(255,255,255,0.85)", "color": "#8b95a0", "activecolor": "#33658a"},
        "uniformtext": {"minsize": 10, "mode": "hide"},
        "dragmode": "zoom",
        "xaxis": {
            "range": [0, timeline.duration_s],
            "tickvals": ticks_s,
            "ticktext": [clock(tick) for tick in ticks_s],
            "gridcolor": "#e9edf0",
            "zeroline": False,
            "tickfont": {"size": 11, "color": "#8b95a0"},
        },
        "yaxis": {
            "range": [at + 4, 0],
            "tickvals": [place for place, _ in places],
            "fixedrange": True,
            "ticktext": [
                f'<span style="color:#a3acb5;font-size:10px">{name}</span>' if name == "truth" else name
                for name in names
            ],
            "showgrid": False,
            "zeroline": False,
        },
        "shapes": [
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": gap.start_s,
                "x1": gap.stop_s,
                "y0": 0,
                "y1": 1,
                "fillcolor": "#f2d98b" if gap.category == UNKNOWN else "#c9ced4",
                "opacity": 0.55,
                "line": {"width": 0},
                "layer": "below",
            }
            for gap in timeline.gaps
        ],
        "annotations": [
            {
                "xref": "x",
                "yref": "paper",
                "x": (gap.start_s + gap.stop_s) / 2,
                "y": 0.5,
                "showarrow": False,
                "text": UNKNOWN if gap.category == UNKNOWN else f"not mapped<br>{gap.category}",
                "font": {"size": 11, "color": "#5c6873"},
            }
            for gap in timeline.gaps
        ],
    }
    return {"data": bars, "layout": layout}
