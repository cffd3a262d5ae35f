"""Measures how fast the encoder alone runs on a GPU. Needs PyTorch and PyAV, but no Ray.

    python benchmarks/gpu.py                          every preset on this machine's GPU
    python benchmarks/gpu.py --presets giant --precisions bf16,fp8 --batches 1,16,128 --video FILE
    python benchmarks/gpu.py --device cpu --presets tiny --seconds 1

For every preset, precision and batch it prints clips per second: eager, as a CUDA graph, with compiled layers, and
both. For the best of them: the share of the chip's peak in that precision, from the model's own FLOPs; the latency of
one clip, beside the paper's; each attention back end; clips copied as uint8 from the host; memory; video-hours per
GPU-hour with windows of 30 s and 2.5 s; and how many cores must decode video to keep the GPU busy.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from halsted_ray.errors import ModelError
from halsted_ray.model.checkpoint import Checkpoint
from halsted_ray.model.encoder import PRESETS, Encoder
from halsted_ray.model.presets import random_checkpoint
from halsted_ray.records import WindowSpec
from halsted_ray.video.readers import read_frames

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}
"""Peak in dense bf16 according to the data sheet, by a part of the chip's name. Dense fp8 is twice that where it is."""
BATCHES = {"cuda": (1, 2, 4, 8, 16, 32, 64, 128), "cpu": (1, 2)}
PRECISIONS = {"cuda": ("bf16", "fp8"), "cpu": ("fp32", "bf16", "int8")}
WAYS: dict[str, dict[str, bool]] = {
    "eager": {"compile": False},
    "graph": {"compile": False, "graph": True},
    "compiled": {"compile": True},
    "compiled graph": {"compile": True, "graph": True},
}
"""Name → how the encoder is told to run."""
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
AIM = 0.45
"""The share of the chip's peak that we want to reach."""
PAPER_LATENCY_S = 0.31
"""The paper's seconds for one clip on an A4000, encoder and decoder."""
Row = dict[str, Any]
"""The result of one preset in one precision, as JSON values."""


def main(words: list[str] | None = None) -> list[Row]:
    """Measures what the command line names, prints lines for each, then all results as JSON; returns them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--presets", default=",".join(PRESETS), help="which presets, separated by commas (default all)")
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default cuda)")
    parser.add_argument("--precisions", help="separated by commas (default bf16,fp8; on a CPU fp32,bf16,int8)")
    parser.add_argument("--batches", help="separated by commas (default 1,2,4,8,16,32,64,128; on a CPU 1,2)")
    parser.add_argument("--ways", help=f"separated by commas (default all: {','.join(WAYS)}; on a CPU eager)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each number is measured (default 5)")
    parser.add_argument("--video", help="also measure how fast one core decodes this video")
    options = parser.parse_args(words)
    kind = torch.device(options.device).type
    precisions = options.precisions.split(",") if options.precisions else PRECISIONS[kind]
    batches = [int(batch) for batch in options.batches.split(",")] if options.batches else BATCHES[kind]
    ways = options.ways.split(",") if options.ways else list(WAYS) if kind == "cuda" else ["eager"]
    peak = peak_flops(options.device)
    print(
        f"{chip(options.device)}, torch {torch.__version__}, "
        f"{'peak unknown' if peak is None else f'{peak / 1e12:.0f} TFLOP/s in bf16'}"
    )
    realtime = decoding_rate(options.video) if options.video else None
    if realtime:
        print(f"one core decodes {realtime:.1f} s of the video per second")
    rows = []
    for preset in options.presets.split(","):
        weights = random_checkpoint(preset, 0, options.device)  # once: the giant's are 4 GB
        for precision in precisions:
            measured = measure(
                preset, weights, precision, options.device, batches, ways, options.seconds, peak, realtime
            )
            if measured:
                rows.append(measured)
    print(json.dumps(rows))
    return rows


def measure(
    preset: str,
    weights: Checkpoint,
    precision: str,
    device: str,
    batches: list[int] | tuple[int, ...],
    ways: list[str],
    seconds: float,
    peak: float | None,
    realtime: float | None,
) -> Row | None:
    """Measures one preset with untrained ``weights``, since the speed does not depend on what an encoder has learned;
    None where this device can't run the precision, which is printed.

    ``seconds``: how long each number is measured. ``peak``: the chip's peak in FLOP/s in bf16. ``realtime``: seconds of
    video that one core decodes per second.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    rates: dict[str, dict[str, float]] = {}

    def made(batch: int, way: str) -> Encoder:
        how = WAYS[way]
        return Encoder(
            weights, device, precision, batch, how["compile"], how.get("graph", False), fingerprint="untrained"
        )

    for way in ways:
        for batch in batches:
            try:
                encoder = made(batch, way)
                clips = torch.randint(0, 256, (batch, *encoder.clip_shape), dtype=torch.uint8, device=device)
                rate = clips_per_second(lambda e=encoder, c=clips: e.forward_device(c), batch, device, seconds)
            except torch.OutOfMemoryError:
                print(f"{preset}, {precision}, {way}: a batch of {batch} does not fit")
                break
            except ModelError as error:
                print(f"{preset}, {precision}: {error}")
                return None
            rates.setdefault(way, {})[str(batch)] = round(rate, 2)
            print(f"{preset}, {precision}, {way}: batch {batch}: {rate:.2f} clips/s", flush=True)
            del encoder, clips
            gc.collect()
    best, way, batch = max((rate, way, int(batch)) for way, of in rates.items() for batch, rate in of.items())
    encoder = made(batch, way)
    clips = torch.randint(0, 256, (batch, *encoder.clip_shape), dtype=torch.uint8, device=device)
    attention = attention_rates(made(batch, "eager"), device, clips, seconds)
    host = clips.cpu().numpy().repeat(4, axis=0)
    from_host = clips_per_second(lambda: encoder.encode(host), len(host), device, seconds)
    spec = WindowSpec()
    hours = from_host * 3600 / (3600 / spec.coarse_s + 3600 / spec.fine_s)
    peak_here = None if peak is None else peak * (2 if precision == "fp8" else 1)
    row = {
        "preset": preset,
        "precision": precision,
        "clips_per_second": rates,
        "best": {"way": way, "batch": batch, "clips_per_second": best},
        "attention_clips_per_second": attention,
        "from_the_host_clips_per_second": round(from_host, 2),
        "latency_s": {way: 1 / of["1"] for way, of in rates.items() if "1" in of},
        "tflop_per_clip": encoder.flops_per_clip / 1e12,
        "share_of_peak": None if peak_here is None else best * encoder.flops_per_clip / peak_here,
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None,
        "video_hours_per_gpu_hour": hours,
        "decoding_cores": hours / realtime if realtime else None,
    }
    show(row)
    return row


def attention_rates(encoder: Encoder, device: str, clips: torch.Tensor, seconds: float) -> dict[str, float]:
    """Clips per second, run eagerly, by attention back end that runs on this chip with this shape and type."""
    rates = {}
    for name, backend in BACKENDS.items():
        try:
            with sdpa_kernel(backend):
                rate = clips_per_second(lambda: encoder.forward_device(clips), len(clips), device, seconds)
        except RuntimeError:  # PyTorch raises it for a chip, shape or type that the back end does not support
            continue
        rates[name] = round(rate, 2)
    return rates


def clips_per_second(run: Callable[[], object], clips: int, device: str, seconds: float) -> float:
    """Returns the best rate of three stretches after a warm-up. ``run`` encodes ``clips`` clips."""
    run()
    wait(device)
    rates = []
    for _ in range(3):
        count, started_s = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - started_s < seconds / 3:
            run()
            count += clips
            wait(device)
        rates.append(count / (time.perf_counter() - started_s))
    return max(rates)


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
    """Returns the chip's peak in FLOP/s in bf16, None for a CPU or an unknown chip."""
    name = chip(device)
    return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None) if device == "cuda" else None


def chip(device: str) -> str:
    """Returns the name of the GPU, or the kind of CPU."""
    return torch.cuda.get_device_name() if device == "cuda" else platform.machine()


def show(row: Row) -> None:
    """Prints one result as a line of text."""
    best = row["best"]
    share = "" if row["share_of_peak"] is None else f"; {row['share_of_peak']:.0%} of the chip's peak (aim {AIM:.0%})"
    latency_s = min(row["latency_s"].values(), default=None)
    latency = "" if latency_s is None else f"; one clip in {latency_s:.3f} s (paper, A4000: {PAPER_LATENCY_S} s)"
    attention = ", ".join(f"{name} {rate:.1f}" for name, rate in row["attention_clips_per_second"].items())
    memory = "" if row["memory_gb"] is None else f"; {row['memory_gb']:.1f} GB"
    cores = "" if row["decoding_cores"] is None else f", kept busy by {row['decoding_cores']:.0f} cores"
    print(
        f"{row['preset']}, {row['precision']}: best {best['clips_per_second']:.1f} clips/s ({best['way']}, batch "
        f"{best['batch']}){share}{latency}; attention {attention}; from the host "
        f"{row['from_the_host_clips_per_second']:.1f}{memory}; "
        f"{row['video_hours_per_gpu_hour']:.0f} video-hours per hour{cores}"
    )


if __name__ == "__main__":
    main()
