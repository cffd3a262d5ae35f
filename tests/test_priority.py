"""Several runs on one cluster: what each may take, who waits, and for how long one waits for a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numbered_video
import pytest
import ray
import torch
from serving import client_of, new_key, open_service, save_model, upload, write_video

import halsted_ray
from halsted_ray.compute import run_cluster
from halsted_ray.compute.cluster import without_monitors
from halsted_ray.compute.low_runs import LowPriorityRun
from halsted_ray.compute.pools import Pools, size_pools
from halsted_ray.compute.priority import (
    LEAST_CPUS,
    Capacity,
    HeldShare,
    announced,
    capacity_for,
    held_by,
    held_by_low_runs,
    must_pause,
    wait_for_capacity,
)
from halsted_ray.compute.progress import RunObserver
from halsted_ray.compute.resources import ResourceRequest
from halsted_ray.compute.run_cluster import RunCluster
from halsted_ray.embedding.batching import EncodingFigures
from halsted_ray.embedding.decode_stage import DecodeOptions
from halsted_ray.errors import ResourceError, UsageError
from halsted_ray.mapping import pipeline
from halsted_ray.mapping.outcomes import OutcomeTally, SegmentOutcome
from halsted_ray.mapping.pipeline import finish_segments, map_archive
from halsted_ray.mapping.tag_stage import TagOptions
from halsted_ray.mapping.work_list import Cutter, PendingVideo, Waiting, WorkList
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.profiling import StageProfile
from halsted_ray.records import Video, WindowSpec
from halsted_ray.service.job_worker import JobWorker


@pytest.mark.parametrize("cpus", [6, 16, 64])
@pytest.mark.parametrize("gpus", [0, 4])
def test_a_low_run_leaves_enough_for_a_high_one(cpus, gpus):
    total = {"CPU": cpus, "GPU": gpus}
    low = capacity_for("low", total, total)
    pools = size_pools(low.cpus, low.gpus, low.cores, 1000, gpu_share=low.gpu_share)
    free = {
        "CPU": cpus - pools.decoders.actors * pools.decoders.cpus - pools.encoders.actors * pools.encoders.cpus,
        "GPU": gpus - pools.encoders.actors * pools.encoders.gpus,
    }
    high = capacity_for("high", free, total)
    found = size_pools(high.cpus, high.gpus, high.cores, 60, gpu_share=high.gpu_share)
    assert found.encoders.actors * found.encoders.gpus <= free["GPU"] and (not gpus or found.encoders.gpus)
    assert found.decoders.actors >= min(cpus // 2 - 2, 60), "most of the cores, that others leave idle"
    assert capacity_for("normal", total, total) == Capacity(cpus, gpus, cpus - 2)


@pytest.mark.parametrize("cpus", [6, 16, 64])
@pytest.mark.parametrize("gpus", [0, 4])
@pytest.mark.parametrize("segments", [2, 1000])
def test_any_number_of_low_runs_leave_enough_for_a_high_one(cpus, gpus, segments):
    total = {"CPU": cpus, "GPU": gpus}
    low = [HeldShare()]
    while True:
        held = HeldShare(sum(share.cpus for share in low), sum(share.gpus for share in low))
        free = {"CPU": cpus - held.cpus, "GPU": gpus - held.gpus * 0.75}
        found = capacity_for("low", free, total, held)
        if found.cpus < LEAST_CPUS:
            break
        pools = size_pools(found.cpus, found.gpus, found.cores, segments, gpu_share=found.gpu_share)
        low.append(held_by(pools))
    assert len(low) >= (2 if segments == 1000 or cpus < 16 else 4), "a small run leaves room for others"
    assert held.gpus <= gpus, "no two of them share a GPU"
    high = capacity_for("high", free, total, held)
    found = size_pools(high.cpus, high.gpus, high.cores, 60, gpu_share=high.gpu_share)
    assert found.encoders.actors * found.encoders.gpus <= free["GPU"]
    assert found.decoders.actors >= min(cpus // 2 - 2, 60), "most of the cores, that others leave idle"


def test_what_low_runs_leave_of_their_gpus_is_no_whole_gpu_to_anybody():
    total, low = {"CPU": 64.0, "GPU": 8.0}, HeldShare(20.0, 4)
    assert capacity_for("normal", {"CPU": 44.0, "GPU": 5.0}, total, low).gpus == 4
    assert capacity_for("normal", {"CPU": 44.0, "GPU": 1.0}, total, low).gpus == 0
    assert capacity_for("low", {"CPU": 44.0, "GPU": 5.0}, total, low).gpus == 4
    assert capacity_for("low", {"CPU": 44.0, "GPU": 1.0}, total, low).gpus == 0
    assert capacity_for("high", {"CPU": 44.0, "GPU": 1.0}, total, low).gpus == 4


def test_a_high_run_alone_takes_no_more_actors_than_there_are_cores():
    total = {"CPU": 16.0, "GPU": 2.0}
    high = capacity_for("high", total, total)
    found = size_pools(high.cpus, high.gpus, high.cores, 1000, gpu_share=high.gpu_share)
    assert found.decoders.actors + found.encoders.actors == 14 and found.encoders.actors == 2


def test_an_unknown_priority_is_named(tmp_path):
    with pytest.raises(UsageError, match="'urgent'.*low, normal, high"):
        map_archive(str(tmp_path), str(tmp_path / "out"), "nowhere", resources=ResourceRequest(priority="urgent"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"decoders": 0},
        {"encoders": -1},
        {"batch_segments": 0},
        {"decoder_memory_mb": 0},
        {"wait_for": (-1, 0)},
        {"reader": "magic"},
    ],
)
def test_workers_that_can_not_be_had_are_named(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        ResourceRequest(**wrong)


@pytest.fixture(scope="module")
def cluster():
    """A head without a CPU, as KubeRay's: workers come when the tests let them."""
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ["OMP_NUM_THREADS"] = "1"
    with without_monitors():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 200 * 2**20})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_a_job_that_waits_says_so_and_can_be_cancelled(cluster, tmp_path):
    torch.set_num_threads(1)
    service = open_service(tmp_path, save_model(tmp_path / "model", 0))
    mapper = JobWorker(service.jobs, service.videos, service.uploads, service.model_source)
    with client_of(service, new_key(service)) as client, ThreadPoolExecutor(1) as pool:
        video_id = upload(client, write_video(tmp_path / "short.mp4", 12.0))["video_id"]
        job = client.post(f"/v1/videos/{video_id}/maps", json={"task": "macro"}).json()
        working = pool.submit(mapper.work_once)
        while not job["reason"] and not working.done():
            time.sleep(0.05)
            job = client.get(f"/v1/jobs/{job['job_id']}").json()
        assert job["state"] == "running" and job["reason"].startswith("waiting: 0 of the 0 logical CPUs")
        client.post(f"/v1/jobs/{job['job_id']}/cancel").raise_for_status()
        assert working.result(180)
        assert client.get(f"/v1/jobs/{job['job_id']}").json()["state"] == "cancelled"


def test_workers_on_their_way_are_waited_for(cluster, monkeypatch):
    said, asked = [], []
    with (
        monkeypatch.context() as patch,
        pytest.raises(ResourceError, match="0 of the 0 logical CPUs.*not within 1 s.*let its workers start"),
    ):
        patch.setattr("ray.autoscaler.sdk.request_resources", lambda bundles: asked.append(len(bundles)))
        wait_for_capacity("normal", said.append, wait_s=1.0)
    assert said and said[0].startswith("0 of the 0 logical CPUs")
    assert asked == [4, 0], "who gives up no longer asks a cluster to grow"
    with ThreadPoolExecutor(1) as pool:
        told = len(said)
        waiting = pool.submit(wait_for_capacity, "normal", said.append, 120.0)
        while len(said) == told:
            time.sleep(0.05)
        cluster.add_node(num_cpus=8, object_store_memory=400 * 2**20)
        assert waiting.result() == Capacity(8.0, 0, 6)


def test_a_run_that_ended_makes_nobody_wait(cluster):
    assert not must_pause()
    with announced("low"), announced("normal"):
        assert not must_pause()
    with announced("high"):
        assert must_pause()
    until_s = time.monotonic() + 180
    while must_pause() and time.monotonic() < until_s:
        time.sleep(0.1)
    assert not must_pause()


def small_pools(room: Capacity) -> Pools:
    """Of a run of two segments."""
    return size_pools(room.cpus, room.gpus, room.cores, 2, gpu_share=room.gpu_share)


@pytest.fixture
def eight_cpus(cluster):
    """The cluster with at least one worker of eight CPUs."""
    if ray.cluster_resources().get("CPU", 0) < 8:
        cluster.add_node(num_cpus=8, object_store_memory=400 * 2**20)
        wait_until(lambda: ray.cluster_resources().get("CPU", 0) >= 8)
    return ray.cluster_resources()["CPU"]


def test_a_gpu_that_torch_does_not_see_is_not_planned_with(monkeypatch):
    """Ray counts the cards of a machine, and torch may be built for CPUs."""

    @contextmanager
    def alone(*_):
        yield 6.0, 2.0, 4

    said = []
    monkeypatch.setattr(run_cluster, "connected", alone)
    monkeypatch.setattr(run_cluster, "is_attached", lambda: False)
    monkeypatch.setattr(run_cluster, "nvdec_sessions", lambda reader: 0)

    class Recorder(RunObserver):
        def on_message(self, message: str) -> None:
            said.append(message)

    for usable, device in ((0, "cpu"), (2, "cuda")):
        monkeypatch.setattr(run_cluster, "cluster_gpus", lambda usable=usable: usable)
        with RunCluster(ResourceRequest(), Recorder()) as run:
            assert run.size_pools(100).device == device
    assert [message for message in said if "torch sees none" in message] == said[:1]


def test_low_runs_that_start_in_one_moment_leave_the_room_together(eight_cpus):
    start, ends = threading.Barrier(3), [threading.Event() for _ in range(3)]
    held_of: dict[int, HeldShare] = {}
    said = []

    def run(number: int) -> None:
        with LowPriorityRun() as low:
            start.wait()
            held_of[number] = held_by(low.claim(small_pools, said.append)[1])
            ends[number].wait()

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(run, number) for number in range(3)]

        def until(condition: Callable[[], object]) -> None:
            wait_until(lambda: condition() or any(task.done() and task.result() for task in running))

        try:
            until(lambda: len(held_of) == 2 and said and "; other runs of priority low hold " in said[-1])
            assert held_by_low_runs() == HeldShare(sum(share.cpus for share in held_of.values()), 0)
            assert held_by_low_runs().cpus <= eight_cpus - max(LEAST_CPUS, eight_cpus / 4)
            first = max(held_of, key=lambda number: held_of[number].cpus)
            ends[first].set()
            until(lambda: len(held_of) == 3)
        finally:
            start.abort()
            for end in ends:
                end.set()
        for task in running:
            task.result(180)
    wait_until(lambda: held_by_low_runs() == HeldShare())


TAKES_THE_TURN = """
import sys, time, ray
from halsted_ray.compute.low_runs import taking_turns
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
with taking_turns(lambda message: None):
    print("mine", flush=True)
    time.sleep(3600)
"""


def test_a_run_that_is_killed_while_it_claims_keeps_nobody_waiting(cluster, eight_cpus):
    said = []
    words = [sys.executable, "-c", TAKES_THE_TURN, cluster.address]
    environment = {**os.environ, "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1])}
    with (
        subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as other,
        LowPriorityRun() as low,
        ThreadPoolExecutor(1) as pool,
    ):
        try:
            assert other.stdout.readline() == "mine\n"
            claiming = pool.submit(low.claim, small_pools, said.append)
            wait_until(lambda: said or claiming.done())
            assert not claiming.done() and said[0] == "another run of priority low is taking its share of the cluster"
        finally:
            other.kill()
        assert claiming.result(180)[0].cpus >= LEAST_CPUS
    wait_until(lambda: held_by_low_runs() == HeldShare())


def test_a_wave_of_a_low_run_takes_what_other_low_runs_leave(eight_cpus, monkeypatch):
    monkeypatch.setattr(run_cluster, "ACTORS_END_S", 0.0)

    class Waits(Exception):
        pass

    class Impatient(RunObserver):
        def on_wait(self, message: str) -> None:
            raise Waits(message)

    low = ResourceRequest(priority="low")
    with RunCluster(low, Impatient()) as mine, RunCluster(low, Impatient()) as other:
        for _ in range(2):  # its second wave takes the place of the first
            pools = mine.size_pools(1000)
            wait_until(lambda pools=pools: held_by_low_runs() == held_by(pools))
        with pytest.raises(Waits, match=f"other runs of priority low hold {held_by(pools).cpus:g}"):
            other.size_pools(1000)
    wait_until(lambda: held_by_low_runs() == HeldShare())


class GivesUp(RunObserver):
    def __init__(self) -> None:
        self.was_told = threading.Event()

    def on_wait(self, message: str) -> None:
        self.was_told.set()
        raise ResourceError("given up")


def test_the_observer_is_told_that_the_run_waits_for_machines(eight_cpus, monkeypatch):
    monkeypatch.setattr("halsted_ray.compute.cluster.WORKERS_WITHIN_S", 1.5)
    waits, messages = [], []

    class Recorder(RunObserver):
        def on_wait(self, message: str) -> None:
            waits.append(message)

        def on_message(self, message: str) -> None:
            messages.append(message)

    too_many = ResourceRequest(wait_for=(1000, 1))
    with RunCluster(too_many, Recorder()) as run:
        run.size_pools(2)
    asked = "the 1000 CPUs and 1 GPUs that were asked for"
    assert f"the cluster has {eight_cpus:g} CPUs and 0 GPUs of {asked}" in waits[0]
    assert f"after 2 s, not {asked}" in messages[0]
    with RunCluster(too_many, GivesUp()) as run, pytest.raises(ResourceError, match="given up"):
        run.size_pools(2)


def test_the_observer_is_told_that_a_run_pauses_for_a_run_of_priority_high(eight_cpus, tmp_path, monkeypatch):
    """The actors pause between segments, so no outcome comes that could tell."""
    waits, was_told = [], threading.Event()

    class Recorder(RunObserver):
        def on_wait(self, message: str) -> None:
            waits.append(message)
            was_told.set()

    video = Video("video", "/archive/video.mp4", 1, 30.0, 112, 112, 10.0, "h264")
    work = WorkList(Cutter(WindowSpec(), 30.0, "recipe"), [PendingVideo(video, [0])], 1, 1, 1, 30.0, 30.0)
    outcome = SegmentOutcome("segment", "video", 0.0, 30.0, "done", "", StageProfile(), [], "actor", EncodingFigures())

    decoding = DecodeOptions(str(tmp_path), "recipe", WindowSpec(), (112, 112))
    tagging = TagOptions(
        *(
            str(tmp_path),
            "recipe",
            "run",
            str(tmp_path),
            "encoder",
            "fp32",
            "sampling",
            "model",
            "encoder",
            "digest",
            ("macro",),
        )
    )

    def map_on_shared_cluster(observer: RunObserver, was_told: threading.Event) -> None:
        def stream(segments: Waiting, *_):
            if segments:
                assert was_told.wait(180), "nothing was said"
                yield outcome

        monkeypatch.setattr(pipeline, "stream_outcomes", stream)
        cluster = RunCluster(ResourceRequest(), observer)
        cluster.is_shared = True
        monkeypatch.setattr(cluster, "size_pools", lambda segments: None)
        tally = OutcomeTally(30.0, 0.0, observer)
        finish_segments(work.all_waiting, tagging, decoding, cluster, tally)

    with announced("high"):
        map_on_shared_cluster(Recorder(), was_told)
    assert "a run of priority high is at work" in waits[0]
    wait_until(lambda: not must_pause())
    waits_before = len(waits)
    map_on_shared_cluster(Recorder(), was_told)
    assert len(waits) == waits_before, "it no longer pauses"

    impatient = GivesUp()
    with announced("high"), pytest.raises(ResourceError, match="given up"):
        map_on_shared_cluster(impatient, impatient.was_told)


def wait_until(condition: Callable[[], object], within_s: float = 180.0) -> None:
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s, f"not within {within_s:.0f} s"
        time.sleep(0.05)


ARCHIVE_RUN = """
import sys
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.compute.resources import ResourceRequest
map_archive(*sys.argv[1:], segment_s=10, resources=ResourceRequest(priority="low", decoders=2, encoders=1))
"""


@pytest.mark.slow
def test_an_upload_beside_an_archive_takes_at_most_three_times_its_time_alone(cluster, tmp_path):
    torch.set_num_threads(1)
    encoder = Encoder.create("tiny", 0)
    model = Halsted.create(
        None,
        encoder.dim,
        encoder_ref=encoder.ref,
        encoder_fingerprint=encoder.fingerprint,
        heads=4,
        width=64,
        windows=WindowSpec(coarse_s=10, fine_s=2.5),
        seed=0,
    )
    model.save(str(tmp_path / "model"))
    for name, count in (("upload", 1), ("archive", 100)):
        (tmp_path / name).mkdir()
        recipe = numbered_video.Recipe(frames=600, rate=10, gop=40, size=(90, 160))
        whole = numbered_video.write(tmp_path / name / "0.mp4", recipe).path.read_bytes()
        for n in range(1, count):  # a box that players skip: another video by its content
            (tmp_path / name / f"{n}.mp4").write_bytes(whole + (24).to_bytes(4, "big") + b"free" + b"%016d" % n)

    def upload(out: str) -> float:
        started_s = time.monotonic()
        summary = map_archive(
            str(tmp_path / "upload"),
            str(tmp_path / out),
            str(tmp_path / "model"),
            segment_s=10,
            resources=ResourceRequest(priority="high", decoders=1, encoders=1),
        )
        assert summary.exit_code == 0 and summary.segments_decoded == 6
        return time.monotonic() - started_s

    def staged() -> int:
        return len(list(tmp_path.glob("maps/staging/*/*/*.json")))

    alone_s = upload("alone")
    environment = {
        **os.environ,
        "RAY_ADDRESS": cluster.address,
        "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1]),
    }
    run = subprocess.Popen(
        [sys.executable, "-c", ARCHIVE_RUN, *(str(tmp_path / name) for name in ("archive", "maps", "model"))],
        env=environment,
    )
    try:
        until_s = time.monotonic() + 120
        while not staged():
            assert run.poll() is None and time.monotonic() < until_s, "the archive's run did not start"
            time.sleep(0.05)
        beside_s = upload("beside")
        assert run.poll() is None and staged() < 500, "the archive's run did not make way"
        print(f"alone {alone_s:.1f} s, beside an archive {beside_s:.1f} s")
        assert beside_s <= 3 * alone_s
        before, until_s = staged(), time.monotonic() + 180
        while staged() <= before:
            assert time.monotonic() < until_s, "the archive's run did not go on"
            time.sleep(0.1)
    finally:
        run.kill()
        run.wait()
