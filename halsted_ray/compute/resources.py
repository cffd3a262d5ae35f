"""What a run asks of a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from halsted_ray.compute.priority import PRIORITIES
from halsted_ray.errors import UsageError
from halsted_ray.video.readers import READERS


@dataclass(frozen=True)
class ResourceRequest:
    """Decides how fast a run is, and nothing about the rows of a video that ``decoder_memory_mb`` can decode. Raises
    UsageError."""

    decoders: int | None = None
    taggers: int | None = None
    """Actors of each stage; None: as many as the cluster carries."""
    batch_segments: int = 1
    """Segments that a tagging actor takes at once."""
    decoder_memory_mb: int = 1024
    """Of a decoding process; a video that needs more fails, and no other with it."""
    reader: str = "pyav"
    priority: str = "normal"
    """Among the runs on one cluster: see ``priority.py``."""
    wait_for: tuple[int, int] = (0, 0)
    """CPUs and GPUs that a cluster which grows by need is asked for first."""

    def __post_init__(self):
        for name, known in (("reader", tuple(READERS)), ("priority", PRIORITIES)):
            if (got := getattr(self, name)) not in known:
                raise UsageError(f"unknown {name} {got!r}; expected one of {', '.join(known)}")
        for name in ("decoders", "taggers", "batch_segments", "decoder_memory_mb"):
            if (got := getattr(self, name)) is not None and got < 1:
                raise UsageError(f"{name}: expected at least 1, got {got}")
        if min(self.wait_for) < 0:
            raise UsageError(f"wait_for: expected CPUs and GPUs, none below 0, got {self.wait_for}")


DEFAULT_REQUEST = ResourceRequest()
