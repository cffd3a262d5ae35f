"""The whole service as `make serve` starts it: Ray Serve, mapping jobs, a model swapped under load, the SDK."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from serving import save_model, upload, write_video

from halsted_ray.compute.resources import ResourceRequest
from halsted_ray.errors import UsageError
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.maps.exports import canonical_rows
from halsted_ray.maps.reading import read_segments, read_timeline
from halsted_ray.service.local_server import claim_port
from halsted_ray.service.object_store import PART_BYTES
from halsted_ray.taxonomy import load

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
SDK = "halsted-sdk==0.1.0"


@dataclass
class Server:
    """A service in a folder of its own. ``models``: the folder whose file ``champion`` says which model is served."""

    folder: Path
    port: int
    key: str = ""
    process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def start(self) -> None:
        environment = {
            **os.environ,
            "RAY_USAGE_STATS_ENABLED": "0",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "HALSTED_LEASE_S": "6",
            "HALSTED_FRONT_ADDRESS_CONNECTIONS": "1000",  # all attackers of test_serve_attacks have one address
            "HALSTED_STATE": str(self.state),
        }
        environment.pop("RAY_ADDRESS", None)
        log = self.folder / "log"
        with open(log, "w") as file:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "serve",
                    "run",
                    "--state",
                    self.state,
                    "--model",
                    self.models,
                    "--port",
                    str(self.port),
                ],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=file,
            )
        until_s = time.monotonic() + 180
        keys: list[str] = []
        while not keys and self.process.poll() is None and time.monotonic() < until_s:
            time.sleep(0.2)
            keys = [line for line in log.read_text().splitlines() if line.startswith("keys:")]
        assert keys, f"the service did not start: {log.read_text()[-3000:]}"
        self.key = self.key or self.new_key("demo", "demo", "admin")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def kill(self) -> None:
        """Kills all processes of the service at once, as when the machine loses power. They are stopped first, since a
        replica that sees the others die gives its job back."""
        while pids := self.processes():
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
            time.sleep(0.05)
        self.process.wait()

    def processes(self, title: str = "") -> list[int]:
        """Ids of the processes of this service alone, which have its state in their environment, and ``title`` in their
        command line."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
            except OSError:
                continue
            if title.encode() in words and f"HALSTED_STATE={self.state}\0".encode() in environment:
                found.append(int(process.name))
        return found

    def replicas(self, name: str) -> list[int]:
        return self.processes(f"ServeReplica:halsted:{name}")

    def client(self, key: str | None = None) -> httpx2.Client:
        return httpx2.Client(base_url=self.address, headers={"x-api-key": key or self.key}, timeout=120)

    def new_key(self, tenant: str, user: str, role: str = "surgeon") -> str:
        words = [sys.executable, "-m", "serve", "key", "--state", self.state, tenant, user, role]
        return subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def running(folder: Path, models: int) -> Iterator[Server]:
    """The service with so many models in ``folder``, the first of which is the champion."""
    for seed in range(models):
        save_model(folder / "models" / str(seed), seed)
    (folder / "models" / "champion").write_text("0\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(folder, port)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("service"), models=2) as found:
        yield found


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "case.mp4", 64.0)


def wait_for(client: httpx2.Client, job_id: str) -> dict:
    """Follows a job to its end and returns its last event."""
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as events:
        return [json.loads(line.removeprefix("data: ")) for line in events.iter_lines() if line.startswith("data:")][-1]


@pytest.mark.parametrize("number, code, how", [(2, 130, "interrupted"), (15, 143, "stopped by SIGTERM")])
def test_a_service_that_is_stopped_while_it_starts_says_so_in_one_line(server, tmp_path, number, code, how):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        other = Server(tmp_path, free.getsockname()[1])
    words = [sys.executable, "-m", "serve", "run", "--state", other.state, "--model", server.models, "--port"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HALSTED_STATE": str(other.state)}
    environment.pop("RAY_ADDRESS", None)
    with open(tmp_path / "log", "w+") as log:
        starting = subprocess.Popen([*words, str(other.port)], cwd=ROOT, env=environment, stdout=log, stderr=log)
        until_s = time.monotonic() + 180
        while not other.processes("ServeController"):  # Ray has started, and has set its own handlers
            assert starting.poll() is None and time.monotonic() < until_s
            time.sleep(0.05)
        starting.send_signal(number)
        assert starting.wait(180) == code
        log.seek(0)
        assert log.read().startswith(f"halsted serve: {how}; ") and log.tell() < 200, "one line"
    until_s = time.monotonic() + 90
    while other.processes() and time.monotonic() < until_s:
        time.sleep(0.1)
    assert not other.processes()


def test_a_service_keeps_the_claim_on_its_port_while_it_lives(server, monkeypatch):
    """Also in a moment when no process of the service has bound the port, such as when Serve replaces a proxy."""
    monkeypatch.setattr("halsted_ray.service.local_server.PORT_WAIT_S", 0.3)
    monkeypatch.setattr("halsted_ray.service.local_server._bind_error", lambda *_: None)
    with pytest.raises(UsageError, match=f"can't serve at 127.0.0.1:{server.port}"):
        claim_port("127.0.0.1", server.port)


def test_a_job_gives_the_rows_of_the_batch_job_and_a_clip_its_windows(server, tmp_path):
    video = write_video(tmp_path / "case.mp4", 24.0)
    with server.client() as client:
        assert client.get("/readyz").json()["model"]["version"] == "v0"
        video_id = upload(client, video)["video_id"]
        job = client.post(f"/v1/videos/{video_id}/maps", json={}).json()
        end = wait_for(client, job["job_id"])
        assert (end["state"], end["outcome"], end["done_s"], end["model_version"]) == ("done", "mapped", 24.0, "v0")
        rows = client.get(f"/v1/videos/{video_id}/timeline").json()["rows"]

        map_archive(
            str(video),
            str(tmp_path / "maps"),
            str(server.models / "0"),
            resources=ResourceRequest(decoders=1, encoders=1),
        )
        batch = canonical_rows(read_timeline(str(tmp_path / "maps")))
        # An archive's video is named by samples of its bytes, an upload by all of them.
        assert rows == [{**row, "video_id": video_id} for row in batch] and len(rows) > 10

        windows = [tag for tags in read_segments(str(tmp_path / "maps"))["tags"].to_pylist() for tag in tags]
        for task in load().tasks:
            own = [window for window in windows if window["task"] == task.name]
            if not own:
                continue
            span = {name: own[len(own) // 2][name] for name in ("start_s", "stop_s")}
            wanted = {
                window["tag"]: (window["category"], window["confidence"])
                for window in own
                if window["start_s"] == span["start_s"] and window["stop_s"] == span["stop_s"]
            }
            answer = client.post("/v1/clips:map", json={"video_id": video_id, "instruction": task.instruction, **span})
            got = {tag["tag"]: (tag["category"], tag["confidence"]) for tag in answer.json()["tags"]}
            assert wanted.items() <= got.items(), task.name


def test_no_log_of_ray_holds_what_a_client_put_into_an_address(server):
    with server.client() as client:
        assert client.get("/v1/videos/Jane%20Doe.mp4?patient=Jane%20Doe").status_code == 422
        assert client.post("/v1/clips:map?instruction=Jane%20Doe", content=b"x").status_code == 422
    opened = {
        os.readlink(link)
        for pid in server.replicas("Gateway")
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if link.is_symlink()
    }
    (folder,) = {Path(name).parent for name in opened if "/logs/" in name and name.endswith(".out")}
    logs = [path for path in folder.rglob("*") if path.is_file()]
    assert any("route" in path.read_text(errors="replace") for path in logs), "our own line is there"
    for path in logs:
        text = path.read_text(errors="replace")
        assert "Jane" not in text and server.key.split("_", 2)[2] not in text, path


@contextmanager
def asking(server: Server, video: Path, clients: int = 6) -> Iterator[list[tuple[int, str, int]]]:
    """Clients that send clips without a pause while the block runs. Gives the list that fills with (status, version or
    Retry-After, number of clips in the batch)."""
    answers: list[tuple[int, str, int]] = []
    over = threading.Event()
    clip = video.read_bytes()

    def ask() -> None:
        with server.client() as client:
            while not over.is_set():
                answer = client.post("/v1/clips:map?instruction=map+procedure+type&stop_s=2.5", content=clip)
                if answer.status_code == 200:
                    answers.append((200, answer.json()["model"]["version"], answer.json()["batch"]))
                else:
                    answers.append((answer.status_code, answer.headers.get("retry-after", ""), 0))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_the_model_is_swapped_and_rolled_back_under_load_without_a_failure(server, video):
    with asking(server, video) as answers:
        for pointer in ("1", "0"):
            (server.models / "champion.new").write_text(pointer)
            os.replace(server.models / "champion.new", server.models / "champion")
            until_s = time.monotonic() + 180
            while time.monotonic() < until_s and {version for _, version, _ in answers[-3:]} != {f"v{pointer}"}:
                time.sleep(0.2)
            assert {version for _, version, _ in answers[-3:]} == {f"v{pointer}"}
    assert {status for status, _, _ in answers} == {200}
    assert max(batch for _, _, batch in answers) > 2, "the clips that come in while the model works are its next batch"


def test_killed_replicas_lose_no_job_and_clips_fail_only_for_a_while(server, video, tmp_path):
    with server.client() as client:
        video_id = upload(client, write_video(tmp_path / "long.mp4", 61.0))["video_id"]
        job_id = client.post(f"/v1/videos/{video_id}/maps", json={"task": "macro"}).json()["job_id"]
        until_s = time.monotonic() + 180
        while client.get(f"/v1/jobs/{job_id}").json()["state"] != "running" and time.monotonic() < until_s:
            time.sleep(0.1)
        mappers, taggers = server.replicas("Mapper"), server.replicas("Tagger")
        assert (len(mappers), len(taggers)) == (2, 1)
        with asking(server, video) as answers:
            for replica in mappers + taggers:
                os.kill(replica, signal.SIGKILL)
            end = wait_for(client, job_id)
            until_s = time.monotonic() + 180
            while time.monotonic() < until_s and (not answers or answers[-1][0] != 200):
                time.sleep(0.2)
    assert (end["state"], end["outcome"]) == ("done", "mapped") and end["attempts"] == 2
    assert answers[-1][0] == 200 and {status for status, _, _ in answers} <= {200, 503}
    assert all(wait for status, wait, _ in answers if status == 503), "it says when to come back"


def private_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/status").read_text().split("RssAnon:")[1].split()[0]) / 1024
    except (OSError, IndexError):  # it ended
        return 0.0


def test_twenty_uploads_at_once_come_in_whole_and_hold_no_more_than_a_part_each(server, tmp_path):
    """One part of each upload is in memory, in at most three copies: Ray has no backpressure for bodies."""
    base = write_video(tmp_path / "base.mp4", 4.0).read_bytes()
    paths = [tmp_path / f"{n}.mp4" for n in range(20)]
    for n, path in enumerate(paths):  # five parts each, 500 MB in all; mostly holes
        free = 25_000_000 + n - len(base)
        path.write_bytes(base + free.to_bytes(4, "big") + b"free")
        os.truncate(path, len(base) + free)
    before, peaks, over = {pid: private_mb(pid) for pid in server.processes()}, {}, threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            peaks.update({pid: max(peaks.get(pid, 0.0), private_mb(pid)) for pid in before})

    def send(path: Path) -> dict:
        with server.client() as client:
            return upload(client, path)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(20) as pool:
        videos = list(pool.map(send, paths))
    over.set()
    watcher.join()
    with server.client() as client:
        certificates = [client.get(f"/v1/videos/{video['video_id']}/certificate").json() for video in videos]
    assert [one["before"]["size_bytes"] for one in certificates] == [path.stat().st_size for path in paths]
    assert len({video["video_id"] for video in videos}) == 20
    assert max(peaks[pid] - before[pid] for pid in before) < 20 * 3 * PART_BYTES / 1e6


def test_a_service_that_is_killed_as_a_whole_goes_on_with_its_job(server, tmp_path):
    with server.client() as client:
        video_id = upload(client, write_video(tmp_path / "long.mp4", 420.0))["video_id"]
        job_id = client.post(f"/v1/videos/{video_id}/maps", json={"task": "macro"}).json()["job_id"]
        until_s = time.monotonic() + 90
        while (job := client.get(f"/v1/jobs/{job_id}").json())["done_s"] == 0 and time.monotonic() < until_s:
            time.sleep(0.05)
    assert job["state"] == "running" and 0 < job["done_s"] < 420, "killed in the middle"
    server.kill()
    staged = {path: path.stat().st_mtime_ns for path in server.state.glob(f"store/*/maps/{video_id}/**/*.parquet")}
    server.start()
    with server.client() as client:
        end = wait_for(client, job_id)
        rows = client.get(f"/v1/videos/{video_id}/timeline").json()["rows"]
    assert (end["state"], end["outcome"], end["attempts"], end["done_s"]) == ("done", "mapped", 2, 420.0)
    assert max(row["end_s"] for row in rows) == 420.0
    kept = {path: path.stat().st_mtime_ns for path in staged if path.exists()}
    assert staged and kept and all(kept[path] == staged[path] for path in kept), "nothing is mapped twice"


@pytest.fixture(scope="module")
def sdk(tmp_path_factory):
    """The published package as it is. It asks for Python 3.12 but runs on 3.11."""
    folder = tmp_path_factory.mktemp("sdk")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "download",
        "--no-deps",
        "--ignore-requires-python",
        "--only-binary",
        ":all:",
        "-d",
        folder,
        SDK,
    ]
    if shutil.which("pip") is None and subprocess.run(pip[:3] + ["--version"], capture_output=True).returncode:
        pytest.skip("no pip here")
    loaded = subprocess.run(pip, capture_output=True, text=True, timeout=120)
    if loaded.returncode:
        pytest.skip(f"no package index can be reached: {loaded.stderr.strip().splitlines()[-1][:200]}")
    (wheel,) = folder.glob("*.whl")
    sys.path.insert(0, str(wheel))
    try:
        import halsted_sdk

        yield halsted_sdk
    finally:
        sys.path.remove(str(wheel))


def test_the_published_sdk_in_two_programs_at_once(server, sdk, video, tmp_path, capfd):
    """One video of two parts and two clips, one of a single part; each program has its own key."""
    free = PART_BYTES + 17 - 8
    path = tmp_path / "two parts.mp4"
    path.write_bytes(video.read_bytes() + free.to_bytes(4, "big") + b"free" + bytes(free - 8))
    paths = {"anna": path, "otto": write_video(tmp_path / "short.mp4", 21.0)}
    keys = {user: server.new_key("clinic", user) for user in paths}
    clients = {user: sdk.HalstedClient(user, keys[user], server.address) for user in paths}
    with ThreadPoolExecutor(2) as pool:
        frames = dict(
            zip(paths, pool.map(lambda user: clients[user].process_video(str(paths[user])), paths), strict=True)
        )
    frame = frames["anna"]
    assert {"video_id", "clip_id", "start", "end", "task", "tag", "category", "confidence"} <= set(frame.columns)
    assert frame["clip_id"].nunique() == 2 and frame["start"].min() == 0 and frame["end"].max() == 64.0
    assert frames["otto"]["clip_id"].nunique() == 1 and frames["otto"]["end"].max() == 21.0
    with server.client(keys["anna"]) as api:
        rows = api.get(f"/v1/videos/{frame['video_id'].iloc[0]}/timeline").json()["rows"]
    length_s = sum(row["end_s"] - row["start_s"] for row in rows)
    assert (frame["end"] - frame["start"]).sum() == pytest.approx(length_s)
    again = clients["anna"].process_video(str(path))
    assert len(again) == len(frame), "the same client again: its own id of the video is known"


def test_the_published_sdk_and_what_goes_wrong(server, sdk, video, tmp_path, monkeypatch, capfd):
    key = server.new_key("clinic", "sdk-other")
    (tmp_path / "no.mp4").write_bytes(b"no video at all" * 1000)
    with pytest.raises(Exception, match="Failed to complete multipart upload: 422"):
        sdk.HalstedClient("sdk-other", key, server.address).process_video(str(tmp_path / "no.mp4"))
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(Exception, match="Failed to complete multipart upload: 422"):
        sdk.HalstedClient("sdk-other", key, server.address).process_video(str(tmp_path / "empty.mp4"))
    for user, wrong in (("sdk-other", key[:-1] + "_"), ("another", key)):
        with pytest.raises(KeyError, match="UploadId"):  # the client looks for nothing else in this answer
            sdk.HalstedClient(user, wrong, server.address).process_video(str(video))
    assert (
        sdk.HalstedClient("sdk-other", "none", server.address).video_processor.s3_operator.upload_json_to_s3(
            {"endpoint": "ffmpeg", "video_id": "x"}
        )
        == 401
    )

    import requests

    put = requests.put
    with monkeypatch.context() as patch:
        expired = lambda url, **more: put(url.replace("expires=1", "expires=0"), **more)  # noqa: E731
        patch.setattr(requests, "put", expired)
        with pytest.raises(KeyError, match="etag"):
            sdk.HalstedClient("sdk-other", key, server.address).process_video(str(video))

    with server.client() as api:
        foreign = upload(api, write_video(tmp_path / "foreign.mp4", 12.0))["video_id"]
        job_id = api.post(f"/v1/videos/{foreign}/maps", json={}).json()["job_id"]
        assert wait_for(api, job_id)["outcome"] == "mapped"
    places = sdk.HalstedClient("sdk-other", key, server.address).video_processor.s3_operator
    for uri in (
        f"halsted://{job_id}/clips.json",
        f"halsted://{job_id}/0000.json",
        "file:///etc/passwd",
        "s3://bucket/../../etc/passwd",
        f"halsted://{job_id}/../clips.json",
    ):
        assert places.list_objects(uri) == {"available": False}
        with pytest.raises(KeyError, match="content"):
            places.get_file_from_s3(uri)
