"""Makes one place of a mapping job endless, in the workers of a Ray that was started with ``HOOK``.

The file ``where`` in the folder of HALSTED_TEST_SLOW names the place; a worker that comes there leaves ``begun`` beside
it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

FOLDER = "HALSTED_TEST_SLOW"
HOOK = "slow_workers.install"


def install() -> None:
    """Ray calls this in each new worker."""
    from halsted_ray.maps.staging import Staging
    from halsted_ray.storage.vectors import VectorStore
    from halsted_ray.video.decode_process import DecodeProcess

    for place, kind, name in (
        ("planning", DecodeProcess, "probe_and_index"),
        ("decoding", DecodeProcess, "read_frames"),
        ("publishing", VectorStore, "pack"),
        ("memory", Staging, "begin"),
    ):
        setattr(kind, name, _endless(place, getattr(kind, name)))


def _endless(place: str, do):
    def wrapped(*arguments, **named):
        folder = Path(os.environ[FOLDER])
        if (folder / "where").read_text() == place:
            (folder / "begun").write_text(str(os.getpid()))
            taken = []
            while True:
                if place == "memory":
                    taken.append(bytes(os.urandom(1024) * 1024 * 20))
                time.sleep(0.1)
        return do(*arguments, **named)

    return wrapped
