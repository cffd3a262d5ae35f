"""Formats of annotations, one file each: how it lies on disk as published, and what becomes of it.

    recording.py      what an importer returns, and how it says that a file is wrong
    sar_rarp50.py     SAR-RARP50: eight suturing actions
    cholec80.py       Cholec80: seven phases, seven tools
    surglavi.py       SurgLaVi-β: narrated captions on three levels, in SQLite
    hsa27k.py         HSA-27k and other tables with a row a clip, by a mapping of their columns
    label_studio.py   Label Studio's JSON, in and out
    csv_table.py      the atlas's own CSV, in and out
    jsonl.py          the same as JSON lines, in and out

A further format is a further file with ``read(source, settings) -> list[Recording]`` (and ``write`` where it can be
written), and its line here. An importer parses and opens no video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from halsted_ray.atlas.formats import cholec80, csv_table, hsa27k, jsonl, label_studio, sar_rarp50, surglavi
from halsted_ray.atlas.formats.recording import ImportSettings, Recording

__all__ = ["FORMATS", "Format", "Recording", "ImportSettings"]


@dataclass(frozen=True)
class Format:
    """``write(atlas, folder, with_files) -> files``; None where a format is only read."""

    read: Callable
    taxonomy: str
    """The taxonomy it brings, or the one it is read in where a person names no other."""
    write: Callable | None = None


FORMATS = {
    "sar-rarp50": Format(sar_rarp50.read, "sar_rarp50"),
    "cholec80": Format(cholec80.read, "cholec80"),
    "surglavi": Format(surglavi.read, "surglavi"),
    "hsa-27k": Format(hsa27k.read, "halsted"),
    "label-studio": Format(label_studio.read, "halsted", label_studio.write),
    "csv": Format(csv_table.read, "halsted", csv_table.write),
    "jsonl": Format(jsonl.read, "halsted", jsonl.write),
}
