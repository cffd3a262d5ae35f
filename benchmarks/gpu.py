"""What a GPU makes of the encoder, on a bare machine: PyTorch, transformers and PyAV, no Ray.

    python benchmarks/gpu.py                          every preset in bf16 on the GPU at hand
    python benchmarks/gpu.py --presets giant --video FILE
    python benchmarks/gpu.py --device cpu --presets tiny --seconds 1

For every preset: clips a second, share of the chip's peak from the model's own FLOPs, memory, the gain of
``torch.compile`` and of each attention back end, what it costs to bring the clips as uint8 and normalise them on the
chip, video-hours a GPU-hour with 30-s and 2.5-s windows, and the cores of decoding that keep it busy.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable

import av
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from halsted_ray.model.encoder import PRESETS, Encoder
from halsted_ray.records import WindowSpec
from halsted_ray.video.readers import read_frames

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}
"""Dense bf16, by a part of the chip's name, from its data sheet."""
BATCHES = {"tiny": 256, "base": 64, "large": 64, "giant": 32}
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
AIM = 0.45


def main(words: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--presets", default=",".join(PRESETS), help="some of " + ", ".join(PRESETS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each number (default 10)")
    parser.add_argument("--video", help="also: frames a second that one core decodes of it")
    options = parser.parse_args(words)
    peak = peak_flops(options.device)
    print(
        f"{chip(options.device)}, torch {torch.__version__}, "
        f"{'peak unknown' if peak is None else f'{peak / 1e12:.0f} TFLOP/s in bf16'}"
    )
    realtime = decoding_rate(options.video) if options.video else None
    if realtime:
        print(f"one core decodes {realtime:.1f} seconds of the video a second")
    rows = [measure(name, options.device, options.seconds, peak, realtime) for name in options.presets.split(",")]
    print(json.dumps(rows))
    return rows


def measure(preset: str, device: str, seconds: float, peak: float | None, realtime: float | None) -> dict:
    """One preset with untrained weights of its size: the numbers don't depend on what it learned."""
    batch, dtype = (BATCHES[preset], torch.bfloat16) if device == "cuda" else (1, torch.float32)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    encoder = Encoder.create(preset, 0, device=device, dtype=dtype, micro_batch=batch)
    clips = torch.randint(0, 256, (batch, encoder.frames, *encoder.image_size, 3), dtype=torch.uint8)
    on_chip = clips.to(device)
    rate = {"eager": clips_a_second(lambda: encoder._vectors(on_chip), batch, device, seconds)}
    for name, backend in BACKENDS.items():
        if usable(encoder, on_chip, backend):
            with sdpa_kernel(backend):
                rate[name] = clips_a_second(lambda: encoder._vectors(on_chip), batch, device, seconds)
    if device == "cuda":
        compiled = torch.compile(encoder._vectors)
        rate["compiled"] = clips_a_second(lambda: compiled(on_chip), batch, device, seconds)
    host = clips.numpy().repeat(4, axis=0)
    rate["from the host"] = clips_a_second(lambda: encoder.encode(host), len(host), device, seconds)
    best = max(rate.values())
    spec = WindowSpec()
    windows_an_hour = 3600 / spec.coarse_s + 3600 / spec.fine_s
    hours = rate["from the host"] * 3600 / windows_an_hour
    row = {
        "preset": preset,
        "clips_a_second": {name: round(value, 2) for name, value in rate.items()},
        "tflop_a_clip": encoder.flops_per_clip / 1e12,
        "share_of_peak": None if peak is None else best * encoder.flops_per_clip / peak,
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None,
        "video_hours_a_gpu_hour": hours,
        "decoding_cores": hours / realtime if realtime else None,
    }
    show(row)
    return row


def clips_a_second(run: Callable, clips: int, device: str, seconds: float) -> float:
    """The best of three stretches, after a warm-up."""
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
    try:
        with sdpa_kernel(backend), torch.inference_mode():
            encoder._vectors(clips)
        return True
    except RuntimeError:  # PyTorch says so where a back end does not know this chip, shape or type
        return False


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def decoding_rate(video: str) -> float:
    """Seconds of video that one core decodes a second, as the pipeline does it."""
    with av.open(video) as container:
        length_s = min(120.0, container.duration / 1e6 - 1)
    times_s = np.arange(0, length_s, WindowSpec().fine_s / WindowSpec().frames)
    started_s = time.process_time()
    read_frames(video, times_s, (224, 224), "reference")
    return length_s / (time.process_time() - started_s)


def peak_flops(device: str) -> float | None:
    name = chip(device)
    return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None) if device == "cuda" else None


def chip(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else platform.machine()


def show(row: dict) -> None:
    rates = ", ".join(f"{name} {rate:.1f}" for name, rate in row["clips_a_second"].items())
    share = "" if row["share_of_peak"] is None else f"; {row['share_of_peak']:.0%} of the chip's peak (aim {AIM:.0%})"
    memory = "" if row["memory_gb"] is None else f"; {row['memory_gb']:.1f} GB"
    cores = "" if row["decoding_cores"] is None else f", kept busy by {row['decoding_cores']:.0f} cores"
    print(
        f"{row['preset']}: {rates} clips/s{share}{memory}; "
        f"{row['video_hours_a_gpu_hour']:.0f} video-hours an hour{cores}"
    )


if __name__ == "__main__":
    main()
