"""What a run asks of a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from halsted_ray.errors import UsageError
from halsted_ray.mapping.priority import PRIORITIES
from halsted_ray.video.readers import READERS


@dataclass(frozen=True)
class Workers:
    """Decides how fast a run is, and nothing about its rows. Raises UsageError."""

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
        if self.batch_segments < 1:
            raise UsageError(f"batch_segments: expected at least 1, got {self.batch_segments}")


AS_FITS = Workers()
