"""`halsted plan`, with the rates of `halsted plan --measure`, against a real run on this machine without a GPU."""

from __future__ import annotations

import json
import os
from pathlib import Path

from measuring import Setting, ratio, timed
from model import trained

from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.planning import planner
from halsted_ray.planning.measure import measured
from halsted_ray.planning.rates import Rates
from halsted_ray.planning.survey import survey

MINUTES = 10
WITHIN = 1.5
"""Close enough for a hospital to know whether to buy one machine or two."""


def measure(setting: Setting) -> list[dict]:
    """The further of planned by measured wall time and of measured by planned."""
    model = trained(setting.cache)
    with setting.place() as folder:
        place = Path(folder)
        archive = setting.archive(place / "archive", MINUTES)
        (place / "rates.json").write_text(json.dumps(measured()))
        found = survey(str(archive), 10)
        # All four tasks together look at every fine window.
        planned = planner.plan(
            found.mapped,
            found.files,
            found.video_s()[0],
            Rates.load(str(place / "rates.json")),
            planner.PlanSetting(gpus=0, cores=os.cpu_count(), preset="tiny", looked_at=1.0),
        )
        took_s, summary = timed(lambda: map_archive(str(archive), str(place / "maps"), model))
    off = max(took_s / planned.wall_s, planned.wall_s / took_s)
    return [
        ratio(
            "`halsted plan`: the further of measured and planned wall time",
            off,
            WITHIN,
            at_most=True,
            rows=f"{summary.video_s / 60:g} min of video",
            why=f"{took_s:.0f} s, planned {planned.wall_s:.0f} s",
        )
    ]
