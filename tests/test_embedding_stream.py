"""Segments stream through decoding cores and an encoder that takes its time like a GPU: full batches, overlap, actors
that die, machines that come and go."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from slow_decoding import SPEC, RefusingStage, SlowDecodeOptions, SlowDecodeStage, segments
from slow_encoder import SlowEncoder
from slow_stages import SlowEmbedOptions, SlowEmbedStage, expected

from halsted_ray.compute.cluster import without_monitors
from halsted_ray.compute.pools import ActorPool, size_pools
from halsted_ray.embedding.batching import EncodingFigures, EncodingSummary
from halsted_ray.embedding.embed import EmbeddedSegment, read_embedded
from halsted_ray.embedding.embed_stage import wanted_windows, window_key
from halsted_ray.embedding.segments import ListedSegments
from halsted_ray.embedding.streaming import Stage, stream
from halsted_ray.errors import ModelError
from halsted_ray.records import Segment
from halsted_ray.storage.vectors import VectorStore

BATCH_S = 0.05
ENCODER = ActorPool(1, 0.5, calls=8)


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    os.environ["RAY_worker_niceness"] = "0"
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *([before] if before else [])])
    with without_monitors():
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 6, "object_store_memory": 200 * 2**20})
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


class Run:
    """One run over ``count`` segments; ``rows`` is what came of it."""

    def __init__(
        self, place: Path, count: int, decoders: ActorPool, encoders: ActorPool, decode_s: float, **decoding: float
    ):
        self.seen, self.segments = place / "seen", segments(count)
        self.seen.mkdir()
        self.store = VectorStore(str(place / "vectors"), "slow", "x")
        decoding = SlowDecodeOptions(
            None, "", SPEC, SlowEncoder.image_size, decode_s=decode_s, seen=str(self.seen), **decoding
        )
        embedding = SlowEmbedOptions(
            "slow",
            "slow",
            "slow",
            SPEC,
            self.store.location,
            "x",
            callers=encoders.calls,
            batch_s=BATCH_S,
            seen=str(self.seen),
        )
        self.stages = [Stage(SlowDecodeStage, decoding, decoders), Stage(SlowEmbedStage, embedding, encoders)]
        self.rows: list[EmbeddedSegment] = []

    def go(self, on_row: Callable[[int], None] = lambda count: None) -> Run:
        with closing(stream(ListedSegments(self.segments), self.stages)) as tables:
            for table in tables:
                self.rows += read_embedded(table)
                on_row(len(self.rows))
        return self

    def actors(self, stage: str) -> list[int]:
        return [int(path.name.split("-")[1]) for path in self.seen.glob(f"{stage}-*")]

    @property
    def encoding(self) -> EncodingSummary:
        last: dict[str, EncodingFigures] = {}
        for row in self.rows:
            if row.actor not in last or last[row.actor].last_at <= row.figures.last_at:
                last[row.actor] = row.figures
        return EncodingSummary.of(list(last.values()))

    def check_everything_is_stored_once(self) -> None:
        assert sorted(row.segment_id for row in self.rows) == sorted(s.segment_id for s in self.segments)
        for segment in self.segments:
            stored = self.store.get(segment.video_id, segment.start_s, segment.stop_s)
            windows = wanted_windows(replace(segment, windows=None), SPEC)
            assert set(stored) == set(map(window_key, windows))
            assert all((stored[window_key(window)] == expected(window)).all() for window in windows)


def test_a_slow_device_gets_full_batches_while_others_are_decoded(cluster, tmp_path):
    with warnings.catch_warnings(record=True) as heard:
        run = Run(tmp_path, 60, ActorPool(2, 0.5), ENCODER, decode_s=0.02).go()
    assert not [said for said in heard if "deprecated" in str(said.message)], "a terminal shows none of Ray's"
    run.check_everything_is_stored_once()
    encoding = run.encoding
    assert encoding.clips == 60 * 15 and encoding.actors == 1
    assert encoding.useful_share >= 0.97, encoding
    assert encoding.busy_share >= 0.7, encoding  # 0.98 on a quiet machine
    assert sum(row.profile.wall_s["queue"] for row in run.rows) > 0, "several segments are in the encoder's hands"


@pytest.fixture(scope="module")
def with_kills(cluster, tmp_path_factory):
    """A run one of whose decoders was killed, and later its encoder. Decoding waits for the next decoder, so that it
    is not over before the kill."""
    place = tmp_path_factory.mktemp("kills")
    run = Run(place, 50, ActorPool(2, 0.5), ENCODER, decode_s=0.05, least_actors=3, free_segments=20)

    def kill(count: int) -> None:
        if count in (8, 30):
            os.kill(run.actors("decode" if count == 8 else "embed")[0], signal.SIGKILL)

    return run.go(kill)


def test_a_killed_encoder_costs_no_segment_and_none_comes_twice(with_kills):
    with_kills.check_everything_is_stored_once()
    assert len(with_kills.actors("embed")) == 2


def test_a_killed_decoder_costs_no_segment_and_none_comes_twice(with_kills):
    with_kills.check_everything_is_stored_once()
    assert len(with_kills.actors("decode")) == 3


def test_pools_grow_when_a_machine_comes_and_go_on_when_it_goes(cluster, tmp_path):
    """Decoding is the slow part, so more actors decode on the new machine; then it is gone."""
    run = Run(tmp_path, 160, ActorPool(2, 1.0, most=6), ENCODER, decode_s=0.4, least_actors=4, free_segments=100)
    added = []

    def come_and_go(count: int) -> None:
        if count == 6:
            added.append(cluster.add_node(num_cpus=4, object_store_memory=100 * 2**20))
        if added and len(run.actors("decode")) > 3 and count > 60:
            cluster.remove_node(added.pop(), allow_graceful=False)

    run.go(come_and_go).check_everything_is_stored_once()
    assert len(run.actors("decode")) > 3 and not added


def test_no_segment_waits_at_a_slow_decoder_while_a_fast_one_has_nothing_to_do(cluster, tmp_path):
    """One actor decodes on a core. While it decodes its first segment, the actor on NVDEC decodes all others: a segment
    that waited at the slow actor meanwhile would be missing there."""
    pools = size_pools(6, 0, 2, 12, decoders=2, encoders=1, nvdec_sessions=1)
    run = Run(tmp_path, 12, replace(pools.decoders, cpus=0.5), ENCODER, decode_s=0.0, fast_segments=11).go()
    run.check_everything_is_stored_once()
    assert (len(list(run.seen.glob("slow-*"))), len(list(run.seen.glob("fast-*")))) == (1, 11)


@pytest.mark.parametrize("number", [0, 1])
def test_a_stage_that_can_not_load_ends_the_run_with_its_reason(cluster, tmp_path, number):
    run = Run(tmp_path, 12, ActorPool(1, 0.5), ENCODER, decode_s=0.0)
    run.stages[number] = replace(run.stages[number], kind=RefusingStage)
    with pytest.raises(ModelError, match="the weights are not the stated ones"):
        run.go()


def test_segments_are_read_when_they_are_wanted(cluster, tmp_path):
    """The source is not read to its end while the stages have enough to do."""

    class Counted:
        def __init__(self, made: list[Segment], marks: Path):
            self.made, self.marks = made, marks

        def __len__(self):
            return len(self.made)

        def parts(self, size):
            return [self]

        def __iter__(self):
            for segment in self.made:
                with open(self.marks, "a") as marks:
                    marks.write(".")
                yield segment

    run = Run(tmp_path, 120, ActorPool(1, 0.5), ENCODER, decode_s=0.1)
    counted = Counted(run.segments, tmp_path / "read")
    most_ahead = []
    with closing(stream(counted, run.stages)) as tables:
        for table in tables:
            run.rows += read_embedded(table)
            most_ahead.append((tmp_path / "read").stat().st_size - len(run.rows))
    assert len(run.rows) == 120 and max(most_ahead) < 90, most_ahead


def test_a_stream_that_is_left_ends_its_actors(cluster, tmp_path):
    run = Run(tmp_path, 200, ActorPool(2, 0.5), ENCODER, decode_s=0.05)

    class Enough(Exception):
        pass

    def stop(count: int) -> None:
        if count == 5:
            raise Enough

    with pytest.raises(Enough):
        run.go(stop)
    until_s = time.monotonic() + 180
    while any(map(is_alive, run.actors("decode") + run.actors("embed"))) and time.monotonic() < until_s:
        time.sleep(0.1)
    assert not any(map(is_alive, run.actors("decode") + run.actors("embed")))


def is_alive(pid: int) -> bool:
    """Whether a process still runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
