"""The query behind the library: which cases a caller may see, found by words and filters, a page at a time, in SQL.

A case is shown with those of its files that the caller may see, and found by what of these the caller may see: the map
by those who may read it, labels and the day of the operation by those who may know whose case it is. No map is read.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Double, Select, Subquery, and_, case, false, func, literal, or_, select, true
from sqlalchemy import cast as as_type
from sqlalchemy import tuple_ as in_order
from sqlalchemy.orm import Session

from halsted_ray.errors import UsageError
from halsted_ray.service.rights import RELATIONS, SHARED_AS, WITHDRAWN_FOR
from halsted_ray.service.shares import is_running
from halsted_ray.service.suggested_procedure import MAPPED, cases_suggesting, procedures_alike
from halsted_ray.service.tables import CaseLabel, Job, Operation, Share, StoredVideo, VideoSummary
from halsted_ray.service.users import Caller
from halsted_ray.taxonomy.names import fold

STATES = ("mapped", "new", "failed", "partial", "queued", "review", "mapping", "cleaning")
"""The states of a case. Where its files differ, the case has the last of their states in this order if that is one of
``UNDER_WAY``, else it is partial."""
UNDER_WAY = ("queued", "review", "mapping", "cleaning")
ORDERS = ("newest", "oldest", "longest")
MOST_WORDS, LONGEST_QUERY = 8, 200
"""Words of a search; letters of a search."""
LONGEST_CURSOR = 300
_CASE_ID = re.compile("[0-9a-f]{1,64}")


@dataclass(frozen=True)
class CaseQuery:
    """What to look for. ``words``: each must occur in the procedure, a label, a step or the state of a case.
    ``since``, ``until``: days, both inclusive, of the operation, or of the upload where nobody wrote down the
    operation's. ``order``: one of ORDERS; newest and oldest go by the upload. ``cursor``: of the page before."""

    words: str = ""
    procedure: str | None = None
    label: str | None = None
    state: str | None = None
    since: str | None = None
    until: str | None = None
    order: str = "newest"
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True)
class CasePage:
    """``found``: case id → state, in order. ``total``: on all pages. ``following``: the cursor of the next page, None
    where this is the last."""

    found: dict[str, str]
    total: int
    following: str | None


def search(session: Session, caller: Caller, query: CaseQuery) -> CasePage:
    """One page of the cases that the caller may see and that ``query`` finds. Raises UsageError for a query that can't
    be read."""
    matching = _matching(session, caller, query).cte("matching")  # made once, for the page and the total
    total = select(func.count()).select_from(matching).scalar_subquery()
    key = matching.c.sort_key
    page = select(matching.c.case_id, matching.c.rank, key, total.label("total"))
    if query.cursor is not None:
        last = _read_cursor(query.cursor, query.order)
        place, behind = in_order(key, matching.c.case_id), in_order(literal(last[0], Double()), literal(last[1]))
        page = page.where(place > behind if query.order == "oldest" else place < behind)
    columns = (key, matching.c.case_id)
    page = page.order_by(*(column.asc() if query.order == "oldest" else column.desc() for column in columns))
    rows = session.execute(page.limit(query.limit + 1)).all()
    shown = rows[: query.limit]
    following = None
    if len(rows) > query.limit:
        following = _write_cursor(query.order, shown[-1].sort_key, shown[-1].case_id)
    count = rows[0].total if rows else session.scalar(select(total)) or 0
    return CasePage({row.case_id: STATES[row.rank] for row in shown}, count, following)


def states_of(session: Session, caller: Caller, case_ids: list[str]) -> dict[str, str]:
    """Case id → state, of those of ``case_ids`` that the caller may see."""
    grouped = _grouped(_visible_videos(caller, StoredVideo.case_id.in_(case_ids)), (), ())
    return {row.case_id: STATES[row.rank] for row in session.execute(select(grouped.c.case_id, grouped.c.rank))}


def _matching(session: Session, caller: Caller, query: CaseQuery) -> Select[tuple[str, int, float]]:
    """All cases that ``query`` finds, with ``rank`` and ``sort_key``."""
    words = _words(query.words)
    alike = procedures_alike(session, caller.tenant_id, query.procedure) if query.procedure is not None else []
    grouped = _grouped(_visible_videos(caller), words, alike)
    knows = grouped.c.knows == 1
    sort_key = func.round(grouped.c.duration_s * 1000) if query.order == "longest" else grouped.c.created_s
    found = (
        select(grouped.c.case_id, grouped.c.rank, as_type(sort_key, Double()).label("sort_key"))
        .select_from(grouped)
        .outerjoin(Operation, and_(Operation.tenant_id == caller.tenant_id, Operation.case_id == grouped.c.case_id))
    )
    for index, word in enumerate(words):
        labelled = _labelled(caller, CaseLabel.folded.contains(word, autoescape=True))
        found = found.where(
            or_(
                grouped.c[f"word_{index}"] == 1,
                Operation.words.contains(word, autoescape=True),
                and_(knows, grouped.c.case_id.in_(labelled)),
                grouped.c.rank.in_(_ranks_named(word)),
                grouped.c.case_id.startswith(word) if re.fullmatch("[0-9a-f]{4,16}", word) else false(),
            )
        )
    if query.procedure is not None:
        is_read = and_(_is_seen(caller, "see"), _is_readable(caller))
        suggesting = grouped.c.case_id.in_(cases_suggesting(session, caller.tenant_id, alike, is_read))
        suggested = or_(and_(grouped.c.files == 1, grouped.c.is_named == 1), and_(grouped.c.files > 1, suggesting))
        chosen = Operation.procedure_chosen
        is_chosen = and_(chosen.is_not(None), Operation.words == fold(query.procedure))
        found = found.where(or_(is_chosen, and_(chosen.is_(None), suggested)))
    if query.label is not None:
        found = found.where(knows, grouped.c.case_id.in_(_labelled(caller, CaseLabel.folded == fold(query.label))))
    if query.state is not None:
        found = found.where(grouped.c.rank == STATES.index(query.state))
    return _between(found, grouped, query)


def _between(
    found: Select[tuple[str, int, float]], grouped: Subquery, query: CaseQuery
) -> Select[tuple[str, int, float]]:
    """``found`` within the days of ``query``. Who may not know whose case it is finds it by the day of its upload."""
    known_day = case((grouped.c.knows == 1, Operation.operated_on), else_=None)
    if query.since is not None:
        uploaded = grouped.c.created_s >= _begin_of(query.since)
        found = found.where(or_(known_day >= query.since, and_(known_day.is_(None), uploaded)))
    if query.until is not None:
        uploaded = grouped.c.created_s < _begin_of(query.until) + 86_400
        found = found.where(or_(known_day <= query.until, and_(known_day.is_(None), uploaded)))
    return found


def _grouped(videos: Subquery, words: Sequence[str], procedures: Sequence[str]) -> Subquery:
    """``videos`` by case. ``word_0`` and so on: whether a word of ``words`` occurs in a map that the caller may read;
    ``is_named``: whether such a map names one of ``procedures``; ``files``: how many there are."""
    readable = videos.c.can_read == 1
    most, least = func.max(videos.c.rank), func.min(videos.c.rank)
    rank = case(
        (most == least, most),
        (most >= min(STATES.index(state) for state in UNDER_WAY), most),
        else_=STATES.index("partial"),
    )
    occurring = (
        func.max(case((and_(readable, videos.c.words.contains(word, autoescape=True)), 1), else_=0)).label(
            f"word_{index}"
        )
        for index, word in enumerate(words)
    )
    return (
        select(
            videos.c.case_id,
            func.min(videos.c.created_s).label("created_s"),
            func.sum(videos.c.duration_s).label("duration_s"),
            func.max(videos.c.knows).label("knows"),
            rank.label("rank"),
            func.count().label("files"),
            func.max(case((and_(readable, videos.c.procedure.in_(procedures)), 1), else_=0)).label("is_named"),
            *occurring,
        )
        .group_by(videos.c.case_id)
        .subquery()
    )


def _visible_videos(caller: Caller, *conditions: ColumnElement[bool]) -> Subquery:
    """The videos that the caller may see and that meet ``conditions``. ``can_read``: whether the caller may read the
    map; ``knows``: whether the caller may know whose it is; ``rank``: the place of its state in STATES."""
    return (
        select(
            StoredVideo.case_id,
            StoredVideo.created_s,
            StoredVideo.duration_s,
            case((_is_readable(caller), 1), else_=0).label("can_read"),
            case((_is_seen(caller, "people"), 1), else_=0).label("knows"),
            case((VideoSummary.state.in_(MAPPED), VideoSummary.procedure)).label("procedure"),
            VideoSummary.words,
            _rank(caller).label("rank"),
        )
        .select_from(StoredVideo)
        .outerjoin(
            VideoSummary,
            and_(VideoSummary.tenant_id == StoredVideo.tenant_id, VideoSummary.video_id == StoredVideo.video_id),
        )
        .where(
            StoredVideo.tenant_id == caller.tenant_id,
            StoredVideo.deleted_s.is_(None),
            _is_seen(caller, "see"),
            *conditions,
        )
        .subquery()
    )


def _is_seen(caller: Caller, right: str) -> ColumnElement[bool]:
    """Whether the caller has ``right`` to a video, by what they are to it."""
    is_admin = true() if caller.role == "admin" else false()
    is_mine = StoredVideo.owner_id == caller.user_id
    return or_(is_admin, is_mine, _is_anyones(right), _is_shared(caller, right))


def _is_readable(caller: Caller) -> ColumnElement[bool]:
    """Whether the consent lets the caller read the map of a video."""
    is_admin = true() if caller.role == "admin" else false()
    return or_(is_admin, StoredVideo.consent != "withdrawn" if "timeline" in WITHDRAWN_FOR else true())


def _rank(caller: Caller) -> ColumnElement[int]:
    """The state of a video, as its place in STATES."""

    def has_job(state: str) -> ColumnElement[bool]:
        jobs = select(Job.video_id).where(Job.state == state, Job.tenant_id == caller.tenant_id, Job.kind == "map")
        return StoredVideo.video_id.in_(jobs)

    has_map = func.coalesce(VideoSummary.state, "").in_(("mapped", "partial"))
    states = (
        (StoredVideo.state == "cleaning", "cleaning"),
        (StoredVideo.state == "failed", "failed"),
        (has_job("running"), "mapping"),
        (and_(StoredVideo.state == "review", ~has_map), "review"),
        (has_job("queued"), "queued"),
        *((VideoSummary.state == state, state) for state in ("mapped", "partial", "failed")),
    )
    return case(*((condition, STATES.index(state)) for condition, state in states), else_=STATES.index("new"))


def _is_anyones(right: str) -> ColumnElement[bool]:
    return StoredVideo.owner_id.is_(None) if right in RELATIONS["anyone"] else false()


def _is_shared(caller: Caller, right: str) -> ColumnElement[bool]:
    """Whether a share gives the caller ``right``."""
    giving = [relation for relation in SHARED_AS if right in RELATIONS[relation]]
    shared = select(Share.video_id).where(
        Share.user_id == caller.user_id, Share.tenant_id == caller.tenant_id, Share.relation.in_(giving), is_running()
    )
    return StoredVideo.video_id.in_(shared)


def _labelled(caller: Caller, condition: ColumnElement[bool]) -> Select[str]:
    return select(CaseLabel.case_id).where(CaseLabel.tenant_id == caller.tenant_id, condition)


def _words(text: str) -> list[str]:
    """The words of a search. Raises UsageError for too many."""
    words = [word for word in (fold(part).strip() for part in text.split()) if word]
    if len(words) > MOST_WORDS or len(text) > LONGEST_QUERY:
        raise UsageError(
            f"q: expected at most {MOST_WORDS} words and {LONGEST_QUERY} letters; search for fewer words"
        ).named("search-long", most=MOST_WORDS)
    return words


def _ranks_named(word: str) -> list[int]:
    """The states whose names begin with ``word``, as places in STATES."""
    return [rank for rank, state in enumerate(STATES) if len(word) >= 3 and state.startswith(word)]


def _begin_of(day: str) -> float:
    """When ``day`` begins, UTC, in seconds since 1970. Raises UsageError where it is no day."""
    try:
        found = datetime.datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
    except ValueError:
        raise UsageError("since, until: expected a day such as 2026-11-03").named("day-invalid") from None
    return found.timestamp()


def _write_cursor(order: str, key: float, case_id: str) -> str:
    """Where a page ends, as a text for an address."""
    return base64.urlsafe_b64encode(json.dumps([order, key, case_id]).encode()).decode().rstrip("=")


def _read_cursor(cursor: str, order: str) -> tuple[float, str]:
    """(sort key, case id) of the last case of the page before. Raises UsageError."""
    try:
        found = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        if isinstance(found, list) and len(cursor) <= LONGEST_CURSOR:
            its_order, key, case_id = found
            if its_order == order and isinstance(key, float) and math.isfinite(key) and _CASE_ID.fullmatch(case_id):
                return key, str(case_id)
    except (ValueError, TypeError, RecursionError):
        pass
    raise UsageError(
        "cursor: expected `next` of an answer with the same order; ask without a cursor for the first page"
    ).named("page-stale")
