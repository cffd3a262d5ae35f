"""Where the actors of a run live: a cluster that is connected to when it is first needed."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace

from halsted_ray.compute.cluster import connected, is_attached
from halsted_ray.compute.devices import cluster_gpus, nvdec_sessions
from halsted_ray.compute.low_runs import LowPriorityRun
from halsted_ray.compute.pools import SPARE_CPUS, Pools, size_pools
from halsted_ray.compute.priority import Capacity, announced, wait_for_capacity
from halsted_ray.compute.progress import RunObserver
from halsted_ray.compute.resources import ResourceRequest

ACTORS_END_S = 3.0


class RunCluster:
    """The cluster of one run, as a context manager. Nothing is started or connected to until ``size_pools``.

    On a cluster that other runs may use too, the pools grow with it. It is measured again at each call of
    ``size_pools``.
    """

    def __init__(self, resources: ResourceRequest, observer: RunObserver):
        self.resources, self.observer = resources, observer
        self.capacity: Capacity | None = None
        self.is_shared = False
        self.reached_at: float | None = None
        """When the pools were first known, in seconds since the epoch."""
        self._low_run: LowPriorityRun | None = None
        self._stack = ExitStack()

    def __enter__(self) -> RunCluster:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def yields(self) -> bool:
        """Whether the run pauses while a run of priority high is at work on the cluster."""
        return self.is_shared and self.resources.priority != "high"

    def size_pools(self, segments: int) -> Pools:
        """The actor pools for ``segments``, on what is free now.

        Connects to a cluster, or starts one, at the first call. Waits on a shared cluster until an actor of each stage
        fits. Raises ResourceError where they never do.
        """
        import ray

        resources = self.resources
        if self.capacity is None:
            self.is_shared = is_attached()
            cpus, gpus, cores = self._stack.enter_context(
                connected(resources.wait_for, self.observer.on_message, self.observer.on_wait)
            )
            usable = min(int(gpus), cluster_gpus())
            if usable < int(gpus):
                self.observer.on_message(
                    "the GPUs of this machine are not used, since torch sees none; `halsted doctor` says more"
                )
            self.capacity = Capacity(cpus, usable, cores)
            if self.is_shared:
                self._stack.enter_context(announced(resources.priority))
            if self.is_shared and resources.priority == "low":
                self._low_run = self._stack.enter_context(LowPriorityRun())
        elif self.is_shared:
            time.sleep(ACTORS_END_S)  # else the CPUs of the actors before would not count as free

        def pools_on(capacity: Capacity) -> Pools:
            return size_pools(
                capacity.cpus,
                capacity.gpus,
                capacity.cores,
                segments,
                resources.decoders,
                resources.encoders,
                capacity.gpu_share,
                resources.encoders_per_gpu,
                grows=self.is_shared,
                nvdec_sessions=nvdec_sessions(resources.reader),
            )

        if self._low_run is not None:
            self.capacity, pools = self._low_run.claim(pools_on, self.observer.on_wait)
        else:
            if self.is_shared:
                self.capacity = wait_for_capacity(resources.priority, self.observer.on_wait)
            pools = pools_on(self.capacity)
        if self.is_shared:
            total = ray.cluster_resources()
            pools = replace(
                pools,
                leave=(
                    total.get("CPU", 0.0) - self.capacity.cpus + SPARE_CPUS,
                    total.get("GPU", 0.0) - self.capacity.gpus * self.capacity.gpu_share,
                ),
            )
        self.reached_at = self.reached_at or time.time()
        self.observer.on_message(f"pools: {pools}")
        return pools
