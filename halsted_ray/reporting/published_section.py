"""The sections of an evaluation's page that show what the paper shows: its comparisons and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from halsted_ray.reporting.evaluation_plots import Figures
from halsted_ray.reporting.html_page import number, percent, plot_card, table_card, times
from halsted_ray.reporting.map_plots import PlotlyFigure
from halsted_ray.reporting.published_plots import (
    category_plot,
    decoder_plot,
    duration_plot,
    gain_plot,
    roc_plot,
    specialty_plot,
)
from halsted_ray.reporting.svg_chart import PAIR_PX, chart_svg

SHOWN_CATEGORIES = ("arm", "action", "instrument")
"""The tags of the paper's Fig. 2c; of another taxonomy all tags are shown."""


def benchmark_section(figures: Figures, titles: Mapping[str, str]) -> str:
    """Returns one of the paper's comparisons with the published rows; '' for another evaluation. ``titles``: of the
    methods."""
    benchmark = figures.get("benchmark")
    if not benchmark:
        return ""
    if benchmark["name"] == "rarp50":
        return rarp50_section(benchmark, titles)
    measure = "auroc" if benchmark["name"] == "sais" else "accuracy"
    rows = [
        (titles.get(name, name), tag, own["value"], own["low"], own["high"], "here")
        for name, of_tags in benchmark["methods"].items()
        for tag, own in of_tags.items()
    ]
    rows += [
        (row["method"], row["tag"], row[measure], row["low"], row["high"], row["source"])
        for row in benchmark["published"]
    ]
    cells = [
        (escape(name), escape(tag), number(value, 3), borders(low, high), escape(source))
        for name, tag, value, low, high, source in rows
    ]
    columns = ("method", "tag", measure, "95%", "measured")
    if benchmark["name"] == "sais":
        heading = "Halsted and SAIS on suturing"
        about = (
            f"Suturing phase and proficiency of {escape(', '.join(benchmark['specialties']))}; all methods learned "
            "from the same videos."
        )
        chart = ""
    else:
        heading = "Does a larger decoder help?"
        tests = "; ".join(
            f"{escape(tag)} p = {number(found['t'], 3)} (paired t), {number(found['wilcoxon'], 3)} (Wilcoxon)"
            for tag, found in benchmark["p"].items()
        )
        about = (
            "The small decoder and a fine-tuned Llama that writes tags as text (paper, Fig. 4). Over folds: "
            + tests
            + "."
        )
        plot = decoder_plot(benchmark["methods"], benchmark["published"], titles)
        chart = f'<div class="card">{chart_svg("accuracy by tag and decoder", plot)}</div>'
    return (
        f"<section><h2>{heading}</h2><p>{about} Published values were measured on other videos; compare their order, "
        "not their size. Intervals are 95%, here t over folds.</p>"
        f"{chart}"
        f"{table_card(columns, cells, texts=('method', 'tag', 'measured'))}</section>"
    )


def borders(low: float | None, high: float | None) -> str:
    """Returns an interval, cut at 0 and 1, which a t interval of few folds exceeds; – where it is not known."""
    return "–" if low is None or high is None else f"{number(max(0, low), 3)}–{number(min(1, high), 3)}"


def rarp50_section(benchmark: Figures, titles: Mapping[str, str]) -> str:
    """Returns the paper's Table 1 with our rows."""
    rows = [
        (titles.get(name, name), benchmark["chance"], own["micro"], own["relative_improvement"], "here")
        for name, own in benchmark["methods"].items()
    ]
    rows += [
        (row["method"], row["chance"], row["accuracy"], row["relative_improvement"], row["source"])
        for row in benchmark["published"]
    ]
    cells = [
        (escape(name), percent(chance), percent(accuracy), times(over), escape(source))
        for name, chance, accuracy, over, source in rows
    ]
    columns = ("method", "chance", "accuracy", "over chance", "measured")
    return (
        "<section><h2>SAR-RARP50</h2><p>Accuracy by segment on the data set's test videos. MA-TCN and SAIS are quoted "
        "as the Halsted paper quotes them: they left out infrequent actions, so their chance is another, and MA-TCN is "
        "judged by frames and reads the robot's kinematics.</p>"
        f"{table_card(columns, cells, texts=('method', 'measured'))}</section>"
    )


def figure_section(figures: Figures) -> str:
    """Returns the paper's figures 2, 5 and 9; '' where they were not computed."""
    published = figures.get("published")
    if not published:
        return ""
    charts: list[tuple[str, PlotlyFigure]] = []
    specialties = {tag: found for tag, found in published["specialties"].items() if found}
    if specialties:
        charts.append(("accuracy by tag and specialty (Fig. 2a)", specialty_plot(specialties, "accuracy")))
        judged = {tag: found for tag, found in specialties.items() if tag in ("phase", "proficiency")}
        if judged:
            charts.append(("AUROC of phase and proficiency by specialty (Fig. 2b)", specialty_plot(judged, "auroc")))
    categories = published["categories"]
    for tag in [tag for tag in SHOWN_CATEGORIES if tag in categories] or list(categories):
        charts.append((f"{tag}: accuracy by category (Fig. 2c)", category_plot(categories[tag])))
    if comparison := figures.get("comparison"):
        charts.append(("before and after self-labelling (Fig. 5)", gain_plot(comparison["folds"])))
    for task in published["durations"]["counts"]:
        charts.append((f"lengths of {task} clips (Fig. 9)", duration_plot(published["durations"], task)))
    over = {own["over"] for of_tag in categories.values() for own in of_tag.values()}
    return (
        "<section><h2>As the paper shows it</h2><p>Whiskers are one standard error over "
        f"{' or '.join(sorted(over)) or 'folds'}; a bar without whiskers has one value alone.</p>"
        + "".join(plot_card(title, plot) for title, plot in charts)
        + "</section>"
    )


def roc_section(figures: Figures) -> str:
    """Returns the ROC curves of each tag; '' where there is none."""
    curves = {tag: found for tag, found in figures.get("published", {}).get("roc", {}).items() if found["categories"]}
    if not curves:
        return ""
    cards = []
    for tag, found in curves.items():
        cards.append(plot_card(f"{tag} · AUROC {number(found['auroc'])}", roc_plot(found), PAIR_PX))
    return (
        "<section><h2>ROC curves</h2><p>One category against the others, with the true earlier tags given. The thick "
        "line is the mean over categories; in brackets the area below each curve. A category without a curve occurs in "
        f'no test clip, or is the only one.</p><div class="pair">{"".join(cards)}</div></section>'
    )
