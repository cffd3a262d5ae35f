"""What people write about a case: the procedure, the day of the operation, labels. It goes with the case's last video.

Labels and the procedure are words of people, which can name a patient: no log, no audit entry and no error holds them.
"""

from __future__ import annotations

import datetime
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from halsted_ray.errors import UsageError
from halsted_ray.service.tables import CaseLabel, Operation, StoredVideo
from halsted_ray.taxonomy.names import fold

MOST_LABELS, LONGEST_LABEL, LONGEST_PROCEDURE = 12, 60, 120
"""Labels of a case; letters of a label; letters of a procedure."""
FIRST_DAY = datetime.date(1950, 1, 1)


@dataclass(frozen=True)
class Description:
    """``procedure``: in a person's words, None where the suggestion of the map stands. ``operated_on``: the day, as
    2026-11-03."""

    procedure: str | None = None
    operated_on: str | None = None
    labels: tuple[str, ...] = ()


NOTHING = Description()


def read_descriptions(session: Session, tenant_id: str, case_ids: Sequence[str]) -> dict[str, Description]:
    """Case id → its description, for those cases of which somebody wrote something."""
    operations = session.scalars(
        select(Operation).where(Operation.tenant_id == tenant_id, Operation.case_id.in_(case_ids))
    )
    labels: dict[str, list[str]] = {}
    for row in session.scalars(
        select(CaseLabel)
        .where(CaseLabel.tenant_id == tenant_id, CaseLabel.case_id.in_(case_ids))
        .order_by(CaseLabel.position)
    ):
        labels.setdefault(row.case_id, []).append(row.label)
    return {
        one.case_id: Description(one.procedure_chosen, one.operated_on, tuple(labels.get(one.case_id, ())))
        for one in operations
    }


def write_description(session: Session, tenant_id: str, case_id: str, new: Description) -> None:
    """Within a transaction: writes down ``new`` in place of what was written before. Raises UsageError for what is too
    long, too much, or no day."""
    procedure = None if new.procedure is None else _cleaned(new.procedure, LONGEST_PROCEDURE, "procedure")
    labels = {fold(label): label for label in (_cleaned(one, LONGEST_LABEL, "label") for one in new.labels)}
    if len(labels) > MOST_LABELS:
        raise UsageError(f"expected at most {MOST_LABELS} labels, got {len(labels)}; remove some").named(
            "labels-many", most=MOST_LABELS
        )
    _check_day(new.operated_on)
    forget_description(session, tenant_id, case_id)
    words = fold(procedure or "")
    session.add(
        Operation(
            tenant_id=tenant_id,
            case_id=case_id,
            procedure_chosen=procedure,
            operated_on=new.operated_on,
            words=words,
        )
    )
    whose: dict[str, Any] = {"tenant_id": tenant_id, "case_id": case_id}
    for position, (folded, label) in enumerate(labels.items()):
        session.add(CaseLabel(**whose, folded=folded, label=label, position=position))
    session.flush()


def merged(descriptions: Iterable[Description]) -> Description:
    """One description of several: the first procedure and day that somebody wrote, and all labels, in order, as many
    as a case may have."""
    found = list(descriptions)
    labels = {fold(label): label for one in found for label in one.labels}
    return Description(
        next((one.procedure for one in found if one.procedure), None),
        next((one.operated_on for one in found if one.operated_on), None),
        tuple(labels.values())[:MOST_LABELS],
    )


def forget_description(session: Session, tenant_id: str, case_id: str) -> None:
    """Within a transaction: removes what was written about a case."""
    for table in (Operation, CaseLabel):
        session.execute(delete(table).where(table.tenant_id == tenant_id, table.case_id == case_id))


def forget_of_video(session: Session, video: StoredVideo) -> None:
    """Within a transaction: removes what was written about the case of a video that goes, unless the case has other
    files."""
    other = (
        select(StoredVideo.video_id)
        .where(
            StoredVideo.tenant_id == video.tenant_id,
            StoredVideo.case_id == video.case_id,
            StoredVideo.video_id != video.video_id,
            StoredVideo.deleted_s.is_(None),
        )
        .limit(1)
    )
    if session.scalar(other) is None:
        forget_description(session, video.tenant_id, video.case_id)


def _cleaned(text: str, longest: int, what: str) -> str:
    """``text`` with single spaces. Raises UsageError where it is empty, too long, or holds control characters. The
    error does not repeat it."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if not text or len(text) > longest:
        raise UsageError(f"{what}: expected 1 to {longest} letters, got {len(text)}").named("text-length", most=longest)
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn") for letter in text):
        raise UsageError(f"{what}: expected letters, digits and signs; got a control character").named(
            "text-unreadable"
        )
    return text


def _check_day(day: str | None) -> None:
    """Raises UsageError where ``day`` is no day on which an operation can have been."""
    if day is None:
        return
    try:
        found = datetime.date.fromisoformat(day)
    except ValueError:
        found = None
    last = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1)  # it is tomorrow already elsewhere
    if found is None or found.isoformat() != day or not FIRST_DAY <= found <= last:
        raise UsageError(f"operated_on: expected a day from {FIRST_DAY} to today, such as {last.isoformat()}").named(
            "day-outside", first=FIRST_DAY.isoformat()
        )
