"""/v1/keys: the keys of the caller's tenant."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import select

from halsted_ray.service import schemas, users
from halsted_ray.service.case_access import refusals_recorded
from halsted_ray.service.deps import AnyCaller, ChecksKey, Components, Id, KeyManager
from halsted_ray.service.errors import NotFound
from halsted_ray.service.tables import ApiKey, User

router = APIRouter(prefix="/v1/keys")


@router.post("", status_code=201)
def issue_key(caller: KeyManager, components: Components, new: schemas.NewKey) -> dict[str, Any]:
    """A new key for a user of the caller's tenant. The key is shown only this once."""
    with components.database.writing() as session:
        user = users.add_user(session, caller.tenant_id, new.user, new.role, caller.actor)
        key = users.issue_key(session, user, new.days or components.settings.key_days, caller.actor)
    return {"key": key, "key_id": users.key_id_of(key), "user": new.user, "role": new.role}


@router.post("/{key_id}:rotate", status_code=201, dependencies=[ChecksKey])
def rotate_key(request: Request, caller: AnyCaller, components: Components, key_id: Id) -> dict[str, Any]:
    """A new key in place of this one, shown only this once; this one stays valid for a day. Administrators rotate all
    keys of their tenant, other users their own."""
    with refusals_recorded(request, caller, "key"), components.database.writing() as session:
        key = session.get(ApiKey, key_id, with_for_update=True)
        user = session.get_one(User, key.user_id) if key else None
        is_theirs = user is not None and (user.user_id == caller.user_id or caller.may("keys"))
        if key is None or user is None or user.tenant_id != caller.tenant_id or not is_theirs:
            raise NotFound(f"no key {key_id!r}")
        issued = users.rotate_key(session, key, caller.actor)
    return {"key": issued, "key_id": users.key_id_of(issued), "user": user.name, "role": user.role}


@router.get("")
def list_keys(caller: KeyManager, components: Components) -> list[dict[str, Any]]:
    """All keys of the caller's tenant, without their secrets, the oldest first."""
    with components.database.reading() as session:
        rows = session.execute(
            select(ApiKey, User)
            .join(User, ApiKey.user_id == User.user_id)
            .where(User.tenant_id == caller.tenant_id)
            .order_by(ApiKey.created_s)
        ).all()
    return [
        {
            "key_id": key.key_id,
            "user": user.name,
            "role": user.role,
            "created_s": key.created_s,
            "expires_s": key.expires_s,
            "revoked_s": key.revoked_s,
        }
        for key, user in rows
    ]


@router.delete("/{key_id}", status_code=204)
def revoke_key(request: Request, caller: KeyManager, components: Components, key_id: Id) -> None:
    """Revokes a key at once."""
    with refusals_recorded(request, caller, "keys"), components.database.writing() as session:
        if not users.revoke_key(session, caller, key_id):
            raise NotFound(f"no key {key_id!r}")
