"""The audit log: entries are only ever added, and each entry is sealed with the digest of the entry before it.

An entry is written in the same transaction as the change that it records: either both are kept or neither is. The
database itself refuses to change or delete an entry (triggers). A change made past the triggers is found by
``verify``. Whoever can rewrite the whole database can also seal all entries anew, so the last digest is written to a
place outside on a schedule (``audit_export.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from halsted_ray.service.database import lock_row, now_s
from halsted_ray.service.tables import AuditEntry

if TYPE_CHECKING:
    from halsted_ray.service.users import Caller

HEAD = "audit"
"""The LockRow that holds the end of the chain."""
START = "0" * 64
"""The digest before the first entry."""
NO_TENANT = "-"
"""The tenant of an entry about nobody known, such as a sign-in with a key that was never issued. Such an entry is shown
by ``halsted serve audit --last`` only."""


@dataclass(frozen=True)
class AuditVerification:
    """What ``verify`` found.

    ``whole``: every entry is as it was written. Otherwise ``broken_at`` is the number of the first entry that is not,
    and ``reason`` says what is wrong with it. ``digest``: of the last entry that is as it was written.
    """

    whole: bool
    entries: int
    digest: str
    broken_at: int | None = None
    reason: str | None = None


def record(session: Session, tenant_id: str, actor: str, action: str, subject: str, **detail: Any) -> None:
    """Adds an entry. ``actor``: user and key id. ``subject``: an id, never the name of a file. ``detail``: JSON
    values."""
    _append(session, tenant_id, actor, action, [(subject, detail)])


def record_by(session: Session, caller: Caller, action: str, subject: str, **detail: Any) -> None:
    """Adds an entry about what ``caller`` did, with the address that the request came from as ``address``."""
    record(session, caller.tenant_id, caller.actor, action, subject, address=caller.address, **detail)


def record_many(
    session: Session, caller: Caller, action: str, entries: Sequence[tuple[str, Mapping[str, Any]]]
) -> None:
    """As ``record_by`` for each (subject, detail) of ``entries``, at the cost of little more than one."""
    with_address = [(subject, {"address": caller.address, **detail}) for subject, detail in entries]
    _append(session, caller.tenant_id, caller.actor, action, with_address)


def _append(
    session: Session, tenant_id: str, actor: str, action: str, entries: Sequence[tuple[str, dict[str, Any]]]
) -> None:
    head = lock_row(session, HEAD)
    for subject, detail in entries:
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
    """SHA-256, as 64 hex digits, over all columns of an entry and the digest of the entry before it."""
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
    """Checks the whole chain, reading a few thousand entries at a time. No entry is added meanwhile."""
    head = lock_row(session, HEAD)
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
