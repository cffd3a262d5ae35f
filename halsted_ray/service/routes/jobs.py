"""/v1/videos/{video_id}/maps and /v1/jobs: asking for the map of a video, following the job, cancelling it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from halsted_ray.errors import UsageError
from halsted_ray.service import schemas
from halsted_ray.service.auth import caller_now
from halsted_ray.service.case_access import refusals_recorded
from halsted_ray.service.clip_tagging import task_of
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.deps import (
    AnyCaller,
    ChecksDelete,
    Components,
    MappedCase,
    MappedJob,
    SeenCase,
    SeenJob,
    Writer,
)
from halsted_ray.service.errors import Forbidden, NotFound
from halsted_ray.service.jobs import ENDS
from halsted_ray.service.tables import Job

video_router = APIRouter(prefix="/v1/videos/{video_id}/maps")
router = APIRouter(prefix="/v1/jobs")
KEEP_ALIVE_S = 15.0
"""After so many seconds without a change a comment is sent, so that no proxy ends the connection."""
RIGHTS_EVERY_S = 2.0
"""How often a stream asks whether its client may still follow the job: it ends within 5 s of the right."""


@video_router.post("", status_code=202)
def map_video(case: MappedCase, components: Components, new: schemas.NewMap) -> schemas.JobShown:
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
    return schemas.show_job(components.jobs.submit(case.caller, case.video_id, tasks))


@video_router.get("")
def list_maps(case: SeenCase, components: Components) -> list[schemas.JobShown]:
    """The jobs of a video, newest first."""
    return [schemas.show_job(job) for job in components.jobs.of_video(case.video.tenant_id, case.video_id)]


@router.get("/{job_id}")
def show_job(job: SeenJob) -> schemas.JobShown:
    """One job and its progress."""
    return schemas.show_job(job)


@router.post("/{job_id}/cancel", dependencies=[ChecksDelete])
def cancel_job(request: Request, caller: Writer, components: Components, job: MappedJob) -> schemas.JobShown:
    """Cancels a job: at once if it waits, within some seconds if it runs. The segments that are mapped stay. A video
    whose cleaning is cancelled can't be used, and its bytes are deleted: that takes the right to delete the case."""
    if job.kind == "clean":
        with refusals_recorded(request, caller, "delete"):
            components.cases.require_job(caller, job.job_id, "delete")
    cancelled = components.jobs.cancel(caller, job.job_id)
    if cancelled.kind == "clean":
        components.videos.remove_originals()
    return schemas.show_job(cancelled)


@router.get(
    "/{job_id}/events", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}}
)
async def follow_job(request: Request, caller: AnyCaller, components: Components, job: SeenJob) -> StreamingResponse:
    """Server-sent events: ``progress`` whenever something has changed, ``end`` as the last event. Where the key, the
    session or the share ends meanwhile, ``refused`` is the last event, within 5 s. 429 where the key or the tenant
    follows too many jobs at once."""
    held = AsyncExitStack()
    try:
        await held.enter_async_context(request.app.state.streams_of_tenant.place(caller.tenant_id))
        await held.enter_async_context(request.app.state.streams_of_key.place(f"{caller.user_id} {caller.key_id}"))
    except HTTPException:
        await held.aclose()
        raise
    states = request.app.state.job_following.states(job.tenant_id, job.job_id)
    events = _events(states, lambda: _may_follow(request, components, job.job_id))
    return HeldStream(held, events, media_type="text/event-stream")


def _may_follow(request: Request, components: ServiceComponents, job_id: str) -> bool:
    """Whether whoever began the stream may still see the job. A share that has ended is a refused look."""
    caller = caller_now(request)
    if caller is None:
        return False
    try:
        with refusals_recorded(request, caller, "see"):
            components.cases.require_job(caller, job_id, "see")
    except (NotFound, Forbidden):
        return False
    return True


class HeldStream(StreamingResponse):
    """A stream that gives back what it holds when it ends, however it ends."""

    def __init__(self, held: AsyncExitStack, content: AsyncIterator[str], media_type: str) -> None:
        super().__init__(content, media_type=media_type)
        self.held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the stream."""
        async with self.held:
            await super().__call__(scope, receive, send)


async def _events(states: AsyncGenerator[Job, None], may_follow: Callable[[], bool]) -> AsyncIterator[str]:
    sent, sent_s, asked_s = "", 0.0, time.monotonic()
    async with aclosing(states):
        async for job in states:
            if time.monotonic() - asked_s > RIGHTS_EVERY_S:
                asked_s = time.monotonic()
                if not await run_in_threadpool(may_follow):
                    detail = json.dumps({"detail": "the key, the session or the share has ended"})
                    yield f"event: refused\ndata: {detail}\n\n"
                    return
            text = schemas.show_job(job).model_dump_json()
            if text != sent:
                name = "end" if job.state in ENDS else "progress"
                sent, sent_s = text, time.monotonic()
                yield f"event: {name}\ndata: {text}\n\n"
            elif time.monotonic() - sent_s > KEEP_ALIVE_S:
                sent_s = time.monotonic()
                yield ": still here\n\n"
