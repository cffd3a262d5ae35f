"""Sessions of the page: who signed in, by a cookie that no script can read.

A browser sends a cookie with every request, also with a request that another site made it send. So the cookie is
SameSite=Strict, and a request that changes something must also carry a token in a header, which only the page can
know. A session has no rights of its own: it ends when its key ends. Whoever looks at a case through a link has such a
session too, and it ends when the link ends (``links.py``).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import replace

from sqlalchemy import delete
from sqlalchemy.orm import Session

from halsted_ray.service import audit, links
from halsted_ray.service.database import now_s
from halsted_ray.service.links import LinkUse
from halsted_ray.service.tables import ApiKey, BrowserSession, LinkSession, User
from halsted_ray.service.users import Caller, is_valid

COOKIE, CSRF_HEADER = "halsted_session", "x-csrf-token"
SESSION_S = 8 * 3600.0
"""How long a session lasts: one working day."""


def begin(session: Session, caller: Caller) -> str:
    """The cookie of a new session of ``caller``. The database keeps only its digest. Expired sessions are removed."""
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
    audit.record_by(session, caller, "session.begin", caller.name)
    return token


def begin_of_link(session: Session, use: LinkUse, address: str) -> str:
    """The cookie of a new session of whoever has a link. That it begins is an entry of the case's audit log."""
    token = secrets.token_urlsafe(32)
    session.execute(delete(LinkSession).where(LinkSession.expires_s < now_s()))
    session.add(
        LinkSession(
            token_sha256=_digest(token),
            link_id=use.link_id,
            created_s=now_s(),
            expires_s=min(now_s() + SESSION_S, use.expires_s),
        )
    )
    caller = replace(links.caller_by(use), address=address)
    audit.record_by(session, caller, "link.open", use.video_id, link=use.link_id)
    return token


def caller_of(session: Session, token: str) -> Caller | None:
    """The user, or the link, whose session the cookie ``token`` is; None where the session, its key or its link has
    ended."""
    found = session.get(BrowserSession, _digest(token))
    if found is None:
        through = session.get(LinkSession, _digest(token))
        use = links.use_of(session, through.link_id) if through and through.expires_s >= now_s() else None
        return links.caller_by(use) if use else None
    if found.expires_s < now_s():
        return None
    if found.key_id != "oidc" and not is_valid(session.get_one(ApiKey, found.key_id)):
        return None
    user = session.get_one(User, found.user_id)
    return Caller(user.tenant_id, user.user_id, user.name, user.role, found.key_id)


def end(session: Session, token: str) -> None:
    """Ends the session of the cookie ``token``; a session that has ended already is fine."""
    session.execute(delete(BrowserSession).where(BrowserSession.token_sha256 == _digest(token)))
    session.execute(delete(LinkSession).where(LinkSession.token_sha256 == _digest(token)))


def csrf_token(token: str) -> str:
    """The header that the page sends beside the cookie ``token``. Only somebody who can read the page's answers
    knows it."""
    return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
