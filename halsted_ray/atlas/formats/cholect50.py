"""Reads CholecT50 (CAMMA-public/cholect50; Nwoye et al., arXiv 2109.03223): action triplets in 50 cholecystectomies.

    ROOT/labels/VIDNN.json             categories, and a list of 15 numbers for each instrument of each second
    ROOT/videos/VIDNN/000000.png       a picture per second

The data set is published as pictures, and an atlas refers to video files: VIDNN.mp4 of the pictures at one per second,
or Cholec80's videoNN.mp4, of which VIDNN is taken. Each stretch of video with the same triplet becomes one sample. At
one moment several may hold, so samples overlap. An atlas holds one sample per span and task: of triplets that begin and
end together the first is taken, and the others are counted. Which instruments are there is a task of its own, in which
all of them have a place.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from halsted_ray.atlas.formats.labelled_spans import meaning
from halsted_ray.atlas.formats.published_set import (
    PublishedSet,
    VideosOfPictures,
    clip_of,
    label_spans,
    require_files,
    tools_there,
)
from halsted_ray.atlas.formats.published_splits import part_in, published_split
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    Recording,
    format_error,
    parse_index,
    parse_number,
)
from halsted_ray.records import Clip

OPERATION = ("General", "Laparoscopic Cholecystectomy")
PICTURES, PICTURES_PER_S = "videos/{name}", 1.0
EXPECTED = "files such as labels/VID06.json, with videos/VID06/ beside: name the folder that holds labels"
PARTS_OF_TRIPLET = ("instrument", "verb", "target")
NOTHING = "null_verb"


@dataclass(frozen=True)
class Frame:
    """The labels of one picture. ``triplets`` and ``instruments``: those that are there, each once. ``phase``: '' where
    the file says none. ``again``: how many instruments do what another one does too."""

    triplets: tuple[str, ...]
    instruments: tuple[str, ...]
    phase: str
    again: int


def label_files(data: PublishedSet) -> dict[str, str]:
    """VIDNN → labels/VIDNN.json."""
    return {posixpath.basename(file).removesuffix(".json"): file for file in data.files("labels/VID*.json")}


def category_names(data: PublishedSet, file: str, kind: str) -> dict[int, str]:
    """Number → name of the categories of a kind, such as ``triplet``. Raises AtlasError."""
    said = data.json(file)
    categories = said.get("categories") if isinstance(said, dict) else None
    own = categories.get(kind) if isinstance(categories, dict) else None
    if not isinstance(own, dict) or not own or not all(str(key).isdecimal() for key in own):
        form = "'instrument,verb,target'" if kind == "triplet" else "name"
        raise format_error(file, f"categories.{kind}", own, f"number to {form}")
    return {int(number): ", ".join(part.strip() for part in str(name).split(",")) for number, name in own.items()}


def read_frames(data: PublishedSet, file: str) -> dict[int, Frame]:
    """Number of the picture → its labels, in order. Raises AtlasError."""
    triplets, said = category_names(data, file, "triplet"), data.json(file)
    frames = said.get("annotations")
    if not isinstance(frames, dict):
        raise format_error(file, "annotations", type(frames).__name__, "frame to its rows of 15 numbers")
    found = {}
    for frame, vectors in frames.items():
        place = f"annotations[{frame!r}]"
        number = parse_index(str(frame), file, 1, "the frame")
        for vector in vectors if isinstance(vectors, list) else [None]:
            if not isinstance(vector, list) or len(vector) != 15 or not isinstance(vector[0], int):
                raise format_error(file, place, vector, "15 numbers, the first the triplet or -1")
        own = [triplets.get(vector[0], "") for vector in vectors if vector[0] >= 0]
        if "" in own:
            wrong = next(vector[0] for vector in vectors if vector[0] >= 0 and vector[0] not in triplets)
            raise format_error(file, place, wrong, "a number of categories.triplet", "unknown-label")
        phases = [vector[14] for vector in vectors if vector[14] != -1]
        if any(phase != phases[0] for phase in phases):
            raise format_error(file, place, phases, "one phase per frame")
        once = tuple(sorted(set(own)))
        found[number] = Frame(
            once,
            tuple(sorted({name.split(", ")[0] for name in own})),
            phase_of(phases[0], data, file, place) if phases else "",
            len(own) - len(once),
        )
    return dict(sorted(found.items()))


def phase_of(number: Any, data: PublishedSet, file: str, place: str) -> str:
    """The name of a phase. Raises AtlasError for a number that is none of the file's. Any: whatever the file holds."""
    names: dict[int, str] = data.once(f"phases of {file}", lambda: category_names(data, file, "phase"))
    if not isinstance(number, int) or number not in names:
        raise format_error(file, place, number, "a number of categories.phase", "unknown-label")
    return names[number]


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the data set in the folder ``source``; one Recording per video. Raises AtlasError with the place at
    fault."""
    data, (split, _) = PublishedSet(source, videos=settings.videos), published_split("cholect50")
    files = label_files(data)
    require_files(files, source, "cholect50", EXPECTED)
    videos, recordings, again = VideosOfPictures(data, settings), [], 0
    for name, file in files.items():
        clips: list[Clip] = []
        per_s, length = 1.0, 0.0
        with settings.or_left_out():
            frames = read_frames(data, file)
            per_s = frames_per_s(data.json(file).get("fps", 1), file)
            length = max(frames, default=-1) + 1.0
            clips = clips_of_frames(frames, file, settings)
            again += sum(frame.again for frame in frames.values())
        number, pictures = name.removeprefix("VID"), PICTURES.format(name=name)
        recordings.append(
            Recording(
                tuple(clips),
                file,
                videos.video([f"{pictures}.mp4", f"videos/video{number}.mp4"], pictures, lambda _: PICTURES_PER_S),
                part=part_in(split, name),
                rate=per_s,
                length_s=length / per_s,
                group=f"cholec80 {number}",
            )
        )
    if again:
        settings.notes.append(
            f"{source}: {again} times an instrument does what another one does at that moment; the atlas says it once"
        )
    settings.notes.extend(videos.notes())
    return recordings


def frames_per_s(said: Any, file: str) -> float:
    """The rate that frames count in. Raises AtlasError. Any: whatever the file holds."""
    rate = parse_number(said, file, "fps", "frames per second")
    if not 0 < rate <= 1000:
        raise format_error(file, "fps", said, "frames per second above 0, as a number")
    return rate


def clips_of_frames(frames: Mapping[int, Frame], file: str, settings: ImportSettings) -> list[Clip]:
    """The samples of one video, in frames. What an atlas can't hold is left out and counted."""
    clips = []
    for start, stop, phase in label_spans([(k, {own.phase} - {""}) for k, own in frames.items()], 1):
        with settings.or_left_out():
            said = meaning("phase", phase, file, f"frame {start}", settings.taxonomy)
            clips.append(clip_of((start, stop), said.task, {said.tag: said.category}, settings, OPERATION))
    rows = [(k, [tools_there(own.instruments, file, settings)]) for k, own in frames.items()]
    clips += [clip_of((a, b), "tools", dict(there), settings, OPERATION) for a, b, there in label_spans(rows, 1)]
    taken = set()
    beside = 0
    spans = label_spans([(k, own.triplets) for k, own in frames.items()], 1)
    # Of triplets with one span, one that says what is done goes before null_verb.
    for start, stop, triplet in sorted(spans, key=lambda span: (span[:2], NOTHING in span[2], span[2])):
        if (start, stop) in taken:
            beside += 1
            continue
        with settings.or_left_out():
            said = meaning("triplet", triplet, file, f"frame {start}", settings.taxonomy)
            taken.add((start, stop))
            tags = dict(zip(PARTS_OF_TRIPLET, said.category.split(", "), strict=False)) | {"triplet": said.category}
            clips.append(clip_of((start, stop), "triplet", tags, settings, OPERATION))
    if beside:
        with settings.or_left_out(beside):
            raise format_error(
                file,
                "annotations",
                f"{beside} triplets that begin and end with another one",
                "one per span: an atlas holds one sample per span and task, so the others are left out",
                "contradiction",
            )
    return clips
