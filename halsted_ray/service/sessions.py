"""Sessions of the page: who signed in, by a cookie that no script can read.

A browser sends a cookie with every request, also with one that another site made it send. So the cookie is
SameSite=Strict, and whatever changes something must also carry a token in a header, which only the page can know.
A session ends with its key: it holds no right of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from sqlalchemy import delete
from sqlalchemy.orm import Session

from halsted_ray.service import audit
from halsted_ray.service.database import BrowserSession, Key, User, now_s
from halsted_ray.service.users import Caller, is_valid

COOKIE, CSRF_HEADER = "halsted_session", "x-csrf-token"
SESSION_S = 8 * 3600.0
"""A working day."""


def begin(session: Session, caller: Caller) -> str:
    """The cookie of a new session; its digest is kept. Sessions that ran out are removed."""
    token = secrets.token_urlsafe(32)
    session.execute(delete(BrowserSession).where(BrowserSession.expires_s < now_s()))
    session.add(
        BrowserSession(
            token_sha256=_digest(token),
            user_id=caller.user_id,
            key_id=caller.key_id,
            created_s=now_s(),
            expires_s=now_s() + SESSION_S,
        )
    )
    audit.record(session, caller.tenant_id, caller.actor, "session.begin", caller.name)
    return token


def caller_of(session: Session, token: str) -> Caller | None:
    """Whose session this is; None for one that ended, or whose key did."""
    found = session.get(BrowserSession, _digest(token))
    if found is None or found.expires_s < now_s():
        return None
    if found.key_id != "oidc" and not is_valid(session.get(Key, found.key_id)):
        return None
    user = session.get_one(User, found.user_id)
    return Caller(user.tenant_id, user.user_id, user.name, user.role, found.key_id)


def end(session: Session, token: str) -> None:
    session.execute(delete(BrowserSession).where(BrowserSession.token_sha256 == _digest(token)))


def csrf_token(token: str) -> str:
    """What the page sends beside the cookie; nobody who can't read the page's answers knows it."""
    return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
