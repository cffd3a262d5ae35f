"""/v1/videos/{video_id}/timeline: the map of a video, as a table or as captions."""

from __future__ import annotations

import json
from typing import Literal

from fastapi import APIRouter, Response

from halsted_ray.service import audit
from halsted_ray.service.deps import Components, Id, Reader
from halsted_ray.service.videos import FORMATS, render_timeline

router = APIRouter(prefix="/v1/videos/{video_id}/timeline")


@router.get(
    "",
    response_class=Response,
    responses={200: {"content": {media: {} for media in FORMATS.values()}}},
)
def show_timeline(
    caller: Reader,
    components: Components,
    video_id: Id,
    format: Literal["json", "jsonl", "csv", "vtt", "srt"] = "json",
    kind: Literal["captions", "metadata", "chapters"] = "captions",
) -> Response:
    """What happens when. ``kind`` is for WebVTT: captions for people, JSON cues for programs, chapters for players."""
    rows = components.videos.timeline_rows(caller.tenant_id, video_id)
    with components.database.writing() as session:
        audit.record(session, caller.tenant_id, caller.actor, "timeline.read", video_id, format=format)
    text = (
        json.dumps({"video_id": video_id, "rows": rows}, ensure_ascii=False)
        if format == "json"
        else render_timeline(rows, format, kind)
    )
    return Response(text, media_type=FORMATS[format])
