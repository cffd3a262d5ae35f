"""Decoding in a process that can be killed: a file that hangs, crashes or bloats the decoder costs that process.

The process lives on from call to call and is started again when it is gone. The parent reads remote files and
hands the process the bytes it asks for, so only the parent has credentials and network.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from halsted_ray import errors
from halsted_ray.profiling import PROCESS_PROFILE, StageProfile
from halsted_ray.storage.locations import local_path
from halsted_ray.storage.ranges import range_fetcher
from halsted_ray.storage.retry import PATIENCE_S
from halsted_ray.video import wire
from halsted_ray.video.frames import Frames, collect
from halsted_ray.video.probe import Probe
from halsted_ray.video.readers import check_request

log = logging.getLogger(__name__)

START_S = 60.0
"""A start takes 0.3 s; on a machine with many starting at once, longer."""

KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
"""All that the process sees of the parent's environment: no credentials."""

RAISED = {
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
    """``read_frames`` and ``probe`` as in ``readers`` and ``probe``, each under a deadline.

    ``memory_mb`` is what decoding may take beyond the process's start (1080p H.264 takes about 100 MB, 4K HEVC
    with 10 bits about 300 MB). Calls from several threads run one after another.
    """

    def __init__(self, memory_mb: int = 1024, storage_patience_s: float = PATIENCE_S):
        self.memory_mb = memory_mb
        self.storage_patience_s = storage_patience_s
        self.starts = 0
        self._process: subprocess.Popen | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> DecodeProcess:
        return self

    def __exit__(self, *_exc) -> None:
        self.close()

    def __del__(self):
        self.close()

    @property
    def pid(self) -> int | None:
        """Of the process, None while there is none."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def read_frames(
        self,
        location: str | os.PathLike,
        times_s: np.ndarray,
        size: tuple[int, int] | None,
        fidelity: str = "reference",
        reader: str = "pyav",
        *,
        deadline_s: float,
    ) -> Frames:
        """As ``readers.read_frames``; raises DecoderKilled too, after ``deadline_s`` of decoding (waiting for a
        store does not count) or when the process dies. Where the store fails in the middle of the video, the process
        is ended and the store's error is raised at once."""
        times_s = check_request(times_s, size, fidelity, reader)
        request = {"do": "frames", "size": list(size) if size else None, "fidelity": fidelity, "reader": reader}
        cpu_s = time.process_time()
        frames = collect(self._ask(location, request, times_s, deadline_s), len(times_s), size)
        PROCESS_PROFILE.add("write", 0.0, time.process_time() - cpu_s)
        return frames

    def probe(self, location: str | os.PathLike, *, deadline_s: float = 60.0) -> Probe:
        """As ``probe.probe``; raises DecoderKilled too."""
        (found,) = self._ask(location, {"do": "probe"}, np.empty(0), deadline_s)
        return Probe(**found)

    def close(self) -> None:
        """Ends the process. The next call starts another."""
        process, self._process = getattr(self, "_process", None), None
        if process is not None:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

    def _ask(self, location, request: dict, times_s: np.ndarray, deadline_s: float):
        """The rows of the answer, as they come."""
        path = local_path(location)
        fetch = None
        if path is not None:
            request["path"] = os.path.abspath(path)
        else:
            fetch, request["size_bytes"] = range_fetcher(os.fspath(location), self.storage_patience_s)
        request["cpu_s"] = 2 * deadline_s + 10
        with self._lock:
            self._start()
            until_s = time.monotonic() + deadline_s
            whole = False
            try:
                wire.send(self._process.stdin.fileno(), request, times_s.tobytes())
                while True:
                    head, body = wire.receive(self._process.stdout.fileno(), until_s)
                    if "need" in head:
                        asked_s = time.monotonic()
                        # What this raises is the answer. The process waits for its bytes, so it is ended below.
                        data = fetch(*head["need"])
                        wire.send(self._process.stdin.fileno(), {}, data)
                        until_s += time.monotonic() - asked_s
                    elif "part" in head:
                        images_NHWC = np.frombuffer(body, np.uint8).reshape(head["part"])
                        yield from zip(images_NHWC, head["pts_s"], strict=True)
                    else:
                        whole = True
                        break
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
        if "error" in head:
            error = RAISED[head["error"]](head["message"])
            error.start_s, error.stop_s = head["span"]
            raise error
        if "probe" in head:
            yield head["probe"]
        else:
            PROCESS_PROFILE.merge(StageProfile(**head["done"]))

    def _start(self) -> None:
        if self.pid is not None:
            return
        self.close()
        self._process = subprocess.Popen(
            # -P: the folder where the run was started is no place to import from, it may hold anything.
            [sys.executable, "-P", "-m", "halsted_ray.video.decode_worker", str(self.memory_mb)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
        )
        self.starts += 1
        try:
            hello, _ = wire.receive(self._process.stdout.fileno(), time.monotonic() + START_S)
        except (wire.PipeClosed, wire.DeadlineOver):
            reason = _import_failure() or self._death()
            self.close()
            raise RuntimeError(f"the decoding process did not start: {reason}; see its message on stderr") from None
        if hello["network_open_because"] and self.starts == 1:
            log.warning("decoding processes could open sockets here: %s", hello["network_open_because"])

    def _death(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its pipe and was killed"
        if code < 0:
            name = signal.Signals(-code).name
            return f"killed by {name}" + (" (its CPU limit)" if name == "SIGXCPU" else "")
        return f"it ended with code {code}, most often out of its {self.memory_mb} MB of memory"


def _environment() -> dict[str, str]:
    """What the process gets: it finds the modules that this process finds, wherever they lie (a Ray runtime
    environment, ``pip --target``), and in the same order."""
    places = [os.path.abspath(place) for place in sys.path if isinstance(place, str)]
    package_root = str(Path(errors.__file__).parents[1])
    if package_root not in places:  # an editable install is found past sys.path
        places.insert(0, package_root)
    return {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ} | {
        "PYTHONPATH": os.pathsep.join(places),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _import_failure() -> str | None:
    """Why a new process can't import what decoding needs, None where it can. Takes a start of Python (0.3 s)."""
    words = [sys.executable, "-P", "-c", "import halsted_ray.video.decode_worker"]
    tried = subprocess.run(words, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if tried.returncode == 0:
        return None
    said = tried.stderr.strip().splitlines()
    return f"it can't import what it needs: {said[-1] if said else f'ended with code {tried.returncode}'}"
