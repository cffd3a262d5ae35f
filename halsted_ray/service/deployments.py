"""The deployments of the HTTP service on Ray Serve, bound together as ``app``.

    Gateway     the HTTP API; it holds no model and does not import torch
    Tagger      the model in memory; clips of many callers share its passes
    Mapper      one mapping job per replica; the Ray Data actors of the job do the work

``DEPLOYMENTS`` holds the bounds of the number of replicas and the resources of each deployment. ``serve/config.yaml``
repeats them for a site that changes them (``serve deploy``). Ray needs 8 logical CPUs, whatever the machine has: the
replicas, which mostly wait, hold one CPU together while there is little to do, and the actors of each mapping job hold
2.5. No other module of the package imports Ray Serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray import serve
from ray._common.network_utils import build_address
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from halsted_ray.service.clip_tagging import ClipAnswer, ClipRefusal, DecodedClip
from halsted_ray.service.components import Overloaded, ServiceComponents
from halsted_ray.service.places import FairPlaces
from halsted_ray.service.served_model import ModelStamp
from halsted_ray.service.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

Result = TypeVar("Result")
APPLICATION = "halsted"
"""The name of the application on Ray Serve."""

DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "Gateway": {
        # The front lets 368 requests of all kinds through to one gateway (front.py), a hundred of them event streams.
        "autoscaling_config": {"min_replicas": 1, "max_replicas": 3, "target_ongoing_requests": 150},
        "max_ongoing_requests": 400,
        "max_queued_requests": 400,
        "ray_actor_options": {"num_cpus": 0.2},
        "logging_config": {"enable_access_log": False},
    },
    # A batch is what came in while the tagger worked on the batch before.
    "Tagger": {
        "autoscaling_config": {"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 56},
        "max_ongoing_requests": 64,
        "max_queued_requests": 64,
        "user_config": {"max_batch_size": 64, "batch_wait_timeout_s": 0.01},
        "ray_actor_options": {"num_cpus": 0.5},
        "logging_config": {"enable_access_log": False},
    },
    # Mappers get no requests: they scale by the jobs of the queue.
    "Mapper": {
        "autoscaling_config": {
            "min_replicas": 2,
            "max_replicas": 4,
            "policy": {"policy_function": "halsted_ray.service.deployments:mappers_needed"},
        },
        "ray_actor_options": {"num_cpus": 0.1},
    },
}
"""Deployment → what ``Deployment.options`` takes. ``test_config_file_repeats_the_deployments`` holds
``serve/config.yaml`` to it."""


def mappers_needed(context: Any) -> tuple[int, dict[str, Any]]:
    """Ray Serve's autoscaling policy of Mapper: a mapper for each job that waits or runs, within the bounds.

    ``context``: Ray Serve's AutoscalingContext. While a job is open no mapper is taken away, since it could be the one
    that works.
    """
    seen = context.aggregated_metrics.get("open_jobs", {}).values()
    jobs = math.ceil(max(seen, default=0.0))
    least = context.current_num_replicas if jobs else context.capacity_adjusted_min_replicas
    bounded = min(max(jobs, least, context.capacity_adjusted_min_replicas), context.capacity_adjusted_max_replicas)
    return bounded, {}


def log_to_stderr() -> None:
    """Writes the service's own log, one line per request, to where Ray keeps the output of a replica."""
    log = logging.getLogger("halsted_ray.service")
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)


def listen_on_node_address() -> None:
    """Has Ray Serve's gRPC server in this replica listen at the address of its node: loopback under ``serve run``.

    Ray Serve 2.60 starts it in each replica, on all interfaces, for calls between deployments. It unpickles what comes,
    so whoever reaches it runs code, and there is no setting for its address. It starts after the constructor of the
    deployment, which calls this.
    """
    from ray.serve._private import replica

    add_port = replica.add_port_to_grpc_server
    node = build_address(ray.util.get_node_ip_address(), 0)
    replica.add_port_to_grpc_server = lambda server, address: add_port(server, address.replace("[::]:0", node))


@serve.deployment
@serve.ingress()
class Gateway:
    """The HTTP API. ``tagger`` tags clips. ``mapper`` is not called: it is bound so that it is deployed, too."""

    def __init__(self, tagger: DeploymentHandle, mapper: DeploymentHandle) -> None:
        listen_on_node_address()
        self.tagger, self.mapper = tagger, mapper

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve calls this in the replica."""
        from halsted_ray.service.api import create_api
        from halsted_ray.service.housekeeping import Housekeeper

        log_to_stderr()
        replicas = serve.get_replica_context().world_size
        components = ServiceComponents.open(Settings.read(), self._tag_clip, self._serving_model, replicas)
        app = create_api(components)
        share = app.state.rate_limiter.share_among
        housekeeper = Housekeeper(components, app.state.timelines)
        threading.Thread(target=components.metrics.save_forever, args=(share,), name="metrics", daemon=True).start()
        threading.Thread(target=housekeeper.look_forever, name="housekeeping", daemon=True).start()
        return app

    async def _serving_model(self) -> ModelStamp:
        stamp: ModelStamp = await self._answer_of(self.tagger.serving_model.remote())
        return stamp

    async def _tag_clip(
        self, tenant_id: str, source: bytes | str, instruction: str, start_s: float | None, stop_s: float | None
    ) -> ClipAnswer | ClipRefusal:
        answer: ClipAnswer | ClipRefusal = await self._answer_of(
            self.tagger.tag.remote(tenant_id, source, instruction, start_s, stop_s)
        )
        return answer

    async def _answer_of(self, response: DeploymentResponse) -> Any:
        """Waits for the answer of another deployment. Raises Overloaded where it takes no request now, also where its
        replica died meanwhile: asking again does no harm."""
        try:
            return await response
        except (BackPressureError, DeploymentUnavailableError, RayActorError):
            raise Overloaded from None


@serve.deployment
class Tagger:
    """A ``ClipTagger`` behind a queue: threads decode, and the model works in batches.

    ``decoders``: so many decoding processes one tenant keeps busy; by default half as many as the process may use
    CPUs, at least two. There is one more, so that large clips of one tenant leave a process to the others.
    """

    def __init__(self, decoders: int | None = None) -> None:
        from halsted_ray.service.clip_tagging import ClipTagger
        from halsted_ray.service.served_model import model_source

        listen_on_node_address()
        log_to_stderr()
        settings = Settings.read()
        device = "cuda" if ray.get_runtime_context().get_accelerator_ids().get("GPU") else "cpu"
        decoders = decoders or max(2, len(os.sched_getaffinity(0)) // 2)
        source = model_source(settings.model)
        self.clips = ClipTagger(source, settings.encoder, device, decoders + 1, settings.clip_s)
        self.places = FairPlaces("clips", decoders + 1, decoders, waiting=sys.maxsize)  # Serve bounds what waits
        # The model has a thread of its own: it must not wait while all threads wait for a decoding process.
        self.reading, self.tagging = ThreadPoolExecutor(decoders + 1), ThreadPoolExecutor(1)
        self.is_idle = asyncio.Event()
        self.is_idle.set()
        self.poll_s = settings.model_poll_s
        self.refreshing = asyncio.get_running_loop().create_task(self._refresh_forever())

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Changes ``max_batch_size`` and ``batch_wait_timeout_s`` without a restart."""
        self._answer.set_max_batch_size(config["max_batch_size"])
        self._answer.set_batch_wait_timeout_s(config["batch_wait_timeout_s"])

    def serving_model(self) -> ModelStamp:
        """The stamp of the model in memory."""
        return self.clips.loaded.served.stamp

    async def tag(
        self, tenant_id: str, source: bytes | str, instruction: str, start_s: float | None, stop_s: float | None
    ) -> ClipAnswer | ClipRefusal:
        """The answer for a tenant's clip (bytes or location). A refusal is a value, since it crosses a process."""
        from halsted_ray.errors import UsageError, VideoError

        try:
            async with self.places.place(tenant_id):
                clip = await self._in(self.reading, self._read, source, instruction, start_s, stop_s)
        except VideoError as error:
            return {"refused": error.code, "message": str(error)}
        except UsageError as error:
            return {"refused": "usage", "message": str(error)}
        # Serve closes a batch when its time has passed, also while the model is still busy. Without this wait 64
        # clients got batches of 1.7 clips. The clips that wait here are the next batch.
        await self.is_idle.wait()
        answer: ClipAnswer = await self._answer(clip)
        return answer

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.01)
    async def _answer(self, clips: list[DecodedClip]) -> list[ClipAnswer]:
        self.is_idle.clear()
        try:
            return await self._in(self.tagging, self.clips.answer, clips)
        finally:
            self.is_idle.set()

    def _in(self, threads: ThreadPoolExecutor, do: Callable[..., Result], *arguments: Any) -> Awaitable[Result]:
        return asyncio.get_running_loop().run_in_executor(threads, do, *arguments)

    def _read(self, source: bytes | str, instruction: str, start_s: float | None, stop_s: float | None) -> DecodedClip:
        if isinstance(source, str):
            return self.clips.read(source, instruction, start_s, stop_s)
        with tempfile.NamedTemporaryFile(suffix=".clip") as file:
            file.write(source)
            file.flush()
            return self.clips.read(file.name, instruction, start_s, stop_s)

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(self.poll_s)
            with contextlib.suppress(Exception):  # the store may not answer for a while; the loaded model goes on
                await asyncio.to_thread(self.clips.refresh)


@serve.deployment
class Mapper:
    """A thread that does the jobs of the queue. When the replica is taken away, another replica goes on with its job.

    ``decoders``, ``encoders``: the number of actors of a job.
    """

    def __init__(self, decoders: int = 1, encoders: int = 1) -> None:
        from halsted_ray.service.job_worker import JobWorker

        listen_on_node_address()
        log_to_stderr()
        settings = Settings.read()
        components = ServiceComponents.open(settings)
        self.jobs = components.jobs
        self.stop = threading.Event()
        self.worker = JobWorker(
            components.jobs,
            components.videos,
            components.uploads,
            components.model_source,
            settings.encoder,
            decoders,
            encoders,
            settings.upload_days,
            settings.job_memory_mb,
            settings.deidentify,
        )
        self.thread = threading.Thread(target=self.worker.work, args=(self.stop,), name="mapper", daemon=True)
        self.thread.start()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve calls this every few seconds and gives it to ``mappers_needed``: jobs that wait or run, of all
        tenants."""
        return {"open_jobs": float(self.jobs.open_count())}

    def check_health(self) -> None:
        """Serve calls this every few seconds, and replaces the replica where it raises."""
        if not self.thread.is_alive():
            raise RuntimeError("the mapping thread has ended")

    def __del__(self) -> None:
        """Serve calls this before it takes a replica away."""
        self.stop.set()
        self.worker.leave()


def _configured(deployment: Any) -> Any:
    """The deployment with its entry of ``DEPLOYMENTS``."""
    return deployment.options(**DEPLOYMENTS[deployment.name])


app = _configured(Gateway).bind(_configured(Tagger).bind(), _configured(Mapper).bind())


def start(host: str, port: int) -> None:
    """Starts Ray Serve at ``host:port`` on the Ray that this process is connected to, and deploys ``app``.

    Serve's own access log is off: its lines hold whole paths, in which a client can have put a name.
    """
    serve.start(http_options={"host": host, "port": port}, logging_config={"enable_access_log": False})
    serve.run(app, name=APPLICATION, route_prefix="/")


def shut_down() -> None:
    """Ends all deployments and Ray Serve."""
    serve.shutdown()
