"""The first administrator of a site: made once, by a link that the operator's terminal shows, for a short time.

No key is printed. The link holds a secret behind ``#``, which browsers do not send to servers, so it stands in no log
of a proxy. It ends when it is used, when another one is made, after an hour, and when an administrator is there.
"""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import delete
from sqlalchemy.orm import Session

from halsted_ray.service import users
from halsted_ray.service.database import now_s
from halsted_ray.service.tables import SetupLink

SETUP_S = 3600.0
"""How long a link is valid."""


def begin(session: Session) -> str | None:
    """The secret of a new link, in place of any link before it; None where the site has an administrator already."""
    session.execute(delete(SetupLink))
    if users.has_administrator(session):
        return None
    token = secrets.token_urlsafe(32)
    session.add(SetupLink(token_sha256=_digest(token), expires_s=now_s() + SETUP_S))
    return token


def use(session: Session, token: str, tenant_id: str, user_name: str, days: float) -> str | None:
    """The key of the first administrator, a new user of a tenant that is added if new; None where the link is not
    valid. Raises UsageError for names that can't be taken, and the link is still valid then."""
    link = session.get(SetupLink, _digest(token), with_for_update=True)
    if link is None or link.expires_s < now_s() or users.has_administrator(session):
        return None
    users.add_tenant(session, tenant_id)
    user = users.add_user(session, tenant_id, user_name, "admin", "setup")
    session.delete(link)
    return users.issue_key(session, user, days, "setup")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
