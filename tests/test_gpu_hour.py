"""The end-to-end benchmark for GPUs, run without one: what it sees of a machine, what it writes, and what it ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest
import small_video

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu_footage  # noqa: E402  beside the benchmarks
import gpu_hour  # noqa: E402
from footage import join  # noqa: E402
from gpu_footage import KINDS, Kind, write_piece  # noqa: E402
from machine_watch import Watch, busy_core_s, gpu_sample  # noqa: E402

STEPS = ("modules imported", "model read", "planned", "cluster", "encoder loaded", "first vectors", "first segment")
"""Of a run, in the order of time."""


def test_idle_cores_and_waiting_for_a_disk_are_not_busy():
    assert busy_core_s("cpu  100 10 50 1000 20 5 15 0 70 0\ncpu0 1 1 1 1 1 1 1 0 0 0\n") == pytest.approx(1.8)


@pytest.mark.parametrize(
    "heading, line, found",
    [
        (
            "# gpu     sm    mem    enc    dec    jpg    ofa",
            "    0     87     40      0     55      0      0",
            (0.87, 0.55),
        ),
        ("# gpu    sm   mem   enc   dec", "    0    12     4     0     -", (0.12, 0.0)),
    ],
)
def test_the_monitor_of_the_driver_is_read_by_the_names_of_its_columns(heading, line, found):
    names: list[str] = []
    assert gpu_sample(heading, names) is None and gpu_sample("# Idx      %      %      %      %", names) is None
    assert gpu_sample(line, names) == pytest.approx(found)
    assert gpu_sample("", names) is None


def test_only_samples_of_the_time_asked_for_count():
    watch = Watch([(0.0, 0.0), (1.0, 1.0), (2.0, 3.0), (3.0, 5.0)], [(1.0, 0.5, 0.0), (2.0, 1.0, 0.5), (9.0, 0.0, 0.0)])
    assert watch.cores_busy(1.0, 3.0) == pytest.approx(2.0) and watch.gpu_busy(1.0, 3.0) == (0.75, 0.25)
    assert watch.cores_busy(2.5, 3.0) is None and Watch().gpu_busy(0.0, 9.0) == (None, None)


def run_of(**own) -> dict:
    """A run of 10 minutes that began to give results after 20 s and ended after 50 s."""
    answer = {
        "steps_s": {"pools: 2": 9.0, "modules imported": 3.0},
        "done": [[20.0, 60.0], [30.0, 360.0], [45.0, 600.0]],
        "ended_s": 49.0,
        "video_s": 600.0,
        "segments": 10,
        "failed": 0,
        "decoded": 10,
        "stages": {"wall_s": {"decode": 80.0, "wait": 0.0}, "cpu_s": {"decode": 70.0}},
        "vectors": 260,
        "devices": ["cpu"],
        "encoding": {"clips": 0, "computed": 0, "useful_share": 1.0, "busy_s": 0.0, "busy_share": 0.0},
    }
    spec = {"mode": "every", "precision": None, "reader": None}
    watch = Watch([(1000.0 + n, 2.0 * n) for n in range(50)])
    found = gpu_hour.finished(answer | own, spec, False, 50.0, 1000.0, watch)
    return found | {"source": "720p", "encoder": "random:tiny:0", "minutes": 10}


def test_rates_are_told_with_the_start_and_without_it():
    run = run_of()
    assert run["video_hours_per_hour"] == 12 and run["video_hours_per_hour_steady"] == pytest.approx(540 / 25)
    assert (run["first_result_s"], run["after_last_segment_s"], run["vectors_per_s"]) == (20.0, 4.0, 5.2)
    assert run["cores_busy"] == pytest.approx(2.0) and run["gpu_busy_share"] is None
    assert list(run["steps_s"]) == ["modules imported", "pools: 2"]
    text = gpu_hour.shown(run)
    for words in ("9.0 s  pools: 2", "20.0 s  first segment finished", "decode 80.0", "21.6", "2.0 of"):
        assert words in text
    assert "–" in text and "100.0%" not in text, "what is not known is not shown as a number"


def test_figures_of_the_encoder_are_shown_where_the_run_gives_them():
    text = gpu_hour.shown(run_of(encoding={"clips": 260, "useful_share": 0.985, "busy_share": 0.91}))
    assert "98.5%" in text and "91%" in text


def test_a_run_replaces_only_the_entry_of_its_own_kind(tmp_path):
    first, other = run_of(), run_of() | {"start": "warm"}
    for run in (first, other, first | {"wall_s": 1.0}):
        gpu_hour.write(run, tmp_path)
    (path,) = tmp_path.glob("*.json")
    runs = json.loads(path.read_text())["runs"]
    assert sorted(run["start"] for run in runs.values()) == ["cold", "warm"]
    assert {run["start"]: run["wall_s"] for run in runs.values()} == {"cold": 1.0, "warm": 50.0}


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_footage_of_a_kind_has_its_codec_and_a_keyframe_every_two_seconds(codec, tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "small", Kind(192, 108, codec, 200_000))
    monkeypatch.setattr(gpu_footage, "PIECE_S", 4.0)
    write_piece(tmp_path / "piece.mp4", 0, "small")
    join(tmp_path / "long.mp4", [tmp_path / "piece.mp4"] * 3)
    with av.open(str(tmp_path / "long.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == {"libx264": "h264", "libx265": "hevc"}[codec]
        assert float(stream.duration * stream.time_base) == pytest.approx(12.0, abs=0.1)
        keys_s = [float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.is_keyframe]
    assert keys_s == pytest.approx([0, 2, 4, 6, 8, 10], abs=0.1)


@pytest.fixture(scope="module")
def hour(tmp_path_factory):
    """(a video of 45 s, a cache that the runs share)"""
    place = tmp_path_factory.mktemp("hour")
    return small_video.write(place / "video.mp4", 45.0), place


def words_of(hour, tmp_path, *more: str) -> list[str]:
    video, cache = hour
    words = ["--hour", str(video), "--encoder", "random:tiny:0", "--cache", str(cache), "--results", str(tmp_path)]
    return [*words, *more]


def test_an_hour_end_to_end_and_again_from_its_vectors(hour, tmp_path, capsys):
    every, again = gpu_hour.main(words_of(hour, tmp_path, "--modes", "every,vectors"))
    assert every["vectors"] == 2 + 18 and every["failed"] == 0 and every["devices"] == ["cpu"]
    assert 0 < every["steps_s"]["modules imported"] < every["first_result_s"] < every["wall_s"]
    steps = list(every["steps_s"])
    assert [step for step in steps if step in STEPS] == list(STEPS), steps
    assert every["encoding"]["clips"] == every["vectors"] and every["encoding"]["useful_share"] == 1
    assert every["stages"]["cpu_s"]["decode"] > 0 and again["stages"]["cpu_s"]["decode"] == 0
    assert again["vectors"] == again["encoding"]["clips"] == 0
    assert again["video_s"] == every["video_s"] == pytest.approx(45.0, abs=0.1)
    assert len(json.loads((tmp_path / "cpu.json").read_text())["runs"]) == 2
    assert "end of the command" in capsys.readouterr().out


def test_one_vector_per_15_seconds_on_a_cluster_that_runs_before(hour, tmp_path):
    (run,) = gpu_hour.main(words_of(hour, tmp_path, "--modes", "15s", "--warm"))
    assert run["vectors"] == 3 and run["start"] == "warm"


def test_a_mode_that_takes_too_long_is_ended_and_said(hour, tmp_path):
    with pytest.raises(RuntimeError, match="mode every was not done after 1 s"):
        gpu_hour.main(words_of(hour, tmp_path, "--timeout", "1"))
    assert not list(tmp_path.glob("*.json"))


def test_a_reader_that_the_pipeline_does_not_have_ends_the_benchmark(hour, tmp_path, capfd):
    with pytest.raises(RuntimeError, match="mode every ended with code"):
        gpu_hour.main(words_of(hour, tmp_path, "--reader", "film"))
    assert "film" in capfd.readouterr().err and not list(tmp_path.glob("*.json"))


def test_wrong_words_are_refused(capsys):
    for words in (["--modes", "all"], ["--modes", "vectors"]):
        with pytest.raises(SystemExit, match="2"):
            gpu_hour.main(["--make-hour", "720p", *words])
    assert "put every first" in capsys.readouterr().err


def all_of(tmp_path, limit_s: int, python: str) -> subprocess.CompletedProcess[str]:
    """``gpu_all.sh`` in a checkout with two of its benchmarks, and ``python`` in the place of Python."""
    (tmp_path / "benchmarks").mkdir()
    for name in ("gpu_all.sh", "gpu.py", "gpu_hour.py"):
        shutil.copy(BENCHMARKS / name, tmp_path / "benchmarks")
    environment = {"PATH": "/usr/bin:/bin", "LIMIT_S": str(limit_s), "PYTHON": python, "OUT": str(tmp_path / "out")}
    environment["RAY_TMPDIR"] = str(tmp_path)
    words = ["bash", str(tmp_path / "benchmarks" / "gpu_all.sh")]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)


def test_all_measurements_go_on_where_one_fails_or_is_missing(tmp_path):
    done = all_of(tmp_path, 720, "/bin/false")
    assert done.returncode == 1 and "nvdec: skipped, benchmarks/nvdec.py is not in this checkout" in done.stdout
    failed = done.stdout.rsplit("failed or skipped:", 1)[1].split()
    assert failed[0] == "encoder" and {"hour-cold", "hour-warm", "hour-fp8", "hour-15s", "hevc", "720p"} <= set(failed)


def test_all_measurements_that_succeed_leave_one_log_and_what_decoding_processes_said(tmp_path):
    logs = tmp_path / "ray" / "session_1" / "logs"
    logs.mkdir(parents=True)
    for number in range(2):
        (logs / f"worker-{number}.err").write_text("starting\nhalsted decoding process: the GPU is gone\n")
    done = all_of(tmp_path, 720, "/bin/echo")
    assert done.returncode == 0, done.stdout
    log = (tmp_path / "out" / "log").read_text()
    assert "== hour-cold: at most" in log and "--make-hour 1080p --minutes 60" in log
    said = (tmp_path / "out" / "decoding-processes").read_text()
    assert said.split() == "2 halsted decoding process: the GPU is gone".split()


def test_no_measurement_starts_when_no_time_is_left(tmp_path):
    done = all_of(tmp_path, 10, "/bin/echo")
    assert done.returncode == 1 and "encoder: skipped, no time is left" in done.stdout
