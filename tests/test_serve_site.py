"""A site and its operator: health, backup and restore, settings, the port, a database that does not answer."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serving import (
    client_of,
    new_key,
    open_service,
    shared_model,
    shared_service,
    shared_video,
    upload,
)

from halsted_ray.cli import main
from halsted_ray.errors import UsageError
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.local_server import claim_port


@pytest.fixture(scope="module")
def model() -> Path:
    return shared_model()


@pytest.fixture(scope="module")
def service() -> ServiceComponents:
    return shared_service()


@pytest.fixture(scope="module")
def client(service):
    with client_of(service, new_key(service)) as found:
        yield found


@pytest.fixture(scope="module")
def uploaded(client) -> dict:
    return upload(client, shared_video())


def command(words: list[str]) -> int:
    """The exit code of ``halsted serve``."""
    return main(["serve", *words])


def test_health_readiness_metrics_and_documentation(service, monkeypatch):
    with client_of(service) as anybody:
        assert anybody.get("/healthz").json() == {"status": "ok"}
        assert anybody.get("/readyz").json()["model"]["version"] == "v0"
        assert "/v1/clips:map" in anybody.get("/openapi.json").json()["paths"]
        assert anybody.get("/metrics").status_code == 401
        for role, status in (("monitor", 200), ("admin", 200), ("surgeon", 403), ("auditor", 403)):
            key = {"x-api-key": new_key(service, user=f"reads-{role}", role=role)}
            assert anybody.get("/metrics", headers=key).status_code == status, role
        assert (
            "halsted_requests_total"
            in anybody.get("/metrics", headers={"x-api-key": new_key(service, user="m", role="monitor")}).text
        )
        with monkeypatch.context() as patch:
            patch.setattr(service, "serving_model", None)
            assert anybody.get("/readyz").status_code == 503
        page = anybody.get("/docs").text
        assert "/v1/clips:map" in page and "not a medical device" in page
        assert "<code>size_bytes</code><td>in the body" in page and "<td>answer<td>upload_id, " in page
        assert not re.search(r"https?://(?!testserver)|<script", page), "nothing from outside"


def test_a_backup_of_a_running_site_is_a_site(service, client, uploaded, tmp_path, capsys):
    site = Path(service.store.root).parent
    assert command(["backup", "--state", str(site), str(tmp_path / "copy")]) == 0
    assert command(["backup", "--state", str(site), str(tmp_path / "copy")]) == 2, "a backup never overwrites"
    assert command(["restore", "--state", str(tmp_path / "new"), str(tmp_path / "copy")]) == 0
    assert command(["audit", "--state", str(tmp_path / "new")]) == 0
    assert "all as written" in capsys.readouterr().out
    restored = open_service(tmp_path / "new", Path(service.settings.model), with_clips=True)
    with client_of(restored, client.headers["x-api-key"]) as there:
        assert uploaded["video_id"] in {video["video_id"] for video in there.get("/v1/videos").json()}
        asked = {"instruction": "map procedure type", "video_id": uploaded["video_id"], "stop_s": 5}
        assert there.post("/v1/clips:map", json=asked).status_code == 200
    assert command(["restore", "--state", str(tmp_path / "new"), str(tmp_path / "copy")]) == 2
    assert command(["run", "--state", str(tmp_path / "x"), "--model", str(tmp_path / "none"), "--port", "8431"]) == 2
    assert "make demo" in capsys.readouterr().err


def test_a_missing_site_is_reported_and_not_created(tmp_path, capsys):
    for words in (["audit"], ["backup", str(tmp_path / "copy")]):
        assert command([words[0], "--state", str(tmp_path / "typo"), *words[1:]]) == 2
        assert "name the state folder of a site" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert command(["key", "--state", str(tmp_path / "new"), "north", "ada", "surgeon"]) == 0
    assert "a new site at" in capsys.readouterr().err
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new", *(tmp_path / "new").iterdir())}
    assert modes["new"] == 0o700 and modes["halsted.db"] == 0o600, "it holds names, and what signs addresses"


def test_a_state_folder_beside_a_database_of_the_environment_is_refused(tmp_path, capsys, monkeypatch):
    state = ["--state", str(tmp_path / "other")]
    monkeypatch.setenv("HALSTED_DATABASE", f"sqlite:///{tmp_path}/halsted.db")
    monkeypatch.setenv("HALSTED_STORE", str(tmp_path / "store"))
    for words in (["audit"], ["key", "north", "ada", "surgeon"], ["backup", "copy"], ["restore", "copy"]):
        with pytest.raises(SystemExit, match="2"):
            command([words[0], *state, *words[1:]])
        complaint = capsys.readouterr().err
        assert complaint.startswith(f"usage: halsted serve {words[0]}") and "argument --state: it needs" in complaint
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delenv("HALSTED_DATABASE")
    assert command(["key", *state, "north", "ada", "surgeon"]) == 0 and (tmp_path / "other" / "halsted.db").exists()


def test_the_message_names_a_setting_that_is_no_number(tmp_path, capsys, monkeypatch):
    for value in ("abc", "-1", "nan"):
        monkeypatch.setenv("HALSTED_LEASE_S", value)
        assert command(["audit", "--state", str(tmp_path)]) == 2
        assert f"HALSTED_LEASE_S='{value}'; expected a number above 0" in capsys.readouterr().err


def test_a_taken_port_is_reported_before_anything_starts(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("halsted_ray.service.local_server.PORT_WAIT_S", 0.3)
    words = ["run", "--state", str(tmp_path / "x"), "--model", str(tmp_path / "none"), "--port"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert command([*words, str(other.getsockname()[1])]) == 2
    assert "can't serve at 127.0.0.1:" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        command([*words, "99999"])
    assert not (tmp_path / "x").exists()


def test_a_port_that_a_killed_service_still_holds_is_waited_for():
    with socket.socket() as old:
        old.bind(("127.0.0.1", 0))
        old.listen()
        host, port = old.getsockname()
        threading.Timer(0.5, old.close).start()
        claim_port(host, port).close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            old.getsockname()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_of_two_services_that_start_at_once_on_one_port_one_is_refused(monkeypatch):
    """Neither service has bound the port when the other service looks at it, since Ray starts first."""
    monkeypatch.setattr("halsted_ray.service.local_server.PORT_WAIT_S", 0.3)
    port, together = free_port(), threading.Barrier(2)

    def start(host: str) -> socket.socket | str:
        together.wait()
        try:
            return claim_port(host, port)
        except UsageError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        ways = list(pool.map(start, ("127.0.0.1", "0.0.0.0")))
    (refusal,) = [way for way in ways if isinstance(way, str)]
    assert re.match(rf"can't serve at [\d.]+:{port}: .*in use; end the service there, or name another --port", refusal)
    (claim,) = [way for way in ways if not isinstance(way, str)]
    claim_port("127.0.0.1", free_port()).close()
    claim.close()
    claim_port("127.0.0.1", port).close()


def test_a_service_that_was_killed_leaves_no_claim_on_its_port(monkeypatch):
    monkeypatch.setattr("halsted_ray.service.local_server.PORT_WAIT_S", 0.3)
    port = free_port()
    claiming = (
        "import subprocess, sys, time; from halsted_ray.service.local_server import claim_port; "
        f"claim = claim_port('127.0.0.1', {port}); child = subprocess.Popen(['sleep', '60']); "
        "print(child.pid, flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", claiming]
    with subprocess.Popen(words, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True) as service:
        child = int(service.stdout.readline())
        try:
            with pytest.raises(UsageError, match=f"can't serve at 127.0.0.1:{port}"):
                claim_port("127.0.0.1", port)
            service.kill()
            service.wait()
            claim_port("127.0.0.1", port).close()  # although a process that it started is still there
        finally:
            os.kill(child, signal.SIGKILL)


def test_an_address_that_is_not_this_machine_s_is_not_waited_for():
    began_s = time.monotonic()
    with pytest.raises(UsageError, match="can't serve at 192.0.2.1:"):
        claim_port("192.0.2.1", 8000)
    assert time.monotonic() - began_s < 5


def test_a_database_that_does_not_answer_is_a_503_with_retry_after(model, tmp_path):
    service = open_service(tmp_path, model)
    with client_of(service, new_key(service)) as client:
        (tmp_path / "halsted.db").rename(tmp_path / "gone.db")
        service.database.close()
        (tmp_path / "halsted.db").mkdir()
        answer = client.get("/v1/videos")
        assert answer.status_code == 503 and answer.headers["retry-after"] and str(tmp_path) not in answer.text
        assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200
