"""A published data set where it lies: its files, its media, and the frames of it that are judged."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from halsted_ray.atlas.formats.recording import (
    json_of,
    matching_files,
    read_text,
)
from halsted_ray.errors import AtlasError
from halsted_ray.storage.files import list_folder
from halsted_ray.storage.locations import absolute_location, filesystem

PICTURE_ENDS = (".png", ".jpg", ".jpeg")
VIDEO_ENDS = (".mp4", ".avi", ".mkv", ".mov")
PICTURES_PER_S = 1.0
"""Of a folder of pictures, unless its layout says otherwise."""

Rows = Sequence[tuple[float, tuple[str, ...]]]
"""(seconds from the start, or the picture's number; the labels that are true), in order."""


@dataclass(frozen=True)
class Media:
    """What is seen: a video file, or a folder with ``pictures`` (names in order), ``per_s`` of them per second."""

    uri: str
    pictures: tuple[str, ...] = ()
    per_s: float = PICTURES_PER_S

    @property
    def length_s(self) -> float:
        """Of a folder of pictures."""
        return len(self.pictures) / self.per_s

    def place_of(self) -> dict[int, int]:
        """Number in a picture's name → its place in ``pictures``."""
        return {picture_number(name): k for k, name in enumerate(self.pictures)}


@dataclass(frozen=True)
class LabelledVideo:
    """One video with its judged frames. ``times_s``: seconds from its start. ``truth``: the labels of each frame.
    ``unseen``: labelled frames without a picture."""

    name: str
    media: Media
    times_s: tuple[float, ...]
    truth: tuple[tuple[str, ...], ...]
    unseen: int = 0


@dataclass
class DataSet:
    """A data set that lies at ``folder``. ``target`` and ``within`` as of ``Benchmark``. ``videos``: where its videos
    or pictures are, '' for the places of the layout."""

    folder: str
    target: str
    within: str = ""
    videos: str = ""
    _read: dict[str, Any] = field(default_factory=dict)
    _listed: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = absolute_location(self.folder)
        self.videos = absolute_location(self.videos) if self.videos else ""

    def files(self, pattern: str) -> list[str]:
        """The files that fit a pattern below the folder, listed once."""
        if pattern not in self._listed:
            self._listed[pattern] = matching_files(self.folder, pattern)
        return self._listed[pattern]

    def once(self, key: str, read: Callable[[], Any]) -> Any:
        """What ``read`` gives, kept under ``key`` for the next time. Any: whatever the file holds."""
        if key not in self._read:
            self._read[key] = read()
        return self._read[key]

    def json(self, file: str) -> Any:
        """The value of a JSON file, read once. Raises AtlasError. Any: whatever the file holds."""
        try:
            return self.once(file, lambda: json_of(read_text(file)))
        except ValueError as error:
            if isinstance(error, AtlasError):
                raise
            raise AtlasError(f"{file}: not JSON ({error}); fetch the file again") from error


@dataclass(frozen=True)
class Layout:
    """How a data set is published. ``annotations``: name of a video → its annotation file. ``rows``: the judged frames
    of one video. ``labels``: those that the data set's files name. ``places``: where a video or its folder of pictures
    may be. ``is_numbered``: rows give the number of a picture, not a time. ``part_of``: the part of a video that the
    data set's files say, '' for none. ``descriptions``: label → what the files say of it, of those that they describe.
    ``pictures_per_s``: of a folder, by the name of its first picture."""

    expected: str
    annotations: Callable[[DataSet], dict[str, str]]
    rows: Callable[[DataSet, str, str], Rows]
    places: tuple[str, ...]
    labels: Callable[[DataSet], list[str]] | None = None
    is_numbered: bool = False
    part_of: Callable[[DataSet, str], str] = lambda data, name: ""
    descriptions: Callable[[DataSet], dict[str, str]] = lambda data: {}
    pictures_per_s: Callable[[str], float] = lambda picture: PICTURES_PER_S


def picture_number(name: str) -> int:
    """12 of ``img12.jpg``, ``BBP01_00000012.jpg`` and ``000012.png``; −1 where a name has no number."""
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else -1


def names_in(folder: str) -> list[str]:
    """The names of what lies in a folder; none where it is not there."""
    fs, path = filesystem(folder)
    return [posixpath.basename(found.rstrip("/")) for found in list_folder(fs, path)]


def other_container(place: str) -> str:
    """The same video with another extension, as people re-encode them; '' where there is none."""
    folder, name = posixpath.split(place)
    stem = name.rpartition(".")[0]
    found = sorted(own for own in names_in(folder) if own.lower().startswith(f"{stem}.".lower()))
    videos = [own for own in found if own.lower().endswith(VIDEO_ENDS)]
    return f"{folder}/{videos[0]}" if videos else ""
