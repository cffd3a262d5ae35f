"""Changes as people send them, with parts left out, against a model that keeps nothing but what holds now."""

from __future__ import annotations

import random
from dataclasses import asdict

import pytest

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import UsageError
from halsted_ray.service import users
from halsted_ray.service.annotation_log import ModelRow
from halsted_ray.service.annotations import Annotations, WantedChange, check_rows
from halsted_ray.service.cases import Case
from halsted_ray.service.database import Database, now_s
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
