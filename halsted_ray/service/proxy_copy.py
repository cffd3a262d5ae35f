"""The work of a job that makes a copy which browsers play, in the process of the job.

Whatever ends the process, the next try begins anew and overwrites what was left (``clean_upload.py``, whose places and
folders this shares).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from halsted_ray.deidentify.worker import ask_worker
from halsted_ray.errors import DecoderKilled
from halsted_ray.service.clean_upload import at_hand, store
from halsted_ray.service.playback import UNFINISHED_NAME, playback_of
from halsted_ray.video.decode_process import DecodeProcess


@dataclass(frozen=True)
class ProxyRequest:
    """The job: the video at ``original``, its copy at ``out``; both are places of one store. ``duration_s``: of the
    video, for the progress."""

    original: str
    out: str
    duration_s: float


@dataclass(frozen=True)
class ProxyCopy:
    """A copy. ``size_bytes``: None where browsers play the video itself, and no copy was made."""

    size_bytes: int | None


def make_proxy(request: ProxyRequest, on_progress: Callable[[float], None]) -> ProxyCopy:
    """Makes the copy. ``on_progress`` gets the second of the video that is written.

    Raises VideoError where no copy with the same times can be made, StorageUnavailable and OutputError where the store
    or the disk fails now.
    """

    def tell(at_s: float) -> None:
        on_progress(min(at_s, request.duration_s))

    with at_hand(request.original, UNFINISHED_NAME) as (source, unfinished):
        with DecodeProcess() as process:
            probe = process.probe(os.fspath(source))
        if playback_of(probe) == "direct":
            return ProxyCopy(None)
        asked = {"do": "playable", "path": os.fspath(source), "out": os.fspath(unfinished)}
        unfinished.unlink(missing_ok=True)
        try:
            try:
                ask_worker(asked, on_progress=tell)
            except DecoderKilled:  # the first time can be the fault of the machine
                unfinished.unlink(missing_ok=True)
                ask_worker(asked, on_progress=tell)
            size_bytes = unfinished.stat().st_size
            store(unfinished, request.out)
        finally:
            unfinished.unlink(missing_ok=True)
    return ProxyCopy(size_bytes)
