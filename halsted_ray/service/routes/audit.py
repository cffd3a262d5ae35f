"""/v1/audit: the audit log, as far as it is about the caller's tenant."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import select

from halsted_ray.service import audit, audit_export
from halsted_ray.service.deps import Auditor, Components
from halsted_ray.service.tables import AuditEntry, LockRow

router = APIRouter(prefix="/v1/audit")


@router.get("")
def read_audit(
    caller: Auditor,
    components: Components,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    verify: bool = False,
) -> dict[str, Any]:
    """The tenant's entries behind the number ``after``. With ``verify`` the whole log is read, and ``verified`` says
    whether every entry is as it was written. ``exported``: the last entry whose digest was written to the place of
    ``HALSTED_AUDIT_TO``, null where none was."""
    verdict = None
    with components.database.reading() as session:
        entries = session.scalars(
            select(AuditEntry)
            .where(AuditEntry.tenant_id == caller.tenant_id, AuditEntry.seq > after)
            .order_by(AuditEntry.seq)
            .limit(limit)
        )
        shown = [
            {name: getattr(entry, name) for name in ("seq", "at_s", "actor", "action", "subject", "detail", "digest")}
            for entry in entries
        ]
        digest = session.get_one(LockRow, audit.HEAD).digest
        exported = session.get_one(LockRow, audit_export.HEAD)
    if verify:
        with components.database.writing() as session:
            verdict = asdict(audit.verify(session))
    known = {"seq": exported.seq, "digest": exported.digest} if exported.seq else None
    return {"digest": digest, "exported": known, "verified": verdict, "entries": shown}
