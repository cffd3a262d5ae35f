"""/v1/clips:map: the tags of a short clip."""

from __future__ import annotations

import hashlib
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from halsted_ray.errors import UsageError
from halsted_ray.service import audit, schemas
from halsted_ray.service.case_access import refusals_recorded
from halsted_ray.service.clip_tagging import task_of
from halsted_ray.service.components import Overloaded, ServiceComponents
from halsted_ray.service.deps import ChecksWatch, Components, Reader
from halsted_ray.service.errors import Rejected
from halsted_ray.service.users import Caller

router = APIRouter(prefix="/v1")


@router.post(
    "/clips:map",
    dependencies=[ChecksWatch],
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
    components: Components,
    instruction: Annotated[str | None, Query(max_length=500)] = None,
    start_s: Annotated[float | None, Query(ge=0, le=1e6)] = None,
    stop_s: Annotated[float | None, Query(gt=0, le=1e6)] = None,
) -> dict[str, Any]:
    """Tags of a clip of at most 60 s, with the probability of every category. The clip is the body of the request
    (any container, with ``instruction`` in the query), or the body is JSON that names a clip in the caller's
    storage."""
    began_s = time.perf_counter()
    body = await request.body()
    source: bytes | str = body
    if request.headers.get("content-type", "").split(";")[0] == "application/json":
        clip = schemas.ClipRequest.model_validate_json(body)
        instruction, start_s, stop_s = clip.instruction, clip.start_s, clip.stop_s
        source = await run_in_threadpool(_location, request, components, caller, clip)
    if not instruction:
        raise UsageError("instruction: expected an instruction in words, such as ?instruction=map+procedure+type")
    if not source:
        raise Rejected("expected the bytes of a clip, or JSON that names a clip")
    served = components.model_source.known
    if served is None:
        served = await run_in_threadpool(components.model_source)
    task_of(served.taxonomy, instruction)
    if components.tag_clip is None:
        raise Overloaded
    async with request.app.state.clips.place(caller.tenant_id):
        answer = await components.tag_clip(caller.tenant_id, source, instruction, start_s, stop_s)
    if "refused" in answer:
        raise Rejected(answer["message"])
    components.metrics.observe_clip(answer, time.perf_counter() - began_s)
    return dict(answer)


def _location(request: Request, components: ServiceComponents, caller: Caller, clip: schemas.ClipRequest) -> str:
    """The location of the clip that the request names, where the caller may watch it; the look is an entry of the audit
    log. Raises UsageError, NotFound, Forbidden."""
    if (clip.video_id is None) == (clip.uri is None):
        raise UsageError("give either a video_id or a uri")
    # A uri can hold a name, so the log has its digest.
    subject = clip.video_id or f"uri-{hashlib.sha256((clip.uri or '').encode()).hexdigest()[:16]}"
    with refusals_recorded(request, caller, "watch", subject):
        if clip.uri is not None:
            location = components.store.resolve(caller.tenant_id, clip.uri)
            place = components.store.place_of(caller.tenant_id, location)
            case = components.cases.require_place(caller, place, "watch")
        else:
            case = components.cases.require(caller, subject, "watch")
            location = components.videos.location(case.video)
    seconds = [clip.start_s or 0.0, clip.stop_s]
    with components.database.writing() as session:
        if case is None:
            audit.record_by(session, caller, "clip.read", subject, seconds=seconds)
        else:
            case.record_look(session, "clip.read", "watch", seconds=seconds)
    return location
