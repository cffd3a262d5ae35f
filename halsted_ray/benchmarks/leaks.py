"""Whether a model has seen what judges it: by the content of the videos, and by the names of the recordings.

The second finds what the first cannot: CholecT50 holds pictures of Cholec80's videos, under the same numbers, and a
re-encoded file is another content.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from halsted_ray.atlas import read_atlas
from halsted_ray.benchmarks.benchmark import Benchmark, known
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.records import Video


@dataclass(frozen=True)
class Leak:
    """``by_content`` and ``by_name``: videos that judge and taught or chose the model. ``unnamed``: how many videos the
    model learned from whose names no atlas told. ``is_known``: whether it is known what the model learned from."""

    by_content: tuple[str, ...] = ()
    by_name: tuple[str, ...] = ()
    unnamed: int = 0
    is_known: bool = True

    @property
    def videos(self) -> tuple[str, ...]:
        """All videos of the leak."""
        return tuple(dict.fromkeys([*self.by_content, *self.by_name]))

    def told(self) -> str:
        """The leak in one sentence, or what is not known of it; '' where there is none."""
        if self.videos:
            ways = [
                f"{len(own)} by {how}" for own, how in ((self.by_content, "content"), (self.by_name, "name")) if own
            ]
            return f"the model has learned from {len(self.videos)} of the test videos ({', '.join(ways)})"
        if not self.is_known:
            return "which videos the model has learned from is not known"
        if self.unnamed:
            return (
                f"the names of {self.unnamed} videos that the model has learned from are not known; name their atlas "
                "with --atlas, so that recordings are compared too"
            )
        return ""


def find_leak(
    benchmark: Benchmark,
    test: Mapping[str, str],
    learned: Mapping[str, Collection[str]] | None,
    taught: Sequence[Video],
) -> Leak:
    """``test``: name of each video that judges → its video_id, '' for a folder of pictures. ``learned``: part → ids of
    the videos that a model learned from, None or empty where that can't be known. ``taught``: videos of the atlases."""
    if not learned:
        return Leak(is_known=False)
    ids = {video_id for own in learned.values() for video_id in own}
    named = [video for video in taught if video.video_id in ids]
    recordings = {benchmark.recording(text) for video in named for text in (video.uri, video.group)} - {""}
    return Leak(
        tuple(name for name, video_id in test.items() if video_id in ids),
        tuple(name for name in test if recording_of(benchmark, name) in recordings),
        len(ids - {video.video_id for video in named}),
    )


def recording_of(benchmark: Benchmark, name: str) -> str:
    """The recording of one of the benchmark's own videos."""
    return benchmark.recording(f"{benchmark.layout}/{name}")


def taught_videos(atlases: Sequence[str], version: int | None) -> list[Video]:
    """The videos of the atlases at these locations, as they are now and as they were at ``version``. Raises AtlasError
    for a place without an atlas."""
    found: dict[str, Video] = {}
    for location in atlases:
        found |= {video.video_id: video for video in read_atlas(location, "head").videos}
        if version is not None:
            with suppress(AtlasError):  # the atlas that taught the model may be another one of them
                found |= {video.video_id: video for video in read_atlas(location, version=version).videos}
    return list(found.values())


def require_no_leak(benchmark: Benchmark, leak: Leak) -> None:
    """Raises UsageError where the model has learned from a video that judges it."""
    if leak.videos:
        raise UsageError(
            f"{leak.told()}, such as {leak.videos[0]!r}; what it says of them is no result on {benchmark.name}: take a "
            "model that has not seen them, or give --allow-leak, and the row is marked"
        )


def shared_recordings(benchmark: Benchmark, test: Collection[str]) -> list[str]:
    """Sentences about the test videos that other benchmarks teach with."""
    said = []
    for other in known().values():
        if other.layout == benchmark.layout or other.recordings_of != benchmark.recordings_of:
            continue
        taught = {recording_of(other, name) for part in ("train", "validation") for name in other.parts.get(part, ())}
        if both := sorted(name for name in test if recording_of(benchmark, name) in taught):
            said.append(
                f"{len(both)} of the test videos are training videos of {other.name} ({', '.join(both)}): a model that "
                "was trained on those has seen these"
            )
    return said
