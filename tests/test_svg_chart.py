"""Charts of a report as SVG: what the descriptions say is where it should be, and can be read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from halsted_ray.reporting.evaluation_plots import (
    axis,
    coverage_plot,
    curve_plot,
    layout,
    methods_plot,
    reliability_plot,
)
from halsted_ray.reporting.published_plots import category_plot, duration_plot, roc_plot, specialty_plot
from halsted_ray.reporting.svg_chart import PAIR_PX, chart_svg

ENTRY = {"value": 0.5, "error": 0.1, "samples": 10}
METHOD = {"tags": {"step": {"accuracy": {"value": 0.8, "t": (None, None), "bootstrap": (0.7, 0.9)}}}}
CURVE = [{"epoch": n, "loss": 1.0 / (n + 1), "accuracy_of_task": {"macro": 0.5 + n / 10}} for n in range(4)]
CHARTS = {
    "methods": methods_plot({"halsted": METHOD, "chance": METHOD}, {"chance": "by <chance> & luck"}),
    "reliability": reliability_plot([{"count": 4, "confidence": 0.9, "accuracy": 0.7}]),
    "coverage": coverage_plot({"coverage": [0.5, 1.0], "accuracy": [1.0, 0.5]}),
    "loss": curve_plot([CURVE, CURVE], "loss"),
    "accuracy": curve_plot([CURVE, CURVE], "accuracy"),
    "specialty": specialty_plot({"step": {"Urology": {"accuracy": ENTRY}, "General": {"accuracy": ENTRY}}}, "accuracy"),
    "category": category_plot({"Suturing": ENTRY, "Dissection": ENTRY}),
    "roc": roc_plot(
        {"alarms": [0, 1], "categories": {"a": {"auroc": 0.5, "hits": [0, 1]}}, "macro": [0, 1], "auroc": 0.5}
    ),
    "duration": duration_plot(
        {"edges_s": [0, 5, 10], "counts": {"macro": {"Urology": [1, 2, 3], "General": [3, 2, 1]}}}, "macro"
    ),
}


def drawn(plot, **more) -> ElementTree.Element:
    """The SVG as a tree: text with signs of HTML must not break it."""
    return ElementTree.fromstring(f"<div>{chart_svg('a chart', plot, **more)}</div>")


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_of_a_report_is_drawn_within_its_picture(name):
    plot = CHARTS[name]
    tree = drawn(plot, width_px=PAIR_PX)
    (svg,) = tree.iter("svg")
    assert svg.get("role") == "img" and svg.get("aria-label") == "a chart"
    height = plot["layout"]["height"]
    assert svg.get("viewBox") == f"0 0 {PAIR_PX:g} {height:g}"
    for line in svg.iter("polyline"):
        for x, y in (map(float, point.split(",")) for point in line.get("points").split()):
            assert 0 <= x <= PAIR_PX and 0 <= y <= height
    for bar in svg.iter("rect"):
        assert float(bar.get("x")) >= 0 and float(bar.get("y")) >= 0
        assert float(bar.get("x")) + float(bar.get("width")) <= PAIR_PX
    marks = [one for kind in ("rect", "path", "polyline") for one in svg.iter(kind) if one.find("title") is not None]
    assert marks, "what stands for a value says it"


def test_a_value_is_drawn_where_it_belongs():
    plot = {
        "data": [
            {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "line": {"color": "#33658a", "width": 1}}
        ],
        "layout": layout(200, xaxis=axis(range=[0, 1]), yaxis=axis(range=[0, 1], tickformat=".0%")),
    }
    (line,) = drawn(plot).iter("polyline")
    (left, low), (right, high) = (tuple(map(float, point.split(","))) for point in line.get("points").split())
    assert left < right and low > high, "up is more"
    texts = [one.text for one in drawn(plot).iter("text")]
    assert "0%" in texts and "100%" in texts and "20%" in texts and "0.2" in texts


def test_stacked_bars_stand_on_one_another_and_names_are_in_the_legend():
    tree = drawn(CHARTS["duration"])
    bars = [one for one in tree.iter("rect") if one.get("x") == next(tree.iter("rect")).get("x")]
    first, second = ((float(one.get("y")), float(one.get("height"))) for one in bars)
    assert second[0] + second[1] == pytest.approx(first[0], abs=0.11)
    assert [one.find("i").tail for one in tree.iter("li")] == ["General", "Urology"]


def test_names_are_text_and_colours_are_those_of_the_page():
    page = chart_svg("a <b>", CHARTS["methods"])
    assert "by &lt;chance&gt; &amp; luck" in page and "<b>" not in page
    assert "var(--c0)" in page and not re.search(r"#33658a", page), "readable on a dark page too"
