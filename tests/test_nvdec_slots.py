"""Slots of NVDEC: shared by processes through locks, free again after a kill; who waits for one, and who decodes."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from halsted_ray.embedding import decode_stage
from halsted_ray.errors import DecoderKilled
from halsted_ray.records import Segment, WindowSpec
from halsted_ray.video import hybrid_process
from halsted_ray.video.decoder_tally import CPU, NVDEC, DecoderTally
from halsted_ray.video.frames import Frames
from halsted_ray.video.hybrid_process import HybridProcess, worth_waiting
from halsted_ray.video.nvdec_slots import ALLOWED, Gpu, NvdecSlots, RunCount, gpus_here

HOLDER = """
import sys, time
from halsted_ray.video.nvdec_slots import Gpu, NvdecSlots
slots = NvdecSlots([Gpu("0", 2)], sys.argv[1])
held = [slots.take() for _ in range(int(sys.argv[2]))]
print(sum(slot is not None for slot in held), flush=True)
time.sleep(60)
"""


def hold(folder, count):
    """A process that takes slots and waits; and how many it got."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(count)], stdout=subprocess.PIPE, text=True
    )
    return process, int(process.stdout.readline())


def test_a_slot_is_held_by_one_process_and_a_killed_process_frees_it(tmp_path):
    slots = NvdecSlots([Gpu("0", 2)], tmp_path)
    first, got = hold(tmp_path, 1)
    second, also = hold(tmp_path, 2)
    try:
        assert (got, also) == (1, 1) and slots.take() is None
        os.kill(first.pid, signal.SIGKILL)
        first.wait(timeout=10)
        slot = slots.take()
        assert slot is not None and slots.take() is None
        slot.release()
        assert slots.take() is not None
    finally:
        for process in (first, second):
            process.kill()
            process.wait(timeout=10)
            process.stdout.close()


def test_slots_spread_over_the_gpus(tmp_path):
    slots = NvdecSlots([Gpu("a", 2), Gpu("b", 1)], tmp_path)
    assert [slots.take().gpu for _ in range(3)] == ["a", "b", "a"] and len(slots) == 3


def test_a_child_of_a_holder_does_not_keep_the_slot(tmp_path):
    slots = NvdecSlots([Gpu("0", 1)], tmp_path)
    slot = slots.take()
    child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        slot.release()
        assert slots.take() is not None
    finally:
        child.kill()
        child.wait(timeout=10)


@pytest.mark.parametrize(
    "model, sessions",
    [
        ("NVIDIA H100 80GB HBM3", 7),
        ("NVIDIA L40S", 3),
        ("NVIDIA L4", 4),
        ("Tesla T4", 2),
        ("NVIDIA A100-SXM4-80GB", 5),
        ("NVIDIA RTX 6000 Ada Generation", 3),
        ("NVIDIA RTX A4000", 1),
        ("Something new", 1),
    ],
)
def test_a_chip_has_as_many_slots_as_engines(tmp_path, monkeypatch, model, sessions):
    monkeypatch.delenv(ALLOWED, raising=False)
    place = tmp_path / "0000:17:00.0"
    place.mkdir()
    (place / "information").write_text(f"Model: \t\t {model}\nIRQ: 1\nGPU UUID: \t GPU-0a1b-22\nDevice Minor: 0\n")
    (tmp_path / "nvidia0").touch()
    assert gpus_here(tmp_path, tmp_path) == [Gpu("GPU-0a1b-22", sessions)]
    monkeypatch.setenv(ALLOWED, "0")
    assert len(gpus_here(tmp_path, tmp_path)) == 1
    monkeypatch.setenv(ALLOWED, "")
    assert gpus_here(tmp_path, tmp_path) == []


def test_a_gpu_of_the_host_whose_device_is_not_in_the_container_has_no_slots(tmp_path, monkeypatch):
    monkeypatch.delenv(ALLOWED, raising=False)
    for number, uuid in enumerate(("GPU-aa", "GPU-??", "GPU-cc")):
        place = tmp_path / f"0000:{number}b:00.0"
        place.mkdir()
        (place / "information").write_text(f"Model: \t NVIDIA L4\nGPU UUID: {uuid}\nDevice Minor: \t {number}\n")
    for name in ("nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpus_here(tmp_path, tmp_path) == [Gpu("0", 4)]  # the first that this container sees
    (tmp_path / "nvidia2").touch()
    assert gpus_here(tmp_path, tmp_path) == [Gpu("0", 4), Gpu("GPU-cc", 4)]


def test_where_the_driver_keeps_no_list_its_program_tells_of_the_gpus(tmp_path, monkeypatch):
    monkeypatch.delenv(ALLOWED, raising=False)
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n[ \"$1\" = --query-gpu=uuid,name ] && echo 'GPU-0a-1b, NVIDIA H100 80GB HBM3'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    assert gpus_here(tmp_path / "nothing", tmp_path) == []  # and is not asked where there is no device
    (tmp_path / "nvidia0").touch()
    assert gpus_here(tmp_path / "nothing", tmp_path) == [Gpu("GPU-0a-1b", 7)]
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert gpus_here(tmp_path / "nothing", tmp_path) == []


def test_a_machine_without_the_driver_has_no_slots(tmp_path):
    assert (
        gpus_here(tmp_path / "nothing", tmp_path / "nothing") == [] and NvdecSlots([], tmp_path / "new").take() is None
    )
    assert not (tmp_path / "new").exists()


def test_the_machine_knows_the_rate_of_all_sessions_and_what_of_a_run_is_left(tmp_path):
    slots = NvdecSlots([Gpu("0", 3)], tmp_path)
    assert slots.rate() == 0.0
    slots.take().note_rate(100.0)
    slots.take().note_rate(200.0)
    assert slots.rate() == pytest.approx(450.0)  # the third counts as the mean of the others
    counts = [RunCount(tmp_path, "r", 5) for _ in range(2)]
    for count in counts * 2:
        count.begin()
    assert [count.waiting() for count in counts] == [1, 1]
    assert RunCount(tmp_path, "another", 5).waiting() == 5


def test_a_core_takes_no_segment_that_nvdec_alone_would_finish_sooner():
    assert worth_waiting(100, waiting_frames=0, core_rate=10, nvdec_rate=1000)
    assert worth_waiting(100, waiting_frames=800, core_rate=10, nvdec_rate=1000)
    assert not worth_waiting(100, waiting_frames=10_000, core_rate=10, nvdec_rate=1000)  # segments enough for both
    assert not worth_waiting(100, waiting_frames=0, core_rate=10, nvdec_rate=5)
    assert not worth_waiting(100, 0, 0, 1000) and not worth_waiting(100, 0, 10, 0)  # nothing is measured yet


class Clock:
    """A clock that stands still but for what decoding and waiting take."""

    def __init__(self):
        self.now_s = 0.0
        self.on_sleep = lambda: None

    def __call__(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds
        self.on_sleep()


class Process:
    """A decoding process that takes 10 s on a core and 0.1 s on a GPU."""

    def __init__(self, clock, made, memory_mb, gpu=None):
        self.clock, self.gpu, self.starts, self.fallback, self.closed = clock, gpu, 1, "", False
        self.fails = None
        made.append(self)

    def read_frames(self, location, times_s, size, fidelity, reader, eye, *, deadline_s, packet_index):
        assert reader == ("pyav" if self.gpu is None else "nvdec")
        self.clock.now_s += 10.0 if self.gpu is None else 0.1
        if self.fails:
            raise self.fails
        return Frames(np.zeros((len(times_s), 2, 2, 3), np.uint8), np.asarray(times_s, np.float64))

    def close(self):
        self.closed = True


class Actor:
    def __init__(self, tmp_path, waiting=0, segments=1000, **options):
        self.clock, self.made = Clock(), []
        self.slots = NvdecSlots([Gpu("0", 1)], tmp_path)
        self.process = HybridProcess(
            1024,
            self.slots,
            RunCount(tmp_path, "run", segments),
            process=lambda **named: Process(self.clock, self.made, **named),
            clock=self.clock,
            sleep=self.clock.sleep,
            **options,
        )

    def read(self):
        return self.process.read_frames("a.mp4", np.arange(100.0), (2, 2), "exact", "left", deadline_s=60)


def counts(actor):
    return actor.process.decoders.of(NVDEC), actor.process.decoders.of(CPU)


def test_an_actor_keeps_its_slot_and_gives_it_back_when_idle(tmp_path, monkeypatch):
    monkeypatch.setattr(hybrid_process, "IDLE_S", 0.2)
    first, second = Actor(tmp_path, segments=6), Actor(tmp_path, segments=6)
    monkeypatch.setattr(hybrid_process, "worth_waiting", lambda *_: False)
    for _ in range(3):
        first.read()
        second.read()
    assert counts(first) == (3, 0) and counts(second) == (0, 3)
    until_s = time.monotonic() + 60
    while first.slots.take() is None and time.monotonic() < until_s:
        time.sleep(0.05)
    assert first.made[1].closed and time.monotonic() < until_s
    second.process.close()


def test_a_slot_is_kept_while_segments_of_the_run_wait_but_not_for_ever(tmp_path, monkeypatch):
    """The encoders may be slower than decoding; a new process on the GPU would take seconds for each segment."""
    monkeypatch.setattr(hybrid_process, "IDLE_S", 0.05)
    actor = Actor(tmp_path, segments=1000)
    actor.read()
    time.sleep(0.5)
    assert actor.slots.take() is None and not actor.made[1].closed
    actor.clock.now_s += hybrid_process.MOST_IDLE_S
    until_s = time.monotonic() + 60
    while not actor.made[1].closed and time.monotonic() < until_s:
        time.sleep(0.05)
    assert actor.made[1].closed and actor.slots.take() is not None


def test_no_core_waits_while_segments_are_enough_for_all(tmp_path):
    busy, core = Actor(tmp_path, segments=1000), Actor(tmp_path, segments=1000)
    for _ in range(3):
        busy.read()
        core.read()
    assert core.clock.now_s == pytest.approx(30.0) and counts(core) == (0, 3)
    busy.process.close()


def test_at_the_end_of_a_run_a_core_waits_for_the_slot(tmp_path):
    busy, core = Actor(tmp_path, segments=4), Actor(tmp_path, segments=4)
    busy.read()
    core.read()  # now both rates are known: 1000 and 10 frames a second
    busy.read()
    core.clock.on_sleep = busy.process.close
    before_s = core.clock.now_s
    core.read()
    assert counts(core) == (1, 1) and core.clock.now_s - before_s < 1.0
    core.process.close()


def test_waiting_ends_when_the_core_would_have_been_done(tmp_path):
    busy, core = Actor(tmp_path, segments=4), Actor(tmp_path, segments=4)
    busy.read()
    core.read()
    busy.read()
    core.read()
    assert counts(core) == (0, 2) and 20.0 <= core.clock.now_s < 31.0
    busy.process.close()


def test_a_patient_actor_leaves_nothing_to_its_core(tmp_path):
    busy, core = Actor(tmp_path), Actor(tmp_path, is_patient=True)
    busy.read()
    core.clock.on_sleep = busy.process.close
    core.read()
    assert counts(core) == (1, 0)
    core.process.close()


@pytest.mark.parametrize(
    "error, reason",
    [
        (DecoderKilled("no answer", hung=True), "the process on the GPU: decoder-hung"),
        (DecoderKilled("died"), "the process on the GPU: decoder-died"),
        (RuntimeError("did not start"), "the process on the GPU did not start"),
    ],
)
def test_what_dies_on_the_gpu_is_tried_on_the_core_and_counted(tmp_path, error, reason):
    actor = Actor(tmp_path)
    actor.read()
    actor.made[1].fails = error
    assert len(actor.read()) == 100
    assert {row["reason"]: row["requests"] for row in actor.process.decoders.rows()} == {"": 1, reason: 1}
    assert actor.made[1].closed and actor.slots.take() is not None  # the slot is free again


def test_an_actor_leaves_nvdec_alone_after_two_kills(tmp_path):
    actor = Actor(tmp_path)
    for _ in range(4):
        slot = actor.process._slot
        assert slot is None
        actor.process._process = lambda **named: failing(actor, **named)
        actor.read()
    assert counts(actor) == (0, 4) and len(actor.made) == 3  # its core, and two on the GPU


def failing(actor, **named):
    process = Process(actor.clock, actor.made, **named)
    process.fails = DecoderKilled("died")
    return process


def test_a_video_that_nvdec_refuses_is_counted_with_the_reason(tmp_path):
    actor = Actor(tmp_path)
    actor.read()
    actor.made[1].fallback = "codec mpeg4"
    actor.read()
    assert actor.process.decoders.sentence() == "NVDEC decoded 1 segments, the CPU 1 (1: codec mpeg4)"
    total = DecoderTally()
    for _ in range(2):
        total.add_rows(actor.process.decoders.rows())
    assert total.of(NVDEC) == 2 and total.of(CPU) == 2
    actor.process.close()


def test_many_threads_count_every_segment(tmp_path):
    count = RunCount(tmp_path, "run", 400)
    threads = [threading.Thread(target=lambda: [count.begin() for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.waiting() == 200


@pytest.mark.parametrize("reader", ["auto", "nvdec", "pyav"])
@pytest.mark.parametrize("gpus", [0, 1])
def test_the_stage_takes_nvdec_where_there_is_one_and_else_decodes_as_before(tmp_path, monkeypatch, reader, gpus):
    monkeypatch.setattr(decode_stage, "gpus_here", lambda: [Gpu("0", 1)] * gpus)
    monkeypatch.setattr(decode_stage, "NvdecSlots", lambda found: NvdecSlots(found, tmp_path / "slots"))
    made, asked = [], []

    class Recorded(Process):
        def read_frames(self, location, times_s, size, fidelity, reader, eye, **limits):
            asked.append((self.gpu, reader))
            return Frames(np.zeros((len(times_s), 2, 2, 3), np.uint8), np.asarray(times_s, np.float64))

    options = decode_stage.DecodeOptions(
        str(tmp_path), "recipe", WindowSpec(), (2, 2), reader=reader, run="r", segments=2, retry_pause_s=0
    )
    stage = decode_stage.DecodeStage(options, lambda **named: Recorded(Clock(), made, **named))
    segment = Segment("segment", "video", "video.mp4", 0.0, 60.0, 120.0)
    images_NHWC, gaps = stage.decode(segment)
    assert images_NHWC is not None and gaps == []
    on_gpu = gpus > 0 and reader != "pyav"
    assert asked == [("0", "nvdec") if on_gpu else (None, "pyav" if reader == "auto" else reader)]
    assert stage.decoders.of(NVDEC) == (1 if on_gpu or reader == "nvdec" else 0)
    if stage.hybrid:
        stage.hybrid.close()
