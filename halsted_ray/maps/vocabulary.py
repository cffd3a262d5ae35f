"""A timeline in another vocabulary: rows of one taxonomy as rows of another, by stated relations between the two.

Only what is equal to a category, or part of it, becomes a row of it. What is merely related is no row, so a timeline in
another vocabulary may say less, and never says more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from halsted_ray.maps.stitch_table import taxonomy_of
from halsted_ray.maps.stitches import NO_ANSWER
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA
from halsted_ray.maps.timeline import DECIMALS, TOUCHING_S
from halsted_ray.records import TIMELINE_ORDER
from halsted_ray.taxonomy import Taxonomy, load
from halsted_ray.taxonomy.relations import load_relations, relations_between


@dataclass(frozen=True)
class TranslatedTimeline:
    """``rows``: TIMELINE_SCHEMA, in the other taxonomy. ``without``: (tag, category) of the rows that have no
    counterpart → how many."""

    rows: pa.Table
    without: Mapping[tuple[str, str], int]
    taxonomy: Taxonomy


def translated(timeline: pa.Table, vocabulary: str, taxonomy: Taxonomy | None = None) -> TranslatedTimeline:
    """``timeline`` (TIMELINE_SCHEMA) in ``vocabulary``: the name of a taxonomy with shipped relations to that of the
    rows, or a YAML file of relations (``taxonomy.relations``).

    ``taxonomy``: of rows whose taxonomy does not ship with this package. The confidence of a row stays, which is a
    lower bound where its category is only a part; neighbours that become one row have its mean, by their length. A row
    without an answer stays for each task that its task leads to. Raises TaxonomyError, UsageError.
    """
    table = timeline.select(TIMELINE_SCHEMA.names).to_pylist()
    of_rows = taxonomy_of(table[0]["taxonomy_digest"] if table else "", taxonomy)
    if vocabulary.endswith((".yaml", ".yml")):
        relations = load_relations(vocabulary, () if taxonomy is None else (taxonomy,))
    else:
        wanted = load(vocabulary)
        if wanted.digest == of_rows.digest:
            return TranslatedTimeline(timeline, {}, wanted)
        relations = relations_between(of_rows, wanted)
    reading = relations.reading(of_rows)
    other = relations.second if of_rows.digest == relations.first.digest else relations.first
    tasks_of = _tasks_of(reading, of_rows, other)
    without: Counter[tuple[str, str]] = Counter()
    found: list[dict[str, Any]] = []
    for row in table:
        same = row | {"taxonomy_digest": other.digest, "windows": None, "share": None, "margin": None}
        if row["source"] in NO_ANSWER:
            found += [same | {"task": task} for task in sorted(tasks_of.get(row["task"], ()))]
        elif (row["tag"], row["category"]) in reading:
            for tag, category in reading[row["tag"], row["category"]].items():
                found.append(same | {"task": other.task_of_tag(tag).name, "tag": tag, "category": category})
        else:
            without[row["tag"], row["category"]] += 1
    rows = pa.Table.from_pylist(_joined(found), schema=TIMELINE_SCHEMA)
    return TranslatedTimeline(rows.sort_by([(name, "ascending") for name in TIMELINE_ORDER]), without, other)


def _tasks_of(
    reading: Mapping[tuple[str, str], Mapping[str, str]], of_rows: Taxonomy, other: Taxonomy
) -> dict[str, set[str]]:
    """Task of the rows → tasks of the other taxonomy that its categories lead to."""
    found: dict[str, set[str]] = {}
    for (tag, _), targets in reading.items():
        tasks = found.setdefault(of_rows.task_of_tag(tag).name, set())
        tasks.update(other.task_of_tag(target).name for target in targets)
    return found


def _joined(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``rows`` with neighbours of one lane and category that touch as one row."""
    joined: list[dict[str, Any]] = []
    newest: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["video_id"], row["start_s"], row["stop_s"])):
        lane = tuple(row[name] for name in ("video_id", "task", "tag", "category", "source", "model_version"))
        last = newest.get(lane)
        if last is not None and row["start_s"] <= last["stop_s"] + TOUCHING_S:
            before_s, more_s = last["stop_s"] - last["start_s"], max(0.0, row["stop_s"] - last["stop_s"])
            sure = last["confidence"] * before_s + row["confidence"] * more_s
            last["confidence"] = round(sure / (before_s + more_s), DECIMALS)
            last["stop_s"] = max(last["stop_s"], row["stop_s"])
        else:
            newest[lane] = dict(row)
            joined.append(newest[lane])
    return joined
