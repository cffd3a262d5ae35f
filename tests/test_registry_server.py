"""The registry on a real MLflow server whose files lie on a real S3 server, as `mlflow/compose.yaml` has it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import RegistryError
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.registry.runs import register
from halsted_ray.registry.store import CHAMPION, Registry


@pytest.mark.slow
def test_a_server_with_its_files_on_s3(s3_server, tmp_path, monkeypatch):
    """One test, since the server takes seconds to start: versions from a folder and from S3, aliases, lock, outage."""
    import s3fs

    s3fs.S3FileSystem().mkdir("mlflow")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    encoder = Encoder.load("random:tiny:0")
    model = Halsted.create(taxonomies.load(), encoder.dim, encoder_ref=encoder.ref, width=32, version="first",
                           encoder_fingerprint=encoder.fingerprint)
    model.save(str(tmp_path / "model"))
    model.configure(version="second")
    model.save("s3://mlflow/models/second")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--no-serve-artifacts",
               "--default-artifact-root", "s3://mlflow/runs"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    registry = Registry(f"http://127.0.0.1:{port}")
    try:
        wait_for(f"{registry.uri}/health", server, tmp_path / "log")
        first = register(registry, str(tmp_path / "model"))
        second = register(registry, "s3://mlflow/models/second")
        assert (first.number, second.number) == (1, 2)
        for version in (first, second):  # workers read it where it lies
            assert registry.folder(version).startswith("s3://mlflow/runs/")
            assert Halsted.load(registry.folder(version)).digest == version.tags["model_digest"]
        with registry.locked("a test"):
            with pytest.raises(RegistryError, match="a test, process"):
                with registry.locked("another"):
                    pass
            registry.move({CHAMPION: 2})
        assert registry.find("registry:halsted@champion").number == 2
        assert [version.aliases for version in registry.versions()] == [("champion",), ()]
        with pytest.raises(RegistryError, match="no halsted@challenger; it has 2 @champion, 1"):
            registry.find("challenger")
    finally:
        server.terminate()
        server.wait()
    with pytest.raises(RegistryError, match=f"the registry at {registry.uri} can't do this"):
        registry.versions()


def wait_for(url: str, server: subprocess.Popen, log) -> None:
    until_s = time.monotonic() + 120
    while time.monotonic() < until_s and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"MLflow's server did not start: {log.read_text()[-2000:]}")
