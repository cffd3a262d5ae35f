"""A real PostgreSQL server of our own: a fresh cluster in a temporary folder, on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Postgres:
    """``programs``: the folder with psql, pg_dump and the like."""

    port: int
    user: str
    programs: Path

    def url(self, name: str) -> str:
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{name}"

    def run(self, program: str, *words: str, **options) -> subprocess.CompletedProcess:
        """One of PostgreSQL's programs against this server."""
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--username", self.user)
        done = subprocess.run([self.programs / program, *where, *words], capture_output=True, timeout=120, **options)
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(words)}: {done.stderr.decode()}")
        return done


def postgres_programs() -> Path | None:
    """Where initdb lies; installs Debian's package where this process is root and can."""

    def find() -> Path | None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
            Path(path) for path in [shutil.which("initdb")] if path
        ]
        return found[-1].parent if found else None

    if find() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"capture_output": True, "timeout": 300, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        for words in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
            subprocess.run(["apt-get", "-q", *words], check=False, **quiet)
    return find()


@contextmanager
def running(programs: Path) -> Iterator[Postgres]:
    """In a folder of its own: pytest's is closed to other users again whenever another run of pytest begins."""
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if user:
        shutil.chown(folder, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = {"user": user, "capture_output": True, "cwd": folder, "timeout": 60}
    subprocess.run(
        [programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "--no-sync"], check=True, **run
    )
    started = subprocess.Popen(
        [
            programs / "postgres",
            "-D",
            folder / "data",
            "-p",
            str(port),
            "-k",
            folder,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
            # A vacuum of the template is another user of it, beside whom no database is made.
            "-c",
            "autovacuum=off",
        ],
        user=user,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Postgres(port, "postgres", programs)
    try:
        until_s = time.monotonic() + 120
        while True:
            try:
                server.run("psql", "--dbname", "postgres", "--command", "SELECT 1")
                break
            except RuntimeError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.1)
        yield server
    finally:
        started.send_signal(signal.SIGINT)  # at SIGTERM it would wait for every pool of connections to end
        started.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
