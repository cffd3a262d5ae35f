"""The parts that all HTML pages share: the frame with its styles, contents, cards, tables, tiles, bars, numbers.

A page is one file that loads nothing: no network, no fonts, no second file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from halsted_ray import __version__
from halsted_ray.reporting.map_plots import PlotlyFigure
from halsted_ray.reporting.svg_chart import WIDTH_PX, chart_svg

HEADING = re.compile(r"<section><h2>(.*?)</h2>")
EMPTY = {"", "–"}
"""What a cell without a value says."""


def render_page(heading: str, subheading: str, verdict: Sequence[str], sections: Iterable[str]) -> str:
    """Returns the HTML text of a page: heading, verdict, contents, sections.

    ``heading``: plain text. ``subheading`` and ``sections``: HTML. ``verdict``: sentences, plain text.
    """
    body, contents = with_contents("\n".join(sections))
    scripts = f"<script>{own_file('page.js')}</script>"
    return Template(own_file("page.html")).substitute(
        heading=escape(heading),
        subheading=subheading,
        verdict="".join(f"<p>{escape(sentence)}</p>" for sentence in verdict),
        contents=contents,
        sections=body,
        version=__version__,
        styles=own_file("tokens.css") + own_file("page.css"),
        scripts=scripts,
    )


def own_file(name: str) -> str:
    """Returns the text of a file of this package."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def json_text(value: Any) -> str:
    """Returns JSON that can stand inside a script element."""
    # "</" inside a string would end the script element.
    return json.dumps(value, separators=(",", ":")).replace("</", "<\\/")


def with_contents(body: str) -> tuple[str, str]:
    """Returns ``body`` with an id for each section that has a heading, and the table of contents that links to them."""
    titles = HEADING.findall(body)
    ids = [f"part-{index}" for index in range(1, len(titles) + 1)]
    left = iter(ids)
    body = HEADING.sub(lambda found: f'<section id="{next(left)}"><h2>{found[1]}</h2>', body)
    links = "".join(f'<li><a href="#{at}">{title}</a></li>' for at, title in zip(ids, titles, strict=True))
    return body, f'<nav aria-label="Contents"><ol>{links}</ol></nav>'


def table_card(
    columns: Sequence[str], rows: Sequence[Sequence[str]], texts: Collection[str] = (), kind: str = ""
) -> str:
    """Returns a card with a table; a column in which no row has a value is left out, and a sentence names it.

    ``columns``: plain text; two may have the same name. ``rows``: HTML, a cell per column. ``texts``: the columns that
    are not numbers and so are aligned to the left. ``kind``: ``narrow`` for a table of many columns.
    """
    kept = [
        place
        for place, name in enumerate(columns)
        if not name or not rows or any(re.sub(r"<[^>]*>", "", row[place]).strip() not in EMPTY for row in rows)
    ]
    empty = [name for place, name in enumerate(columns) if place not in kept]
    sides = ["" if name in texts or not name else ' class="n"' for name in columns]
    header = "".join(f'<th scope="col"{sides[place]}>{escape(columns[place])}</th>' for place in kept)
    body = "".join("<tr>" + "".join(f"<td{sides[place]}>{row[place]}</td>" for place in kept) + "</tr>" for row in rows)
    left_out = f"<p>Not shown, because no row has a value: {escape(', '.join(empty))}.</p>" if empty else ""
    return (
        f'<div class="card scroll {kind}" tabindex="0"><table><thead><tr>{header}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f"{left_out}"
    )


def folded(summary: str, content: str, is_long: bool = False) -> str:
    """Returns ``content`` (HTML) that the reader unfolds by a click on ``summary`` (HTML). It is unfolded for print,
    unless it ``is_long``."""
    return f'<details class="fold{" long" * is_long}"><summary>{summary}</summary>{content}</details>'


def tile_section(tiles: Iterable[tuple[str, str, str]]) -> str:
    """Returns a row of tiles. Each tile: (value, its name, '' or the style ``warn`` or ``bad``)."""
    return (
        '<section class="tiles">'
        + "".join(
            f'<div class="tile {style}"><b>{value}</b><span>{escape(name)}</span></div>' for value, name, style in tiles
        )
        + "</section>"
    )


def plot_card(title: str, plot: PlotlyFigure, width_px: float = WIDTH_PX) -> str:
    """Returns a card with a heading and a chart. ``width_px``: about how wide the card is, so that letters keep their
    size."""
    return f'<div class="card"><h3>{escape(title)}</h3>{chart_svg(title, plot, width_px)}</div>'


def pill(status: str) -> str:
    """Returns a video's status as a coloured label."""
    return f'<span class="pill {status}">{status}</span>'


def meter(value: float | None, mark: float | None) -> str:
    """Returns a bar for ``value`` with a dark line at ``mark``, both in [0, 1]."""
    return (
        f'<div class="meter"><i style="width:{100 * (value or 0):.1f}%"></i>'
        f'<u style="left:{100 * (mark or 0):.1f}%"></u></div>'
    )


def text_with_code(text: str) -> str:
    """Returns plain text as HTML; what stands in `backquotes` becomes code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def percent(value: float | None) -> str:
    """Returns a share in [0, 1] as text such as ``93.1%``, – for None."""
    return "–" if value is None else f"{100 * value:.1f}%"


def times(value: float | None) -> str:
    """Returns a factor as text such as ``3.5×``, – for None."""
    return "–" if value is None else f"{value:.1f}×"


def number(value: float | None, decimals: int = 2) -> str:
    """Returns a number as text, – for None."""
    return "–" if value is None else f"{value:.{decimals}f}"
