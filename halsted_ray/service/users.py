"""Tenants, their users, what each role may do, and the keys that prove who sends a request."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from halsted_ray.errors import UsageError
from halsted_ray.service import audit
from halsted_ray.service.database import ApiKey, Database, Tenant, User, now_s

PERMISSIONS = {
    "surgeon": {"read", "write"},
    "reviewer": {"read"},
    "annotator": {"read"},
    "admin": {"read", "write", "keys", "audit"},
    "auditor": {"audit"},
}
"""Role → its permissions. read: see videos, maps and models, tag a clip. write: upload, map, cancel, delete. keys:
issue and revoke the tenant's keys. audit: read the audit log."""

DAY_S = 86_400.0
_TENANT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_USER_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")


@dataclass(frozen=True)
class Caller:
    """The user who sends a request. ``key_id``: the key that proved it, or 'oidc' for a token."""

    tenant_id: str
    user_id: str
    name: str
    role: str
    key_id: str

    def may(self, permission: str) -> bool:
        """Whether the caller's role has ``permission``."""
        return permission in PERMISSIONS[self.role]

    @property
    def actor(self) -> str:
        """The caller as the audit log names them."""
        return f"{self.name}/{self.key_id}"


def add_tenant(session: Session, tenant_id: str) -> None:
    """Adds the tenant if it is new. Raises UsageError for an id that can't be the name of a folder."""
    if not _TENANT_ID.fullmatch(tenant_id):
        raise UsageError(f"tenant {tenant_id!r}: expected up to 63 lower-case letters, digits and dashes")
    if session.get(Tenant, tenant_id) is None:
        session.add(Tenant(tenant_id=tenant_id, created_s=now_s()))
        session.flush()
        audit.record(session, tenant_id, "operator", "tenant.add", tenant_id)


def add_user(session: Session, tenant_id: str, name: str, role: str, actor: str = "operator") -> User:
    """The tenant's user of this name, added if the user is new.

    Raises UsageError for an unknown role, a name with other characters, or a known user who has another role.
    """
    if role not in PERMISSIONS:
        raise UsageError(f"unknown role {role!r}; expected one of {', '.join(PERMISSIONS)}")
    if not _USER_NAME.fullmatch(name):
        raise UsageError("a user's name: expected up to 64 letters, digits and any of . _ @ + -")
    user = session.scalar(select(User).where(User.tenant_id == tenant_id, User.name == name))
    if user is None:
        user = User(user_id=secrets.token_hex(8), tenant_id=tenant_id, name=name, role=role, created_s=now_s())
        session.add(user)
        session.flush()
        audit.record(session, tenant_id, actor, "user.add", name, role=role)
    if user.role != role:
        raise UsageError(f"user {name!r} has the role {user.role!r}, got {role!r}; use another name")
    return user


def issue_key(session: Session, user: User, days: float | None = None, actor: str = "operator") -> str:
    """A new key of ``user``, valid for ``days`` (None: until it is revoked).

    The key is shown only this once: the database keeps a digest, which can't be turned back into the key.
    """
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    session.add(
        ApiKey(
            key_id=key_id,
            user_id=user.user_id,
            secret_sha256=_digest(secret),
            created_s=now_s(),
            expires_s=None if days is None else now_s() + days * DAY_S,
        )
    )
    audit.record(session, user.tenant_id, actor, "key.issue", key_id, user=user.name, role=user.role)
    return f"hk_{key_id}_{secret}"


def issue_operator_key(database: Database, tenant_id: str, user_name: str, role: str, days: float | None = None) -> str:
    """A new key on behalf of the site's operator; adds the tenant and the user where they are new. Raises UsageError
    as ``add_tenant`` and ``add_user`` do."""
    with database.writing() as session:
        add_tenant(session, tenant_id)
        return issue_key(session, add_user(session, tenant_id, user_name, role), days)


def revoke_key(session: Session, caller: Caller, key_id: str) -> bool:
    """Revokes a key of the caller's tenant. False where the tenant has no such key."""
    key = session.get(ApiKey, key_id)
    if key is None or session.get_one(User, key.user_id).tenant_id != caller.tenant_id:
        return False
    key.revoked_s = key.revoked_s or now_s()
    audit.record(session, caller.tenant_id, caller.actor, "key.revoke", key_id)
    return True


def authenticate(session: Session, text: str) -> Caller | None:
    """The user whose key ``text`` is; None for a key that is unknown, expired or revoked."""
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != "hk":
        return None
    key = session.get(ApiKey, parts[1])
    if key is None or not hmac.compare_digest(key.secret_sha256, _digest(parts[2])):
        return None
    if not is_valid(key):
        return None
    user = session.get_one(User, key.user_id)
    return Caller(user.tenant_id, user.user_id, user.name, user.role, key.key_id)


def is_valid(key: ApiKey) -> bool:
    """Whether the key is neither revoked nor expired."""
    return key.revoked_s is None and (key.expires_s is None or key.expires_s >= now_s())


def _digest(secret: str) -> str:
    """A fast digest without salt is enough: a secret has 256 random bits, so nobody can guess it."""
    return hashlib.sha256(secret.encode()).hexdigest()
