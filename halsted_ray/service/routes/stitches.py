"""/v1/videos/{video_id}/stitches: the stitches of a video with their totals, as JSON or as a table."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request, Response

from halsted_ray.service.deps import Components, ReadCase
from halsted_ray.service.prepared_timelines import STITCHES, PreparedTimelines
from halsted_ray.service.routes.timelines import answer
from halsted_ray.service.stitch_schemas import StitchesShown
from halsted_ray.service.videos import FORMATS

router = APIRouter(prefix="/v1/videos/{video_id}/stitches")


@router.get(
    "",
    response_class=Response,
    responses={
        200: {"model": StitchesShown, "content": {"text/csv": {}}},
        304: {"description": "the client has it"},
    },
)
def show_stitches(
    request: Request,
    case: ReadCase,
    components: Components,
    format: Literal["json", "csv"] = "json",
    if_none_match: Annotated[str, Header(max_length=2000)] = "",
    accept_encoding: Annotated[str, Header(max_length=2000)] = "",
) -> Response:
    """The stitches of the video: needle handling, driving and withdrawal, found over the rows of its map.

    ``asked`` is false where the map says nothing of suturing, and ``why_none`` says in words why there is no stitch.
    The answer has an ETag, as the timeline has."""
    timelines: PreparedTimelines = request.app.state.timelines
    prepared = timelines.get(case.video.tenant_id, case.video_id, format, STITCHES)
    with components.database.writing() as session:
        span = [0.0, case.video.duration_s]
        case.record_look(session, "timeline.read", "timeline", format=format, part=STITCHES, seconds=span)
    return answer(prepared, FORMATS[format], if_none_match, accept_encoding)
