"""Ray nodes on one machine, started with the commands of README.md, for the drill and the tests to break."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

BIN = Path(sys.executable).parent
HEAD = "127.0.0.2"
START_TRIES = 3
STARTS_WITHIN_S = 120.0
POLL_S = 0.5
"""Each look costs the head's dashboard some work: asked 20 times per second, it kept a core busy."""


class Nodes:
    """A head without CPUs and its workers, behind a token. Ends the processes that it started, and no others.

    Each node has a loopback address of its own: 127.0.0.2, 127.0.0.3, and so on. With 127.0.0.1, `ray start` would take
    the outer address of the machine.

    ``with Nodes() as nodes: nodes.start_head(); nodes.add_worker(cpus=4)``
    """

    def __init__(self) -> None:
        # A short path, since that of a Unix socket has at most 107 bytes and Ray needs 65 of them.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self.token = self.folder / "token"
        self.token.touch(mode=0o600)
        self.token.write_text(secrets.token_hex(32))
        self.gcs_port, self.dashboard_port = free_port(), free_port()
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{self.dashboard_port}",
            "RAY_USAGE_STATS_ENABLED": "0",
            # A dead node is noticed after 5 s, where Ray by default takes some 15.
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "5000",
            # By default Ray's workers yield to all other processes; beside other tests they would hardly run.
            "RAY_worker_niceness": "0",
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "OMP_NUM_THREADS": "1",
        }
        """What a command needs to reach this cluster."""
        self.environment.pop("RAY_ADDRESS", None)
        self.workers_started = 0
        self.processes: dict[str, subprocess.Popen] = {}
        """Node id → its `ray start --block`; every other process of the node descends from it."""

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_exc: object) -> None:
        for node in list(self.processes):
            self.kill(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def address(self) -> str:
        """The value of RAY_ADDRESS for this cluster."""
        return f"{HEAD}:{self.gcs_port}"

    def start_head(self, cpus: int = 0) -> str:
        """Starts the head; returns its node id. Raises RuntimeError where it does not start."""
        return self._start(
            HEAD,
            "--head",
            f"--port={self.gcs_port}",
            f"--num-cpus={cpus}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.dashboard_port}",
            f"--ray-client-server-port={free_port()}",
        )

    def add_worker(self, cpus: int) -> str:
        """Starts a worker with ``cpus`` logical CPUs; returns its node id. Raises RuntimeError likewise."""
        self.workers_started += 1
        return self._start(f"127.0.0.{2 + self.workers_started}", f"--address={self.address}", f"--num-cpus={cpus}")

    def alive(self) -> dict[str, str]:
        """Node id → address, of the nodes that the head knows and that are not dead; empty where no head answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.dashboard_port}/nodes?view=summary",
            headers={"Authorization": f"Bearer {self.token.read_text()}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                raylets = [node["raylet"] for node in json.load(answer)["data"]["summary"]]
        except OSError:
            return {}
        return {raylet["nodeId"]: raylet["nodeManagerAddress"] for raylet in raylets if raylet["state"] != "DEAD"}

    def drain(self, node: str, deadline_s: int) -> None:
        """Tells the cluster that ``node`` will leave: nothing new is started on it."""
        self.ray(
            "drain-node",
            f"--address={self.address}",
            f"--node-id={node}",
            "--reason-message=scaled down",
            "--reason=DRAIN_NODE_REASON_PREEMPTION",
            f"--deadline-remaining-seconds={deadline_s}",
        )

    def kill(self, node: str, only: str = "") -> None:
        """SIGKILL to all processes of a node at once, as if its power went.

        With ``only``, just to the processes whose program has it in its name.
        """
        process = self.processes[node]
        family = descendants(process.pid) if process.poll() is None else []
        for pid in family:
            with contextlib.suppress(OSError):
                if only in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode():
                    os.kill(pid, signal.SIGKILL)
        if not only:
            process.wait()
            del self.processes[node]

    def ray(self, *words: str) -> str:
        """Runs a command of Ray; returns what it prints. Raises CalledProcessError."""
        return subprocess.run(
            [BIN / "ray", *words],
            env=self.environment,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ).stdout

    def _start(self, ip: str, *words: str) -> str:
        """Starts a node at ``ip``; returns its id when the head counts it as alive.

        Tried several times, because Ray gives its own processes 30 s and they take longer on a busy machine.
        """
        for _ in range(START_TRIES):
            if node := self._try_start(ip, *words):
                return node
        raise RuntimeError(f"a node did not start: {(self.folder / 'nodes.log').read_text()[-2000:]}")

    def _try_start(self, ip: str, *words: str) -> str | None:
        command = [
            BIN / "ray",
            "start",
            "--block",
            f"--node-ip-address={ip}",
            f"--temp-dir={self.folder / ip}",
            f"--dashboard-agent-listen-port={free_port()}",
            "--object-store-memory=200000000",
            *words,
        ]
        with open(self.folder / "nodes.log", "ab") as log:
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)
        until_s = time.monotonic() + STARTS_WITHIN_S
        while process.poll() is None and time.monotonic() < until_s:
            for node, address in self.alive().items():
                if address == ip and node not in self.processes:
                    self.processes[node] = process
                    return node
            time.sleep(POLL_S)
        for pid in descendants(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        return None


def wait_for(condition: Callable[[], object], within_s: float, pause_s: float = POLL_S) -> None:
    """Returns when ``condition`` holds. Raises TimeoutError after ``within_s``."""
    until_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until_s:
            raise TimeoutError(f"not within {within_s:g} s: {condition.__name__}")
        time.sleep(pause_s)


def descendants(pid: int) -> list[int]:
    """Process ids of ``pid`` and of all processes below it (Linux)."""
    found = [pid]
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in tasks.read_text().split():
                found += descendants(int(child))
    return found


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
