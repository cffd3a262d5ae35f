"""How much people may say about one case, so that reading what they said stays cheap for everybody.

Every two spans of one tag that hold at one time can be a conflict: 2,000 of each of two people, all at one time, made a
million conflicts, which took 15 s of CPU and 400 MB to find, in each answer from then on.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from halsted_ray.errors import UsageError
from halsted_ray.service.annotation_log import Change, ModelRow, Span, in_order, replay

MOST_AT_ONCE = 20
"""Spans of one tag that hold at one time, and spans that answer one row."""
MOST_SPANS, MOST_SPANS_OF_PERSON = 20_000, 10_000
"""That hold in one case, and of one person in it. A surgeon who corrects a span every ten seconds makes 2,880 in eight
hours."""


def check_bounds(changes: Sequence[Change], spans: Mapping[str, Span], made: Sequence[Change]) -> None:
    """Raises UsageError where ``made``, the last of ``changes``, all by one author, leave more ``spans`` (span_id →
    span), or more of them at one time, than a case may have. That counts for what holds, and for what the author says
    alone, by which agreement is counted. Who only takes spans back is never refused."""
    changed = {change.span_id for change in made if change.op != "remove"}
    if not changed:
        return
    if len(spans) > MOST_SPANS:
        raise UsageError(
            f"a case holds at most {MOST_SPANS} spans, this would make {len(spans)}; take some back first"
        ).named("spans-many", most=MOST_SPANS)
    own = replay(change for change in changes if change.author_id == made[0].author_id)
    if len(own) > MOST_SPANS_OF_PERSON:
        raise UsageError(
            f"a case holds at most {MOST_SPANS_OF_PERSON} spans of one person, this would make {len(own)}; take some "
            "of yours back first"
        ).named("spans-many-own", most=MOST_SPANS_OF_PERSON)
    for among in (spans, own):
        if found := crowded(among.values(), changed):
            where = f"span {found.span_id!r} ({found.last.tag} at {found.last.start_s:g} s)"
            raise UsageError(
                f"{where}: at most {MOST_AT_ONCE} spans of one tag hold at one time, and as many answer one row; "
                "change one that is there"
            ).named("spans-at-once", most=MOST_AT_ONCE)


def crowded(spans: Iterable[Span], changed: Container[str]) -> Span | None:
    """A span among those of the ids ``changed`` that holds where more than ``MOST_AT_ONCE`` of its tag do, or answers a
    row that more than so many answer; None where there is none. Spans that end where another begins do not meet."""
    running: dict[str, list[Span]] = {}
    answering: dict[ModelRow, list[Span]] = {}
    for span in in_order(spans):
        tag = span.last.tag
        running[tag] = [other for other in running.get(tag, ()) if other.last.stop_s > span.last.start_s] + [span]
        together = [running[tag]]
        if span.last.row:
            answering.setdefault(span.last.row, []).append(span)
            together.append(answering[span.last.row])
        for some in together:
            if len(some) > MOST_AT_ONCE:
                found = next((one for one in reversed(some) if one.span_id in changed), None)
                if found:
                    return found
    return None
