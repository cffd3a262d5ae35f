"""What nobody sends by mistake: zero bytes, halves of characters, made-up cursors; and an answer that has a form even
where the service itself is wrong."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from case_maps import write_map
from library_site import TENANT, add_video, caller, open_site
from serving import client_of, new_key
from sqlalchemy import func, select, text

from halsted_ray.errors import UsageError
from halsted_ray.hospital.subject import unnamed
from halsted_ray.service import links
from halsted_ray.service.annotation_tables import Comment
from halsted_ray.service.case_identities import VideoIdentity, add_identity
from halsted_ray.service.cases import Case
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.errors import NotFound
from halsted_ray.service.stored_videos import video_of_tenant
from halsted_ray.service.tables import CaseLink, Job, Share

NUL, HALF = "\0", "\ud800"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(request, tmp_path_factory) -> ServiceComponents:
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    found = open_site(tmp_path_factory.mktemp("site"), postgres)
    for number in range(3):
        add_video(found, caller(found, "ada"), f"a{number}")
    yield found
    found.database.close()


@pytest.fixture(scope="module")
def client(service):
    with client_of(service, new_key(service, role="admin", user="boss"), raise_server_exceptions=False) as found:
        yield found


def cursor(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "made_up",
    [
        "garbage",
        "é",
        "=",
        "a" * 400,
        cursor("newest", 1.0, "a" + NUL),
        cursor("newest", 1.0, HALF),
        cursor("newest", 1.0, "a1' OR 1=1"),
        cursor("newest", float("nan"), "a1"),
        cursor("newest", float("inf"), "a1"),
        cursor("newest", 10**400, "a1"),
        cursor("longest", 1.0, "a1"),
        cursor("newest", 1.0, "a" * 65),
        cursor([], {}, []),
        base64.urlsafe_b64encode(b'{"a": 1, "b": 2, "c": 3}').decode(),
        base64.urlsafe_b64encode(b"[" * 200).decode(),
    ],
)
def test_a_cursor_that_no_answer_gave_is_refused_in_words(client, made_up):
    answer = client.get("/v1/cases", params={"cursor": made_up})
    assert answer.status_code == 422 and "ask without a cursor for the first page" in answer.json()["detail"]
    assert client.get("/v1/cases").json()["total"] == 3, "and the next request is answered"


def test_a_cursor_of_another_tenant_shows_nothing_of_it(service, client):
    for number in range(3):
        add_video(service, caller(service, "eve", tenant_id="south"), f"b{number}", tenant_id="south")
    with client_of(service, new_key(service, tenant_id="south", role="admin", user="chief")) as stranger:
        theirs = stranger.get("/v1/cases", params={"limit": 1}).json()
    assert theirs["next"] and theirs["total"] == 3
    page = client.get("/v1/cases", params={"cursor": theirs["next"]}).json()
    assert page["total"] == 3 and {case["case_id"] for case in page["cases"]} <= {"a0", "a1", "a2"}


@pytest.mark.parametrize("name", ["q", "procedure", "label"])
def test_a_zero_byte_in_a_search_is_refused_in_words(client, name):
    for words in ("%00", "a%00b"):
        answer = client.get(f"/v1/cases?{name}={words}")
        assert answer.status_code == 422 and "zero byte" in answer.json()["detail"], answer.text
    assert client.get(f"/v1/cases?{name}=%25").status_code == 200, "and the next request is answered"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/videos/a0/shares", {"user": NUL, "relation": "trainee"}),
        ("PUT", "/v1/videos/a0/owner", {"user": NUL}),
        ("POST", "/session", {"key": f"hk_{NUL}_x"}),
    ],
)
def test_a_zero_byte_in_a_body_is_refused_in_words(client, method, path, body):
    answer = client.request(method, path, json=body)
    assert answer.status_code == 422 and "zero byte" in answer.json()["detail"], answer.text


FORMULA = "=cmd|' /C calc'!A0"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (FORMULA, FORMULA),
        ("an \u202egnp.exe", "an gnp.exe"),
        ("Herr\u200b Mei\u2060er\ufeff", "Herr Meier"),
        ("a\0b\x1b[2J", "ab[2J"),
        ("hidden \U000e0041\U000e0042", "hidden"),
        ("👩\u200d⚕️ 𝔘 می\u200cخواهم", "👩\u200d⚕️ 𝔘 می\u200cخواهم"),
        ("two\n\nlines --> <b>&", "two\n\nlines --> <b>&"),
    ],
)
def test_a_comment_is_kept_as_it_is_seen(client, sent, kept):
    made = client.post("/v1/videos/a0/comments", json={"at_s": 1, "text": sent})
    assert made.status_code == 201 and made.json()["text"] == kept, made.text
    assert kept in {one["text"] for one in client.get("/v1/videos/a0/comments").json()}
    assert ("person" in made.json()["looks_like"]) == ("Meier" in kept), "a name is seen with what is hidden in it"


@pytest.mark.parametrize("sent", ["\u200b", "\u202e\u202c", "\u200d", " \n ", "\0"])
def test_a_comment_that_shows_nothing_is_refused(client, sent):
    refused = client.post("/v1/videos/a0/comments", json={"at_s": 1, "text": sent})
    assert refused.status_code == 422 and refused.json()["code"] == "comment-length", refused.text


@pytest.mark.parametrize(
    "sent", ["an \u202egnp", "zero\u200bwidth", "a\0b", "\ud800", "\x1b[2J", "\U000e0041", "\ufeff"]
)
@pytest.mark.parametrize("field", ["procedure", "labels"])
def test_a_procedure_and_a_label_hold_only_what_is_seen(client, sent, field):
    body = json.dumps({field: [sent] if field == "labels" else sent})
    refused = client.patch("/v1/cases/a0", content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 422 and "gnp" not in refused.text, refused.text


def test_what_people_write_stands_in_no_file_for_other_programs(service, client):
    """Procedure, labels and comments are in the answers for the page alone, so no formula comes into a spreadsheet, no
    cue into captions and no markup into a report."""
    mark = FORMULA + " --> <script>𝔘"
    assert client.patch("/v1/cases/a1", json={"procedure": mark, "labels": [mark[:60]]}).json()["title"] == mark
    assert client.post("/v1/videos/a1/comments", json={"at_s": 1, "text": mark}).status_code == 201
    write_map(service, "a1", [("step", "Suturing", 10, 50)], ("Prostatectomy", 0.9))
    files = [f"videos/a1/timeline?format={name}" for name in ("csv", "jsonl", "vtt", "srt", "fhir", "fhir-r4", "dicom")]
    files += [f"videos/a1/timeline?format=vtt&kind={name}" for name in ("metadata", "chapters")]
    files += [f"cases/a1/timeline?format={name}" for name in ("csv", "jsonl", "vtt", "srt")]
    files += ["cases/a1/stitches?format=csv", "home/trend?format=csv", f"home/trend?format=csv&procedure={quote(mark)}"]
    for name in files:
        found = client.get(f"/v1/{name}")
        assert found.status_code == 200 or "stitches" in name, (name, found.text)
        assert b"cmd|" not in found.content and b"script" not in found.content, name


def test_a_body_that_does_not_say_that_it_is_json_is_refused_with_what_to_say(client):
    """As `curl -d` sends it."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = client.post("/v1/videos/a0/shares", content=b'{"user": "tim", "relation": "trainee"}', headers=form)
    assert answer.status_code == 422 and "Content-Type: application/json" in answer.json()["detail"]
    answer = client.post("/v1/videos/a0/shares", content=b"[]", headers={"content-type": "application/json"})
    assert answer.status_code == 422 and "Content-Type" not in answer.text


def test_the_database_is_never_given_a_text_that_it_can_not_keep(service):
    """The same for both databases, and for a text that no route looks at: PostgreSQL's driver would leave a broken
    connection to the next request."""
    for words in (NUL, f"a{NUL}", HALF):
        with pytest.raises(UsageError, match="zero byte"), service.database.reading() as session:
            session.execute(text("SELECT :words"), {"words": words})
        with service.database.reading() as session:
            assert session.scalar(text("SELECT 1")) == 1


def test_a_search_of_sixty_thousand_letters_is_refused_in_words(client):
    answer = client.get("/v1/cases", params={"q": "a" * 60_000})
    assert answer.status_code == 422 and len(answer.content) < 1000


def test_an_error_of_the_service_itself_has_the_form_of_all_others_and_is_counted(service, monkeypatch, caplog):
    def wrong(*_):
        raise RuntimeError("Jane Doe")

    monkeypatch.setattr(type(service.library), "find", wrong)
    with (
        client_of(service, new_key(service, role="admin", user="boss"), raise_server_exceptions=False) as asking,
        caplog.at_level(logging.INFO),
    ):
        answer = asking.get("/v1/cases")
        metrics = asking.get("/metrics").text
    assert answer.status_code == 500 and answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request"] == answer.headers["x-halsted-request"]
    assert "Jane" not in answer.text and "Traceback" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
    assert f'"request": "{answer.json()["request"]}"' in caplog.text and '"status": 500' in caplog.text
    assert "RuntimeError" in caplog.text and "Jane" not in caplog.text and Path(__file__).name in caplog.text
    assert any('route="/v1/cases"' in line and 'status="500"' in line for line in metrics.splitlines())


ADDING: dict[str, tuple[str, Callable[[ServiceComponents, Case], object], type]] = {
    "share": ("share", lambda service, case: service.cases.share(case, "tim", "trainee", 1.0), Share),
    "link": ("share", lambda service, case: add_link_to(service, case), CaseLink),
    "comment": ("comment", lambda service, case: service.comments.add(case, 1.0, "here"), Comment),
    "map": ("map", lambda service, case: service.jobs.submit(case.caller, case.video_id, ["macro"]), Job),
    "consent": ("keep", lambda service, case: service.cases.keep(case, consent="given"), Share),
    "identity": ("see", lambda service, case: identify(service, case), VideoIdentity),
}
"""What goes with a case: the right that it takes, how it is added, its table."""


def add_link_to(service: ServiceComponents, case: Case) -> None:
    with service.database.writing() as session:
        links.add_link(session, case, 1.0)


def identify(service: ServiceComponents, case: Case) -> None:
    with service.database.writing() as session:
        add_identity(session, case.caller, case.video_id, unnamed(case.video_id))


@pytest.mark.parametrize("what", ADDING)
def test_what_is_added_while_the_case_is_deleted_does_not_outlive_it(service, what):
    """It would belong to whoever uploads the same file next."""
    right, add, table = ADDING[what]
    ada, video_id = caller(service, "ada"), f"d{list(ADDING).index(what)}"
    caller(service, "tim", "trainee")
    add_video(service, ada, video_id)
    case = service.cases.require(ada, video_id, right)
    with ThreadPoolExecutor(1) as others, service.database.writing() as session:
        service.videos.mark_deleted(session, ada, video_of_tenant(session, TENANT, video_id))
        session.flush()
        adding = others.submit(add, service, case)
        wait_for_somebody_who_waits(service, adding)
        session.commit()
        with pytest.raises(NotFound):
            adding.result(60)
    with service.database.reading() as session:
        of_video = select(func.count()).select_from(table).where(table.video_id == video_id)
        if table is Job:
            of_video = of_video.where(Job.state == "queued")
        assert session.scalar(of_video) == 0


def wait_for_somebody_who_waits(service: ServiceComponents, adding: Future) -> None:
    """Until PostgreSQL has somebody wait for a lock. (On SQLite the second writer waits before it reads.)"""
    if service.database.is_sqlite:
        return
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s and not adding.done():
        with service.database.reading() as session:
            if session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                return
        time.sleep(0.02)
