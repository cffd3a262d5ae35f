"""The paper's figures 2, 4, 5 and 9, and ROC curves, as Plotly figures (Fig. 3 is ``evaluation_plots.map_plot``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from halsted_ray.reporting.evaluation_plots import METHOD_COLOURS, Figures, axis, layout
from halsted_ray.reporting.lanes import PALETTE
from halsted_ray.reporting.map_plots import PlotlyFigure

PUBLISHED_GREY = "#c9ced4"


def specialty_plot(specialties: Figures, measure: str) -> PlotlyFigure:
    """Draws Fig. 2a and b: ``measure`` (``accuracy`` or ``auroc``) by tag, a bar per specialty, ± one standard error.

    ``specialties``: tag → specialty → ``accuracy`` and ``auroc``. A bar without a value is left out.
    """
    names = sorted({name for of_tag in specialties.values() for name in of_tag})
    traces = []
    for place, name in enumerate(names):
        known = {
            tag: of_tag[name][measure]
            for tag, of_tag in specialties.items()
            if name in of_tag and of_tag[name][measure]["value"] is not None
        }
        traces.append(bars(name, list(known), list(known.values()), PALETTE[place % len(PALETTE)]))
    title = "AUROC" if measure == "auroc" else "accuracy"
    return {"data": traces, "layout": bar_layout(title, 330, is_share=measure == "accuracy")}


def category_plot(categories: Figures) -> PlotlyFigure:
    """Draws Fig. 2c for one tag: the accuracy on the clips of each category, ± one standard error.

    ``categories``: category → ``value``, ``error``, ``samples``.
    """
    names = list(categories)
    trace = {
        "type": "scatter",
        "mode": "markers",
        "showlegend": False,
        "x": [categories[name]["value"] for name in names],
        "y": names,
        "error_x": {**whiskers([categories[name] for name in names]), "color": "#33658a"},
        "marker": {"color": "#33658a", "size": 9},
        "hovertext": [
            f"{name}<br>{categories[name]['value']:.1%} of {categories[name]['samples']:,}" for name in names
        ],
        "hoverinfo": "text",
        "cliponaxis": False,
    }
    return {
        "data": [trace],
        "layout": layout(
            80 + 24 * len(names),
            xaxis=axis("accuracy", range=[-0.02, 1.02], tickformat=".0%"),
            yaxis=axis(autorange="reversed", type="category"),
        ),
    }


def roc_plot(curves: Figures) -> PlotlyFigure:
    """Draws the ROC curves of one tag: thin per category, thick their mean. ``curves``: ``published.roc_curves``."""
    alarms = curves["alarms"]
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"{name} ({found['auroc']:.2f})",
            "x": alarms,
            "y": found["hits"],
            "line": {"color": PALETTE[place % len(PALETTE)], "width": 1},
            "hovertemplate": f"{name}<br>hit rate %{{y:.2f}}, false alarms %{{x:.2f}}<extra></extra>",
        }
        for place, (name, found) in enumerate(curves["categories"].items())
    ]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"mean ({curves['auroc']:.2f})",
            "x": alarms,
            "y": curves["macro"],
            "line": {"color": "#1d2733", "width": 3},
            "hovertemplate": "mean<br>hit rate %{y:.2f}, false alarms %{x:.2f}<extra></extra>",
        }
    )
    chance = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, 1],
        "y": [0, 1],
        "hoverinfo": "skip",
        "showlegend": False,
        "line": {"color": "#c9ced4", "dash": "dot", "width": 1.5},
    }
    return {
        "data": [chance, *traces],
        "layout": layout(
            320 + 14 * max(0, len(traces) - 10),
            xaxis=axis("false-alarm rate", range=[0, 1]),
            yaxis=axis("hit rate", range=[0, 1.02]),
            legend={"font": {"size": 10}, "x": 1.02, "y": 1},
        ),
    }


def decoder_plot(methods: Figures, published: Sequence[Figures], titles: Mapping[str, str]) -> PlotlyFigure:
    """Draws Fig. 4: accuracy by tag of the small decoder and of the Llama, with 95% intervals, and the published
    values in grey. ``methods``: method → tag → ``value``, ``low``, ``high``. ``titles``: of the methods."""
    traces = []
    for name, of_tags in methods.items():
        known = {tag: own for tag, own in of_tags.items() if own["value"] is not None}
        traces.append(bars(titles.get(name, name), list(known), list(known.values()), METHOD_COLOURS[name]))
    for place, name in enumerate(dict.fromkeys(row["method"] for row in published)):
        rows = [{**row, "value": row["accuracy"]} for row in published if row["method"] == name]
        colour = (PUBLISHED_GREY, "#9aa2ab")[place % 2]
        traces.append(bars(f"published: {name}", [row["tag"] for row in rows], rows, colour))
    return {"data": traces, "layout": bar_layout("accuracy", 320)}


def gain_plot(folds: Figures) -> PlotlyFigure:
    """Draws Fig. 5: accuracy by task before (v1) and after (v2) self-labelling, mean over folds ± one standard error.

    ``folds``: task → ``first`` and ``second``, the values of the folds.
    """
    traces = []
    for side, title, colour in (
        ("first", "v1: persons' labels", "#86bbd8"),
        ("second", "v2: with v1's labels", "#33658a"),
    ):
        entries = []
        for own in folds.values():
            known = [value for value in own[side] if value is not None]
            mean = sum(known) / len(known) if known else None
            spread = sum((value - (mean or 0)) ** 2 for value in known)
            error = (spread / (len(known) - 1) / len(known)) ** 0.5 if len(known) > 1 else None
            entries.append({"value": mean, "error": error})
        traces.append(bars(title, list(folds), entries, colour))
    return {"data": traces, "layout": bar_layout("accuracy", 300)}


def duration_plot(durations: Figures, task: str) -> PlotlyFigure:
    """Draws Fig. 9 for one task: how many clips have which length, stacked by specialty."""
    edges = durations["edges_s"]
    names = [f"{edge:.0f}–{after:.0f}" for edge, after in zip(edges, edges[1:], strict=False)] + [f"≥ {edges[-1]:.0f}"]
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": names,
            "y": counts,
            "marker": {"color": PALETTE[place % len(PALETTE)]},
            "hovertemplate": f"{name}<br>%{{x}} s: %{{y:,}} clips<extra></extra>",
        }
        for place, (name, counts) in enumerate(sorted(durations["counts"][task].items()))
    ]
    return {
        "data": traces,
        "layout": layout(
            260,
            barmode="stack",
            bargap=0.05,
            showlegend=True,
            xaxis=axis("length in seconds", type="category"),
            yaxis=axis("clips", rangemode="tozero"),
            legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        ),
    }


def bars(name: str, places: Sequence[str], entries: Sequence[Figures], colour: str) -> Figures:
    """Returns a trace of bars with whiskers. ``entries``: ``value`` and its ``error``, or ``low`` and ``high``."""
    return {
        "type": "bar",
        "name": name,
        "x": list(places),
        "y": [entry["value"] for entry in entries],
        "marker": {"color": colour},
        "error_y": {**whiskers(entries), "color": "#1d2733"},
        "hovertemplate": f"{name}<br>%{{x}}: %{{y:.3f}}<extra></extra>",
    }


def whiskers(entries: Sequence[Figures]) -> Figures:
    """Returns the error bars of ``entries``; none where the error is not known."""
    borders = [
        (entry["value"], entry["value"])
        if entry["value"] is None or entry.get("error", entry.get("low")) is None
        else (entry["value"] - entry["error"], entry["value"] + entry["error"])
        if "error" in entry
        else (max(0.0, entry["low"]), min(1.0, entry["high"]))
        for entry in entries
    ]
    # A published interval may exclude its own value (a misprint): then that side has no whisker.
    reach = [
        (max(0.0, (high or 0.0) - (entry["value"] or 0.0)), max(0.0, (entry["value"] or 0.0) - (low or 0.0)))
        for entry, (low, high) in zip(entries, borders, strict=True)
    ]
    return {
        "type": "data",
        "symmetric": False,
        "array": [up for up, _ in reach],
        "arrayminus": [down for _, down in reach],
        "thickness": 1.2,
        "width": 3,
    }


def bar_layout(title: str, height: int, is_share: bool = True) -> Figures:
    """Returns the layout of grouped bars from 0 to 1; ``is_share`` shows them in percent."""
    scale = {"tickformat": ".0%"} if is_share else {}
    return layout(
        height,
        barmode="group",
        showlegend=True,
        xaxis=axis(type="category"),
        yaxis=axis(title, range=[0, 1.05], **scale),
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
