"""How many actors of each stage a Ray cluster carries."""

from __future__ import annotations

from dataclasses import dataclass

from halsted_ray.errors import ResourceError

SPARE_CPUS = 2
"""Logical CPUs that stay free. Ray Data waits without a word when the actors hold all of them."""
LEAST_SHARE = 0.25
"""Of a logical CPU: the least that an actor is given."""


@dataclass(frozen=True)
class ActorPool:
    """The actors of one stage: how many, and what each of them asks of Ray."""

    actors: int
    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Pools:
    """The actor pools of a wave, one per stage."""

    decoders: ActorPool
    taggers: ActorPool

    def __str__(self) -> str:
        device = "a GPU each" if self.taggers.gpus else "on CPU"
        return (
            f"{self.decoders.actors} decoding actors ({self.decoders.cpus:g} CPUs each), "
            f"{self.taggers.actors} tagging actors ({device})"
        )


def size_pools(
    cpus: float,
    gpus: float,
    cores: int,
    segments: int,
    decoders: int | None = None,
    taggers: int | None = None,
    gpu_share: float = 1.0,
) -> Pools:
    """Pools for ``segments`` on a cluster with ``cpus`` free logical CPUs and ``gpus`` free GPUs.

    ``cores`` is how many cores really compute. ``decoders`` and ``taggers`` fix the number of actors of a stage. A
    tagging actor takes ``gpu_share`` of a GPU. Raises ResourceError where the actors don't fit beside ``SPARE_CPUS``.
    """
    free_cpus = cpus - SPARE_CPUS
    asked = decoders, taggers
    # A decoder of 1080p keeps a core busy for 8 to 12 s per minute of video, the tiny encoder for 1 s.
    taggers = taggers or min(int(gpus) or max(1, cores // 5), segments)
    decoders = decoders or max(1, min(cores - (taggers if cores > 4 else 0), segments))
    share = min(1.0, int(100 * free_cpus / (decoders + taggers)) / 100) if free_cpus > 0 else 0.0
    if share < LEAST_SHARE:
        raise ResourceError(
            f"the cluster has {cpus:g} free logical CPUs; {decoders} decoding and {taggers} tagging actors "
            f"{'as asked ' if any(asked) else ''}need at least {SPARE_CPUS + LEAST_SHARE * (decoders + taggers):g}, "
            f"{SPARE_CPUS} of them for Ray Data itself; start Ray with --num-cpus=4 or more, end what else runs "
            "there, or ask for fewer actors"
        )
    return Pools(ActorPool(decoders, share), ActorPool(taggers, share, gpu_share if gpus >= 1 else 0.0))
