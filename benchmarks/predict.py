"""`halsted plan` against a real run on this machine: 1080p30 H.264, no GPU.

    python benchmarks/predict.py [--minutes 4]

Measures the machine as ``halsted plan --measure`` does, plans, maps, and prints both wall times. On a machine that
others use too the run takes longer than its CPU seconds say, so the share of time that it got is printed beside.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from footage import repeat, write_minute

from halsted_ray.mapping.inventory import survey
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.mapping.planner import Setting, plan
from halsted_ray.mapping.rates import Rates, measured
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted

FACTOR = 2.0


def measure(minutes: int = 4) -> dict:
    """The ratio of the measured to the predicted wall time, as an entry of ``benchmarks/results/latest.json``."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "archive").mkdir()
        write_minute(place / "minute.mp4", 20)
        repeat(place / "archive" / "video.mp4", place / "minute.mp4", 3 * minutes)
        encoder = Encoder.load("tiny")
        model = Halsted.create(None, encoder.dim, encoder_ref="tiny", encoder_fingerprint=encoder.fingerprint)
        model.save(str(place / "model"))
        (place / "rates.json").write_text(json.dumps(measured()))
        found = survey(str(place / "archive"), 10)
        # An untrained model looks at fine windows everywhere.
        setting = Setting(gpus=0, cores=os.cpu_count(), preset="tiny", looked_at=1.0)
        planned = plan(found.mapped, found.files, found.video_s()[0], Rates.load(str(place / "rates.json")), setting)
        idle, started_s = _idle_s(), time.perf_counter()
        summary = map_archive(str(place / "archive"), str(place / "maps"), str(place / "model"))
        took_s = time.perf_counter() - started_s
        assert summary.exit_code == 0
        print(f"{minutes} min of video: predicted {planned.wall_s:.0f} s, measured {took_s:.0f} s; "
              f"{os.cpu_count()} cores, idle {(_idle_s() - idle) / took_s / os.cpu_count():.0%} of the time; "
              f"load {os.getloadavg()[0]:.1f}")
    ratio = took_s / planned.wall_s
    return {"name": "mapping's wall time against its plan", "value": round(ratio, 2), "unit": "x", "bar": FACTOR,
            "holds": 1 / FACTOR <= ratio <= FACTOR}


def _idle_s() -> float:
    """Seconds that all cores were idle since the start (Linux)."""
    return float(Path("/proc/uptime").read_text().split()[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=4)
    print(json.dumps(measure(parser.parse_args().minutes)))
