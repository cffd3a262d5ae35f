"""Fills the fixed batches of an encoder with windows of many segments and videos.

An encoder computes batches of one size, so that a vector never depends on its neighbours. A segment alone seldom fills
them: of a coarse pass (2 windows) a batch of 8 is a quarter. So the calls of an actor, one per segment and many at
once, hand their windows to one thread, which packs them in the order in which they came:

    calls ──► queue ──► batch n+1 is copied to the device ┐
                        batch n is computed               ├─ at the same time
                        batch n-1 goes back to its calls  ┘

Where a batch is a single window (on a CPU), there is nothing to fill and the call encodes by itself.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from halsted_ray.errors import ModelError
from halsted_ray.model.encoder import Encoder
from halsted_ray.profiling import THREAD_PROFILE

PATIENCE_S = 0.2
"""For so long a device that has nothing else to do waits until a batch is full."""


class WindowEncoder(Protocol):
    """What makes vectors of windows: an ``Encoder`` or a ``BatchedEncoder``."""

    image_size: tuple[int, int]
    frames: int

    @property
    def ref(self) -> str:
        """As ``Encoder.ref``."""

    @property
    def fingerprint(self) -> str:
        """As ``Encoder.fingerprint``."""

    @property
    def size_name(self) -> str:
        """As ``Encoder.size_name``."""

    @property
    def device_name(self) -> str:
        """As ``Encoder.device_name``."""

    def encode_frames(self, images_NHWC: np.ndarray, rows_NT: np.ndarray) -> np.ndarray:
        """As ``BatchedEncoder.encode_frames``."""


@dataclass(frozen=True)
class EncodingFigures:
    """What an encoder has done since it was loaded. Times are in seconds since the epoch where they are points."""

    clips: int = 0
    """Windows that got a vector."""
    computed: int = 0
    """Places in the batches that were computed, filled or not."""
    busy_s: float = 0.0
    """Seconds that the device computed batches."""
    loaded_at: float = 0.0
    """When the encoder was ready for its first batch."""
    began_at: float = 0.0
    """When the first batch was given to the device; 0 before its end."""
    first_at: float = 0.0
    """When the first vectors were there; 0 before."""
    last_at: float = 0.0
    """When the last vectors were there."""

    @property
    def useful_share(self) -> float:
        """The share of what was computed that somebody wanted; 1 where nothing was computed."""
        return self.clips / self.computed if self.computed else 1.0


def in_all(of_actors: Sequence[EncodingFigures]) -> EncodingFigures:
    """The figures of several encoders as those of one: what they did is added, and from the first to the last of
    them."""
    began = [figures for figures in of_actors if figures.first_at]
    return EncodingFigures(
        sum(figures.clips for figures in of_actors),
        sum(figures.computed for figures in of_actors),
        sum(figures.busy_s for figures in of_actors),
        min((figures.loaded_at for figures in of_actors), default=0.0),
        min((figures.began_at for figures in began), default=0.0),
        min((figures.first_at for figures in began), default=0.0),
        max((figures.last_at for figures in began), default=0.0),
    )


def busy_share(of_actors: Sequence[EncodingFigures]) -> float:
    """The share of the time from an encoder's first batch to its last in which its device computed, over all encoders;
    0 where no vector was made."""
    spans_s = sum(figures.last_at - figures.began_at for figures in of_actors)
    return min(1.0, sum(figures.busy_s for figures in of_actors) / spans_s) if spans_s > 0 else 0.0


@dataclass(frozen=True)
class EncodingSummary:
    """What the encoders of a run did, for people."""

    actors: int = 0
    """Encoders that made vectors."""
    clips: int = 0
    """Windows that got a vector."""
    computed: int = 0
    """Places in the batches that were computed."""
    useful_share: float = 1.0
    busy_s: float = 0.0
    """Seconds that the devices computed, summed over them."""
    busy_share: float = 0.0
    """As ``busy_share``."""

    @classmethod
    def of(cls, of_actors: Sequence[EncodingFigures]) -> EncodingSummary:
        """The summary of the encoders of a run."""
        at_work = [figures for figures in of_actors if figures.first_at]
        total = in_all(at_work)
        share = busy_share(at_work)
        return cls(len(at_work), total.clips, total.computed, total.useful_share, total.busy_s, share)

    def __str__(self) -> str:
        encoders = "1 encoder" if self.actors == 1 else f"{self.actors} encoders"
        return (
            f"{self.clips:,} windows encoded, {self.useful_share:.1%} of what was computed; "
            f"{encoders}, busy {self.busy_share:.0%}"
        )


class BatchedEncoder:
    """An encoder that many threads share. Row n of a result depends on window n alone.

    ``callers``: how many calls of ``encode_frames`` can be under way at once. When all of them wait, a batch is
    computed as it is, since nothing more can come.
    """

    def __init__(self, encoder: Encoder, callers: int = 1, patience_s: float = PATIENCE_S):
        self.encoder, self.callers, self.patience_s = encoder, callers, patience_s
        self.ref, self.fingerprint = encoder.ref, encoder.fingerprint
        self.image_size, self.frames, self.dim = encoder.image_size, encoder.frames, encoder.dim
        self._changed = threading.Condition()
        self._queue: deque[_Place] = deque()
        self._waiting = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        fills_batches = encoder.micro_batch > 1
        self._lanes = _two_lanes(encoder) if fills_batches else deque[_Lane]()
        self._loaded_at = time.time()
        self._figures = EncodingFigures(loaded_at=self._loaded_at)
        if fills_batches:
            self._thread = threading.Thread(target=self._run, name="encode", daemon=True)
            self._thread.start()

    @property
    def size_name(self) -> str:
        """As ``Encoder.size_name``."""
        return self.encoder.size_name

    @property
    def device_name(self) -> str:
        """As ``Encoder.device_name``."""
        return self.encoder.device_name

    @property
    def figures(self) -> EncodingFigures:
        """What was done until now."""
        with self._changed:
            return self._figures

    def encode_frames(self, images_NHWC: np.ndarray, rows_NT: np.ndarray) -> np.ndarray:
        """Vectors of N windows, float16 [N, dim]; window n consists of the frames ``images_NHWC[rows_NT[n]]`` (uint8).

        Counts in the profile of the calling thread: the seconds that the device computed for these windows as stage
        ``encode``, and the rest of the waiting as ``queue``. Raises ModelError where a vector does not fit into
        float16, or the device fails.
        """
        if self._thread is None:
            return self._encode_here(images_NHWC, rows_NT)
        started_s = time.perf_counter()
        call = _Call(images_NHWC, np.empty((len(rows_NT), self.dim), np.float16), len(rows_NT))
        with self._changed:
            if self._closed:
                raise ModelError("this encoder is closed; load it again")
            self._queue.extend(_Place(call, number, rows_T, started_s) for number, rows_T in enumerate(rows_NT))
            self._waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: call.left == 0 or call.error is not None)
        if call.error is not None:
            raise call.error
        THREAD_PROFILE.add("encode", call.busy_s)
        THREAD_PROFILE.add("queue", max(0.0, time.perf_counter() - started_s - call.busy_s))
        return call.vectors_ND

    def close(self) -> None:
        """Ends the thread; calls that wait get a ModelError."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _encode_here(self, images_NHWC: np.ndarray, rows_NT: np.ndarray) -> np.ndarray:
        started_s = time.perf_counter()
        with THREAD_PROFILE.stage("encode"):
            vectors_ND = self.encoder.encode(images_NHWC[rows_NT])
        self._count(len(rows_NT), len(rows_NT), time.perf_counter() - started_s)
        return vectors_ND

    def _run(self) -> None:
        """Packs, launches and hands back batches until the encoder is closed."""
        flying: deque[tuple[_Lane, list[_Place]]] = deque()
        while True:
            places = self._next_batch(may_wait=not flying)
            if places:
                lane = self._lanes.popleft()
                try:
                    lane.launch([(place.call.images_NHWC, place.rows_T) for place in places])
                except Exception as error:  # of the device: these windows fail, and the run says why
                    self._lanes.append(lane)
                    self._fail(places, error)
                    continue
                flying.append((lane, places))
            elif not flying:
                return
            if len(flying) == 2 or (flying and not places):
                lane, places = flying.popleft()
                try:
                    vectors_ND, busy_s = lane.result()
                    self._hand_back(places, vectors_ND, busy_s)
                except Exception as error:  # as above
                    self._fail(places, error)
                self._lanes.append(lane)

    def _next_batch(self, may_wait: bool) -> list[_Place]:
        """The windows of the next batch: a full one, or, where the device has nothing else to do, what is there after
        a while; empty where there is none to launch now, or the encoder is closed."""
        size = self.encoder.micro_batch
        with self._changed:
            while may_wait and not self._closed and len(self._queue) < size:
                if not self._queue:
                    self._changed.wait()
                    continue
                left_s = self._queue[0].since_s + self.patience_s - time.perf_counter()
                if left_s <= 0 or self._waiting >= self.callers:
                    break
                self._changed.wait(left_s)
            if self._closed:
                self._end(list(self._queue), ModelError("the encoder was closed before it made these vectors"))
                self._queue.clear()
            if len(self._queue) < size and not may_wait:
                return []
            return [self._queue.popleft() for _ in range(min(size, len(self._queue)))]

    def _hand_back(self, places: list[_Place], vectors_ND: np.ndarray, busy_s: float) -> None:
        if not np.isfinite(vectors_ND).all():
            raise ModelError(
                f"encoder {self.encoder.ref!r} gave a vector outside float16's range; check that its weights are "
                "complete"
            )
        self._count(len(places), self.encoder.micro_batch, busy_s)
        with self._changed:
            for place, vector_D in zip(places, vectors_ND, strict=True):
                place.call.vectors_ND[place.number] = vector_D
                place.call.busy_s += busy_s / len(places)
                place.call.left -= 1
                if place.call.left == 0 and place.call.error is None:
                    # Here and not when its thread wakes up: until then it would seem to wait still.
                    self._waiting -= 1
            self._changed.notify_all()

    def _fail(self, places: list[_Place], error: Exception) -> None:
        if not isinstance(error, ModelError):
            error = ModelError(f"the device that encodes failed: {type(error).__name__}: {error}")
        with self._changed:
            self._end(places, error)

    def _end(self, places: list[_Place], error: Exception) -> None:
        for place in places:
            if place.call.error is None:
                self._waiting -= 1
            place.call.error = error
        self._changed.notify_all()

    def _count(self, clips: int, computed: int, busy_s: float) -> None:
        with self._changed:
            before, now = self._figures, time.time()
            self._figures = EncodingFigures(
                before.clips + clips,
                before.computed + computed,
                before.busy_s + busy_s,
                self._loaded_at,
                before.began_at or now - busy_s,
                before.first_at or now,
                now,
            )


@dataclass
class _Call:
    """One call of ``encode_frames`` while it waits."""

    images_NHWC: np.ndarray
    vectors_ND: np.ndarray
    left: int
    busy_s: float = 0.0
    error: Exception | None = None


@dataclass(frozen=True)
class _Place:
    """One window of a call, in the queue."""

    call: _Call
    number: int
    rows_T: np.ndarray
    since_s: float


class _Lane:
    """The memory of one batch. ``launch`` starts it, ``result`` waits for it; a lane holds one batch at a time."""

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        shape = (encoder.micro_batch, encoder.frames, *encoder.image_size, 3)
        self.clips = torch.zeros(shape, dtype=torch.uint8)
        self.used = 0

    def launch(self, windows: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Starts the batch of ``windows`` (frames, rows of them); places without a window keep old frames."""
        self.used = len(windows)
        into_NTHWC = self.clips.numpy()
        for clip_THWC, (images_NHWC, rows_T) in zip(into_NTHWC, windows, strict=False):
            images_NHWC.take(rows_T, axis=0, out=clip_THWC, mode="clip")  # other modes would buffer the output
        self.begin()

    def begin(self) -> None:
        """Computes the batch that lies in ``clips``."""
        started_s = time.perf_counter()
        with torch.inference_mode():
            self.vectors = self.encoder.forward_device(self.clips).half()
        self.busy_s = time.perf_counter() - started_s

    def result(self) -> tuple[np.ndarray, float]:
        """(float16 [used, dim], seconds that the device computed)."""
        return self.vectors[: self.used].numpy(), self.busy_s


class _GpuLane(_Lane):
    """A batch on a GPU: page-locked memory on both sides, so that copies run beside the computing of the other lane."""

    def __init__(self, encoder: Encoder, copying: torch.cuda.Stream, computing: torch.cuda.Stream):
        super().__init__(encoder)
        self.clips = self.clips.pin_memory()
        self.copying, self.computing = copying, computing
        self.on_device = torch.empty_like(self.clips, device=encoder.device)
        self.vectors = torch.empty((encoder.micro_batch, encoder.dim), dtype=torch.float16).pin_memory()
        self.began, self.ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self.is_there = torch.cuda.Event(blocking=True)  # else waiting for it would keep a core busy

    def begin(self) -> None:
        """Queues copy, computing and copy back; returns before any of them is done."""
        with torch.inference_mode():
            with torch.cuda.stream(self.copying):
                self.on_device.copy_(self.clips, non_blocking=True)
            self.computing.wait_stream(self.copying)
            with torch.cuda.stream(self.computing):
                self.began.record()
                vectors = self.encoder.forward_device(self.on_device).half()
                self.ended.record()
                self.vectors.copy_(vectors, non_blocking=True)
                self.is_there.record()

    def result(self) -> tuple[np.ndarray, float]:
        """As ``_Lane.result``; the events tell the seconds, without the copies."""
        self.is_there.synchronize()
        return self.vectors[: self.used].numpy(), self.began.elapsed_time(self.ended) / 1000


def _two_lanes(encoder: Encoder) -> deque[_Lane]:
    """The lanes of ``encoder``, ready. Raises ModelError where its batches don't fit on the device."""
    if encoder.device.type != "cuda":
        return deque([_Lane(encoder), _Lane(encoder)])
    copying, computing = torch.cuda.Stream(encoder.device), torch.cuda.Stream(encoder.device)
    try:
        lanes: list[_Lane] = [_GpuLane(encoder, copying, computing) for _ in range(2)]
        warm_up(lanes)
    except RuntimeError as error:  # CUDA's errors derive from it, and so does the compiler's
        raise ModelError(f"the device that encodes failed: {type(error).__name__}: {error}") from error
    return deque(lanes)


def warm_up(lanes: Sequence[_Lane]) -> None:
    """Computes a batch in each of ``lanes``: kernels are loaded, memory is taken and layers are compiled here. Else the
    first windows would wait for it, and the events would count it as computing."""
    for lane in lanes:
        lane.begin()
        lane.result()
