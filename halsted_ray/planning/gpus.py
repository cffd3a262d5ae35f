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
class Nvdec:
    """How fast NVDEC decodes."""

    frames_per_engine_s: dict[str, dict[str, float]]
    """Generation → codec → frames of 1920x1080 that one engine decodes per second, as the vendor publishes it."""
    reference: str
    """Where that is published."""
    reached: float
    """Share of the published rate that is planned with: seven sessions on the 7 engines of an H100, whose published
    rates are 5,397 frames/s together, decoded 1,473 of 1080p H.264. They read pieces of 9 s, so the time to open a
    video is in it. It also stands for a lower video clock."""
    frames_share: dict[str, float]
    """Fidelity → share of a video's frames that take time. ``reference``: as measured there, 1,473 / 1,583, by leaving
    out frames that nobody refers to. ``keyframes``: one frame of 60."""

    def frames_per_s(self, generation: str, codec: str) -> float | None:
        """Frames of 1920x1080 that one engine is planned to decode per second; None for a codec without a rate."""
        published = self.frames_per_engine_s[generation].get(codec)
        return None if published is None else self.reached * published
