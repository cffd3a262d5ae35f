"""Reads SAR-RARP50 (Synapse syn27618412 and syn31997652; arXiv 2401.00496): suturing in 50 prostatectomies.

    ROOT/{train1,train2,test}/video_XX[_n]/video_left.avi         60 frames per second
                                           action_continues.txt   "first last class", the last frame is inclusive
                                           action_discrete.txt    "frame,class", every sixth frame

The videos show the suturing of the dorsal venous complex. ``action_continues.txt`` (the data set spells it so) is exact
to the frame. Where it is missing, ``action_discrete.txt`` is read.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator

from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    is_file,
    matching_files,
    numbered_lines,
    parse_index,
    runs,
)
from halsted_ray.errors import AtlasError
from halsted_ray.records import Clip
from halsted_ray.storage.locations import absolute_location

FRAMES_PER_S = 60.0
STEP_FRAMES = 6
SPECIALTY, PROCEDURE = "Urology", "Prostatectomy"
Span = tuple[int, int, int]
"""(first frame, frame after the last, class)"""


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the data set in the folder ``source``; one Recording per video. Raises AtlasError with file and line."""
    source = absolute_location(source)
    folders: dict[str, tuple[str, Callable[[str, int], Iterator[Span]]]] = {}
    for name, reader in (("action_discrete.txt", read_discrete), ("action_continues.txt", read_continuous)):
        for file in matching_files(source, f"*/video_*/{name}"):
            folders[posixpath.dirname(file)] = file, reader
    if not folders:
        raise AtlasError(
            f"{source}: no SAR-RARP50 here; expected files such as train1/video_01/action_continues.txt (or "
            "action_discrete.txt): name the folder that holds train1, train2 and test"
        )
    recordings = []
    for folder, (file, read_spans) in sorted(folders.items()):
        classes = settings.taxonomy.tag("action").categories
        clips: tuple[Clip, ...] = ()
        with settings.or_left_out():  # a file as a whole: each row says where the row before it ends
            clips = tuple(
                Clip(
                    "",
                    first,
                    stop,
                    "action",
                    {"action": classes[label]},
                    annotator=settings.annotator,
                    specialty=SPECIALTY,
                    procedure=PROCEDURE,
                )
                for first, stop, label in read_spans(file, len(classes))
            )
        set_name = folder.rsplit("/", 2)[1]
        part = "test" if set_name == "test" else "train" if set_name.startswith("train") else ""
        uri = video_file(folder, settings)
        recordings.append(Recording(clips, file, uri, part=part, rate=FRAMES_PER_S, group=operation_of(folder)))
    return recordings


def operation_of(folder: str) -> str:
    """Returns ``sar-rarp50 video_08`` for the folder ``…/train1/video_08_2``, a fragment of an operation."""
    return f"sar-rarp50 {'_'.join(posixpath.basename(folder).split('_')[:2])}"


def video_file(folder: str, settings: ImportSettings) -> str:
    """Returns the URI of the video that belongs to the annotations in ``folder``."""
    if settings.videos:
        folder = posixpath.join(absolute_location(settings.videos), *folder.rsplit("/", 2)[1:])
    found = f"{folder}/video_left.avi"
    # Many people re-encode the AVIs of 3 GB. The new file has the same name and another extension.
    return found if is_file(found) else next(iter(matching_files(folder, "video_left.*")), found)


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
