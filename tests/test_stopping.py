"""A run that is stopped by a signal: one line, what is finished stays, nothing is left at work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numbered_video
import pytest

import halsted_ray
from halsted_ray.compute.cluster import signals_held
from halsted_ray.maps.status import status_of

pytestmark = pytest.mark.slow

VIDEOS = 10


@pytest.fixture(scope="module")
def command(small_model, tmp_path_factory):
    """(words of a run that takes a while, its OUT, its environment, a folder that stands in the environment of all
    that it starts)"""
    root, ray_folder = tmp_path_factory.mktemp("stopping"), tempfile.mkdtemp(prefix="ray-")  # Ray wants a short path
    (root / "archive").mkdir()
    for number in range(VIDEOS):
        recipe = numbered_video.Recipe(frames=300, rate=10, gop=20 + number, size=(96, 160))
        numbered_video.write(root / "archive" / f"{number}.mp4", recipe)
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": ray_folder,
    }
    environment.pop("RAY_ADDRESS", None)
    words = [
        sys.executable,
        "-m",
        "halsted_ray.cli",
        "map",
        str(root / "archive"),
        "--out",
        str(root / "out"),
        "--model",
        small_model,
    ]
    yield words, root / "out", environment, ray_folder
    shutil.rmtree(ray_folder, ignore_errors=True)


def staged(out: Path) -> int:
    return len(list(out.glob("staging/*/*/*.json")))


def at_work(folder: str) -> list[str]:
    """Command lines of the processes whose environment names ``folder``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"={folder}\0".encode() in (process / "environ").read_bytes() + b"\0":
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended meanwhile
            continue
    return found


@pytest.mark.parametrize("name, code, how", [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "stopped by SIGTERM")])
def test_a_signal_ends_a_run_with_one_line_and_nothing_left_at_work(command, name, code, how):
    words, out, environment, folder = command
    before = staged(out)
    run = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        until_s = time.monotonic() + 240
        while staged(out) <= before:
            assert run.poll() is None and time.monotonic() < until_s, run.communicate()
            time.sleep(0.01)
        if name == "SIGINT":  # Ctrl-C reaches the whole group
            os.killpg(run.pid, signal.SIGINT)
        else:
            run.send_signal(signal.SIGTERM)
        shown, complaint = run.communicate(timeout=60)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == code, complaint
    last = complaint.splitlines()[-1]
    assert last == f"halsted map: {how}; finished work is kept, and the same command continues from there", complaint
    assert shown == "" and "Traceback" not in complaint and "***" not in complaint and "@" not in complaint
    assert before < staged(out) < VIDEOS, "stopped in the middle, and what was finished is there"
    assert not list(out.glob("lease/*")), "the place is free"
    until_s = time.monotonic() + 90
    while (left := at_work(folder)) and time.monotonic() < until_s:
        time.sleep(0.1)
    assert not left


STOPPED_WHILE_RAY_STARTS = """
import os, signal, sys
from halsted_ray.cli import main
from halsted_ray.compute import cluster

start = cluster._start

def start_and_stop(local):
    import ray._raylet

    make_core = ray._raylet.CoreWorker

    def make_core_and_stop(*arguments, **named):
        core = make_core(*arguments, **named)
        os.kill(os.getpid(), signal.SIGTERM)
        return core

    ray._raylet.CoreWorker = make_core_and_stop
    start(local)

cluster._start = start_and_stop
sys.exit(main(sys.argv[1:]))
"""


def test_a_signal_while_ray_starts_ends_the_run_in_the_same_way(command):
    """In this moment Ray's core has handlers of its own, unless it is told not to, and can't be left: it aborted."""
    words, out, environment, _ = command
    words = [sys.executable, "-c", STOPPED_WHILE_RAY_STARTS, *words[words.index("map") :]]
    stopped = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240)
    assert stopped.returncode == 143, stopped.stderr
    last = "halsted map: stopped by SIGTERM; finished work is kept, and the same command continues from there"
    assert stopped.stderr.splitlines()[-1] == last and "***" not in stopped.stderr, stopped.stderr
    assert not list(out.glob("lease/*")), "the place is free"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_either_signal_comes_when_ray_has_started(number):
    """This process stands for a run, and the block for the start of its Ray."""
    passed, before = [], signal.signal(signal.SIGTERM, signal.default_int_handler)  # as a command's it raises
    try:
        with pytest.raises(KeyboardInterrupt), signals_held():
            signal.raise_signal(number)
            passed.append(number)
        with pytest.raises(KeyboardInterrupt), signals_held():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)  # who gives Ctrl-C twice does not want to wait
            passed.append("not reached")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert passed == [number]


def test_the_same_command_goes_on(command):
    words, out, environment, _ = command
    before = staged(out)
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert f"{before} segments done before, {VIDEOS - before} decoded" in done.stdout
    assert {video["status"] for video in status_of(str(out))} == {"mapped"}
