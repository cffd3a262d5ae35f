"""/v1/videos/{video_id}/comments: what people write at a time of a case."""

from __future__ import annotations

from fastapi import APIRouter

from halsted_ray.service import annotation_schemas as schemas
from halsted_ray.service.annotation_schemas import show_comment
from halsted_ray.service.deps import CommentedCase, Components, Id
from halsted_ray.service.name_like import identity_kinds, identity_warnings

router = APIRouter(prefix="/v1/videos/{video_id}/comments")


@router.get("")
def show_comments(case: CommentedCase, components: Components) -> list[schemas.CommentShown]:
    """The comments on the case in the order of its time."""
    comments, authors = components.comments.read(case)
    return [show_comment(comment, authors[comment.author_id]) for comment in comments]


@router.post("", status_code=201)
def add_comment(case: CommentedCase, components: Components, new: schemas.NewComment) -> schemas.CommentAdded:
    """Adds a comment. ``warnings`` says what in it looks as if it named the patient: a few patterns, no finding."""
    comment, author = components.comments.add(case, new.at_s, new.text)
    shown = show_comment(comment, author)
    return schemas.CommentAdded(
        **shown.model_dump(), warnings=identity_warnings(comment.text), looks_like=identity_kinds(comment.text)
    )


@router.delete("/{comment_id}", status_code=204)
def delete_comment(case: CommentedCase, components: Components, comment_id: Id) -> None:
    """Deletes one's own comment; the owner of the case and administrators delete any."""
    components.comments.delete(case, comment_id)
