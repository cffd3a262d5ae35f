"""Measures how an encoder's weights are loaded: seconds and peak memory of a process that does nothing else.

    python benchmarks/loading.py --preset large FOLDER

Three ways, each in a process of its own, in bf16: float32 weights without an identity file (hashed for their
fingerprint, then converted), float32 weights with one (converted tensor by tensor, digests checked beside it), and a
copy kept in bf16 (``halsted encoder add --out``). Untrained weights are written to FOLDER, where they are left. The
files lie in the page cache, so disks do not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from halsted_ray.model.encoder import Encoder
from halsted_ray.model.encoder_identity import IDENTITY_FILE, encoder_identity, keep_encoder

LOADING = """
import sys, threading, time
import torch
from halsted_ray.model.encoder import Encoder

def now(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

torch.set_num_threads(1)
before, done, private = now("RssAnon"), threading.Event(), []
def watch():
    while not done.wait(0.005):
        private.append(now("RssAnon"))
threading.Thread(target=watch, daemon=True).start()
started_s, cpu_s = time.perf_counter(), time.process_time()
encoder = Encoder.load(sys.argv[1], device=sys.argv[2], precision="bf16")
if encoder.device.type == "cuda":
    torch.cuda.synchronize()
taken_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
done.set()
print(taken_s, cpu_s, max([*private, now("RssAnon")]) - before, now("VmHWM"))
"""


def main(words: list[str] | None = None) -> list[dict[str, float | str]]:
    """Prints a line per way, then all results as JSON; returns them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="where the weights are written")
    parser.add_argument("--preset", default="large", help="size of the encoder (default large: 1.2 GB in float32)")
    parser.add_argument("--device", default="cpu", help="where they are loaded to (default cpu)")
    parser.add_argument(
        "--times", type=int, default=3, help="how often each way is measured (default 3; the best counts)"
    )
    options = parser.parse_args(words)
    source, copy = options.folder / f"{options.preset}-fp32", options.folder / f"{options.preset}-bf16"
    if not source.exists():
        Encoder.create(options.preset, 0).save(str(source))
    if not copy.exists():
        keep_encoder(str(source), str(copy), "bf16")
    (source / IDENTITY_FILE).unlink(missing_ok=True)
    rows = [measured("float32, hashed", source, options.device, options.times)]
    started_s = time.perf_counter()
    encoder_identity(str(source))
    print(f"identity made in {time.perf_counter() - started_s:.2f} s")
    rows.append(measured("float32, identified", source, options.device, options.times))
    rows.append(measured("kept in bf16", copy, options.device, options.times))
    print(json.dumps(rows))
    return rows


def measured(name: str, place: Path, device: str, times: int) -> dict[str, float | str]:
    """The best of some processes that load the encoder at ``place``."""
    runs = []
    for _ in range(times):
        words = [sys.executable, "-c", LOADING, str(place), device]
        shown = subprocess.run(words, check=True, capture_output=True, text=True, timeout=600).stdout
        runs.append([float(word) for word in shown.split()])
    seconds, cpu_s, private_mb, peak_mb = (min(column) for column in zip(*runs, strict=True))
    print(
        f"{name}: {seconds:.2f} s, {cpu_s:.2f} s of CPU, {private_mb:.0f} MB of its own, {peak_mb:.0f} MB at the peak "
        f"with pages of files",
        flush=True,
    )
    return {"way": name, "seconds": seconds, "cpu_s": cpu_s, "private_mb": private_mb, "peak_mb": peak_mb}


if __name__ == "__main__":
    main()
