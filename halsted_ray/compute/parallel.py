"""Pieces of work that need no word of each other, such as the folds of an evaluation, as plain Ray tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import ray
import torch

from halsted_ray.compute.cluster import connected

Job, Result = TypeVar("Job"), TypeVar("Result")
RETRIES = 2
"""A node may be lost; a task whose own code raises is not tried again."""


def run_parallel(
    work: Callable[..., Result], jobs: Sequence[Job], shared: object, on_done: Callable[[int, int], None] | None = None
) -> list[Result]:
    """``work(job, shared)`` of each job, in the order of ``jobs``; as many at once as the cluster has cores.

    ``shared`` is sent to each node once and not to each task. Each task computes on one thread, so that a result does
    not depend on the machine's size. An error in one ends all and is raised here as it was there. ``on_done`` is
    called with (done, all), first with none done. One job alone runs in this process.
    """
    if on_done:
        on_done(0, len(jobs))
    if len(jobs) == 1:
        results = [on_one_thread(work, jobs[0], shared)]
        if on_done:
            on_done(1, 1)
        return results
    with connected() as (cpus, _, cores):
        task = ray.remote(on_one_thread).options(num_cpus=max(1, int(cpus // max(1, cores))), max_retries=RETRIES)
        there = ray.put(shared)
        asked = [task.remote(work, job, there) for job in jobs]
        waiting = list(asked)
        try:
            while waiting:
                done, waiting = ray.wait(waiting)
                ray.get(done)
                if on_done:
                    on_done(len(jobs) - len(waiting), len(jobs))
            return ray.get(asked)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)


def on_one_thread(work, job, shared):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return work(job, shared)
    finally:
        torch.set_num_threads(before)
