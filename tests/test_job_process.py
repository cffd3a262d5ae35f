"""Mapping jobs in a process of their own, on a real Ray: ended at any moment, watched, and seen moving."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import ray
import slow_workers
from busy_machine import measured_slowness
from serving import client_of, new_key, open_service, send_parts, shared_model, upload, write_video

from halsted_ray.compute.progress import Progress
from halsted_ray.service import job_process
from halsted_ray.service.job_process import JobActor, JobReport, JobResult, memory_mb_of
from halsted_ray.service.job_worker import JobWorker

pytestmark = pytest.mark.slow
CANCELLED_WITHIN_S = 5.0
LONG_S = 300.0
"""A video of five segments, whose cleaning takes much longer than a cancellation."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """Folder of ``slow_workers``; Ray runs while the module does."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "where").write_text("")
    ray.shutdown()
    environment = {
        slow_workers.FOLDER: str(folder),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with pytest.MonkeyPatch.context() as patch:
        # Those that Ray would start in advance have another environment, so none of them would be used.
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        ray.init(
            address="local",
            num_cpus=6,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=200 * 2**20,
            runtime_env={"env_vars": environment, "worker_process_setup_hook": slow_workers.HOOK},
        )
    yield folder
    ray.shutdown()


@pytest.fixture(scope="module")
def site(slow, tmp_path_factory):
    """(service, client, worker) of a site whose jobs this process works off."""
    service = open_service(tmp_path_factory.mktemp("site"), shared_model())
    worker = JobWorker(service.jobs, service.videos, service.uploads, service.model_source)
    with client_of(service, new_key(service)) as client:
        yield service, client, worker
    worker.process.end()


@pytest.fixture(scope="module")
def place(slow):
    """Says where jobs become endless; '' for nowhere."""

    def set_place(where: str) -> None:
        (slow / "begun").unlink(missing_ok=True)
        (slow / "where").write_text(where)

    yield set_place
    set_place("")


def begun(slow: Path, working) -> int:
    until_s = time.monotonic() + 240
    while not (slow / "begun").exists() or not (slow / "begun").read_text():
        assert not working.done() and time.monotonic() < until_s, working
        time.sleep(0.05)
    return int((slow / "begun").read_text())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def cancel_and_wait(client, job: str, working: Future[bool], at_work: set[int]) -> None:
    """Cancels a job that runs: the worker and the processes ``at_work`` must be done with it in time."""
    with measured_slowness() as slowness:
        client.post(f"/v1/jobs/{job}/cancel").raise_for_status()
        cancelled_s = time.monotonic()
        assert working.result(60)
        while any(map(is_alive, at_work)) and time.monotonic() < cancelled_s + 60:
            time.sleep(0.05)
        took_s = time.monotonic() - cancelled_s
    assert client.get(f"/v1/jobs/{job}").json()["state"] == "cancelled"
    allowed_s = CANCELLED_WITHIN_S * slowness.factor
    assert took_s < allowed_s, f"{took_s:.1f} s of {allowed_s:.1f} s on a machine {slowness.factor:.1f} times as slow"


def test_a_cancelled_job_ends_within_five_seconds_whatever_it_does(site, slow, place, tmp_path):
    """Each job of the video comes past the place where the one before it was ended, and the last one to its end."""
    _, client, worker = site
    video = upload(client, write_video(tmp_path / "video.mp4", 12.0))["video_id"]
    for where in ("planning", "decoding", "publishing"):
        place(where)
        job = client.post(f"/v1/videos/{video}/maps", json={"task": "macro"}).json()["job_id"]
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(worker.work_once)
            at_work = {begun(slow, working), worker.process._pid}
            cancel_and_wait(client, job, working, at_work)
    place("")
    again = client.post(f"/v1/videos/{video}/maps", json={"task": "macro"}).json()["job_id"]
    assert worker.work_once()
    shown = client.get(f"/v1/jobs/{again}").json()
    assert (shown["state"], shown["outcome"]) == ("done", "mapped"), "what was killed locks nothing"


@pytest.fixture(scope="module")
def tried(site, slow, place, tmp_path_factory):
    """What is shown of two jobs of one video at each of their tries: the first takes too much memory, the second finds
    no room on the disk, then its process is killed, then nothing happens to it."""
    service, client, worker = site
    video = upload(client, write_video(tmp_path_factory.mktemp("tried") / "video.mp4", 13.0))["video_id"]
    shown = {}

    def post() -> str:
        return client.post(f"/v1/videos/{video}/maps", json={"task": "macro"}).json()["job_id"]

    def note(what: str, job: str) -> None:
        shown[what] = client.get(f"/v1/jobs/{job}").json()

    first = post()
    place("memory")
    worker.process.memory_mb = 1500
    try:
        assert worker.work_once()
    finally:
        worker.process.memory_mb = 4096
        place("")
    note("too much memory", first)

    second = post()
    looks = iter([False] + [True] * 1000)
    for what, is_short, has_worked in (
        ("no room before", lambda _: True, False),
        ("no room meanwhile", lambda _: next(looks), True),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(service.uploads.room), "is_short", property(is_short))
            assert worker.work_once() == has_worked
            note(what, second)

    place("decoding")
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(worker.work_once)
        begun(slow, working)
        place("")
        os.kill(worker.process._pid, 9)
        assert working.result(60)
    note("killed", second)
    assert worker.work_once()
    note("next try", second)
    return shown


def test_a_job_that_takes_too_much_memory_fails_with_the_bound_and_the_next_one_runs(tried):
    shown = tried["too much memory"]
    assert shown["state"] == "failed" and "at most 1500 MB" in shown["reason"], shown
    assert memory_mb_of(os.getpid()) > 10, "the figure is one of memory"
    assert tried["next try"]["state"] == "done" and tried["next try"]["job_id"] != shown["job_id"]


def test_progress_moves_from_the_first_segment_on(site, tmp_path):
    _, client, worker = site
    video = upload(client, write_video(tmp_path / "long.mp4", LONG_S))["video_id"]
    job = client.post(f"/v1/videos/{video}/maps", json={}).json()["job_id"]
    seen = []
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(worker.work_once)
        while not working.done():
            shown = client.get(f"/v1/jobs/{job}").json()
            if (shown["phase"], shown["done_s"]) not in seen:
                seen.append((shown["phase"], shown["done_s"]))
            time.sleep(0.02)
    shown = client.get(f"/v1/jobs/{job}").json()
    assert (shown["state"], shown["done_s"], shown["phase"]) == ("done", LONG_S, None)
    done_s = [done for _, done in seen]
    assert len({done for done in done_s if 0 < done < LONG_S}) >= 2, seen
    assert done_s == sorted(done_s)
    phases = [phase for phase in dict.fromkeys(phase for phase, _ in seen) if phase]
    assert phases[0] in ("planning", "starting") and "mapping" in phases, seen


def test_a_process_tells_the_next_job_nothing_of_the_last_one(monkeypatch):
    def do(_request, observer):
        observer.on_phase("publishing")
        observer.on_progress(Progress(13.0, 13.0, 1.0, 0, 1.0))
        return JobResult("done", None, None)

    monkeypatch.setattr(job_process, "do", do)
    actor = JobActor()
    actor.run(None)
    assert actor.report() == JobReport()


def test_a_job_whose_process_is_killed_is_done_by_the_next_try(tried):
    assert tried["killed"]["state"] == "running", "until another worker looks"
    assert (tried["next try"]["state"], tried["next try"]["attempts"]) == ("done", 2)


def test_jobs_wait_while_the_disk_has_no_room_for_maps(tried):
    assert tried["no room before"]["state"] == "queued"
    meanwhile = tried["no room meanwhile"]
    assert (meanwhile["state"], meanwhile["attempts"]) == ("queued", 0) and "no room for maps" in meanwhile["reason"]
    assert tried["next try"]["state"] == "done"


def test_a_cancelled_cleaning_ends_within_five_seconds_and_leaves_no_bytes(site, slow, place, tmp_path, monkeypatch):
    service, client, worker = site
    place("")
    monkeypatch.setattr(worker, "deidentify", "full")
    video = send_parts(client, write_video(tmp_path / "long.mp4", LONG_S + 1))
    job = video["cleaning_job"]["job_id"]
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(worker.work_once)
        until_s = time.monotonic() + 240
        while client.get(f"/v1/jobs/{job}").json()["phase"] != "cleaning" or not worker.process._pid:
            assert not working.done() and time.monotonic() < until_s
            time.sleep(0.05)
        at_work = {worker.process._pid, *children_of(worker.process._pid)}
        cancel_and_wait(client, job, working, at_work)
    assert client.get(f"/v1/videos/{video['video_id']}").json()["state"] == "failed"
    assert not list(Path(service.store.root).rglob("unfinished.mp4"))
    kept = {path.name for path in Path(service.store.root).glob("north/videos/*/video.mp4")}
    assert kept == set(), "no original is left in the store"


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(word) for task in tasks for word in (task / "children").read_text().split()]
