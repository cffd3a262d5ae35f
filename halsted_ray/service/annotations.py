"""A person's layer beside the model's: the annotations of a case, read and changed. See ``annotation_log.py``.

Writers of one case take turns (they lock its row), so revisions have no gap and no change is lost. Reading replays the
whole log of the case.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from halsted_ray.errors import TaxonomyError, UsageError
from halsted_ray.evaluation.annotator_agreement import Agreement, agreement
from halsted_ray.service.annotation_bounds import check_bounds
from halsted_ray.service.annotation_log import Change, ModelRow, Span, apply, in_order, layers, replay
from halsted_ray.service.annotation_tables import AnnotationChange
from halsted_ray.service.case_people import Author, authors_of
from halsted_ray.service.database import Database, now_s
from halsted_ray.service.errors import StateConflict
from halsted_ray.service.stored_videos import video_of_tenant
from halsted_ray.service.tables import Job, StoredVideo
from halsted_ray.taxonomy import Taxonomy

if TYPE_CHECKING:
    from halsted_ray.service.cases import Case

MOST_CHANGES = 1000
"""Of one request."""
MOST_REVISIONS, MOST_REVISIONS_OF_PERSON = 50_000, 20_000
"""Of one case, and of one person in it. A surgeon who corrects a span every ten seconds makes 2,880 in eight hours. One
person alone never takes the room of the others."""


@dataclass(frozen=True)
class WantedChange:
    """A change as somebody asks for it. What is None is that of the span, or of the row."""

    op: str
    span_id: str | None = None
    tag: str | None = None
    category: str | None = None
    start_s: float | None = None
    stop_s: float | None = None
    row: ModelRow | None = None


@dataclass(frozen=True)
class Layer:
    """The annotations of a case at one revision. ``authors``: user_id → the author, as the caller may know them."""

    changes: tuple[Change, ...]
    authors: dict[str, Author]

    @property
    def revision(self) -> int:
        """The number of the last change; 0 where there is none."""
        return len(self.changes)

    @property
    def spans(self) -> list[Span]:
        """What holds now, in order of time."""
        return in_order(replay(self.changes).values())


class SpanChanged(StateConflict):
    """Somebody else has changed spans since the caller saw them. ``spans``: those that are still there, as they are
    now."""

    def __init__(self, message: str, spans: Sequence[Span], authors: dict[str, Author]) -> None:
        super().__init__(message)
        self.spans, self.authors = tuple(spans), authors


@dataclass(frozen=True)
class Annotations:
    """The annotations of all cases."""

    database: Database

    def read(self, case: Case) -> Layer:
        """The layer of a case. Costs about 20 µs per change that was ever made."""
        with self.database.reading() as session:
            return _layer(session, case)

    def change(
        self,
        case: Case,
        seen: int,
        wanted: Sequence[WantedChange],
        taxonomy: Taxonomy,
        said: Callable[[], Collection[tuple[str, str]]] = tuple,
    ) -> Layer:
        """Makes all ``wanted`` changes or none, and returns the layer with them. ``seen``: the revision that the caller
        saw. Each change is one revision. ``said``: the (tag, category) of the rows of the case's map, which may be in
        an older taxonomy.

        Raises SpanChanged where somebody else has changed one of the spans since ``seen``, UsageError for a change that
        can't be: an unknown span, tag or category, also of the row that it answers, or times outside of the video.
        What the case's changes hold already may be sent again, so that it can be changed and undone under any model.
        """
        # A long log is read before the transaction: while that lasts, nobody else writes into a SQLite database.
        before = _Replayed(self.read(case).changes)
        check_rows(wanted, taxonomy, said, lambda: {one.row for one in before.changes})
        with self.database.writing() as session:
            video = video_of_tenant(session, case.video.tenant_id, case.video_id, is_held=True)
            now = _up_to_date(session, case, before)
            layer = Layer(tuple(now.changes), dict(authors_of(session, case)))
            if seen > layer.revision:
                raise UsageError(f"revision {seen}: the newest is {layer.revision}; read the annotations again").named(
                    "annotations-newer"
                )
            if layer.revision + len(wanted) > MOST_REVISIONS:
                raise UsageError(f"a case takes at most {MOST_REVISIONS} changes, and has {layer.revision}").named(
                    "annotations-full", most=MOST_REVISIONS
                )
            own = sum(change.author_id == case.caller.user_id for change in layer.changes)
            if own + len(wanted) > MOST_REVISIONS_OF_PERSON:
                raise UsageError(
                    f"a case takes at most {MOST_REVISIONS_OF_PERSON} changes of one person, and has {own} of yours"
                ).named("annotations-full-own", most=MOST_REVISIONS_OF_PERSON)
            _check_unchanged(layer, seen, case.caller.user_id, wanted)
            version, at_s = _mapped_by(session, case), now_s()
            made: list[Change] = []
            for number, one in enumerate(wanted, start=1):
                resolved = _resolved(one, now.spans, now.known, now.kept, video.duration_s, taxonomy, number)
                change = Change(layer.revision + number, case.caller.user_id, at_s, one.op, *resolved, version)
                made.append(change)
                now.add(change)
            check_bounds(now.changes, now.spans, made)
            session.add_all(_stored(case, change) for change in made)
            if made:
                counts = dict(Counter(change.op for change in made))
                span = [min(one.start_s for one in made), max(one.stop_s for one in made)]
                revision = made[-1].revision
                case.record_look(
                    session, "annotation.change", "annotate", revision=revision, changes=counts, seconds=span
                )
            session.flush()
            return Layer((*layer.changes, *made), dict(authors_of(session, case)))

    def agreement(self, case: Case) -> list[tuple[Author, Author, str, Agreement]]:
        """(one, other, tag, how far they agree) of every two people and every tag that both annotated, by each one's
        own last word."""
        layer = self.read(case)
        of_tag: dict[str, dict[str, list[tuple[str, float, float]]]] = {}
        for author_id, spans in layers(layer.changes).items():
            for span in spans:
                if not span.is_rejected:
                    lane = of_tag.setdefault(span.last.tag, {}).setdefault(author_id, [])
                    lane.append((span.last.category, span.last.start_s, span.last.stop_s))
        found = []
        for tag, lanes in sorted(of_tag.items()):
            people = sorted(lanes, key=lambda author_id: layer.authors[author_id].author)
            for number, one in enumerate(people):
                for other in people[number + 1 :]:
                    how = agreement(lanes[one], lanes[other])
                    if how.frames:
                        found.append((layer.authors[one], layer.authors[other], tag, how))
        return found


class _Replayed:
    """What the changes of a case come to. ``known``: ids of spans that are or were. ``kept``: (span_id, tag, category)
    of each change."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes: list[Change] = []
        self.spans: dict[str, Span] = {}
        self.known: set[str] = set()
        self.kept: set[tuple[str, str, str]] = set()
        for change in changes:
            self.add(change)

    def add(self, change: Change) -> None:
        """Takes one more change in."""
        self.changes.append(change)
        self.known.add(change.span_id)
        self.kept.add((change.span_id, change.tag, change.category))
        apply(self.spans, change)


def _up_to_date(session: Session, case: Case, before: _Replayed) -> _Replayed:
    """``before`` with the changes that came since; read anew where the case was deleted and sent again meanwhile."""
    last = before.changes[-1:]
    newer = _changes(session, case, after=len(before.changes) - len(last))
    if newer[: len(last)] != last:
        return _Replayed(_changes(session, case))
    for change in newer[len(last) :]:
        before.add(change)
    return before


def forget_annotations(session: Session, video: StoredVideo) -> None:
    """Within a transaction: removes all changes of a video's annotations."""
    session.execute(
        delete(AnnotationChange).where(
            AnnotationChange.tenant_id == video.tenant_id, AnnotationChange.video_id == video.video_id
        )
    )


def _layer(session: Session, case: Case) -> Layer:
    return Layer(tuple(_changes(session, case)), dict(authors_of(session, case)))


def _changes(session: Session, case: Case, after: int = 0) -> list[Change]:
    """The changes of a case behind the revision ``after``."""
    table = AnnotationChange.__table__
    # By columns: an object per row of a log of 10,000 changes takes three times as long.
    rows = session.execute(
        select(*(table.c[name] for name in _COLUMNS))
        .where(
            table.c.tenant_id == case.video.tenant_id,
            table.c.video_id == case.video_id,
            table.c.revision > after,
        )
        .order_by(table.c.revision)
    )
    changes = []
    for values in rows:
        *before, row, version = values
        change = dict(zip(_COLUMNS, before, strict=False))
        changes.append(Change(**change, row=ModelRow(**row) if row else None, model_version=version))
    return changes


_COLUMNS = (
    "revision",
    "author_id",
    "at_s",
    "op",
    "span_id",
    "tag",
    "category",
    "start_s",
    "stop_s",
    "model_row",
    "model_version",
)
"""The columns of the table in the order of the fields of ``Change``."""


def _stored(case: Case, change: Change) -> AnnotationChange:
    values = {name: getattr(change, name) for name in _COLUMNS if name != "model_row"}
    row = asdict(change.row) if change.row else None
    return AnnotationChange(tenant_id=case.video.tenant_id, video_id=case.video_id, model_row=row, **values)


def _mapped_by(session: Session, case: Case) -> str:
    """The version of the model that made the newest map, '' where no job made one."""
    found = session.scalar(
        select(Job.model_version)
        .where(
            Job.tenant_id == case.video.tenant_id,
            Job.video_id == case.video_id,
            Job.kind == "map",
            Job.state == "done",
        )
        .order_by(func.coalesce(Job.finished_s, 0.0).desc())
        .limit(1)
    )
    return found or ""


def _check_unchanged(layer: Layer, seen: int, user_id: str, wanted: Sequence[WantedChange]) -> None:
    """Raises SpanChanged where somebody else changed a span that ``wanted`` names, after the revision ``seen``."""
    named = {change.span_id for change in wanted if change.span_id}
    newer = {change.span_id for change in layer.changes[seen:] if change.author_id != user_id} & named
    if newer:
        changed = [span for span in layer.spans if span.span_id in newer]
        gone = len(newer) - len(changed)
        raise SpanChanged(
            f"somebody else has changed {len(changed)} and removed {gone} of these spans since you saw them; nothing "
            "of this was kept: look at them, then change them again",
            changed,
            layer.authors,
        ).named("span-changed", changed=len(changed), removed=gone)


def _resolved(
    wanted: WantedChange,
    spans: dict[str, Span],
    known: set[str],
    kept: Collection[tuple[str, str, str]],
    duration_s: float,
    taxonomy: Taxonomy,
    number: int,
) -> tuple[str, str, str, float, float, ModelRow | None]:
    """(span_id, tag, category, start_s, stop_s, row) of the span after the change. ``known``: ids of spans that are or
    were. ``kept``: (span_id, tag, category) of the changes before. Raises UsageError."""
    where = f"change {number} ({wanted.op})"
    before = spans.get(wanted.span_id or "")
    if wanted.op == "add":
        if before is not None:
            raise UsageError(
                f"{where}: span {wanted.span_id!r} is there already; change it, or add without span_id"
            ).named("span-there")
    elif before is None and wanted.span_id in known:
        raise UsageError(f"{where}: span {wanted.span_id!r} was removed; add it again, with its span_id").named(
            "span-removed"
        )
    elif before is None and (wanted.op == "remove" or wanted.row is None):
        raise UsageError(f"{where}: no span {wanted.span_id!r}; name a span of this case, or the model's row").named(
            "span-unknown"
        )
    row = _to_the_ms(wanted.row) if wanted.row else before.last.row if before else None
    if wanted.row and row and not 0 <= row.start_s < row.stop_s <= duration_s + 0.001:
        raise UsageError(
            f"{where}: row: expected 0 <= start_s < stop_s <= {duration_s:.3f} s, got [{row.start_s:g}, {row.stop_s:g})"
        ).named("span-outside", length_s=duration_s)
    base = before.content if before else row
    if wanted.op in ("accept", "reject", "remove"):
        content = base
    else:
        content = _to_the_ms(_filled(where, wanted, base))
    assert content is not None, "accept and reject have a row or a span, see above"
    if wanted.op != "remove":
        if (wanted.span_id, content.tag, content.category) not in kept:
            _check_category(where, content, taxonomy)
        _check_times(where, content, duration_s)
    span_id = wanted.span_id or secrets.token_hex(8)
    return span_id, content.tag, content.category, content.start_s, content.stop_s, row


def check_rows(
    wanted: Sequence[WantedChange],
    taxonomy: Taxonomy,
    said: Callable[[], Collection[tuple[str, str]]],
    answered: Callable[[], Collection[ModelRow | None]] = tuple,
) -> None:
    """Raises UsageError where a change answers a row that no map of the case can have: its category is not one of its
    tag, neither in ``taxonomy`` nor in the map as it is (``said``), and nobody has answered it (``answered``) under a
    map before. Both are read where a row asks for them, once. What is removed is not checked."""
    tags = {tag.name: tag.categories for tag in taxonomy.tags}
    of_map, before = cache(said), cache(answered)
    for number, change in enumerate(wanted, start=1):
        row = change.row
        if row is None or change.op == "remove" or row.category in tags.get(row.tag, ()):
            continue
        if _to_the_ms(row) not in before() and (row.tag, row.category) not in of_map():
            raise UsageError(
                f"change {number} ({change.op}): row: no tag {row.tag!r} with the category {row.category!r}; expected "
                "a row of the case's map"
            ).named("category-unknown", tag=row.tag, category=row.category)


def _filled(where: str, wanted: WantedChange, kept: ModelRow | None) -> ModelRow:
    """What is wanted, with what it leaves out from ``kept``. Raises UsageError where that leaves something out too."""
    names = ("tag", "category", "start_s", "stop_s")
    values = {name: getattr(kept, name) for name in names} if kept else {}
    values |= {name: value for name in names if (value := getattr(wanted, name)) is not None}
    if missing := [name for name in names if name not in values]:
        raise UsageError(f"{where}: {', '.join(missing)} are missing; expected {', '.join(names)}").named(
            "span-incomplete"
        )
    return ModelRow(**values)


def _check_category(where: str, content: ModelRow, taxonomy: Taxonomy) -> None:
    """Raises UsageError for what the model could not say either, and TaxonomyError, with the nearest names, for an
    unknown tag."""
    try:
        tag = taxonomy.tag(content.tag)
    except TaxonomyError as error:
        raise error.named("category-unknown", tag=content.tag, category=content.category) from None
    if content.category not in tag.categories:
        raise UsageError(
            f"{where}: {content.tag} has no category {content.category!r}; expected {tag.categories}"
        ).named("category-unknown", tag=content.tag, category=content.category)


def _check_times(where: str, content: ModelRow, duration_s: float) -> None:
    if not 0 <= content.start_s < content.stop_s <= duration_s + 0.001:
        raise UsageError(
            f"{where}: expected 0 <= start_s < stop_s <= {duration_s:.3f} s, got [{content.start_s:g}, "
            f"{content.stop_s:g})"
        ).named("span-outside", length_s=duration_s)


def _to_the_ms(row: ModelRow) -> ModelRow:
    return replace(row, start_s=round(row.start_s, 3), stop_s=round(row.stop_s, 3))
