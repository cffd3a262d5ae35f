"""The benchmarks' own machinery, and that the script they measure against does the same work as the pipeline."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from halsted_ray.mapping.workflow import Workflow
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.phantom.script import dissection, make_script, suturing
from halsted_ray.records import Video, WindowSpec
from halsted_ray.video.probe import probe
from halsted_ray.video.readers import read_frames
from halsted_ray.video.windows import frame_times_s, segments

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
RESULTS = BENCHMARKS / "results" / "latest.json"
sys.path.insert(0, str(BENCHMARKS))

TRIVIAL = """
from measuring import ratio
def measure(setting):
    return [ratio("one and a half", 1.5, 1.2, rows="3 rows"), ratio("too long", 9, 8, unit="s", at_most=True, why="w")]
"""


@pytest.fixture
def bench(tmp_path):
    """``run.py`` of a copy of the benchmarks, with measurements that cost nothing."""
    for path in BENCHMARKS.glob("*.py"):
        shutil.copy(path, tmp_path)
    (tmp_path / "trivial.py").write_text(TRIVIAL)
    (tmp_path / "broken.py").write_text("def measure(setting):\n    raise RuntimeError('no such luck')\n")
    (tmp_path / "dying.py").write_text("import os\ndef measure(setting):\n    os.abort()\n")

    def run(only: str) -> tuple[int, str, list[dict]]:
        results = tmp_path / "results.json"
        words = [sys.executable, str(tmp_path / "run.py"), "--only", only, "--results", str(results)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, json.loads(results.read_text())["ratios"] if results.exists() else []

    return run


def test_a_measurement_that_fails_costs_only_itself(bench):
    code, shown, ratios = bench("broken,dying,trivial")
    assert code == 3
    assert [entry["holds"] for entry in ratios] == [False, False, True, False]
    assert "no such luck" in ratios[0]["why"] and "code -6" in ratios[1]["why"]
    assert all({"name", "value", "unit", "bar", "holds", "rows", "command"} <= entry.keys() for entry in ratios)
    assert max(map(len, shown.splitlines())) <= 80 and "1.5x     ≥ 1.2 met" in shown


def test_what_is_measured_again_replaces_only_its_own(bench):
    assert bench("broken")[0] == 3
    code, _, ratios = bench("trivial")
    assert code == 1 and [entry["measurement"] for entry in ratios] == ["broken", "trivial", "trivial"]
    assert len(bench("trivial")[2]) == 3
    assert bench("nothing_like_it")[0] == 2


@pytest.mark.skipif(not RESULTS.exists(), reason="nothing was measured in this checkout")
def test_the_results_in_the_repository_are_whole():
    found = json.loads(RESULTS.read_text())
    assert {"hardware", "versions", "ratios"} <= found.keys() and found["ratios"]
    for entry in found["ratios"]:
        held = (
            entry["value"] is not None
            and entry["bar"] is not None
            and (entry["value"] <= entry["bar"] if entry["at_most"] else entry["value"] >= entry["bar"])
        )
        assert entry["holds"] is None or held or not entry["holds"], entry
    from run import BEGIN, PAGE, quoted

    assert BEGIN + quoted(found) in PAGE.read_text(encoding="utf-8"), "the page quotes the results as they are"


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """(folder, parts): two stretches of a loop of 35 s, too small to be of use but for its speed."""
    return tmp_path_factory.mktemp("footage"), ((suturing, 20.0), (dissection, 15.0))


def test_the_script_gives_the_tags_of_the_pipeline(footage, tmp_path):
    from footage import loop
    from script import ENCODER, Script

    folder, parts = footage
    video = loop(192, 108, parts, folder)
    torch.set_num_threads(1)
    encoder = Encoder.load("tiny")
    model = Halsted.create(
        None, encoder.dim, encoder_ref="tiny", encoder_fingerprint=encoder.fingerprint, heads=4, width=64
    )
    with torch.no_grad():
        model.decoder.head.weight.mul_(20)  # untrained, yet sure of itself: no tie for a last bit to decide
    model.save(str(tmp_path / "model"))
    assert ENCODER.joinpath("config.json").is_file()
    rows = Script(str(video), str(tmp_path / "model")).run()
    found = probe(video)
    whole = Video("v", str(video), found.size_bytes, found.duration_s, 192, 108, 30.0, "h264")
    workflow, tags = Workflow(model, encoder), []
    for segment in segments(whole, WindowSpec(), 60.0, "recipe"):
        frames = read_frames(video, frame_times_s(segment, WindowSpec()), encoder.image_size, "exact")
        tags += workflow(segment, frames.images_NHWC).tags
    ours = {(tag.start_s, tag.stop_s, tag.task, tag.tag): tag.category for tag in tags}
    theirs = {row[:4]: row[4] for row in rows}
    assert Script(str(video), str(tmp_path / "model"), once=True).run() == rows, "read together or one by one"
    same = sum(theirs.get(key) == category for key, category in ours.items())
    assert len(ours) >= 60 and same / len(ours) >= 0.9, f"{same} of {len(ours)} the same, {len(theirs)} of the script"


def test_a_thousand_videos_are_real_ones(footage, tmp_path):
    from footage import long
    from planning import plan, write_videos

    folder, parts = footage
    (tmp_path / "archive").mkdir()
    write_videos(tmp_path / "archive", long(35 / 60, 192, 108, parts, folder), 3)
    found = plan(str(tmp_path / "archive"), str(tmp_path / "out"))
    assert len(found) == 3 and {len(own) for own in found.values()} == {1}
    assert (tmp_path / "archive" / "0.mp4").stat().st_blocks * 512 < 3 * 2**20, "what is not read is a hole"


def test_measuring_a_machine_decodes_the_codecs_of_recorders():
    from halsted_ray.planning import measure

    for codec in measure.ENCODERS:
        rate = measure._measured_decoding(codec, 1, "here")
        assert (rate.codec, rate.width, rate.height) == (codec, 1920, 1080) and 5 < rate.frames_per_core_s < 5000


def test_the_gpu_benchmark_runs_without_one(capsys):
    import gpu

    words = ["--device", "cpu", "--presets", "tiny", "--seconds", "0.01", "--batches", "1,2", "--precisions"]
    row, small = gpu.main([*words, "fp32,int8"])
    assert "eager" in row["clips_per_second"] and "math" in row["attention_clips_per_second"]
    assert row["clips_per_second"]["eager"].keys() == {"1", "2"} and row["share_of_peak"] is None
    assert row["latency_s"]["eager"] == pytest.approx(1 / row["clips_per_second"]["eager"]["1"], rel=0.01)
    assert row["video_hours_per_gpu_hour"] > 0 and row["from_the_host_clips_per_second"] > 0
    assert (row["precision"], small["precision"]) == ("fp32", "int8") and row["tflop_per_clip"] > 0
    shown = capsys.readouterr().out
    assert "tiny, fp32, eager: batch 2:" in shown and "(paper, A4000: 0.31 s)" in shown
    assert gpu.main([*words, "fp4"]) == [] and "expected one of: fp32" in capsys.readouterr().out


def test_the_loading_benchmark_measures_three_ways(tmp_path, capsys):
    import loading

    hashed, identified, kept = loading.main([str(tmp_path), "--preset", "tiny", "--times", "1"])
    assert all(row["seconds"] > 0 and row["peak_mb"] > row["private_mb"] for row in (hashed, identified, kept))
    assert "kept in bf16:" in capsys.readouterr().out


def test_the_tagging_benchmark_says_windows_per_second_and_video_hours(capsys):
    import tagging

    (row,) = tagging.main(["--dim", "192", "--batches", "16", "--seconds", "0.01", "--threads", "1"])
    assert set(row["windows_per_second"]) == {"macro", "micro", "proficiency", "context"}
    slowest, fastest = min(row["windows_per_second"].values()), max(row["windows_per_second"].values())
    assert (
        slowest <= row["video_hours_per_hour"] * 62 / 60 * 1.01
        and row["video_hours_per_hour"] * 62 / 60 <= fastest * 1.01
    )
    assert "D = 192" in capsys.readouterr().out


def test_the_remapping_benchmark_decodes_nothing(tmp_path):
    import remap

    found = remap.remap(tmp_path, remap.TINY, hours=0.05)
    assert found["segments"] == 3 and found["video_hours_per_hour"] > 0
    assert set(found["stages_ms_per_segment"]["cpu_s"]) <= {"read", "generate", "write", "wait"}


def test_the_benchmark_of_stitches_counts_a_false_and_a_missed_stitch():
    import stitches

    from halsted_ray import taxonomy as taxonomies
    from halsted_ray.maps.stitches import find_stitches

    clips = make_script(3, 300).clips("v")
    true = stitches.true_stitches(clips)
    found = find_stitches(stitches.window_rows(clips), taxonomies.load())
    score = stitches.Score()
    score.add(found, true)
    score.add([*found[1:], replace(found[0], start_s=900.0, stop_s=920.0)], true)
    n = len(true)
    assert n == len(found) > 2
    assert score.cells(1)[:4] == (f"{2 * n}", f"{2 * n}", f"{2 * n - 1}", "0.00")
    assert score.cells(1)[6:] == (f"{2 * n - 1}",) * 4
    score.add(found[1:], true)
    assert score.cells(1)[3] == f"{1 / 3:.2f}"
