"""The whole service in processes of its own, as `make serve` starts it, for the tests of several files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
from serving import save_model

from halsted_ray.service import users
from halsted_ray.service.database import Database
from halsted_ray.service.front import free_port

ROOT = Path(__file__).parent.parent


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
            "HALSTED_FRONT_ADDRESS_CONNECTIONS": "1000",  # all attackers of test_serve_app have one address
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
        database = Database(f"sqlite:///{self.state}/halsted.db")
        try:
            return users.issue_operator_key(database, tenant, user, role)
        finally:
            database.close()


@contextmanager
def running(folder: Path, models: int) -> Iterator[Server]:
    """The service with so many models in ``folder``, the first of which is the champion."""
    for seed in range(models):
        save_model(folder / "models" / str(seed), seed)
    (folder / "models" / "champion").write_text("0\n")
    server = Server(folder, free_port())
    try:
        server.start()
        yield server
    finally:
        server.stop()


def wait_for(client: httpx2.Client, job_id: str) -> dict:
    """Follows a job to its end and returns its last event."""
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as events:
        return [json.loads(line.removeprefix("data: ")) for line in events.iter_lines() if line.startswith("data:")][-1]
