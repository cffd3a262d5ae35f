"""Measures how fast the encoder runs on a GPU. Needs PyTorch, transformers and PyAV, but no Ray.

    python benchmarks/gpu.py                          every preset in bf16 on this machine's GPU
    python benchmarks/gpu.py --presets giant --video FILE
    python benchmarks/gpu.py --device cpu --presets tiny --seconds 1

For every preset it prints: clips per second, plain, with ``torch.compile``, with each attention back end, and with the
clips copied as uint8 from the host and normalised on the chip; the share of the chip's peak, from the model's own
FLOPs; memory; video-hours per GPU-hour with windows of 30 s and 2.5 s; and how many cores must decode video to keep
the GPU busy.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from halsted_ray.model.encoder import PRESETS, Encoder
from halsted_ray.records import WindowSpec
from halsted_ray.video.readers import read_frames

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}
"""Peak in dense bf16 according to the data sheet, by a part of the chip's name."""
BATCHES = {"tiny": 256, "base": 64, "large": 64, "giant": 32}
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
AIM = 0.45
"""The share of the chip's peak that we want to reach."""
Row = dict[str, Any]
"""The result of one preset, as JSON values."""


def main(words: list[str] | None = None) -> list[Row]:
    """Measures the presets of the command line, prints a line for each, then all results as JSON; returns them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--presets", default=",".join(PRESETS), help="which presets, separated by commas (default all)")
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default cuda)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each number is measured (default 10)")
    parser.add_argument("--video", help="also measure how fast one core decodes this video")
    options = parser.parse_args(words)
    peak = peak_flops(options.device)
    print(
        f"{chip(options.device)}, torch {torch.__version__}, "
        f"{'peak unknown' if peak is None else f'{peak / 1e12:.0f} TFLOP/s in bf16'}"
    )
    realtime = decoding_rate(options.video) if options.video else None
    if realtime:
        print(f"one core decodes {realtime:.1f} s of the video per second")
    rows = [measure(name, options.device, options.seconds, peak, realtime) for name in options.presets.split(",")]
    print(json.dumps(rows))
    return rows


def measure(preset: str, device: str, seconds: float, peak: float | None, realtime: float | None) -> Row:
    """Measures one preset with untrained weights, since the speed does not depend on what an encoder has learned.

    ``seconds``: how long each number is measured. ``peak``: the chip's peak in FLOP/s. ``realtime``: seconds of video
    that one core decodes per second.
    """
    batch, dtype = (BATCHES[preset], torch.bfloat16) if device == "cuda" else (1, torch.float32)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    encoder = Encoder.create(preset, 0, device=device, dtype=dtype, micro_batch=batch)
    clips = torch.randint(0, 256, (batch, encoder.frames, *encoder.image_size, 3), dtype=torch.uint8)
    on_chip = clips.to(device)
    rate = {"eager": clips_per_second(lambda: encoder._vectors(on_chip), batch, device, seconds)}
    for name, backend in BACKENDS.items():
        if usable(encoder, on_chip, backend):
            with sdpa_kernel(backend):
                rate[name] = clips_per_second(lambda: encoder._vectors(on_chip), batch, device, seconds)
    if device == "cuda":
        compiled = torch.compile(encoder._vectors)
        rate["compiled"] = clips_per_second(lambda: compiled(on_chip), batch, device, seconds)
    host = clips.numpy().repeat(4, axis=0)
    rate["from the host"] = clips_per_second(lambda: encoder.encode(host), len(host), device, seconds)
    best = max(rate.values())
    spec = WindowSpec()
    windows_per_hour = 3600 / spec.coarse_s + 3600 / spec.fine_s
    hours = rate["from the host"] * 3600 / windows_per_hour
    row = {
        "preset": preset,
        "clips_per_second": {name: round(value, 2) for name, value in rate.items()},
        "tflop_per_clip": encoder.flops_per_clip / 1e12,
        "share_of_peak": None if peak is None else best * encoder.flops_per_clip / peak,
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None,
        "video_hours_per_gpu_hour": hours,
        "decoding_cores": hours / realtime if realtime else None,
    }
    show(row)
    return row


def clips_per_second(run: Callable[[], object], clips: int, device: str, seconds: float) -> float:
    """Returns the best rate of three stretches after a warm-up. ``run`` encodes ``clips`` clips."""
    run()
    wait(device)
    rates = []
    for _ in range(3):
        count, started_s = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - started_s < seconds / 3:
            with torch.inference_mode():
                run()
            count += clips
            wait(device)
        rates.append(count / (time.perf_counter() - started_s))
    return max(rates)


def usable(encoder: Encoder, clips: torch.Tensor, backend: SDPBackend) -> bool:
    """Returns whether an attention back end runs on this chip with this shape and type."""
    try:
        with sdpa_kernel(backend), torch.inference_mode():
            encoder._vectors(clips)
        return True
    except RuntimeError:  # PyTorch raises it for a chip, shape or type that the back end does not support
        return False


def wait(device: str) -> None:
    """Waits until the GPU has finished all work."""
    if device == "cuda":
        torch.cuda.synchronize()


def decoding_rate(video: str) -> float:
    """Returns the seconds of video that one core decodes per second of CPU, the way the pipeline decodes."""
    with av.open(video) as container:
        length_s = min(120.0, container.duration / 1e6 - 1)
    times_s = np.arange(0, length_s, WindowSpec().fine_s / WindowSpec().frames)
    started_s = time.process_time()
    read_frames(video, times_s, (224, 224), "reference")
    return length_s / (time.process_time() - started_s)


def peak_flops(device: str) -> float | None:
    """Returns the chip's peak in FLOP/s, None for a CPU or an unknown chip."""
    name = chip(device)
    return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None) if device == "cuda" else None


def chip(device: str) -> str:
    """Returns the name of the GPU, or the kind of CPU."""
    return torch.cuda.get_device_name() if device == "cuda" else platform.machine()


def show(row: Row) -> None:
    """Prints one result as a line of text."""
    rates = ", ".join(f"{name} {rate:.1f}" for name, rate in row["clips_per_second"].items())
    share = "" if row["share_of_peak"] is None else f"; {row['share_of_peak']:.0%} of the chip's peak (aim {AIM:.0%})"
    memory = "" if row["memory_gb"] is None else f"; {row['memory_gb']:.1f} GB"
    cores = "" if row["decoding_cores"] is None else f", kept busy by {row['decoding_cores']:.0f} cores"
    print(
        f"{row['preset']}: {rates} clips/s{share}{memory}; "
        f"{row['video_hours_per_gpu_hour']:.0f} video-hours per hour{cores}"
    )


if __name__ == "__main__":
    main()
