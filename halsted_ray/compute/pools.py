"""How many actors of each stage a Ray cluster carries."""

from __future__ import annotations

from dataclasses import dataclass, replace

from halsted_ray.errors import ResourceError

SPARE_CPUS = 2
"""Logical CPUs that stay free. Ray Data waits without a word when the actors hold all of them."""
LEAST_SHARE = 0.25
"""Of a logical CPU: the least that an actor is given."""
CALLS_PER_GPU_ACTOR = 8
"""Segments that an actor on a GPU has in hand at once, so that their windows fill its batches. Each holds the frames of
a minute, 58 MB at 224×224."""


@dataclass(frozen=True)
class ActorPool:
    """The actors of one stage: how many, and what each of them asks of Ray."""

    actors: int
    cpus: float
    gpus: float = 0.0
    calls: int = 1
    """Calls that an actor has in hand at once."""
    queues: bool = True
    """Whether as many calls again wait at an actor while it works. Where some actors are much faster than others, what
    waits at a slow actor is missing at a fast one."""
    most: int | None = None
    """The pool grows to this number where the cluster has room; None: it does not grow."""


@dataclass(frozen=True)
class Pools:
    """The actor pools of a run, one per stage."""

    decoders: ActorPool
    encoders: ActorPool
    leave: tuple[float, float] = (0.0, 0.0)
    """CPUs and GPUs of the whole cluster that are not for these pools, however large the cluster grows."""

    @property
    def device(self) -> str:
        """Where the encoding actors compute: ``cuda`` or ``cpu``."""
        return "cuda" if self.encoders.gpus else "cpu"

    @property
    def for_vectors(self) -> ActorPool:
        """The actors that work from stored vectors alone: the encoding ones on GPUs, else as many as would decode too,
        since nothing is decoded."""
        if self.encoders.gpus:
            return self.encoders
        return replace(self.encoders, actors=max(self.encoders.actors, self.decoders.actors), most=self.decoders.most)

    def __str__(self) -> str:
        share = self.encoders.gpus
        device = "on CPU" if not share else "a GPU each" if share == 1 else f"{share:g} GPU each"
        grows = ", more as the cluster grows" if self.decoders.most or self.encoders.most else ""
        return (
            f"{self.decoders.actors} decoding actors ({self.decoders.cpus:g} CPUs each), "
            f"{self.encoders.actors} encoding actors ({device}){grows}"
        )


def size_pools(
    cpus: float,
    gpus: float,
    cores: int,
    segments: int,
    decoders: int | None = None,
    encoders: int | None = None,
    gpu_share: float = 1.0,
    per_gpu: int = 1,
    grows: bool = False,
    nvdec_sessions: int = 0,
) -> Pools:
    """Pools for ``segments`` on a cluster with ``cpus`` free logical CPUs and ``gpus`` free GPUs.

    ``cores`` is how many cores really compute. ``decoders`` and ``encoders`` fix the number of actors of a stage.
    ``per_gpu`` encoding actors share ``gpu_share`` of a GPU. ``grows``: a stage whose number is not fixed may get more
    actors when the cluster has more room. ``nvdec_sessions``: so many decoding actors may decode on GPUs, beside those
    that keep the cores busy. Raises ResourceError where the actors don't fit beside ``SPARE_CPUS``.
    """
    free_cpus = cpus - SPARE_CPUS
    asked = decoders, encoders
    # A decoder of 1080p keeps a core busy for 8 to 12 s per minute of video, the tiny encoder for 1 s.
    encoders = encoders or min(int(gpus) * per_gpu or max(1, cores // 5), segments)
    decoders = decoders or max(1, min(cores - (encoders if cores > 4 else 0) + nvdec_sessions, segments))
    share = min(1.0, int(100 * free_cpus / (decoders + encoders)) / 100) if free_cpus > 0 else 0.0
    if share < LEAST_SHARE:
        raise ResourceError(
            f"the cluster has {cpus:g} free logical CPUs; {decoders} decoding and {encoders} encoding actors "
            f"{'as asked ' if any(asked) else ''}need at least {SPARE_CPUS + LEAST_SHARE * (decoders + encoders):g}, "
            f"{SPARE_CPUS} of them for Ray Data itself; start Ray with --num-cpus=4 or more, end what else runs "
            "there, or ask for fewer actors"
        )
    on_gpu = gpus >= 1
    return Pools(
        ActorPool(
            decoders,
            share,
            queues=not nvdec_sessions,
            most=segments if grows and not asked[0] and segments > decoders else None,
        ),
        ActorPool(
            encoders,
            share,
            int(100 * gpu_share / per_gpu) / 100 if on_gpu else 0.0,
            CALLS_PER_GPU_ACTOR if on_gpu else 1,
            most=segments if grows and not asked[1] and segments > encoders else None,
        ),
    )
