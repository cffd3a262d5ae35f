"""Who wrote what about a case, as one caller may know it.

Reviewers and annotators do not learn whose case it is. So nobody sees the id of a user in annotations and comments,
but an id that stands for one person in one case; and who lacks the right ``people`` reads "Person 2" in the place of a
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from halsted_ray.records import digest
from halsted_ray.service.annotation_tables import AnnotationChange, Comment
from halsted_ray.service.tables import User
from halsted_ray.service.users import shown_name

if TYPE_CHECKING:
    from halsted_ray.service.cases import Case


@dataclass(frozen=True)
class Author:
    """Somebody who annotated a case or commented on it. ``author``: 16 hex digits that stand for the person in this
    case. ``author_name``: for people to read. ``mine``: whether it is the caller."""

    author: str
    author_name: str
    mine: bool


def authors_of(session: Session, case: Case) -> Mapping[str, Author]:
    """user_id → the author, of everybody who annotated the case or commented on it, and of the caller. Numbers are in
    the order in which people began, so that nobody's number changes."""
    began: dict[str, float] = {}
    for table, at_s in ((AnnotationChange, AnnotationChange.at_s), (Comment, Comment.created_s)):
        rows = session.execute(
            select(table.author_id, func.min(at_s))
            .where(table.tenant_id == case.video.tenant_id, table.video_id == case.video_id)
            .group_by(table.author_id)
        )
        for user_id, first_s in rows:
            began[user_id] = min(first_s, began.get(user_id, first_s))
    in_order = sorted(began, key=lambda user_id: (began[user_id], user_id))
    number_of = {user_id: number for number, user_id in enumerate(in_order, start=1)}
    users = session.scalars(select(User).where(User.user_id.in_([*began, case.caller.user_id])))
    return {user.user_id: _author(case, user, number_of.get(user.user_id, 0)) for user in users}


def _author(case: Case, user: User, number: int) -> Author:
    mine = user.user_id == case.caller.user_id
    name = shown_name(user) if mine or "people" in case.rights else f"Person {number}"
    return Author(digest("author", case.video.tenant_id, case.video_id, user.user_id), name, mine)
