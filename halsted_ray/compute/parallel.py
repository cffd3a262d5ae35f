"""Independent pieces of work, such as the folds of an evaluation, as plain Ray tasks side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import ray
import torch

from halsted_ray.compute.cluster import connected

Job = TypeVar("Job")
Shared = TypeVar("Shared")
Result = TypeVar("Result")
RETRIES = 2
"""A node may be lost. A task whose own code raises is not tried a second time."""


def run_parallel(
    function: Callable[[Job, Shared], Result],
    jobs: Sequence[Job],
    shared: Shared,
    on_done: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """``function(job, shared)`` of each job, in the order of ``jobs``; as many at once as the cluster has cores.

    ``shared`` is sent once to each node and not to each task. Each task computes on one thread, so that its result does
    not depend on the size of the machine. An error in one task cancels the others and is raised here as it was there.
    ``on_done(done, all)`` is called after each job, and with ``done`` 0 before the first. A single job runs in this
    process.
    """
    if on_done:
        on_done(0, len(jobs))
    if len(jobs) == 1:
        results = [on_one_thread(function, jobs[0], shared)]
        if on_done:
            on_done(1, 1)
        return results
    with connected() as (cpus, _, cores):
        task = ray.remote(on_one_thread).options(num_cpus=max(1, int(cpus // max(1, cores))), max_retries=RETRIES)
        shared_ref = ray.put(shared)
        started = [task.remote(function, job, shared_ref) for job in jobs]
        running = list(started)
        try:
            while running:
                done, running = ray.wait(running)
                ray.get(done)
                if on_done:
                    on_done(len(jobs) - len(running), len(jobs))
            return list(ray.get(started))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def on_one_thread(function: Callable[[Job, Shared], Result], job: Job, shared: Shared) -> Result:
    """``function(job, shared)`` while torch computes on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(job, shared)
    finally:
        torch.set_num_threads(before)
