"""The bodies and answers of the routes about what people say: annotations, comments, similar moments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import BaseModel, Field, RootModel

from halsted_ray.evaluation.annotator_agreement import Agreement
from halsted_ray.service.annotation_log import Change, Conflict, ModelRow, Span, State, conflicts
from halsted_ray.service.annotation_tables import Comment
from halsted_ray.service.annotations import MOST_CHANGES, Layer, WantedChange
from halsted_ray.service.case_people import Author
from halsted_ray.service.comments import LONGEST
from halsted_ray.service.similar_moments import Moment

SPAN_ID = r"^[0-9a-f]{1,64}$"
LONGEST_S = 1e6


class RowShown(BaseModel):
    """A row of the model's timeline."""

    tag: str = Field(max_length=200)
    category: str = Field(max_length=200)
    start_s: float = Field(ge=0, le=LONGEST_S)
    stop_s: float = Field(gt=0, le=LONGEST_S)


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A name of a tag or of a category."""


class AnsweredRow(RowShown):
    """A row of the model's timeline, as somebody names it."""

    tag: Name
    category: Name


class NewChange(BaseModel):
    """One change. What is left out is that of the span, or of the row."""

    op: Literal["add", "change", "remove", "accept", "reject"]
    span_id: str | None = Field(
        None,
        pattern=SPAN_ID,
        description="The span to change. Left out, or a new one: a new span. Of a removed span, with add: that again.",
    )
    tag: str | None = Field(None, max_length=200)
    category: str | None = Field(None, max_length=200)
    start_s: float | None = Field(None, ge=0, le=LONGEST_S)
    stop_s: float | None = Field(None, gt=0, le=LONGEST_S)
    row: AnsweredRow | None = Field(None, description="The model's row that the span answers.")

    def wanted(self) -> WantedChange:
        """The change as the service takes it."""
        row = ModelRow(**self.row.model_dump()) if self.row else None
        return WantedChange(self.op, self.span_id, self.tag, self.category, self.start_s, self.stop_s, row)


class NewChanges(BaseModel):
    """Changes to make together, each upon the one before it."""

    revision: int = Field(ge=0, le=2**31 - 1, description="The revision that the client saw last.")
    changes: list[NewChange] = Field(min_length=1, max_length=MOST_CHANGES)


class SpanShown(BaseModel):
    """What somebody says of a span of time."""

    span_id: str
    tag: str
    category: str
    start_s: float
    stop_s: float
    state: State
    row: RowShown | None = Field(description="The model's row that it answers; null where the model has none.")
    author: str = Field(description="Stands for one person in this case, and for another in another case.")
    author_name: str
    mine: bool
    at_s: float = Field(description="When it was said, in seconds since 1970, UTC.")


class ConflictShown(BaseModel):
    """Two people say different things of one tag."""

    tag: str
    start_s: float
    stop_s: float
    span_ids: list[str]


class AnnotationsShown(BaseModel):
    """What people say about a case now."""

    revision: int
    spans: list[SpanShown]
    conflicts: list[ConflictShown]
    history_count: int


class ChangeShown(BaseModel):
    """One change of the past: the whole span as its author meant it then."""

    revision: int
    author: str
    author_name: str
    mine: bool
    at_s: float
    op: str
    span_id: str
    tag: str
    category: str
    start_s: float
    stop_s: float
    row: RowShown | None
    model_version: str = Field(description="Of the map that its author saw; empty where nobody knows.")


History = RootModel[list[ChangeShown]]
"""Changes, the oldest first."""


class PairShown(BaseModel):
    """How far two people agree on one tag."""

    one: str
    other: str
    one_name: str
    other_name: str
    tag: str
    kappa: float | None = Field(description="Cohen's, over frames of 1 s; null where both use one category throughout.")
    boundary_error_s: float | None = Field(
        description="Median distance of the ends of matched spans; null without any."
    )
    n: int = Field(description="Frames of 1 s that both annotated.")


class AgreementShown(BaseModel):
    """How far every two people agree, by each one's own last word."""

    pairs: list[PairShown]


class CommitShown(BaseModel):
    """What was committed into the site's atlas."""

    version: int = Field(description="Of the atlas with these samples.")
    release: str | None = Field(None, description="null: a commit is no release.")
    samples: int
    disputed: int = Field(description="Spans that were left out, since two people contradict each other in them.")
    revision: int


class MomentShown(BaseModel):
    """A moment that looks like the one that was asked about."""

    video_id: str
    start_s: float
    stop_s: float
    similarity: float = Field(description="-1 to 1.")
    row: RowShown | None = Field(description="The model's row there.")


class NewComment(BaseModel):
    """A comment at a time of the video."""

    at_s: float = Field(ge=0, le=LONGEST_S)
    text: str = Field(min_length=1, max_length=LONGEST)


class CommentShown(BaseModel):
    """A comment. Its text is no markup."""

    comment_id: str
    at_s: float
    text: str
    author: str
    author_name: str
    mine: bool
    created_s: float


class CommentAdded(CommentShown):
    """A comment that was added just now."""

    warnings: list[str] = Field(description="What in the text looks as if it named the patient.")
    looks_like: list[str] = Field(description="The same for programs: person, record, birth, address.")


def show_layer(layer: Layer) -> AnnotationsShown:
    """The answer that shows the annotations of a case."""
    spans = layer.spans
    return AnnotationsShown(
        revision=layer.revision,
        spans=show_spans(spans, layer.authors),
        conflicts=[show_conflict(one) for one in conflicts(spans)],
        history_count=len(layer.changes),
    )


def show_spans(spans: Sequence[Span], authors: dict[str, Author]) -> list[SpanShown]:
    """The answer that shows spans with their authors."""
    return [
        SpanShown(
            span_id=span.span_id,
            state=span.state,
            row=_row(span.last.row),
            at_s=span.last.at_s,
            **asdict(span.content),
            **asdict(authors[span.last.author_id]),
        )
        for span in spans
    ]


def show_conflict(conflict: Conflict) -> ConflictShown:
    """The answer that shows a conflict."""
    return ConflictShown.model_validate(asdict(conflict))


def show_change(change: Change, authors: dict[str, Author]) -> ChangeShown:
    """The answer that shows a change of the past."""
    values = {name: value for name, value in vars(change).items() if name not in ("author_id", "row")}
    return ChangeShown(row=_row(change.row), **values, **asdict(authors[change.author_id]))


def show_pair(one: Author, other: Author, tag: str, how: Agreement) -> PairShown:
    """The answer that shows how far two people agree."""
    return PairShown(
        one=one.author,
        other=other.author,
        one_name=one.author_name,
        other_name=other.author_name,
        tag=tag,
        kappa=_defined(how.kappa),
        boundary_error_s=_defined(how.boundary_error_s),
        n=how.frames,
    )


def show_moment(moment: Moment) -> MomentShown:
    """The answer that shows a similar moment."""
    return MomentShown(
        video_id=moment.case.video_id,
        start_s=moment.start_s,
        stop_s=moment.stop_s,
        similarity=moment.similarity,
        row=_row(moment.row),
    )


def show_comment(comment: Comment, author: Author) -> CommentShown:
    """The answer that shows a comment."""
    return CommentShown(
        comment_id=comment.comment_id,
        at_s=comment.at_s,
        text=comment.text,
        created_s=comment.created_s,
        **asdict(author),
    )


def _row(row: ModelRow | None) -> RowShown | None:
    return RowShown(**asdict(row)) if row else None


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
