"""The wire protocol of the published ``halsted-sdk`` 0.1.0, over the same uploads, jobs and timelines.

    create, upload, complete      an upload; the SDK's own id of the video is its label
    upload-json, invoke (ffmpeg)  the job that maps the video for all tasks; the job's clips are spans of a minute
    upload-json, invoke (clip)    nothing is left to do: the rows of a clip are rows of the timeline
    list-objects, get-file        whether the job has ended, and its result

The SDK reads JSON fields only, never the HTTP status, so every answer carries ``statusCode`` and ``body``. After a
refusal of ``complete`` or ``upload-json`` the SDK stops with an error of its own; after any other refusal it ends with
a KeyError. ``invoke`` does not name its video. So it gets the first video that the same key has announced and not
started yet; where there are several, the first that came from the same address. Two programs with one key can be
mixed up, two keys can't.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from halsted_ray.errors import UsageError, VideoError
from halsted_ray.service.case_access import refusals_recorded
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import now_s
from halsted_ray.service.deps import BaseUrl, ChecksMap, ChecksTimeline, ChecksUpload, Components, Writer
from halsted_ray.service.errors import Forbidden, NotFound, StateConflict
from halsted_ray.service.jobs import ENDS
from halsted_ray.service.object_store import MAX_PARTS, StoreFull
from halsted_ray.service.storage_room import QuotaExceeded
from halsted_ray.service.tables import Job, SdkAnnouncement, Upload
from halsted_ray.service.users import Caller

log = logging.getLogger(__name__)
CLIP_S = 60.0
"""The length of the clips that the SDK sees."""
PATIENCE_S = 3000.0
"""After so long the clips of a running job are shown: the SDK waits an hour at most, and another hour per clip."""
LOOK_EVERY_S = 0.5
"""How often a job is looked at while a poll is held open."""
_CLIP_ID = re.compile(r"([0-9a-f]{16})-(\d{1,6})")
_LOCATION = re.compile(r"halsted://([0-9a-f]{16})/(clips|\d{1,6})(\.failed)?\.json")


STATUS = ((NotFound, 404), (Forbidden, 403), (StateConflict, 409), (QuotaExceeded, 413), (StoreFull, 507))
"""Error → HTTP status, as elsewhere in the service; every other one is 422."""


class SdkRoute(APIRoute):
    """A route whose refusals have the form that the SDK reads."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the route with the errors of the service as answers."""
        handle = super().get_route_handler()

        async def wrapped(request: Request) -> Response:
            try:
                return await handle(request)
            except HTTPException as error:
                return refusal(error.status_code, str(error.detail), error.headers)
            except RequestValidationError:
                return refusal(422, "this is not a request of halsted-sdk 0.1.0")
            except (UsageError, VideoError, StoreFull) as error:
                return refusal(next((status for kind, status in STATUS if isinstance(error, kind)), 422), str(error))

        return wrapped


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A refusal in the form that the SDK reads."""
    return JSONResponse({"statusCode": status, "body": {"error": message}}, status, headers)


router = APIRouter(route_class=SdkRoute, tags=["halsted-sdk 0.1.0"])
Label = Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{1,64}$")]


class SdkBody(BaseModel):
    """What every body of the SDK holds."""

    username: str = Field(max_length=64)


class Create(SdkBody):
    """A video to send."""

    video_id: Label


class NextPart(Create):
    """A part to send."""

    part_number: int = Field(ge=1, le=MAX_PARTS)
    upload_id: Label


class SentPart(BaseModel):
    """A part that was sent, as S3 names it."""

    PartNumber: int = Field(ge=1, le=MAX_PARTS)
    ETag: str = Field(max_length=128)


class Complete(Create):
    """The parts of a video that were sent."""

    upload_id: Label
    parts: list[SentPart] = Field(max_length=MAX_PARTS)


class Announced(BaseModel):
    """What ``invoke`` will mean."""

    endpoint: Literal["ffmpeg", "processing"]
    video_id: Label
    clip_id: Label | None = None


class Announce(SdkBody):
    """An announcement."""

    extra_inputs: Announced


class Invoked(BaseModel):
    """What to invoke."""

    clip_id: Label | None = None


class Invoke(SdkBody):
    """A call of ffmpeg, for a video, or of processing, for a clip."""

    endpoint: Literal["ffmpeg", "processing"]
    extra_inputs: Invoked = Invoked()


class Located(BaseModel):
    """A place that ``invoke`` named."""

    path_to_s3_uri: str = Field(max_length=200)


@router.post("/create/invoke")
def create(caller: Writer, components: Components, body: Create) -> dict[str, Any]:
    """Begins an upload. ``video_id`` is the SDK's own id of the video."""
    _check_name(caller, body)
    return _answer(UploadId=components.uploads.begin(caller, label=body.video_id).upload_id)


@router.post("/upload/invoke", dependencies=[ChecksUpload])
def next_part(
    request: Request, caller: Writer, components: Components, base: BaseUrl, body: NextPart
) -> dict[str, Any]:
    """An address that takes one part by PUT."""
    _check_name(caller, body)
    _check_upload(request, components, caller, body.upload_id)
    return _answer(url=components.uploads.address(caller.tenant_id, body.upload_id, body.part_number, base))


@router.post("/complete/invoke", dependencies=[ChecksUpload])
def complete(request: Request, caller: Writer, components: Components, body: Complete) -> dict[str, Any]:
    """Makes the parts a video."""
    _check_name(caller, body)
    _check_upload(request, components, caller, body.upload_id)
    etags = {part.PartNumber: part.ETag for part in body.parts}
    return _answer(video_id=components.uploads.complete(caller, body.upload_id, etags).video_id)


@router.post("/data/upload-json", dependencies=[ChecksTimeline])
def announce(request: Request, caller: Writer, components: Components, body: Announce) -> dict[str, Any]:
    """Announces the video or the clip of the next ``invoke`` of this endpoint."""
    _check_name(caller, body)
    if body.extra_inputs.endpoint == "processing":
        _clip(request, components, caller, body.extra_inputs.clip_id)
        return _answer()
    with components.database.writing() as session:
        upload = session.scalar(
            select(Upload)
            .where(
                Upload.tenant_id == caller.tenant_id,
                Upload.user_id == caller.user_id,
                Upload.label == body.extra_inputs.video_id,
                Upload.state == "complete",
            )
            .order_by(Upload.created_s.desc())
            .limit(1)
        )
        if upload is None:
            raise NotFound("no upload of a video with this id was completed")
        session.add(
            SdkAnnouncement(
                key_id=caller.key_id,
                endpoint="ffmpeg",
                created_s=now_s(),
                payload={"video_id": upload.video_id, "address": caller.address},
            )
        )
    return _answer()


@router.post("/process/invoke", dependencies=[ChecksTimeline, ChecksMap])
def invoke(request: Request, caller: Writer, components: Components, body: Invoke) -> dict[str, Any]:
    """Begins the job that maps the announced video, or says where the rows of a clip will be."""
    _check_name(caller, body)
    if body.endpoint == "processing":
        job, number = _clip(request, components, caller, body.extra_inputs.clip_id)
        return _locations(job.job_id, f"{number:04d}")
    # This comes first: where no model can be found now, the announcement must stay for the next try.
    tasks = [task.name for task in components.model_source().taxonomy.tasks]
    with components.database.writing() as session:
        waiting = session.scalars(
            select(SdkAnnouncement)
            .where(
                SdkAnnouncement.key_id == caller.key_id,
                SdkAnnouncement.endpoint == "ffmpeg",
            )
            .order_by(SdkAnnouncement.input_id)
            .with_for_update()
        ).all()
        if not waiting:
            raise StateConflict("no video was announced; call upload-json first")
        if len(waiting) > 1:
            log.warning(
                "key %s announced %d videos before it started one of them: the first is started",
                caller.key_id,
                len(waiting),
            )
        same_address = [found for found in waiting if found.payload["address"] == caller.address]
        first = (same_address or waiting)[0]
        session.delete(first)
    video_id = first.payload["video_id"]
    with refusals_recorded(request, caller, "map", video_id):
        components.cases.require(caller, video_id, "map")
    return _locations(components.jobs.submit(caller, video_id, tasks).job_id, "clips")


@router.post("/data/list-objects", dependencies=[ChecksTimeline])
async def list_objects(request: Request, caller: Writer, components: Components, body: Located) -> dict[str, Any]:
    """Whether the content of a place is there. The request is held open for a while, since the SDK sleeps 10 s after
    every answer that says no; but not where too many are held open already."""
    async with AsyncExitStack() as held:
        until_s = time.monotonic()
        with suppress(HTTPException):
            await held.enter_async_context(request.app.state.polls.place(caller.tenant_id))
            until_s += components.settings.poll_s
        return await _poll(components, caller, body, until_s)


async def _poll(components: ServiceComponents, caller: Caller, body: Located, until_s: float) -> dict[str, Any]:
    while True:
        try:
            is_there = await run_in_threadpool(_is_content_there, components, caller, body.path_to_s3_uri)
        except NotFound:
            return _answer(available=False)
        is_failure = body.path_to_s3_uri.endswith(".failed.json")
        if is_there is not None or is_failure or time.monotonic() >= until_s:
            return _answer(available=is_there is True)
        await asyncio.sleep(LOOK_EVERY_S)


@router.post("/data/get-file", dependencies=[ChecksTimeline])
def get_file(request: Request, caller: Writer, components: Components, body: Located) -> dict[str, Any]:
    """The content of a place. ``body.content`` is JSON text: a list of records, which the SDK makes a table of. The
    rows of a clip are a look at the map, and an entry of the audit log."""
    named = _LOCATION.fullmatch(body.path_to_s3_uri)
    with refusals_recorded(request, caller, "timeline", named[1] if named else "-"):
        job, what, is_failure = _locate(components, caller, body.path_to_s3_uri)
    records: list[dict[str, Any]] | None
    if is_failure:
        records = [{"error": job.reason or job.state}] if _state(job, what) is False else None
    elif _state(job, what) is not True:
        records = None
    else:
        records = _clips(job) if what == "clips" else _rows(components, job, int(what))
    if records is None:
        raise NotFound("nothing is there yet")
    if what != "clips" and not is_failure:
        span = [int(what) * CLIP_S, min((int(what) + 1) * CLIP_S, job.total_s)]
        case = components.cases.require(caller, job.video_id, "timeline")
        with components.database.writing() as session:
            case.record_look(session, "timeline.read", "timeline", format="sdk", seconds=span)
    return _answer(content=json.dumps(records, ensure_ascii=False))


def _is_content_there(components: ServiceComponents, caller: Caller, uri: str) -> bool | None:
    """True: the content is there. False: it will never be there. None: it is not there yet."""
    job, what, is_failure = _locate(components, caller, uri)
    state = _state(job, what)
    return None if state is None else state is not is_failure


def _state(job: Job, what: str) -> bool | None:
    """True: the job or its list of clips is done. False: the job has failed. None: it is not done yet."""
    if job.state in ENDS:
        return job.state == "done"
    if what == "clips" and job.state == "running" and now_s() - job.created_s > PATIENCE_S:
        return True
    return None


def _clips(job: Job) -> list[dict[str, Any]]:
    """The clips of a job's video, as the SDK reads them."""
    return [
        {
            "uuid": f"{job.job_id}-{n:04d}",
            "Clip Start Time": n * CLIP_S,
            "Clip End Time": min((n + 1) * CLIP_S, job.total_s),
        }
        for n in range(_clip_count(job))
    ]


def _rows(components: ServiceComponents, job: Job, number: int) -> list[dict[str, Any]]:
    """The rows of the timeline within one clip, cut at the clip's ends."""
    timeline: Sequence[Mapping[str, Any]] = components.videos.timeline_rows(job.tenant_id, job.video_id)
    start_s, end_s = number * CLIP_S, min((number + 1) * CLIP_S, job.total_s)
    return [
        {
            "video_id": job.video_id,
            "clip_id": f"{job.job_id}-{number:04d}",
            "start": max(row["start_s"], start_s),
            "end": min(row["end_s"], end_s),
            "task": row["task"],
            "tag": row["tag"],
            "category": row["category"],
            "confidence": row["confidence"],
            "source": row["source"],
            "model_version": row["model_version"],
        }
        for row in timeline
        if row["task"] in job.tasks and row["start_s"] < end_s and start_s < row["end_s"]
    ]


def _clip_count(job: Job) -> int:
    return max(1, math.ceil(job.total_s / CLIP_S))


def _check_upload(request: Request, components: ServiceComponents, caller: Caller, upload_id: str) -> None:
    """Raises NotFound where somebody else began the upload."""
    with refusals_recorded(request, caller, "upload", upload_id):
        components.cases.require_upload(caller, upload_id)


def _clip(request: Request, components: ServiceComponents, caller: Caller, clip_id: str | None) -> tuple[Job, int]:
    """The job that a clip belongs to, and the clip's number. Raises NotFound."""
    found = _CLIP_ID.fullmatch(clip_id or "")
    if not found:
        raise NotFound("no clip has this id")
    with refusals_recorded(request, caller, "timeline", found[1]):
        job, number = components.cases.require_job(caller, found[1], "timeline"), int(found[2])
    if number >= _clip_count(job):
        raise NotFound("no clip has this id")
    return job, number


def _locate(components: ServiceComponents, caller: Caller, uri: str) -> tuple[Job, str, bool]:
    """What a place is: (job of the caller's tenant, 'clips' or a clip's number, whether it is for the failure).
    Raises NotFound."""
    found = _LOCATION.fullmatch(uri)
    if not found:
        raise NotFound("no such place")
    job = components.cases.require_job(caller, found[1], "timeline")
    if found[2] != "clips" and int(found[2]) >= _clip_count(job):
        raise NotFound("no such place")
    return job, found[2], bool(found[3])


def _locations(job_id: str, what: str) -> dict[str, Any]:
    """The places where the SDK looks for a result and for a failure."""
    return _answer(
        OutputLocation=f"halsted://{job_id}/{what}.json", FailureLocation=f"halsted://{job_id}/{what}.failed.json"
    )


def _answer(**body: Any) -> dict[str, Any]:
    """An answer in the form that the SDK reads. ``body``: JSON values."""
    return {"statusCode": 200, "body": body}


def _check_name(caller: Caller, body: SdkBody) -> None:
    """Raises HTTPException 403 where the body names another user than the key does."""
    if body.username != caller.name:
        raise HTTPException(403, "this key belongs to another user name")
