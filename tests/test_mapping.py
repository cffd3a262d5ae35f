"""The main job on real files and a real Ray: what comes out, what is not done twice, what bad input does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numbered_video
import pytest
import torch
from busy_machine import measured_slowness

import halsted_ray
from halsted_ray.compute import run_cluster
from halsted_ray.compute.cluster import without_monitors
from halsted_ray.compute.progress import RunObserver
from halsted_ray.compute.resources import ResourceRequest
from halsted_ray.errors import ArchiveError, ModelError, OutputError, TaxonomyError, UsageError
from halsted_ray.mapping import pipeline
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.maps.reading import read_segments, read_timeline
from halsted_ray.maps.run_profile import read_profile
from halsted_ray.maps.staging import stagings
from halsted_ray.maps.status import status_of
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.planning.planner import PlanSetting, plan
from halsted_ray.planning.rates import MEASURED, Rates
from halsted_ray.planning.survey import survey
from halsted_ray.profiling import STAGES
from halsted_ray.records import TIMELINE_ORDER, WindowSpec
from halsted_ray.reporting import report
from halsted_ray.storage.lease import Lease

SPEC = WindowSpec(coarse_s=10, fine_s=2.5)
SMALL = ResourceRequest(decoders=1, encoders=1)
"""Each actor costs seconds to start, so that a run has no more of them than it needs."""


def write_video(path: Path, seconds: float, gop: int = 40) -> Path:
    recipe = numbered_video.Recipe(frames=int(seconds * 10), rate=10, gop=gop, size=(90, 160))
    return numbered_video.write(path, recipe).path


def save_model(folder: Path, seed: int) -> str:
    torch.set_num_threads(1)
    encoder = Encoder.create("tiny", 0)
    model = Halsted.create(
        None,
        encoder.dim,
        encoder_ref=encoder.ref,
        encoder_fingerprint=encoder.fingerprint,
        heads=4,
        width=64,
        windows=SPEC,
        seed=seed,
        version=f"v{seed}",
        atlas_release="test-1",
    )
    model.save(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[str]:
    return [save_model(tmp_path_factory.mktemp("model"), seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_video(folder / "one.mp4", 33.3)
    (folder / "deep er").mkdir()
    write_video(folder / "deep er" / "zwei 'ü' \"x\".mp4", 41.0)
    return folder


@pytest.fixture(scope="module")
def cluster(s3_server):
    """One local Ray for the tests of this file; after the S3 server, whose keys its workers must have."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ["OMP_NUM_THREADS"] = "1"
    for tries_left in (2, 1, 0):
        try:
            with without_monitors():
                ray.init(
                    address="local", num_cpus=6, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
                )
            break
        except Exception:
            ray.shutdown()
            if not tries_left:
                raise
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def mapped_in_time(cluster, archive, models, tmp_path_factory):
    """(OUT, its summary, how much slower than a quiet machine): the archive mapped without any disturbance, two
    decoders, segments of 20 s."""
    out = str(tmp_path_factory.mktemp("maps"))
    with measured_slowness() as slowness:
        summary = map_archive(
            str(archive), out, models[0], segment_s=20, resources=ResourceRequest(decoders=2, encoders=1)
        )
    return out, summary, slowness.factor


@pytest.fixture(scope="module")
def mapped(mapped_in_time):
    return mapped_in_time[:2]


def test_every_video_gets_a_timeline(mapped, archive):
    out, summary = mapped
    assert summary.exit_code == 0 and summary.segments == 5 == summary.segments_decoded
    table = read_timeline(out)
    assert table.schema.equals(TIMELINE_SCHEMA)
    for video in status_of(out):
        assert video["status"] == "mapped" and video["segments_done"] == video["segments"]
        rows = [row for row in table.to_pylist() if row["video_id"] == video["video_id"]]
        lane = [row for row in rows if row["tag"] == "procedure"]
        assert lane[0]["start_s"] == 0 and lane[-1]["stop_s"] == video["duration_s"]
        assert all(left["stop_s"] == right["start_s"] for left, right in zip(lane, lane[1:], strict=False))
        assert {row["uri"] for row in rows} == {video["uri"]} and Path(video["uri"]).is_file()
        assert {(row["model_version"], row["atlas_release"], row["source"]) for row in rows} == {("v0", "test-1", "ai")}
    keys = [tuple(row[name] for name in TIMELINE_ORDER) for row in table.to_pylist()]
    assert keys == sorted(keys)
    lanes = {(row["video_id"], row["start_s"], row["task"], row["tag"]) for row in table.to_pylist()}
    assert len(lanes) == len(keys), "one answer at a time"
    assert not list(stagings(out))


def test_a_run_says_how_it_started_and_what_its_encoder_did(mapped):
    out, summary = mapped
    steps = ["listed", "model read", "planned", "cluster", "encoder loaded", "first vectors", "first segment"]
    assert list(summary.start_s) == steps and list(summary.start_s.values()) == sorted(summary.start_s.values())
    assert 0 < summary.start_s["first segment"] < summary.wall_s
    encoding = summary.encoding
    assert encoding.clips == encoding.computed > 0 and encoding.actors == 1, "on a CPU a batch is one window"
    assert 0 < encoding.busy_share <= 1 and encoding.busy_s < summary.wall_s
    kept = read_profile(out)
    assert kept.start_s == summary.start_s and kept.encoding["clips"] == encoding.clips


def test_weights_that_are_not_the_stated_ones_end_a_run_with_the_reason(cluster, archive, models, tmp_path):
    """The driver reads what model.json says; the actors that load the weights find out."""
    model = tmp_path / "model"
    shutil.copytree(models[0], model)
    weights = bytearray((model / "decoder.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "decoder.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match="is not the file that model.json was written with.*copy both again"):
        map_archive(str(archive), str(tmp_path / "out"), str(model), segment_s=20, resources=SMALL)
    assert not status_of(str(tmp_path / "out"))[0]["segments_done"]


def test_an_archive_that_was_encoded_in_bf16_is_mapped_again_without_decoding(
    cluster, archive, models, tmp_path, monkeypatch
):
    out, place = str(tmp_path / "out"), tmp_path / "embeddings"
    common = {"segment_s": 20, "embeddings": str(place), "resources": SMALL}
    first = map_archive(str(archive), out, models[0], precision="bf16", **common)
    assert first.segments_decoded == 5 and [path.name[16:] for path in place.iterdir()] == ["-bf16"]
    monkeypatch.setattr(run_cluster, "connected", refuse)
    again = map_archive(str(archive), out, models[1], task="macro", **common)
    assert (again.segments_decoded, again.segments_from_vectors) == (0, 5)


def test_one_publishing_commit_a_run_with_its_provenance(mapped):
    from deltalake import DeltaTable

    out, summary = mapped
    history = DeltaTable(f"{out}/timeline").history()
    assert summary.timeline_version == 0 and len(history) == 1
    assert history[0]["run_id"] == summary.run_id and history[0]["recipe"] == summary.recipe
    assert history[0]["code_version"] == halsted_ray.__version__ and history[0]["model_version"] == "v0"


def test_the_profile_adds_up_and_is_in_the_report(mapped):
    out, summary = mapped
    wall_s, cpu_s = summary.stages["wall_s"], summary.stages["cpu_s"]
    assert all(wall_s[stage] > 0 and cpu_s[stage] > 0 for stage in STAGES if stage not in ("queue", "wait"))
    assert sum(wall_s.values()) <= 3 * summary.wall_s, "three actors, none of which counts a second twice"
    assert all(cpu_s[stage] <= 1.1 * wall_s[stage] + 0.05 for stage in ("read", "decode", "convert", "generate"))
    assert read_profile(out).run_id == summary.run_id and read_profile(out).stages == summary.stages
    assert report(out)["profile"]["stages"] == summary.stages


def test_prometheus_reads_the_stages(mapped):
    import ray

    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until_s, lines = time.monotonic() + 60, []
    while not lines and time.monotonic() < until_s:  # workers report every 10 s
        time.sleep(0.5)
        text = opener.open(url, timeout=10).read().decode()
        lines = [line for line in text.splitlines() if line.startswith("ray_halsted_stage_seconds_total{")]
    counted = {
        (stage, clock): float(line.rsplit(" ", 1)[1])
        for line in lines
        for stage in STAGES
        for clock in ("wall", "cpu")
        if f'stage="{stage}"' in line and f'clock="{clock}"' in line
    }
    stages = set(STAGES) - {"queue"}  # on a CPU nothing waits for a batch
    assert {stage for stage, _ in counted} == stages and all(value > 0 for value in counted.values())


def without_uris(out: str) -> list[dict]:
    return [{**row, "uri": ""} for row in read_timeline(out).to_pylist()]


def refuse(*_args, **_kwargs):
    raise AssertionError("this must not be needed")


def test_a_second_run_does_nothing_and_starts_no_ray(mapped, archive, models, monkeypatch):
    out, _ = mapped
    monkeypatch.setattr(run_cluster, "connected", refuse)
    before = read_timeline(out)
    summary = map_archive(str(archive), out, models[0], segment_s=20)
    assert summary.segments_before == 5 and summary.segments_decoded == 0 and summary.timeline_version is None
    assert summary.exit_code == 0 and read_timeline(out).equals(before)


def test_a_new_model_reads_vectors_and_decodes_nothing(mapped, archive, models, tmp_path, monkeypatch):
    out, _ = mapped
    shutil.copytree(out, tmp_path / "out")
    monkeypatch.setattr(run_cluster, "connected", refuse)
    summary = map_archive(str(archive), str(tmp_path / "out"), models[1], segment_s=20, task="macro")
    assert (summary.segments_decoded, summary.segments_from_vectors) == (0, 5)
    rows = read_timeline(str(tmp_path / "out")).to_pylist()
    assert {row["model_version"] for row in rows if row["task"] == "macro"} == {"v1"}
    assert {row["model_version"] for row in rows if row["task"] == "proficiency"} == {"v0"}, "was not asked for"
    assert read_timeline(str(tmp_path / "out"), version=0).equals(read_timeline(out)), "history stays"
    back = map_archive(str(archive), str(tmp_path / "out"), models[0], segment_s=20)
    assert back.segments_decoded == 0
    assert read_timeline(str(tmp_path / "out")).equals(read_timeline(out))


def test_rows_do_not_depend_on_worker_count(mapped, through_an_outage):
    out, summary = through_an_outage
    assert summary.segments_decoded == 9
    assert without_uris(out) == without_uris(mapped[0])


def good_rows(mapped, beside_bad_files) -> list[dict]:
    """The rows of the videos that both archives have, of the one with bad files."""
    good = {row["video_id"] for row in read_timeline(mapped[0]).to_pylist()}
    assert len(good) == 2
    return [row for row in without_uris(beside_bad_files[0]) if row["video_id"] in good]


def test_rows_do_not_depend_on_segment_length(mapped, beside_bad_files):
    assert beside_bad_files[1].segments == 3, "one segment a video"
    assert good_rows(mapped, beside_bad_files) == without_uris(mapped[0])


def test_rows_do_not_depend_on_batch_size(mapped, beside_bad_files):
    """All three segments are one batch."""
    assert good_rows(mapped, beside_bad_files) == without_uris(mapped[0])


def test_rows_do_not_depend_on_waves(mapped, beside_bad_files):
    out, summary = beside_bad_files
    assert summary.timeline_version == 2, "a commit a wave"
    assert good_rows(mapped, beside_bad_files) == without_uris(mapped[0]) and not list(stagings(out))


def test_many_stored_vectors_go_through_the_cluster(mapped, archive, models, tmp_path, monkeypatch):
    outs = [str(tmp_path / name) for name in ("locally", "cluster")]
    for out, locally_at_most in zip(outs, (1000, 0), strict=True):
        shutil.copytree(mapped[0], out)
        monkeypatch.setattr(pipeline, "TAGGED_LOCALLY_AT_MOST", locally_at_most)
        summary = map_archive(
            str(archive), out, models[1], segment_s=20, task="macro", resources=ResourceRequest(encoders=1)
        )
        assert (summary.segments_decoded, summary.segments_from_vectors) == (0, 5)
    assert read_timeline(outs[1]).equals(read_timeline(outs[0]))


def test_a_plan_with_the_rates_of_a_run_predicts_it_within_a_factor_of_four(mapped_in_time, archive):
    """Most of so short a run is its start; ``benchmarks/predict.py`` gives the ratio for one of minutes."""
    out, summary, slowness = mapped_in_time
    found = survey(str(archive), 100)
    setting = PlanSetting(gpus=0, cores=os.cpu_count(), preset="random:tiny", segment_s=20)
    planned = plan(found.mapped, found.files, found.video_s()[0], Rates.load(out), setting)
    assert planned.segments == summary.segments and planned.video_s == summary.video_s
    assert 0.25 <= summary.wall_s / planned.wall_s <= 4 * slowness
    assert planned.encode_rate.source == MEASURED and "the machines of the run" in planned.encode_rate.hardware


def test_every_segment_says_which_encoder_it_was_encoded_with_and_on_what(mapped):
    table = read_segments(mapped[0], ["encoder", "encoder_size", "device"])
    encoder = Encoder.create("tiny", 0)
    assert table.to_pylist() == [{"encoder": encoder.fingerprint, "encoder_size": "random:tiny", "device": "cpu"}] * 5


@pytest.fixture(scope="module")
def beside_bad_files(cluster, archive, models, tmp_path_factory):
    """(OUT, its summary): the archive again, with bad files beside its videos. One segment a video, three segments a
    batch, one video a wave."""
    root = tmp_path_factory.mktemp("bad")
    folder = root / "archive"
    shutil.copytree(archive, folder)
    shutil.copy(folder / "one.mp4", folder / "one again.mp4")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "Jane Doe.mp4").write_text("not a video at all")
    whole = write_video(root / "whole.ts", 60.0, gop=10).read_bytes()
    damaged = bytearray(whole)
    middle = len(whole) // 2
    damaged[middle - 20_000 : middle + 20_000] = os.urandom(40_000)
    (folder / "damaged.ts").write_bytes(damaged)
    out, resources = str(root / "out"), ResourceRequest(decoders=1, encoders=1, batch_segments=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "WAVE_SEGMENTS", 1)
        return out, map_archive(str(folder), out, models[0], segment_s=60, resources=resources)


def test_bad_files_beside_good_ones(mapped, beside_bad_files):
    out, summary = beside_bad_files
    assert summary.exit_code == 3
    videos = {Path(video["uri"]).name: video for video in status_of(out)}
    assert len(videos) == 5, "the copy is mapped once"
    assert videos["one again.mp4"]["status"] == "mapped" and videos["one again.mp4"]["copies"] == 1
    assert videos["zwei 'ü' \"x\".mp4"]["status"] == "mapped"
    assert videos["empty.mp4"]["status"] == "failed" and "empty file" in videos["empty.mp4"]["reason"]
    assert videos["Jane Doe.mp4"]["status"] == "failed" and "Jane" not in videos["Jane Doe.mp4"]["reason"]
    rows = read_timeline(out).to_pylist()
    assert good_rows(mapped, beside_bad_files) == without_uris(mapped[0])
    damage = videos["damaged.ts"]
    assert damage["status"] == "partial" and damage["code"] == "corrupt" and damage["reason"]
    lanes = [
        row
        for row in rows
        if row["video_id"] == damage["video_id"] and row["task"] == "macro" and row["tag"] in ("step", "gap")
    ]
    assert {row["tag"] for row in lanes} == {"step", "gap"}
    edges = sorted((row["start_s"], row["stop_s"]) for row in lanes)
    assert edges[0][0] == 0 and edges[-1][1] == damage["duration_s"]
    assert all(left[1] == right[0] for left, right in zip(edges, edges[1:], strict=False)), "mapped or a gap, all of it"
    lost_s = sum(row["stop_s"] - row["start_s"] for row in lanes if row["tag"] == "gap")
    assert 0 < damage["missing_s"] <= lost_s + 1e-6
    assert report(out)["per_video"][damage["video_id"]]["missing_s"] == damage["missing_s"], "report and status agree"
    assert all(video["missing_s"] == 0 for video in videos.values() if video["status"] == "mapped")


def test_an_archive_of_bad_files_alone(models, tmp_path, monkeypatch):
    monkeypatch.setattr(run_cluster, "connected", refuse)
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "text.mp4").write_text("text")
    out = str(tmp_path / "out")
    assert map_archive(str(tmp_path / "archive"), out, models[0]).exit_code == 3
    assert [video["status"] for video in status_of(out)] == ["failed"]
    assert read_timeline(out).num_rows == 0


def test_wrong_use_is_named(archive, models, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    out, good = str(tmp_path / "out"), str(archive)
    with pytest.raises(ArchiveError, match="empty"):
        map_archive(str(empty), out, models[0])
    with pytest.raises(TaxonomyError, match="mcro.*macro"):
        map_archive(good, out, models[0], task="mcro")
    with pytest.raises(TaxonomyError, match="map stitching"):
        map_archive(good, out, models[0], instruction="map stitching")
    with pytest.raises(ModelError, match="nowhere"):
        map_archive(good, out, str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="keyframe.*expected one of"):
        map_archive(good, out, models[0], fidelity="keyframe")
    with pytest.raises(UsageError, match="place of their own"):
        map_archive(good, good, models[0])
    with pytest.raises(UsageError, match="place of their own"):
        map_archive(good, str(Path(good).parent), models[0])
    assert not (Path(good) / "lease").exists() and not (Path(good) / "staging").exists()
    with pytest.raises(UsageError, match="segment_s.*10 s"):
        map_archive(good, out, models[0], segment_s=15)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't write .*file/out"):
        map_archive(good, str(tmp_path / "file" / "out"), models[0])
    with Lease(out, "another"), pytest.raises(OutputError, match="another run is at work on .*run another, process"):
        map_archive(good, out, models[0])
    with pytest.raises(UsageError, match="holds no maps"):
        status_of(str(empty))


DRIVER = """
import sys
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.compute.resources import ResourceRequest
resources = ResourceRequest(decoders=1, encoders=1)
summary = map_archive(sys.argv[1], sys.argv[2], sys.argv[3], segment_s=10, resources=resources)
print(summary.segments_before, summary.segments_decoded)
"""


def staged(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("staging/*/*/*.json")}


def test_resume_after_the_driver_is_killed(mapped, archive, models, tmp_path):
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1])}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(archive), str(out), models[0]], env=environment, start_new_session=True
    )
    until_s = time.monotonic() + 240
    while len(staged(out)) < 2:
        assert driver.poll() is None and time.monotonic() < until_s, "nothing was staged"
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = staged(out)
    while True:  # its workers may write for a moment
        time.sleep(2)
        if staged(out) == before:
            break
        before = staged(out)
    assert 2 <= len(before) < 9, "killed in the middle"
    videos = status_of(str(out))
    assert sum(video["segments_done"] for video in videos) == len(before)
    assert "pending" in {video["status"] for video in videos}
    first_run = next(stagings(str(out))).run().run_id

    summary = map_archive(str(archive), str(out), models[0], segment_s=10, resources=SMALL)
    assert (summary.segments_before, summary.segments_decoded) == (len(before), 9 - len(before))
    by_run = read_segments(str(out), ["segment_id", "run_id"]).to_pylist()
    assert {row["segment_id"] for row in by_run if row["run_id"] == first_run} == {n.split(".")[0] for n in before}
    assert read_timeline(str(out)).equals(read_timeline(mapped[0]))


@pytest.fixture(scope="module")
def through_an_outage(cluster, archive, models, s3_server):
    """(OUT, its summary): the archive from S3 to S3 with two encoders, while the store was away for 20 s."""
    import s3fs

    fs = s3fs.S3FileSystem()
    fs.put(str(archive) + "/", f"{s3_server.bucket}/in/", recursive=True)
    out = f"{s3_server.bucket}/maps"
    stopped = threading.Event()

    class StopAtFirstResult(RunObserver):
        def on_progress(self, _progress):
            if not stopped.is_set():
                stopped.set()
                s3_server.stop()
                threading.Timer(20.0, s3_server.start).start()

    summary = map_archive(
        f"{s3_server.bucket}/in",
        out,
        models[0],
        segment_s=10,
        resources=ResourceRequest(decoders=1, encoders=2),
        observer=StopAtFirstResult(),
    )
    assert stopped.is_set()
    return out, summary


def test_a_store_that_goes_away_is_waited_for(mapped, through_an_outage):
    out, summary = through_an_outage
    assert summary.exit_code == 0 and summary.wall_s > 20
    assert without_uris(out) == without_uris(mapped[0])


def test_from_s3_to_s3(mapped, through_an_outage, models, s3_server):
    out, summary = through_an_outage
    assert summary.exit_code == 0 and summary.segments_decoded == 9
    assert all(row["uri"].startswith("s3://") for row in read_timeline(out).to_pylist())
    assert without_uris(out) == without_uris(mapped[0])
    assert [video["status"] for video in status_of(out)] == ["mapped", "mapped"]
    again = map_archive(f"{s3_server.bucket}/in", out, models[0], segment_s=10)
    assert again.segments_before == 9 and again.timeline_version is None
