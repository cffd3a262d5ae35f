"""Looks at this machine and says what stands in the way of a run: ``halsted doctor``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from halsted_ray.compute.cluster import ask_cluster
from halsted_ray.errors import HalstedError
from halsted_ray.storage.locations import filesystem, local_path
from halsted_ray.storage.retry import with_retries
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.nvdec import NO_DRIVER, NO_LIBRARY
from halsted_ray.video.nvdec_slots import ALLOWED, gpus_here

OK, NOTE, PROBLEM = "ok", "note", "problem"
CODECS = ("h264", "hevc", "mpeg2video", "mpeg4", "vp9", "av1", "mjpeg", "prores", "dvvideo", "wmv3")
"""What recorders of operating rooms are known to write."""
LEAST_FREE_GB = 10
LEAST_OPEN_FILES = 4096
"""Ray's documentation asks for more than the usual 1,024."""


@dataclass(frozen=True)
class MachineFinding:
    """What one look found. ``advice`` says what to do, '' where nothing needs to be done."""

    name: str
    state: str
    """``ok``; ``note``, which limits what can be done; ``problem``, which stops a run."""
    found: str
    advice: str = ""


def examine(places: Sequence[str] = ()) -> list[MachineFinding]:
    """Looks at Python, Ray, decoders, GPU, credentials and disk of this machine, and whether ``places`` can be listed.

    Changes nothing. Asks nobody over a network but the stores of ``places`` and the cluster of ``RAY_ADDRESS``. Takes
    some seconds, most of them for importing torch.
    """
    looks: list[Callable[[], MachineFinding]] = [
        _python,
        _ray,
        _machine,
        _open_files,
        _decoders,
        _decoding,
        _gpu,
        _nvdec,
        _s3,
        _mlflow,
        *(lambda place=place: _disk(place) for place in _local_folders(places)),
        *(lambda place=place: _place(place) for place in places),
    ]
    return [look() for look in looks]


def _python() -> MachineFinding:
    version = importlib.metadata.version("halsted-ray") if importlib.util.find_spec("halsted_ray") else "?"
    found = f"{platform.python_version()} at {sys.prefix}, halsted-ray {version}"
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        return MachineFinding("Python", PROBLEM, found, "take Python 3.11, 3.12 or 3.13")
    return MachineFinding("Python", OK, found)


def _ray() -> MachineFinding:
    version = importlib.metadata.version("ray")
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        return MachineFinding("Ray", OK, f"{version}; a run starts its own on this machine")
    try:
        if not ask_cluster(address):
            return MachineFinding(
                "Ray", NOTE, f"{version}; RAY_ADDRESS={address}", "this address can't be tried without joining"
            )
    except OSError as error:
        return MachineFinding(
            "Ray",
            PROBLEM,
            f"{version}; nothing answers at RAY_ADDRESS={address}: {error}",
            "start the cluster (`ray start --head`), or unset RAY_ADDRESS to run on this machine alone",
        )
    return MachineFinding("Ray", OK, f"{version}; a cluster answers at {address}")


def _machine() -> MachineFinding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    found = f"{cores} cores, {memory_gb:.0f} GB"
    if memory_gb < 6:
        return MachineFinding(
            "Machine", NOTE, found, "Ray, one decoder and one tagger take about 4 GB; map with one decoder"
        )
    return MachineFinding("Machine", OK, found)


def _open_files() -> MachineFinding:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    found = "as many as wanted" if allowed == resource.RLIM_INFINITY else f"{allowed:,} per process"
    if allowed != resource.RLIM_INFINITY and allowed < LEAST_OPEN_FILES:
        return MachineFinding(
            "Open files", NOTE, found, f"`ulimit -n {LEAST_OPEN_FILES}` before Ray starts on many cores"
        )
    return MachineFinding("Open files", OK, found)


def _decoders() -> MachineFinding:
    import av

    missing = [name for name in CODECS if not _has_decoder(name)]
    found = f"PyAV {av.__version__}" + (f", without {', '.join(missing)}" if missing else f", {len(CODECS)} codecs")
    advice = "install PyAV's own wheel (`pip install --force-reinstall av`), which carries all of them"
    return MachineFinding("Decoders", NOTE if missing else OK, found, advice if missing else "")


def _has_decoder(name: str) -> bool:
    import av

    try:
        av.Codec(name, "r")
    except (ValueError, av.FFmpegError):
        return False
    return True


def _decoding() -> MachineFinding:
    """Encodes one second of video and reads it in the decoding process, with all that the process is denied."""
    import av
    import numpy as np

    with tempfile.TemporaryDirectory() as folder, DecodeProcess() as process:
        file = Path(folder, "doctor.mp4")
        with av.open(str(file), "w") as container:
            stream = container.add_stream("mpeg4", rate=Fraction(10))
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for shade in range(10):
                picture = np.full((48, 64, 3), 20 * shade, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        try:
            probed = process.probe(str(file), deadline_s=60)
        except HalstedError as error:
            return MachineFinding(
                "Decoding", PROBLEM, str(error), "report this, with the whole of what `halsted doctor` says"
            )
    return MachineFinding("Decoding", OK, f"{probed.duration_s:g} s of video read in a process without network")


def _gpu() -> MachineFinding:
    import torch

    device = Path("/dev/nvidia0").exists()
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return MachineFinding("GPU", OK, f"{', '.join(names)}; torch {torch.__version__}")
    if device:
        return MachineFinding(
            "GPU",
            PROBLEM,
            f"there is an NVIDIA device, and torch {torch.__version__} can't use it",
            "install a CUDA build of torch that fits the driver (`nvidia-smi` names it)",
        )
    return MachineFinding(
        "GPU",
        NOTE,
        f"none; torch {torch.__version__}",
        "the tiny encoder runs well on CPUs; the giant needs one",
    )


def _nvdec() -> MachineFinding:
    from halsted_ray.video import nvdec_library

    gpus = gpus_here()
    why = nvdec_library.problem() or ("" if gpus else f"the driver lists no GPU that {ALLOWED} allows")
    if not why:
        sessions = sum(gpu.sessions for gpu in gpus)
        return MachineFinding("NVDEC", OK, f"{sessions} sessions on {len(gpus)} GPUs decode H.264 and HEVC")
    todo = {
        NO_DRIVER: "in a container, set NVIDIA_DRIVER_CAPABILITIES=compute,video,utility",
        NO_LIBRARY: "`pip install 'halsted-ray[nvdec]'`",
    }
    return MachineFinding("NVDEC", NOTE, f"{why}; videos are decoded on the CPU", todo.get(why, ""))


def _s3() -> MachineFinding:
    import botocore.session

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"
    session = botocore.session.Session()
    providers = session.get_component("credential_provider").providers
    # A machine of AWS would be asked for its role over the network: leave that to the first use.
    local = [provider for provider in providers if provider.METHOD not in ("iam-role", "container-role")]
    for provider in local:
        if provider.load() is not None:
            return MachineFinding("S3 credentials", OK, f"from {provider.METHOD}; end point {endpoint}")
    return MachineFinding(
        "S3 credentials",
        NOTE,
        "none in the environment or in ~/.aws",
        "for archives on S3 set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for a store of your own, "
        "AWS_ENDPOINT_URL; a machine of AWS may also have a role",
    )


def _mlflow() -> MachineFinding:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    return MachineFinding("Model registry", OK, uri or f"sqlite:///mlflow.db in the folder you are in ({os.getcwd()})")


def _local_folders(places: Iterable[str]) -> list[str]:
    """Folders whose disks matter: where we are, where temporary files go, and the local ones of ``places``."""
    folders = [os.getcwd(), tempfile.gettempdir(), *(path for place in places if (path := local_path(place)))]
    by_disk = {os.stat(folder).st_dev: folder for folder in reversed(folders) if os.path.isdir(folder)}
    return sorted(by_disk.values())


def _disk(folder: str) -> MachineFinding:
    free_gb = shutil.disk_usage(folder).free / 1e9
    found = f"{free_gb:,.0f} GB free at {folder}"
    if free_gb < LEAST_FREE_GB:
        return MachineFinding("Disk", NOTE, found, f"Ray spills to disk when memory is short: free {LEAST_FREE_GB} GB")
    return MachineFinding("Disk", OK, found)


def _place(location: str) -> MachineFinding:
    try:
        fs, path = filesystem(location)
        found = with_retries(lambda: fs.ls(path, detail=False), "its listing", 5.0)
    except HalstedError as error:
        return MachineFinding(
            "Place", PROBLEM, f"{location}: {error}", "check the address, the credentials and the network"
        )
    except (OSError, ImportError, ValueError) as error:
        return MachineFinding(
            "Place", PROBLEM, f"{location}: {error}", "expected a folder or a URL such as s3://bucket/folder"
        )
    return MachineFinding("Place", OK, f"{location}: {len(found)} entries")
