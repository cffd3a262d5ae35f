"""The annotations of published data sets, each by its layout: which frames are judged, and what is true of them.

Where a data set has videos, a folder ``frames/NAME`` with one picture per second is taken in their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from halsted_ray.atlas.formats.published_set import VIDEO_ENDS, pictures_in, require_files, video_at
from halsted_ray.benchmarks.data_set import DataSet, LabelledVideo, Layout, Media
from halsted_ray.benchmarks.layouts import autolaparo, cholec80, cholect50, grasp, multibypass140, sar_rarp50
from halsted_ray.errors import AtlasError, UsageError

LAYOUTS: Mapping[str, Layout] = {
    "cholec80": cholec80.LAYOUT,
    "autolaparo": autolaparo.LAYOUT,
    "multibypass140": multibypass140.LAYOUT,
    "grasp": grasp.LAYOUT,
    "sar-rarp50": sar_rarp50.LAYOUT,
    "cholect50": cholect50.LAYOUT,
}


def layout_of(name: str) -> Layout:
    """The layout of this name. Raises UsageError."""
    if name not in LAYOUTS:
        raise UsageError(f"no layout {name!r}; expected one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def annotation_files(data: DataSet, layout: str) -> dict[str, str]:
    """Name of each annotated video → its annotation file. Raises AtlasError where the folder has another layout."""
    found = LAYOUTS[layout].annotations(data)
    require_files(found, data.folder, layout, LAYOUTS[layout].expected)
    return found


def labels_of(data: DataSet, layout: str) -> list[str]:
    """The labels that the data set's files name. Raises AtlasError."""
    read = LAYOUTS[layout].labels
    assert read is not None, f"{layout} names no labels; its benchmark's file must"
    return read(data)


def find_media(data: DataSet, layout: str, name: str) -> Media | None:
    """The video file or the folder of pictures of one video; None where there is none."""
    for place in LAYOUTS[layout].places:
        location = data.located(place.format(name=name))
        if location.endswith(VIDEO_ENDS):
            if found := video_at(location):
                return Media(found)
        elif pictures := pictures_in(location):
            return Media(location, pictures, LAYOUTS[layout].pictures_per_s(pictures[0]))
    return None


def read_video(data: DataSet, layout: str, name: str, file: str, media: Media, labels: Sequence[str]) -> LabelledVideo:
    """The judged frames of one video. Raises AtlasError, with file and line, for annotations that can't be read or name
    a label that is not among ``labels``."""
    rows = LAYOUTS[layout].rows(data, name, file)
    known = set(labels)
    for at, own in rows:
        if wrong := [label for label in own if label not in known]:
            raise AtlasError(f"{file}, at {at:g}: got {wrong[0]!r}; expected a label of {', '.join(labels[:8])}…")
    if not rows:
        raise AtlasError(f"{file}: no labelled frame of {name!r}; fetch the file again")
    if not LAYOUTS[layout].is_numbered:
        return LabelledVideo(name, media, tuple(at for at, _ in rows), tuple(own for _, own in rows))
    place_of = media.place_of()
    seen = [(place_of[int(number)], own) for number, own in rows if int(number) in place_of]
    times_s = tuple(place / media.per_s for place, _ in seen)
    return LabelledVideo(name, media, times_s, tuple(own for _, own in seen), len(rows) - len(seen))
