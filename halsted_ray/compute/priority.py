"""A surgeon's single upload is not behind a month of archive: what a run may take of a cluster, and when it waits.

    low      leaves a quarter of the logical CPUs and of every GPU to others, for an archive
    normal   takes what is free
    high     starts in what is left, on actors that hold little of it; all other runs on the cluster pause between
             segments while it is at work, so the cores themselves are its own

Ray takes nothing back from a run, so the room is left beforehand. A run of priority high announces itself by an actor
with a name: it ends with the driver, however that ends, and nobody waits for a run that is gone.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from halsted_ray.compute.pools import LEAST_SHARE, SPARE_CPUS
from halsted_ray.errors import ResourceError

PRIORITIES = ("low", "normal", "high")
NAMESPACE = "halsted-runs"
RESERVED_SHARE = 0.25
LEAST_CPUS = SPARE_CPUS + 2 * LEAST_SHARE
"""One decoding and one tagging actor beside Ray Data itself."""
LOOK_EVERY_S = 0.5
WAIT_AT_MOST_S = 900.0
"""A new machine takes 2 to 5 minutes until it is part of the cluster, and its image may have to come first."""


@dataclass(frozen=True)
class Room:
    """What a run may take of a cluster now: what ``pools.size_pools`` asks for."""

    cpus: float
    gpus: int
    cores: int
    gpu_share: float = 1.0


def room_of(priority: str, free: dict[str, float], total: dict[str, float]) -> Room:
    """The room of a run on a cluster with these resources ('CPU', 'GPU')."""
    cpus, gpus = free.get("CPU", 0.0), free.get("GPU", 0.0)
    if priority == "low":
        reserve = max(LEAST_CPUS, RESERVED_SHARE * total.get("CPU", 0.0))
        cpus = min(cpus, total.get("CPU", 0.0) - reserve)
        return Room(cpus, int(gpus), _whole(cpus), 1 - RESERVED_SHARE)
    if priority == "high":
        # As many actors as fit in what is left by asking for little: the cores are theirs while the others pause.
        actors = int((cpus - SPARE_CPUS) / LEAST_SHARE)
        shared = min(int(total.get("GPU", 0.0)), int(gpus / RESERVED_SHARE))
        return Room(cpus, shared, max(1, min(_whole(total.get("CPU", 0.0)), actors - 1)), RESERVED_SHARE)
    return Room(cpus, int(gpus), _whole(cpus))


def room(priority: str, on_wait: Callable[[str], None] = lambda message: None, wait_s: float = WAIT_AT_MOST_S) -> Room:
    """The room on the cluster that this process is connected to; waits for machines on their way, and for other runs
    to end, until there is any. ``on_wait`` is told at each look why. Raises ResourceError after ``wait_s``."""
    import ray
    from ray.autoscaler.sdk import request_resources

    started_s, asked = time.monotonic(), False
    try:
        while True:
            total = ray.cluster_resources()
            found = room_of(priority, ray.available_resources(), total)
            if found.cpus >= LEAST_CPUS:
                return found
            waited_s = time.monotonic() - started_s
            there = (
                f"{max(0.0, found.cpus):g} of the {total.get('CPU', 0.0):g} logical CPUs of the cluster are free "
                f"for a run of priority {priority}, which needs {LEAST_CPUS:g}"
            )
            if waited_s >= wait_s:
                raise ResourceError(
                    f"{there}, and were not within {wait_s:.0f} s; start Ray with --num-cpus=4 or more, "
                    "let its workers start, end what else runs there"
                    + (", or map with another priority" if priority == "low" else "")
                )
            if total.get("CPU", 0.0) < LEAST_CPUS and not asked:
                asked = True
                request_resources(bundles=[{"CPU": 1}] * 4)  # a cluster that grows does so for those who ask
            on_wait(f"{there}; gives up in {(wait_s - waited_s) / 60:.0f} min")
            time.sleep(min(LOOK_EVERY_S, wait_s - waited_s))
    finally:
        if asked:
            request_resources(bundles=[])  # from here on the actors speak for themselves, or nobody waits any more


@contextmanager
def announced(priority: str) -> Iterator[None]:
    """Other runs pause while the block of a run of priority high lasts, or as long as its process lives."""
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
    """Whether a run of priority high is at work on this cluster: one question to Ray's head, about 1 ms."""
    import ray

    return any(actor["namespace"] == NAMESPACE for actor in ray.util.list_named_actors(all_namespaces=True))


def _whole(cpus: float) -> int:
    return max(1, int(cpus - SPARE_CPUS))
