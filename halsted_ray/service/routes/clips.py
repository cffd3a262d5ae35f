"""/v1/clips:map: the tags of a short clip."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from halsted_ray.errors import UsageError
from halsted_ray.service import schemas
from halsted_ray.service.clip_tagging import task_of
from halsted_ray.service.components import Overloaded, ServiceComponents
from halsted_ray.service.deps import Components, Reader
from halsted_ray.service.uploads import Rejected
from halsted_ray.service.users import Caller

router = APIRouter(prefix="/v1")


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
        source = await run_in_threadpool(_location, components, caller, clip)
    if not instruction:
        raise UsageError("instruction: expected an instruction in words, such as ?instruction=map+procedure+type")
    if not source:
        raise Rejected("expected the bytes of a clip, or JSON that names a clip")
    task_of((await run_in_threadpool(components.model_source)).taxonomy, instruction)
    if components.tag_clip is None:
        raise Overloaded
    answer = await components.tag_clip(source, instruction, start_s, stop_s)
    if "refused" in answer:
        raise Rejected(answer["message"])
    components.metrics.observe_clip(answer, time.perf_counter() - began_s)
    return dict(answer)


def _location(components: ServiceComponents, caller: Caller, clip: schemas.ClipRequest) -> str:
    """The location of the clip that the request names. Raises UsageError, NotFound."""
    if clip.video_id is not None and clip.uri is None:
        return components.videos.location(components.videos.get(caller.tenant_id, clip.video_id))
    if clip.uri is not None and clip.video_id is None:
        return components.store.resolve(caller.tenant_id, clip.uri)
    raise UsageError("give either a video_id or a uri")
