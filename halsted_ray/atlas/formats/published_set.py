"""A published data set where it lies: its files and videos, and how labels of moments become samples.

The importers of data sets and the benchmarks read through it, so that each layout is read by one reader.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from halsted_ray.atlas.formats.recording import ImportSettings, format_error, is_file, json_at, matching_files
from halsted_ray.errors import AtlasError, TaxonomyError, VideoError
from halsted_ray.records import Clip
from halsted_ray.storage.files import list_folder
from halsted_ray.storage.locations import absolute_location, filesystem
from halsted_ray.taxonomy.names import ABSENT_PRESENT
from halsted_ray.video.of_pictures import write_video_of_pictures

Label = TypeVar("Label")
PICTURE_ENDS = (".png", ".jpg", ".jpeg")
VIDEO_ENDS = (".mp4", ".avi", ".mkv", ".mov")
MEDIA_FOLDERS = ("videos/", "frames/")
"""What a layout's places begin with; a place that a person names stands for this folder."""


@dataclass
class PublishedSet:
    """A data set that lies at ``folder``. ``videos``: where its videos are, '' for the places of the layout."""

    folder: str
    videos: str = field(default="", kw_only=True)
    _read: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder = absolute_location(self.folder)
        self.videos = absolute_location(self.videos) if self.videos else ""

    def once(self, key: str, read: Callable[[], Any]) -> Any:
        """What ``read`` gives, kept under ``key`` for the next time. Any: whatever the file holds."""
        if key not in self._read:
            self._read[key] = read()
        return self._read[key]

    def files(self, pattern: str) -> list[str]:
        """The files that fit a pattern below the folder, listed once. Only folders that the pattern names are looked
        into: others may hold a million pictures."""
        head = pattern[: pattern.index("*")].rpartition("/")[0]

        def listed() -> list[str]:
            fs, path = filesystem(f"{self.folder}/{head}".rstrip("/"))
            try:
                is_there = fs.isdir(path)
            except OSError:
                is_there = True  # the listing says why it can't be read
            return matching_files(f"{self.folder}/{head}", pattern[len(head) :].lstrip("/")) if is_there else []

        found: list[str] = self.once(f"files {pattern}", listed)
        return found

    def json(self, file: str) -> Any:
        """The value of a JSON file, read once. Raises AtlasError. Any: whatever the file holds."""
        return self.once(file, lambda: json_at(file))

    def located(self, place: str) -> str:
        """The location of a place of the layout, such as ``videos/video01.mp4``."""
        if not self.videos:
            return f"{self.folder}/{place}"
        folder = next((folder for folder in MEDIA_FOLDERS if place.startswith(folder)), "")
        return f"{self.videos}/{place[len(folder) :]}"

    def video(self, places: Iterable[str]) -> str:
        """The video at the first of ``places`` that has one, in any container; else the first place."""
        locations = [self.located(place) for place in places]
        return next(filter(None, map(video_at, locations)), locations[0])

    def pictures(self, place: str) -> tuple[str, ...]:
        """The pictures of a folder of the data set, or of one that a person named, in the order of their numbers."""
        for folder in dict.fromkeys((f"{self.folder}/{place}", self.located(place))):
            if names := pictures_in(folder):
                return tuple(f"{folder}/{name}" for name in names)
        return ()


@dataclass
class VideosOfPictures:
    """The videos of a data set that is published as pictures: found, made where ``settings`` says so, or told."""

    data: PublishedSet
    settings: ImportSettings
    missing: list[str] = field(default_factory=list)

    def video(self, places: Iterable[str], pictures: str, pictures_per_s: Callable[[str], float]) -> str:
        """As ``PublishedSet.video``. ``pictures``: the place of its pictures; ``pictures_per_s``: their rate, by
        the first one's name. A picture that can't be decoded leaves the video out."""
        places = list(places)
        found = self.data.video(places)
        if is_file(found) or not (own := self.data.pictures(pictures)):
            return found
        if not self.settings.make_videos:
            self.missing.append(pictures)
            return found
        with self.settings.or_left_out():
            try:
                write_video_of_pictures(own, pictures_per_s(posixpath.basename(own[0])), found)
            except VideoError as error:
                raise AtlasError(f"{found}: can't be made: {error}", "no-video") from error
        return found

    def notes(self) -> list[str]:
        """A sentence on the videos that are there as pictures alone, where there are any."""
        if not self.missing:
            return []
        count = "1 video is" if len(self.missing) == 1 else f"{len(self.missing)} videos are"
        return [
            f"{self.data.folder}: {count} there as pictures alone, such as {self.missing[0]}; an atlas refers to video "
            "files: --make-videos writes one of each folder"
        ]


def video_at(location: str) -> str:
    """The video at ``location``, or the same one with another extension, as people re-encode them; '' for none."""
    if is_file(location):
        return location
    folder, name = posixpath.split(location)
    stem = name.rpartition(".")[0].lower()
    found = sorted(own for own in names_in(folder) if own.lower().startswith(f"{stem}."))
    return next((f"{folder}/{own}" for own in found if own.lower().endswith(VIDEO_ENDS)), "")


def names_in(folder: str) -> list[str]:
    """The names of what lies in a folder; none where it is not there."""
    fs, path = filesystem(folder)
    return [posixpath.basename(found.rstrip("/")) for found in list_folder(fs, path)]


def pictures_in(folder: str) -> tuple[str, ...]:
    """The names of the pictures in a folder, in the order of their numbers."""
    names = [name for name in names_in(folder) if name.lower().endswith(PICTURE_ENDS)]
    return tuple(sorted(names, key=lambda name: (picture_number(name), name)))


def picture_number(name: str) -> int:
    """12 of ``img12.jpg``, ``BBP01_00000012.jpg`` and ``000012.png``; −1 where a name has no number."""
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else -1


def require_files(found: Collection[object], folder: str, layout: str, expected: str) -> None:
    """Raises AtlasError where a folder holds no file of a layout. ``expected``: which, and what folder to name."""
    if not found:
        raise AtlasError(f"{folder}: no {layout} here; expected {expected}")


def clip_of(
    span: tuple[float, float], task: str, tags: dict[str, str], settings: ImportSettings, operation: tuple[str, str]
) -> Clip:
    """A sample without its video yet. ``operation``: specialty and procedure."""
    return Clip("", *span, task, tags, annotator=settings.annotator, specialty=operation[0], procedure=operation[1])


def label_spans(rows: Sequence[tuple[float, Collection[Label]]], hold: float) -> list[tuple[float, float, Label]]:
    """(start, stop, label), in the order of starts, of the labels of moments.

    ``rows``: (time, labels that are true), times rising. A row holds until the next one, but not longer than ``hold``.
    Neighbouring rows that share a label make one span of it.
    """
    spans: list[tuple[float, float, Label]] = []
    open_since: dict[Label, float] = {}
    reached = float("-inf")
    stops = [min(rows[k + 1][0], at + hold) if k + 1 < len(rows) else at + hold for k, (at, _) in enumerate(rows)]
    for (at, labels), stop in zip(rows, stops, strict=True):
        ended = [label for label in open_since if at > reached or label not in labels]
        spans += [(open_since.pop(label), reached, label) for label in ended]
        for label in labels:
            open_since.setdefault(label, at)
        reached = stop
    spans += [(start, reached, label) for label, start in open_since.items()]
    return sorted(spans, key=lambda span: span[:2])


def presence(names: Iterable[str], there: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of tag and ``Absent`` or ``Present``: one label that says of each thing whether it is there."""
    return tuple((name, ABSENT_PRESENT[name in there]) for name in names)


def tools_there(names: Collection[str], file: str, settings: ImportSettings) -> tuple[tuple[str, str], ...]:
    """``presence`` of each tag of the task ``tools``. Raises AtlasError for a name that is none of them."""
    tools = settings.taxonomy.task("tools")
    try:
        there = {settings.taxonomy.canonical_tag(tools, name).name for name in names}
    except TaxonomyError as error:
        raise format_error(file, "tools", sorted(names), str(error), "unknown-label") from error
    return presence((tag.name for tag in tools.tags), there)
