"""The charts of a mapping run, as Plotly figures. The page draws them with the JavaScript that it contains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from halsted_ray.profiling import STAGES
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


def confusion_plot(confusion: Mapping[str, Any]) -> PlotlyFigure:
    """Draws a confusion matrix, truth by prediction, of the categories that occur.

    The shade of a cell is its share of the row. ``confusion``: ``categories`` (K names) and ``counts`` [K, K + 1],
    where the last column counts windows without a prediction.
    """
    categories, counts = confusion["categories"], confusion["counts"]
    seen = [k for k in range(len(categories)) if any(counts[k]) or any(row[k] for row in counts)]
    columns = [*seen, len(categories)] if any(row[-1] for row in counts) else seen
    labels = [*categories, "(no prediction)"]
    shares, texts, hovers = [], [], []
    for k in seen:
        total = sum(counts[k])
        shares.append([counts[k][column] / total if total else 0 for column in columns])
        texts.append([str(counts[k][column]) if counts[k][column] else "" for column in columns])
        hovers.append(
            [
                f"truth <b>{labels[k]}</b><br>predicted <b>{labels[column]}</b><br>"
                f"{counts[k][column]} of {total} windows"
                for column in columns
            ]
        )
    row_names, column_names = ([shortened(labels[k]) for k in side] for side in (seen, columns))
    left_px, below_px = (6.4 * max(map(len, names), default=0) for names in (row_names, column_names))
    return {
        "data": [
            {
                "type": "heatmap",
                "z": shares,
                "x": list(range(len(columns))),
                "y": list(range(len(seen))),
                "text": texts,
                "texttemplate": "%{text}",
                "hovertext": hovers,
                "hoverinfo": "text",
                "zmin": 0,
                "zmax": 1,
                "showscale": False,
                "colorscale": [[0, "#f7f9fa"], [0.5, "#93b3c9"], [1, "#33658a"]],
                "xgap": 1,
                "ygap": 1,
                "textfont": {"size": 11 if len(seen) <= 12 else 9},
            }
        ],
        "layout": {
            "height": 20 + below_px + (26 if len(seen) <= 12 else 20) * len(seen),
            "font": FONT,
            "margin": {"l": 16 + left_px, "r": 8, "t": 8, "b": 12 + below_px},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": {
                "tickangle": -90,
                "fixedrange": True,
                "ticks": "",
                "tickvals": list(range(len(columns))),
                "ticktext": column_names,
                "showgrid": False,
                "zeroline": False,
                "tickfont": {"size": 11},
            },
            "yaxis": {
                "autorange": "reversed",
                "fixedrange": True,
                "ticks": "",
                "tickvals": list(range(len(seen))),
                "ticktext": row_names,
                "showgrid": False,
                "zeroline": False,
                "tickfont": {"size": 11},
            },
        },
    }


def profile_plot(stages: Mapping[str, Mapping[str, float]]) -> PlotlyFigure:
    """Draws seconds of wall clock and of CPU by stage, in the order of the data flow.

    ``stages``: ``wall_s`` and ``cpu_s``, each from stage to seconds.
    """
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "marker": {"color": shade},
            "y": list(STAGES),
            "x": [stages[clock_s].get(stage, 0.0) for stage in STAGES],
            "hovertext": [
                f"<b>{stage}</b>: {STAGES[stage]}<br>{name} {stages[clock_s].get(stage, 0.0):.1f} s" for stage in STAGES
            ],
            "hoverinfo": "text",
        }
        for clock_s, name, shade in (("wall_s", "wall clock", "#93b3c9"), ("cpu_s", "CPU", "#33658a"))
    ]
    return {
        "data": bars,
        "layout": {
            "height": 40 * len(STAGES) + 60,
            "font": FONT,
            "margin": {"l": 84, "r": 8, "t": 8, "b": 40},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "barmode": "group",
            "bargap": 0.3,
            "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 0, "yanchor": "bottom"},
            "xaxis": {"title": {"text": "seconds"}, "fixedrange": True, "gridcolor": "#e9edf0", "zeroline": False},
            "yaxis": {"autorange": "reversed", "fixedrange": True, "showgrid": False, "zeroline": False},
        },
    }


def shortened(name: str) -> str:
    """Returns a name cut to 26 characters."""
    return name if len(name) <= 26 else name[:25] + "…"
