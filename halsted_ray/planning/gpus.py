"""What is known of a GPU: its peaks, its video decoders, and what it costs to rent.

NVDEC is the part of the chip that decodes video. It has ``nvdec_engines`` engines, and one session of a decoder uses
one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

PRECISIONS = ("bf16", "fp8")
"""What an encoder's linear layers can run in on a GPU."""


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU, by the vendor's data sheet."""

    bf16_tflops: float
    """Peak in dense bf16, in TFLOP/s."""
    has_fp8: bool
    """Whether its matrix units take fp8."""
    nvdec_engines: int
    nvdec_generation: str
    """A key of ``Nvdec.frames_per_engine_s``. The engines of the A100, H100 and H200 are of the generation Turing."""
    price_per_hour: float | None = None
    """An example of a list price with the machine around the GPU; None where none was looked up."""
    price_source: str = ""


@dataclass(frozen=True)
class Prices:
    """What the example prices of all GPUs have in common."""

    unit: str
    read_on: str


@dataclass(frozen=True)
class MatmulRates:
    """TFLOP/s that large matrix products reached on one ``device``, by precision: the middle of what was measured at
    the shapes of the giant."""

    device: str
    bf16: float
    fp8: float


@dataclass(frozen=True)
class Nvdec:
    """How fast NVDEC decodes. Nothing of it was measured by this project."""

    frames_per_engine_s: dict[str, dict[str, float]]
    """Generation → codec → frames of 1920x1080 that one engine decodes per second, as the vendor publishes it."""
    reference: str
    """Where that is published."""
    reached: float
    """Share of the published rate that is planned with: up to 2,000 frames/s were measured by others on the 7 engines
    of an H100, whose published rates are 5,397 together. It also stands for a lower video clock."""
    frames_share: dict[str, float]
    """Fidelity → share of a video's frames that go through the decoder. ``reference``: 1 / 1.8, the speed-up of leaving
    out frames that nobody refers to. ``keyframes``: one frame of 60."""

    def frames_per_s(self, generation: str, codec: str) -> float | None:
        """Frames of 1920x1080 that one engine is planned to decode per second; None for a codec without a rate."""
        published = self.frames_per_engine_s[generation].get(codec)
        return None if published is None else self.reached * published


def fp8_speedup(tflop: float, linear_tflop: float, bf16_clips_per_s: float, matmul: MatmulRates) -> float:
    """How many times as fast an encoder is with its linear layers in fp8, if everything else takes the same time.

    ``tflop`` of a clip, of which ``linear_tflop`` are in linear layers; ``bf16_clips_per_s`` was measured on
    ``matmul.device``. In bf16 a clip takes ``1 / bf16_clips_per_s``, of which the linear layers take
    ``linear_tflop / matmul.bf16``; in fp8 these take ``linear_tflop / matmul.fp8``. The time to quantise is left out,
    since it was not measured.
    """
    clip_s = 1 / bf16_clips_per_s
    linear_s = min(clip_s, linear_tflop / matmul.bf16)
    return clip_s / (clip_s - linear_s + linear_s * matmul.bf16 / matmul.fp8)
