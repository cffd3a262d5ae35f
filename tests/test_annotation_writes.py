"""Changes as people send them, with parts left out, against a model that keeps nothing but what holds now."""

from __future__ import annotations

import random
from dataclasses import asdict

import pytest

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import UsageError
from halsted_ray.service import annotation_bounds, comments, users
from halsted_ray.service import annotations as annotations_module
from halsted_ray.service.annotation_log import ModelRow
from halsted_ray.service.annotations import Annotations, WantedChange, check_rows, forget_annotations
from halsted_ray.service.cases import Case
from halsted_ray.service.database import Database, now_s
from halsted_ray.service.errors import StateConflict
from halsted_ray.service.tables import StoredVideo
from halsted_ray.service.users import Caller

DURATION_S = 100.0
ROWS = [ModelRow("step", "Suturing", 0.0, 40.0), ModelRow("step", "Dissection", 40.0, 100.0)]


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Database:
    found = Database(f"sqlite:///{tmp_path_factory.mktemp('state')}/halsted.db")
    found.migrate()
    yield found
    found.close()


def case_of(database: Database, video_id: str, name: str) -> Case:
    """A case of 100 s as the user sees it; both are made where they are new."""
    with database.writing() as session:
        users.add_tenant(session, "north")
        user = users.add_user(session, "north", name, "surgeon")
        video = session.get(StoredVideo, ("north", video_id))
        if video is None:
            facts = {"size_bytes": 1, "duration_s": DURATION_S, "width": 1, "height": 1, "fps": 25.0, "codec": "h264"}
            video = StoredVideo(tenant_id="north", video_id=video_id, place="p", created_s=now_s(), **facts)
            session.add(video)
        caller = Caller("north", user.user_id, name, "surgeon", "key")
    return Case(caller, video, ("surgeon",), frozenset({"annotate", "people"}))


def drawn_change(drawn: random.Random, ids: list[str]) -> WantedChange:
    """Any change: of a span that is there, was there or never was; with any part left out; some can't be."""
    some = {
        "tag": drawn.choice(("step", "action")),
        "category": drawn.choice(("Suturing", "Dissection", "Tug")),
        "start_s": float(drawn.randrange(0, 90)),
        "stop_s": float(drawn.randrange(10, 105)),
    }
    kept = {name: value for name, value in some.items() if drawn.random() < 0.7}
    op = drawn.choice(("add", "add", "change", "change", "remove", "accept", "reject"))
    span_id = drawn.choice([*ids, f"{drawn.randrange(2**16):x}"]) if drawn.random() < 0.8 else None
    return WantedChange(op, span_id, row=drawn.choice([None, *ROWS]), **kept)


def expected(held: dict, ever: set, one: WantedChange) -> dict | None:
    """What holds after the change, None where it must be refused."""
    before = held.get(one.span_id)
    given = {name: value for name, value in asdict(one).items() if name in asdict(ROWS[0]) and value is not None}
    if (one.op == "add" and before) or (one.op != "add" and not before and one.span_id in ever):
        return None
    row = one.row or (before and before["row"])
    base = before["content"] if before else one.row and asdict(one.row)
    if one.op == "remove":
        return {name: span for name, span in held.items() if name != one.span_id} if before else None
    if one.op in ("accept", "reject", "change") and not before and not one.row:
        return None
    content = {**(base or {}), **given} if one.op in ("add", "change") else base
    sound = (
        len(content) == 4
        and (content["tag"] == "step") == (content["category"] in ("Suturing", "Dissection"))
        and 0 <= content["start_s"] < content["stop_s"] <= DURATION_S
    )
    span = {"content": content, "row": row, "rejected": one.op == "reject"}
    return {**held, one.span_id: span} if sound else None


@pytest.mark.parametrize("seed", range(8))
def test_any_changes_of_two_people_hold_what_a_plain_model_holds_and_refusals_change_nothing(database, seed):
    drawn = random.Random(seed)
    annotations, taxonomy = Annotations(database), taxonomies.load()
    people = [case_of(database, f"{seed:x}a", name) for name in ("ada", "bob")]
    held: dict = {}
    ever: set[str] = set()
    refused = taken = 0
    for _ in range(40):
        case, one = drawn.choice(people), drawn_change(drawn, sorted(ever))
        revision = annotations.read(case).revision
        if one.span_id is None:
            continue  # its id is drawn by the service; the tests of the API have these
        after = expected(held, ever, one)
        if after is None:
            with pytest.raises(UsageError):
                annotations.change(case, revision, [one], taxonomy)
            refused += 1
        else:
            annotations.change(case, revision, [one], taxonomy)
            held, taken = after, taken + 1
            ever.add(one.span_id)
        spans = annotations.read(case).spans
        found = {
            span.span_id: {"content": asdict(span.content), "row": span.last.row, "rejected": span.is_rejected}
            for span in spans
        }
        assert found == held, one
    assert refused > 3 and taken > 3, "the drawn changes are of both kinds"


def test_a_correction_of_an_older_taxonomy_is_changed_taken_back_and_undone_after_a_new_map(database):
    """The page sends the row with each change; the map and the model of today know its category no more."""
    annotations, case = Annotations(database), case_of(database, "01d", "ada")
    old, today = taxonomies.load("cholec80"), taxonomies.load()
    tag = old.tag("phase")
    row = ModelRow("phase", tag.categories[0], 0.0, 40.0)
    assert row.category not in today.tag("phase").categories
    content = {"tag": "phase", "category": tag.categories[1], "start_s": 1.0, "stop_s": 2.0}
    annotations.change(case, 0, [WantedChange("change", "5a", row=row, **content)], old)
    for op, more in (
        ("change", content | {"stop_s": 3.0}),
        ("change", content),
        ("remove", content),
        ("add", content),
        ("reject", {}),
        ("change", content),
    ):
        revision = annotations.read(case).revision
        annotations.change(case, revision, [WantedChange(op, "5a", row=row, **more)], today)
    (span,) = annotations.read(case).spans
    assert asdict(span.content) == content and span.last.row == row
    never = WantedChange("change", "5b", row=ModelRow("phase", tag.categories[2], 0.0, 40.0), **content)
    with pytest.raises(UsageError, match="row: no tag 'phase' with the category"):
        annotations.change(case, 7, [never], today)
    with pytest.raises(UsageError, match="phase has no category"):
        annotations.change(case, 7, [WantedChange("add", "5c", row=row, **content)], today)


OLD_ROW = ModelRow("step", "Sewing", 0.0, 40.0)
"""A row of an older map: while a change answers it, the service reads that map, and others go on."""


@pytest.mark.parametrize("is_sent_again", [False, True])
def test_what_others_do_while_a_long_log_is_read_is_not_lost(database, is_sent_again):
    """The log is read before the transaction. Meanwhile somebody else changes it, or deletes the case and sends it
    again."""
    annotations, taxonomy = Annotations(database), taxonomies.load()
    ada, bob = (case_of(database, f"{is_sent_again:x}cc", name) for name in ("ada", "bob"))
    content = {"tag": "step", "category": "Suturing", "start_s": 1.0, "stop_s": 2.0}
    annotations.change(ada, 0, [WantedChange("add", f"{n}a", **content) for n in range(3)], taxonomy)

    def meanwhile() -> set[tuple[str, str]]:
        if is_sent_again:
            with database.writing() as session:
                forget_annotations(session, ada.video)
        seen = annotations.read(bob).revision
        annotations.change(bob, seen, [WantedChange("add", "bb", **content)], taxonomy)
        return {(OLD_ROW.tag, OLD_ROW.category)}

    seen = 0 if is_sent_again else 3
    layer = annotations.change(ada, seen, [WantedChange("change", "cc", row=OLD_ROW, **content)], taxonomy, meanwhile)
    there = {"bb", "cc"} if is_sent_again else {"0a", "1a", "2a", "bb", "cc"}
    assert {span.span_id for span in layer.spans} == there
    assert [change.revision for change in layer.changes] == list(range(1, len(there) + 1))
    assert annotations.read(bob).changes == layer.changes


def test_one_person_alone_does_not_take_the_room_of_the_others(database, monkeypatch):
    monkeypatch.setattr(annotations_module, "MOST_REVISIONS_OF_PERSON", 5)
    monkeypatch.setattr(annotation_bounds, "MOST_SPANS_OF_PERSON", 3)
    annotations, taxonomy = Annotations(database), taxonomies.load()
    ada, bob = (case_of(database, "dd", name) for name in ("ada", "bob"))
    adding = [WantedChange("add", f"{n}d", "step", "Suturing", n, n + 0.5) for n in range(6)]

    def refusal(case: Case, *wanted: WantedChange) -> str:
        with pytest.raises(UsageError) as refused:
            annotations.change(case, annotations.read(case).revision, wanted, taxonomy)
        return refused.value.name

    annotations.change(ada, 0, adding[:3], taxonomy)
    assert refusal(ada, adding[3]) == "spans-many-own"
    annotations.change(bob, 3, [WantedChange("add", "bd", "step", "Suturing", 50.0, 51.0)], taxonomy)
    annotations.change(ada, 4, [WantedChange("remove", "0d"), adding[3]], taxonomy)
    assert refusal(ada, WantedChange("remove", "1d")) == "annotations-full-own"
    annotations.change(bob, 6, [WantedChange("remove", "1d")], taxonomy)


def test_one_person_alone_does_not_fill_the_comments_of_a_case(database, monkeypatch):
    monkeypatch.setattr(comments, "MOST_COMMENTS_OF_PERSON", 2)
    found = comments.Comments(database)
    ada, bob = (case_of(database, "ee", name) for name in ("ada", "bob"))
    made = [found.add(ada, 1.0, "look")[0] for _ in range(2)]
    with pytest.raises(StateConflict, match="2 comments of yours"):
        found.add(ada, 1.0, "look")
    found.add(bob, 1.0, "look")
    found.delete(ada, made[0].comment_id)
    found.add(ada, 1.0, "look")


def test_a_map_is_read_once_for_all_rows_of_a_request():
    reads = []

    def said() -> set[tuple[str, str]]:
        reads.append(1)
        return {("step", "Sewing")}

    rows = [ModelRow("step", "Sewing", float(n), n + 1.0) for n in range(50)]
    check_rows([WantedChange("accept", row=row) for row in rows], taxonomies.load(), said)
    assert len(reads) == 1
    check_rows([WantedChange("accept", row=row) for row in ROWS], taxonomies.load(), said)
    assert len(reads) == 1, "and not at all where the taxonomy has them"
