"""What a run asks of a cluster, and what one actor of a stage uses."""

from __future__ import annotations

from dataclasses import dataclass

from halsted_ray.compute.priority import PRIORITIES
from halsted_ray.errors import UsageError
from halsted_ray.video.readers import AUTO, READERS


@dataclass(frozen=True)
class ResourceRequest:
    """Decides how fast a run is. It does not change the rows of a video, as long as ``decoder_memory_mb`` is enough to
    decode that video. Raises UsageError for a value that no run can use.
    """

    decoders: int | None = None
    """Decoding actors; None for as many as the cluster carries."""
    encoders: int | None = None
    """Encoding actors, which also tag; None for as many as the cluster carries."""
    encoders_per_gpu: int = 1
    """Encoding actors that share a GPU. A small encoder leaves most of a GPU idle, while Python does the rest."""
    batch_segments: int = 1
    """Segments that an encoding actor takes per call."""
    decoder_memory_mb: int = 1024
    """Limit of one decoding process. A video that needs more fails, and no other video fails with it."""
    reader: str = AUTO
    """What decodes: a key of ``video.readers.READERS``, or ``auto`` for NVDEC and the cores side by side."""
    priority: str = "normal"
    """Among the runs on one cluster: one of ``compute.priority.PRIORITIES``."""
    wait_for: tuple[int, int] = (0, 0)
    """CPUs and GPUs that a cluster which grows on demand is asked for before the actors start."""

    def __post_init__(self) -> None:
        for name, known in (("reader", (AUTO, *READERS)), ("priority", PRIORITIES)):
            if (got := getattr(self, name)) not in known:
                raise UsageError(f"unknown {name} {got!r}; expected one of {', '.join(known)}")
        for name in ("decoders", "encoders", "encoders_per_gpu", "batch_segments", "decoder_memory_mb"):
            if (got := getattr(self, name)) is not None and got < 1:
                raise UsageError(f"{name}: expected at least 1, got {got}")
        if min(self.wait_for) < 0:
            raise UsageError(
                f"wait_for: expected a number of CPUs and a number of GPUs, each at least 0, got {self.wait_for}"
            )


DEFAULT_REQUEST = ResourceRequest()


@dataclass(frozen=True)
class ActorResources:
    """What one actor of a stage can use at most, stated by the stage.

    The actor pools never give an actor more CPUs or GPUs than this. Ray is not told of the memory: to Ray it is a
    number in its books, and a cluster whose book says too little waits without a word.
    """

    cpus: float
    gpus: float
    memory_mb: int
    """Measured peak of the actor and of the process that decodes for it, at the picture size of the tiny encoder and
    without the weights of an encoder."""
