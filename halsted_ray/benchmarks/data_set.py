"""A published data set where it lies: its files, its media, and the frames of it that are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from halsted_ray.atlas.formats.published_set import PublishedSet, picture_number

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
class DataSet(PublishedSet):
    """A published data set of which ``target`` is judged, in its part ``within``, both as of ``Benchmark``."""

    target: str = ""
    within: str = ""


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
