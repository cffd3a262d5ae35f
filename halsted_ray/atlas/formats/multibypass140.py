"""Reads MultiBypass140 (CAMMA-public/MultiBypass140; Lavanchy et al., arXiv 2312.11250): phases and steps of 140
gastric bypasses, StrasBypass70 and BernBypass70.

    ROOT/labels/{bern,strasbourg}/labels_by70/{BBP,SBP}NN.mp4.json      spans of phases and of steps in milliseconds
    ROOT/labels/*/labels_by70_splits/labels/{train,val,test}/*.pickle   five folds
    ROOT/videos/NAME.mp4, or as the authors' archives unpack: ROOT/{BernBypass70,StrasBypass70}/videos/NAME.mp4

Two labels lie over the phases: ``out_of_body`` and ``severe_index``. They become a task of their own, which says of all
annotated time whether they are there. Each span stands for itself: a wrong one is left out alone.
"""

from __future__ import annotations

import io
import math
import pickle
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from halsted_ray.atlas.formats.labelled_spans import meaning
from halsted_ray.atlas.formats.published_set import PublishedSet, clip_of, label_spans, presence, require_files
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    is_file,
    parse_number,
    read_bytes,
)
from halsted_ray.errors import AtlasError, first_line
from halsted_ray.records import Clip

OPERATION = ("Bariatric", "Gastric Bypass")
VIDEOS = ("videos/{name}.mp4", "BernBypass70/videos/{name}.mp4", "StrasBypass70/videos/{name}.mp4")
EXPECTED = (
    "files such as labels/bern/labels_by70/BBP01.mp4.json: name the folder that holds labels, and the place of the "
    "videos with --videos"
)
LONGEST_MS = 48 * 3_600_000
"""Of an operation. A longer one is a slip of the pen, and each of its seconds would be a row."""
TASKS = {"phases": "phase", "steps": "step"}
"""Key of the label files → task and tag of the taxonomy."""
OVERLAYS = {12: "out_of_body", 13: "severe_index"}
"""Labels among the phases that lie over the phases 0 to 11."""
FOLDS = range(5)
FOLD_FILES = {"train": "train/1fps_100_{fold}", "validation": "val/1fps_{fold}", "test": "test/1fps_{fold}"}
Span = tuple[float, float, int, str]
"""(start_s, stop_s, number of the label, its name)"""


def label_files(data: PublishedSet, centre: str = "") -> dict[str, str]:
    """BBPNN or SBPNN → its JSON file. ``centre``: bern or strasbourg, '' for both."""
    files = data.files(f"labels/{centre or '*'}/labels_by70/*.json")
    return {posixpath.basename(file).split(".")[0]: file for file in files}


def read_spans(data: PublishedSet, file: str, target: str) -> list[Span]:
    """The spans of ``phases`` or ``steps``, those that lie over phases too. Raises AtlasError."""
    said = data.json(file)
    spans = said.get(target) if isinstance(said, dict) else None
    if not isinstance(spans, list):
        raise format_error(file, target, spans, "a list of spans with start, end, label_name and label_id")
    found = []
    for k, span in enumerate(spans):
        place = f"{target}[{k}]"
        if not isinstance(span, dict) or not {"start", "end", "label_name", "label_id"} <= set(span):
            raise format_error(file, place, span, "start, end, label_name and label_id")
        start_ms, stop_ms = (parse_number(span[key], file, place, key) for key in ("start", "end"))
        number = int(parse_number(span["label_id"], file, place, "label_id"))
        if not 0 <= start_ms <= stop_ms <= LONGEST_MS:
            expected = f"milliseconds, the start before the end, {LONGEST_MS:,} at most"
            raise format_error(file, place, f"{start_ms:g} to {stop_ms:g}", expected)
        found.append((start_ms / 1000, stop_ms / 1000, number, str(span["label_name"])))
    return sorted(found)


def base_spans(spans: list[Span], target: str) -> list[Span]:
    """``spans`` without those that lie over phases."""
    return [span for span in spans if target != "phases" or span[2] not in OVERLAYS]


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the data set in the folder ``source``; one Recording per video. Raises AtlasError with the place at
    fault."""
    data = PublishedSet(source, videos=settings.videos)
    files = label_files(data)
    require_files(files, source, "multibypass140", EXPECTED)
    part_of = parts_of_fold(files, settings.fold) if settings.fold is not None else {}
    if settings.fold is None:
        settings.notes.append(
            f"{data.folder}: the data set has five folds, and none is chosen, so that no video has a part yet; --fold "
            "0 to 4 takes one, or `halsted atlas release` draws a split"
        )
    recordings = []
    for name, file in files.items():
        clips: list[Clip] = []
        length_s = 0.0
        with settings.or_left_out():
            spans = {target: read_spans(data, file, target) for target in TASKS}
            length_s = max((stop_s for own in spans.values() for _, stop_s, _, _ in own), default=0.0)
            for target, task in TASKS.items():
                clips += list(clips_of_spans(base_spans(spans[target], target), file, task, settings))
            clips += overlay_clips(spans["phases"], settings)
        uri, group = data.video(place.format(name=name) for place in VIDEOS), f"multibypass140 {name}"
        part = part_of.get(name, "")
        recordings.append(Recording(tuple(clips), file, uri, part=part, length_s=length_s, group=group))
    return recordings


def clips_of_spans(spans: list[Span], file: str, task: str, settings: ImportSettings) -> Iterator[Clip]:
    """Yields the samples of ``task``; spans that are none are left out."""
    for start_s, stop_s, _, label in spans:
        with settings.or_left_out():
            place = f"{task} at {start_s:g} s"
            if start_s == stop_s:
                raise format_error(file, place, stop_s, "an end after the start", "no-span")
            said = meaning(task, label, file, place, settings.taxonomy)
            yield clip_of((start_s, stop_s), said.task, {said.tag: said.category}, settings, OPERATION)


def overlay_clips(phases: list[Span], settings: ImportSettings) -> list[Clip]:
    """Samples that say of all annotated time which of ``OVERLAYS`` are there."""
    changes: dict[float, Counter[int]] = {}
    for start_s, stop_s, number, _ in phases:
        changes.setdefault(start_s, Counter())[number] += 1
        changes.setdefault(stop_s, Counter())[number] -= 1
    rows, going_on = [], Counter[int]()
    for at_s in sorted(changes):
        going_on.update(changes[at_s])
        there = {name for number, name in OVERLAYS.items() if going_on[number]}
        rows.append((at_s, [presence(OVERLAYS.values(), there)] if any(going_on.values()) else []))
    return [
        clip_of((start_s, stop_s), "overlay", dict(tags), settings, OPERATION)
        for start_s, stop_s, tags in label_spans(rows, math.inf)
    ]


def parts_of_fold(files: Mapping[str, str], fold: int) -> dict[str, str]:
    """Name → part, of the fold's split pickles of the centres of ``files``. Raises AtlasError."""
    centres = sorted({posixpath.dirname(posixpath.dirname(file)) for file in files.values()})
    found: dict[str, str] = {}
    for part, form in FOLD_FILES.items():
        for centre in centres:
            file = f"{centre}/labels_by70_splits/labels/{form.format(fold=fold)}.pickle"
            if not is_file(file):
                raise AtlasError(f"{file}: no such file for fold {fold}; fetch the split pickles, or leave --fold out")
            for name in names_of_pickle(read_bytes(file), file):
                if found.setdefault(name, part) != part:
                    raise AtlasError(f"{file}: video {name!r} is in the part {found[name]!r} too; fetch the file again")
    return found


def names_of_pickle(data: bytes, location: str) -> list[str]:
    """The videos of a split pickle, a dict of video to its frames. It is read as plain values alone, and nothing in it
    runs. Raises AtlasError."""
    try:
        said = _PlainValues(io.BytesIO(data)).load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise AtlasError(
            f"{location}: can't be read as a pickle of plain values ({first_line(error)}); fetch the file again "
            "(a benchmark also takes the names of the videos as a text file, one per line)"
        ) from error
    if not isinstance(said, dict) or not all(isinstance(name, str) for name in said):
        raise AtlasError(f"{location}: holds a {type(said).__name__}; expected a dict, video to its frames")
    return list(said)


class _PlainValues(pickle.Unpickler):
    """Reads numbers, texts, lists and dicts. A pickle may name any function, and would run it."""

    def find_class(self, module: str, name: str) -> Any:
        """Raises UnpicklingError, always. Any: the type of the method that it replaces."""
        raise pickle.UnpicklingError(f"it names {module}.{name}")
