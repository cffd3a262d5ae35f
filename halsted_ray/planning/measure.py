"""The rates of this machine, measured in under a minute: what ``halsted plan --measure`` writes."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from halsted_ray.planning.rates import DecodeRate, EncodeRate, Rates, gpu_name, usual_precision

ENCODERS = {
    "h264": ("libx264", {"preset": "veryfast", "bf": "3"}),
    "hevc": ("libx265", {"preset": "superfast", "x265-params": "log-level=error:bframes=3"}),
}
"""Codec → what writes the footage that its decoding is measured on."""


def measured(preset: str = "tiny", decode_s: int = 2) -> dict[str, Any]:
    """The rates of one core of this machine, and of its GPU where there is one, as JSON values for ``Rates.load``.

    Takes less than a minute. Decoding is measured on ``decode_s`` seconds of 1080p in H.264 and in HEVC, made for this
    purpose.
    """
    import torch

    hardware = machine()
    torch.set_num_threads(1)
    is_quick = preset in ("tiny", "random:tiny", "base")
    found: dict[str, Any] = {
        "decode": [asdict(_measured_decoding(codec, decode_s, hardware)) for codec in ENCODERS],
        "encode": [asdict(_measured_encoding(preset, "cpu", hardware))] if is_quick else [],
    }
    if torch.cuda.is_available():
        name = gpu_name(torch.cuda.get_device_name(), Rates.load().gpus)
        found["encode"].append(asdict(_measured_encoding(preset, name, f"{hardware}, {torch.cuda.get_device_name()}")))
    found["tag_windows_per_core_s"] = _measured_tagging()
    return found


def _measured_decoding(codec: str, seconds: int, hardware: str) -> DecodeRate:
    import av
    import numpy as np

    from halsted_ray.video.readers import read_frames

    encoder, options = ENCODERS[codec]
    width, height, fps = 1920, 1080, 30
    rng = np.random.default_rng(0)
    large = np.kron(rng.integers(60, 200, (36, 48, 3)).astype(np.uint8), np.ones((40, 48, 1), np.uint8))
    grain = rng.integers(0, 12, (height, width, 1)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "video.mp4")
        with av.open(path, "w") as container:
            stream = container.add_stream(encoder, rate=fps, options=options)
            assert isinstance(stream, av.VideoStream), f"{encoder} encodes no video"
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 8_000_000
            for number in range(seconds * fps):
                top, left = number % 300, number * 2 % 300
                image_HWC = large[top : top + height, left : left + width] + np.roll(grain, number, 1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HWC, format="rgb24")))
            container.mux(stream.encode())
        times_s = np.arange(0, seconds - 0.05, 2.5 / 16)
        read_frames(path, times_s[:2], (224, 224))
        took_s = min(_core_s(lambda: read_frames(path, times_s, (224, 224))) for _ in range(3))
    return DecodeRate(codec, width, height, seconds * fps / took_s, hardware)


def _measured_encoding(preset: str, device: str, hardware: str) -> EncodeRate:
    import numpy as np

    from halsted_ray.model.encoder import Encoder

    place = "cpu" if device == "cpu" else "cuda"
    # 'tiny' is the encoder that ships; the preset 'tiny' has twice the tokens and is named 'random:tiny' here.
    encoder = (
        Encoder.load(preset, device=place)
        if preset == "tiny"
        else Encoder.create(preset.removeprefix("random:"), 0, device=place)
    )
    count = encoder.micro_batch * 4
    clips_NTHWC = np.zeros((count, encoder.frames, *encoder.image_size, 3), np.uint8)
    encoder.encode(clips_NTHWC)
    clock = _core_s if device == "cpu" else _wall_s
    took_s = min(clock(lambda: encoder.encode(clips_NTHWC)) for _ in range(3))
    return EncodeRate(preset, device, count / took_s, hardware, precision=usual_precision(device))


def _measured_tagging() -> float:
    import numpy as np

    from halsted_ray.model.halsted import Halsted

    model = Halsted.create(None, 192)
    vectors_ND = np.zeros((32, 192), np.float16)
    task = model.taxonomy.tasks[0].name
    model.tag(vectors_ND, task, unit="grid")
    return 32 / min(_core_s(lambda: model.tag(vectors_ND, task, unit="grid")) for _ in range(2))


def _core_s(function: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    started_s = time.process_time()
    function()
    return time.process_time() - started_s


def _wall_s(function: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    function()
    return time.perf_counter() - started_s


def machine() -> str:
    """Name of the processor, as far as the system tells, and the number of its cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"
