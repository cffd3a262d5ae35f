"""The newest digest of the audit log, written on a schedule to a place that nobody at this site can change
(``audit_places.py``), and the log held against what was written there.

A tail that was cut off, and a log that was sealed anew, differ from it. What was added after the newest export can
still be cut off unnoticed; the schedule bounds that.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from halsted_ray.service import audit, audit_places
from halsted_ray.service.audit_places import ExportedDigest
from halsted_ray.service.database import Database, lock_row, now_s
from halsted_ray.service.tables import AuditEntry, LockRow

HEAD = "audit-export"
"""The LockRow with the number and the digest of the last export."""


def export(database: Database, place: str) -> ExportedDigest | None:
    """Writes the newest digest to ``place``, unless it was the last that was written. None where there is nothing new.

    Raises UsageError for a place of no known kind, OutputError where it does not take the digest. No transaction is
    open meanwhile, since a place that does not answer would stop everybody who writes into the database. So two
    replicas may both write the same digest, which is as good as once.
    """
    with database.reading() as session:
        last, head = session.get_one(LockRow, HEAD), session.get_one(LockRow, audit.HEAD)
        if head.seq == last.seq:
            return None
        before, found = last.seq, ExportedDigest(head.seq, head.digest, round(now_s(), 3))
    audit_places.write(place, found)
    with database.writing() as session:
        last = lock_row(session, HEAD)
        if last.seq == before:
            last.seq, last.digest = found.seq, found.digest
    return found


def compare(session: Session, found: audit.AuditVerification, written: list[ExportedDigest]) -> audit.AuditVerification:
    """``found``, what ``audit.verify`` found, or what differs from the digests that were written elsewhere."""
    if not found.whole:
        return found
    digests: dict[int, str] = {}
    for one in written:
        if digests.setdefault(one.seq, one.digest) != one.digest:
            reason = f"two digests of entry {one.seq} were exported: the log was written anew after the first"
            return _broken(found, one.seq, reason)
        if one.seq > found.entries:
            reason = f"entry {one.seq} was exported, and the log ends at {found.entries}: its tail was cut off"
            return _broken(found, found.entries + 1, reason)
        own = session.scalar(select(AuditEntry.digest).where(AuditEntry.seq == one.seq))
        if own != one.digest:
            reason = f"entry {one.seq} has another digest than was exported: the log was written anew up to there"
            return _broken(found, one.seq, reason)
    return found


def _broken(found: audit.AuditVerification, at: int, reason: str) -> audit.AuditVerification:
    return audit.AuditVerification(False, found.entries, found.digest, at, reason)
