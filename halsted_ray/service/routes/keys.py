"""/v1/keys: the keys of the caller's tenant."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException
from sqlalchemy import select

from halsted_ray.service import schemas, users
from halsted_ray.service.database import ApiKey, User
from halsted_ray.service.deps import Components, Id, KeyManager

router = APIRouter(prefix="/v1/keys")


@router.post("", status_code=201)
def issue_key(caller: KeyManager, components: Components, new: schemas.NewKey) -> dict[str, Any]:
    """A new key for a user of the caller's tenant. The key is shown only this once."""
    with components.database.writing() as session:
        user = users.add_user(session, caller.tenant_id, new.user, new.role, caller.actor)
        key = users.issue_key(session, user, new.days, caller.actor)
    return {"key": key, "key_id": key.split("_")[1], "user": new.user, "role": new.role}


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
def revoke_key(caller: KeyManager, components: Components, key_id: Id) -> None:
    """Revokes a key at once."""
    with components.database.writing() as session:
        if not users.revoke_key(session, caller, key_id):
            raise HTTPException(404, f"no key {key_id!r}")
