"""Batches are filled with windows of many segments, and nobody sees anything of it but the speed."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from slow_encoder import SlowEncoder

from halsted_ray.embedding.batching import BatchedEncoder, EncodingFigures, busy_share, in_all
from halsted_ray.errors import ModelError
from halsted_ray.gpu_waits import sleep_while_waiting
from halsted_ray.profiling import THREAD_PROFILE

FRAMES = np.random.default_rng(0).integers(0, 256, (60, 2, 2, 3), dtype=np.uint8)


def rows_of(count, seed):
    return np.random.default_rng(seed).integers(0, len(FRAMES), (count, SlowEncoder.frames))


@pytest.fixture
def batched(request):
    made = []

    def make(encoder, *arguments, **named):
        made.append(BatchedEncoder(encoder, *arguments, **named))
        return made[-1]

    yield make
    for encoder in made:
        encoder.close()


def test_a_window_gets_the_vector_that_it_gets_alone(batched):
    slow = SlowEncoder(0.0005)
    encoder = batched(slow, callers=8, patience_s=0.02)
    asked = [rows_of(1 + seed % 27, seed) for seed in range(200)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda rows: encoder.encode_frames(FRAMES, rows), asked))
    for rows, vectors in zip(asked, found, strict=True):
        assert np.array_equal(vectors, slow.encode(FRAMES[rows]))
    assert encoder.figures.clips == sum(map(len, asked))
    assert encoder.figures.computed == 8 * len(slow.batches)


def test_a_busy_encoder_computes_full_batches_without_a_pause(batched):
    """Segments as a run has them: two coarse windows, and then fine windows where they ask for them."""
    slow = SlowEncoder(0.02)
    encoder = batched(slow, callers=8)

    def segment(number):
        encoder.encode_frames(FRAMES, rows_of(2, number))
        encoder.encode_frames(FRAMES, rows_of((24, 12, 0, 24)[number % 4] or 1, number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(segment, range(80)))
    figures = encoder.figures
    assert figures.useful_share >= 0.97, figures
    assert busy_share([figures]) >= 0.8, figures  # 0.95 to 0.98 on a quiet machine


def test_a_batch_that_nothing_can_fill_does_not_wait(batched):
    encoder = batched(SlowEncoder(), callers=2, patience_s=30.0)
    started_s = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda seed: encoder.encode_frames(FRAMES, rows_of(1, seed)), range(2)))
    assert time.monotonic() - started_s < 25
    assert encoder.figures.computed == 8 and encoder.figures.clips == 2


def test_an_idle_device_waits_no_longer_than_its_patience(batched):
    encoder = batched(SlowEncoder(), callers=8, patience_s=0.2)
    started_s = time.monotonic()
    encoder.encode_frames(FRAMES, rows_of(9, 0))
    assert 0.2 <= time.monotonic() - started_s < 60
    assert encoder.figures.computed == 16


def test_seconds_of_the_device_are_shared_out_among_the_calls(batched):
    encoder = batched(SlowEncoder(0.05), callers=4)

    def spend(seed):
        before = THREAD_PROFILE.copy()
        encoder.encode_frames(FRAMES, rows_of(4, seed))
        return THREAD_PROFILE - before

    with ThreadPoolExecutor(4) as pool:
        spent = list(pool.map(spend, range(8)))
    encode_s = sum(profile.wall_s["encode"] for profile in spent)
    assert encode_s == pytest.approx(encoder.figures.busy_s)
    assert all(profile.wall_s["queue"] >= 0 for profile in spent)


def test_a_fault_of_the_device_reaches_the_calls_that_it_met_and_no_other(batched):
    slow = SlowEncoder()
    encoder = batched(slow)
    slow.fault = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(ModelError, match="the device that encodes failed: RuntimeError: CUDA error"):
        encoder.encode_frames(FRAMES, rows_of(20, 0))
    slow.fault = None
    assert len(encoder.encode_frames(FRAMES, rows_of(20, 0))) == 20


def test_a_vector_that_is_no_number_is_refused(batched):
    slow = SlowEncoder()
    slow.vectors = lambda pixels_NP: SlowEncoder.vectors(pixels_NP) * 1e9
    with pytest.raises(ModelError, match="outside float16's range"):
        batched(slow).encode_frames(FRAMES, rows_of(8, 0))


def test_a_call_that_waits_is_told_that_the_encoder_was_closed():
    encoder = BatchedEncoder(SlowEncoder(0.2), callers=3, patience_s=60)
    raised = []

    def call():
        with pytest.raises(ModelError, match="closed") as caught:
            encoder.encode_frames(FRAMES, rows_of(1, 0))
        raised.append(caught.value)

    thread = threading.Thread(target=call)
    thread.start()
    while not encoder._queue:
        time.sleep(0.01)
    encoder.close()
    thread.join(10)
    assert raised
    with pytest.raises(ModelError, match="is closed"):
        encoder.encode_frames(FRAMES, rows_of(1, 0))


def test_where_a_batch_is_one_window_the_call_encodes_by_itself(batched):
    slow = SlowEncoder(micro_batch=1)
    encoder = batched(slow, callers=8)
    rows = rows_of(5, 0)
    assert np.array_equal(encoder.encode_frames(FRAMES, rows), slow.encode(FRAMES[rows]))
    assert not slow.batches and encoder.figures.useful_share == 1


def test_figures_of_several_encoders_add_up():
    one = EncodingFigures(90, 100, 9.0, loaded_at=1.0, began_at=10.0, first_at=11.0, last_at=20.0)
    two = EncodingFigures(10, 20, 3.0, loaded_at=2.0, began_at=12.0, first_at=13.0, last_at=22.0)
    idle = EncodingFigures(loaded_at=3.0)
    both = in_all([one, two, idle])
    assert both == EncodingFigures(100, 120, 12.0, 1.0, 10.0, 11.0, 22.0)
    assert both.useful_share == 100 / 120 and busy_share([one, two, idle]) == 12 / 20
    assert in_all([idle]).first_at == 0 == busy_share([idle]) == busy_share([])


class Cuda:
    """Streams and events that do everything at once, and note it."""

    def __init__(self, monkeypatch):
        self.log, cuda = [], self

        class Stream:
            def __init__(self, device=None):
                self.name = ("copying", "computing")[cuda.log.count("stream")]
                cuda.log.append("stream")

            def wait_stream(self, other):
                cuda.log.append(f"{self.name} waits for {other.name}")

        class Event:
            def __init__(self, enable_timing=False, blocking=False):
                self.name = "time" if enable_timing else "blocking" if blocking else "spinning"

            def record(self):
                cuda.log.append(f"{cuda.current}: {self.name}")

            def synchronize(self):
                cuda.log.append(f"host waits, {self.name}")

            def elapsed_time(self, other):
                return 5.0

        @contextmanager
        def stream(chosen):
            self.current = chosen.name
            yield
            self.current = "default"

        for name, fake in (("Stream", Stream), ("Event", Event), ("stream", stream)):
            monkeypatch.setattr(torch.cuda, name, fake)
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)


class OnGpu(SlowEncoder):
    """Says that it is on a GPU, to which ``empty_like`` may not go here."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.device = torch.device("cuda")
        monkeypatch.setattr(torch, "empty_like", lambda tensor, device: torch.empty(tensor.shape, dtype=tensor.dtype))


def test_a_gpu_computes_one_batch_per_lane_before_the_first_windows_and_then_what_is_asked(batched, monkeypatch):
    cuda, slow = Cuda(monkeypatch), OnGpu(monkeypatch)
    encoder = batched(slow, callers=1, patience_s=0.01)
    assert len(slow.batches) == 2 and encoder.figures.computed == 0
    for seed in range(5):
        rows = rows_of(20, seed)
        assert np.array_equal(encoder.encode_frames(FRAMES, rows), slow.encode(FRAMES[rows]))
    assert encoder.figures.clips == 100 and encoder.figures.busy_s == pytest.approx(0.005 * 15)
    assert cuda.log[2:7] == [
        "computing waits for copying",
        "computing: time",
        "computing: time",
        "computing: blocking",
        "host waits, blocking",
    ]


def test_a_gpu_on_which_a_batch_does_not_fit_says_so_when_the_encoder_is_loaded(monkeypatch):
    Cuda(monkeypatch)
    slow = OnGpu(monkeypatch)
    slow.fault = torch.OutOfMemoryError("tried to allocate 90 GiB")
    with pytest.raises(ModelError, match="OutOfMemoryError: tried to allocate"):
        BatchedEncoder(slow)


class Driver:
    """libcuda's functions, of which one may fail."""

    def __init__(self, failing=""):
        self.failing, self.flags = failing, None

    def __getattr__(self, name):
        def call(*arguments):
            if name.endswith("SetFlags_v2"):
                self.flags = arguments[1]
            return 100 if name == self.failing else 0

        return call


def test_threads_that_wait_for_a_gpu_sleep_where_the_driver_can_make_them():
    driver = Driver()
    assert sleep_while_waiting(driver) and driver.flags == 4
    assert not sleep_while_waiting(Driver("cuInit"))
    assert not sleep_while_waiting(object())  # a driver that is older than the function
