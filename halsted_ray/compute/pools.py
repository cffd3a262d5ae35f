"""How many actors of each kind a Ray cluster carries."""

from __future__ import annotations

from dataclasses import dataclass

from halsted_ray.errors import ResourceError

SPARE_CPUS = 2
"""Logical CPUs that stay free. Ray Data waits without a word when actors hold them all."""


LEAST_SHARE = 0.25


@dataclass(frozen=True)
class Pools:
    """Actors of each stage and what each of them asks of Ray."""

    decoders: int
    taggers: int
    decoder_cpus: float
    tagger_cpus: float
    tagger_gpus: float

    def __str__(self) -> str:
        device = "a GPU each" if self.tagger_gpus else "on CPU"
        return (
            f"{self.decoders} decoding actors ({self.decoder_cpus:g} CPUs each), "
            f"{self.taggers} tagging actors ({device})"
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
    """Pools for ``segments`` on a cluster of ``cpus`` logical CPUs and ``gpus``, over ``cores`` that really compute.
    A tagging actor takes ``gpu_share`` of a GPU.

    Raises ResourceError where they don't fit beside ``SPARE_CPUS``.
    """
    room = cpus - SPARE_CPUS
    asked = decoders, taggers
    # A decoder of 1080p keeps a core busy for 8 to 12 s a minute of video, the tiny encoder for 1 s.
    taggers = taggers or min(int(gpus) or max(1, cores // 5), segments)
    decoders = decoders or max(1, min(cores - (taggers if cores > 4 else 0), segments))
    share = min(1.0, int(100 * room / (decoders + taggers)) / 100) if room > 0 else 0.0
    if share < LEAST_SHARE:
        raise ResourceError(
            f"the cluster has {cpus:g} free logical CPUs; {decoders} decoding and {taggers} tagging actors "
            f"{'as asked ' if any(asked) else ''}need at least {SPARE_CPUS + LEAST_SHARE * (decoders + taggers):g}, "
            f"{SPARE_CPUS} of them for Ray Data itself; start Ray with --num-cpus=4 or more, end what else runs "
            "there, or ask for fewer actors"
        )
    return Pools(decoders, taggers, share, share, gpu_share if gpus >= 1 else 0.0)
