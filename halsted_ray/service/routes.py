"""The API's version 1: uploads, videos, maps, jobs, clips, models, keys, audit."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from halsted_ray.errors import UsageError
from halsted_ray.service import audit, schemas, users
from halsted_ray.service.clip_tagging import task_of
from halsted_ray.service.components import Busy, ServiceComponents
from halsted_ray.service.database import AuditEntry, Head, Job, User
from halsted_ray.service.jobs import ENDS
from halsted_ray.service.middleware import allowed, base_of, service_of
from halsted_ray.service.object_store import MAX_PARTS
from halsted_ray.service.uploads import Rejected
from halsted_ray.service.users import Caller
from halsted_ray.service.videos import FORMATS, render

router = APIRouter(prefix="/v1")
PARTS_AT_ONCE = 8
"""Parts in memory at a replica: 40 MiB. Further ones wait at the door."""
EVENTS_EVERY_S = 0.5
KEEP_ALIVE_S = 15.0
CONTENT_BYTES = 2 * 1024 * 1024
CONTAINERS = ((4, b"ftyp", "video/mp4"), (0, b"\x1aE\xdf\xa3", "video/webm"), (0, b"RIFF", "video/x-msvideo"))
"""(where, which bytes a file has, its media type), of what browsers play."""

Reader = Annotated[Caller, Depends(allowed("read"))]
Writer = Annotated[Caller, Depends(allowed("write"))]
KeyKeeper = Annotated[Caller, Depends(allowed("keys"))]
Auditor = Annotated[Caller, Depends(allowed("audit"))]
Here = Annotated[ServiceComponents, Depends(service_of)]
Id = Annotated[str, Path(pattern=r"^[0-9a-f]{1,64}$")]
Number = Annotated[int, Path(ge=1, le=MAX_PARTS)]


@router.post("/uploads", status_code=201)
def begin_upload(caller: Writer, service: Here, new: schemas.NewUpload) -> schemas.UploadShown:
    """Begins an upload. Then PUT its parts of 5 MiB (the last may be shorter), in any order, and complete it."""
    return schemas.show_upload(service.uploads.begin(caller, new.size_bytes), {})


@router.get("/uploads/{upload_id}")
def show_upload(caller: Writer, service: Here, upload_id: Id) -> schemas.UploadShown:
    """Its state and the parts that are there, so that a client goes on with those that are not."""
    return schemas.show_upload(*service.uploads.get(caller.tenant_id, upload_id))


@router.put(
    "/uploads/{upload_id}/parts/{number}",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}}},
        }
    },
)
async def put_part(
    request: Request,
    caller: Writer,
    service: Here,
    upload_id: Id,
    number: Number,
    content_digest: Annotated[str | None, Header(description="sha-256=:…: (RFC 9530)", max_length=200)] = None,
) -> schemas.PartShown:
    """Keeps one part; the same number again replaces it. With a ``Content-Digest`` it is checked."""
    return await _keep_part(request, service, caller.tenant_id, upload_id, number, _sha256(content_digest))


@router.put("/uploads/{upload_id}/parts/{number}/signed", include_in_schema=False)
async def put_part_signed(
    request: Request, service: Here, upload_id: Id, number: Number, expires: int, signature: str, response: Response
) -> schemas.PartShown:
    """The same by an address that carries its own permission."""
    tenant_id = await run_in_threadpool(service.uploads.check_address, upload_id, number, expires, signature)
    if tenant_id is None:
        raise HTTPException(403, "this address has expired or was changed; ask for another one")
    part = await _keep_part(request, service, tenant_id, upload_id, number, None)
    response.headers["ETag"] = part.etag
    return part


@router.post("/uploads/{upload_id}/parts/{number}/address")
def address_part(request: Request, caller: Writer, service: Here, upload_id: Id, number: Number) -> schemas.Address:
    """An address that takes this part by PUT for an hour, without a key: the object store's own where the site
    allows it, else one of this API."""
    return schemas.Address(url=service.uploads.address(caller.tenant_id, upload_id, number, base_of(request)))


@router.post("/uploads/{upload_id}/complete")
def complete_upload(
    caller: Writer, service: Here, upload_id: Id, completion: Annotated[schemas.Completion | None, Body()] = None
) -> schemas.VideoShown:
    """Makes the parts a video. 422 where parts are missing or it is no video."""
    named = completion.parts if completion else None
    etags = None if named is None else {part.number: part.etag for part in named}
    return schemas.show_video(service.uploads.complete(caller, upload_id, etags))


@router.delete("/uploads/{upload_id}", status_code=204)
def abort_upload(caller: Writer, service: Here, upload_id: Id) -> None:
    service.uploads.abort(caller, upload_id)


@router.get("/videos")
def list_videos(
    caller: Reader,
    service: Here,
    after: Annotated[str, Query(pattern="^[0-9a-f]{0,64}$")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[schemas.VideoShown]:
    """The caller's videos by id, those after ``after``."""
    videos = service.videos.list(caller.tenant_id, after, limit)
    jobs = service.jobs.newest(caller.tenant_id, [video.video_id for video in videos])
    return [schemas.show_video(video, jobs.get(video.video_id)) for video in videos]


@router.get("/videos/{video_id}")
def show_video(caller: Reader, service: Here, video_id: Id) -> schemas.VideoShown:
    jobs = service.jobs.newest(caller.tenant_id, [video_id])
    return schemas.show_video(service.videos.get(caller.tenant_id, video_id), jobs.get(video_id))


@router.get("/videos/{video_id}/content", response_class=Response, responses={206: {"content": {"video/*": {}}}})
async def show_content(
    request: Request,
    caller: Reader,
    service: Here,
    video_id: Id,
    range: Annotated[str | None, Header(pattern=r"^bytes=\d{1,15}-\d{0,15}$")] = None,
) -> Response:
    """The video's own bytes, for a player: at most 2 MiB of those that ``Range`` asks for, which then asks again, so
    that a slow network never makes a process hold a video."""
    async with request.app.state.parts:
        found = await run_in_threadpool(_content, service, caller, video_id, range)
    return found


@router.delete("/videos/{video_id}", status_code=204)
def delete_video(caller: Writer, service: Here, video_id: Id) -> None:
    """Removes the video, its maps, vectors and pictures, and ends its jobs; the audit log keeps that it was there."""
    service.videos.delete(caller, video_id)


@router.post("/videos/{video_id}/maps", status_code=202)
def map_video(caller: Writer, service: Here, video_id: Id, new: schemas.NewMap) -> schemas.JobShown:
    """A job that maps the video. 422 with the nearest known words for an instruction that the model does not know."""
    taxonomy = service.source().taxonomy
    if new.instruction is not None and new.task is not None:
        raise UsageError("give a task or an instruction, not both")
    if new.instruction is not None:
        tasks = [task_of(taxonomy, new.instruction)]
    elif new.task in (None, "all"):
        tasks = [task.name for task in taxonomy.tasks]
    else:
        tasks = [taxonomy.task(new.task).name]
    return schemas.show_job(service.jobs.submit(caller, video_id, tasks))


@router.get("/videos/{video_id}/maps")
def list_maps(caller: Reader, service: Here, video_id: Id) -> list[schemas.JobShown]:
    """The jobs of a video, newest first."""
    service.videos.get(caller.tenant_id, video_id)
    return [schemas.show_job(job) for job in service.jobs.of_video(caller.tenant_id, video_id)]


@router.get(
    "/videos/{video_id}/timeline",
    response_class=Response,
    responses={200: {"content": {media: {} for media in FORMATS.values()}}},
)
def show_timeline(
    caller: Reader,
    service: Here,
    video_id: Id,
    format: Literal["json", "jsonl", "csv", "vtt", "srt"] = "json",
    kind: Literal["captions", "metadata", "chapters"] = "captions",
) -> Response:
    """What happens when. ``kind`` is for WebVTT: captions for people, JSON cues for programs, chapters for players."""
    rows = service.videos.rows(caller.tenant_id, video_id)
    with service.database.writing() as session:
        audit.record(session, caller.tenant_id, caller.actor, "timeline.read", video_id, format=format)
    text = (
        json.dumps({"video_id": video_id, "rows": rows}, ensure_ascii=False)
        if format == "json"
        else render(rows, format, kind)
    )
    return Response(text, media_type=FORMATS[format])


@router.get("/jobs/{job_id}")
def show_job(caller: Reader, service: Here, job_id: Id) -> schemas.JobShown:
    return schemas.show_job(service.jobs.get(caller.tenant_id, job_id))


@router.post("/jobs/{job_id}/cancel")
def cancel_job(caller: Writer, service: Here, job_id: Id) -> schemas.JobShown:
    """At once where it waits, after the segment at hand where it runs. What is mapped already stays."""
    return schemas.show_job(service.jobs.cancel(caller, job_id))


@router.get(
    "/jobs/{job_id}/events", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}}
)
def follow_job(caller: Reader, service: Here, job_id: Id) -> StreamingResponse:
    """Server-sent events: ``progress`` whenever something changed, ``end`` at last."""
    first = service.jobs.get(caller.tenant_id, job_id)
    return StreamingResponse(_events(service, first), media_type="text/event-stream")


@router.get("/models")
async def show_models(caller: Reader, service: Here) -> dict:
    """What is deployed: version, lineage, card, and what it can be asked. ``serving`` is what answers clips at this
    moment: for a few seconds after a change the version before."""
    release = await run_in_threadpool(service.source)
    return {"models": [release.described()], "serving": await service.serving() if service.serving else None}


@router.post(
    "/clips:map",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schemas.ClipRequest.model_json_schema()},
                "video/mp4": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
async def map_clip(
    request: Request,
    caller: Reader,
    service: Here,
    instruction: Annotated[str | None, Query(max_length=500)] = None,
    start_s: Annotated[float | None, Query(ge=0, le=1e6)] = None,
    stop_s: Annotated[float | None, Query(gt=0, le=1e6)] = None,
) -> dict:
    """Tags of a clip of at most 60 s, with the probability of every category. The clip is the body (any container,
    with ``instruction`` in the query), or JSON that names one in the caller's storage."""
    began_s = time.perf_counter()
    body = await request.body()
    source: bytes | str = body
    if request.headers.get("content-type", "").split(";")[0] == "application/json":
        asked = schemas.ClipRequest.model_validate_json(body)
        instruction, start_s, stop_s = asked.instruction, asked.start_s, asked.stop_s
        source = await run_in_threadpool(_clip_location, service, caller, asked)
    if not instruction:
        raise UsageError("instruction: expected one in words, such as ?instruction=map+procedure+type")
    if not source:
        raise Rejected("expected the bytes of a clip, or JSON that names one")
    task_of((await run_in_threadpool(service.source)).taxonomy, instruction)
    if service.tag_clip is None:
        raise Busy
    answer = await service.tag_clip(source, instruction, start_s, stop_s)
    if "refused" in answer:
        raise Rejected(answer["message"])
    service.metrics.clip(answer, time.perf_counter() - began_s)
    return answer


@router.post("/keys", status_code=201)
def issue_key(caller: KeyKeeper, service: Here, new: schemas.NewKey) -> dict:
    """A key for a user of the caller's tenant, shown this once."""
    with service.database.writing() as session:
        user = users.add_user(session, caller.tenant_id, new.user, new.role, caller.actor)
        key = users.issue_key(session, user, new.days, caller.actor)
    return {"key": key, "key_id": key.split("_")[1], "user": new.user, "role": new.role}


@router.get("/keys")
def list_keys(caller: KeyKeeper, service: Here) -> list[dict]:
    with service.database.reading() as session:
        rows = session.execute(
            select(users.Key, User)
            .join(User, users.Key.user_id == User.user_id)
            .where(User.tenant_id == caller.tenant_id)
            .order_by(users.Key.created_s)
        ).all()
    return [
        {
            "key_id": key.key_id,
            "user": user.name,
            "role": user.role,
            "created_s": key.created_s,
            "expires_s": key.expires_s,
            "revoked_s": key.revoked_s,
        }
        for key, user in rows
    ]


@router.delete("/keys/{key_id}", status_code=204)
def revoke_key(caller: KeyKeeper, service: Here, key_id: Id) -> None:
    with service.database.writing() as session:
        if not users.revoke_key(session, caller, key_id):
            raise HTTPException(404, f"no key {key_id!r}")


@router.get("/audit")
def read_audit(
    caller: Auditor,
    service: Here,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    verify: bool = False,
) -> dict:
    """The tenant's entries after number ``after``. With ``verify`` the whole log is read: is it what was written?"""
    verdict = None
    with service.database.reading() as session:
        entries = session.scalars(
            select(AuditEntry)
            .where(AuditEntry.tenant_id == caller.tenant_id, AuditEntry.seq > after)
            .order_by(AuditEntry.seq)
            .limit(limit)
        )
        shown = [
            {name: getattr(entry, name) for name in ("seq", "at_s", "actor", "action", "subject", "detail", "digest")}
            for entry in entries
        ]
        digest = session.get_one(Head, audit.HEAD).digest
    if verify:
        with service.database.writing() as session:
            verdict = asdict(audit.verify(session))
    return {"digest": digest, "verified": verdict, "entries": shown}


async def _keep_part(
    request: Request, service: ServiceComponents, tenant_id: str, upload_id: str, number: int, sha256: bytes | None
) -> schemas.PartShown:
    async with request.app.state.parts:
        data = await request.body()
        part = await run_in_threadpool(service.uploads.put, tenant_id, upload_id, number, data, sha256)
    service.metrics.uploaded.inc(len(data))
    return schemas.show_part(part)


def _content(service: ServiceComponents, caller: Caller, video_id: str, asked: str | None) -> Response:
    video = service.videos.get(caller.tenant_id, video_id)
    first, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
    start, stop = int(first), min(int(last or video.size_bytes) + 1, int(first) + CONTENT_BYTES, video.size_bytes)
    if asked is None and video.size_bytes > CONTENT_BYTES:
        raise UsageError("ask for a part of it: Range: bytes=0-")
    if start >= stop:
        raise HTTPException(416, f"it has {video.size_bytes} bytes", {"Content-Range": f"bytes */{video.size_bytes}"})
    if start == 0:  # once a viewing, not once a part
        with service.database.writing() as session:
            audit.record(session, caller.tenant_id, caller.actor, "video.read", video_id)
    data, head = (service.videos.read(video, *span) for span in ((start, stop), (0, 16)))
    media = next((media for at, mark, media in CONTAINERS if head[at:].startswith(mark)), "application/octet-stream")
    headers = {"accept-ranges": "bytes"}
    if asked:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{video.size_bytes}"
    return Response(data, 206 if asked else 200, headers, media)


async def _events(service: ServiceComponents, job: Job) -> AsyncIterator[str]:
    said, said_s = "", 0.0
    while True:
        text = schemas.show_job(job).model_dump_json()
        if text != said:
            name = "end" if job.state in ENDS else "progress"
            said, said_s = text, time.monotonic()
            yield f"event: {name}\ndata: {text}\n\n"
        elif time.monotonic() - said_s > KEEP_ALIVE_S:
            said_s = time.monotonic()
            yield ": still here\n\n"
        if job.state in ENDS:
            return
        await asyncio.sleep(EVENTS_EVERY_S)
        job = await run_in_threadpool(service.jobs.get, job.tenant_id, job.job_id)


def _clip_location(service: ServiceComponents, caller: Caller, asked: schemas.ClipRequest) -> str:
    if (asked.video_id is None) == (asked.uri is None):
        raise UsageError("give a video_id or a uri, one of the two")
    if asked.video_id is not None:
        return service.videos.location(service.videos.get(caller.tenant_id, asked.video_id))
    return service.store.resolve(caller.tenant_id, asked.uri)


def _sha256(content_digest: str | None) -> bytes | None:
    if content_digest is None:
        return None
    found = re.search(r"sha-256=:([A-Za-z0-9+/]{43}=):", content_digest)
    try:
        return base64.b64decode(found[1], validate=True) if found else _bad_digest()
    except binascii.Error:
        return _bad_digest()


def _bad_digest() -> bytes:
    raise UsageError("Content-Digest: expected sha-256=:<32 bytes in base64>:")
