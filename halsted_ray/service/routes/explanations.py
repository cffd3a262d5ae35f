"""/v1/videos/{video_id}/explanation: what the map says of one moment, and by which rows."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from halsted_ray.service.case_access import refusals_recorded
from halsted_ray.service.deps import Components, ReadCaseOrLink
from halsted_ray.service.explanation_schemas import VideoExplanationShown, show_video_explanation
from halsted_ray.service.explanations import check_link_shows, explain_video, looked_at

router = APIRouter(prefix="/v1/videos/{video_id}/explanation")


@router.get("")
def explain_moment(
    request: Request,
    case: ReadCaseOrLink,
    components: Components,
    at_s: Annotated[float, Query(ge=0, le=1e7, description="The moment, in seconds of the video.")],
) -> VideoExplanationShown:
    """What the map says of one moment: perception (what is seen), relation (who acts on what) and context (what the
    operation is at, what came before and comes next). Each statement names the rows that it rests on; what the map does
    not say is not known, and says why. Nothing is generated, and corrections by people are not in it.

    A link that shows a part of the video explains moments of that part, from the rows of that part."""
    with refusals_recorded(request, case.caller, "timeline"):
        check_link_shows(case, at_s)
    found = explain_video(components.videos, case, at_s, lambda: components.model_source().taxonomy)
    with components.database.writing() as session:
        case.record_look(session, "timeline.read", "timeline", part="explanation", seconds=looked_at(found))
    return show_video_explanation(found)
