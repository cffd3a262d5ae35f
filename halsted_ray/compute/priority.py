"""What a run of each priority may take of a shared cluster, and when it waits: the upload of one surgeon must not wait
behind a month of archive.

    low      leaves a quarter of the logical CPUs and of every GPU to others; for an archive
    normal   takes what is free
    high     starts in what is left, on actors that hold little of it; all other runs on the cluster pause between
             segments while it is at work, so that it has the cores for itself

Ray takes nothing back from a run that has started, so a share is left free beforehand. A run of priority high announces
itself by an actor with a name. Ray ends this actor with its driver, however the driver ends, so that nobody waits for a
run that is gone.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from halsted_ray.compute.pools import LEAST_SHARE, SPARE_CPUS
from halsted_ray.errors import ResourceError

PRIORITIES = ("low", "normal", "high")
NAMESPACE = "halsted-runs"
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


def capacity_for(priority: str, free: Mapping[str, float], total: Mapping[str, float]) -> Capacity:
    """What a run of ``priority`` may take of a cluster with the resources ``free`` of ``total`` ('CPU', 'GPU')."""
    cpus, gpus = free.get("CPU", 0.0), free.get("GPU", 0.0)
    if priority == "low":
        reserve = max(LEAST_CPUS, RESERVED_SHARE * total.get("CPU", 0.0))
        cpus = min(cpus, total.get("CPU", 0.0) - reserve)
        return Capacity(cpus, int(gpus), _cores_of(cpus), 1 - RESERVED_SHARE)
    if priority == "high":
        # As many actors as fit in what is left when each asks for little: the cores are theirs while the others pause.
        actors = int((cpus - SPARE_CPUS) / LEAST_SHARE)
        shared_gpus = min(int(total.get("GPU", 0.0)), int(gpus / RESERVED_SHARE))
        cores = max(1, min(_cores_of(total.get("CPU", 0.0)), actors - 1))
        return Capacity(cpus, shared_gpus, cores, RESERVED_SHARE)
    return Capacity(cpus, int(gpus), _cores_of(cpus))


def wait_for_capacity(
    priority: str, on_wait: Callable[[str], None] = lambda message: None, wait_s: float = WAIT_AT_MOST_S
) -> Capacity:
    """What a run may take of the cluster that this process is connected to.

    Waits for machines on their way, and for other runs to end, until one actor of each stage fits. ``on_wait`` is
    called twice per second with the reason. Raises ResourceError after ``wait_s``.
    """
    import ray
    from ray.autoscaler.sdk import request_resources

    started_s, has_requested = time.monotonic(), False
    try:
        while True:
            total = ray.cluster_resources()
            capacity = capacity_for(priority, ray.available_resources(), total)
            if capacity.cpus >= LEAST_CPUS:
                return capacity
            waited_s = time.monotonic() - started_s
            reason = (
                f"{max(0.0, capacity.cpus):g} of the {total.get('CPU', 0.0):g} logical CPUs of the cluster are free "
                f"for a run of priority {priority}, which needs {LEAST_CPUS:g}"
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
            on_wait(f"{reason}; gives up in {(wait_s - waited_s) / 60:.0f} min")
            time.sleep(min(LOOK_EVERY_S, wait_s - waited_s))
    finally:
        if has_requested:
            request_resources(bundles=[])  # from now on the actors themselves are the demand, or nobody waits any more


@contextmanager
def announced(priority: str) -> Iterator[None]:
    """Makes other runs pause while the block of a run of priority high lasts, at most as long as its process lives.
    Does nothing for another priority."""
    import ray

    if priority != "high":
        yield
        return

    class HalstedRun:
        pass

    actor = ray.remote(HalstedRun).options(name=uuid.uuid4().hex, namespace=NAMESPACE, num_cpus=0).remote()
    try:
        yield
    finally:
        ray.kill(actor)


def must_pause() -> bool:
    """Whether a run of priority high is at work on this cluster. One question to Ray's head, about 1 ms."""
    import ray

    return any(actor["namespace"] == NAMESPACE for actor in ray.util.list_named_actors(all_namespaces=True))


def pause_for_high_priority() -> None:
    """Returns when no run of priority high is at work on this cluster."""
    while must_pause():
        time.sleep(LOOK_EVERY_S)


def _cores_of(cpus: float) -> int:
    return max(1, int(cpus - SPARE_CPUS))
