"""What a map says of one moment, in three levels: perception (what is seen), relation (what acts on what), context
(what the operation is at, what came before and comes next).

Every statement is made of rows of the map by a fixed rule, and names them with their confidence. Where the map says
nothing, the statement is "not known", with the reason. Nothing is generated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from halsted_ray.maps.stitches import NO_ANSWER
from halsted_ray.records import TIMELINE_ORDER, UNKNOWN, JsonObject
from halsted_ray.taxonomy import Tag, Taxonomy

PERCEPTION, RELATION, CONTEXT = "perception", "relation", "context"
SEEN = ("instrument", "arm", "anatomy")
"""Tags that say what is in the picture. So do tags that are Absent or Present."""
PRESENCE = frozenset(("Absent", "Present"))
NO_ROW, NOT_LEARNED, NOT_MAPPED, NOT_ASKED, NONE_THERE, NOTHING_DONE = WHYS = (
    "no row",
    "not learned",
    "not mapped",
    "not asked",
    "none there",
    "nothing done",
)
"""Why a statement is not known: no row here, outside of what the model has learned, a gap, a tag that is asked where
another one has another category, no row before or after, and nothing of which a relation is made."""
DONE = ("action", "phase")
"""Tags that say what is being done, by which a relation is made."""
FOLLOWED = ("step", "phase", "action")
"""Tags whose row before and after is told."""

Row = Mapping[str, Any]
"""A row of ``table_schemas.TIMELINE_SCHEMA``."""


@dataclass(frozen=True)
class Evidence:
    """A row of the map. ``row``: its number among the rows of the video in the order of ``records.TIMELINE_ORDER``,
    from 1; the other fields are its columns."""

    row: int
    start_s: float
    stop_s: float
    task: str
    tag: str
    category: str
    confidence: float
    source: str


@dataclass(frozen=True)
class Statement:
    """``level``: perception, relation or context. ``about``: a tag, ``acts`` (a relation), or such as ``step before``
    and ``step next``. ``said``: the category, or a sentence; None where it is not known. ``confidence``: that of the
    least sure of the rows it ``rests_on``; None where it is not known. ``reason``: why it is not known, in words, and
    ``why`` as one of WHYS; the rows are then those that say so. ``needs``: (tag, category) under which the tag is
    asked, where ``why`` is "not asked". ``missing``: tags of a relation that are not known."""

    level: str
    about: str
    said: str | None
    confidence: float | None
    rests_on: tuple[Evidence, ...]
    reason: str = ""
    why: str = ""
    needs: tuple[str, str] | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """What the map says of ``at_s`` (seconds) of one video. ``model_version``: what made the rows."""

    video_id: str
    at_s: float
    model_version: str
    statements: tuple[Statement, ...]

    def to_json(self) -> JsonObject:
        """JSON values; ``statements`` in the order of the levels."""
        return asdict(self)


def explain(
    video_id: str, rows: Iterable[Row], at_s: float, taxonomy: Taxonomy, hidden: Collection[str] = ()
) -> Explanation:
    """The explanation of ``at_s`` from the ``rows`` of one video, in any order. ``hidden``: tags that have no row and
    no statement, as the reader must not know of them."""
    told = sorted(
        (row for row in rows if row["tag"] not in hidden), key=lambda row: tuple(row[name] for name in TIMELINE_ORDER)
    )
    evidence = [_evidence(number, row) for number, row in enumerate(told, 1)]
    now = _Moment(evidence, at_s, taxonomy, hidden)
    shown = [tag for tag in taxonomy.tags if tag.name not in hidden]
    seen = [tag for tag in shown if tag.name in SEEN or set(tag.categories) == PRESENCE]
    rest = [tag for tag in shown if tag not in seen]
    statements = [now.tag(PERCEPTION, tag) for tag in seen]
    statements += now.relations()
    statements += [now.tag(CONTEXT, tag) for tag in rest]
    statements += [
        statement for name in FOLLOWED if any(tag.name == name for tag in rest) for statement in now.around(name)
    ]
    version = told[0]["model_version"] if told else ""
    return Explanation(video_id, at_s, version, tuple(statements))


def explanation_text(explanation: Explanation) -> str:
    """The explanation as lines: what is said, how sure, and by which rows."""
    lines: list[str] = []
    level = ""
    for statement in explanation.statements:
        if statement.level != level:
            level = statement.level
            lines += ([""] if lines else []) + [level]
        if statement.said is None:
            lines.append(f"  {statement.about}: not known ({statement.reason})")
        else:
            rows = ", ".join(str(row.row) for row in statement.rests_on)
            word = "row" if len(statement.rests_on) == 1 else "rows"
            lines.append(f"  {statement.about}: {statement.said}  [{statement.confidence:.2f}, {word} {rows}]")
    return "\n".join(lines)


class _Moment:
    """The rows of a video around one time."""

    def __init__(self, evidence: Sequence[Evidence], at_s: float, taxonomy: Taxonomy, hidden: Collection[str]):
        self.evidence, self.at_s, self.taxonomy, self.hidden = evidence, at_s, taxonomy, hidden
        self.here = [row for row in evidence if row.start_s <= at_s < row.stop_s]

    def answer(self, tag: str) -> Evidence | None:
        """The row of ``tag`` at the moment: the surest, where rows lie over one another."""
        found = [row for row in self.here if row.tag == tag and row.source not in NO_ANSWER]
        return max(found, key=lambda row: (row.confidence, -row.row)) if found else None

    def tag(self, level: str, tag: Tag) -> Statement:
        """What the map says of one tag."""
        found = self.answer(tag.name)
        if found is None:
            return self.not_known(level, tag.name)
        return Statement(level, tag.name, found.category, found.confidence, (found,))

    def not_known(self, level: str, tag: str) -> Statement:
        """Why the map has no answer of ``tag`` at the moment, with the rows that say so."""

        def statement(
            why: str, reason: str, rows: tuple[Evidence, ...], needs: tuple[str, str] | None = None
        ) -> Statement:
            return Statement(level, tag, None, None, rows, reason, why, needs)

        task = self.taxonomy.task_of_tag(tag)
        if without := self._without(tag):
            if without[0].source == UNKNOWN:
                return statement(NOT_LEARNED, "outside of what the model has learned", without)
            return statement(NOT_MAPPED, f"not mapped: {without[0].category}", without)
        for needed, category in task.when:
            found = self.answer(needed)
            if found is not None and found.category != category:
                reason = f"asked where {needed} is {category}, and it is {found.category}"
                return statement(NOT_ASKED, reason, (found,), (needed, category))
        return statement(NO_ROW, "the map has no row here", ())

    def _without(self, tag: str) -> tuple[Evidence, ...]:
        task = self.taxonomy.task_of_tag(tag).name
        return tuple(row for row in self.here if row.task == task and row.source in NO_ANSWER)

    def relations(self) -> list[Statement]:
        """What acts on what: one statement for each tag of DONE that has an answer."""
        found = []
        for name in DONE:
            done = self.answer(name)
            if done is None:
                continue
            others = [tag.name for tag in self.taxonomy.task_of_tag(name).tags if tag.name in SEEN]
            for task in self.taxonomy.tasks:  # such as the anatomy, which is asked while the needle is driven
                if (name, done.category) in task.when:
                    others += [tag.name for tag in task.tags if tag.name not in self.hidden]
            known = {other: row for other in others if (row := self.answer(other)) is not None}
            missing = [other for other in others if other not in known]
            said = _sentence(done.category, known) + (f"; not known: {', '.join(missing)}" if missing else "")
            rows = (done, *known.values())
            least = min(row.confidence for row in rows)
            found.append(Statement(RELATION, "acts", said, least, rows, missing=tuple(missing)))
        if not found:
            reason = "the map says of this moment neither " + " nor ".join(DONE)
            found.append(Statement(RELATION, "acts", None, None, (), reason, NOTHING_DONE))
        return found

    def around(self, tag: str) -> list[Statement]:
        """What ``tag`` was before the row at the moment, and what it is next, by the map itself."""
        lane = [row for row in self.evidence if row.tag == tag and row.source not in NO_ANSWER]
        before = [row for row in lane if row.stop_s <= self.at_s]
        later = [row for row in lane if row.start_s > self.at_s]
        found = []
        for about, row in (
            (f"{tag} before", max(before, key=lambda row: row.stop_s, default=None)),
            (f"{tag} next", min(later, key=lambda row: row.start_s, default=None)),
        ):
            if row is None:
                found.append(Statement(CONTEXT, about, None, None, (), "the map has no such row", NONE_THERE))
                continue
            away_s = self.at_s - row.stop_s if about.endswith("before") else row.start_s - self.at_s
            how = f"ended {away_s:.1f} s ago" if about.endswith("before") else f"begins in {away_s:.1f} s"
            found.append(Statement(CONTEXT, about, f"{row.category}, {how}", row.confidence, (row,)))
        return found


def _sentence(done: str, known: Mapping[str, Evidence]) -> str:
    """Who does what to what, of those that are known: ``Grasper (left): Retraction``."""
    who = known["instrument"].category if "instrument" in known else ""
    if "arm" in known:
        who = f"{who or 'an instrument'} (arm: {known['arm'].category})"
    words = f"{who}: {done}" if who else done
    more = [f"{name} {row.category}" for name, row in known.items() if name not in ("instrument", "arm")]
    return ", ".join([words, *more])


def _evidence(number: int, row: Row) -> Evidence:
    values = {name: row[name] for name in Evidence.__dataclass_fields__ if name != "row"}
    return Evidence(number, **values)
