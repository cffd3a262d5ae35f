"""CholecT50: triplets of single pictures.

labels/VIDNN.json    videos/VIDNN/%06d.png
"""

from __future__ import annotations

import posixpath

from halsted_ray.atlas.formats.recording import (
    format_error,
    parse_index,
)
from halsted_ray.benchmarks.data_set import DataSet, Layout, Rows


def files_by_video(data: DataSet) -> dict[str, str]:
    """VIDNN → labels/VIDNN.json."""
    return {posixpath.basename(file).removesuffix(".json"): file for file in data.files("labels/VID*.json")}


def triplet_names(data: DataSet, file: str) -> dict[int, str]:
    """Number → name of the triplets. Raises AtlasError."""
    said = data.json(file)
    own = said.get("categories", {}).get("triplet") if isinstance(said, dict) else None
    if not isinstance(own, dict) or not own or not all(str(key).isdecimal() for key in own):
        raise format_error(file, "categories.triplet", own, "number to 'instrument,verb,target'")
    return {int(number): ", ".join(part.strip() for part in str(name).split(",")) for number, name in own.items()}


def label_names(data: DataSet) -> list[str]:
    """The triplets in the order of their numbers."""
    names = triplet_names(data, next(iter(files_by_video(data).values())))
    return [names[number] for number in sorted(names)]


def judged_frames(data: DataSet, name: str, file: str) -> Rows:
    """Every annotated frame; one without a triplet has no label."""
    names, said = triplet_names(data, file), data.json(file)
    frames = said.get("annotations")
    if not isinstance(frames, dict):
        raise format_error(file, "annotations", type(frames).__name__, "frame to its rows of 15 numbers")
    rows = []
    for frame, vectors in frames.items():
        number, found = parse_index(str(frame), file, 1, "the frame"), set[str]()
        for vector in vectors if isinstance(vectors, list) else [None]:
            if not isinstance(vector, list) or len(vector) != 15 or not isinstance(vector[0], int):
                raise format_error(file, f"annotations[{frame!r}]", vector, "15 numbers, the first the triplet or -1")
            if vector[0] >= 0:
                if vector[0] not in names:
                    raise format_error(file, f"annotations[{frame!r}]", vector[0], "a number of categories.triplet")
                found.add(names[vector[0]])
        rows.append((float(number), tuple(sorted(found))))
    return sorted(rows)


LAYOUT = Layout(
    "files such as labels/VID06.json, with videos/VID06/ beside",
    files_by_video,
    judged_frames,
    ("videos/{name}",),
    label_names,
    is_numbered=True,
)
