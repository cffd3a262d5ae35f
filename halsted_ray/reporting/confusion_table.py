"""A confusion matrix as a table of the page, truth by prediction."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any


def confusion_card(card_id: str, title: str, confusion: Mapping[str, Any]) -> str:
    """Returns a card with the matrix of the categories that occur; the shade of a cell is its share of the row.

    ``confusion``: ``categories`` (K names) and ``counts`` [K, K + 1], where the last column counts windows without a
    prediction.
    """
    counts = confusion["counts"]
    labels = [*confusion["categories"], "(no prediction)"]
    seen = [k for k in range(len(labels) - 1) if any(counts[k]) or any(row[k] for row in counts)]
    columns = [*seen, len(labels) - 1] if any(row[-1] for row in counts) else seen
    header = "".join(f'<th scope="col"><span>{escape(labels[column])}</span></th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(labels[k])}</th>'
        + "".join(_cell(counts[k][column], sum(counts[k]), labels[k], labels[column]) for column in columns)
        + "</tr>"
        for k in seen
    )
    return (
        f'<div class="card" tabindex="0" id="{escape(card_id)}"><h3>{escape(title)}</h3>'
        '<table class="confusion"><thead><tr>'
        f"<td></td>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(count: int, total: int, truth: str, said: str) -> str:
    if not count:
        return "<td></td>"
    return (
        f'<td style="background:color-mix(in srgb,var(--deepest) {100 * count / total:.0f}%,var(--card))" '
        f'title="truth {escape(truth)}, predicted {escape(said)}: {count} of {total} windows">{count}</td>'
    )
