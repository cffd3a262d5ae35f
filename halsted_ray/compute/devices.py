"""On which devices work runs: the GPUs of the cluster at hand, and what can ever fit on its machines."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ray
import torch

from halsted_ray.compute.cluster import connected, is_attached
from halsted_ray.errors import ResourceError, UsageError
from halsted_ray.video.nvdec import LIBRARY
from halsted_ray.video.nvdec_slots import engines_of
from halsted_ray.video.readers import AUTO


@dataclass(frozen=True)
class WorkerRequest:
    """How many training processes a run asks for. On GPUs each process has a whole GPU of its own.

    ``workers``: processes; None for one per free GPU, or a single one on CPU. ``gpus``: GPUs, 0 to train on CPU; None
    for the GPUs of the cluster where it has any. Raises UsageError where the two contradict each other.
    """

    workers: int | None = None
    gpus: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers: expected at least 1, got {self.workers}")
        if self.gpus is not None and self.gpus < 0:
            raise UsageError(f"gpus: expected at least 0, got {self.gpus}")
        if self.gpus and self.workers not in (None, self.gpus):
            raise UsageError(
                f"{self.workers} workers on {self.gpus} GPUs; expected one worker per GPU: leave one of the two out, "
                "or take gpus=0 for workers on CPU"
            )

    def on(self, total_gpus: float, free_gpus: float) -> tuple[int, bool]:
        """(processes, whether each has a GPU) on a cluster with ``total_gpus``, of which ``free_gpus`` are idle.

        Where every GPU is taken it is one process, which waits for a GPU: another number could wait longer.
        """
        uses_gpu = total_gpus >= 1 if self.gpus is None else self.gpus > 0
        if not uses_gpu:
            return self.workers or 1, False
        return self.workers or self.gpus or max(1, int(free_gpus)), True


def gpus_at_hand() -> int:
    """Whole GPUs of the cluster at hand, taken ones too; those of this machine where there is no cluster.

    Connects to the cluster of RAY_ADDRESS, and starts none. Raises ResourceError where that cluster doesn't answer.
    """
    if not is_attached():
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    with connected():
        return cluster_gpus()


def cluster_gpus() -> int:
    """Whole GPUs of the cluster that this process is connected to, taken ones too.

    0 where the cluster is this machine alone and torch sees no GPU: Ray counts the cards, and torch may be built for
    CPUs.
    """
    machines = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    is_here_alone = machines == [ray.get_runtime_context().get_node_id()]
    if is_here_alone and not torch.cuda.is_available():
        return 0
    return int(ray.cluster_resources().get("GPU", 0))


def nvdec_sessions(reader: str) -> int:
    """How many decoding processes can have a session of NVDEC at once on the cluster that this process is connected to.

    0 where ``reader`` does not ask for NVDEC, or its library is not installed here: then it is not elsewhere either.
    """
    if reader not in (AUTO, "nvdec") or importlib.util.find_spec(LIBRARY) is None:
        return 0
    return sum(_sessions_of(node["Resources"]) for node in ray.nodes() if node["Alive"])


def _sessions_of(resources: Mapping[str, float]) -> int:
    """By the name of the chip that Ray tells among the resources of a machine."""
    chips = [name.split(":", 1)[1] for name in resources if name.startswith("accelerator_type:")]
    return int(resources.get("GPU", 0)) * engines_of(chips[0].replace("-", " ")) if chips else 0


def torch_device(name: str) -> torch.device:
    """The device ``cpu`` or ``cuda``. Raises ResourceError where this process was given a GPU and torch sees none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ResourceError(
            f"this work was given a GPU, and torch {torch.__version__} sees none; install torch for CUDA and a driver "
            "that it fits on every machine with a GPU, or start the cluster with --num-gpus=0"
        )
    return torch.device(name)


def processes_that_fit(machines: Iterable[Mapping[str, float]], each: Mapping[str, float]) -> int:
    """How many processes fit at once on idle machines.

    ``machines``: per machine its resources, such as {"CPU": 16.0, "GPU": 1.0}. ``each``: what one process needs, all of
    it on one machine; shares of a resource are possible.
    """
    return sum(
        min(int(machine.get(name, 0.0) / amount + 1e-6) for name, amount in each.items() if amount)
        for machine in machines
    )


def require_fit(what: str, processes: int, each: Mapping[str, float]) -> None:
    """Raises ResourceError where ``processes`` that need ``each`` (resource → amount) never fit on the cluster at once.

    ``what``: the work, in words. Ray itself would wait without a word. Machines that an autoscaler could still bring do
    not count.
    """
    total = ray.cluster_resources()
    for name, amount in each.items():
        if processes * amount > (have := total.get(name, 0.0)) + 1e-6:
            raise ResourceError(
                f"{what} needs {processes * amount:g} {name}s, the cluster has {have:g}; ask for at most "
                f"{int(have / amount + 1e-6)} workers" + (", or for none of its GPUs (gpus=0)" if name == "GPU" else "")
            )
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if (fit := processes_that_fit(machines, each)) < processes:
        needs = " and ".join(f"{amount:g} {name}s" for name, amount in each.items() if amount)
        raise ResourceError(
            f"{what} needs {needs} on one machine for each of {processes} processes, and the cluster's machines have "
            f"room for {fit}; ask for fewer, or bring machines with both"
        )
