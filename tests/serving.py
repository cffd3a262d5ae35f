"""The API in this process over a real database, store, decoding process and model; and what tests send to it."""

from __future__ import annotations

import asyncio
import atexit
import base64
import secrets
import shutil
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numbered_video
import torch
import uvicorn
from sqlalchemy import select
from starlette.testclient import TestClient

from halsted_ray.compute.progress import QUIET
from halsted_ray.errors import UsageError, VideoError
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import WindowSpec
from halsted_ray.service import users
from halsted_ray.service.api import create_api
from halsted_ray.service.clean_upload import CleanRequest
from halsted_ray.service.clip_tagging import ClipAnswer, ClipRefusal, ClipTagger
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import Database, now_s
from halsted_ray.service.job_process import JobReport, JobResult, MapRequest, do
from halsted_ray.service.job_worker import JobWorker
from halsted_ray.service.object_store import PART_BYTES
from halsted_ray.service.settings import Settings
from halsted_ray.service.tables import Job
from halsted_ray.storage.files import make_local_folder

SPEC = WindowSpec(coarse_s=10, fine_s=2.5)


def write_video(path: Path, seconds: float) -> Path:
    """A video of numbered frames, 10 per second."""
    shutil.copy(written_video(seconds), path)
    return path


@cache
def written_video(seconds: float) -> Path:
    """The same, written once per process."""
    recipe = numbered_video.Recipe(frames=int(seconds * 10), rate=10, gop=40, size=(90, 160))
    return numbered_video.write(shared_folder() / f"{seconds} s.mp4", recipe).path


def save_model(folder: Path, seed: int) -> Path:
    """An untrained model of the version ``v<seed>`` with the tiny encoder. Another seed gives other tags."""
    torch.set_num_threads(1)
    encoder = Encoder.create("tiny", 0)
    model = Halsted.create(
        None,
        encoder.dim,
        encoder_ref=encoder.ref,
        encoder_fingerprint=encoder.fingerprint,
        heads=4,
        width=64,
        windows=SPEC,
        seed=seed,
        version=f"v{seed}",
        atlas_release="test-1",
    )
    model.save(str(folder))
    return folder


@cache
def shared_folder() -> Path:
    """A folder for what the tests of one process share; it is removed when the process ends."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Path(folder.name)


@cache
def shared_model() -> Path:
    """An untrained model, saved once per process."""
    return save_model(shared_folder() / "model", 0)


@cache
def shared_video() -> Path:
    """A video of 12 s, written once per process. Its name is a patient's name."""
    return write_video(shared_folder() / "Jane Doe.mp4", 12.0)


@cache
def shared_service() -> ServiceComponents:
    """A site whose model tags clips, opened once per process."""
    return open_service(shared_folder() / "site", shared_model(), with_clips=True)


@cache
def empty_database() -> Path:
    """The database of a site that nobody has used, made once per process: making it takes half a second."""
    path = shared_folder() / "empty.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.empty_log()
    database.close()
    return path


def put_empty_database(folder: Path) -> None:
    """Copies it to where a site of this folder has its own, with secrets of its own, unless there is one."""
    place = folder / "halsted.db"
    if place.exists():
        return
    make_local_folder(folder, 0o700)
    shutil.copy(empty_database(), place)
    drawn = {
        "addresses": secrets.token_hex(32),
        "certificates": base64.b64encode(secrets.token_bytes(32)).decode(),
        "cohorts": secrets.token_hex(32),
    }
    with closing(sqlite3.connect(place)) as connection, connection:
        assert {name for (name,) in connection.execute("select name from secrets")} == set(drawn)
        connection.executemany("update secrets set value = ? where name = ?", [(drawn[name], name) for name in drawn])


def open_service(state: Path, model: Path, with_clips: bool = False, **changes: Any) -> ServiceComponents:
    """The components of a site in the folder ``state``. ``with_clips``: a model in this process tags clips.
    ``changes``: of the settings."""
    if "database" not in changes:
        put_empty_database(state)
    settings = Settings(f"sqlite:///{state}/halsted.db", str(state / "store"), str(model))
    service = ServiceComponents.open(replace(settings, **changes))
    if with_clips:
        tagger = ClipTagger(service.model_source, decoders=1)
        service.serving_model = lambda: asyncio.to_thread(lambda: tagger.loaded.served.stamp)
        service.tag_clip = lambda *clip: asyncio.to_thread(tag_here, tagger, *clip)
    return service


def tag_here(
    tagger: ClipTagger,
    _tenant_id: str,
    source: bytes | str,
    instruction: str,
    start_s: float | None,
    stop_s: float | None,
) -> ClipAnswer | ClipRefusal:
    """What the deployment Tagger does, without Ray Serve."""
    try:
        if isinstance(source, str):
            return tagger.answer([tagger.read(source, instruction, start_s, stop_s)])[0]
        with tempfile.NamedTemporaryFile() as file:
            file.write(source)
            file.flush()
            return tagger.answer([tagger.read(file.name, instruction, start_s, stop_s)])[0]
    except VideoError as error:
        return {"refused": error.code, "message": str(error)}
    except UsageError as error:
        return {"refused": "usage", "message": str(error)}


def new_key(service: ServiceComponents, tenant_id: str = "north", user: str = "ada", role: str = "surgeon") -> str:
    """A key of a user, who is added if new."""
    return users.issue_operator_key(service.database, tenant_id, user, role)


def client_of(service: ServiceComponents, key: str | None = None, **options: Any) -> TestClient:
    """A client of a new application over ``service``, which sends ``key`` with every request."""
    return TestClient(create_api(service), headers={"x-api-key": key} if key else {}, **options)


@contextmanager
def on_a_port(service: ServiceComponents) -> Iterator[str]:
    """The address of a new application over ``service``, for a browser."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_api(service), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()


def upload(client: TestClient, path: Path, sizes: bool = True) -> dict[str, Any]:
    """Sends a file as the documentation says and returns the video once it is cleaned. ``sizes``: announce its
    size."""
    complete = send_parts(client, path, sizes)
    assert "video_id" in complete, complete
    return cleaned(client, complete["video_id"])


def send_parts(client: TestClient, path: Path, sizes: bool = True) -> dict[str, Any]:
    """Sends a file and returns the answer to its completion, also where that is a refusal."""
    size_bytes = path.stat().st_size
    begun = client.post("/v1/uploads", json={"size_bytes": size_bytes} if sizes else {})
    assert begun.status_code == 201, begun.text
    where = f"/v1/uploads/{begun.json()['upload_id']}"
    with open(path, "rb") as file:
        for number, part in enumerate(iter(lambda: file.read(PART_BYTES), b""), start=1):
            sent = client.put(f"{where}/parts/{number}", content=part)
            assert sent.status_code == 200, sent.text
    answer: dict[str, Any] = client.post(f"{where}/complete").json()
    return answer


def cleaned(client: TestClient, video_id: str, within_s: float = 120.0) -> dict[str, Any]:
    """The video, once it is cleaned: by the service itself where it runs elsewhere, else here."""
    if isinstance(client, TestClient):
        clean_here(client.app.state.components, video_id)  # type: ignore[attr-defined]
    until_s, pause_s = time.monotonic() + within_s, 0.05
    while (video := client.get(f"/v1/videos/{video_id}").json())["state"] == "cleaning":
        assert time.monotonic() < until_s, video
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.5)  # twenty clients that ask all the time take a core from what cleans
    return video


def clean_here(service: ServiceComponents, video_id: str | None = None) -> None:
    """Does the cleaning jobs that wait, of one video or of all, with the service's own worker in this process."""
    with service.database.writing() as session:
        of_video = [Job.video_id == video_id] if video_id else []
        jobs = session.scalars(select(Job).where(Job.kind == "clean", Job.state == "queued", *of_video)).all()
        worker = worker_here(service)
        for job in jobs:
            job.state, job.worker, job.lease_until_s = "running", worker.name, now_s() + 60.0
            job.attempts += 1
    for job in jobs:
        worker.work_on(job)


def worker_here(service: ServiceComponents) -> JobWorker:
    """The service's worker, without a process of its own for jobs."""
    worker = JobWorker(
        service.jobs, service.videos, service.uploads, service.model_source, deidentify=service.settings.deidentify
    )
    worker.process = ProcessHere()  # type: ignore[assignment]
    return worker


class ProcessHere:
    """Does a job where it is called."""

    def run(self, request: MapRequest | CleanRequest, check: Callable[[JobReport | None], None]) -> JobResult:
        check(None)
        return do(request, QUIET)

    def end(self) -> None:
        pass
