"""Read-only links: whoever has one looks at one case, or at a part of it, until the link ends. Nothing else.

A link is a secret behind ``#`` of the page's address, which browsers send to no server. The page exchanges it for a
session (``sessions.py``). A link ends when it is revoked, when it expires, and with the case. While the patient's
consent is withdrawn, and while the case is under a legal hold, it shows nothing: then only people whom the site knows
by name see the case.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from halsted_ray.errors import UsageError
from halsted_ray.service import audit, users
from halsted_ray.service.database import now_s
from halsted_ray.service.errors import NotFound, StateConflict
from halsted_ray.service.stored_videos import video_of_tenant
from halsted_ray.service.tables import CaseLink, LinkSession, StoredVideo, User
from halsted_ray.service.users import DAY_S, LINK_ROLE, Caller

if TYPE_CHECKING:
    from halsted_ray.service.cases import Case

RIGHT_OF = {"video": "watch", "timeline": "timeline"}
"""What a link can show → the right that this is (``rights.RIGHTS``)."""
PROFICIENCY = "proficiency"
"""What a link shows with the map only where its maker says so: how well something was done. Also the tag of it."""
SHOWS = (*RIGHT_OF, PROFICIENCY)
USUAL = tuple(RIGHT_OF)
"""What a link shows where its maker says nothing else."""
MAX_LINK_DAYS = 90.0
MAX_LINKS = 100
"""So many links of one case may run at a time."""


@dataclass(frozen=True)
class LinkUse:
    """What one link shows: of ``video_id`` the part [from_s, to_s) in seconds, None for the whole video; ``shows`` as
    ``SHOWS``."""

    link_id: str
    tenant_id: str
    video_id: str
    span: tuple[float, float] | None
    shows: tuple[str, ...]
    expires_s: float

    @property
    def rights(self) -> frozenset[str]:
        """The rights to the case that the link gives."""
        return frozenset({"see", *(RIGHT_OF[what] for what in self.shows if what in RIGHT_OF)})

    @property
    def hides_proficiency(self) -> bool:
        """Whether the map is shown without how well something was done."""
        return PROFICIENCY not in self.shows


@dataclass(frozen=True)
class LinkOfCase:
    """A link that runs, as people read it. ``created_by``: the name by which the service knows the user;
    ``created_by_name``: the one that people read."""

    link_id: str
    created_by: str
    created_by_name: str
    created_s: float
    expires_s: float
    from_s: float | None
    to_s: float | None
    shows: list[str]


def add_link(
    session: Session,
    case: Case,
    days: float,
    from_s: float | None = None,
    to_s: float | None = None,
    shows: tuple[str, ...] = USUAL,
) -> tuple[LinkOfCase, str]:
    """Within a transaction: a new link to ``case`` for ``days``, and its secret, which is known only now.

    ``from_s``, ``to_s``: the part of the video that is shown; None stands for its begin and its end. Raises UsageError
    for a part outside the video, no or unknown ``shows``, and a time that is too long; StateConflict where the case can
    be shown to nobody outside.
    """
    if not shows or not set(shows) <= set(SHOWS):
        raise UsageError(f"shows: expected some of {', '.join(SHOWS)}, got {', '.join(shows) or 'none'}")
    if PROFICIENCY in shows and "timeline" not in shows:
        raise UsageError("shows: proficiency is a part of the map; expected timeline with it").named("link-proficiency")
    if not 0 < days <= MAX_LINK_DAYS:
        raise UsageError(f"days: expected more than 0 and at most {MAX_LINK_DAYS:g}, got {days:g}").named(
            "link-days", most=MAX_LINK_DAYS
        )
    video = video_of_tenant(session, case.video.tenant_id, case.video_id, is_held=True)
    if why := why_hidden(video):
        raise StateConflict(f"a link to this case would show nothing: {why}").named("link-hidden")
    if video.state != "ready":
        raise StateConflict(
            "a link needs a video that is cleaned, and what was hidden in it must have been accepted; its state is "
            f"{video.state!r}"
        ).named("link-not-ready")
    span = None
    if from_s is not None or to_s is not None:
        span = from_s or 0.0, video.duration_s if to_s is None else to_s
        if not 0 <= span[0] < span[1] <= video.duration_s:
            raise UsageError(
                f"from_s={from_s}, to_s={to_s}: expected a part of the {video.duration_s:.3f} s that the video lasts"
            ).named("link-part", length_s=video.duration_s)
    of_case = (CaseLink.tenant_id == video.tenant_id, CaseLink.video_id == video.video_id)
    if (session.scalar(select(func.count()).select_from(CaseLink).where(*of_case, is_running())) or 0) >= MAX_LINKS:
        raise StateConflict(f"this case has {MAX_LINKS} links; end one of them first").named(
            "links-full", most=MAX_LINKS
        )
    token = secrets.token_urlsafe(32)
    link = CaseLink(
        link_id=secrets.token_hex(8),
        token_sha256=_digest(token),
        tenant_id=video.tenant_id,
        video_id=video.video_id,
        from_s=span[0] if span else None,
        to_s=span[1] if span else None,
        shows=[what for what in SHOWS if what in shows],
        created_by=case.caller.user_id,
        created_s=now_s(),
        expires_s=now_s() + days * DAY_S,
    )
    session.add(link)
    session.flush()
    audit.record_by(
        session,
        case.caller,
        "link.add",
        video.video_id,
        link=link.link_id,
        seconds=list(span) if span else None,
        shows=link.shows,
        expires_s=link.expires_s,
    )
    return _shown(link, session.get(User, link.created_by)), token


def links_of(session: Session, video: StoredVideo) -> list[LinkOfCase]:
    """The links of a case that run, the oldest first."""
    rows = session.execute(
        select(CaseLink, User)
        .join(User, User.user_id == CaseLink.created_by)
        .where(CaseLink.tenant_id == video.tenant_id, CaseLink.video_id == video.video_id, is_running())
        .order_by(CaseLink.created_s)
    )
    return [_shown(link, user) for link, user in rows]


def end_link(session: Session, case: Case, link_id: str) -> None:
    """Within a transaction: ends a link of the case and the sessions that it began. Raises NotFound."""
    link = session.get(CaseLink, link_id)
    if link is None or (link.tenant_id, link.video_id) != (case.video.tenant_id, case.video_id) or link.revoked_s:
        raise NotFound(f"no link {link_id!r} of this case")
    link.revoked_s = now_s()
    session.execute(delete(LinkSession).where(LinkSession.link_id == link_id))
    audit.record_by(session, case.caller, "link.end", case.video_id, link=link_id)


def end_all(session: Session, video: StoredVideo) -> None:
    """Within a transaction: removes all links of a video and the sessions that they began."""
    own = select(CaseLink.link_id).where(CaseLink.tenant_id == video.tenant_id, CaseLink.video_id == video.video_id)
    session.execute(delete(LinkSession).where(LinkSession.link_id.in_(own)))
    session.execute(delete(CaseLink).where(CaseLink.tenant_id == video.tenant_id, CaseLink.video_id == video.video_id))


def use_of(session: Session, link_id: str) -> LinkUse | None:
    """What the link shows now; None where it has ended, or its case is deleted or hidden."""
    link = session.scalar(select(CaseLink).where(CaseLink.link_id == link_id, is_running()))
    return _use(session, link)


def use_by_token(session: Session, token: str) -> LinkUse | None:
    """What the link with this secret shows now; None as ``use_of``."""
    return _use(session, session.scalar(select(CaseLink).where(CaseLink.token_sha256 == _digest(token), is_running())))


def caller_by(use: LinkUse) -> Caller:
    """Whoever looks through the link."""
    return Caller(use.tenant_id, f"link {use.link_id}", LINK_ROLE, LINK_ROLE, use.link_id)


def why_hidden(video: StoredVideo) -> str | None:
    """Why no link shows the case now, in words; None where links do."""
    if video.consent == "withdrawn":
        return "the patient's consent is withdrawn"
    return "the case is under a legal hold" if video.legal_hold else None


def is_running() -> ColumnElement[bool]:
    """The condition that a link has not ended."""
    return (CaseLink.revoked_s.is_(None)) & (CaseLink.expires_s > now_s())


def _use(session: Session, link: CaseLink | None) -> LinkUse | None:
    if link is None:
        return None
    video = session.get(StoredVideo, (link.tenant_id, link.video_id))
    if video is None or video.deleted_s is not None or why_hidden(video):
        return None
    span = (link.from_s, link.to_s) if link.from_s is not None and link.to_s is not None else None
    return LinkUse(link.link_id, link.tenant_id, link.video_id, span, tuple(link.shows), link.expires_s)


def _shown(link: CaseLink, user: User | None) -> LinkOfCase:
    return LinkOfCase(
        link.link_id,
        user.name if user else "",
        users.shown_name(user) if user else "",
        link.created_s,
        link.expires_s,
        link.from_s,
        link.to_s,
        list(link.shows),
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
