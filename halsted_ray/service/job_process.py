"""A job (cleaning, mapping, copying) in a process of its own, which can be ended at any moment and whose memory is
watched.

The process is an actor of Ray on the machine of its worker. A thread could not be stopped in the middle of a probe, of
a wait for a decoder or of a commit. The actors that decode and encode belong to this process, so Ray ends them with it.
What is finished is staged, and the next run goes on there.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from halsted_ray.compute.progress import Progress, RunObserver
from halsted_ray.errors import HalstedError, OutputError, ResourceError, StorageUnavailable
from halsted_ray.service.clean_upload import CleanCopy, CleanRequest, clean_upload
from halsted_ray.service.failure_causes import Cause, cause, cause_of, cause_of_code
from halsted_ray.service.proxy_copy import ProxyCopy, ProxyRequest, make_proxy
from halsted_ray.video.limits import VideoLimits

logger = logging.getLogger(__name__)
LOOK_EVERY_S = 0.5
"""How often a running job is looked at."""
ENDED_WITHIN_S = 10.0
"""How long to wait for the system to end a process that was killed."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessDied(Exception):
    """The process of a job died: it crashed, or the system took it away."""


class OutOfMemory(HalstedError):
    """A job needs more memory than jobs may have."""


@dataclass(frozen=True)
class MapRequest:
    """The job: the video at ``archive``, its maps at ``out``, and what ``map_archive`` takes by these names."""

    archive: str
    out: str
    model: str
    tasks: tuple[str, ...]
    encoder: str | None
    decoders: int
    encoders: int
    limits: VideoLimits


Request = MapRequest | CleanRequest | ProxyRequest


@dataclass(frozen=True)
class JobResult:
    """What came of a job: its ``state`` (done, failed, cancelled, queued, or lost: the attempt counts, and the job is
    tried again), ``outcome`` and ``reason``, with its ``cause`` where it failed.
    ``failed_segments``: of the whole run; None where it did not come to its end. ``copy``: of a cleaning that is
    done; ``proxy``: of a copy for browsers that is done."""

    state: str
    outcome: str | None
    reason: str | None
    failed_segments: int | None = None
    copy: CleanCopy | None = None
    proxy: ProxyCopy | None = None
    cause: Cause | None = None


@dataclass(frozen=True)
class JobReport:
    """How far a job is. ``waiting``: why nothing moves, '' where something does."""

    phase: str = ""
    progress: Progress | None = None
    waiting: str = ""


class JobActor:
    """The actor: ``run`` does one job at a time, ``report`` tells of it meanwhile, in another thread."""

    def __init__(self) -> None:
        self.observer = _Reporter()

    def pid(self) -> int:
        """Its process."""
        return os.getpid()

    def report(self) -> JobReport:
        """How far the job is."""
        return JobReport(self.observer.phase, self.observer.progress, self.observer.waiting)

    def run(self, request: Request) -> JobResult:
        """Does a job. A failure is a value, since it crosses a process."""
        try:
            return do(request, self.observer)
        finally:
            self.observer = _Reporter()  # a question that overtakes the next job must not get this one's progress


class JobProcess:
    """The process of one worker. It is started for the first job, lives on from job to job, and is started again when
    it was ended. The caller is connected to Ray. ``memory_mb``: what a job may take in it."""

    def __init__(self, memory_mb: int) -> None:
        self.memory_mb = memory_mb
        self._actor: Any = None
        self._pid = 0

    def run(self, request: Request, check: Callable[[JobReport | None], None]) -> JobResult:
        """Does the job, and calls ``check`` twice per second: an exception that leaves it ends the job at once.

        ``check`` gets how far the job is, None while the process does not say. Raises OutOfMemory, ProcessDied.
        """
        done = False
        try:
            if self._actor is None:
                self._start()
            running, report = self._actor.run.remote(request), self._actor.report.remote()
            while not (ready := ray.wait([running], timeout=LOOK_EVERY_S)[0]):
                said = None
                if ray.wait([report], timeout=0)[0]:
                    said, report = ray.get(report), self._actor.report.remote()
                check(said)
                self._check_memory()
            result: JobResult = ray.get(ready[0])
            done = True
            return result
        except RayActorError:
            raise ProcessDied from None
        finally:
            if not done or memory_mb_of(self._pid) > self.memory_mb / 2:
                self.end()

    def end(self) -> None:
        """Ends the process, in the middle of whatever it does, and returns when it is gone."""
        actor, pid, self._actor, self._pid = self._actor, self._pid, None, 0
        if actor is None:
            return
        with suppress(Exception):  # Ray may know already that it is gone
            ray.kill(actor)
        if not pid:
            return
        until_s = time.monotonic() + ENDED_WITHIN_S
        with suppress(ProcessLookupError):
            while _is_alive(pid) and time.monotonic() < until_s:
                os.kill(pid, signal.SIGKILL)  # Ray asks it to exit, which takes as long as what it does
                time.sleep(0.02)

    def _start(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        kind = ray.remote(
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,
            enable_task_events=False,
            scheduling_strategy=here,
        )(JobActor)
        self._actor = kind.remote()
        self._pid = ray.get(self._actor.pid.remote())

    def _check_memory(self) -> None:
        used = memory_mb_of(self._pid)
        if used > self.memory_mb:
            raise OutOfMemory(
                f"expected a job that takes at most {self.memory_mb} MB, got {used:.0f} MB; cut the video into parts, "
                "or ask the site's operator for more (HALSTED_JOB_MEMORY_MB)"
            ).named("job-memory", most_mb=self.memory_mb)


def memory_mb_of(pid: int) -> float:
    """Memory of its own of a process and of those that it started, in MB (2^20 bytes); 0 where it is gone."""
    total, left = 0, [pid]
    while left:
        folder = Path(f"/proc/{left.pop()}")
        with suppress(OSError):  # it ended meanwhile
            _, resident, shared, *_ = (folder / "statm").read_text().split()
            total += (int(resident) - int(shared)) * PAGE_BYTES
            for thread in (folder / "task").iterdir():
                left += map(int, (thread / "children").read_text().split())
    return total / 2**20


def without_places(error: Exception | str) -> str:
    """The message without paths: the user who asked for a job must not learn where the service keeps its files."""
    return " ".join("…" if "/" in word and len(word) > 3 else word for word in str(error).split())[:500]


def do(request: Request, observer: RunObserver) -> JobResult:
    """Does a job in this process. Every failure is a result."""
    try:
        if isinstance(request, CleanRequest):
            return _clean(request, observer)
        return _proxy(request, observer) if isinstance(request, ProxyRequest) else _map(request, observer)
    except ResourceError as error:
        return JobResult("queued", None, f"waiting: {without_places(error)}")
    except HalstedError as error:
        # The file is not at fault where the store or the disk fails, and its bytes must not be deleted for that.
        is_copy = isinstance(request, (CleanRequest, ProxyRequest))
        may_go_on = is_copy and isinstance(error, (OutputError, StorageUnavailable))
        if may_go_on:
            return JobResult("queued", None, f"waiting: {without_places(error)}")
        return JobResult("failed", None, without_places(error), cause=cause_of(error))
    except Exception as error:
        if isinstance(request, CleanRequest):  # a traceback of libraries may hold what the file holds
            logger.error("a cleaning failed: %s", type(error).__name__)
            if isinstance(error, OSError):  # of the store or the disk: what reads the file is another process
                return JobResult("queued", None, f"waiting: disk or store fails now ({os.strerror(error.errno or 0)})")
            return JobResult("lost", None, None)  # it may pass, so it must not delete the video
        logger.exception("a job failed")
        return JobResult(
            "failed", None, "an error of the service; its log has the traceback", cause=cause("service-error")
        )


def _clean(request: CleanRequest, observer: RunObserver) -> JobResult:
    observer.on_phase("cleaning")
    began_s = time.monotonic()

    def tell(done_s: float) -> None:
        observer.on_progress(Progress(done_s, request.duration_s, 0.0, 0, time.monotonic() - began_s))

    return JobResult("done", request.level, None, 0, clean_upload(request, tell))


def _proxy(request: ProxyRequest, observer: RunObserver) -> JobResult:
    observer.on_phase("copying")
    began_s = time.monotonic()

    def tell(done_s: float) -> None:
        observer.on_progress(Progress(done_s, request.duration_s, 0.0, 0, time.monotonic() - began_s))

    made = make_proxy(request, tell)
    return JobResult("done", "direct" if made.size_bytes is None else "proxy", None, 0, proxy=made)


def _map(request: MapRequest, observer: RunObserver) -> JobResult:
    from halsted_ray.compute.resources import ResourceRequest
    from halsted_ray.mapping.pipeline import map_archive

    summary = map_archive(
        request.archive,
        request.out,
        request.model,
        request.tasks,
        encoder=request.encoder,
        settle_s=0,  # an upload is whole before there is a job
        limits=request.limits,
        resources=ResourceRequest(decoders=request.decoders, encoders=request.encoders, priority="high"),
        observer=observer,
    )
    (mapped,) = summary.videos
    if mapped["status"] == "failed":
        why = cause_of_code(mapped["code"])
        return JobResult("failed", "failed", mapped["reason"], summary.segments_failed, cause=why)
    return JobResult("done", mapped["status"], mapped["reason"] or None, summary.segments_failed)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class _Reporter(RunObserver):
    """Keeps what a run says until it is asked."""

    def __init__(self) -> None:
        self.phase, self.waiting = "", ""
        self.progress: Progress | None = None

    def on_phase(self, phase: str) -> None:
        self.phase, self.waiting = phase, ""

    def on_progress(self, progress: Progress) -> None:
        self.progress, self.waiting = progress, ""

    def on_wait(self, message: str) -> None:
        self.waiting = message
