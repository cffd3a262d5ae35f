"""One run at a time on a place: two at once, one that was killed, one that lost touch; on a disk and on S3."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import halsted_ray
from halsted_ray.errors import OutputError
from halsted_ray.storage import lease as leases
from halsted_ray.storage.lease import Lease

HOLDER = """
import sys, time
from halsted_ray.storage.lease import Lease
with Lease(sys.argv[1], "first"):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture(params=["disk", "s3"])
def place(request, tmp_path) -> str:
    if request.param == "disk":
        return str(tmp_path)
    return f"{request.getfixturevalue('s3_server').bucket}/lease-{tmp_path.name}"


@pytest.fixture
def from_elsewhere(monkeypatch):
    """Claims of this process look like those of another machine, and silence is short."""
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(leases, "DEAD_AFTER_S", 1.5)
    monkeypatch.setattr(leases, "POLL_S", 0.05)
    monkeypatch.setattr(leases, "_machine", lambda: f"machine {time.monotonic_ns()}")


def test_the_second_is_told_who_has_it_and_a_killed_one_blocks_nobody(place):
    environment = {**os.environ, "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1])}
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, place], env=environment, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(
                OutputError,
                match=f"another run is at work on .*run first, process {holder.pid} on .*since "
                ".*wait for its end or stop it",
            ),
            Lease(place, "second"),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        started_s = time.monotonic()
        with Lease(place, "second") as held:
            held.check()
        assert time.monotonic() - started_s < leases.DEAD_AFTER_S / 3
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


@pytest.mark.parametrize("round", range(5))
def test_of_many_at_once_one_holds_it(place, round):
    start, all_tried, won, lost = threading.Barrier(6), threading.Event(), [], []

    def ask(name: str) -> None:
        start.wait()
        try:
            with Lease(place, name):
                won.append(name)
                all_tried.wait(120)
        except OutputError:
            lost.append(name)

    threads = [threading.Thread(target=ask, args=(f"run{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    until_s = time.monotonic() + 120
    while len(won) + len(lost) < 6 and time.monotonic() < until_s:
        time.sleep(0.01)
    held = list(won)
    all_tried.set()
    for thread in threads:
        thread.join()
    assert len(held) == 1 and len(lost) == 5


def test_a_claim_of_another_machine_is_watched_until_it_beats_or_is_silent(tmp_path, from_elsewhere):
    said = []
    with Lease(str(tmp_path), "z") as first:
        with pytest.raises(OutputError, match="another run is at work"), Lease(str(tmp_path), "a", said.append):
            pass
        assert len(said) == 1 and "whether that run is alive" in said[0]
        first._over.set()  # its heart stops
        started_s = time.monotonic()
        with Lease(str(tmp_path), "b") as second:
            assert 1.0 < time.monotonic() - started_s < 60
            second.check()
            with pytest.raises(OutputError, match="took over.*same command again"):
                first.check()


def test_a_run_whose_claim_was_taken_does_not_bring_it_back(tmp_path, from_elsewhere):
    with Lease(str(tmp_path), "a") as held:
        (tmp_path / "lease" / "a.json").unlink()
        time.sleep(1)
        assert held.lost and not (tmp_path / "lease" / "a.json").exists()


def test_of_two_that_did_not_see_each_other_one_publishes(tmp_path, from_elsewhere, monkeypatch):
    """As two NFS clients with old listings."""
    listing = Lease._others
    monkeypatch.setattr(Lease, "_others", lambda self: [])
    with Lease(str(tmp_path), "a") as first, Lease(str(tmp_path), "b") as second:
        monkeypatch.setattr(Lease, "_others", listing)
        first.check()
        with pytest.raises(OutputError, match="took over.*not seen"):
            second.check()


def test_a_process_id_that_is_used_again_is_another_process():
    mine = Lease("/tmp", "mine").claim
    assert mine.is_alive()
    assert replace(mine, started=mine.started - 1).is_alive() is False
    assert replace(mine, machine="another").is_alive() is None
