"""The parent's end of decoding in a process that can be killed.

A file that makes the decoder hang, crash or take too much memory costs only that process. The process lives on from
call to call, and is started again when it is gone. The parent reads remote files and hands the process the bytes that
it asks for, so that only the parent has credentials and network.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from halsted_ray import errors
from halsted_ray.errors import CorruptSegment
from halsted_ray.profiling import THREAD_PROFILE, StageProfile
from halsted_ray.records import JsonObject
from halsted_ray.storage.locations import Location, local_path
from halsted_ray.storage.ranges import Fetch, range_fetcher
from halsted_ray.storage.retry import PATIENCE_S
from halsted_ray.video import wire
from halsted_ray.video.clip_span import ClipSpan
from halsted_ray.video.frames import ANEW, Frames, FrameSize, FrameStream, Missing, collect
from halsted_ray.video.packet_index import MAX_PACKED_BYTES
from halsted_ray.video.probe import Probe
from halsted_ray.video.readers import check_request

log = logging.getLogger(__name__)

START_S = 60.0
"""How long a start may take. It takes 0.3 s, and longer on a machine where many processes start at once."""

DEVICE_START_S = 180.0
"""The same on a GPU, where torch is imported and the device is made ready: 8 to 13 s on an H100."""

PROBE_S = 60.0
READ_BYTES_PER_S = 10e6
"""A probe that takes longer than its deadline, and than reading the whole file at this rate, hangs: all packets of a
file may have to be read."""

LEAD_WALL = 5.0
MOST_LEAD_S = 24 * 3600.0
"""Seconds that decoding a second of video may take, where decoding begins long before the wanted time; and the most
that is waited for it. A video with one keyframe is decoded from its start."""

KEPT_INDEXES = 8
"""Files whose packet index is kept for the next call, in the order in which they were read first."""

KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
"""The variables of the parent's environment that the process gets: no credentials."""

MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1024 * 1024), "MALLOC_TRIM_THRESHOLD_": str(32 * 1024 * 1024)}
"""glibc's malloc: blocks from 1 MB on lie apart, and go back to the system when they are freed. By itself it does so
only until the first of them is freed. libavformat makes an index of all frames of an MP4 each time a file is opened,
and the place of the index before stayed with the process: 3 h of video took 22 MB more than 10 min, now 14. Smaller
blocks are kept for the next request, since giving them back took 12% more CPU."""

Message = tuple[JsonObject, bytearray]
"""(head, body) of one message."""

RAISED: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        errors.UnreadableVideo,
        errors.CorruptSegment,
        errors.StorageUnavailable,
        errors.VideoError,
        ValueError,
        ImportError,
    )
}


class DecodeProcess:
    """``read_frames`` and ``probe`` as in ``readers`` and ``probe``, done by a process of its own, under a deadline.

    ``memory_mb`` is how much memory decoding may take beyond the process's own (1080p H.264 takes about 100 MB, 4K HEVC
    with 10 bits about 300 MB). ``storage_patience_s`` is how long a remote store is waited for. ``gpu``: the GPU that
    the process sees, as CUDA_VISIBLE_DEVICES names it, for the reader ``nvdec``; None for none. ``starts`` counts the
    processes that were started. ``fallback`` is why the reader ``nvdec`` gave the last frames by the CPU, '' where
    NVDEC decoded them or was not asked. Calls from several threads run one after another.
    """

    def __init__(self, memory_mb: int = 1024, storage_patience_s: float = PATIENCE_S, gpu: str | None = None):
        self.memory_mb = memory_mb
        self.storage_patience_s = storage_patience_s
        self.gpu = gpu
        self.starts = 0
        self.fallback = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._indexes: dict[str, bytes] = {}

    def __enter__(self) -> DecodeProcess:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The id of the process, None while there is no process."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def read_frames(
        self,
        location: Location,
        times_s: ArrayLike,
        size: FrameSize | None,
        fidelity: str = "reference",
        reader: str = "pyav",
        eye: str = "left",
        *,
        deadline_s: float,
        packet_index: bytes = b"",
    ) -> Frames:
        """As ``readers.read_frames``; raises DecoderKilled too. ``packet_index`` is what ``probe_and_index`` found, so
        that the pass over the packets is not made again.

        That is raised after ``deadline_s`` of decoding (waiting for a store does not count), and when the process dies.
        Where the store fails in the middle of the video, the process is ended and the store's error is raised at once.
        """
        times_s = check_request(times_s, size, fidelity, reader, eye)
        request = {
            "do": "frames",
            "size": list(size) if size else None,
            "fidelity": fidelity,
            "reader": reader,
            "eye": eye,
            "times": len(times_s),
        }
        cpu_s = time.process_time()
        # What was made here comes first: then the index that was given could not be used.
        known = self._indexes.get(os.fspath(location), b"") or packet_index
        answers = self._ask(location, request, times_s.tobytes() + known, deadline_s)
        frames = collect(
            _frames_of(answers, lambda made: self._keep_index(location, made), self._note_fallback), times_s, size
        )
        THREAD_PROFILE.add("write", 0.0, time.process_time() - cpu_s)
        return frames

    def read_clip(
        self, location: Location, span: ClipSpan, size: FrameSize, *, deadline_s: float
    ) -> tuple[float, float, Frames]:
        """(start_s, stop_s, the frames of fidelity ``reference``) of ``span``: what ``probe`` and ``read_frames`` give,
        from one opening of the file. It costs three quarters of both.

        Raises as they do, and UsageError where the video does not have the span.
        """
        request = {"do": "clip", "size": list(size), "span": list(astuple(span))}
        known = self._indexes.get(os.fspath(location), b"")
        answers = self._ask(location, request, known, deadline_s)
        head, _ = next(answers)
        if "part" not in head:
            next(answers, None)  # ends the request, and the next one may come: the video does not have the span
        found = Probe(**head["probe"])
        times_s = span.times_s(found.duration_s)
        rows = _frames_of(answers, lambda made: self._keep_index(location, made))
        return *span.within(found.duration_s), collect(rows, times_s, size)

    def cut_clip(
        self,
        location: Location,
        start_s: float,
        stop_s: float,
        labels: Sequence[tuple[float, float, str]] = (),
        footer: str = "",
        *,
        deadline_s: float,
    ) -> bytes:
        """An MP4 of [start_s, stop_s) that every browser plays (``playable.cut_clip``). ``labels``: (start_s, stop_s,
        words) that are drawn into its pictures, ``footer``: the words below them in all pictures; without a footer
        nothing is drawn. Raises DecoderKilled too, as ``read_frames``."""
        request = {"do": "cut", "span": [start_s, stop_s], "labels": list(map(list, labels)), "footer": footer}
        return b"".join(bytes(body) for head, body in self._ask(location, request, b"", deadline_s) if "part" in head)

    def probe(self, location: Location, *, deadline_s: float = PROBE_S) -> Probe:
        """As ``probe.probe``; raises DecoderKilled too, as ``read_frames``."""
        return self.probe_and_index(location, deadline_s=deadline_s)[0]

    def probe_and_index(self, location: Location, *, deadline_s: float = PROBE_S) -> tuple[Probe, bytes]:
        """As ``probe.probe_and_index``, the index as bytes for ``read_frames`` (none where none was needed)."""
        ((answer, body),) = self._ask(location, {"do": "probe"}, b"", deadline_s)
        return Probe(**answer["probe"]), bytes(body) if len(body) <= MAX_PACKED_BYTES else b""

    def describe(self, location: Location, eye: str = "left", *, deadline_s: float = PROBE_S) -> JsonObject:
        """As ``describe.describe``; raises DecoderKilled too, as ``read_frames``."""
        ((answer, _),) = self._ask(location, {"do": "describe", "eye": eye}, b"", deadline_s)
        description: JsonObject = answer["description"]
        return description

    def close(self) -> None:
        """Ends the process. The next call starts another."""
        process, self._process = getattr(self, "_process", None), None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _note_fallback(self, reason: str) -> None:
        self.fallback = reason

    def _keep_index(self, location: Location, packet_index: bytes) -> None:
        if len(packet_index) <= MAX_PACKED_BYTES:
            self._indexes[os.fspath(location)] = packet_index
        while len(self._indexes) > KEPT_INDEXES:
            del self._indexes[next(iter(self._indexes))]

    def _ask(self, location: Location, request: JsonObject, data: bytes, deadline_s: float) -> Iterator[Message]:
        """The messages of the answer, as they come. Bytes of a remote file are fetched in between."""
        path = local_path(location)
        fetch: Fetch | None = None
        if path is not None:
            request["path"] = os.path.abspath(path)
            size_bytes = os.path.getsize(path) if os.path.isfile(path) else 0
        else:
            fetch, size_bytes = range_fetcher(os.fspath(location), self.storage_patience_s)
            request["size_bytes"] = size_bytes
        if request["do"] not in ("frames", "cut"):
            deadline_s += size_bytes / READ_BYTES_PER_S
        request["cpu_s"] = 2 * deadline_s + 10
        with self._lock:
            requests, answers = self._start()
            until_s, left_s = time.monotonic() + deadline_s, MOST_LEAD_S
            whole = False
            try:
                wire.send(requests, request, data)
                while not whole:
                    head, body = wire.receive(answers, until_s)
                    if "need" in head:
                        assert fetch is not None, "only a remote file is fetched"
                        asked_s = time.monotonic()
                        # Where the store fails, its error leaves from here, and the waiting process is ended below.
                        wire.send(requests, {}, fetch(*head["need"]))
                        until_s += time.monotonic() - asked_s
                        continue
                    if "lead_s" in head:
                        until_s += min(LEAD_WALL * head["lead_s"], left_s)
                        left_s -= min(LEAD_WALL * head["lead_s"], left_s)
                        continue
                    whole = "part" not in head
                    if "error" in head:
                        raise _error_of(head)
                    yield head, body
            except wire.DeadlineOver:
                raise errors.DecoderKilled(
                    f"expected an answer within {deadline_s:.0f} s, got none: the decoder hung and was killed; export "
                    "the video again, or transcode it to H.264",
                    hung=True,
                ) from None
            except wire.PipeClosed:
                why = self._death()
                raise errors.DecoderKilled(
                    f"expected an answer, but the decoding process died: {why}; export the video again, or transcode "
                    "it to H.264"
                ) from None
            finally:
                if not whole:
                    self.close()

    def _start(self) -> tuple[int, int]:
        """Starts the process where there is none; the file descriptors (requests to it, answers from it)."""
        process = self._process if self.pid is not None else None
        if process is None:
            self.close()
            process = self._process = subprocess.Popen(
                # -P: the folder where the run was started may hold anything, so nothing is imported from there.
                [sys.executable, "-P", "-m", "halsted_ray.video.decode_worker", str(self.memory_mb)]
                + (["--device"] if self.gpu is not None else []),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=worker_environment() | device_environment(self.gpu),
            )
            self.starts += 1
            self._greet(process)
        assert process.stdin is not None and process.stdout is not None
        return process.stdin.fileno(), process.stdout.fileno()

    def _greet(self, process: subprocess.Popen[bytes]) -> None:
        """Waits for a new process's first message. Raises RuntimeError where it does not come."""
        assert process.stdout is not None
        try:
            hello, _ = wire.receive(
                process.stdout.fileno(), time.monotonic() + (START_S if self.gpu is None else DEVICE_START_S)
            )
        except (wire.PipeClosed, wire.DeadlineOver):
            reason = _import_failure() or self._death()
            self.close()
            raise RuntimeError(f"the decoding process did not start: {reason}; see its message on stderr") from None
        if hello["network_open_because"] and self.starts == 1:
            log.warning("decoding processes could open sockets here: %s", hello["network_open_because"])

    def _death(self) -> str:
        """How the process ended."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its pipe and was killed"
        if code < 0:
            name = signal.Signals(-code).name
            return f"killed by {name}" + (" (its CPU limit)" if name == "SIGXCPU" else "")
        return f"it ended with code {code}, most often out of its {self.memory_mb} MB of memory"


def _frames_of(
    answers: Iterator[Message],
    on_index: Callable[[bytes], None] = lambda packet_index: None,
    on_fallback: Callable[[str], None] = lambda reason: None,
) -> FrameStream:
    """What the parts of an answer hold (``decode_worker.send_frames``); the last message tells what decoding took.

    ``on_index`` gets the index of a pass over the packets that had to be made, ``on_fallback`` why the CPU decoded.
    """
    missing: Missing | None = None
    for head, body in answers:
        if "part" not in head:
            THREAD_PROFILE.merge(StageProfile(**head["done"]))
            on_fallback(head.get("fallback", ""))
            if body:
                on_index(bytes(body))
            continue
        if head.get("anew"):
            yield ANEW
        images = iter(np.frombuffer(body, np.uint8).reshape(head["part"]))
        for shown in head["shown"]:
            if isinstance(shown, float):
                yield next(images), shown
                continue
            missing = missing if shown is None else Missing(*shown)
            assert missing is not None, "the first time without picture says why"
            yield missing


def _error_of(head: JsonObject) -> Exception:
    """The error that the process sent."""
    kind = RAISED[head["error"]]
    return CorruptSegment(head["message"], *head["span"]) if kind is CorruptSegment else kind(head["message"])


def worker_environment() -> dict[str, str]:
    """The environment of a process that reads what can't be trusted.

    The process finds the modules that this process finds, wherever they lie (a Ray runtime environment, ``pip
    --target``), and in the same order.
    """
    places = [os.path.abspath(place) for place in sys.path if isinstance(place, str)]
    package_root = str(Path(errors.__file__).parents[1])
    if package_root not in places:  # an editable install is found by other means than sys.path
        places.insert(0, package_root)
    return {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ} | {
        **MALLOC,
        "PYTHONPATH": os.pathsep.join(places),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def device_environment(gpu: str | None) -> dict[str, str]:
    """What says to a process which GPU it sees, if any. Ray hides all GPUs from actors that ask for none.

    The driver would keep what it compiles in a file, and the process may write none.
    """
    if gpu is None:
        return {"CUDA_VISIBLE_DEVICES": ""}
    return {"CUDA_VISIBLE_DEVICES": gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_CACHE_DISABLE": "1"}


def _import_failure() -> str | None:
    """Why a new process can't import what decoding needs, None where it can; found by starting Python (0.3 s)."""
    words = [sys.executable, "-P", "-c", "import halsted_ray.video.decode_worker"]
    tried = subprocess.run(words, env=worker_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if tried.returncode == 0:
        return None
    said = tried.stderr.strip().splitlines()
    return f"it can't import what it needs: {said[-1] if said else f'ended with code {tried.returncode}'}"
