"""What a run of each priority may take of a shared cluster, and when it waits: the upload of one surgeon must not wait
behind a month of archive.

    low      leaves a quarter of the logical CPUs and of every GPU to others; for an archive. All runs of priority low
             together leave that much
    normal   takes what is free
    high     starts in what is left, on actors that hold little of it; all other runs on the cluster pause between
             segments while it is at work, so that it has the cores for itself

Ray takes nothing back from a run that has started, so a share is left free beforehand. A run of priority high announces
itself by an actor with a name. Ray ends this actor with its driver, however the driver ends, so that nobody waits for a
run that is gone. A run of priority low announces in the same way what its actors hold, so that the next run of priority
low knows what the others leave.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from halsted_ray.compute.pools import LEAST_SHARE, SPARE_CPUS, Pools
from halsted_ray.errors import ResourceError

Outcome = TypeVar("Outcome")
PRIORITIES = ("low", "normal", "high")
NAMESPACE = "halsted-runs"
"""Of the actors by which runs of priority high announce themselves."""
LOW_NAMESPACE = "halsted-low-runs"
"""Of the actors by which runs of priority low announce what they hold. The name of each actor says it."""
RESERVED_SHARE = 0.25
LEAST_CPUS = SPARE_CPUS + 2 * LEAST_SHARE
"""Enough for one decoding and one tagging actor beside Ray Data itself."""
LOOK_EVERY_S = 0.5
WAIT_AT_MOST_S = 900.0
"""A new machine takes 2 to 5 minutes until it is part of the cluster, and its image may have to come first."""


@dataclass(frozen=True)
class Capacity:
    """What a run may take of a cluster now: the arguments of ``pools.size_pools``."""

    cpus: float
    gpus: int
    cores: int
    gpu_share: float = 1.0


@dataclass(frozen=True)
class HeldShare:
    """What actors of priority low hold: logical CPUs, and GPUs, of each of which they leave ``RESERVED_SHARE``."""

    cpus: float = 0.0
    gpus: int = 0


NOTHING_HELD = HeldShare()


def capacity_for(
    priority: str, free: Mapping[str, float], total: Mapping[str, float], low: HeldShare = NOTHING_HELD
) -> Capacity:
    """What a run of ``priority`` may take of a cluster with the resources ``free`` of ``total`` ('CPU', 'GPU').

    ``low``: what the other runs of priority low hold of the cluster.
    """
    cpus, gpus = free.get("CPU", 0.0), free.get("GPU", 0.0)
    # What runs of priority low leave of their GPUs adds up to whole GPUs that do not exist.
    whole_gpus = max(0, int(gpus - RESERVED_SHARE * low.gpus))
    if priority == "low":
        left = _left_to_low(total, low)
        cpus = min(cpus, left.cpus)
        return Capacity(cpus, min(whole_gpus, left.gpus), _cores_of(cpus), 1 - RESERVED_SHARE)
    if priority == "high":
        # As many actors as fit in what is left when each asks for little: the cores are theirs while the others pause.
        actors = int((cpus - SPARE_CPUS) / LEAST_SHARE)
        shared_gpus = min(int(total.get("GPU", 0.0)), int(gpus / RESERVED_SHARE))
        cores = max(1, min(_cores_of(total.get("CPU", 0.0)), actors - 1))
        return Capacity(cpus, shared_gpus, cores, RESERVED_SHARE)
    return Capacity(cpus, whole_gpus, _cores_of(cpus))


def wait_for_capacity(
    priority: str,
    on_wait: Callable[[str], None] = lambda message: None,
    wait_s: float = WAIT_AT_MOST_S,
    own: str | None = None,
) -> Capacity:
    """What a run may take of the cluster that this process is connected to.

    Waits for machines on their way, and for other runs to end, until one actor of each stage fits. ``own``: the name
    under which this run announced what it holds, which counts as free. ``on_wait`` is called twice per second with the
    reason. Raises ResourceError after ``wait_s``.
    """
    from ray.autoscaler.sdk import request_resources

    started_s, has_requested = time.monotonic(), False
    try:
        while True:
            capacity, total, low = capacity_now(priority, own)
            if capacity.cpus >= LEAST_CPUS:
                return capacity
            waited_s = time.monotonic() - started_s
            reason = (
                f"{max(0.0, capacity.cpus):g} of the {total.get('CPU', 0.0):g} logical CPUs of the cluster are free "
                f"for a run of priority {priority}, which needs {LEAST_CPUS:g}"
                + (f"; other runs of priority low hold {low.cpus:g}" if low.cpus else "")
            )
            if waited_s >= wait_s:
                raise ResourceError(
                    f"{reason}, and were not within {wait_s:.0f} s; start Ray with --num-cpus=4 or more, "
                    "let its workers start, end what else runs there"
                    + (", or map with another priority" if priority == "low" else "")
                )
            if total.get("CPU", 0.0) < LEAST_CPUS and not has_requested:
                has_requested = True
                request_resources(bundles=[{"CPU": 1}] * 4)  # a cluster that grows on demand does so for a request
            on_wait(f"{reason}; gives up in {math.ceil((wait_s - waited_s) / 60)} min")
            time.sleep(min(LOOK_EVERY_S, wait_s - waited_s))
    finally:
        if has_requested:
            request_resources(bundles=[])  # from now on the actors themselves are the demand, or nobody waits any more


def capacity_now(priority: str, own: str | None) -> tuple[Capacity, Mapping[str, float], HeldShare]:
    """(what a run may take now, the resources of the cluster, what other runs of priority low hold)."""
    import ray

    total, low = ray.cluster_resources(), held_by_low_runs(without=own)
    return capacity_for(priority, ray.available_resources(), total, low), total, low


@contextmanager
def announced(priority: str) -> Iterator[None]:
    """Makes other runs pause while the block of a run of priority high lasts, at most as long as its process lives.
    Does nothing for another priority."""
    import ray

    if priority != "high":
        yield
        return

    actor = named_actor(uuid.uuid4().hex, NAMESPACE)
    try:
        yield
    finally:
        ray.kill(actor)


def _left_to_low(total: Mapping[str, float], low: HeldShare) -> HeldShare:
    """The most that one more run of priority low may hold on a cluster with these resources, beside ``low``."""
    reserve = max(LEAST_CPUS, RESERVED_SHARE * total.get("CPU", 0.0))
    return HeldShare(total.get("CPU", 0.0) - reserve - low.cpus, max(0, int(total.get("GPU", 0.0)) - low.gpus))


def held_by(pools: Pools) -> HeldShare:
    """What these pools hold of a cluster."""
    cpus = sum(pool.actors * pool.cpus for pool in (pools.decoders, pools.encoders))
    return HeldShare(cpus, pools.encoders.actors if pools.encoders.gpus else 0)


def held_by_low_runs(without: str | None = None) -> HeldShare:
    """What the runs of priority low on this cluster hold together, without the run that announced it under the name
    ``without``. One question to Ray's head, about 1 ms."""
    import ray

    names = [actor["name"] for actor in ray.util.list_named_actors(True) if actor["namespace"] == LOW_NAMESPACE]
    shares = [name.split()[:2] for name in names if name != without]
    return HeldShare(sum(float(cpus) for cpus, _ in shares), sum(int(gpus) for _, gpus in shares))


def must_pause() -> bool:
    """Whether a run of priority high is at work on this cluster. One question to Ray's head, about 1 ms."""
    import ray

    return any(actor["namespace"] == NAMESPACE for actor in ray.util.list_named_actors(all_namespaces=True))


def pause_for_high_priority() -> None:
    """Returns when no run of priority high is at work on this cluster."""
    while must_pause():
        time.sleep(LOOK_EVERY_S)


@contextmanager
def pauses_reported(on_wait: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """While the block lasts, calls ``on_wait`` twice per second as long as this run pauses for a run of priority high:
    the actors finish nothing then, so no outcome could tell of the pause.

    ``on_wait`` is called in a thread of its own. The block gets a function that raises in the caller's thread what
    ``on_wait`` raised. After an exception ``on_wait`` is not called again.
    """
    is_over, raised = threading.Event(), list[BaseException]()

    def look() -> None:
        while not is_over.wait(LOOK_EVERY_S):
            is_paused = False
            with suppress(Exception):  # where Ray's head does not answer, the stages that need it say so
                is_paused = must_pause()
            if not is_paused:
                continue
            try:
                on_wait("a run of priority high is at work on this cluster; this run pauses until that run ends")
            except BaseException as error:
                raised.append(error)
                return

    def check() -> None:
        if raised:
            raise raised[0]

    thread = threading.Thread(target=look, name="pauses", daemon=True)
    thread.start()
    try:
        yield check
    finally:
        is_over.set()
        thread.join(timeout=5)


def reporting_pauses(
    outcomes: Generator[Outcome, None, None], on_wait: Callable[[str], None]
) -> Generator[Outcome, None, None]:
    """``outcomes`` unchanged. ``on_wait`` is called while none come because the run pauses for a run of priority high;
    an exception out of it is raised here, at the next outcome or at the end."""
    with closing(outcomes), pauses_reported(on_wait) as check:
        for outcome in outcomes:
            check()
            yield outcome
    check()


def named_actor(name: str, namespace: str) -> Any:
    """An actor that other drivers see by its name, from the moment this returns until it is killed or this process
    ends. It needs a process of its own (about 60 MB) and no CPU."""
    import ray

    class HalstedRun:
        pass

    return ray.remote(HalstedRun).options(name=name, namespace=namespace, num_cpus=0).remote()


def _cores_of(cpus: float) -> int:
    return max(1, int(cpus - SPARE_CPUS))
