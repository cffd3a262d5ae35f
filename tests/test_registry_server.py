"""The registry on the server of `mlflow/compose.yaml`, with a real PostgreSQL and files on a real S3 server."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from string import Template

import pytest
import yaml

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import RegistryError
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.registry.model_registry import CHAMPION, Registry
from halsted_ray.registry.tracking import register

ROOT = Path(__file__).parent.parent


def composed(settings: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Returns (command, environment) of the server in ``mlflow/compose.yaml``. ``settings``: those of settings.env."""
    stated = yaml.safe_load((ROOT / "mlflow" / "compose.yaml").read_text())["services"]["server"]
    names = {
        line.partition("=")[0]
        for line in (ROOT / "mlflow" / "settings.env").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert names >= set(settings), "every setting stands in settings.env"
    settings = dict.fromkeys(names, "") | settings
    environment = {name: Template(value).substitute(settings) for name, value in stated["environment"].items()}
    return Template(stated["command"]).substitute(settings).split(), environment


@pytest.mark.slow
def test_the_registry_on_a_shared_server(s3_server, postgres, tmp_path, monkeypatch):
    """Versions from a folder and from S3, aliases, lock, backup and restore, outage.

    All in one test, because the server takes seconds to start.
    """
    import s3fs

    s3fs.S3FileSystem().mkdir("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    encoder = Encoder.load("random:tiny:0")
    model = Halsted.create(
        taxonomies.load(),
        encoder.dim,
        encoder_ref=encoder.ref,
        width=32,
        version="first",
        encoder_fingerprint=encoder.fingerprint,
    )
    model.save(str(tmp_path / "model"))
    model.configure(version="second")
    model.save("s3://mlflow/models/second")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, stated = composed(
        {
            "ARTIFACTS": "s3://mlflow/runs",
            "ALLOWED_HOSTS": f"localhost:{port},127.0.0.1:{port}",
            **{
                name: os.environ[name]
                for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
            },
        }
    )
    for name, here in (("--host", "127.0.0.1"), ("--port", str(port))):
        command[command.index(name) + 1] = here
    assert command[0] == "mlflow"
    postgres.run("createdb", "mlflow")
    there = "mlflow:@database/"
    assert there in stated["MLFLOW_BACKEND_STORE_URI"]
    database = stated["MLFLOW_BACKEND_STORE_URI"].replace(there, f"{postgres.user}@127.0.0.1:{postgres.port}/")
    environment = {**os.environ, **stated, "MLFLOW_BACKEND_STORE_URI": database}
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
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
        kept = registry.versions()
        backup = postgres.run("pg_dump", "--format", "custom", "mlflow").stdout
    finally:
        server.terminate()
        server.wait()
    with pytest.raises(RegistryError, match=f"the registry at {registry.uri} can't do this"):
        registry.versions()
    postgres.run("createdb", "restored")
    postgres.run("pg_restore", "--dbname", "restored", "--clean", "--if-exists", input=backup)
    restored = Registry(database.replace("/mlflow", "/restored"))
    assert restored.versions() == kept
    assert Halsted.load(restored.folder(restored.find("champion"))).config.version == "second"


def wait_for(url: str, server: subprocess.Popen, log) -> None:
    until_s = time.monotonic() + 120
    while time.monotonic() < until_s and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"MLflow's server did not start: {log.read_text()[-2000:]}")
