"""The tables of what people say about a case: their changes of its map, their comments, and what of it is in the atlas.

All of it goes with the case. A change is never changed itself: triggers of the database refuse that (migration 0008).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from halsted_ray.service.tables import Base


class AnnotationChange(Base):
    """One change of a case's annotations, see ``annotation_log.Change``."""

    __tablename__ = "annotation_changes"
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    video_id: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    author_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"))
    at_s: Mapped[float]
    op: Mapped[str]
    span_id: Mapped[str]
    tag: Mapped[str]
    category: Mapped[str]
    start_s: Mapped[float]
    stop_s: Mapped[float]
    model_row: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The model's row that the span answers, by the fields of ``annotation_log.ModelRow``."""
    model_version: Mapped[str]


class Comment(Base):
    """What somebody wrote about a moment of a case."""

    __tablename__ = "comments"
    __table_args__ = (Index("comments_by_video", "tenant_id", "video_id"),)
    comment_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    video_id: Mapped[str]
    author_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"))
    at_s: Mapped[float]
    """Seconds of the video."""
    text: Mapped[str]
    created_s: Mapped[float]


class AtlasEntry(Base):
    """That samples of a case are in the site's atlas, so that they can be taken out again."""

    __tablename__ = "atlas_entries"
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    video_id: Mapped[str] = mapped_column(primary_key=True)
    atlas_video_id: Mapped[str]
    """The id by which the atlas knows the video (``video.identity``)."""
    annotators: Mapped[list[str]]
    """The ids of the users whose samples were committed."""
    revision: Mapped[int]
    """The last revision of the annotations that was committed."""
    version: Mapped[int]
    """The atlas's version with these samples."""
    is_withdrawn: Mapped[bool] = mapped_column(default=False)
    """Whether the samples are to be taken out of the atlas."""
