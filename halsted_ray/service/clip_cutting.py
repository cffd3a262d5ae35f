"""A stretch of a case as a clip for slides and teaching, with or without the words of its map in the picture.

The clip is cut in a process of its own that can be killed, as everything is that reads bytes of a video. It holds
nothing but pictures: no sound, no tags, no name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from halsted_ray.errors import DecoderKilled, StorageUnavailable, VideoError
from halsted_ray.maps.exports import Row
from halsted_ray.service.cases import Case
from halsted_ray.service.errors import Forbidden, Rejected
from halsted_ray.service.prepared_timelines import rows_within
from halsted_ray.service.videos import Videos
from halsted_ray.video.decode_process import DecodeProcess

MOST_CLIP_S = 120.0
CUT_S = 300.0
"""How long cutting may take, beside waiting for the store. Two minutes of 1080p take about a minute and a half on one
core."""
BURNT_TAGS = ("step", "action")
"""The tags of a map whose words are drawn into a clip, from top to bottom."""


def check_span(case: Case, start_s: float, stop_s: float) -> None:
    """Raises Rejected for a span that is empty or outside the video, Forbidden where a link does not show it. (A span
    that is too long is the route's to refuse.)"""
    duration_s = case.video.duration_s
    if not 0 <= start_s < stop_s <= duration_s + 1e-3:
        raise Rejected(
            f"start_s={start_s}, stop_s={stop_s}: expected a part of the {duration_s:.3f} s that the video lasts"
        ).named("span-outside")
    if case.span and not case.span[0] <= start_s < stop_s <= case.span[1]:
        raise Forbidden(
            f"this link shows {case.span[0]:.3f} to {case.span[1]:.3f} s of the video; ask for a clip within these"
        ).named("link-moment")


def cut(videos: Videos, case: Case, start_s: float, stop_s: float, is_burnt: bool) -> bytes:
    """An MP4 of [start_s, stop_s) of the case. ``is_burnt``: with the words of its map in the picture.

    Raises NotFound where these are asked for and there is no map, Rejected where the part can't be cut, StateConflict
    while the video is being cleaned, StorageUnavailable and DecoderKilled.
    """
    location = videos.location(case.video)
    labels: list[tuple[float, float, str]] = []
    footer = ""
    if is_burnt:
        rows = rows_within(videos.timeline_rows(case.video.tenant_id, case.video_id), start_s, stop_s)
        labels, footer = words_of(rows), footer_of(rows)
    try:
        with DecodeProcess() as process:
            return process.cut_clip(location, start_s, stop_s, labels, footer, deadline_s=CUT_S)
    except DecoderKilled as error:
        if error.code != "decoder-hung":
            raise
        raise DecoderKilled(
            f"expected the clip within {CUT_S:g} s, got none; ask for a shorter one, or again when less is going on",
            hung=True,
        ) from None
    except StorageUnavailable:
        raise
    except VideoError as error:
        raise Rejected(str(error)).named("clip-damaged") from None


def words_of(rows: Sequence[Row]) -> list[tuple[float, float, str]]:
    """(start_s, stop_s, words) of the rows that are drawn, the tags in the order of ``BURNT_TAGS``."""
    chosen = sorted((row for row in rows if row["tag"] in BURNT_TAGS), key=lambda row: BURNT_TAGS.index(row["tag"]))
    return [
        (
            row["start_s"],
            row["end_s"],
            f"{row['tag'].capitalize()}: {row['category']} ({100 * row['confidence']:.0f} %)",
        )
        for row in chosen
    ]


def footer_of(rows: Iterable[Row]) -> str:
    """The line below all others: that a model says so, and which."""
    versions = sorted({row["model_version"] for row in rows if row["model_version"]})
    return f"Labels by AI, model {', '.join(versions) or 'unknown'}. Research only, may be wrong."
