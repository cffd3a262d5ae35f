"""Copies for browsers: when one is made, by whom it is read, what it costs, and what ends it."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numbered_video
import pytest
from busy_machine import measured_slowness
from numbered_video import Recipe
from serving import (
    ProcessHere,
    client_of,
    new_key,
    on_a_port,
    open_service,
    shared_model,
    shared_video,
    upload,
    worker_here,
)
from small_disk import fill, small_disk

from halsted_ray.errors import UsageError
from halsted_ray.service import playback
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.job_worker import JobStopped, JobWorker
from halsted_ray.service.settings import Settings
from halsted_ray.service.tables import Job, StoredVideo
from halsted_ray.storage.locations import filesystem
from halsted_ray.video.probe import probe

HEVC = Recipe(codec="libx265", codec_options={"x265-params": "log-level=none"}, frames=90)


@pytest.fixture
def service(tmp_path) -> ServiceComponents:
    return open_service(tmp_path / "site", shared_model(), requests_per_minute=10**6)


@pytest.fixture
def client(service):
    with client_of(service, new_key(service)) as found:
        yield found


def hevc(folder: Path, **changes) -> numbered_video.Numbered:
    """A video that browsers don't play."""
    recipe = Recipe(**{**vars(HEVC), **changes})
    return numbered_video.write(folder / f"hevc-{recipe.frames}.mp4", recipe)


def stored(service: ServiceComponents, video_id: str) -> list[str]:
    """The names of the videos that the store keeps of a case."""
    place = Path(service.videos.store.location("north", service.videos.get("north", video_id).place))
    return sorted(path.name for path in place.parent.iterdir() if path.suffix == ".mp4")


def of(client, video_id: str) -> dict:
    return client.get(f"/v1/videos/{video_id}").json()


def test_a_copy_is_made_by_itself_after_the_cleaning_and_the_player_reads_it(service, client, tmp_path):
    source = hevc(tmp_path)
    video_id = upload(client, source.path)["video_id"]
    assert of(client, video_id)["playback"] == "making"
    refused = client.get(f"/v1/videos/{video_id}/content", params={"copy": "proxy"})
    assert refused.status_code == 409 and "a copy is being made" in refused.json()["detail"]
    assert worker_here(service).work_once()
    assert of(client, video_id)["playback"] == "proxy" and stored(service, video_id) == ["clean.mp4", "proxy.mp4"]
    where = f"/v1/videos/{video_id}/content?copy=proxy"
    data = client.get(where, headers={"Range": "bytes=0-"}).content
    assert client.head(where).headers["content-length"] == str(len(data))
    (tmp_path / "got.mp4").write_bytes(data)
    found = probe(tmp_path / "got.mp4")
    assert (found.codec, found.pixel_format, found.frames) == ("h264", "yuv420p", 90)
    assert probe(service.videos.location(service.videos.get("north", video_id))).codec == "hevc", "the video stays"
    with client_of(service, new_key(service, user="boss", role="admin")) as boss:
        looks = boss.get(f"/v1/videos/{video_id}/looks", params={"limit": 1000}).json()
    assert [one["detail"]["copy"] for one in looks if one["action"] == "video.read"] == ["proxy"]
    assert [one["action"] for one in looks if one["action"].startswith("proxy")] == ["proxy.done"]


def test_a_video_that_browsers_play_gets_no_copy(service, client):
    video_id = upload(client, shared_video())["video_id"]
    assert of(client, video_id)["playback"] == "direct" and not worker_here(service).work_once()
    refused = client.post(f"/v1/videos/{video_id}/proxy")
    assert refused.status_code == 409 and "browsers play the video itself" in refused.json()["detail"]


@pytest.mark.parametrize("deidentify", ["metadata", "off"])
def test_where_the_site_makes_none_by_itself_one_is_made_for_who_asks(tmp_path, deidentify):
    service = open_service(tmp_path / "site", shared_model(), proxies="off", deidentify=deidentify)
    with client_of(service, new_key(service)) as client:
        video_id = upload(client, hevc(tmp_path).path)["video_id"]
        assert of(client, video_id)["playback"] == "none" and not worker_here(service).work_once()
        job = client.post(f"/v1/videos/{video_id}/proxy")
        assert job.status_code == 202 and (job.json()["kind"], job.json()["state"]) == ("proxy", "queued")
        assert client.post(f"/v1/videos/{video_id}/proxy").json()["job_id"] == job.json()["job_id"], "one at a time"
        assert worker_here(service).work_once() and of(client, video_id)["playback"] == "proxy"
        done = client.get(f"/v1/jobs/{job.json()['job_id']}").json()
        assert (done["state"], done["outcome"], done["done_s"]) == ("done", "proxy", done["total_s"])


def test_a_site_that_cleans_nothing_makes_the_copy_by_itself_too(tmp_path):
    service = open_service(tmp_path / "site", shared_model(), deidentify="off")
    with client_of(service, new_key(service)) as client:
        video_id = upload(client, hevc(tmp_path).path)["video_id"]
        assert of(client, video_id)["playback"] == "making"
        assert worker_here(service).work_once() and of(client, video_id)["playback"] == "proxy"


def test_the_setting_is_one_of_two_words():
    assert Settings.read({}).proxies == "auto" and Settings.read({"HALSTED_PROXY": "off"}).proxies == "off"
    with pytest.raises(UsageError, match="auto, off"):
        Settings.read({"HALSTED_PROXY": "yes"})


def test_a_copy_counts_as_what_the_tenant_keeps_and_goes_with_the_case(service, client, tmp_path):
    video_id = upload(client, hevc(tmp_path).path)["video_id"]
    before = client.get("/v1/storage").json()["video_bytes"]
    worker_here(service).work_once()
    place = Path(service.videos.store.location("north", service.videos.get("north", video_id).place))
    assert client.get("/v1/storage").json()["video_bytes"] == before + (place.parent / "proxy.mp4").stat().st_size
    assert client.delete(f"/v1/videos/{video_id}").status_code == 204 and not place.parent.exists()


def test_a_copy_beyond_the_quota_fails_in_words_and_leaves_nothing(service, client, tmp_path):
    video_id = upload(client, hevc(tmp_path).path)["video_id"]
    object.__setattr__(service.uploads.room, "quota_bytes", service.videos.get("north", video_id).size_bytes + 100)
    assert worker_here(service).work_once()
    job = client.get(f"/v1/jobs/{job_of(service).job_id}").json()
    assert job["state"] == "failed" and "may keep" in job["reason"]
    assert of(client, video_id)["playback"] == "none" and stored(service, video_id) == ["clean.mp4"]


def job_of(service: ServiceComponents) -> Job:
    with service.database.reading() as session:
        return session.query(Job).filter_by(kind="proxy").one()


def test_a_copy_that_waits_is_cancelled_at_once_and_can_be_asked_for_again(service, client, tmp_path):
    video_id = upload(client, hevc(tmp_path).path)["video_id"]
    cancelled = client.post(f"/v1/jobs/{job_of(service).job_id}/cancel").json()
    assert cancelled["state"] == "cancelled" and of(client, video_id)["playback"] == "none"
    assert client.post(f"/v1/videos/{video_id}/proxy").status_code == 202
    assert worker_here(service).work_once() and of(client, video_id)["playback"] == "proxy"


def test_what_a_stopped_copy_has_written_is_removed(service, client, tmp_path):
    video_id = upload(client, hevc(tmp_path).path)["video_id"]
    place = Path(service.videos.location(service.videos.get("north", video_id)))

    class Stopped(ProcessHere):
        def run(self, request, check):
            place.with_name(playback.UNFINISHED_NAME).write_bytes(b"half a copy")
            raise JobStopped

    worker = worker_here(service)
    worker.process = Stopped()
    assert worker.work_once()
    assert job_of(service).state == "cancelled" and stored(service, video_id) == ["clean.mp4"]


def test_a_copy_on_a_full_disk_waits_and_goes_on_when_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk", 8) as disk:
        service = open_service(tmp_path, shared_model(), store=str(disk / "store"), reserve_bytes=4096)
        with client_of(service, new_key(service)) as client:
            video_id = upload(client, hevc(tmp_path).path)["video_id"]
            ballast = fill(disk, leave_bytes=16384)
            worker_here(service).work_once()
            job = job_of(service)
            assert (job.state, job.attempts) == ("queued", 0) and "no room" in job.reason, job.reason
            assert of(client, video_id)["playback"] == "making" and stored(service, video_id) == ["clean.mp4"]
            ballast.unlink()
            assert worker_here(service).work_once() and of(client, video_id)["playback"] == "proxy"


def test_a_copy_of_a_video_that_was_deleted_and_sent_again_meanwhile_has_no_say(service, client, tmp_path):
    source = hevc(tmp_path)
    video_id = upload(client, source.path)["video_id"]
    old = service.jobs.claim("worker")
    client.delete(f"/v1/videos/{video_id}")
    upload(client, source.path)
    with pytest.raises(UsageError, match="of which a copy is made"):
        service.jobs.enter_proxy(old.job_id, "worker", 1000)
    assert of(client, video_id)["playback"] == "making" and "proxy.mp4" not in stored(service, video_id)


def test_a_copy_is_made_beside_a_map_of_the_same_video_and_after_its_cleaning(service, client, tmp_path):
    video_id = upload(client, hevc(tmp_path).path)["video_id"]
    client.post(f"/v1/videos/{video_id}/maps", json={})
    kinds = {service.jobs.claim(f"worker {number}").kind for number in range(2)}
    assert kinds == {"map", "proxy"}
    with service.database.writing() as session:
        session.query(Job).filter_by(kind="proxy").one().state = "queued"
        session.get_one(StoredVideo, ("north", video_id)).state = "cleaning"
    assert service.jobs.claim("worker 3") is None


def test_a_video_of_before_is_judged_by_its_codec_until_somebody_asks(service, client, tmp_path):
    plays = upload(client, shared_video())["video_id"]
    other = upload(client, hevc(tmp_path).path)["video_id"]
    with service.database.writing() as session:
        session.query(Job).delete()
        for video_id in (plays, other):
            session.get_one(StoredVideo, ("north", video_id)).playback = None
    assert [of(client, video_id)["playback"] for video_id in (plays, other)] == ["direct", "none"]
    for video_id, expected in ((plays, "direct"), (other, "proxy")):
        assert client.post(f"/v1/videos/{video_id}/proxy").status_code == 202
        assert worker_here(service).work_once() and of(client, video_id)["playback"] == expected
    assert stored(service, plays) == ["clean.mp4"]


def test_a_file_of_which_no_copy_can_be_made_says_why_and_stays(service, client, tmp_path):
    video_id = upload(client, hevc(tmp_path).path)["video_id"]
    place = Path(service.videos.location(service.videos.get("north", video_id)))
    place.write_bytes(b"no video any more")
    assert worker_here(service).work_once()
    assert job_of(service).state == "failed" and job_of(service).reason
    assert of(client, video_id)["playback"] == "none" and stored(service, video_id) == ["clean.mp4"]


@pytest.mark.slow
def test_a_copy_whose_process_is_killed_is_made_by_the_next_try_and_a_running_one_is_cancelled_in_time(tmp_path):
    import ray

    ray.shutdown()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    service = open_service(tmp_path / "site", shared_model(), lease_s=2.0)
    worker = JobWorker(service.jobs, service.videos, service.uploads, service.model_source)
    try:
        with client_of(service, new_key(service)) as client, ThreadPoolExecutor(1) as pool:
            video_id = upload(client, hevc(tmp_path, frames=500, size=(720, 1280)).path)["video_id"]
            job_id = job_of(service).job_id
            working = pool.submit(worker.work_once)
            wait_for_progress(client, job_id)
            os.kill(worker.process._pid, signal.SIGKILL)
            assert working.result(60)
            assert "proxy.mp4" not in stored(service, video_id) and of(client, video_id)["playback"] == "making"

            working = pool.submit(worker.work_once)
            wait_for_progress(client, job_id)
            with measured_slowness() as slowness:
                client.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
                began_s = time.monotonic()
                assert working.result(60)
                took_s = time.monotonic() - began_s
            assert took_s < 5.0 * slowness.factor
            assert of(client, video_id)["playback"] == "none" and stored(service, video_id) == ["clean.mp4"]

            again = client.post(f"/v1/videos/{video_id}/proxy").json()["job_id"]
            working = pool.submit(worker.work_once)
            wait_for_progress(client, again)
            os.kill(worker.process._pid, signal.SIGKILL)
            assert working.result(60)
            assert worker.work_once()
            assert of(client, video_id)["playback"] == "proxy", client.get(f"/v1/jobs/{again}").json()
            assert client.get(f"/v1/jobs/{again}").json()["attempts"] == 2
            place = Path(service.videos.location(service.videos.get("north", video_id)))
            assert probe(place.with_name("proxy.mp4")).frames == 500
    finally:
        worker.process.end()
        ray.shutdown()


def wait_for_progress(client, job_id: str) -> None:
    """Waits until a job writes its copy."""
    until_s = time.monotonic() + 120
    while not (job := client.get(f"/v1/jobs/{job_id}").json())["phase"] == "copying" or not job["done_s"]:
        assert time.monotonic() < until_s, job
        time.sleep(0.05)


def test_a_video_in_an_object_store_has_a_copy_and_clips_too(tmp_path, s3_server):
    service = open_service(tmp_path / "site", shared_model(), store=f"{s3_server.bucket}/{tmp_path.name}")
    with client_of(service, new_key(service)) as client:
        video_id = upload(client, hevc(tmp_path).path)["video_id"]
        assert worker_here(service).work_once() and of(client, video_id)["playback"] == "proxy"
        copy = client.get(f"/v1/videos/{video_id}/content?copy=proxy", headers={"Range": "bytes=0-"})
        clip = client.get(f"/v1/videos/{video_id}/clip", params={"start_s": 1, "stop_s": 2})
        for name, answer, frames in (("copy", copy, 90), ("clip", clip, 30)):
            (tmp_path / f"{name}.mp4").write_bytes(answer.content)
            assert probe(tmp_path / f"{name}.mp4").frames == frames, answer.status_code
        assert client.delete(f"/v1/videos/{video_id}").status_code == 204
        fs, path = filesystem(f"{s3_server.bucket}/{tmp_path.name}/north")
        assert not [name for name in fs.find(path) if name.endswith(".mp4")]


def test_chromium_plays_the_copy_and_not_the_video(tmp_path, tab):
    service = open_service(tmp_path / "site", shared_model(), requests_per_minute=10**6)
    key = new_key(service)
    with client_of(service, key) as client:
        video_id = upload(client, hevc(tmp_path).path)["video_id"]
    worker_here(service).work_once()
    with on_a_port(service) as address:
        page = tab.page
        page.goto(address)
        how = "method: 'POST', headers: {'content-type': 'application/json'}"
        signed_in = f"fetch('/session', {{{how}, body: JSON.stringify({{key: '{key}'}})}}).then((one) => one.status)"
        assert page.evaluate(signed_in) == 200
        said = {}
        for copy in ("original", "proxy"):
            page.evaluate(
                "new Promise((resolve) => { const video = document.createElement('video'); window.video = video; "
                f"video.muted = true; video.src = '/v1/videos/{video_id}/content?copy={copy}'; "
                "video.onloadeddata = video.onerror = () => resolve(0); video.load(); })"
            )
            said[copy] = page.evaluate("[video.error?.code ?? 0, video.videoWidth, video.duration]")
        assert said["original"][0] == 4, "this browser does not play HEVC"
        assert said["proxy"][:2] == [0, 320] and said["proxy"][2] == pytest.approx(3.0, abs=0.05)
        page.evaluate("new Promise((resolve) => { video.onseeked = resolve; video.currentTime = 1.51; })")
        assert page.evaluate("video.currentTime") == pytest.approx(1.51, abs=1e-3)
        page.evaluate("video.play()")
        page.evaluate(
            "new Promise((resolve) => { const look = () => "
            "video.currentTime > 1.9 || video.ended ? resolve(0) : setTimeout(look, 50); look(); })"
        )
