"""Annotation formats, one file each: the layout on disk as it is published, and how it becomes recordings.

    recording.py      what an importer returns, and how it reports an error in a file
    sar_rarp50.py     SAR-RARP50: eight suturing actions
    cholec80.py       Cholec80: seven phases, seven tools
    cholect50.py      CholecT50: phases, tools, triplets of instrument, verb and target
    autolaparo.py     AutoLaparo: seven phases
    multibypass140.py MultiBypass140, StrasBypass70, BernBypass70: phases and steps
    grasp.py          GraSP: phases, steps, tools
    surglavi.py       SurgLaVi-β: narrated captions on three levels, in SQLite
    hsa27k.py         HSA-27k and other tables with one row per clip, by a mapping of their columns (hsa27k.yaml)
    label_studio.py   Label Studio's JSON, read and written
    elan.py           ELAN's .eaf, read and written
    cvat.py           CVAT's XML 1.1, read and written
    via.py            projects of the VGG Image Annotator 3, read and written
    boris.py          BORIS's exports of events
    subtitles.py      WebVTT and SubRip, read and written
    csv_table.py      the atlas's own CSV, read and written
    jsonl.py          the same as JSON lines, read and written
    captions_table.py captions of any atlas, as CSV or JSON lines, read; as JSON lines, written
    conversations.py  questions and answers (LLaVA, ShareGPT), by templates and keys in conversations.yaml

What several of them share:

    labelled_spans.py what a label means, and how labels become samples
    video_names.py    which video a path, URL or name means
    clock_times.py    seconds, clock times and time codes
    xml_files.py      XML from outside, within bounds
    published_set.py  a published data set where it lies; labels of moments become spans
    published_splits.py  the splits of data sets whose authors number the videos

To add a format, add a file with ``read(source, settings) -> list[Recording]``, and ``write`` if it can be written, and
an entry in ``FORMATS``. An importer parses annotations and opens no video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats import (
    autolaparo,
    boris,
    captions_table,
    cholec80,
    cholect50,
    conversations,
    csv_table,
    cvat,
    elan,
    grasp,
    hsa27k,
    jsonl,
    label_studio,
    multibypass140,
    sar_rarp50,
    subtitles,
    surglavi,
    via,
)
from halsted_ray.atlas.formats.recording import ImportSettings, LeftOut, Recording

__all__ = ["FORMATS", "Format", "ImportSettings", "LeftOut", "Recording"]


@dataclass(frozen=True)
class Format:
    """One annotation format."""

    read: Callable[[str, ImportSettings], list[Recording]]
    """``read(source, settings)``"""
    taxonomy: str
    """The format's own taxonomy, or the default where the format fits any; '' takes that of the atlas."""
    write: Callable[[Atlas, str, bool], list[str]] | None = None
    """``write(atlas, folder, with_files)`` returns the written files; None for a format that is only read."""


FORMATS = {
    "sar-rarp50": Format(sar_rarp50.read, "sar_rarp50"),
    "cholec80": Format(cholec80.read, "cholec80"),
    "cholect50": Format(cholect50.read, "cholect50"),
    "autolaparo": Format(autolaparo.read, "autolaparo"),
    "multibypass140": Format(multibypass140.read, "multibypass140"),
    "grasp": Format(grasp.read, "grasp"),
    "surglavi": Format(surglavi.read, "surglavi"),
    "hsa-27k": Format(hsa27k.read, "halsted"),
    "label-studio": Format(label_studio.read, "halsted", label_studio.write),
    "elan": Format(elan.read, "halsted", elan.write),
    "cvat": Format(cvat.read, "halsted", cvat.write),
    "via": Format(via.read, "halsted", via.write),
    "boris": Format(boris.read, "halsted"),
    "vtt": Format(subtitles.read, "halsted", subtitles.write_vtt),
    "srt": Format(subtitles.read, "halsted", subtitles.write_srt),
    "csv": Format(csv_table.read, "halsted", csv_table.write),
    "jsonl": Format(jsonl.read, "halsted", jsonl.write),
    "captions": Format(captions_table.read, "", captions_table.write),
    "conversations": Format(conversations.read, "halsted", conversations.write),
}
