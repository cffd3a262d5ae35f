"""Writes what a map says in short into the database when a job ends, and for maps of before.

A summary is made from the published map, so making it again gives the same. ``RULE`` counts up when the rules of
``maps.summary`` change: then the housekeeping makes all summaries anew.
"""

from __future__ import annotations

import binascii
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from halsted_ray.errors import HalstedError
from halsted_ray.maps.stitch_table import stitches_of_timeline, taxonomy_of
from halsted_ray.maps.summary import Moments, summarise
from halsted_ray.service.failure_causes import Cause
from halsted_ray.service.tables import StoredVideo, VideoSummary
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.taxonomy.names import fold

if TYPE_CHECKING:
    from halsted_ray.service.videos import Videos

log = logging.getLogger(__name__)
RULE = 2
"""The version of the rules by which summaries are made."""
TICKS_A_SECOND = 10
"""Times of phases are kept to a tenth of a second."""
WHY = {"least_sure": "least sure", "longest": "longest", "unlike": "unlike the others"}
"""The fields of ``Moments`` → in words."""


def note_map(
    videos: Videos, tenant_id: str, video_id: str, outcome: str, reason: str | None, taxonomy: Taxonomy
) -> None:
    """A job has published a map: writes its summary. ``outcome``: mapped or partial. ``taxonomy``: of the model. Where
    the summary can't be made now, only the state is written, and the housekeeping makes it later."""
    try:
        values = _summary_of(videos, tenant_id, video_id, taxonomy)
    except HalstedError as error:
        log.warning("the summary of the map of %s waits: %s", video_id, type(error).__name__)
        values = None
    with videos.database.writing() as session:
        _write(session, tenant_id, video_id, values, state=outcome, reason=reason, cause=None)


def note_failure(
    session: Session, tenant_id: str, video_id: str, reason: str | None, cause: Cause | None = None
) -> None:
    """Within a transaction: a job has ended without a map. Where an earlier job made a map, that is still there, and
    its summary stays."""
    before = session.get(VideoSummary, (tenant_id, video_id))
    if before is None or before.state == "failed":
        _write(session, tenant_id, video_id, {"rule": RULE}, state="failed", reason=reason, cause=cause)


def make_missing(videos: Videos, taxonomy: Taxonomy, tried: set[tuple[str, str]], most: int = 50) -> int:
    """Makes up to ``most`` summaries that were made by an earlier rule or by none, and returns how many it made.
    ``tried``: (tenant, video) of those that could not be made before; they are passed over, and new ones come in."""
    with videos.database.reading() as session:
        found = session.execute(
            select(VideoSummary.tenant_id, VideoSummary.video_id)
            .where(VideoSummary.rule < RULE, VideoSummary.state != "failed")
            .order_by(VideoSummary.tenant_id, VideoSummary.video_id)
            .limit(most + len(tried))
        ).all()
    made = 0
    for tenant_id, video_id in [(one, other) for one, other in found if (one, other) not in tried][:most]:
        try:
            values = _summary_of(videos, tenant_id, video_id, taxonomy)
        except HalstedError as error:
            log.warning("the map of %s has no summary: %s", video_id, type(error).__name__)
            tried.add((tenant_id, video_id))
            continue
        with videos.database.writing() as session:
            _write(session, tenant_id, video_id, values)
        made += 1
    return made


def forget_summary(session: Session, video: StoredVideo) -> None:
    """Within a transaction: removes what the map of a video said in short."""
    whose = (VideoSummary.tenant_id == video.tenant_id, VideoSummary.video_id == video.video_id)
    session.execute(delete(VideoSummary).where(*whose))


def packed_times(times_s: Sequence[float]) -> str:
    """Times of at most 6,553.5 s as a short text, at two bytes each: ten thousand videos with hundreds of stitches are
    read within a request."""
    ticks_N = np.clip(np.rint(np.asarray(times_s, float) * TICKS_A_SECOND), 0, 65_535).astype("<u2")
    return binascii.b2a_base64(ticks_N.tobytes(), newline=False).decode()


def unpacked_times(texts: Iterable[str]) -> NDArray[np.float64]:
    """The times of all ``texts`` in seconds, float64 [N]."""
    packed = b"".join(map(binascii.a2b_base64, texts))
    return np.frombuffer(packed, "<u2") / TICKS_A_SECOND


def _summary_of(videos: Videos, tenant_id: str, video_id: str, taxonomy: Taxonomy) -> dict[str, Any]:
    """The columns of a summary, from the published map. Raises UsageError where there is no map, where its taxonomy is
    unknown and where the video is deleted meanwhile, OutputError where it can't be read now."""
    duration_s = videos.get(tenant_id, video_id).duration_s
    timeline, asked = videos.timeline(tenant_id, video_id), videos.asked(tenant_id, video_id)
    rows = timeline.to_pylist()
    if rows:
        taxonomy = taxonomy_of(rows[-1]["taxonomy_digest"], taxonomy)
    suturing = [video for video in stitches_of_timeline(timeline, {video_id: asked}, taxonomy) if video.is_asked]
    found = summarise(
        rows,
        duration_s,
        asked,
        taxonomy,
        [stitch for video in suturing for stitch in video.stitches] if suturing else None,
    )
    names = [found.procedure or "", *found.strip_categories]
    return {
        "rule": RULE,
        "model_version": rows[-1]["model_version"] if rows else None,
        "asked": list(found.asked),
        "not_asked": list(found.not_asked),
        "procedure": found.procedure,
        "procedure_confidence": found.procedure_confidence,
        "words": fold("\n".join(names)),
        "strip": [list(part) for part in found.strip],
        "strip_categories": list(found.strip_categories),
        "stitches": found.stitches,
        "rated": found.rated,
        "rated_high": found.rated_high,
        "phase_times": {phase: packed_times(times_s) for phase, times_s in found.phase_times_s.items() if times_s},
        "step_times": {step: round(seconds, 1) for step, seconds in found.step_times_s.items()},
        **_moment_columns(found.moments),
    }


def _moment_columns(moments: Moments) -> dict[str, Any]:
    known = {name: moment for name in WHY if (moment := getattr(moments, name)) is not None}
    return {
        "least_sure": known["least_sure"].value if "least_sure" in known else None,
        "longest_s": known["longest"].value if "longest" in known else None,
        "unlike": known["unlike"].value if "unlike" in known else None,
        "moments": {name: asdict(moment) for name, moment in known.items()},
    }


NOTHING_KNOWN: dict[str, Any] = {
    "asked": [],
    "not_asked": [],
    "strip": [],
    "strip_categories": [],
    "phase_times": {},
    "step_times": {},
    "moments": {},
}


def _write(session: Session, tenant_id: str, video_id: str, values: dict[str, Any] | None, **state: Any) -> None:
    """Writes ``values`` in place of what was known before; None: keeps that, and marks it as due to be made. Nothing
    is written of a video that was deleted meanwhile."""
    video = session.get(StoredVideo, (tenant_id, video_id), with_for_update=True)
    if video is None or video.deleted_s is not None:
        return
    row = session.get(VideoSummary, (tenant_id, video_id))
    if row is None:
        row = VideoSummary(tenant_id=tenant_id, video_id=video_id, **NOTHING_KNOWN)
        session.add(row)
    for name, value in {**(values or {"rule": 0}), **state}.items():
        setattr(row, name, value)
