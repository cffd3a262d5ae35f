"""The figures of whole cases from the summaries of their files: what a trend and a cohort are made of.

No map is read. A case here is all files of an operation together, so its length is that of the operation.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Row, and_, exists, or_, select
from sqlalchemy.orm import Session

from halsted_ray.service.sample_case import LABEL as SAMPLE
from halsted_ray.service.suggested_procedure import MAPPED, MapOfFile, procedures_alike, suggested_procedure
from halsted_ray.service.summaries import unpacked_times
from halsted_ray.service.tables import Operation, StoredVideo, Upload, VideoSummary
from halsted_ray.taxonomy.names import fold


@dataclass(frozen=True)
class CaseFigures:
    """One case. ``files``: (video id, owner, consent, length in seconds), in order; ``day``: of the operation, else of
    its upload. ``procedure``: as a person says, else as its maps suggest (``suggested_procedure``). ``versions``: of
    the models of its maps. ``is_mapped``: all files are mapped without gaps; ``is_partial``: some have a map, or a map
    has gaps.

    ``steps_s``: step → its seconds; ``phases_s``: phase of suturing → the seconds of each stitch that shows it;
    ``stitches``: None where nobody asked; ``rated``: those whose proficiency a map states, ``high``: of them those of
    high proficiency.
    """

    case_id: str
    files: tuple[tuple[str, str | None, str, float], ...]
    day: datetime.date
    procedure: str | None
    versions: tuple[str, ...]
    is_mapped: bool
    is_partial: bool
    steps_s: dict[str, float]
    phases_s: dict[str, list[float]]
    stitches: int | None
    rated: int
    high: int

    @property
    def duration_s(self) -> float:
        """Of all files together."""
        return sum(length_s for _, _, _, length_s in self.files)

    @property
    def owner_id(self) -> str | None:
        """Whose case it is; None where files have several owners, or one has none."""
        owners = {owner_id for _, owner_id, _, _ in self.files}
        return owners.pop() if len(owners) == 1 else None

    @property
    def has_consent(self) -> bool:
        """Whether the patient's consent is given for every file."""
        return all(consent == "given" for _, _, consent, _ in self.files)

    @property
    def version(self) -> str | None:
        """Of the one model that made all of its maps; None where there is none, or several."""
        return self.versions[0] if len(self.versions) == 1 else None

    @cached_property
    def phase_medians_s(self) -> dict[str, float]:
        """Phase → the median over the case's stitches."""
        return {phase: round(float(np.median(times_s)), 1) for phase, times_s in self.phases_s.items() if times_s}

    @property
    def high_share(self) -> float | None:
        """The share of high proficiency among the stitches that have one."""
        return self.high / self.rated if self.rated else None


def read_figures(
    session: Session,
    tenant_id: str,
    among: ColumnElement[bool],
    procedure: str | None = None,
    hide_withdrawn: bool = True,
) -> list[CaseFigures]:
    """The cases of a tenant of which a file meets ``among``, each with all of its files, by day; sample cases are none.

    ``procedure``: only these, compared by ``fold``. ``hide_withdrawn``: what a map says is left out for files whose
    consent is withdrawn.
    """
    chosen = select(StoredVideo.case_id).where(
        StoredVideo.tenant_id == tenant_id, StoredVideo.deleted_s.is_(None), among, ~_is_sample()
    )
    if procedure is not None:
        chosen = _of_procedure(session, chosen, tenant_id, procedure)
    columns: tuple[Any, ...] = (
        StoredVideo.case_id,
        StoredVideo.video_id,
        StoredVideo.owner_id,
        StoredVideo.consent,
        StoredVideo.duration_s,
        StoredVideo.created_s,
        Operation.operated_on,
        Operation.procedure_chosen,
        VideoSummary.state,
        VideoSummary.model_version,
        VideoSummary.procedure,
        VideoSummary.procedure_confidence,
        VideoSummary.step_times,
        VideoSummary.phase_times,
        VideoSummary.stitches,
        VideoSummary.rated,
        VideoSummary.rated_high,
    )
    rows = session.execute(
        select(*columns)
        .select_from(StoredVideo)
        .outerjoin(Operation, _is_of_case())
        .outerjoin(VideoSummary, _is_of_video(hide_withdrawn))
        .where(StoredVideo.tenant_id == tenant_id, StoredVideo.deleted_s.is_(None), StoredVideo.case_id.in_(chosen))
        .order_by(StoredVideo.position, StoredVideo.created_s, StoredVideo.video_id)
    )
    by_case: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        by_case[row.case_id].append(row)
    found = [_case(case_id, files) for case_id, files in by_case.items()]
    if procedure is not None:
        found = [one for one in found if one.procedure is not None and fold(one.procedure) == fold(procedure)]
    return sorted(found, key=lambda one: (one.day, one.case_id))


def _is_sample() -> ColumnElement[bool]:
    """An operation that never happened. The label of the upload says so, which nobody can take away."""
    return exists().where(
        Upload.tenant_id == StoredVideo.tenant_id, Upload.video_id == StoredVideo.video_id, Upload.label == SAMPLE
    )


def _of_procedure(session: Session, chosen: Any, tenant_id: str, procedure: str) -> Any:
    """Those of ``chosen`` that can be of this procedure: the database need not give the phases of all others."""
    alike = procedures_alike(session, tenant_id, procedure)
    return (
        chosen.outerjoin(Operation, _is_of_case())
        .outerjoin(VideoSummary, _is_of_video(hide_withdrawn=False))
        .where(
            or_(
                Operation.words == fold(procedure),
                and_(Operation.procedure_chosen.is_(None), VideoSummary.procedure.in_(alike)),
            )
        )
    )


def _is_of_case() -> ColumnElement[bool]:
    return and_(Operation.tenant_id == StoredVideo.tenant_id, Operation.case_id == StoredVideo.case_id)


def _is_of_video(hide_withdrawn: bool) -> ColumnElement[bool]:
    own = and_(VideoSummary.tenant_id == StoredVideo.tenant_id, VideoSummary.video_id == StoredVideo.video_id)
    return and_(own, StoredVideo.consent != "withdrawn") if hide_withdrawn else own


def _case(case_id: str, files: Sequence[Row[Any]]) -> CaseFigures:
    mapped = [file for file in files if file.state in MAPPED]
    counts = [file.stitches for file in mapped if file.stitches is not None]
    steps_s: dict[str, float] = defaultdict(float)
    phases_s: dict[str, list[float]] = defaultdict(list)
    for file in mapped:
        for step, seconds in (file.step_times or {}).items():
            steps_s[step] += seconds
        for phase, text in (file.phase_times or {}).items():
            phases_s[phase] += unpacked_times([text]).tolist()
    is_whole = len(mapped) == len(files) and all(file.state == "mapped" for file in mapped)
    return CaseFigures(
        case_id,
        tuple((file.video_id, file.owner_id, file.consent, file.duration_s) for file in files),
        _day(files),
        next((file.procedure_chosen for file in files if file.procedure_chosen), None) or _suggested(files),
        tuple(sorted({file.model_version for file in mapped if file.model_version})),
        is_whole,
        bool(mapped) and not is_whole,
        {step: round(seconds, 1) for step, seconds in steps_s.items()},
        dict(phases_s),
        sum(counts) if counts else None,
        sum(file.rated for file in mapped),
        sum(file.rated_high for file in mapped),
    )


def _suggested(files: Iterable[Row[Any]]) -> str | None:
    of_files = (MapOfFile(file.state, file.procedure, file.procedure_confidence, file.duration_s) for file in files)
    return suggested_procedure(of_files)[0]


def _day(files: Sequence[Row[Any]]) -> datetime.date:
    if operated_on := next((file.operated_on for file in files if file.operated_on), None):
        return datetime.date.fromisoformat(operated_on)
    first_s = min(file.created_s for file in files)
    return datetime.datetime.fromtimestamp(first_s, datetime.UTC).date()
