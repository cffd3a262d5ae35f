"""Tenants, their users, what each role may do, and the keys that prove who sends a request."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from halsted_ray.errors import UsageError
from halsted_ray.service import audit
from halsted_ray.service.database import Database, now_s
from halsted_ray.service.tables import ApiKey, Tenant, User

PERMISSIONS = {
    "surgeon": {"read", "write", "annotate"},
    "trainee": {"read"},
    "reviewer": {"read"},
    "annotator": {"read", "annotate"},
    "admin": {"read", "write", "annotate", "keys", "audit", "metrics"},
    "auditor": {"audit"},
    "monitor": {"metrics"},
}
"""Role → its permissions. read: see models, tag a clip, and see the cases that ``rights.py`` allows. write: upload, and
map, share or delete the cases that ``rights.py`` allows. annotate: correct the maps of those cases. keys: issue, rotate
and revoke the tenant's keys. audit: read the audit log. metrics: read the metrics of the site."""

LINK_ROLE, LINK_PERMISSIONS = "link", frozenset({"read"})
"""The role of whoever looks at a case through a link. No user has it, and only the routes that say so take it
(``auth.require_permission``)."""

MAX_KEY_DAYS = 366.0
"""No key lasts longer."""
ROTATION_S = 86_400.0
"""How long a key that was rotated is still valid beside the new key, so that programs can change over."""
DAY_S = 86_400.0
_TENANT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_USER_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")


@dataclass(frozen=True)
class Caller:
    """The user who sends a request. ``key_id``: the key that proved it, or 'oidc' for a token. Whoever looks at a case
    through a link is no user: then ``role`` is ``LINK_ROLE``, and ``key_id`` the id of the link."""

    tenant_id: str
    user_id: str
    name: str
    role: str
    key_id: str
    address: str = field(default="", compare=False)
    """The address that the request came from."""

    def may(self, permission: str) -> bool:
        """Whether the caller's role has ``permission``."""
        return permission in (LINK_PERMISSIONS if self.is_link else PERMISSIONS[self.role])

    @property
    def is_link(self) -> bool:
        """Whether this is whoever has a link, and no user."""
        return self.role == LINK_ROLE

    @property
    def actor(self) -> str:
        """The caller as the audit log names them."""
        return f"{self.name}/{self.key_id}"


def user_of_tenant(session: Session, tenant_id: str, name: str) -> User:
    """The tenant's user of this name. Raises UsageError."""
    user = session.scalar(select(User).where(User.tenant_id == tenant_id, User.name == name))
    if user is None:
        raise UsageError(
            f"no user {name!r} in this tenant; users are added with their first key, or when they first sign in with "
            "the hospital's account"
        ).named("user-unknown", user=name)
    return user


def shown_name(user: User) -> str:
    """The name of a user for people of the same tenant: what the identity provider says, else the user's name."""
    return user.display_name or user.name


def who_see_cases(session: Session, tenant_id: str, find: str = "") -> list[User]:
    """The users of a tenant whose role sees cases and whose name holds ``find``, in the order of their names."""
    roles = [role for role, permissions in PERMISSIONS.items() if "read" in permissions]
    found = session.scalars(select(User).where(User.tenant_id == tenant_id, User.role.in_(roles))).all()
    # Not by the database: SQLite compares capitals of ASCII only.
    asked = find.casefold().strip()
    held = [user for user in found if asked in f"{shown_name(user)}\n{user.name}".casefold()]
    return sorted(held, key=lambda user: (shown_name(user).casefold(), user.name))


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


def issue_key(session: Session, user: User, days: float = 90.0, actor: str = "operator") -> str:
    """A new key of ``user``, valid for ``days``. Raises UsageError for more than ``MAX_KEY_DAYS``.

    The key is shown only this once: the database keeps a digest, which can't be turned back into the key.
    """
    if not days <= MAX_KEY_DAYS:
        raise UsageError(f"a key lasts at most {MAX_KEY_DAYS:g} days, got {days:g}; issue a shorter one and rotate it")
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    session.add(
        ApiKey(
            key_id=key_id,
            user_id=user.user_id,
            secret_sha256=_digest(secret),
            created_s=now_s(),
            expires_s=now_s() + days * DAY_S,
        )
    )
    audit.record(session, user.tenant_id, actor, "key.issue", key_id, user=user.name, role=user.role, days=days)
    return f"hk_{key_id}_{secret}"


def issue_operator_key(database: Database, tenant_id: str, user_name: str, role: str, days: float = 90.0) -> str:
    """A new key on behalf of the site's operator; adds the tenant and the user where they are new. Raises UsageError
    as ``add_tenant`` and ``add_user`` do."""
    with database.writing() as session:
        add_tenant(session, tenant_id)
        return issue_key(session, add_user(session, tenant_id, user_name, role), days)


def rotate_operator_key(database: Database, key_id: str) -> str:
    """A new key in place of ``key_id``, on behalf of the site's operator. Raises UsageError."""
    with database.writing() as session:
        return rotate_key(session, _key(session, key_id))


def revoke_operator_key(database: Database, key_id: str) -> None:
    """Revokes a key of any tenant, on behalf of the site's operator. Raises UsageError."""
    with database.writing() as session:
        key = _key(session, key_id)
        key.revoked_s = key.revoked_s or now_s()
        tenant_id = session.get_one(User, key.user_id).tenant_id
        audit.record(session, tenant_id, "operator", "key.revoke", key_id)


def _key(session: Session, key_id: str) -> ApiKey:
    """Raises UsageError where no key has this id."""
    key = session.get(ApiKey, key_id)
    if key is None:
        raise UsageError(f"no key {key_id!r}; its id stands between the two _ of a key")
    return key


def revoke_key(session: Session, caller: Caller, key_id: str) -> bool:
    """Revokes a key of the caller's tenant. False where the tenant has no such key."""
    key = session.get(ApiKey, key_id)
    if key is None or session.get_one(User, key.user_id).tenant_id != caller.tenant_id:
        return False
    key.revoked_s = key.revoked_s or now_s()
    audit.record_by(session, caller, "key.revoke", key_id)
    return True


def rotate_key(session: Session, key: ApiKey, actor: str = "operator") -> str:
    """A new key in place of ``key``: of the same user, for as many days. The old key stays valid for ``ROTATION_S``,
    unless it expires before. Raises UsageError where it is not valid any more."""
    if not is_valid(key):
        raise UsageError(f"the key {key.key_id!r} has expired or was revoked; issue a new one").named("key-invalid")
    user = session.get_one(User, key.user_id)
    issued = issue_key(session, user, min((key.expires_s - key.created_s) / DAY_S, MAX_KEY_DAYS), actor)
    key.expires_s = min(key.expires_s, now_s() + ROTATION_S)
    audit.record(session, user.tenant_id, actor, "key.rotate", key.key_id, by=key_id_of(issued))
    return issued


def key_id_of(key: str) -> str:
    """The id within a key's text; empty for a text that is no key."""
    parts = key.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "hk" else ""


def has_administrator(session: Session) -> bool:
    """Whether anybody can sign in to the site as an administrator with a key."""
    valid = select(ApiKey.key_id).join(User, User.user_id == ApiKey.user_id)
    valid = valid.where(User.role == "admin", ApiKey.revoked_s.is_(None), ApiKey.expires_s >= now_s())
    return session.scalar(valid.limit(1)) is not None


def authenticate(session: Session, text: str) -> Caller | None:
    """The user whose key ``text`` is; None for a key that is unknown, expired or revoked."""
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != "hk":
        return None
    asked = select(ApiKey, User).join(User, User.user_id == ApiKey.user_id).where(ApiKey.key_id == parts[1])
    found = session.execute(asked).one_or_none()
    if found is None or not hmac.compare_digest(found[0].secret_sha256, _digest(parts[2])):
        return None
    key, user = found
    if not is_valid(key):
        return None
    return Caller(user.tenant_id, user.user_id, user.name, user.role, key.key_id)


def is_valid(key: ApiKey) -> bool:
    """Whether the key is neither revoked nor expired."""
    return key.revoked_s is None and key.expires_s >= now_s()


def _digest(secret: str) -> str:
    """A fast digest without salt is enough: a secret has 256 random bits, so nobody can guess it."""
    return hashlib.sha256(secret.encode()).hexdigest()
