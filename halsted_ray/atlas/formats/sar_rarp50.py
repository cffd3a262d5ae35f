"""Reads SAR-RARP50 (Synapse syn27618412 and syn31997652; arXiv 2401.00496): suturing in 50 prostatectomies.

    ROOT/{train1,train2,test}/video_XX[_n]/video_left.avi         60 frames per second
                                           action_continues.txt   "first last class", the last frame is inclusive
                                           action_discrete.txt    "frame,class", every sixth frame

The videos show the suturing of the dorsal venous complex. ``action_continues.txt`` (the data set spells it so) is exact
to the frame. Where it is missing, ``action_discrete.txt`` is read.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from halsted_ray.atlas.formats.published_set import PublishedSet, clip_of, require_files
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    numbered_lines,
    parse_index,
    runs,
)
from halsted_ray.records import Clip

FRAMES_PER_S = 60.0
STEP_FRAMES = 6
OPERATION = ("Urology", "Prostatectomy")
DISCRETE, CONTINUOUS = "action_discrete.txt", "action_continues.txt"
VIDEO = "{name}/video_left.avi"
EXPECTED = (
    "files such as test/video_41/action_discrete.txt (or action_continues.txt), with video_left.avi beside: name the "
    "folder that holds train1, train2 and test"
)
Span = tuple[int, int, int]
"""(first frame, frame after the last, class)"""


def action_files(data: PublishedSet, *names: str) -> dict[str, str]:
    """test/video_41 → its file of actions: the last of ``names`` that is there."""
    files = [file for name in names for file in data.files(f"*/video_*/{name}")]
    return {"/".join(posixpath.dirname(file).rsplit("/", 2)[1:]): file for file in files}


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the data set in the folder ``source``; one Recording per video. Raises AtlasError with file and line."""
    data = PublishedSet(source, videos=settings.videos)
    files = action_files(data, DISCRETE, CONTINUOUS)
    require_files(files, source, "sar-rarp50", EXPECTED)
    classes = settings.taxonomy.tag("action").categories
    recordings = []
    for name, file in sorted(files.items()):
        clips: tuple[Clip, ...] = ()
        with settings.or_left_out():  # a file as a whole: each row says where the row before it ends
            clips = tuple(
                clip_of((first, stop), "action", {"action": classes[label]}, settings, OPERATION)
                for first, stop, label in read_spans(file, len(classes))
            )
        uri, group = data.video([VIDEO.format(name=name)]), operation_of(name)
        recordings.append(Recording(clips, file, uri, part=part_of(name), rate=FRAMES_PER_S, group=group))
    return recordings


def part_of(name: str) -> str:
    """train or test, by the folder."""
    return "test" if name.startswith("test/") else "train" if name.startswith("train") else ""


def operation_of(name: str) -> str:
    """Returns ``sar-rarp50 video_08`` for ``train1/video_08_2``, a fragment of an operation."""
    return f"sar-rarp50 {'_'.join(posixpath.basename(name).split('_')[:2])}"


def read_spans(file: str, classes: int) -> Iterator[Span]:
    """Yields the spans of either file. ``classes``: their number. Raises AtlasError."""
    return (read_discrete if file.endswith(DISCRETE) else read_continuous)(file, classes)


def read_continuous(file: str, classes: int) -> Iterator[Span]:
    """Yields the spans of an ``action_continues.txt``. ``classes``: their number. Raises AtlasError."""
    stop = 0
    for line, text in numbered_lines(file):
        fields = text.split()
        if len(fields) != 3:
            raise format_error(file, line, text, 'three numbers, "first last class"')
        names = ("the first frame", "the last frame", "the class")
        first, last, label = (parse_index(field, file, line, name) for field, name in zip(fields, names, strict=True))
        if label >= classes:
            raise format_error(file, line, label, f"a class of 0 to {classes - 1}")
        if last < first or first < stop - 1:
            raise format_error(
                file, line, text, f"first <= last, and a first frame of {stop} on, after the span before it"
            )
        if last + 1 > max(first, stop):
            yield max(first, stop), last + 1, label
        stop = last + 1


def read_discrete(file: str, classes: int) -> Iterator[Span]:
    """Yields the spans of an ``action_discrete.txt``. ``classes``: their number. Raises AtlasError."""

    def rows() -> Iterator[tuple[int, int]]:
        before = -1
        for line, text in numbered_lines(file):
            fields = text.split(",")
            if line == 1 and fields[0].strip().lower() == "frame":
                continue
            if len(fields) != 2:
                raise format_error(file, line, text, 'two numbers, "frame,class"')
            frame, label = (
                parse_index(fields[0], file, line, "the frame"),
                parse_index(fields[1], file, line, "the class"),
            )
            if label >= classes:
                raise format_error(file, line, label, f"a class of 0 to {classes - 1}")
            if frame <= before:
                raise format_error(file, line, frame, f"a frame after {before}")
            before = frame
            yield frame, label

    return runs(rows(), STEP_FRAMES)
