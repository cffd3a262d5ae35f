"""The gate of the service in one process: states of an upload, what reads it when, certificate, failures, the disk."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import planted
import pytest
from serving import (
    clean_here,
    cleaned,
    client_of,
    new_key,
    open_service,
    shared_model,
    shared_video,
    upload,
    worker_here,
    write_video,
)
from small_disk import fill, small_disk
from sqlalchemy import select, text

from halsted_ray.deidentify import rewrite
from halsted_ray.deidentify.certificate import verify
from halsted_ray.deidentify.clean import CleaningOptions, clean_file
from halsted_ray.deidentify.finders import FINDERS
from halsted_ray.deidentify.spans import Span
from halsted_ray.deidentify.survey import NotCopyable
from halsted_ray.errors import OutputError, UnreadableVideo, UsageError
from halsted_ray.service import clean_upload, cleaning, storage_room, temporary_room
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import Database
from halsted_ray.service.jobs import MAX_ATTEMPTS
from halsted_ray.service.settings import Settings
from halsted_ray.service.tables import Job, StoredVideo
from halsted_ray.storage.locations import filesystem, local_path


@pytest.fixture(params=["a folder", "S3"])
def service(request, tmp_path) -> ServiceComponents:
    changes = {}
    if request.param == "S3":
        changes["store"] = f"{request.getfixturevalue('s3_server').bucket}/{tmp_path.name}"
    return open_service(tmp_path / "site", shared_model(), with_clips=True, **changes)


in_a_folder = pytest.mark.parametrize("service", ["a folder"], indirect=True)
"""For tests of jobs and of the database, which go the same way over each kind of store."""


@pytest.fixture
def client(service):
    with client_of(service, new_key(service)) as found:
        yield found


@pytest.fixture
def recording(tmp_path) -> Path:
    """A video with a patient's name in every place of the file."""
    return planted.recording(tmp_path / "DOE JANE.mp4", seconds=3.0)


def send(client, path: Path) -> dict:
    """Sends a file and returns the video, not cleaned yet."""
    where = f"/v1/uploads/{client.post('/v1/uploads', json={}).json()['upload_id']}"
    assert client.put(f"{where}/parts/1", content=path.read_bytes()).status_code == 200
    done = client.post(f"{where}/complete")
    assert done.status_code == 200, done.text
    return done.json()


def stored_files(service: ServiceComponents) -> list[str]:
    fs, root = filesystem(service.store.root)
    # Some stores list the root itself once it is empty.
    return [path for path in fs.find(root) if path != root and not path.endswith(".lock")] if fs.exists(root) else []


CLEANED = ["clean.mp4", "poster.jpg"]


def stored_names(service: ServiceComponents) -> list[str]:
    return sorted(Path(path).name for path in stored_files(service))


def stored_bytes(service: ServiceComponents) -> bytes:
    fs, _ = filesystem(service.store.root)
    return b"".join(fs.cat_file(path) for path in stored_files(service))


def test_nothing_reads_an_upload_before_it_is_clean_and_nothing_of_the_original_stays(service, client, recording):
    before = send(client, recording)
    where = f"/v1/videos/{before['video_id']}"
    assert (before["state"], before["cleaning"], before["cleaning_job"]["state"]) == ("cleaning", None, "queued")
    assert planted.places_of(stored_bytes(service)), "the original waits"
    for answer in (
        client.get(f"{where}/content", headers={"Range": "bytes=0-99"}),
        client.head(f"{where}/content"),
        client.post("/v1/clips:map", json={"instruction": "map procedure type", "video_id": before["video_id"]}),
    ):
        assert answer.status_code == 409, answer.text
    assert client.get(f"{where}/certificate").status_code == 404
    with service.database.reading() as session:
        video = session.get_one(StoredVideo, ("north", before["video_id"]))
    for place in (video.original, video.place):
        asked = {"instruction": "map procedure type", "uri": place}
        assert client.post("/v1/clips:map", json=asked).status_code in (404, 409, 422)
    after = cleaned(client, before["video_id"])
    assert (after["state"], after["video_id"], after["cleaning"]["level"]) == ("ready", before["video_id"], "metadata")
    assert {"audio", "chapters", "tags"} <= set(after["cleaning"]["removed"])
    assert after["size_bytes"] < before["size_bytes"] and after["duration_s"] == before["duration_s"]
    assert stored_names(service) == CLEANED and planted.places_of(stored_bytes(service)) == []
    content = client.get(f"{where}/content", headers={"Range": "bytes=0-"})
    assert content.status_code == 206 and content.headers["content-type"] == "video/mp4"
    assert client.post("/v1/clips:map", json={**asked, "uri": None, "video_id": after["video_id"], "stop_s": 2})
    assert send(client, recording)["state"] == "ready", "the same file again is the same video, and clean"
    assert stored_names(service) == CLEANED and planted.places_of(stored_bytes(service)) == []


@in_a_folder
def test_a_map_asked_for_at_once_waits_for_the_cleaning(service, client):
    video_id = send(client, shared_video())["video_id"]
    job = client.post(f"/v1/videos/{video_id}/maps", json={}).json()
    assert (job["state"], job["reason"]) == ("queued", "waiting: the video is being cleaned")
    with service.database.writing() as session:  # as where the clock was set back meanwhile
        session.get_one(Job, job["job_id"]).created_s -= 3600.0
    cleaning = service.jobs.claim("cleaner")
    assert (cleaning.kind, service.jobs.claim("mapper")) == ("clean", None)
    shown = client.get(f"/v1/videos/{video_id}").json()
    assert (shown["cleaning_job"]["state"], shown["job"]["job_id"]) == ("running", job["job_id"])
    service.jobs.requeue(cleaning.job_id, "cleaner", None)
    clean_here(service, video_id)
    assert client.get(f"/v1/jobs/{job['job_id']}").json()["reason"] is None
    claimed = service.jobs.claim("mapper")
    assert (claimed.kind, claimed.job_id, claimed.total_s) == ("map", job["job_id"], 12.0)
    assert [one["job_id"] for one in client.get(f"/v1/videos/{video_id}/maps").json()] == [job["job_id"]]


def test_the_certificate_is_signed_by_the_site_and_matches_the_stored_bytes(service, client, recording, tmp_path):
    video_id = upload(client, recording)["video_id"]
    where = f"/v1/videos/{video_id}/certificate"
    certificate = client.get(where).json()
    clean = tmp_path / "clean.mp4"
    clean.write_bytes(client.get(f"/v1/videos/{video_id}/content", headers={"Range": "bytes=0-"}).content)
    verify(certificate, clean)
    other = client.get(f"/v1/videos/{upload(client, shared_video())['video_id']}/certificate").json()
    assert other["signature"]["public_key"] == certificate["signature"]["public_key"], "one key per site"
    assert certificate["removed"]["carried"]["streams"]["audio"] == 1
    assert planted.places_of(json.dumps(certificate).encode()) == []
    certificate["after"]["size_bytes"] += 1
    with pytest.raises(UsageError, match="changed after it was signed"):
        verify(certificate, clean)
    with client_of(service, new_key(service, user="stranger")) as stranger:
        assert stranger.get(where).status_code == 404
    if service.database.folder is not None:
        kept = Path(service.database.url.database)
        assert kept.stat().st_mode & 0o077 == 0, "the key lies in a file for its owner alone"


def test_a_file_that_can_not_be_cleaned_is_a_failed_video_whose_bytes_are_gone(service, client, monkeypatch):
    def refuse(*_args, **_more):
        raise UnreadableVideo("expected a video that can be written again, got /secret/place of another kind")

    monkeypatch.setattr(clean_upload, "clean_file", refuse)
    video_id = send(client, shared_video())["video_id"]
    job = client.post(f"/v1/videos/{video_id}/maps", json={}).json()["job_id"]
    failed = cleaned(client, video_id)
    assert (
        failed["state"] == "failed" and "can be written again" in failed["reason"] and "secret" not in failed["reason"]
    )
    assert stored_files(service) == [] and failed["size_bytes"] == 0
    map_job = client.get(f"/v1/jobs/{job}").json()
    assert map_job["state"] == "failed" and "not cleaned" in map_job["reason"]
    again = client.post(f"/v1/videos/{video_id}/maps", json={})
    assert again.status_code == 409 and "not cleaned" in again.json()["detail"]
    assert client.get(f"/v1/videos/{video_id}/content").status_code == 409
    assert 'halsted_cleanings{state="failed"} 1.0' in metrics_of(service)
    monkeypatch.undo()
    assert upload(client, shared_video())["state"] == "ready", "sent again it is tried again"
    assert stored_names(service) == CLEANED
    assert client.delete(f"/v1/videos/{video_id}").status_code == 204 and stored_files(service) == []


def metrics_of(service: ServiceComponents) -> str:
    with client_of(service, new_key(service, user="monitor", role="monitor")) as monitor:
        return monitor.get("/metrics").text


def test_a_cleaning_that_is_cancelled_leaves_no_bytes(service, client):
    video = send(client, shared_video())
    job = client.post(f"/v1/jobs/{video['cleaning_job']['job_id']}/cancel").json()
    assert (job["kind"], job["state"]) == ("clean", "cancelled")
    shown = client.get(f"/v1/videos/{video['video_id']}").json()
    assert shown["state"] == "failed" and "send the video again" in shown["reason"]
    assert stored_files(service) == []


def test_a_deleted_video_is_not_cleaned_and_its_original_goes(service, client):
    video = send(client, shared_video())
    assert client.delete(f"/v1/videos/{video['video_id']}").status_code == 204
    assert stored_files(service) == [] and service.jobs.claim("worker") is None


def test_a_video_deleted_while_it_is_cleaned_stays_deleted(service, client, monkeypatch):
    video = send(client, shared_video())
    whole = clean_upload.clean_file

    def delete_first(*args, **more):
        assert client.delete(f"/v1/videos/{video['video_id']}").status_code == 204
        return whole(*args, **more)

    monkeypatch.setattr(clean_upload, "clean_file", delete_first)
    clean_here(service, video["video_id"])
    service.videos.purge()
    assert client.get(f"/v1/videos/{video['video_id']}").status_code == 404 and stored_files(service) == []


@in_a_folder
def test_an_old_cleaning_has_no_say_over_a_video_that_was_deleted_and_sent_again(service, client):
    video_id = send(client, shared_video())["video_id"]
    first = service.jobs.claim("first")
    assert client.delete(f"/v1/videos/{video_id}").status_code == 204
    again = send(client, shared_video())
    assert (again["video_id"], again["state"]) == (video_id, "cleaning")
    service.jobs.finish(first.job_id, "first", "failed", None, "it was stopped")
    assert client.get(f"/v1/videos/{video_id}").json()["state"] == "cleaning"
    with service.database.writing() as session:
        old = session.get_one(Job, first.job_id)
        assert not cleaning.enter(session, old, {"black": {"spans": [], "masks": []}}, {}, False)
    assert cleaned(client, video_id)["state"] == "ready" and stored_names(service) == CLEANED


def test_an_upload_that_the_folder_of_temporary_files_could_not_hold_is_refused_early(service, client, monkeypatch):
    """With a store in a bucket, an upload and its clean copy lie there while it is cleaned."""
    size_bytes = shared_video().stat().st_size
    monkeypatch.setattr(temporary_room, "free_bytes", lambda: 1000 + 2 * size_bytes - 1)
    monkeypatch.setattr(storage_room, "MOST_RESERVE_BYTES", 1000)
    begun = client.post("/v1/uploads", json={"size_bytes": size_bytes})
    if local_path(service.store.root) is not None:
        assert begun.status_code == 201, "nothing lies there where the store is a folder"
        return
    assert begun.status_code == 507
    assert f"has {2 * size_bytes - 1} bytes free for videos, {2 * size_bytes} are needed" in begun.json()["detail"]
    job_id = send(client, shared_video())["cleaning_job"]["job_id"]  # of a size that was not announced
    monkeypatch.setattr(temporary_room, "free_bytes", lambda: 2 * size_bytes - 1)
    fetched = []
    monkeypatch.setattr(clean_upload, "clean_file", lambda *_args, **_more: fetched.append(1))
    assert worker_here(service).work_once() and not fetched
    job = service.jobs.get("north", job_id)
    assert job.state == "queued" and f"{2 * size_bytes} are needed to clean this upload" in job.reason


@in_a_folder
def test_a_fault_that_passes_does_not_delete_an_upload(service, client, monkeypatch):
    shown = send(client, shared_video())
    video_id, job_id = shown["video_id"], shown["cleaning_job"]["job_id"]

    def fail_with(fault: Exception):
        def fail(*_args, **_more):
            raise fault

        return fail

    with monkeypatch.context() as patch:
        patch.setattr(clean_upload, "clean_file", fail_with(OSError(errno.ESTALE, "stale")))
        for _ in range(MAX_ATTEMPTS + 1):
            assert worker_here(service).work_once()
    job = service.jobs.get("north", job_id)
    assert (job.state, job.attempts) == ("queued", 0) and "disk or store fails" in job.reason
    with monkeypatch.context() as patch:
        patch.setattr(service.jobs, "enter_clean_copy", fail_with(RuntimeError("the database is away")))
        worker = worker_here(service)
        assert worker.work_once()
    assert service.jobs.claim("another") is None, "the next try comes after the lease"
    assert client.get(f"/v1/videos/{video_id}").json()["state"] == "cleaning" and stored_files(service)
    service.jobs.give_up(job_id, worker.name)
    assert worker_here(service).work_once()
    assert cleaned(client, video_id)["state"] == "ready"


@in_a_folder
def test_nobody_ends_the_video_of_a_case_under_hold_or_takes_a_case_by_its_cleaning(service, client, monkeypatch):
    with (
        client_of(service, new_key(service, user="ada", role="surgeon")) as ada,
        client_of(service, new_key(service, user="bob", role="surgeon")) as bob,
        client_of(service, new_key(service, user="eve", role="admin")) as boss,
    ):
        video = send(ada, shared_video())
        video_id, job = video["video_id"], video["cleaning_job"]["job_id"]
        assert send(bob, shared_video())["video_id"] == video_id
        assert bob.post(f"/v1/jobs/{job}/cancel").status_code == 403
        with client_of(service, new_key(service, user="olga", role="auditor")) as auditor:
            found = auditor.get("/v1/audit", params={"limit": 1000}).json()["entries"]
        assert any("refused" in entry["action"] and entry["actor"].startswith("bob") for entry in found)
        assert boss.put(f"/v1/videos/{video_id}/hold", json={"legal_hold": True}).status_code == 200
        assert ada.post(f"/v1/jobs/{job}/cancel").status_code == 409 and stored_files(service)

        def refuse(*_args, **_more):
            raise UnreadableVideo("expected another video")

        monkeypatch.setattr(clean_upload, "clean_file", refuse)
        assert cleaned(boss, video_id)["state"] == "failed"
        monkeypatch.undo()
        assert send(bob, shared_video())["state"] == "cleaning"
        with service.database.reading() as session:
            kept = session.get_one(StoredVideo, ("north", video_id))
            assert kept.legal_hold
        assert ada.get(f"/v1/videos/{video_id}").json()["relations"] == ["owner"]
        assert "owner" not in bob.get(f"/v1/videos/{video_id}").json()["relations"]


@in_a_folder
def test_a_job_that_finds_no_room_lets_others_go_first(service, client, tmp_path):
    stuck = send(client, shared_video())["video_id"]
    other = send(client, write_video(tmp_path / "other.mp4", 3.0))["video_id"]
    first = service.jobs.claim("worker")
    assert first.video_id == stuck
    service.jobs.requeue(first.job_id, "worker", "waiting")
    assert service.jobs.claim("worker").video_id == other


@in_a_folder
def test_an_error_of_the_database_prints_no_value(service):
    with pytest.raises(Exception) as caught, service.database.writing() as session:
        session.execute(text("insert into nowhere values (:name)"), {"name": "Mustermann"})
    assert "Mustermann" not in str(caught.value)


def test_a_worker_that_died_after_the_copy_was_entered_leaves_only_the_original_to_remove(service, client, monkeypatch):
    video = send(client, shared_video())
    with monkeypatch.context() as patch:
        patch.setattr(type(service.videos), "remove_originals", lambda _: 0)
        job = service.jobs.claim("first")
        worker = worker_here(service)
        worker.name = "first"
        patch.setattr(service.jobs, "finish", lambda *_: None)  # it dies here
        worker.work_on(job)
    assert stored_names(service) == [*CLEANED, "video.mp4"]
    service.jobs.give_up(job.job_id, "first")
    worker.name = "second"
    again = service.jobs.claim("second")
    assert again.job_id == job.job_id
    worker.work_on(again)
    assert cleaned(client, video["video_id"])["state"] == "ready" and stored_names(service) == CLEANED
    assert service.jobs.get("north", job.job_id).state == "done"


@in_a_folder
def test_a_cleaning_whose_workers_are_lost_again_and_again_fails(service, client):
    video = send(client, shared_video())
    for _ in range(MAX_ATTEMPTS):
        service.jobs.give_up(service.jobs.claim("worker").job_id, "worker")
    assert service.jobs.claim("worker") is None
    service.videos.remove_originals()
    shown = client.get(f"/v1/videos/{video['video_id']}").json()
    assert shown["state"] == "failed" and "lost 5 times" in shown["reason"] and stored_files(service) == []


@pytest.mark.parametrize("first", [False, True], ids=["maps do not wait", "maps wait for the review"])
def test_what_was_hidden_is_listed_and_accepted_by_a_person(tmp_path, monkeypatch, first):
    monkeypatch.setitem(FINDERS, "out-of-body", lambda _path: [Span(2.0, 3.5, "out-of-body", 0.9)])
    monkeypatch.setattr(clean_upload, "has_text_reader", lambda: False)
    service = open_service(tmp_path, shared_model(), deidentify="full", review_first=first)
    with client_of(service, new_key(service)) as client:
        video_id = upload(client, shared_video())["video_id"]
        shown = client.get(f"/v1/videos/{video_id}").json()
        assert (shown["state"], shown["cleaning"]["spans"], shown["cleaning"]["level"]) == ("review", 1, "full")
        job = client.post(f"/v1/videos/{video_id}/maps", json={}).json()
        claimed = service.jobs.claim("mapper")
        assert (claimed is None) is first and ("accept first" in (job["reason"] or "")) is first
        where = f"/v1/videos/{video_id}/certificate"
        black = client.get(where).json()["black"]["spans"]
        assert [(span["start_s"], span["stop_s"], span["reason"]) for span in black] == [(2.0, 3.5, "out-of-body")]
        signed = client.post(f"{where}/accept").json()
        assert signed["review"] == {"state": "accepted", "by": "ada"} and client.get(where).json() == signed
        clean = tmp_path / "clean.mp4"
        clean.write_bytes(client.get(f"/v1/videos/{video_id}/content", headers={"Range": "bytes=0-"}).content)
        verify(signed, clean)
        assert client.get(f"/v1/videos/{video_id}").json()["state"] == "ready"
        if first:
            assert service.jobs.claim("mapper").job_id == job["job_id"]
        with av.open(str(clean)) as container:
            for frame in container.decode(video=0):
                is_black = int(np.max(frame.to_ndarray(format="gray"))) < 32
                assert is_black == (1.9 < frame.time < 3.5), frame.time
        actions = [entry.action for entry in service.cases.looks(case_of(service, video_id), limit=1000)]
        assert "certificate.accept" in actions and "clean.done" in actions


def case_of(service: ServiceComponents, video_id: str):
    from halsted_ray.service import users

    with service.database.reading() as session:
        caller = users.authenticate(session, new_key(service))
    return service.cases.require(caller, video_id, "looks")


def test_an_operator_can_say_that_nothing_is_done_and_the_answers_say_so(tmp_path, recording):
    service = open_service(tmp_path / "site", shared_model(), deidentify="off")
    with client_of(service, new_key(service)) as client:
        video = send(client, recording)
        assert (video["state"], video["cleaning"]) == ("ready", None)
        assert client.get(f"/v1/videos/{video['video_id']}/certificate").status_code == 404
        answer = client.post(f"/v1/videos/{video['video_id']}/certificate/accept")
        assert answer.status_code == 404 and "not cleaned" in answer.json()["detail"]
    assert service.jobs.claim("worker") is None and planted.places_of(stored_bytes(service))


@pytest.mark.parametrize(
    "words, has_reader, expected",
    [("", True, "full"), ("", False, "metadata"), ("off", True, "off"), ("metadata", True, "metadata")],
)
def test_the_level_of_cleaning_is_what_the_setting_says(monkeypatch, words, has_reader, expected):
    monkeypatch.setattr("halsted_ray.service.settings.has_text_reader", lambda: has_reader)
    assert Settings.read({"HALSTED_DEIDENTIFY": words}).deidentify == expected


def test_a_level_that_does_not_exist_or_needs_the_extra_is_refused_when_the_service_starts(monkeypatch):
    with pytest.raises(UsageError, match="expected one of full, metadata, off"):
        Settings.read({"HALSTED_DEIDENTIFY": "no"})
    monkeypatch.setattr("halsted_ray.service.settings.has_text_reader", lambda: False)
    with pytest.raises(UsageError, match=r"halsted-ray\[deidentify\]"):
        Settings.read({"HALSTED_DEIDENTIFY": "full"})


def test_a_full_disk_is_not_the_fault_of_the_file(tmp_path, recording):
    with small_disk(tmp_path / "disk", 8) as disk:
        for left in (0, 4096):
            ballast = fill(disk, left)
            with pytest.raises(OutputError, match="no room"):
                clean_file(recording, disk / "clean.mp4", CleaningOptions(False, (), False))
            assert not (disk / "clean.mp4").exists()
            ballast.unlink()
        assert clean_file(recording, disk / "clean.mp4", CleaningOptions(False, (), False)).certificate["frames"]


def test_a_full_disk_is_known_also_where_the_reason_of_a_failed_write_is_lost(tmp_path, recording, monkeypatch):
    def not_copyable(*_args):
        raise NotCopyable("frames whose times the new file does not keep")

    monkeypatch.setattr(rewrite, "_copy", not_copyable)
    monkeypatch.setattr(rewrite, "_code_whole", not_copyable)
    with small_disk(tmp_path / "disk", 8) as disk:
        ballast = fill(disk)
        with pytest.raises(OSError) as full:
            rewrite.black_out(recording, disk / "clean.mp4", [])
        assert full.value.errno == errno.ENOSPC
        ballast.unlink()
        with pytest.raises(UnreadableVideo, match="times"):
            rewrite.black_out(recording, disk / "clean.mp4", [])


def test_a_cleaning_on_a_full_disk_waits_and_goes_on_when_there_is_room(tmp_path, recording):
    with small_disk(tmp_path / "disk", 8) as disk:
        service = open_service(tmp_path / "site", shared_model(), store=str(disk / "store"), reserve_bytes=1)
        with client_of(service, new_key(service)) as client:
            video = send(client, recording)
            ballast = fill(disk, 4096)
            clean_here(service)
            shown = client.get(f"/v1/videos/{video['video_id']}").json()
            assert (shown["state"], shown["cleaning_job"]["state"]) == ("cleaning", "queued")
            assert "no room" in shown["cleaning_job"]["reason"] and shown["cleaning_job"]["attempts"] == 0
            assert stored_names(service) == ["video.mp4"], "the original is kept"
            ballast.unlink()
            assert cleaned(client, video["video_id"])["state"] == "ready"
            assert stored_names(service) == CLEANED


@in_a_folder
def test_a_store_that_fails_is_not_the_fault_of_the_file(service, client, monkeypatch):
    video = send(client, shared_video())
    monkeypatch.setattr(clean_upload, "store", lambda *_: (_ for _ in ()).throw(OutputError("the store is away")))
    clean_here(service)
    shown = client.get(f"/v1/videos/{video['video_id']}").json()
    assert (shown["state"], shown["cleaning_job"]["reason"]) == ("cleaning", "waiting: the store is away")
    monkeypatch.undo()
    assert cleaned(client, video["video_id"])["state"] == "ready"


def test_what_a_killed_process_left_on_this_machine_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(clean_upload.tempfile, "tempdir", None)
    program = (
        "import time\nfrom halsted_ray.service.clean_upload import work_folder\n"
        "with work_folder() as folder:\n"
        "    (folder / 'original').write_text('DOE')\n    print('ready', flush=True)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    with clean_upload.work_folder():
        assert len(list(tmp_path.rglob("original"))) == 1, "its process lives"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(tmp_path.rglob("original"))) == 1
    with clean_upload.work_folder() as folder:
        assert list(tmp_path.rglob("original")) == []
        assert folder.stat().st_mode & 0o077 == 0 and folder.parent.stat().st_mode & 0o077 == 0
    assert list((tmp_path / clean_upload.WORK_FOLDERS).iterdir()) == []


def test_the_process_that_reads_the_file_ends_with_the_process_that_asked(tmp_path):
    """Also in the middle of a long file: else it would go on writing what nobody waits for."""
    long = write_video(tmp_path / "long.mp4", 600.0)
    program = (
        "import sys\nfrom pathlib import Path\nfrom halsted_ray.deidentify.clean import CleaningOptions, clean_file\n"
        "from halsted_ray.deidentify.spans import Box\n"
        "clean_file(Path(sys.argv[1]), Path(sys.argv[2]), CleaningOptions(False, (Box(0, 0, 20, 20),), False))\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", program, str(long), str(tmp_path / "clean.mp4")])
    until_s = time.monotonic() + 60
    while not (workers := children_of(asking.pid)) or not (tmp_path / "clean.mp4").exists():
        assert asking.poll() is None and time.monotonic() < until_s
        time.sleep(0.02)
    asking.kill()
    asking.wait()
    until_s = time.monotonic() + 60
    while any(map(is_alive, workers)) and time.monotonic() < until_s:
        time.sleep(0.05)
    alive = [pid for pid in workers if is_alive(pid)]
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert alive == []


def test_the_process_that_reads_the_file_ends_also_where_it_has_nothing_to_tell():
    program = (
        "import threading, time\nfrom halsted_ray.deidentify.worker import _end_with\n"
        "threading.Thread(target=_end_with, args=(0,), daemon=True).start()\nprint('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    working = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert working.stdout.readline() == "ready\n" and working.poll() is None
    working.stdin.close()
    try:
        assert working.wait(60) == 1
    finally:
        working.kill()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_progress_of_a_cleaning_rises_from_step_to_step(tmp_path):
    told: list[tuple[str, float]] = []
    video = write_video(tmp_path / "long.mp4", 60.0)
    options = CleaningOptions(False, (), True)
    clean_file(video, tmp_path / "clean.mp4", options, {"nothing": lambda _: []}, lambda *step: told.append(step))
    assert [step for step, _ in told][0] == "nothing" and told[-1][0] == "write"
    seen: list[float] = []
    request = clean_upload.CleanRequest(str(video), str(tmp_path / "out.mp4"), "metadata", 60.0)
    clean_upload.clean_upload(request, seen.append)
    assert seen == sorted(seen) and 0.0 <= seen[0] and seen[-1] <= 60.0


def test_videos_of_before_are_ready_and_nothing_says_that_they_were_cleaned(tmp_path):
    from alembic import command
    from alembic.config import Config

    from halsted_ray.service import database as module

    found = Database(f"sqlite:///{tmp_path}/halsted.db")
    config = Config()
    config.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
    with found.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        connection.exec_driver_sql("INSERT INTO tenants (tenant_id, created_s) VALUES ('north', 1)")
        connection.exec_driver_sql(
            "INSERT INTO videos (tenant_id, video_id, place, size_bytes, duration_s, width, height, fps, codec, "
            "created_s) VALUES ('north', 'ab', 'videos/u/video.mp4', 5, 1, 1, 1, 25, 'h264', 1)"
        )
    found.migrate()
    with found.reading() as session:
        video = session.get_one(StoredVideo, ("north", "ab"))
        assert (video.state, video.cleaning, video.original) == ("ready", None, None)
        assert session.scalars(select(Job)).all() == []
    found.close()
