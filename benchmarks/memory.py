"""Peak memory of every process for 10 minutes and for 3 hours of video: it must not grow with the length."""

from __future__ import annotations

import shutil
from pathlib import Path

from measuring import Setting, ratio, watched
from model import trained

from halsted_ray.mapping.pipeline import map_archive

SHORT, LONG = 10, 180
SIZE = (640, 360)
RAYS = "memory of Ray itself, which grows with tasks and time"
WHY = {
    "decoding process": "libavformat holds the file's own index while it reads: some 48 bytes a frame",
    "driver": "each segment is put into Ray's store: some 44 kB per segment of a wave, which bounds it",
    "GCS server": RAYS,
    "raylet": RAYS,
    "other processes of Ray": RAYS,
}


def measure(setting: Setting) -> list[dict]:
    """Peak memory of each kind of process, long video against short."""
    model = trained(setting.cache)
    peaks = {}
    with setting.place() as folder:
        for minutes in (SHORT, 10 if setting.quick else LONG):
            archive = setting.archive(Path(folder) / "archive", minutes, *SIZE)
            with watched() as watching:
                map_archive(str(archive), f"{folder}/{len(peaks)}", model)
            peaks[len(peaks)] = watching.mb
            shutil.rmtree(archive)
    short, long = peaks.values()
    return [
        ratio(
            f"peak memory of the {kind}, {LONG / 60:g} h against {SHORT} min",
            long[kind] / short[kind],
            1.1,
            at_most=True,
            rows=f"{SIZE[0]}x{SIZE[1]}",
            why=f"{long[kind]:.0f} against {short[kind]:.0f} MB. {WHY.get(kind, '')}".strip(),
        )
        for kind in sorted(short)
    ]
