"""SAR-RARP50 (Synapse syn27618412, syn31997652): suturing of the dorsal venous complex in 50 prostatectomies.

    ROOT/{train1,train2,test}/video_XX[_n]/video_left.avi         60 frames a second
                                           action_continues.txt   "first last class", last inclusive (sic)
                                           action_discrete.txt    "frame,class", every sixth frame

The spans of ``action_continues.txt`` are exact to the frame; where it is missing, ``action_discrete.txt`` is read.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    absolute_place,
    as_index,
    files_at,
    is_file,
    numbered_lines,
    runs,
    wrong,
)
from halsted_ray.errors import AtlasError
from halsted_ray.records import Clip

FRAMES_PER_S = 60.0
STEP_FRAMES = 6
OPERATION = {"specialty": "Urology", "procedure": "Prostatectomy"}


def read(source: str, settings: ImportSettings) -> list[Recording]:
    source = absolute_place(source)
    folders = {}
    for name, reader in (("action_discrete.txt", discrete), ("action_continues.txt", continuous)):
        folders |= {posixpath.dirname(file): (file, reader) for file in files_at(source, f"*/video_*/{name}")}
    if not folders:
        raise AtlasError(
            f"{source}: no SAR-RARP50 here; expected train1/video_01/action_continues.txt (or action_discrete.txt) and "
            "the like: name the folder that holds train1, train2 and test"
        )
    recordings = []
    for folder, (file, reader) in sorted(folders.items()):
        classes = settings.taxonomy.tag("action").categories
        clips = tuple(
            Clip("", first, stop, "action", {"action": classes[label]}, annotator=settings.annotator, **OPERATION)
            for first, stop, label in reader(file, len(classes))
        )
        set_name = folder.rsplit("/", 2)[1]
        part = "test" if set_name == "test" else "train" if set_name.startswith("train") else ""
        recordings.append(Recording(clips, file, video_file(folder, settings), part=part, rate=FRAMES_PER_S))
    return recordings


def video_file(folder: str, settings: ImportSettings) -> str:
    if settings.videos:
        folder = posixpath.join(absolute_place(settings.videos), *folder.rsplit("/", 2)[1:])
    found = f"{folder}/video_left.avi"
    # Many re-encode the 3 GB AVIs; the other file then has the name of the first.
    return found if is_file(found) else next(iter(files_at(folder, "video_left.*")), found)


def continuous(file: str, classes: int) -> Iterator[tuple[int, int, int]]:
    stop = 0
    for line, text in numbered_lines(file):
        fields = text.split()
        if len(fields) != 3:
            raise wrong(file, line, text, 'three numbers, "first last class"')
        names = ("the first frame", "the last frame", "the class")
        first, last, label = (as_index(field, file, line, name) for field, name in zip(fields, names, strict=True))
        if label >= classes:
            raise wrong(file, line, label, f"a class of 0 to {classes - 1}")
        if last < first or first < stop - 1:
            raise wrong(file, line, text, f"first <= last, and a first frame of {stop} on, after the span before it")
        if last + 1 > max(first, stop):
            yield max(first, stop), last + 1, label
        stop = last + 1


def discrete(file: str, classes: int) -> Iterator[tuple[int, int, int]]:
    def rows() -> Iterator[tuple[int, int]]:
        before = -1
        for line, text in numbered_lines(file):
            fields = text.split(",")
            if line == 1 and fields[0].strip().lower() == "frame":
                continue
            if len(fields) != 2:
                raise wrong(file, line, text, 'two numbers, "frame,class"')
            frame, label = as_index(fields[0], file, line, "the frame"), as_index(fields[1], file, line, "the class")
            if label >= classes:
                raise wrong(file, line, label, f"a class of 0 to {classes - 1}")
            if frame <= before:
                raise wrong(file, line, frame, f"a frame after {before}")
            before = frame
            yield frame, label

    return runs(rows(), STEP_FRAMES)
