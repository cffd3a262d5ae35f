"""The audit log: append-only, and each entry sealed with the digest of the one before it.

An entry is written in the transaction of what it tells of: both hold, or neither. The database itself refuses to
change or delete an entry (triggers); what somebody changes past it shows in ``verify``. Whoever can rewrite the
whole database can also seal it anew, so keep the last digest elsewhere now and then (``GET /v1/audit`` shows it).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from halsted_ray.service.database import AuditEntry, lock, now_s

HEAD = "audit"
START = "0" * 64
"""What the first entry has before it."""


@dataclass(frozen=True)
class AuditVerification:
    """``whole``, or the number of the first entry that is not what was written, and why."""

    whole: bool
    entries: int
    digest: str
    broken_at: int | None = None
    reason: str | None = None


def record(session: Session, tenant_id: str, actor: str, action: str, subject: str, **detail) -> None:
    """Adds an entry. ``actor``: user and key id; ``subject``: an id, never a file's name."""
    head = lock(session, HEAD)
    entry = AuditEntry(
        seq=head.seq + 1,
        at_s=now_s(),
        tenant_id=tenant_id,
        actor=actor,
        action=action,
        subject=subject,
        detail=detail,
        previous=head.digest,
    )
    entry.digest = head.digest = seal(entry)
    head.seq = entry.seq
    session.add(entry)
    session.flush()


def seal(entry: AuditEntry) -> str:
    """SHA-256 over all of an entry and the digest before it."""
    parts = [
        entry.seq,
        entry.at_s,
        entry.tenant_id,
        entry.actor,
        entry.action,
        entry.subject,
        entry.detail,
        entry.previous,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def verify(session: Session) -> AuditVerification:
    """Reads the whole chain, a few thousand entries at a time."""
    head = lock(session, HEAD)
    count, previous = 0, START
    for entry in session.scalars(select(AuditEntry).order_by(AuditEntry.seq).execution_options(yield_per=2000)):
        count += 1
        if entry.seq != count:
            return AuditVerification(False, count - 1, previous, count, f"entry {count} is missing")
        if entry.previous != previous or entry.digest != seal(entry):
            return AuditVerification(False, count - 1, previous, count, f"entry {count} is not what was written")
        previous = entry.digest
    if (head.seq, head.digest) != (count, previous):
        return AuditVerification(
            False, count, previous, count + 1, f"{head.seq} entries were written, {count} are there"
        )
    return AuditVerification(True, count, previous)
