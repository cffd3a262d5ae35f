"""/v1/uploads: a video comes in parts of 5 MiB, in any order and again after a break."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from fastapi import APIRouter, Body, Header, HTTPException, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from halsted_ray.errors import UsageError
from halsted_ray.service import schemas
from halsted_ray.service.case_access import refusals_recorded
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.deps import BaseUrl, ChecksDescribe, Components, Id, OwnUpload, Writer
from halsted_ray.service.object_store import MAX_PARTS

router = APIRouter(prefix="/v1/uploads")
PartNumber = Annotated[int, Path(ge=1, le=MAX_PARTS)]


@router.post("", status_code=201, dependencies=[ChecksDescribe])
def begin_upload(
    request: Request, caller: Writer, components: Components, new: schemas.NewUpload
) -> schemas.UploadShown:
    """Begins an upload. Then PUT its parts of 5 MiB (the last part may be shorter), in any order, and complete it.
    Several files of one operation: begin the first, and name its ``case_id`` with the others."""
    if new.case_id is not None:
        with refusals_recorded(request, caller, "describe", new.case_id):
            components.library.require_place(caller, new.case_id)
    upload = components.uploads.begin(caller, new.size_bytes, case_id=new.case_id, position=new.position)
    return schemas.show_upload(upload, {})


@router.get("/{upload_id}", dependencies=[OwnUpload])
def show_upload(caller: Writer, components: Components, upload_id: Id) -> schemas.UploadShown:
    """The state of the upload and the parts that have come, so that a client can send the parts that are missing."""
    return schemas.show_upload(*components.uploads.get(caller.tenant_id, upload_id))


@router.put(
    "/{upload_id}/parts/{number}",
    dependencies=[OwnUpload],
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
    components: Components,
    upload_id: Id,
    number: PartNumber,
    content_digest: Annotated[str | None, Header(description="sha-256=:…: (RFC 9530)", max_length=200)] = None,
) -> schemas.PartShown:
    """Keeps one part; the same number again replaces it. The part is checked where a ``Content-Digest`` is sent."""
    sha256 = None if content_digest is None else _sha256(content_digest)
    return await _keep_part(request, components, caller.tenant_id, upload_id, number, sha256)


@router.put("/{upload_id}/parts/{number}/signed", include_in_schema=False)
async def put_part_signed(
    request: Request,
    components: Components,
    upload_id: Id,
    number: PartNumber,
    expires: int,
    signature: str,
    response: Response,
) -> schemas.PartShown:
    """Keeps one part that is sent to an address of ``address_part``: the address itself carries the permission."""
    tenant_id = await run_in_threadpool(components.uploads.check_address, upload_id, number, expires, signature)
    if tenant_id is None:
        raise HTTPException(403, "this address has expired or was changed; ask for another one")
    part = await _keep_part(request, components, tenant_id, upload_id, number, None)
    response.headers["ETag"] = part.etag
    return part


@router.post("/{upload_id}/parts/{number}/address", dependencies=[OwnUpload])
def address_part(
    caller: Writer, components: Components, base: BaseUrl, upload_id: Id, number: PartNumber
) -> schemas.Address:
    """An address that takes this part by PUT for an hour, without a key: an address of the object store where the
    site allows it, else an address of this API."""
    return schemas.Address(url=components.uploads.address(caller.tenant_id, upload_id, number, base))


@router.post("/{upload_id}/complete", dependencies=[OwnUpload])
def complete_upload(
    caller: Writer,
    components: Components,
    upload_id: Id,
    completion: Annotated[schemas.Completion | None, Body()] = None,
) -> schemas.VideoShown:
    """Makes the parts a video. 422 where parts are missing or the file is no video. The video is cleaned next; a map
    can be asked for at once, and waits for that."""
    named = completion.parts if completion else None
    etags = None if named is None else {part.number: part.etag for part in named}
    video = components.uploads.complete(caller, upload_id, etags)
    case = components.cases.require(caller, video.video_id, "see")
    cleaning = components.jobs.newest(caller.tenant_id, [video.video_id], "clean").get(video.video_id)
    return schemas.show_video(case.video, case=case, cleaning_job=cleaning)


@router.delete("/{upload_id}", status_code=204, dependencies=[OwnUpload])
def abort_upload(caller: Writer, components: Components, upload_id: Id) -> None:
    """Ends the upload and removes its parts."""
    components.uploads.abort(caller, upload_id)


async def _keep_part(
    request: Request, components: ServiceComponents, tenant_id: str, upload_id: str, number: int, sha256: bytes | None
) -> schemas.PartShown:
    # The place of a writer is taken when the body is there: a client that sends slowly keeps nobody from writing.
    async with request.app.state.bodies.place(tenant_id):
        data = await request.body()
        async with request.app.state.part_slots:
            part = await run_in_threadpool(components.uploads.put, tenant_id, upload_id, number, data, sha256)
    components.metrics.uploaded.inc(len(data))
    return schemas.show_part(part)


def _sha256(content_digest: str) -> bytes:
    """The 32 bytes in a Content-Digest header. Raises UsageError where it holds none."""
    found = re.search(r"sha-256=:([A-Za-z0-9+/]{43}=):", content_digest)
    try:
        if found:
            return base64.b64decode(found[1], validate=True)
    except binascii.Error:
        pass
    raise UsageError("Content-Digest: expected sha-256=:<32 bytes in base64>:")
