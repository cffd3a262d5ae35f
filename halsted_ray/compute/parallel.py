"""Independent pieces of work, such as the folds of an evaluation, as plain Ray tasks side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import ray
import torch

from halsted_ray.compute.cluster import connected
from halsted_ray.compute.devices import cluster_gpus, gpus_at_hand, require_fit

Job = TypeVar("Job")
Shared = TypeVar("Shared")
Result = TypeVar("Result")
RETRIES = 2
"""A node may be lost. A task whose own code raises is not tried a second time."""
RAYS_STEP = 10_000
"""Ray counts GPUs in ten-thousandths."""


def run_parallel(
    function: Callable[[Job, Shared, str], Result],
    jobs: Sequence[Job],
    shared: Shared,
    on_done: Callable[[int, int], None] | None = None,
    *,
    gpu_share: float = 0.0,
) -> list[Result]:
    """``function(job, shared, device)`` of each job, in the order of ``jobs``.

    Where the cluster has GPUs and ``gpu_share`` is above 0, the device is ``cuda``: each job has at least this share of
    a GPU, and a larger one where there are GPUs enough (``share_of_gpu``). Otherwise the device is ``cpu``, and as many
    jobs run at once as the cluster has cores. ``shared`` is sent once to each node and not to each task. Each task
    computes on one thread of the CPU, so that its result does not depend on the size of the machine. An error in one
    task cancels the others and is raised here as it was there. ``on_done(done, all)`` is called after each job, and
    with ``done`` 0 before the first. A single job without a GPU runs in this process.

    Raises ResourceError where no machine of the cluster has a core beside its GPU.
    """
    if on_done:
        on_done(0, len(jobs))
    if len(jobs) == 1 and not (gpu_share and gpus_at_hand()):
        results = [on_one_thread(function, jobs[0], shared, 0.0)]
        if on_done:
            on_done(1, 1)
        return results
    with connected() as (cpus, _, cores):
        gpus = cluster_gpus() if gpu_share else 0
        share = share_of_gpu(gpu_share, len(jobs), gpus) if gpus else 0.0
        each_cpus = 1 if gpus else max(1, int(cpus // max(1, cores)))
        if gpus:
            require_fit("a job on a GPU", 1, {"CPU": each_cpus, "GPU": share})
        # Ray ends the process of a task with a GPU after the task, so the GPU's memory is free for the next one.
        task = ray.remote(num_cpus=each_cpus, num_gpus=share, max_retries=RETRIES)(on_one_thread)
        shared_ref = ray.put(shared)
        started = [task.remote(function, job, shared_ref, share) for job in jobs]
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


def share_of_gpu(least: float, jobs: int, gpus: int) -> float:
    """The share of a GPU that each of ``jobs`` has on ``gpus`` GPUs, so that all run at once if ``least`` allows it.

    A whole GPU where there are as many GPUs as jobs. As many jobs share a GPU as must, and no more than fit.
    """
    jobs_of_gpu = max(1, min(int(1 / least + 1e-6), math.ceil(jobs / gpus)))
    return math.floor(RAYS_STEP / jobs_of_gpu) / RAYS_STEP


def on_one_thread(function: Callable[[Job, Shared, str], Result], job: Job, shared: Shared, gpu_share: float) -> Result:
    """``function(job, shared, device)`` while torch computes on one thread, and takes its share of the GPU's memory at
    most."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    if gpu_share and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(float(gpu_share))
    try:
        return function(job, shared, "cuda" if gpu_share else "cpu")
    finally:
        torch.set_num_threads(before)
