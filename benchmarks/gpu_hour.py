"""Maps an hour of video as a user does, and says where the time goes: start, decoding, encoding, tags, publishing.

    python benchmarks/gpu_hour.py --make-hour 1080p --encoder random:giant:0 --precision bf16
    python benchmarks/gpu_hour.py --hour FILE --reader nvdec --warm
    python benchmarks/gpu_hour.py --make-hour 720p --minutes 2 --encoder random:tiny:0       # a minute, without a GPU

Each mode runs in a process of its own, so that its time counts from the command on; making the footage, the encoder's
folder and the model is not counted. With --warm a Ray cluster runs before the command, else the command starts one.

    every            every window of the model: 2 coarse and 24 fine ones per minute
    15s              one vector per 15 s
    15s-keyframes    the same, from key frames alone
    vectors          once more with a newer model, from the vectors that ``every`` stored

The results go to results/gpu/<card>.json. Key frames, readers and precisions are measured one at a time: a run replaces
only the entry of its own mode, source, encoder, precision, reader and start.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from footage import CACHE
from gpu_footage import KINDS, footage
from machine_watch import Watch, watching
from measuring import commit
from ray._private.ray_constants import ENABLE_RAY_CLUSTERS_ENV_VAR

RESULTS = Path(__file__).parent / "results" / "gpu"
MODES = ("every", "15s", "15s-keyframes", "vectors")
ADDRESS = "Ray is at "
STEP_FORM = "{seconds:7.1f} s  {name}"
Run = dict[str, Any]
"""What one mode took, as JSON values."""


def main(words: list[str] | None = None) -> list[Run]:
    """Runs the modes of the command line, prints a table for each, and returns what it wrote."""
    options = read_options(words)
    cache = options.cache
    name = options.hour.name if options.hour else options.make_hour
    video = options.hour or said("footage", lambda: footage(name, options.minutes, cache))
    encoder = said("encoder", lambda: encoder_folder(options.encoder, cache))
    models = said("models", lambda: model_folders(encoder, options.encoder, cache))
    runs = []
    with tempfile.TemporaryDirectory(dir=cache) as place:
        archive = Path(place) / "archive"
        archive.mkdir()
        put(video.resolve(), archive / "video.mp4")
        for mode in options.modes:
            spec = {
                "mode": mode,
                "archive": str(archive),
                "out": str(Path(place) / ("every" if mode == "vectors" else mode)),
                "model": models[mode == "vectors"],
                "precision": options.precision,
                "reader": options.reader,
                "answer": str(Path(place) / f"{mode}.json"),
            }
            run = measured(spec, options.warm, options.timeout) | {
                "source": name,
                "encoder": options.encoder,
                "minutes": options.minutes if not options.hour else None,
            }
            print(shown(run), flush=True)
            runs.append(run)
            write(run, options.results)
    return runs


def put(video: Path, at: Path) -> None:
    """Links ``video`` into the archive: by its inode where it lies on the same disk."""
    try:
        os.link(video, at)
    except OSError:
        at.symlink_to(video)


def read_options(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--hour", type=Path, metavar="FILE", help="a video of any length")
    source.add_argument("--make-hour", choices=KINDS, help="synthetic video, which is made first")
    parser.add_argument("--minutes", type=int, default=60, metavar="N", help="length of the synthetic video")
    parser.add_argument("--encoder", default="random:giant:0", metavar="REF", help="as Encoder.load takes it")
    parser.add_argument("--precision", metavar="NAME", help="bf16, fp8, … (default: that of the device)")
    parser.add_argument("--reader", metavar="NAME", help="auto, nvdec, pyav (default: that of halsted map)")
    parser.add_argument("--warm", action="store_true", help="Ray runs before the command")
    parser.add_argument(
        "--modes",
        type=lambda text: text.split(","),
        default=["every"],
        metavar="NAMES",
        help=f"of {', '.join(MODES)} (default every)",
    )
    parser.add_argument("--timeout", type=float, default=600.0, metavar="S", help="a mode that takes longer is ended")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="folder for <card>.json")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="folder for footage and weights")
    options = parser.parse_args(words)
    if unknown := set(options.modes) - set(MODES):
        parser.error(f"unknown modes {sorted(unknown)}; expected of {', '.join(MODES)}")
    if "vectors" in options.modes and options.modes[0] != "every":
        parser.error("mode vectors needs the vectors of mode every; put every first")
    options.cache.mkdir(parents=True, exist_ok=True)
    return options


def said(what: str, make: Any) -> Any:
    """The answer of ``make``, with a line of how long it took. Not a part of the measurement."""
    started_s = time.perf_counter()
    answer = make()
    print(f"made ready: {what} in {time.perf_counter() - started_s:.1f} s", flush=True)
    return answer


def encoder_folder(ref: str, cache: Path) -> str:
    """The folder of the encoder ``ref``, with its identity beside the weights, as a hospital has it. A random encoder
    is made on the GPU where there is one, and kept."""
    import torch

    from halsted_ray.model.encoder import Encoder
    from halsted_ray.model.encoder_identity import encoder_identity
    from halsted_ray.model.presets import random_checkpoint

    if not ref.startswith("random:"):
        return ref
    folder = cache / "encoders" / ref.replace(":", "-")
    if not (folder / "model.safetensors").exists():
        _, preset, seed = ref.split(":")
        device, precision = ("cuda", "bf16") if torch.cuda.is_available() else ("cpu", "fp32")
        weights = random_checkpoint(preset, int(seed), device)
        Encoder(weights, device, fingerprint="untrained").save(str(folder), precision)  # kept as it runs
    encoder_identity(str(folder))
    return str(folder)


def model_folders(encoder: str, ref: str, cache: Path) -> tuple[str, str]:
    """Two untrained models on ``encoder``: the second is the newer version that maps from stored vectors."""
    from halsted_ray.model.encoder_identity import encoder_identity
    from halsted_ray.model.halsted import Halsted

    known = encoder_identity(encoder)
    folders = []
    for version in ("1", "2"):
        folder = cache / "models" / f"{ref.replace(':', '-').replace('/', '-')}-{version}"
        model = Halsted.create(
            None, known.dim, encoder_ref=encoder, encoder_fingerprint=known.fingerprint, seed=int(version)
        )
        model.configure(version=version)
        model.save(str(folder))
        folders.append(str(folder))
    return folders[0], folders[1]


def measured(spec: Run, warm: bool, timeout_s: float) -> Run:
    """What ``spec`` took in a process of its own, from the command to its end. Raises RuntimeError where it failed."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with ExitStack() as stack:
        if warm:
            environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            environment["RAY_ADDRESS"] = stack.enter_context(cluster(environment))
            environment[ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # since that cluster is on loopback
        watch = stack.enter_context(watching())
        started = time.time()
        child = subprocess.Popen(
            [sys.executable, __file__, "--child", json.dumps(spec | {"started": started})],
            env=environment,
            start_new_session=True,
        )
        try:
            code = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"mode {spec['mode']} was not done after {timeout_s:.0f} s") from None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)  # this group holds nothing but the child and what it started
                child.wait()
        wall_s = time.time() - started
    if code not in (0, 3):
        raise RuntimeError(f"mode {spec['mode']} ended with code {code}; its messages stand above")
    answer = json.loads(Path(spec["answer"]).read_text())
    return finished(answer, spec, warm, wall_s, started, watch)


@contextmanager
def cluster(environment: dict[str, str]) -> Iterator[str]:
    """The address of a Ray cluster on this machine, in a process of its own, until the end of the block."""
    child = subprocess.Popen(
        [sys.executable, __file__, "--cluster"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        address = next((line for line in child.stdout if line.startswith(ADDRESS)), "")
        if not address:
            raise RuntimeError("no Ray cluster started for --warm; its messages stand above")
        yield address.removeprefix(ADDRESS).strip()
    finally:
        child.stdin.close()  # it ends its cluster, and then itself
        child.wait(60)


def run_cluster() -> None:
    """Starts Ray as a command would, says where it is, and ends it when nothing more can come in."""
    from halsted_ray.compute.cluster import connected

    with connected():
        import ray

        print(f"{ADDRESS}{ray.get_runtime_context().gcs_address}", flush=True)
        sys.stdin.read()


def run_child(spec: Run) -> int:
    """Maps as ``halsted map`` does, and writes when what happened. The exit code of the run."""
    from halsted_ray.compute.progress import Progress, RunObserver
    from halsted_ray.compute.resources import ResourceRequest
    from halsted_ray.mapping.pipeline import map_archive
    from halsted_ray.maps.reading import read_segments
    from halsted_ray.records import WindowSpec

    started = spec["started"]
    steps: dict[str, float] = {"modules imported": time.time() - started}
    done: list[tuple[float, float]] = []

    class Follow(RunObserver):
        """Notes when the run says something, and how much is done when."""

        def on_message(self, message: str) -> None:
            steps.setdefault(message, time.time() - started)

        def on_progress(self, progress: Progress) -> None:
            done.append((time.time() - started, progress.done_s))

    own: dict[str, Any] = {"fidelity": "keyframes" if spec["mode"] == "15s-keyframes" else "reference"}
    if spec["mode"].startswith("15s"):
        own |= {"windows": WindowSpec(15.0, 15.0), "task": "macro"}
    resources = ResourceRequest() if spec["reader"] is None else ResourceRequest(reader=spec["reader"])
    called_s = time.time() - started
    summary = map_archive(
        spec["archive"],
        spec["out"],
        spec["model"],
        precision=spec["precision"],
        resources=resources,
        observer=Follow(),
        settle_s=0,
        **own,
    )
    ended_s = time.time() - started
    table = read_segments(spec["out"], ["new_vectors", "used_vectors", "device"])
    answer = {
        "steps_s": steps | {step: called_s + seconds for step, seconds in summary.start_s.items()},
        "done": done,
        "ended_s": ended_s,
        "video_s": summary.video_s,
        "segments": summary.segments,
        "failed": summary.segments_failed,
        "decoded": summary.segments_decoded,
        "stages": summary.stages,
        "vectors": 0 if spec["mode"] == "vectors" else sum(table["new_vectors"].to_pylist()),
        "devices": sorted(set(filter(None, table["device"].to_pylist()))),
        "encoding": asdict(summary.encoding),
    }
    Path(spec["answer"]).write_text(json.dumps(answer))
    return summary.exit_code


def finished(answer: Run, spec: Run, warm: bool, wall_s: float, started: float, watch: Watch) -> Run:
    """One run as it stands in the results: ``answer`` of its process, and what was seen of the machine meanwhile."""
    done = answer["done"]
    first_s, last_s = (done[0][0], done[-1][0]) if done else (wall_s, wall_s)
    steady = (done[-1][1] - done[0][1]) / (last_s - first_s) if last_s > first_s else None
    begin, end = (started + first_s, started + last_s) if steady else (started, started + wall_s)
    gpu, nvdec = watch.gpu_busy(begin, end)
    stages = answer["stages"]
    return {
        "mode": spec["mode"],
        "precision": spec["precision"],
        "reader": spec["reader"],
        "start": "warm" if warm else "cold",
        "card": card(),
        "devices": answer["devices"],
        "video_s": answer["video_s"],
        "segments": answer["segments"],
        "failed": answer["failed"],
        "wall_s": wall_s,
        "steps_s": dict(sorted(answer["steps_s"].items(), key=lambda step: step[1])),
        "first_result_s": first_s,
        "after_last_segment_s": answer["ended_s"] - last_s if done else None,
        "video_hours_per_hour": answer["video_s"] / wall_s,
        "video_hours_per_hour_steady": steady,
        "vectors": answer["vectors"],
        "vectors_per_s": answer["vectors"] / wall_s,
        "encoding": answer["encoding"],
        "stages": stages,
        "cores_busy": watch.cores_busy(begin, end),
        "gpu_busy_share": gpu,
        "nvdec_busy_share": nvdec,
        "cores": len(os.sched_getaffinity(0)),
        "commit": commit(),
    }


def shown(run: Run) -> str:
    """One run as a table of text."""

    def number(value: float | None, form: str) -> str:
        return form.format(value) if value else "–"

    start = f"Ray {'ran before' if run['start'] == 'warm' else 'started by the command'}"
    precision, reader = run["precision"] or "default precision", run["reader"] or "default reader"
    lines = [
        "",
        f"{run['mode']}: {run['video_s'] / 60:.0f} min of {run['source']}, {run['encoder']}, {precision}, {reader}, "
        f"{start}, {run['card']}, {run['cores']} cores",
        *(STEP_FORM.format(seconds=seconds, name=name[:70]) for name, seconds in run["steps_s"].items()),
        STEP_FORM.format(seconds=run["first_result_s"], name="first segment finished"),
        STEP_FORM.format(seconds=run["wall_s"], name="end of the command"),
    ]
    stages = run["stages"]
    rows = [
        ("video-hours per hour, start included", number(run["video_hours_per_hour"], "{:.1f}")),
        ("video-hours per hour after the first segment", number(run["video_hours_per_hour_steady"], "{:.1f}")),
        ("seconds after the last segment (publishing)", number(run["after_last_segment_s"], "{:.1f}")),
        ("vectors, vectors per second", f"{run['vectors']:,}, {run['vectors_per_s']:.1f}"),
        ("useful share of batches", number(run["encoding"]["clips"] and run["encoding"]["useful_share"], "{:.1%}")),
        ("encoder busy (its own clock)", number(run["encoding"]["clips"] and run["encoding"]["busy_share"], "{:.0%}")),
        (
            "GPU busy (driver), NVDEC busy",
            f"{number(run['gpu_busy_share'], '{:.0%}')}, {number(run['nvdec_busy_share'], '{:.0%}')}",
        ),
        ("cores busy", f"{number(run['cores_busy'], '{:.1f}')} of {run['cores']}"),
        ("wall seconds by stage, all actors", spent(stages["wall_s"])),
        ("CPU seconds by stage, all actors", spent(stages["cpu_s"])),
    ]
    return "\n".join([*lines, *(f"  {name:<46}{value}" for name, value in rows)])


def spent(seconds: dict[str, float]) -> str:
    """Seconds by stage, without those that took none."""
    return ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if value >= 0.05)


def card() -> str:
    """The name of the GPU, or cpu."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def write(run: Run, results: Path) -> None:
    """Puts a run into the file of its card; it replaces the last one of the same kind."""
    import ray
    import torch

    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{run['card'].replace(' ', '-')}.json"
    kept = json.loads(path.read_text()) if path.exists() else {"runs": {}}
    names = ("mode", "source", "minutes", "encoder", "precision", "reader", "start")
    key = ", ".join(str(run[name]) for name in names if run[name] is not None)
    kept |= {
        "card": run["card"],
        "machine": f"{platform.processor() or platform.machine()}, {run['cores']} cores",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "ray": ray.__version__},
    }
    kept["runs"][key] = run | {"measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--cluster"]:
        sys.exit(run_cluster())
    if sys.argv[1:2] == ["--child"]:
        sys.exit(run_child(json.loads(sys.argv[2])))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # `timeout` then ends the child too
    main()
