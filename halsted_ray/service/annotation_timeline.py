"""What people say about a map, as rows of a timeline that every export takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from halsted_ray.errors import TaxonomyError
from halsted_ray.maps.exports import Row
from halsted_ray.service.annotation_log import ModelRow, Span, without
from halsted_ray.taxonomy import Taxonomy

Layers = Literal["people", "corrected"]
"""people: what people say; corrected: with the model's rows, where nobody says otherwise."""


def rows_of_layer(video_id: str, spans: Sequence[Span], model_rows: Sequence[Row], taxonomy: Taxonomy) -> list[Row]:
    """Rows with the columns ``exports.COLUMNS``, in order of time: of people (``source`` manual, confidence 1) and what
    they leave of ``model_rows``. A row that is cut keeps its confidence."""
    rows = [
        {
            "video_id": video_id,
            "start_s": span.last.start_s,
            "end_s": span.last.stop_s,
            "task": _task_of(taxonomy, span.last.tag),
            "tag": span.last.tag,
            "category": span.last.category,
            "confidence": 1.0,
            "source": "manual",
            "model_version": span.last.model_version,
        }
        for span in spans
        if not span.is_rejected
    ]
    answered = [ModelRow(row["tag"], row["category"], row["start_s"], row["end_s"]) for row in model_rows]
    rows += [
        {**model_rows[number], "start_s": start_s, "end_s": stop_s}
        for number, start_s, stop_s in without(answered, spans)
    ]
    return sorted(rows, key=lambda row: (row["start_s"], row["end_s"], row["task"], row["tag"], row["category"]))


def _task_of(taxonomy: Taxonomy, tag: str) -> str:
    """The task that asks for the tag; '' where the model that is served now no longer knows it."""
    try:
        return taxonomy.task_of_tag(tag).name
    except TaxonomyError:
        return ""
