"""The sample case: a small phantom, an operation that never happened, for whoever has no case yet.

It is drawn when it is asked for, for each user another one, and goes the way of every upload: it is cleaned, then
mapped.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from halsted_ray.phantom.script import make_script
from halsted_ray.phantom.write import write_video
from halsted_ray.service.case_descriptions import Description, write_description
from halsted_ray.service.object_store import PART_BYTES
from halsted_ray.service.tables import StoredVideo, Upload
from halsted_ray.service.users import Caller

if TYPE_CHECKING:
    from halsted_ray.service.components import ServiceComponents

LABEL = "sample"
"""The label of the case, and the mark of its upload."""
PROCEDURE, FIRST_STEP = "Prostatectomy", "Suturing"
LENGTH_S, WIDTH_PX, HEIGHT_PX, FRAMES_PER_S = 60.0, 640, 360, 12.5
"""A minute of suturing. It takes about 3 s of one CPU to draw and has about 1.6 MB."""


def begin_sample(components: ServiceComponents, caller: Caller) -> str:
    """The id of the caller's sample case: the one that they have, else a new one, which is cleaned and mapped for all
    tasks of the model. Raises what uploads raise."""
    with components.database.reading() as session:
        known = session.scalar(
            select(StoredVideo.video_id)
            .join(Upload, (Upload.tenant_id == StoredVideo.tenant_id) & (Upload.video_id == StoredVideo.video_id))
            .where(
                Upload.tenant_id == caller.tenant_id,
                Upload.user_id == caller.user_id,
                Upload.label == LABEL,
                StoredVideo.deleted_s.is_(None),
                StoredVideo.state != "failed",
            )
            .limit(1)
        )
    if known is not None:
        return known
    data = draw_sample(caller)
    upload = components.uploads.begin(caller, len(data), label=LABEL)
    for number, start in enumerate(range(0, len(data), PART_BYTES), start=1):
        components.uploads.put(caller.tenant_id, upload.upload_id, number, data[start : start + PART_BYTES])
    video = components.uploads.complete(caller, upload.upload_id)
    with components.database.writing() as session:
        write_description(session, caller.tenant_id, video.case_id, Description(labels=(LABEL,)))
    tasks = [task.name for task in components.model_source().taxonomy.tasks]
    components.jobs.submit(caller, video.video_id, tasks)
    return video.video_id


def draw_sample(caller: Caller) -> bytes:
    """The video file. Each user gets another one, so that deleting it takes nothing from anybody else."""
    whose = hashlib.sha256(f"{caller.tenant_id}/{caller.user_id}".encode()).digest()
    script = make_script(int.from_bytes(whose[:4], "big"), LENGTH_S, procedure=PROCEDURE, first_step=FIRST_STEP)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.mp4"
        write_video(path, script, WIDTH_PX, HEIGHT_PX, FRAMES_PER_S, crf=28)
        return path.read_bytes()
