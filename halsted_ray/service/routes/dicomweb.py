"""/dicomweb/studies: DICOM videos by STOW-RS (PS3.18, 10.5). There is nothing to query or retrieve here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, BinaryIO

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from halsted_ray.errors import UsageError
from halsted_ray.hospital.extra import needs_dicom
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.deps import Components, Writer
from halsted_ray.service.dicom_instances import Stored, answer
from halsted_ray.service.multipart import BrokenMultipart, MultipartParser, PartBegun, PartData, PartEnded, boundary_of
from halsted_ray.service.users import Caller

router = APIRouter(prefix="/dicomweb/studies")
MEDIA_TYPE = "application/dicom+json"
MOST_INSTANCES = 500
"""Of one request."""
WRITTEN_AT_ONCE = 4 << 20
ROOM_EVERY_BYTES = 64 << 20
"""How often quota and disk are looked at while an instance comes."""
BODY = {
    "requestBody": {
        "required": True,
        "content": {"multipart/related": {"schema": {"type": "string", "format": "binary"}}},
    }
}
RESPONSES: dict[int | str, dict[str, object]] = {
    200: {"content": {MEDIA_TYPE: {}}, "description": "All instances are stored."},
    202: {"content": {MEDIA_TYPE: {}}, "description": "Some are stored."},
    409: {"content": {MEDIA_TYPE: {}}, "description": "None is stored."},
}
StudyUid = Annotated[str, Path(pattern=r"^[0-9.]{1,64}$")]


@router.post("", response_class=JSONResponse, responses=RESPONSES, openapi_extra=BODY)
async def store_instances(request: Request, caller: Writer, components: Components) -> JSONResponse:
    """Stores DICOM videos (``multipart/related; type="application/dicom"``). Each becomes an upload of the caller; its
    header goes to the table of identities alone. The header ``Link`` of the answer names the cases."""
    return await _store(request, caller, components, None)


@router.post("/{study_uid}", response_class=JSONResponse, responses=RESPONSES, openapi_extra=BODY)
async def store_study(request: Request, caller: Writer, components: Components, study_uid: StudyUid) -> JSONResponse:
    """As ``POST /dicomweb/studies``, of one study: an instance of another study is refused."""
    return await _store(request, caller, components, study_uid)


async def _store(
    request: Request, caller: Caller, components: ServiceComponents, study_uid: str | None
) -> JSONResponse:
    try:
        needs_dicom()
    except UsageError as error:
        raise HTTPException(501, str(error)) from None
    try:
        boundary, kind = boundary_of(request.headers.get("content-type", ""), "related")
    except BrokenMultipart as error:
        raise HTTPException(415, str(error)) from None
    if kind not in ("", "application/dicom"):
        raise HTTPException(415, 'Content-Type: expected type="application/dicom", got another one')
    async with request.app.state.studies.place(caller.tenant_id):
        results = [
            result
            async for result in _results(request.stream(), MultipartParser(boundary), components, caller, study_uid)
        ]
    if not results:
        raise HTTPException(400, "expected at least one instance, got none")
    status, body = answer(results)
    links = [f"</v1/videos/{result.video_id}>; rel=item" for result in results if result.video_id]
    return JSONResponse(body, status, {"link": ", ".join(links)} if links else None, media_type=MEDIA_TYPE)


async def _results(
    body: AsyncIterator[bytes],
    parser: MultipartParser,
    components: ServiceComponents,
    caller: Caller,
    study_uid: str | None,
) -> AsyncIterator[Stored]:
    """What becomes of each instance, one after the other. Raises HTTPException where the body is broken: what was
    stored before stays, and storing it again changes nothing."""
    instances, count = components.dicom_instances, 0
    file: BinaryIO | None = None
    size_bytes = looked_bytes = 0
    waiting = bytearray()

    async def write() -> None:
        nonlocal looked_bytes
        assert file is not None
        if size_bytes >= looked_bytes:
            looked_bytes = size_bytes + ROOM_EVERY_BYTES
            await run_in_threadpool(instances.check_room, caller, size_bytes, ROOM_EVERY_BYTES)
        await run_in_threadpool(file.write, bytes(waiting))
        components.metrics.uploaded.inc(len(waiting))
        waiting.clear()

    try:
        async for chunk in body:
            for event in parser.feed(chunk):
                if isinstance(event, PartBegun):
                    count += 1
                    if count > MOST_INSTANCES:
                        raise HTTPException(413, f"expected at most {MOST_INSTANCES} instances in a request, got more")
                    media_type = event.headers.get("content-type", "application/dicom").split(";")[0].strip().lower()
                    if media_type != "application/dicom":
                        raise HTTPException(415, "expected parts of application/dicom, got another one")
                    file = await run_in_threadpool(instances.new_file)
                    size_bytes = looked_bytes = 0
                elif isinstance(event, PartData):
                    waiting += event.data
                    size_bytes += len(event.data)
                    if len(waiting) >= WRITTEN_AT_ONCE:
                        await write()
                elif isinstance(event, PartEnded) and file is not None:
                    await write()
                    await run_in_threadpool(file.flush)
                    yield await run_in_threadpool(instances.take, caller, file, study_uid)
                    file.close()
                    file = None
        parser.finish()
    except BrokenMultipart as error:
        raise HTTPException(400, str(error)) from None
    finally:
        if file is not None:
            file.close()
