"""What a tenant and a disk may hold, what becomes of uploads that nobody ends, and a database that is busy."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import serving
from serving import client_of, new_key, shared_model, shared_video, upload, write_video
from small_disk import fill, small_disk
from sqlalchemy.exc import OperationalError

from halsted_ray.cli import main
from halsted_ray.errors import OutputError
from halsted_ray.service import orphans
from halsted_ray.service.ballast import FULL_BYTES
from halsted_ray.service.database import now_s
from halsted_ray.service.object_store import PART_BYTES, FolderStore
from halsted_ray.service.tables import StoredVideo, Upload
from halsted_ray.service.upload_content import content_id

open_service = partial(serving.open_service, deidentify="off")
"""What makes a video large or different here is padding, which cleaning would remove."""


@pytest.fixture(scope="module")
def model() -> Path:
    return shared_model()


@pytest.fixture(params=["a folder", "S3"])
def site(request, tmp_path, model):
    """(service, its client) over each kind of store."""
    store = (
        {}
        if request.param == "a folder"
        else {"store": f"{request.getfixturevalue('s3_server').bucket}/{tmp_path.name}"}
    )
    service = open_service(tmp_path, model, **store)
    with client_of(service, new_key(service)) as client:
        yield service, client


@pytest.fixture
def service(tmp_path, model):
    return open_service(tmp_path, model)


@pytest.fixture
def client(service):
    with client_of(service, new_key(service)) as found:
        yield found


def begin(client, size_bytes: int | None = None) -> str:
    begun = client.post("/v1/uploads", json={"size_bytes": size_bytes} if size_bytes else {})
    assert begun.status_code == 201, begun.text
    return f"/v1/uploads/{begun.json()['upload_id']}"


def large_video(path: Path, filler: bytes) -> Path:
    """A video of two parts whose bytes behind the pictures are made of ``filler`` at one place only."""
    head = shared_video().read_bytes()
    free = 2 * PART_BYTES - len(head) - 100
    body = bytearray(free - 8)
    body[free // 3 : free // 3 + len(filler)] = filler
    path.write_bytes(head + free.to_bytes(4, "big") + b"free" + body)
    return path


def test_two_files_that_differ_in_the_middle_alone_are_two_videos(site, tmp_path):
    """A redacted copy must not be taken for the original: the samples that name an archive's videos are equal here."""
    from halsted_ray.storage.locations import filesystem
    from halsted_ray.video.identity import video_id

    service, client = site
    original = large_video(tmp_path / "original.mp4", b"Jane Doe")
    redacted = large_video(tmp_path / "redacted.mp4", b"XXXXXXXX")
    assert video_id(*filesystem(str(original))) == video_id(*filesystem(str(redacted)))
    first, second = upload(client, original), upload(client, redacted)
    assert first["video_id"] != second["video_id"]
    kept = service.videos.get("north", second["video_id"])
    assert service.videos.read(kept, 0, 2**30) == redacted.read_bytes()
    data = redacted.read_bytes()
    digests = [hashlib.sha256(data[at : at + PART_BYTES]).hexdigest() for at in range(0, len(data), PART_BYTES)]
    assert second["video_id"] == content_id(digests)
    formula = hashlib.sha256(b"halsted video 1\x0a" + b"".join(map(bytes.fromhex, digests)))
    assert second["video_id"] == formula.hexdigest()[:32], "a client can compute it as docs/how-to/serve.md says"


def test_parts_that_went_straight_to_the_object_store_give_the_same_id(s3_server, tmp_path, model, monkeypatch):
    import httpx2

    path = large_video(tmp_path / "large.mp4", b"a")
    service = open_service(tmp_path, model, store=f"{s3_server.bucket}/{tmp_path.name}", presign=True)
    with client_of(service, new_key(service)) as client:
        data, where = path.read_bytes(), begin(client)
        for number, start in enumerate(range(0, len(data), PART_BYTES), 1):
            url = client.post(f"{where}/parts/{number}/address").json()["url"]
            assert httpx2.put(url, content=data[start : start + PART_BYTES]).status_code == 200
        with monkeypatch.context() as patch:
            away = SimpleNamespace(cat_file=failing_once(OSError("away")))
            patch.setattr("halsted_ray.service.upload_content.filesystem", lambda _: (away, ""))
            failed = client.post(f"{where}/complete")
        assert failed.status_code == 503 and "complete the upload again" in failed.json()["detail"]
        direct = client.post(f"{where}/complete").json()
        assert upload(client, path)["video_id"] == direct["video_id"]


def test_parallel_puts_of_one_part_leave_the_digest_of_what_is_on_the_disk(service, client, monkeypatch):
    where = begin(client)
    upload_id = where.rsplit("/", 1)[1]
    write = FolderStore._write

    def slowly(self, path, data, offset):
        half = len(data) // 2  # the kernel may write a part in pieces, and two writers' pieces may alternate
        write(self, path, data[:half], offset)
        time.sleep(0.05 * (data[0] % 5))
        write(self, path, data[half:], offset + half)

    monkeypatch.setattr(FolderStore, "_write", slowly)
    parts = [bytes([n]) * PART_BYTES for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda part: service.uploads.put("north", upload_id, 1, part), parts))
    (known,) = client.get(where).json()["parts"]
    on_disk = Path(service.store.location("north", f"videos/{upload_id}/video.mp4.part")).read_bytes()
    assert hashlib.sha256(on_disk).hexdigest() == known["sha256"]


def test_a_part_whose_writing_was_killed_is_missing_and_not_taken_for_the_one_before(service, client, monkeypatch):
    where, first = begin(client, 2 * PART_BYTES), b"a" * PART_BYTES
    assert client.put(f"{where}/parts/1", content=first).status_code == 200

    def killed(self, path, data, offset):
        FolderStore._write_half(self, path, data, offset)
        raise KeyboardInterrupt  # what a test can raise in place of SIGKILL: nothing catches it here

    monkeypatch.setattr(FolderStore, "_write_half", FolderStore._write, raising=False)
    monkeypatch.setattr(FolderStore, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        service.uploads.put("north", where.rsplit("/", 1)[1], 1, b"b" * PART_BYTES)
    assert client.get(where).json()["parts"] == []


KILLED_WHILE_WRITING = """
import os, sys
sys.path[:0] = {path!r}
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.object_store import FolderStore
from halsted_ray.service.settings import Settings

write = FolderStore._write

def half(self, path, data, offset):
    write(self, path, data[: len(data) // 2], offset)
    os.kill(os.getpid(), 9)

FolderStore._write = half
settings = Settings("sqlite:///" + {state!r} + "/halsted.db", {state!r} + "/store", {model!r})
ServiceComponents.open(settings).uploads.put("north", {upload_id!r}, 1, b"b" * {size})
"""


def test_a_replica_that_is_killed_while_it_writes_a_part_leaves_no_wrong_digest(service, client, tmp_path, model):
    where = begin(client, 2 * PART_BYTES)
    assert client.put(f"{where}/parts/1", content=b"a" * PART_BYTES).status_code == 200
    code = KILLED_WHILE_WRITING.format(
        path=sys.path, state=str(tmp_path), model=str(model), upload_id=where.rsplit("/", 1)[1], size=PART_BYTES
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == -9
    assert client.get(where).json()["parts"] == []
    assert client.put(f"{where}/parts/1", content=b"c" * PART_BYTES).status_code == 200, "no lock is left"


def test_a_part_after_completion_is_refused_and_leaves_nothing(site):
    service, client = site
    data = shared_video().read_bytes()
    where = begin(client, len(data))
    assert client.put(f"{where}/parts/1", content=data).status_code == 200
    video = client.post(f"{where}/complete").json()
    before = listing(service)
    assert client.put(f"{where}/parts/1", content=b"x" * len(data)).status_code == 409
    assert listing(service) == before
    assert service.videos.read(service.videos.get("north", video["video_id"]), 0, 2**30) == data
    assert client.delete(f"/v1/videos/{video['video_id']}").status_code == 204
    assert client.put(f"{where}/parts/1", content=b"x" * len(data)).status_code == 409
    assert not [path for path in listing(service) if "videos/" in path]


def listing(service) -> list[str]:
    from halsted_ray.storage.locations import filesystem

    return sorted(filesystem(service.store.root)[0].find(service.store.root))


def test_a_part_that_comes_while_the_upload_is_completed_is_refused(service, client, monkeypatch):
    from halsted_ray.service import uploads

    data = shared_video().read_bytes()
    where = begin(client, len(data))
    assert client.put(f"{where}/parts/1", content=data).status_code == 200
    probe, answers = uploads._probe, []

    def slowly(location):
        answers.append(client.put(f"{where}/parts/1", content=b"x" * len(data)))
        return probe(location)

    monkeypatch.setattr(uploads, "_probe", slowly)
    assert client.post(f"{where}/complete").status_code == 200
    assert answers[0].status_code == 409 and "while a request completes it" in answers[0].json()["detail"]


def test_parts_beyond_the_announced_size_are_refused(site):
    _, client = site
    where = begin(client, PART_BYTES + 10)
    beyond = client.put(f"{where}/parts/3", content=b"x")
    assert beyond.status_code == 422 and "expected a number from 1 to 2" in beyond.json()["detail"]
    long = client.put(f"{where}/parts/2", content=b"x" * 11)
    assert long.status_code == 422 and "expected 1 to 10 bytes" in long.json()["detail"]
    assert client.post(f"{where}/parts/3/address").status_code == 422
    assert client.put(f"{where}/parts/2", content=b"x" * 10).status_code == 200


def test_a_tenant_keeps_no_more_than_its_quota(tmp_path, model):
    size = shared_video().stat().st_size
    service = open_service(tmp_path, model, quota_bytes=3 * size)
    with client_of(service, new_key(service)) as client, client_of(service, new_key(service, "south")) as other:
        kept = upload(client, shared_video())
        assert client.get("/v1/storage").json()["left_bytes"] == 2 * size
        open_upload = begin(client, size)
        shown = client.get("/v1/storage").json()
        assert (shown["video_bytes"], shown["upload_bytes"], shown["left_bytes"]) == (size, size, size)
        refused = client.post("/v1/uploads", json={"size_bytes": size + 1})
        assert refused.status_code == 413 and f"has {size} left" in refused.json()["detail"]
        assert other.post("/v1/uploads", json={"size_bytes": size + 1}).status_code == 201, (
            "another tenant's is its own"
        )
        unannounced = begin(client)
        assert client.put(f"{unannounced}/parts/1", content=b"x" * size).status_code == 200
        more = client.put(f"{unannounced}/parts/2", content=b"x")
        assert more.status_code == 413 and "delete videos" in more.json()["detail"]
        for path in (unannounced, open_upload, f"/v1/videos/{kept['video_id']}"):
            assert client.delete(path).status_code == 204, "room can be made"
        assert client.get("/v1/storage").json()["left_bytes"] == 3 * size
        state = ["--state", str(tmp_path)]
        assert main(["serve", "quota", "north", "5e-9", *state]) == 0
        assert client.post("/v1/uploads", json={"size_bytes": 6}).status_code == 413, "its own quota goes first"
        assert main(["serve", "quota", "north", "default", *state]) == 0
        assert client.post("/v1/uploads", json={"size_bytes": 6}).status_code == 201
        assert main(["serve", "quota", "nobody", "1", *state]) == 2


def test_the_sdk_is_told_that_there_is_no_room_as_others_are(tmp_path, model):
    service = open_service(tmp_path, model, open_uploads=1)
    with client_of(service, new_key(service)) as client:
        first = client.post("/create/invoke", json={"username": "ada", "video_id": "first"})
        assert first.status_code == 200, first.text
        second = client.post("/create/invoke", json={"username": "ada", "video_id": "second"})
    assert second.status_code == second.json()["statusCode"] == 413, "and not 422, which says the request is wrong"
    assert second.json()["body"]["error"]


def test_uploads_that_begin_at_once_do_not_take_the_same_room(tmp_path, model):
    service = open_service(tmp_path, model, quota_bytes=10 * 1000)
    with client_of(service, new_key(service)) as client, ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: client.post("/v1/uploads", json={"size_bytes": 1000}).status_code, range(20)))
    assert sorted(codes) == [201] * 10 + [413] * 10


def test_parts_that_went_past_the_api_count_at_the_end(s3_server, tmp_path, model):
    import httpx2

    service = open_service(tmp_path, model, store=f"{s3_server.bucket}/{tmp_path.name}", presign=True, quota_bytes=1000)
    with client_of(service, new_key(service)) as client:
        where = begin(client)
        url = client.post(f"{where}/parts/1/address").json()["url"]
        assert httpx2.put(url, content=shared_video().read_bytes()).status_code == 200
        assert client.post(f"{where}/complete").status_code == 413


def test_a_tenant_has_no_more_open_uploads_than_the_site_allows(tmp_path, model):
    service = open_service(tmp_path, model, open_uploads=2)
    with client_of(service, new_key(service)) as client:
        where = begin(client)
        begin(client)
        refused = client.post("/v1/uploads", json={})
        assert refused.status_code == 413 and "complete or abort some" in refused.json()["detail"]
        assert client.delete(where).status_code == 204
        begin(client)


def test_uploads_leave_a_reserve_on_a_small_disk_and_say_what_is_free(tmp_path, model):
    video = shared_video().read_bytes()
    with small_disk(tmp_path / "disk", 40) as disk:
        service = open_service(disk, model, reserve_bytes=16 * 2**20)
        with client_of(service, new_key(service)) as client:
            kept = upload(client, shared_video())
            free = client.get("/v1/storage").json()["disk_bytes"]
            assert 0 < free < 24 * 2**20
            refused = client.post("/v1/uploads", json={"size_bytes": free + 2**20})
            assert refused.status_code == 507 and "bytes free for uploads" in refused.json()["detail"]
            promised = begin(client, free - 2**20)
            late = client.post("/v1/uploads", json={"size_bytes": 2 * 2**20})
            assert late.status_code == 507, "what another upload was promised is not free"
            assert client.delete(promised).status_code == 204
            where, sent = begin(client), 0
            while (answer := client.put(f"{where}/parts/{sent + 1}", content=b"x" * PART_BYTES)).status_code == 200:
                sent += 1
            assert answer.status_code == 507 and 2 <= sent <= 4
            assert service.store.free_bytes >= 16 * 2**20 - 2**20, "the reserve is there"
            content = client.get(f"/v1/videos/{kept['video_id']}/content", headers={"range": "bytes=0-"})
            assert content.status_code == 206 and content.content == video
            assert client.delete(where).status_code == 204
            assert client.delete(f"/v1/videos/{kept['video_id']}").status_code == 204
            assert upload(client, shared_video())["duration_s"] == 12.0


def test_on_a_disk_that_others_filled_one_can_sign_in_watch_abort_and_delete(tmp_path, model):
    with small_disk(tmp_path / "disk", 200) as disk:
        service = open_service(disk, model, reserve_bytes=80 * 2**20)
        key = new_key(service)
        with client_of(service, key) as client:
            kept = upload(client, shared_video())
            where = begin(client)
            assert client.put(f"{where}/parts/1", content=b"x" * 1000).status_code == 200
            ballast = fill(disk)
            assert service.store.free_bytes < FULL_BYTES
            assert client.post("/v1/uploads", json={}).status_code == 507
            with client_of(service) as browser:
                signed_in = browser.post("/session", json={"key": key}, headers={"origin": "http://testserver"})
                assert signed_in.status_code in (200, 204), signed_in.text
            played = client.get(f"/v1/videos/{kept['video_id']}/content", headers={"range": "bytes=0-"})
            assert played.status_code == 206
            assert client.delete(where).status_code == 204
            assert client.delete(f"/v1/videos/{kept['video_id']}").status_code == 204
            assert client.get("/v1/videos").json() == []
            ballast.unlink()
            assert service.database.ballast.take(), "it is held again as soon as there is room"
            upload(client, shared_video())


def test_an_upload_that_gets_no_part_for_a_week_is_ended_and_one_that_gets_parts_is_not(service, client, monkeypatch):
    idle, slow = begin(client), begin(client)
    week = 7 * 86_400
    with service.database.writing() as session:
        for where in (idle, slow):
            session.get_one(Upload, where.rsplit("/", 1)[1]).created_s = now_s() - 2 * week
    assert client.put(f"{slow}/parts/1", content=b"x").status_code == 200
    assert service.uploads.expire(week) == 1
    assert (client.get(idle).json()["state"], client.get(slow).json()["state"]) == ("aborted", "open")


def test_an_upload_that_could_not_be_begun_leaves_nothing(site, monkeypatch):
    service, client = site
    monkeypatch.setattr(type(service.uploads), "_note", failing_once(OperationalError("x", {}, Exception("away"))))
    monkeypatch.setattr(service.store, "begin_upload", failing_once(OutputError("away"), service.store.begin_upload))
    assert client.post("/v1/uploads", json={}).status_code == 503
    assert service.uploads.expire(-1) <= 1
    assert orphans.remove_orphans(service.database, service.store, -1) <= 1
    assert not [path for path in listing(service) if "videos/" in path]


def failing_once(error: Exception, then=lambda *_, **__: None):
    left = [error]

    def do(*arguments, **named):
        if left:
            raise left.pop()
        return then(*arguments, **named)

    return do


def test_what_died_between_store_and_database_is_swept_away(site):
    """A replica that is killed after the store has begun an upload, and before the database knows its id there."""
    service, client = site
    lost = service.store.begin_upload("north", "videos/" + "d" * 32 + "/video.mp4")
    if lost:  # of an upload that goes on: the parts under the id that was not written down
        where = begin(client)
        again = service.store.begin_upload("north", f"videos/{where.rsplit('/', 1)[1]}/video.mp4")
        assert again
    keeping = begin(client)
    assert client.put(f"{keeping}/parts/1", content=b"x").status_code == 200
    video = upload(client, shared_video())
    found = {kept.upload_id for kept in service.store.kept_uploads()}
    assert "d" * 32 in found
    assert orphans.remove_orphans(service.database, service.store) == 0, "they are young"
    assert orphans.remove_orphans(service.database, service.store, -60) == (2 if lost else 1)
    assert "d" * 32 not in {kept.upload_id for kept in service.store.kept_uploads()}
    assert orphans.remove_orphans(service.database, service.store, -60) == 0
    assert client.put(f"{keeping}/parts/1", content=b"y").status_code == 200, "an open upload stays"
    kept = service.videos.get("north", video["video_id"])
    assert service.videos.read(kept, 0, 2**30) == shared_video().read_bytes(), "a video stays"


def test_the_videos_of_a_database_that_was_put_away_are_not_swept(site, tmp_path, model):
    service, client = site
    upload(client, shared_video())
    before = listing(service)
    (tmp_path / "other").mkdir()
    stranger = open_service(tmp_path / "other", model, store=service.settings.store)
    assert orphans.remove_orphans(stranger.database, stranger.store, -60) == 0
    assert listing(service) == before


def test_forty_five_writers_get_no_500_and_leave_no_orphans(service, client):
    def write(n: int) -> list[int]:
        begun = client.post("/v1/uploads", json={})
        codes = [begun.status_code]
        if begun.status_code == 201:
            where = f"/v1/uploads/{begun.json()['upload_id']}"
            codes.append(client.put(f"{where}/parts/1", content=bytes([n]) * 1000).status_code)
            codes.append(client.delete(where).status_code)
        return codes

    with ThreadPoolExecutor(45) as pool:
        codes = [code for found in pool.map(write, range(90)) for code in found]
    assert set(codes) <= {200, 201, 204, 503}
    assert codes.count(503) == 0, "the pool has a connection for each thread"
    assert not [path for path in listing(service) if "videos/" in path]


def test_a_request_that_gets_no_connection_is_told_when_to_ask_again(tmp_path, model, monkeypatch):
    monkeypatch.setattr("halsted_ray.service.database.CONNECTION_WAIT_S", 0.2)
    service = open_service(tmp_path, model, connections=1)
    with client_of(service, new_key(service)) as client:
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with service.database.reading() as session:
                session.get(StoredVideo, ("north", "x"))
                held.set()
                done.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(10)
        try:
            refused = client.get("/v1/videos")
        finally:
            done.set()
            thread.join()
        assert refused.status_code == 503 and refused.headers["retry-after"]
        assert "busy" in refused.json()["detail"]
        assert client.get("/v1/videos").status_code == 200


def test_a_video_that_is_longer_than_the_site_takes_is_refused(tmp_path, model):
    service = open_service(tmp_path, model, video_hours=10 / 3600)
    with client_of(service, new_key(service)) as client:
        assert upload(client, write_video(tmp_path / "short.mp4", 9.0))["duration_s"] == 9.0
        data = shared_video().read_bytes()
        where = begin(client)
        client.put(f"{where}/parts/1", content=data)
        refused = client.post(f"{where}/complete")
        assert refused.status_code == 422 and "at most 0.00277778 hours" in refused.json()["detail"]
        assert client.get(where).json()["state"] == "rejected"
    service = open_service(tmp_path / "frames", model, video_frames=50)
    with client_of(service, new_key(service)) as client:
        where = begin(client)
        client.put(f"{where}/parts/1", content=data)
        refused = client.post(f"{where}/complete")
        assert refused.status_code == 422 and "at most 50 frames, got 120" in refused.json()["detail"]
