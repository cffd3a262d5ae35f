"""A case from its upload on: several files, posters, the sample case, what a job writes, and sites of before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_video
from library_site import describe
from maps import write_maps
from serving import clean_here, client_of, new_key, open_service, send_parts, shared_model, worker_here
from sqlalchemy import select
from starlette.testclient import TestClient

from halsted_ray.errors import OutputError
from halsted_ray.service import housekeeping, poster, sample_case, summaries, videos
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import Database
from halsted_ray.service.failure_causes import cause
from halsted_ray.service.job_process import JobProcess, JobResult
from halsted_ray.service.tables import Job, Operation, StoredVideo, VideoSummary


@pytest.fixture
def service(tmp_path) -> ServiceComponents:
    found = open_service(tmp_path / "site", shared_model())
    yield found
    found.database.close()


@pytest.fixture
def client(service) -> TestClient:
    with client_of(service, new_key(service)) as found:
        yield found


def sent(client: TestClient, folder: Path, look: int = 0, **begin) -> dict:
    """A video that was sent and is not cleaned yet."""
    path = Path(small_video.write(folder / f"{look}.mp4", 2.0, look=look))
    begun = client.post("/v1/uploads", json=begin)
    assert begun.status_code == 201, begun.text
    where = f"/v1/uploads/{begun.json()['upload_id']}"
    assert client.put(f"{where}/parts/1", content=path.read_bytes()).status_code == 200
    return {**client.post(f"{where}/complete").json(), "upload": begun.json()}


def test_files_that_are_sent_as_one_case_are_one_case_in_their_order(client, tmp_path):
    first = sent(client, tmp_path, 1)
    case_id = first["upload"]["case_id"]
    assert first["case_id"] == case_id and first["position"] == 1
    third = sent(client, tmp_path, 3, case_id=case_id, position=3)
    second = sent(client, tmp_path, 2, case_id=case_id, position=2)
    behind = sent(client, tmp_path, 4, case_id=case_id)
    (case,) = client.get("/v1/cases").json()["cases"]
    assert case["videos"] == [one["video_id"] for one in (first, second, third, behind)]
    assert case["case_id"] == case_id and case["status"]["state"] == "cleaning" and case["durations_s"] == [2.0] * 4
    again = sent(client, tmp_path, 2)
    assert again["video_id"] == second["video_id"] and again["case_id"] == case_id, "the same file stays where it is"


def test_a_case_that_has_no_file_yet_takes_more_from_whoever_began_it_alone(service, client, tmp_path):
    case_id = client.post("/v1/uploads", json={}).json()["case_id"]
    second = client.post("/v1/uploads", json={"case_id": case_id}).json()
    assert (second["case_id"], second["position"]) == (case_id, 2)
    with client_of(service, new_key(service, user="ben")) as other:
        refused = other.post("/v1/uploads", json={"case_id": case_id})
        assert refused.status_code == 404 and "begin its first upload without a case_id" in refused.json()["detail"]
    with client_of(service, new_key(service, "south", "eve")) as stranger:
        assert stranger.post("/v1/uploads", json={"case_id": case_id}).status_code == 404
    assert client.post("/v1/uploads", json={"case_id": "feed"}).status_code == 404
    assert client.post("/v1/uploads", json={"case_id": case_id, "position": 0}).status_code == 422
    video = sent(client, tmp_path, 1)
    with client_of(service, new_key(service, user="ben")) as other:
        assert other.post("/v1/uploads", json={"case_id": video["case_id"]}).status_code == 404


def test_a_case_is_described_over_http_with_a_warning_where_a_label_names_a_patient(client, tmp_path):
    case_id = sent(client, tmp_path, 1)["case_id"]
    said = client.patch(
        f"/v1/cases/{case_id}", json={"labels": ["teaching", "Herr Meier"], "operated_on": "2026-11-03"}
    )
    assert said.status_code == 200, said.text
    assert said.json()["warnings"] == ["Herr Meier: this looks like a person's name"]
    assert said.json()["labels"] == ["teaching", "Herr Meier"], "a warning, and no refusal"
    said = client.patch(f"/v1/cases/{case_id}", json={"procedure": "Whipple"}).json()
    assert (said["title"], said["operated_on"], said["warnings"][0][:10]) == ("Whipple", "2026-11-03", "Herr Meier")
    said = client.patch(f"/v1/cases/{case_id}", json={"procedure": None, "labels": []}).json()
    assert (said["title"], said["labels"], said["operated_on"]) == (f"Case {case_id[:6]}", [], "2026-11-03")
    for wrong in (
        {"operated_on": "yesterday"},
        {"operated_on": "2026-02-30"},
        {"labels": ["x"] * 13},
        {"labels": ["\n"]},
    ):
        assert client.patch(f"/v1/cases/{case_id}", json=wrong).status_code == 422, wrong
    assert client.get("/v1/cases?since=yesterday").status_code == 422
    assert client.get("/v1/cases?status=lost").status_code == client.get("/v1/cases?cursor=x").status_code == 422
    assert client.get("/v1/cases?since=2026-02-31").status_code == 422


def test_a_case_is_grouped_and_taken_apart_over_http(client, tmp_path):
    videos = [sent(client, tmp_path, look)["video_id"] for look in (1, 2)]
    case = client.post("/v1/cases", json={"video_ids": videos[::-1]})
    assert case.status_code == 201 and case.json()["videos"] == videos[::-1]
    where = f"/v1/cases/{case.json()['case_id']}"
    assert client.delete(where).status_code == 204 and client.get("/v1/cases").json()["total"] == 2
    assert client.get(where).json()["videos"] == videos[1:]
    assert client.post("/v1/cases", json={"video_ids": [videos[0], "feed"]}).status_code == 404
    assert client.get("/v1/cases/feed").status_code == 404


def test_a_whole_case_is_deleted_by_one_request(service, client, tmp_path):
    first = sent(client, tmp_path, 1)
    clean_here(service)
    second = sent(client, tmp_path, 2, case_id=first["case_id"])
    where = f"/v1/cases/{first['case_id']}/files"
    assert client.delete(where).status_code == 204, "also while one of them is being cleaned"
    for video in (first, second):
        assert client.get(f"/v1/videos/{video['video_id']}").status_code == 404
        assert client.delete(f"/v1/videos/{video['video_id']}").status_code == 404
    assert client.get("/v1/cases").json()["total"] == 0
    assert client.delete(where).status_code == 404, "a second time it is not there, as a video that was deleted"
    assert not list(Path(service.store.root).rglob("*.mp4"))


def test_why_a_cleaning_failed_is_told_as_a_code_wherever_its_text_is(service, client, tmp_path):
    video = sent(client, tmp_path, 1)
    job_id = client.post(f"/v1/videos/{video['video_id']}/maps", json={}).json()["job_id"]
    (original,) = Path(service.store.root).rglob("video.mp4")
    original.write_bytes(b"no video any more" * 100)
    clean_here(service)
    shown = client.get(f"/v1/videos/{video['video_id']}").json()
    assert (shown["state"], shown["cause"]) == ("failed", {"code": "unreadable", "values": {}}) and shown["reason"]
    waiting = client.get(f"/v1/jobs/{job_id}").json()
    assert waiting["cause"] == {"code": "video-not-cleaned", "values": {}} == shown["job"]["cause"]
    (case,) = client.get("/v1/cases").json()["cases"]
    assert case["status"]["cause"] == shown["cause"] and case["status"]["reason"] == shown["reason"]
    with service.database.writing() as session:  # as a site of before has it
        for row in (session.get_one(Job, job_id), session.get_one(StoredVideo, ("north", video["video_id"]))):
            row.cause = None
    assert client.get(f"/v1/videos/{video['video_id']}").json()["cause"] is None
    (case,) = client.get("/v1/cases").json()["cases"]
    assert case["status"]["cause"] is None and case["status"]["reason"] == shown["reason"]


def test_a_job_that_fails_says_its_cause_on_its_case(service, client, tmp_path, monkeypatch):
    why = cause("job-memory", most_mb=1)
    video_id = sent(client, tmp_path, 1)["video_id"]
    clean_here(service)
    client.post(f"/v1/videos/{video_id}/maps", json={})
    worker = worker_here(service)
    monkeypatch.setattr(worker.process, "run", too_large)
    while worker.work_once():
        pass
    assert client.get(f"/v1/videos/{video_id}").json()["job"]["cause"] == why
    (case,) = client.get("/v1/cases").json()["cases"]
    assert (case["status"]["state"], case["status"]["cause"]) == ("failed", why)


def too_large(_request, _check) -> JobResult:
    process = JobProcess(memory_mb=1)
    process._pid = os.getpid()
    process._check_memory()
    raise AssertionError("this process takes more than 1 MB")


def test_a_poster_is_made_when_an_upload_is_cleaned_and_goes_with_it(service, client, tmp_path):
    video = sent(client, tmp_path, 1)
    where = f"/v1/videos/{video['video_id']}/poster"
    assert client.get(where).status_code == 409, "while it is being cleaned"
    clean_here(service)
    files = list(Path(service.store.root).rglob("poster.jpg"))
    assert len(files) == 1
    answer = client.get(where)
    assert answer.headers["content-type"] == "image/jpeg"
    image = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (214, 320, 3), "of 64x96 pixels, with an even height"
    assert client.get("/v1/cases").json()["cases"][0]["poster"] == where.removeprefix("/")
    (look,) = [
        one for one in client.get(f"/v1/videos/{video['video_id']}/looks").json() if one["action"] == "poster.read"
    ]
    assert 0 <= look["detail"]["seconds"][0] < look["detail"]["seconds"][1] <= 2.1
    assert client.delete(f"/v1/videos/{video['video_id']}").status_code == 204
    assert not files[0].exists() and client.get(where).status_code == 404


def test_a_video_of_before_gets_its_poster_when_somebody_asks(service, client, tmp_path, monkeypatch):
    video = sent(client, tmp_path, 1)
    clean_here(service)
    with service.database.writing() as session:
        session.get_one(StoredVideo, ("north", video["video_id"])).poster = None
    made = []
    before = poster.make_poster
    monkeypatch.setattr(poster, "make_poster", lambda *of: made.append(1) or before(*of))
    where = f"/v1/videos/{video['video_id']}/poster"
    assert client.get(where).content == client.get(where).content and made == [1]


def test_a_black_video_has_no_poster_and_says_so(service, client, tmp_path):
    path = tmp_path / "black.mp4"
    dark(path)
    video = send_parts(client, path)
    clean_here(service)
    for _ in range(2):
        answer = client.get(f"/v1/videos/{video['video_id']}/poster")
        assert answer.status_code == 404 and "all are black" in answer.json()["detail"]
    assert client.get("/v1/cases").json()["cases"][0]["poster"] is None


def dark(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 9, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_a_poster_is_sharp_and_of_tissue():
    rng = np.random.default_rng(0)
    tissue = np.clip(rng.normal((170, 70, 60), 25, (180, 320, 3)), 0, 255).astype(np.uint8)
    blurred = cv2.GaussianBlur(tissue, (0, 0), 6)
    room = tissue[..., ::-1].copy()
    half_black = tissue.copy()
    half_black[:, :200] = 0
    scores = [poster.score(image) for image in (tissue, blurred, half_black, room)]
    assert scores[0] > 1.5 * max(scores[1:]) and min(scores) > 0
    for value in (0, 10, 255):
        assert poster.score(np.full((180, 320, 3), value, np.uint8)) == 0


def test_the_sample_case_is_one_per_user_and_goes_the_way_of_every_upload(service, client, monkeypatch):
    monkeypatch.setattr(sample_case, "LENGTH_S", 2.0)
    begun = client.post("/v1/sample-case")
    assert begun.status_code == 201
    video_id = begun.json()["video_id"]
    video = client.get(f"/v1/videos/{video_id}").json()
    assert video["state"] == "cleaning" and video["job"]["state"] == "queued"
    assert len(video["job"]["tasks"]) == len(service.model_source().taxonomy.tasks)
    assert client.post("/v1/sample-case").json()["video_id"] == video_id
    with client_of(service, new_key(service, user="ben")) as other:
        assert other.post("/v1/sample-case").json()["video_id"] != video_id, "nobody shares one"
        assert other.get("/v1/cases").json()["total"] == 1
    clean_here(service)
    (case,) = client.get("/v1/cases", params={"label": "sample"}).json()["cases"]
    assert case["videos"] == [video_id] and case["status"]["state"] == "queued"
    assert client.delete(f"/v1/videos/{video_id}").status_code == 204
    assert client.post("/v1/sample-case").json()["video_id"] == video_id
    assert client.get(f"/v1/videos/{video_id}").json()["state"] == "cleaning", "it came back"


def mapped(service: ServiceComponents, client: TestClient, folder: Path, monkeypatch, **result) -> str:
    """A video whose map the service's own worker has just published."""
    video_id = sent(client, folder, 1)["video_id"]
    clean_here(service)
    job_id = client.post(f"/v1/videos/{video_id}/maps", json={}).json()["job_id"]
    worker = worker_here(service)

    def run(request, _check) -> JobResult:
        write_maps(request.out)
        return JobResult("done", "mapped", None, 0)

    monkeypatch.setattr(worker.process, "run", run)
    while client.get(f"/v1/jobs/{job_id}").json()["state"] == "queued":  # a copy for browsers may come before it
        assert worker.work_once()
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "done"
    return video_id


def test_a_job_writes_the_summary_of_its_map_and_the_library_shows_it(service, client, tmp_path, monkeypatch):
    mapped(service, client, tmp_path, monkeypatch)
    (case,) = client.get("/v1/cases", params={"q": "suturing prostat"}).json()["cases"]
    assert case["title"] == case["procedure"]["suggested"] == "Prostatectomy" and case["status"]["state"] == "mapped"
    assert (case["strip"], case["strip_categories"]) == ([[0.0, 1.0, 0]], ["Suturing"]), "what lies within the video"
    assert case["status"]["asked"] == ["macro", "micro"] and case["status"]["not_asked"] == ["proficiency", "context"]
    assert case["stitches"] is None, "nobody asked for suturing"
    (look,) = [
        one for one in client.get(f"/v1/videos/{case['videos'][0]}/looks").json() if one["action"] == "summary.read"
    ]
    assert look["detail"]["seconds"] == [0.0, 2.0]


def test_a_summary_that_cannot_be_made_does_not_fail_the_job_and_is_made_later(service, client, tmp_path, monkeypatch):
    before = videos.read_timeline

    def broken(_place):
        raise OutputError("the store is away")

    monkeypatch.setattr(videos, "read_timeline", broken)
    video_id = mapped(service, client, tmp_path, monkeypatch)
    (case,) = client.get("/v1/cases").json()["cases"]
    assert case["status"]["state"] == "mapped" and case["strip"] == []
    keeper = housekeeping.Housekeeper(service, client.app.state.timelines)
    keeper.look()
    with service.database.reading() as session:
        assert session.get_one(VideoSummary, ("north", video_id)).rule == 0
    monkeypatch.setattr(videos, "read_timeline", before)
    keeper.look()
    assert client.get("/v1/cases").json()["cases"][0]["strip"] == [], "what failed is not tried in a circle"
    housekeeping.Housekeeper(service, client.app.state.timelines).look()
    assert client.get("/v1/cases").json()["cases"][0]["strip"] != []


def test_videos_of_a_site_of_before_are_cases_of_one_file_with_the_state_of_their_maps(request, tmp_path):
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import text

    from halsted_ray.service import database as module

    found = Database(f"sqlite:///{tmp_path}/halsted.db")
    config = Config()
    config.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
    with found.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
        connection.exec_driver_sql("INSERT INTO tenants (tenant_id, created_s) VALUES ('north', 1)")
        connection.exec_driver_sql(
            "INSERT INTO users (user_id, tenant_id, name, role, created_s) VALUES ('u', 'north', 'ada', 'surgeon', 1)"
        )
        for n, jobs in enumerate(([], ["done"], ["done", "failed"], ["failed"], ["done", "partial"], ["queued"])):
            video_id = f"{n:02x}" * 32
            connection.execute(
                text(
                    "INSERT INTO videos (tenant_id, video_id, place, size_bytes, duration_s, width, height, fps, "
                    "codec, created_s) VALUES ('north', :video_id, 'videos/u/video.mp4', 5, 1, 1, 1, 25, 'h264', 1)"
                ),
                {"video_id": video_id},
            )
            for place, state in enumerate(jobs):
                outcome = "partial" if state == "partial" else "mapped"
                connection.execute(
                    text(
                        "INSERT INTO jobs (job_id, kind, tenant_id, user_id, video_id, tasks, state, outcome, done_s, "
                        "total_s, rate, failed_segments, cancel, attempts, created_s) VALUES (:job_id, 'map', 'north', "
                        "'u', :video_id, :tasks, :state, :outcome, 0, 0, 0, 0, false, 1, :place)"
                    ),
                    {
                        "job_id": f"{n}{place}",
                        "video_id": video_id,
                        "tasks": json.dumps(["macro"]),
                        "state": "done" if state == "partial" else state,
                        "outcome": outcome,
                        "place": place,
                    },
                )
    found.migrate()
    with found.reading() as session:
        videos = session.scalars(select(StoredVideo).order_by(StoredVideo.video_id)).all()
        states = {one.video_id[1]: (one.state, one.rule) for one in session.scalars(select(VideoSummary))}
        assert session.scalars(select(Operation)).all() == [] and len(session.scalars(select(Job)).all()) == 7
    assert [video.case_id for video in videos] == [video.video_id[:16] for video in videos]
    assert {video.position for video in videos} == {1}
    assert states == {"1": ("mapped", 0), "2": ("mapped", 0), "3": ("failed", 0), "4": ("partial", 0)}
    found.close()


def test_a_deleted_video_leaves_no_summary_even_where_its_job_ends_later(service, client, tmp_path, monkeypatch):
    video_id = mapped(service, client, tmp_path, monkeypatch)
    describe(service, client.get(f"/v1/videos/{video_id}").json()["case_id"], "Herr Meier")
    assert client.delete(f"/v1/videos/{video_id}").status_code == 204
    summaries.note_map(service.videos, "north", video_id, "mapped", None, service.model_source().taxonomy)
    with service.database.reading() as session:
        assert session.scalars(select(VideoSummary)).all() == session.scalars(select(Operation)).all() == []
    assert b"Herr Meier" not in (tmp_path / "site" / "halsted.db").read_bytes()
