"""A run that joins a cluster which does not answer says so in seconds, whatever RAY_ADDRESS names."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray
from ray._private.node import Node

from halsted_ray.compute import cluster, doctor
from halsted_ray.compute.cluster import HTTP2_PREFACE, connected
from halsted_ray.errors import ResourceError

SETTINGS = bytes([0, 0, 6, 4, 0, 0, 0, 0, 0]) + b"\x00\x04\x00\x01\x00\x00"


@contextmanager
def listening(words: bytes | None) -> Iterator[str]:
    """The address of something that takes a connection and says ``words``; None: it says nothing, and keeps it."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return
                if words is not None:
                    kept[-1].sendall(words)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
    for connection in kept:
        connection.close()


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(cluster, "ANSWER_S", 0.5)


def refusal_of(monkeypatch, address: str) -> str:
    monkeypatch.setenv("RAY_ADDRESS", address)
    began_s = time.monotonic()
    with pytest.raises(ResourceError) as refused, connected():
        pass
    assert time.monotonic() - began_s < 60, "Ray itself tries for minutes"
    return str(refused.value)


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_gone_is_named_at_once(monkeypatch, scheme):
    address = f"{scheme}{free_address()}"
    assert f"no Ray cluster answers at RAY_ADDRESS='{address}'" in refusal_of(monkeypatch, address)


@pytest.mark.parametrize("words", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_what_listens_and_is_no_cluster_or_hangs_is_named_in_seconds(monkeypatch, words):
    with listening(words) as address:
        assert f"no Ray cluster answers at RAY_ADDRESS='{address}'" in refusal_of(monkeypatch, address)


def test_auto_does_not_believe_the_note_of_a_cluster_that_is_gone(monkeypatch, tmp_path):
    from ray._private import services

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(services, "find_gcs_addresses", set)  # of other programs on this machine
    assert "RAY_ADDRESS='auto'" in refusal_of(monkeypatch, "auto"), "no cluster was ever there"
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/ray_current_cluster").write_text(free_address())
    assert "RAY_ADDRESS='auto'" in refusal_of(monkeypatch, "auto")


def test_what_speaks_as_ray_does_is_tried(monkeypatch):
    with listening(SETTINGS) as address:
        assert cluster.ask_cluster(address)
    assert HTTP2_PREFACE.startswith(b"PRI * HTTP/2.0")


@pytest.mark.parametrize("words", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_the_doctor_says_the_same_before_a_run(monkeypatch, words):
    with listening(words) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        (finding,) = [one for one in doctor.examine([]) if one.name == "Ray"]
    assert finding.state == doctor.PROBLEM and "nothing answers" in finding.found


def test_a_ray_that_does_not_start_in_time_leaves_no_processes_beside_the_next_try(monkeypatch):
    ended = []

    class Half(Node):
        def __init__(self, **_options: object) -> None:
            raise RuntimeError("The current node timed out during startup.")

        def kill_all_processes(self, **_how: object) -> None:
            ended.append(self)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", Half)
    with pytest.raises(RuntimeError, match="timed out during startup"), connected():
        pass
    assert len(ended) == cluster.STARTS
