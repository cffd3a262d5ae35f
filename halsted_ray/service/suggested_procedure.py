"""Which procedure the maps of a case suggest: one rule for the library, the trend and the cohort."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.orm import Session

from halsted_ray.service.tables import StoredVideo, VideoSummary
from halsted_ray.taxonomy.names import fold

MAPPED = ("mapped", "partial")
"""States of a summary whose map is there."""
DECIMALS = 4


class MapOfFile(NamedTuple):
    """What the summary of a file says. ``duration_s``: of the file; ``confidence``: of its procedure."""

    state: str | None
    procedure: str | None
    confidence: float | None
    duration_s: float


def suggested_procedure(files: Iterable[MapOfFile]) -> tuple[str | None, float | None]:
    """(procedure, its mean confidence over the time of the files that name it); None where no map names one.

    Each file counts by its length times its confidence, as a short file, or one that is unsure, may show a part of the
    operation that looks like another one. Of equals, to a thousandth of a second, the one named by more of the time,
    then the last by name. ``cases_suggesting`` is the same rule in SQL.
    """
    weights: dict[str, float] = defaultdict(float)
    lengths_s: dict[str, float] = defaultdict(float)
    for file in files:
        if file.state in MAPPED and file.procedure:
            lengths_s[file.procedure] += file.duration_s
            weights[file.procedure] += file.duration_s * (file.confidence or 0.0)
    if not weights:
        return None, None
    best = max(weights, key=lambda name: (round(1000 * weights[name]), round(1000 * lengths_s[name]), name))
    return best, round(weights[best] / lengths_s[best], DECIMALS) if lengths_s[best] else None


def procedures_alike(session: Session, tenant_id: str, procedure: str) -> list[str]:
    """The procedures that maps of the tenant name and that are ``procedure``, compared by ``fold``."""
    named = select(VideoSummary.procedure).where(
        VideoSummary.tenant_id == tenant_id, VideoSummary.procedure.is_not(None)
    )
    wanted = fold(procedure)
    return [name for name in session.scalars(named.distinct()) if name is not None and fold(name) == wanted]


def cases_suggesting(
    session: Session, tenant_id: str, alike: Sequence[str], is_read: ColumnElement[bool]
) -> Select[tuple[str]]:
    """The ids of the cases of several files whose suggested procedure is among ``alike``, by the maps of the files that
    meet ``is_read``: ``suggested_procedure`` in SQL, since pages are cut there. (Of a case of one file it is that of
    its map.)"""
    is_named = and_(
        StoredVideo.tenant_id == tenant_id,
        StoredVideo.deleted_s.is_(None),
        VideoSummary.state.in_(MAPPED),
        VideoSummary.procedure != "",
        is_read,
    )
    is_of_video = and_(VideoSummary.tenant_id == StoredVideo.tenant_id, VideoSummary.video_id == StoredVideo.video_id)
    of_case = select(StoredVideo.case_id).join(VideoSummary, is_of_video)
    of_several = (
        select(StoredVideo.case_id)
        .where(StoredVideo.tenant_id == tenant_id)
        .group_by(StoredVideo.case_id)
        .having(func.count() > 1)
    )
    candidates = of_case.where(is_named, VideoSummary.procedure.in_(alike), StoredVideo.case_id.in_(of_several))
    weight = func.sum(StoredVideo.duration_s * func.coalesce(VideoSummary.procedure_confidence, 0.0))
    is_postgres = session.get_bind().dialect.name == "postgresql"
    name: Any = VideoSummary.procedure.collate("C") if is_postgres else VideoSummary.procedure  # by code points
    keys = (func.round(1000 * weight), func.round(1000 * func.sum(StoredVideo.duration_s)), name)
    place = func.row_number().over(partition_by=StoredVideo.case_id, order_by=[key.desc() for key in keys])
    ranked = (
        of_case.add_columns(VideoSummary.procedure, place.label("place"))
        .where(is_named, StoredVideo.case_id.in_(candidates))
        .group_by(StoredVideo.case_id, VideoSummary.procedure)
        .subquery()
    )
    return select(ranked.c.case_id).where(ranked.c.place == 1, ranked.c.procedure.in_(alike))
