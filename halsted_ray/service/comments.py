"""Comments at a time of a case: written, read and deleted. They are text and never markup; pages must escape them."""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from halsted_ray.errors import UsageError
from halsted_ray.service import audit
from halsted_ray.service.annotation_tables import Comment
from halsted_ray.service.case_people import Author, authors_of
from halsted_ray.service.database import Database, now_s
from halsted_ray.service.errors import NotFound, StateConflict
from halsted_ray.service.stored_videos import video_of_tenant
from halsted_ray.service.tables import StoredVideo

if TYPE_CHECKING:
    from halsted_ray.service.cases import Case

LONGEST = 2000
"""Characters of a comment."""
MOST_COMMENTS, MOST_COMMENTS_OF_PERSON = 5000, 1000
"""Of one case, and of one person in it."""


_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\U000e0000-\U000e007f]"
)
"""Characters that show nothing, or turn the direction of what follows: control characters, spaces of no width, marks of
direction, and tags. Joiners stay, which some scripts need."""


def shown_text(text: str) -> str:
    """What somebody reads of ``text``: without characters that nobody sees, since a name with one inside would pass for
    none, and one that turns the direction makes a text read as another; '' where nothing is left to see."""
    text = _HIDDEN.sub("", unicodedata.normalize("NFC", text)).strip()
    return text if any(unicodedata.category(letter)[0] not in "CZ" for letter in text) else ""


class NotYours(UsageError):
    """A comment that the caller may read and not delete."""


@dataclass(frozen=True)
class Comments:
    """The comments on all cases."""

    database: Database

    def read(self, case: Case) -> tuple[list[Comment], Mapping[str, Author]]:
        """The comments on a case in the order of its time, and user_id → the author as the caller may know them."""
        with self.database.reading() as session:
            found = session.scalars(
                select(Comment).where(*_of(case.video)).order_by(Comment.at_s, Comment.created_s, Comment.comment_id)
            ).all()
            return list(found), authors_of(session, case)

    def add(self, case: Case, at_s: float, text: str) -> tuple[Comment, Author]:
        """Adds a comment at ``at_s`` seconds of the video. Raises UsageError for an empty or too long text and a time
        outside of the video, StateConflict where the case is full."""
        text = shown_text(text)
        if not 0 < len(text) <= LONGEST:
            raise UsageError(f"a comment has 1 to {LONGEST} characters, got {len(text)}").named(
                "comment-length", most=LONGEST
            )
        if not 0 <= at_s <= case.video.duration_s:
            raise UsageError(f"at_s: expected 0 to {case.video.duration_s:.3f} s, got {at_s:g}").named(
                "comment-time", length_s=case.video.duration_s
            )
        with self.database.writing() as session:
            video = video_of_tenant(session, case.video.tenant_id, case.video_id, is_held=True)
            if (session.scalar(select(func.count()).select_from(Comment).where(*_of(video))) or 0) >= MOST_COMMENTS:
                raise StateConflict(f"the case has {MOST_COMMENTS} comments; delete some first").named(
                    "comments-full", most=MOST_COMMENTS
                )
            own = select(func.count()).select_from(Comment).where(*_of(video), Comment.author_id == case.caller.user_id)
            if (session.scalar(own) or 0) >= MOST_COMMENTS_OF_PERSON:
                raise StateConflict(
                    f"the case has {MOST_COMMENTS_OF_PERSON} comments of yours; delete some first"
                ).named("comments-full-own", most=MOST_COMMENTS_OF_PERSON)
            comment = Comment(
                comment_id=secrets.token_hex(8),
                tenant_id=video.tenant_id,
                video_id=video.video_id,
                author_id=case.caller.user_id,
                at_s=at_s,
                text=text,
                created_s=now_s(),
            )
            session.add(comment)
            # The audit log is kept for good, so it does not hold the text.
            audit.record_by(session, case.caller, "comment.add", case.video_id, comment=comment.comment_id, at_s=at_s)
            session.flush()
            return comment, authors_of(session, case)[case.caller.user_id]

    def delete(self, case: Case, comment_id: str) -> None:
        """Deletes one's own comment, or any as the owner of the case or an administrator. Raises NotFound, NotYours."""
        with self.database.writing() as session:
            comment = session.get(Comment, comment_id)
            if comment is None or (comment.tenant_id, comment.video_id) != (case.video.tenant_id, case.video_id):
                raise NotFound(f"no comment {comment_id!r} on this case")
            may_all = {"owner", "administrator"} & set(case.relations)
            if comment.author_id != case.caller.user_id and not may_all:
                raise NotYours("only its author, the owner of the case and an administrator delete a comment").named(
                    "comment-not-yours"
                )
            session.delete(comment)
            audit.record_by(session, case.caller, "comment.delete", case.video_id, comment=comment_id)


def forget_comments(session: Session, video: StoredVideo) -> None:
    """Within a transaction: removes all comments on a video."""
    session.execute(delete(Comment).where(*_of(video)))


def _of(video: StoredVideo) -> tuple[ColumnElement[bool], ...]:
    return Comment.tenant_id == video.tenant_id, Comment.video_id == video.video_id
