"""The wire protocol of the published ``halsted-sdk`` 0.1.0, over the same uploads, jobs and timelines.

    create, upload, complete      an upload; the SDK's own id of the video is its label
    upload-json, invoke (ffmpeg)  the job that maps the video with all tasks; its clips are spans of a minute
    upload-json, invoke (clip)    nothing more to do: the clip's rows are those of the timeline
    list-objects, get-file        has the job ended, and what came out

The SDK reads JSON fields only, never the HTTP status, so every answer carries ``statusCode`` and ``body``. It stops
with an error of its own at ``complete`` and ``upload-json``; elsewhere a refusal ends it with a KeyError.
``invoke`` does not say which video it means, so it gets what the same key (from the same address, where there is a
choice) announced first and did not start yet: two programs with one key can be mixed up, two keys can't.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import time
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from halsted_ray.errors import UsageError, VideoError
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import Job, SdkInput, Upload, now_s
from halsted_ray.service.jobs import ENDS
from halsted_ray.service.middleware import allowed, base_of, service_of
from halsted_ray.service.object_store import MAX_PARTS
from halsted_ray.service.uploads import NotThere, WrongState
from halsted_ray.service.users import Caller

log = logging.getLogger(__name__)
CLIP_S = 60.0
PATIENCE_S = 3000.0
"""The SDK gives up one wait after an hour: a longer job lets it go on to the clips, each with an hour of its own."""
LOOK_EVERY_S = 0.5
_CLIP_ID = re.compile(r"([0-9a-f]{16})-(\d{1,6})")
_LOCATION = re.compile(r"halsted://([0-9a-f]{16})/(clips|\d{1,6})(\.failed)?\.json")


class Envelope(APIRoute):
    """Refusals in the form that the SDK reads."""

    def get_route_handler(self) -> Callable:
        handle = super().get_route_handler()

        async def wrapped(request: Request):
            try:
                return await handle(request)
            except HTTPException as error:
                return refusal(error.status_code, str(error.detail), error.headers)
            except RequestValidationError:
                return refusal(422, "the request is not one of halsted-sdk 0.1.0")
            except (UsageError, VideoError) as error:
                status = 404 if isinstance(error, NotThere) else 409 if isinstance(error, WrongState) else 422
                return refusal(status, str(error))

        return wrapped


def refusal(status: int, message: str, headers: dict | None = None) -> JSONResponse:
    return JSONResponse({"statusCode": status, "body": {"error": message}}, status, headers)


router = APIRouter(route_class=Envelope, tags=["halsted-sdk 0.1.0"])
Sdk = Annotated[Caller, Depends(allowed("write"))]
Here = Annotated[ServiceComponents, Depends(service_of)]
Label = Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{1,64}$")]


class RequestBody(BaseModel):
    username: str = Field(max_length=64)


class Create(RequestBody):
    video_id: Label


class NextPart(Create):
    part_number: int = Field(ge=1, le=MAX_PARTS)
    upload_id: Label


class SentPart(BaseModel):
    PartNumber: int = Field(ge=1, le=MAX_PARTS)
    ETag: str = Field(max_length=128)


class Complete(Create):
    upload_id: Label
    parts: list[SentPart] = Field(max_length=MAX_PARTS)


class Announced(BaseModel):
    endpoint: Literal["ffmpeg", "processing"]
    video_id: Label
    clip_id: Label | None = None


class Announce(RequestBody):
    extra_inputs: Announced


class Invoked(BaseModel):
    clip_id: Label | None = None


class Invoke(RequestBody):
    endpoint: Literal["ffmpeg", "processing"]
    extra_inputs: Invoked = Invoked()


class Located(BaseModel):
    path_to_s3_uri: str = Field(max_length=200)


@router.post("/create/invoke")
def create(caller: Sdk, service: Here, asked: Create) -> dict:
    _check_name(caller, asked)
    return _answer(UploadId=service.uploads.begin(caller, label=asked.video_id).upload_id)


@router.post("/upload/invoke")
def next_part(request: Request, caller: Sdk, service: Here, asked: NextPart) -> dict:
    _check_name(caller, asked)
    return _answer(url=service.uploads.address(caller.tenant_id, asked.upload_id, asked.part_number, base_of(request)))


@router.post("/complete/invoke")
def complete(caller: Sdk, service: Here, asked: Complete) -> dict:
    _check_name(caller, asked)
    etags = {part.PartNumber: part.ETag for part in asked.parts}
    return _answer(video_id=service.uploads.complete(caller, asked.upload_id, etags).video_id)


@router.post("/data/upload-json")
def announce(request: Request, caller: Sdk, service: Here, asked: Announce) -> dict:
    """Says what the next ``invoke`` of this endpoint will mean."""
    _check_name(caller, asked)
    if asked.extra_inputs.endpoint == "processing":
        _clip(service, caller, asked.extra_inputs.clip_id)
        return _answer()
    with service.database.writing() as session:
        upload = session.scalar(
            select(Upload)
            .where(
                Upload.tenant_id == caller.tenant_id,
                Upload.label == asked.extra_inputs.video_id,
                Upload.state == "complete",
            )
            .order_by(Upload.created_s.desc())
            .limit(1)
        )
        if upload is None:
            raise NotThere("no video of this id was completed")
        session.add(
            SdkInput(
                key_id=caller.key_id,
                endpoint="ffmpeg",
                created_s=now_s(),
                payload={"video_id": upload.video_id, "address": _address(request)},
            )
        )
    return _answer()


@router.post("/process/invoke")
def invoke(request: Request, caller: Sdk, service: Here, asked: Invoke) -> dict:
    _check_name(caller, asked)
    if asked.endpoint == "processing":
        job, number = _clip(service, caller, asked.extra_inputs.clip_id)
        return _locations(job.job_id, f"{number:04d}")
    # Asked first: where no model is to be had now, the announcement must stay for the next try.
    tasks = [task.name for task in service.source().taxonomy.tasks]
    with service.database.writing() as session:
        waiting = session.scalars(
            select(SdkInput)
            .where(
                SdkInput.key_id == caller.key_id,
                SdkInput.endpoint == "ffmpeg",
            )
            .order_by(SdkInput.input_id)
            .with_for_update()
        ).all()
        if not waiting:
            raise WrongState("nothing was announced to be processed; call upload-json first")
        if len(waiting) > 1:
            log.warning(
                "key %s announced %d videos before it started one: the first is taken", caller.key_id, len(waiting)
            )
        here = [one for one in waiting if one.payload["address"] == _address(request)]
        first = (here or waiting)[0]
        session.delete(first)
    return _locations(service.jobs.submit(caller, first.payload["video_id"], tasks).job_id, "clips")


@router.post("/data/list-objects")
async def list_objects(caller: Sdk, service: Here, asked: Located) -> dict:
    """Whether the content is there. Held open for a while: the SDK sleeps 10 s after every no."""
    until_s = time.monotonic() + service.settings.poll_s
    while True:
        try:
            there = await run_in_threadpool(_content_there, service, caller, asked.path_to_s3_uri)
        except NotThere:
            return _answer(available=False)
        failure = asked.path_to_s3_uri.endswith(".failed.json")
        if there is not None or failure or time.monotonic() >= until_s:
            return _answer(available=there is True)
        await asyncio.sleep(LOOK_EVERY_S)


@router.post("/data/get-file")
def get_file(caller: Sdk, service: Here, asked: Located) -> dict:
    """``body.content`` is JSON text: a list of records, as the SDK makes a table of."""
    job, what, failed = _locate(service, caller, asked.path_to_s3_uri)
    if failed:
        records = [{"error": job.reason or job.state}] if _state(job, what) is False else None
    elif _state(job, what) is not True:
        records = None
    else:
        records = _clips(job) if what == "clips" else _rows(service, job, int(what))
    if records is None:
        raise NotThere("nothing there")
    return _answer(content=json.dumps(records, ensure_ascii=False))


def _content_there(service: ServiceComponents, caller: Caller, uri: str) -> bool | None:
    """True: this is there. False: it will never be. None: not yet."""
    job, what, failed = _locate(service, caller, uri)
    state = _state(job, what)
    return None if state is None else state is not failed


def _state(job: Job, what: str) -> bool | None:
    """True: done, False: failed, None: under way."""
    if job.state in ENDS:
        return job.state == "done"
    if what == "clips" and job.state == "running" and now_s() - job.created_s > PATIENCE_S:
        return True
    return None


def _clips(job: Job) -> list[dict]:
    return [
        {
            "uuid": f"{job.job_id}-{n:04d}",
            "Clip Start Time": n * CLIP_S,
            "Clip End Time": min((n + 1) * CLIP_S, job.total_s),
        }
        for n in range(_count(job))
    ]


def _rows(service: ServiceComponents, job: Job, number: int) -> list[dict]:
    """The timeline within one clip, rows cut at its ends."""
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
        for row in service.videos.rows(job.tenant_id, job.video_id)
        if row["task"] in job.tasks and row["start_s"] < end_s and start_s < row["end_s"]
    ]


def _count(job: Job) -> int:
    return max(1, math.ceil(job.total_s / CLIP_S))


def _clip(service: ServiceComponents, caller: Caller, clip_id: str | None) -> tuple[Job, int]:
    found = _CLIP_ID.fullmatch(clip_id or "")
    if not found:
        raise NotThere("no clip of this id")
    job, number = service.jobs.get(caller.tenant_id, found[1]), int(found[2])
    if number >= _count(job):
        raise NotThere("no clip of this id")
    return job, number


def _locate(service: ServiceComponents, caller: Caller, uri: str) -> tuple[Job, str, bool]:
    """(job of the caller's tenant, 'clips' or a clip's number, is it the failure's place). Raises NotThere."""
    found = _LOCATION.fullmatch(uri)
    if not found:
        raise NotThere("no such place")
    job = service.jobs.get(caller.tenant_id, found[1])
    if found[2] != "clips" and int(found[2]) >= _count(job):
        raise NotThere("no such place")
    return job, found[2], bool(found[3])


def _locations(job_id: str, what: str) -> dict:
    return _answer(
        OutputLocation=f"halsted://{job_id}/{what}.json", FailureLocation=f"halsted://{job_id}/{what}.failed.json"
    )


def _answer(**body) -> dict:
    return {"statusCode": 200, "body": body}


def _check_name(caller: Caller, asked: RequestBody) -> None:
    if asked.username != caller.name:
        raise HTTPException(403, "this key belongs to another user name")


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
