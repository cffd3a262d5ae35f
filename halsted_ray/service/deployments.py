"""The deployments of the HTTP service on Ray Serve, bound together as ``app``.

    Gateway     the HTTP API; no model and no torch in it
    Tagger      the model in memory; clips of many callers share its passes
    Mapper      one mapping job a replica; its Ray Data actors do the work

``DEPLOYMENTS`` holds the number of replicas and the resources of each deployment. ``serve/config.yaml`` repeats them
for a site that changes them (``serve deploy``). Ray needs 8 logical CPUs, whatever the machine has: the replicas,
which mostly wait, hold one CPU together, and the actors of each mapping job hold 2.5.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from halsted_ray.service.components import Busy, ServiceComponents
from halsted_ray.service.settings import Settings

DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "Gateway": {
        "num_replicas": 1,
        "max_ongoing_requests": 200,
        "max_queued_requests": 400,
        "ray_actor_options": {"num_cpus": 0.2},
        "logging_config": {"enable_access_log": False},
    },
    # A batch is what came in while the tagger worked on the batch before.
    "Tagger": {
        "num_replicas": 1,
        "max_ongoing_requests": 64,
        "max_queued_requests": 64,
        "user_config": {"max_batch_size": 64, "batch_wait_timeout_s": 0.01},
        "ray_actor_options": {"num_cpus": 0.5},
        "logging_config": {"enable_access_log": False},
    },
    "Mapper": {"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.1}},
}
"""Deployment → what ``Deployment.options`` takes. ``test_config_file_repeats_the_deployments`` holds
``serve/config.yaml`` to it."""


def log_to_stderr() -> None:
    """Our own lines, one a request, where Ray keeps a replica's output."""
    log = logging.getLogger("halsted_ray.service")
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)


@serve.deployment
@serve.ingress()
class Gateway:
    """``tagger`` answers clips; ``mapper`` is bound so that it is deployed with the rest."""

    def __init__(self, tagger: DeploymentHandle, mapper: DeploymentHandle):
        self.tagger, self.mapper = tagger, mapper

    def __serve_build_asgi_app__(self):
        from halsted_ray.service.api import create_api

        log_to_stderr()
        replicas = serve.get_replica_context().world_size
        service = ServiceComponents.open(Settings.read(), self._tag_clip, self._serving, replicas)
        threading.Thread(target=service.metrics.keep_noting, name="figures", daemon=True).start()
        return create_api(service)

    async def _serving(self) -> dict:
        return await self._asked(self.tagger.serving.remote())

    async def _tag_clip(
        self, source: bytes | str, instruction: str, start_s: float | None, stop_s: float | None
    ) -> dict:
        return await self._asked(self.tagger.tag.remote(source, instruction, start_s, stop_s))

    async def _asked(self, answer: DeploymentResponse) -> dict:
        try:
            return await answer
        except (BackPressureError, DeploymentUnavailableError, RayActorError):
            raise Busy from None  # also where the replica died under it: asking again does no harm


@serve.deployment
class Tagger:
    """``ClipTagger`` behind a queue: decoding in threads, the model in batches."""

    def __init__(self, decoders: int | None = None):
        from halsted_ray.service.clip_tagging import ClipTagger
        from halsted_ray.service.served_model import source_of

        log_to_stderr()
        settings = Settings.read()
        device = "cuda" if ray.get_runtime_context().get_accelerator_ids().get("GPU") else "cpu"
        decoders = decoders or max(2, len(os.sched_getaffinity(0)) // 2)
        self.clips = ClipTagger(source_of(settings.model), settings.encoder, device, decoders, settings.clip_s)
        # Of their own: reads that wait for a decoding process must not keep the model waiting for a thread.
        self.reading, self.tagging = ThreadPoolExecutor(decoders), ThreadPoolExecutor(1)
        self.free = asyncio.Event()
        self.free.set()
        self.poll_s = settings.model_poll_s
        self.watch = asyncio.get_running_loop().create_task(self._watch())

    def reconfigure(self, config: dict) -> None:
        """``max_batch_size`` and ``batch_wait_timeout_s``, changed without a restart."""
        self._answer.set_max_batch_size(config["max_batch_size"])
        self._answer.set_batch_wait_timeout_s(config["batch_wait_timeout_s"])

    def serving(self) -> dict:
        return self.clips.loaded.release.stamp

    async def tag(self, source: bytes | str, instruction: str, start_s: float | None, stop_s: float | None) -> dict:
        """The answer, or ``{"refused": code, "message": …}``: a value, since it crosses a process."""
        from halsted_ray.errors import UsageError, VideoError

        try:
            clip = await self._in(self.reading, self._read, source, instruction, start_s, stop_s)
        except VideoError as error:
            return {"refused": error.code, "message": str(error)}
        except UsageError as error:
            return {"refused": "usage", "message": str(error)}
        # Serve cuts a batch when its time is over, also while the model is busy: without this wait, 64 clients got
        # batches of 1.7. What waits here is the next batch.
        await self.free.wait()
        return await self._answer(clip)

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.01)
    async def _answer(self, clips: list) -> list[dict]:
        self.free.clear()
        try:
            return await self._in(self.tagging, self.clips.answer, clips)
        finally:
            self.free.set()

    async def _in(self, threads: ThreadPoolExecutor, do, *arguments):
        return await asyncio.get_running_loop().run_in_executor(threads, do, *arguments)

    def _read(self, source: bytes | str, instruction: str, start_s: float | None, stop_s: float | None):
        if isinstance(source, str):
            return self.clips.read(source, instruction, start_s, stop_s)
        with tempfile.NamedTemporaryFile(suffix=".clip") as file:
            file.write(source)
            file.flush()
            return self.clips.read(file.name, instruction, start_s, stop_s)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.poll_s)
            with contextlib.suppress(Exception):  # the store may be away for a while; the model at hand goes on
                await asyncio.to_thread(self.clips.refresh)


@serve.deployment
class Mapper:
    """A thread that works off the queue; when the replica is taken away, its job goes to another one."""

    def __init__(self, decoders: int = 1, taggers: int = 1):
        from halsted_ray.service import job_worker

        log_to_stderr()
        settings = Settings.read()
        service = ServiceComponents.open(settings)
        self.stop = threading.Event()
        self.worker = job_worker.JobWorker(
            service.jobs,
            service.videos,
            service.uploads,
            service.source,
            settings.encoder,
            decoders,
            taggers,
            settings.upload_days,
        )
        self.thread = threading.Thread(target=self.worker.work, args=(self.stop,), name="mapper", daemon=True)
        self.thread.start()

    def check_health(self) -> None:
        if not self.thread.is_alive():
            raise RuntimeError("the mapping thread has ended")

    def __del__(self):  # what Serve calls before it takes a replica away
        self.stop.set()
        self.worker.leave()


app = Gateway.options(**DEPLOYMENTS["Gateway"]).bind(
    Tagger.options(**DEPLOYMENTS["Tagger"]).bind(), Mapper.options(**DEPLOYMENTS["Mapper"]).bind()
)
