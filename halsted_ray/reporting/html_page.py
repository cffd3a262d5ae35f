"""The parts that all HTML pages share: the frame with styles and Plotly, cards, tiles, bars, numbers.

A page is one file that loads nothing: no network, no fonts, no second file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from string import Template

from halsted_ray import __version__
from halsted_ray.reporting.map_plots import PlotlyFigure


def render_page(heading: str, subheading: str, sections: Iterable[str], plots: dict[str, PlotlyFigure]) -> str:
    """Returns the HTML text of a page, about 5 MB, most of it Plotly's JavaScript.

    ``heading``: plain text. ``subheading`` and ``sections``: HTML. ``plots``: the figure of each element id.
    """
    from plotly.offline import get_plotlyjs  # imported here: it takes 0.4 s, and only a page needs it

    return Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8")).substitute(
        heading=escape(heading),
        subheading=subheading,
        sections="\n".join(sections),
        version=__version__,
        plotly=get_plotlyjs(),
        # "</" inside a string would end the script element.
        plots=json.dumps(plots, separators=(",", ":")).replace("</", "<\\/"),
    )


def tile_section(tiles: Iterable[tuple[str, str, str]]) -> str:
    """Returns a row of tiles. Each tile: (value, its name, '' or the style ``warn`` or ``bad``)."""
    return (
        '<section class="tiles">'
        + "".join(
            f'<div class="tile {style}"><b>{value}</b><span>{escape(name)}</span></div>' for value, name, style in tiles
        )
        + "</section>"
    )


def plot_card(plot_id: str, title: str, plot: PlotlyFigure) -> str:
    """Returns a card with a heading, and the element that the page draws the figure ``plot_id`` into."""
    return f'<div class="card"><h3>{escape(title)}</h3>{plot_element(plot_id, plot)}</div>'


def plot_element(plot_id: str, plot: PlotlyFigure) -> str:
    """Returns the element that the page draws the figure ``plot_id`` into."""
    return f'<div class="plot" id="{plot_id}" style="height:{plot["layout"]["height"]:.0f}px"></div>'


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


def number(value: float | None, decimals: int = 2) -> str:
    """Returns a number as text, – for None."""
    return "–" if value is None else f"{value:.{decimals}f}"
