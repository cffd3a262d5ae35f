"""What people say about a map, over the API: two annotators at once, undo, conflicts, agreement, names, deletion."""

from __future__ import annotations

import csv
import io
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import sqlalchemy.exc
from maps import write_maps
from serving import client_of, new_key, open_service, shared_model, shared_video, upload
from sqlalchemy import select, text, update

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import UsageError
from halsted_ray.service.annotation_bounds import MOST_AT_ONCE
from halsted_ray.service.annotation_log import ModelRow
from halsted_ray.service.annotation_tables import AnnotationChange, Comment
from halsted_ray.service.annotations import WantedChange, check_rows
from halsted_ray.service.api import create_api
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.routes import annotation_layer
from halsted_ray.service.tables import AuditEntry, Job, StoredVideo

ROW = {"tag": "step", "category": "Suturing", "start_s": 0.0, "stop_s": 60.0}
LONG_S = 120.0


class Case:
    """A mapped case of ``owner`` on a site, and the people with whom it is shared."""

    def __init__(self, service: ServiceComponents, people: ExitStack) -> None:
        self.service, self.app = service, create_api(service)
        self.clients = {}
        for user in ("owner", "surgeon", "annotator", "reviewer"):
            role = "surgeon" if user == "owner" else user
            client = client_of(service, new_key(service, user=user, role=role))
            self.clients[user] = people.enter_context(client)
        self.video_id = upload(self.clients["owner"], shared_video())["video_id"]
        with service.database.writing() as session:  # the maps of the tests are of two minutes
            session.get_one(StoredVideo, ("north", self.video_id)).duration_s = LONG_S
        write_maps(service.videos.maps_location("north", self.video_id))
        for user in ("surgeon", "annotator", "reviewer"):
            self.client("owner").post(f"/v1/videos/{self.video_id}/shares", json={"user": user, "relation": user})

    def client(self, user: str):
        return self.clients[user]

    def path(self, rest: str = "") -> str:
        return f"/v1/videos/{self.video_id}/annotations{rest}"

    def read(self, user: str = "owner") -> dict:
        return self.client(user).get(self.path()).json()

    def change(self, user: str, *changes: dict, revision: int | None = None) -> dict:
        """The answer to a change that is taken; upon the newest revision unless another is given."""
        answer = self.try_change(user, *changes, revision=revision)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def try_change(self, user: str, *changes: dict, revision: int | None = None):
        seen = self.read(user)["revision"] if revision is None else revision
        return self.client(user).post(self.path(), json={"revision": seen, "changes": list(changes)})

    def read_log(self) -> list[str]:
        """Whose the changes are, the oldest first."""
        with self.service.database.reading() as session:
            return list(session.scalars(select(AnnotationChange.author_id).order_by(AnnotationChange.revision)))

    def actions(self) -> list[str]:
        with self.service.database.reading() as session:
            return list(session.scalars(select(AuditEntry.action).order_by(AuditEntry.seq)))


@pytest.fixture
def case(tmp_path):
    with ExitStack() as people:
        yield Case(open_service(tmp_path, shared_model(), requests_per_minute=10**6), people)


def added(start_s: float, stop_s: float, category: str = "Suturing", tag: str = "step", **more) -> dict:
    return {"op": "add", "tag": tag, "category": category, "start_s": start_s, "stop_s": stop_s} | more


def test_a_row_of_the_model_is_accepted_rejected_and_changed_and_each_answer_says_by_whom(case):
    seen = case.change(
        "owner",
        {"op": "accept", "row": ROW},
        {"op": "reject", "row": ROW | {"category": "Dissection", "start_s": 60.0, "stop_s": 120.0}},
        {"op": "change", "row": ROW, "stop_s": 55.5},
        added(80, 90),
    )
    assert seen["revision"] == seen["history_count"] == 4
    assert {span["state"] for span in seen["spans"]} == {"accepted", "rejected", "changed", "added"}
    changed = next(span for span in seen["spans"] if span["state"] == "changed")
    assert (changed["start_s"], changed["stop_s"], changed["row"]) == (0.0, 55.5, ROW)
    assert changed["author_name"] == "owner" and changed["mine"]
    assert case.read("surgeon")["spans"] == [span | {"mine": False} for span in seen["spans"]]


def test_a_split_and_a_merge_are_one_request_and_all_or_nothing(case):
    whole = case.change("owner", added(10, 30))["spans"][0]["span_id"]
    new = "ab" * 8
    halves = case.change("owner", {"op": "change", "span_id": whole, "stop_s": 20.0}, added(20, 30, span_id=new))
    assert [(span["span_id"], span["start_s"], span["stop_s"]) for span in halves["spans"]] == [
        (whole, 10.0, 20.0),
        (new, 20.0, 30.0),
    ]
    merged = [{"op": "remove", "span_id": new}, {"op": "change", "span_id": whole, "stop_s": 200.0}]
    refused = case.try_change("owner", *merged)
    assert refused.status_code == 422 and "change 2 (change): expected 0 <= start_s" in refused.json()["detail"]
    assert case.read() == halves, "nothing of it was kept"


def test_undo_by_the_inverse_change_leads_back(case):
    before = case.change("owner", added(10, 30))["spans"]
    span_id = before[0]["span_id"]
    case.change("owner", {"op": "change", "span_id": span_id, "category": "Dissection"})
    case.change("owner", {"op": "change", "span_id": span_id, "category": "Suturing"})
    case.change("owner", {"op": "remove", "span_id": span_id})
    after = case.change("owner", added(10, 30, span_id=span_id))["spans"]
    without_time = [{name: value for name, value in span.items() if name != "at_s"} for span in (before[0], after[0])]
    assert without_time[0] == without_time[1] and len(after) == 1
    history = case.client("owner").get(case.path("/history")).json()
    assert [one["op"] for one in history] == ["add", "change", "change", "remove", "add"]
    assert case.client("owner").get(case.path("/history?after=3&limit=1")).json() == history[3:4]


def test_two_annotators_at_once_lose_nothing_and_every_revision_is_there_once(case):
    """Each adds spans of their own at the same time, from one and the same revision."""

    def annotate(user: str, first_s: float) -> list[int]:
        return [case.try_change(user, added(first_s + n, first_s + n + 0.5), revision=0).status_code for n in range(12)]

    with ThreadPoolExecutor(3) as pool:
        codes = list(pool.map(annotate, ("owner", "surgeon", "annotator"), (0.0, 30.0, 60.0)))
    assert codes == [[200] * 12] * 3
    seen = case.read()
    assert seen["revision"] == 36 and len(seen["spans"]) == 36
    history = case.client("owner").get(case.path("/history")).json()
    assert [one["revision"] for one in history] == list(range(1, 37))


def test_a_span_that_somebody_else_changed_meanwhile_is_refused_with_what_it_is_now(case):
    first = case.change("owner", added(10, 30))
    span_id = first["spans"][0]["span_id"]
    case.change("surgeon", {"op": "change", "span_id": span_id, "stop_s": 25.0})
    stale = case.try_change(
        "owner", added(40, 50), {"op": "change", "span_id": span_id, "stop_s": 28.0}, revision=first["revision"]
    )
    assert stale.status_code == 409 and stale.headers["content-type"] == "application/problem+json"
    assert [(span["stop_s"], span["author_name"]) for span in stale.json()["spans"]] == [(25.0, "surgeon")]
    assert "somebody else has changed 1 and removed 0" in stale.json()["detail"]
    assert len(case.read()["spans"]) == 1, "nothing of the request was kept"
    assert case.try_change("owner", {"op": "change", "span_id": span_id, "stop_s": 28.0}).status_code == 200
    case.change("surgeon", {"op": "remove", "span_id": span_id})
    gone = case.try_change("owner", {"op": "accept", "span_id": span_id}, revision=3)
    assert gone.status_code == 409 and gone.json()["spans"] == [] and "removed 1" in gone.json()["detail"]


def test_ones_own_earlier_changes_and_those_of_other_spans_refuse_nothing(case):
    """A page that sends its changes one after another need not wait for each answer."""
    first = case.change("owner", added(10, 30), added(40, 50))
    one, other = (span["span_id"] for span in first["spans"])
    for stop_s in (31.0, 32.0, 33.0):
        case.change("owner", {"op": "change", "span_id": one, "stop_s": stop_s}, revision=2)
    case.change("surgeon", {"op": "change", "span_id": other, "stop_s": 55.0}, revision=2)
    seen = case.change("owner", {"op": "change", "span_id": one, "stop_s": 34.0}, revision=2)
    assert [span["stop_s"] for span in seen["spans"]] == [34.0, 55.0]


def test_only_one_of_many_who_change_one_span_from_one_revision_gets_through(case):
    first = case.change("owner", added(10, 30))
    change = {"op": "change", "span_id": first["spans"][0]["span_id"]}

    def stretch(user: str) -> int:
        return case.try_change(user, change | {"stop_s": 25.0}, revision=first["revision"]).status_code

    with ThreadPoolExecutor(3) as pool:
        codes = sorted(pool.map(stretch, ("owner", "surgeon", "annotator")))
    assert codes == [200, 409, 409] and case.read()["revision"] == 2


@pytest.mark.parametrize(
    "change, told",
    [
        (added(10, 30, category="Sewing"), "step has no category 'Sewing'; expected ('Suturing', 'Dissection')"),
        (added(10, 30, tag="stp"), "did you mean 'step'?"),
        (added(30, 10), "expected 0 <= start_s < stop_s <= 120.000 s, got [30, 10)"),
        (added(10, 121), "expected 0 <= start_s < stop_s <= 120.000 s"),
        ({"op": "add", "tag": "step", "start_s": 1}, "category, stop_s are missing"),
        ({"op": "accept"}, "no span None; name a span of this case, or the model's row"),
        ({"op": "remove", "span_id": "ab"}, "no span 'ab'"),
    ],
)
def test_a_change_that_can_not_be_is_refused_in_words(case, change, told):
    answer = case.try_change("owner", change)
    assert answer.status_code == 422 and told in answer.json()["detail"]
    assert "change 1 (" in answer.json()["detail"] or "did you mean" in told
    assert case.read()["revision"] == 0


def test_a_revision_that_is_not_there_yet_is_refused(case):
    answer = case.try_change("owner", added(1, 2), revision=5)
    assert answer.status_code == 422 and "revision 5: the newest is 0" in answer.json()["detail"]


def test_conflicts_and_agreement_of_two_people_are_told(case):
    case.change("owner", added(0, 10), added(10, 20, "Dissection"))
    seen = case.change("annotator", added(0, 11), added(11, 24, "Dissection"))
    assert seen["conflicts"] == [], "ends within a second are no conflict"
    first, second = (span["span_id"] for span in seen["spans"] if span["author_name"] == "annotator")
    seen = case.change(
        "annotator",
        {"op": "change", "span_id": first, "stop_s": 14.0},
        {"op": "change", "span_id": second, "start_s": 14.0},
    )
    (conflict,) = seen["conflicts"]
    assert (conflict["tag"], conflict["start_s"], conflict["stop_s"]) == ("step", 10.0, 14.0)
    (pair,) = case.client("owner").get(case.path("/agreement")).json()["pairs"]
    assert {pair["one_name"], pair["other_name"]} == {"owner", "annotator"} and pair["tag"] == "step"
    # Of 20 frames 10 + 6 agree; margins 10/10 and 14/6: p_e = 0.5, so kappa is (0.8 - 0.5) / 0.5.
    assert (pair["n"], pair["kappa"]) == (20, 0.6)
    assert pair["boundary_error_s"] == 4.0, "the median of 0, 4, 4 and 4 s"


def test_reviewers_and_annotators_do_not_learn_who_annotated(case):
    """Nor can they tell from the id of an author in this case who it is in another."""
    case.change("owner", added(0, 10))
    case.change("annotator", added(20, 30))
    case.client("owner").post(f"/v1/videos/{case.video_id}/comments", json={"at_s": 1, "text": "see"})
    for user in ("annotator", "reviewer"):
        client = case.client(user)
        texts = [client.get(case.path(rest)).text for rest in ("", "/history", "/agreement")]
        texts.append(client.get(f"/v1/videos/{case.video_id}/comments").text)
        assert all("owner" not in found for found in texts) and "Person 1" in texts[0] and "Person 1" in texts[3]
    assert [span["author_name"] for span in case.read("annotator")["spans"]] == ["Person 1", "annotator"]
    assert [span["author_name"] for span in case.read("reviewer")["spans"]] == ["Person 1", "Person 2"]
    with case.service.database.reading() as session:
        ids = set(session.scalars(select(AnnotationChange.author_id)))
    assert not ids & {span["author"] for span in case.read()["spans"]}


def test_the_layer_is_a_timeline_with_the_source_manual(case):
    case.change("owner", added(50, 70, "Dissection"), {"op": "reject", "row": ROW})
    people = list(
        csv.DictReader(io.StringIO(case.client("owner").get(case.path("/timeline?layer=people&format=csv")).text))
    )
    assert [(row["start_s"], row["end_s"], row["source"], row["task"]) for row in people] == [
        ("50.0", "70.0", "manual", "macro")
    ]
    rows = case.client("owner").get(case.path("/timeline")).json()["rows"]
    steps = [(row["start_s"], row["end_s"], row["category"], row["source"]) for row in rows if row["tag"] == "step"]
    assert (50.0, 70.0, "Dissection", "manual") in steps and (70.0, 120.0, "Dissection", "ai") in steps
    assert not [one for one in steps if one[2] == "Suturing" and one[1] <= 60.0], "the rejected row is gone"
    assert [row["source"] for row in rows if row["tag"] == "procedure"].count("ai") >= 1, "other tags stay"
    for format in ("vtt", "srt", "jsonl"):
        assert case.client("owner").get(case.path(f"/timeline?format={format}")).status_code == 200


def test_a_change_holds_the_version_of_the_model_that_its_author_saw(case):
    job_id = case.client("owner").post(f"/v1/videos/{case.video_id}/maps", json={}).json()["job_id"]
    with case.service.database.writing() as session:
        session.execute(update(Job).where(Job.job_id == job_id).values(state="done", model_version="v7"))
    case.change("owner", {"op": "accept", "row": ROW})
    assert case.client("owner").get(case.path("/history")).json()[0]["model_version"] == "v7"


def test_a_change_of_the_log_is_refused_by_the_database_itself(case):
    case.change("owner", added(0, 10))
    with pytest.raises(sqlalchemy.exc.DBAPIError, match="never changed"), case.service.database.writing() as session:
        session.execute(text("UPDATE annotation_changes SET stop_s = 11"))


def test_every_change_and_comment_is_an_entry_of_the_audit_log_and_no_comments_text_is(case):
    case.change("annotator", added(0, 10), {"op": "accept", "row": ROW})
    where = f"/v1/videos/{case.video_id}/comments"
    made = case.client("surgeon").post(where, json={"at_s": 3, "text": "a secret remark"}).json()
    case.client("surgeon").delete(f"{where}/{made['comment_id']}")
    with case.service.database.reading() as session:
        entries = session.scalars(select(AuditEntry).order_by(AuditEntry.seq)).all()
    change = next(entry for entry in entries if entry.action == "annotation.change")
    assert change.detail["revision"] == 2 and change.detail["changes"] == {"add": 1, "accept": 1}
    assert change.subject == case.video_id and change.actor.startswith("annotator/") and change.detail["share"]
    assert [entry.action for entry in entries[-2:]] == ["comment.add", "comment.delete"]
    assert "secret" not in str([entry.detail for entry in entries])


def test_deleting_the_case_removes_annotations_and_comments_and_a_new_upload_begins_empty(case):
    case.change("owner", added(0, 10))
    case.client("owner").post(f"/v1/videos/{case.video_id}/comments", json={"at_s": 1, "text": "see"})
    assert case.client("owner").delete(f"/v1/videos/{case.video_id}").status_code == 204
    with case.service.database.reading() as session:
        assert session.scalars(select(AnnotationChange)).all() == []
        assert session.scalars(select(Comment)).all() == []
    assert upload(case.client("owner"), shared_video())["video_id"] == case.video_id
    assert case.read() == {"revision": 0, "spans": [], "conflicts": [], "history_count": 0}


def test_a_withdrawn_consent_hides_annotations_and_comments(case):
    case.change("owner", added(0, 10))
    case.client("owner").patch(f"/v1/videos/{case.video_id}/keeping", json={"consent": "withdrawn"})
    assert case.client("owner").get(case.path()).status_code == 403
    assert case.client("owner").get(f"/v1/videos/{case.video_id}/comments").status_code == 403
    assert case.try_change("owner", added(1, 2), revision=1).status_code == 403


def test_comments_are_read_in_order_and_deleted_by_their_author_and_the_owner_alone(case):
    where = f"/v1/videos/{case.video_id}/comments"
    late = case.client("reviewer").post(where, json={"at_s": 30, "text": " <b>late</b> "}).json()
    early = case.client("surgeon").post(where, json={"at_s": 2.5, "text": "early"}).json()
    assert late["text"] == "<b>late</b>" and late["warnings"] == [] and late["mine"]
    seen = case.client("owner").get(where).json()
    assert [(one["at_s"], one["author_name"], one["mine"]) for one in seen] == [
        (2.5, "surgeon", False),
        (30.0, "reviewer", False),
    ]
    refused = case.client("reviewer").delete(f"{where}/{early['comment_id']}")
    assert refused.status_code == 403 and "only its author" in refused.json()["detail"]
    assert case.client("surgeon").delete(f"{where}/{early['comment_id']}").status_code == 204
    assert case.client("owner").delete(f"{where}/{late['comment_id']}").status_code == 204
    assert case.client("owner").delete(f"{where}/{late['comment_id']}").status_code == 404
    assert case.client("owner").get(where).json() == []
    assert case.client("owner").post(where, json={"at_s": 500, "text": "x"}).status_code == 422
    assert case.client("owner").post(where, json={"at_s": 1, "text": "   "}).status_code == 422


def test_a_comment_that_looks_like_a_name_is_taken_and_warned_of(case):
    where = f"/v1/videos/{case.video_id}/comments"
    made = case.client("owner").post(where, json={"at_s": 1, "text": "Mrs Miller, MRN 4711002"}).json()
    assert len(made["warnings"]) == 2 and "Miller" not in str(made["warnings"])
    assert made["looks_like"] == ["person", "record"], "the page has words for these in each language"
    assert len(case.client("owner").get(where).json()) == 1


def test_more_spans_at_one_time_than_people_can_mean_are_refused_before_they_cost_anything(case):
    """Two people's 2,000 spans each, all at one time, would be a million conflicts in each answer from then on."""
    case.change("owner", *(added(10, 30) for _ in range(MOST_AT_ONCE - 1)))
    case.change("surgeon", added(10, 30, "Dissection"), added(30, 40, "Dissection"))
    refused = case.try_change("surgeon", added(29, 31, "Dissection"))
    assert refused.status_code == 422 and f"at most {MOST_AT_ONCE} spans of one tag" in refused.json()["detail"]
    assert case.try_change("surgeon", *(added(50 + n, 52 + n) for n in range(60))).status_code == 200, (
        "beside each other"
    )
    seen = case.read()
    assert len(seen["conflicts"]) == MOST_AT_ONCE - 1, "each of one person with that of the other"
    mine = [span["span_id"] for span in seen["spans"] if span["start_s"] == 10][:2]
    case.change("owner", *({"op": "remove", "span_id": span_id} for span_id in mine))
    case.change("surgeon", added(11, 12, "Dissection"))


def test_whoever_asks_often_takes_one_place_and_colleagues_find_the_others(case, monkeypatch):
    """Twelve requests of one person at a time: one of them is worked on, and a colleague's does not wait for them."""
    running, most, colleagues_done = Counter(), Counter(), threading.Event()
    real = annotation_layer.show_layer
    case.change("owner", added(1, 2))
    owner = case.read_log()[0]

    def slow(layer):
        author = layer.changes[-1].author_id
        running[author] += 1
        most[author] = max(most[author], running[author])
        assert author != owner or colleagues_done.wait(60)  # the first of the twelve lasts until then
        running[author] -= 1
        return real(layer)

    monkeypatch.setattr(annotation_layer, "show_layer", slow)

    def ask(user: str) -> None:
        body = {"revision": 1, "changes": [added(3, 4)]}
        key = case.client(user).headers["x-api-key"]
        answer = case.client("owner").post(case.path(), json=body, headers={"x-api-key": key})  # one application
        assert answer.status_code == 200, answer.text

    with ThreadPoolExecutor(20) as pool:
        flood = [pool.submit(ask, "owner") for _ in range(12)]
        while not running:
            time.sleep(0.005)
        try:
            for user in ("surgeon", "annotator"):
                pool.submit(ask, user).result(timeout=60)
        finally:
            colleagues_done.set()
        for one in flood:
            one.result()
    assert max(most.values()) == 1 and len(most) == 3


def test_a_row_is_answered_by_as_many_spans_as_people_can_mean(case):
    pieces = [added(float(n), n + 0.5, row=ROW) for n in range(MOST_AT_ONCE + 1)]
    assert case.try_change("owner", *pieces).status_code == 422
    assert case.try_change("owner", *pieces[:-1]).status_code == 200


def test_what_was_taken_back_by_others_counts_where_agreement_is_counted(case):
    """By each one's own last word: somebody else's removal does not empty it."""
    for _ in range(MOST_AT_ONCE // 10):
        seen = case.change("owner", *(added(10, 30) for _ in range(10)))
        case.change("surgeon", *({"op": "remove", "span_id": span["span_id"]} for span in seen["spans"]))
    assert case.read()["spans"] == []
    assert case.try_change("owner", added(10, 30)).status_code == 422
    assert case.try_change("surgeon", added(10, 30)).status_code == 200


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (ROW | {"start_s": 70.0}, "row: expected 0 <= start_s < stop_s"),
        (ROW | {"stop_s": LONG_S + 1}, "row: expected 0 <= start_s < stop_s"),
        (ROW | {"tag": "st\0ep"}, "not as described"),
        (ROW | {"category": "\x1b[2J"}, "not as described"),
        (ROW | {"category": ""}, "not as described"),
    ],
)
def test_a_row_that_no_map_can_have_is_refused_with_every_change(case, row, told):
    whole = {"tag": "step", "category": "Suturing", "start_s": 1.0, "stop_s": 2.0}
    for change in ({"op": "add", **whole}, {"op": "change", **whole}, {"op": "accept"}, {"op": "reject"}):
        refused = case.try_change("owner", change | {"row": row})
        assert refused.status_code == 422 and told in refused.json()["detail"], refused.text
    assert case.read()["revision"] == 0


@pytest.mark.parametrize("names", [{"category": "any text"}, {"tag": "target", "category": "Suturing"}, {"tag": "any"}])
def test_a_row_whose_category_is_not_of_the_taxonomy_is_refused_by_name(case, names):
    """Also with a change to a category that there is: the row is kept, exported and counted as the model's word."""
    change = {"op": "change", "tag": "step", "category": "Dissection", "start_s": 1.0, "stop_s": 2.0}
    refused = case.try_change("owner", change | {"row": ROW | names})
    told = refused.json()
    assert (refused.status_code, told["code"]) == (422, "category-unknown"), refused.text
    assert told["values"] == {name: (ROW | names)[name] for name in ("tag", "category")}
    assert case.read()["revision"] == 0


def test_a_row_of_a_map_in_an_older_taxonomy_is_answered():
    """The map was made before the model of today, which has other categories."""
    row = ModelRow("step", "Sewing", 0.0, 60.0)
    wanted = [WantedChange("change", None, "step", "Suturing", 1.0, 2.0, row)]
    check_rows(wanted, taxonomies.load(), lambda: {("step", "Sewing")})
    with pytest.raises(UsageError, match="no tag 'step' with the category 'Sewing'"):
        check_rows(wanted, taxonomies.load(), set)


def test_each_way_to_read_annotations_is_an_entry_of_the_audit_log(case):
    case.change("owner", added(10, 30))
    for rest in ("", "/history", "/agreement", "/timeline"):
        before = len(case.actions())
        assert case.client("reviewer").get(case.path(rest)).status_code == 200
        assert case.actions()[before:] == ["timeline.read"], rest
