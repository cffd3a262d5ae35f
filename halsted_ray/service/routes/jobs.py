"""/v1/videos/{video_id}/maps and /v1/jobs: asking for the map of a video, following the job, cancelling it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from halsted_ray.errors import UsageError
from halsted_ray.service import schemas
from halsted_ray.service.clip_tagging import task_of
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import Job
from halsted_ray.service.deps import Components, Id, Reader, Writer
from halsted_ray.service.jobs import ENDS

video_router = APIRouter(prefix="/v1/videos/{video_id}/maps")
router = APIRouter(prefix="/v1/jobs")
EVENTS_EVERY_S = 0.5
"""How often a job is looked at for whoever follows it."""
KEEP_ALIVE_S = 15.0
"""After so many seconds without a change a comment is sent, so that no proxy ends the connection."""


@video_router.post("", status_code=202)
def map_video(caller: Writer, components: Components, video_id: Id, new: schemas.NewMap) -> schemas.JobShown:
    """A job that maps the video. 422 for an instruction that the model does not know, with the nearest known words."""
    taxonomy = components.model_source().taxonomy
    if new.instruction is not None and new.task is not None:
        raise UsageError("give a task or an instruction, not both")
    if new.instruction is not None:
        tasks = [task_of(taxonomy, new.instruction)]
    elif new.task is None or new.task == "all":
        tasks = [task.name for task in taxonomy.tasks]
    else:
        tasks = [taxonomy.task(new.task).name]
    return schemas.show_job(components.jobs.submit(caller, video_id, tasks))


@video_router.get("")
def list_maps(caller: Reader, components: Components, video_id: Id) -> list[schemas.JobShown]:
    """The jobs of a video, newest first."""
    components.videos.get(caller.tenant_id, video_id)
    return [schemas.show_job(job) for job in components.jobs.of_video(caller.tenant_id, video_id)]


@router.get("/{job_id}")
def show_job(caller: Reader, components: Components, job_id: Id) -> schemas.JobShown:
    """One job and its progress."""
    return schemas.show_job(components.jobs.get(caller.tenant_id, job_id))


@router.post("/{job_id}/cancel")
def cancel_job(caller: Writer, components: Components, job_id: Id) -> schemas.JobShown:
    """Cancels a job: at once if it waits, after the segment it is working on if it runs. What is mapped stays."""
    return schemas.show_job(components.jobs.cancel(caller, job_id))


@router.get(
    "/{job_id}/events", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}}
)
def follow_job(caller: Reader, components: Components, job_id: Id) -> StreamingResponse:
    """Server-sent events: ``progress`` whenever something has changed, ``end`` as the last event."""
    first = components.jobs.get(caller.tenant_id, job_id)
    return StreamingResponse(_events(components, first), media_type="text/event-stream")


async def _events(components: ServiceComponents, job: Job) -> AsyncIterator[str]:
    sent, sent_s = "", 0.0
    while True:
        text = schemas.show_job(job).model_dump_json()
        if text != sent:
            name = "end" if job.state in ENDS else "progress"
            sent, sent_s = text, time.monotonic()
            yield f"event: {name}\ndata: {text}\n\n"
        elif time.monotonic() - sent_s > KEEP_ALIVE_S:
            sent_s = time.monotonic()
            yield ": still here\n\n"
        if job.state in ENDS:
            return
        await asyncio.sleep(EVENTS_EVERY_S)
        job = await run_in_threadpool(components.jobs.get, job.tenant_id, job.job_id)
