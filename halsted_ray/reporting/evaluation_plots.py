"""The charts of an evaluation, as Plotly figures (``map_plots.PlotlyFigure``)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from halsted_ray.evaluation.predictions import LLAMA, MODEL, REFERENCE
from halsted_ray.evaluation.sais import SAIS, SAIS_HEAD
from halsted_ray.reporting.lanes import PALETTE
from halsted_ray.reporting.map_plots import FONT, PlotlyFigure
from halsted_ray.taxonomy import Taxonomy

Figures = dict[str, Any]
"""Figures of an evaluation as JSON values: what ``evaluation.scoring`` returns, or a part of it."""
GRID = "#e9edf0"
METHOD_COLOURS = {
    MODEL: "#33658a",
    REFERENCE: "#86bbd8",
    "chance": "#c9ced4",
    "majority": "#aeb6be",
    "linear": "#d9a441",
    SAIS: "#c8553d",
    SAIS_HEAD: "#e0a899",
    LLAMA: "#6d597a",
}
BETWEEN = "#5b95b8"
"""Of a model between v1 and the last, of an evaluation of several rounds of self-labelling: ``v2``, ``v3``."""
SYMBOLS = {
    MODEL: "circle",
    REFERENCE: "circle-open",
    "chance": "line-ns",
    "majority": "line-ns",
    "linear": "diamond",
    SAIS: "square",
    SAIS_HEAD: "square-open",
    LLAMA: "triangle-up",
}


def layout(height: int, **more: Any) -> dict[str, Any]:
    """Returns the layout that all charts share. ``more``: further entries."""
    return {
        "height": height,
        "font": FONT,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 48, "r": 12, "t": 12, "b": 40},
        "hoverlabel": {"align": "left"},
        **more,
    }


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """Returns an axis. ``more``: further entries."""
    return {
        "title": {"text": title},
        "gridcolor": GRID,
        "zeroline": False,
        "fixedrange": True,
        "automargin": True,
        **more,
    }


def methods_plot(methods: Figures, names: dict[str, str]) -> PlotlyFigure:
    """Draws the accuracy by tag, with a mark per method.

    The line through a mark is the 95% interval: t over folds, or the bootstrap's where there is one split. ``names``:
    of the methods, for the legend.
    """
    tags = list(next(iter(methods.values()))["tags"])
    traces = []
    for place, (name, of_method) in enumerate(methods.items()):
        shown = [(k, of_method["tags"][tag]["accuracy"]) for k, tag in enumerate(tags) if tag in of_method["tags"]]
        borders = [entry["t"] if None not in entry["t"] else entry["bootstrap"] for _, entry in shown]
        errors = [
            (0, 0) if None in b or name == "chance" else (min(1, b[1]) - e["value"], e["value"] - max(0, b[0]))
            for (_, e), b in zip(shown, borders, strict=True)
        ]
        is_line = SYMBOLS.get(name, "").startswith("line")
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": names.get(name, name),
                "x": [entry["value"] for _, entry in shown],
                "y": [k + 0.13 * (place - (len(methods) - 1) / 2) for k, _ in shown],
                "marker": {
                    "color": METHOD_COLOURS.get(name, BETWEEN),
                    "symbol": SYMBOLS.get(name, "circle-open-dot"),
                    "size": 12 if is_line else 9,
                    "line": {"width": 2 if is_line else 0, "color": METHOD_COLOURS.get(name, BETWEEN)},
                },
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [up for up, _ in errors],
                    "thickness": 1.2,
                    "arrayminus": [down for _, down in errors],
                    "width": 0,
                    "color": METHOD_COLOURS.get(name, BETWEEN),
                },
                "hovertemplate": f"{names.get(name, name)} %{{x:.1%}}<extra></extra>",
            }
        )
    return {
        "data": traces,
        "layout": layout(
            90 + 44 * len(tags),
            legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
            xaxis=axis("accuracy", range=[-0.02, 1.02], tickformat=".0%"),
            margin={"l": 90, "r": 12, "t": 34, "b": 44},
            yaxis=axis(range=[len(tags) - 0.5, -0.5], tickvals=list(range(len(tags))), ticktext=tags, showgrid=False),
        ),
    }


def reliability_plot(bins: list[Figures]) -> PlotlyFigure:
    """Draws accuracy over confidence, with a larger dot for more predictions.

    ``bins``: each with count, confidence and accuracy.
    """
    most = max(entry["count"] for entry in bins)
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "x": [0, 1],
                "y": [0, 1],
                "hoverinfo": "skip",
                "showlegend": False,
                "line": {"color": "#c9ced4", "dash": "dot", "width": 1.5},
            },
            {
                "type": "scatter",
                "mode": "lines+markers",
                "showlegend": False,
                "cliponaxis": False,
                "x": [entry["confidence"] for entry in bins],
                "y": [entry["accuracy"] for entry in bins],
                "line": {"color": "#33658a", "width": 1},
                "marker": {"color": "#33658a", "size": [5 + 13 * math.sqrt(entry["count"] / most) for entry in bins]},
                "hovertext": [
                    f"{entry['count']} predictions<br>confidence {entry['confidence']:.2f}<br>"
                    f"accuracy {entry['accuracy']:.2f}"
                    for entry in bins
                ],
                "hoverinfo": "text",
            },
        ],
        "layout": layout(250, xaxis=axis("confidence", range=[0, 1.02]), yaxis=axis("accuracy", range=[-0.02, 1.04])),
    }


def coverage_plot(curve: Figures) -> PlotlyFigure:
    """Draws a tag's accuracy over coverage: how right the surest predictions are. ``curve``: of
    ``evaluation.coverage``."""
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines+markers" if len(curve["coverage"]) < 12 else "lines",
                "showlegend": False,
                "cliponaxis": False,
                "x": curve["coverage"],
                "y": curve["accuracy"],
                "line": {"color": "#33658a", "width": 1.5},
                "hovertemplate": "surest %{x:.0%}: %{y:.1%} right<extra></extra>",
            }
        ],
        "layout": layout(250, xaxis=axis("coverage", range=[0, 1.02]), yaxis=axis("accuracy", range=[-0.02, 1.04])),
    }


def map_plot(features: Figures, side: str, taxonomy: Taxonomy) -> PlotlyFigure:
    """Draws the points of one side (``encoder`` or ``decoder``): a colour per procedure, and large for low
    proficiency, as in the paper's Fig. 3."""
    places = np.array(features[side])
    procedures = np.array(features["procedures"])
    low = np.array([row.get("proficiency") == "Low" for row in features["truth"]])
    known = [name for tag in taxonomy.tags if tag.name == "procedure" for name in tag.categories]
    traces = []
    for name in sorted(set(procedures.tolist())):
        rows = np.flatnonzero(procedures == name)
        place = known.index(name) if name in known else 0
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name or "all",
                "x": places[rows, 0].tolist(),
                "y": places[rows, 1].tolist(),
                "marker": {
                    "color": PALETTE[place % len(PALETTE)],
                    "size": np.where(low[rows], 10, 5).tolist(),
                    "opacity": 0.75,
                    "line": {"width": 0.5, "color": "#fff"},
                    "symbol": "circle" if place < len(PALETTE) else "diamond",
                },
                "hovertext": [
                    f"{name}<br>" + "<br>".join(f"{tag} {value}" for tag, value in features["truth"][row].items())
                    for row in rows
                ],
                "hoverinfo": "text",
            }
        )
    bare = {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": "", "fixedrange": True}
    return {
        "data": traces,
        "layout": layout(
            420,
            xaxis=bare,
            yaxis=bare,
            margin={"l": 8, "r": 8, "t": 8, "b": 8},
            showlegend=True,
            legend={
                "orientation": "h",
                "y": 0,
                "yanchor": "top",
                "x": 0,
                "itemsizing": "constant",
                "font": {"size": 11},
            },
        ),
    }


def curve_plot(curves: list[list[Figures]], kind: str) -> PlotlyFigure:
    """Draws the ``loss`` (``kind``), or the validation ``accuracy`` by task, over the epochs.

    The line is the mean over folds, the band one standard error. ``curves``: per fold a record per epoch.
    """
    if kind == "loss":
        lines = {"loss": [[(record["epoch"] + 1, record["loss"]) for record in curve] for curve in curves]}
    else:
        tasks = list(dict.fromkeys(task for curve in curves for record in curve for task in record["accuracy_of_task"]))
        lines = {
            task: [
                [
                    (record["epoch"] + 1, record["accuracy_of_task"].get(task))
                    for record in curve
                    if record["accuracy_of_task"]
                ]
                for curve in curves
            ]
            for task in tasks
        }
    traces = []
    for place, (name, folds) in enumerate(lines.items()):
        at: dict[int, list[float]] = {}
        for epoch, value in (point for fold in folds for point in fold):
            if value is not None:
                at.setdefault(epoch, []).append(value)
        if not at:
            continue
        epochs = sorted(at)
        means = [float(np.mean(at[epoch])) for epoch in epochs]
        errors = [float(np.std(at[e], ddof=1) / math.sqrt(len(at[e]))) if len(at[e]) > 1 else 0.0 for e in epochs]
        colour = PALETTE[place % len(PALETTE)]
        band = [m + e for m, e in zip(means, errors, strict=True)], [m - e for m, e in zip(means, errors, strict=True)]
        traces += [
            {
                "type": "scatter",
                "mode": "lines",
                "x": epochs + epochs[::-1],
                "y": band[0] + band[1][::-1],
                "fill": "toself",
                "fillcolor": colour,
                "opacity": 0.15,
                "line": {"width": 0},
                "hoverinfo": "skip",
                "showlegend": False,
            },
            {
                "type": "scatter",
                "mode": "lines+markers" if len(epochs) < 15 else "lines",
                "name": name,
                "x": epochs,
                "y": means,
                "line": {"color": colour, "width": 2},
                "showlegend": kind != "loss",
            },
        ]
    scale = {"tickformat": ".0%", "range": [0, 1.02]} if kind == "accuracy" else {"rangemode": "tozero"}
    return {
        "data": traces,
        "layout": layout(
            280,
            xaxis=axis("epoch"),
            yaxis=axis(**scale),
            legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        ),
    }
