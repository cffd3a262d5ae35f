"""What an archive seems to hold, from a sample of its files."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from halsted_ray.mapping.inventory import probe_files
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.records import Video
from halsted_ray.video.archive import list_videos


@dataclass(frozen=True)
class Survey:
    """What an archive seems to hold, from the files that were probed: all of them, or some picked at random.

    ``files`` is how many files there are, ``probed`` are the entries of the files that were probed.
    """

    files: int
    probed: tuple[ArchiveFile, ...]

    @property
    def mapped(self) -> list[Video]:
        """The probed files that can be mapped."""
        return [entry.video for entry in self.probed if not entry.code]

    @property
    def is_whole(self) -> bool:
        """Whether all files were probed."""
        return len(self.probed) == self.files

    def video_s(self) -> tuple[float, float, float]:
        """(seconds of video in the archive, lower end, upper end): the interval holds the truth 19 times of 20."""
        lengths_s = [0.0 if entry.code else entry.video.duration_s for entry in self.probed]
        count = len(lengths_s)
        mean_s = sum(lengths_s) / count
        if self.is_whole or count < 2:
            return self.files * mean_s, self.files * mean_s, self.files * mean_s
        variance = sum((length_s - mean_s) ** 2 for length_s in lengths_s) / (count - 1)
        off_s = 1.96 * self.files * math.sqrt(variance / count * (1 - count / self.files))
        return self.files * mean_s, max(0.0, self.files * mean_s - off_s), self.files * mean_s + off_s


def survey(archive: str, sample: int) -> Survey:
    """Lists ``archive`` and probes at most ``sample`` of its files, the same files each time.

    Copies are not looked for. Raises ArchiveError where there is no video.
    """
    uris = list_videos(archive)
    picked = uris if len(uris) <= sample else sorted(random.Random(0).sample(uris, sample))
    return Survey(len(uris), tuple(probe_files(picked, {}, lambda message: None)))
