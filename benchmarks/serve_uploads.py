"""How much memory the service takes while a large file and many files come in; ``serve_load.py`` runs this."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measuring import ratio
from serving import Server, clip_bytes

PART_BYTES = 5 * 1024 * 1024


def measure_uploads(server: Server, folder: Path, size_gb: float) -> list[dict[str, Any]]:
    """One large upload, then 20 uploads of 50 MB at once: by how much did the process grow that grew most?"""
    large = write_large(folder / "large.mp4", int(size_gb * 1e9), clip_bytes())
    with growing(server) as grown:
        took_s = send(server, large)
    entries = [
        ratio(
            f"an upload of {size_gb:g} GB: growth of the process that grew most",
            grown.most_mb,
            100,
            unit="MB",
            at_most=True,
            why=f"{grown.who}; {size_gb * 1e3 / took_s:.0f} MB/s",
        )
    ]
    clips = [write_large(folder / f"small-{n}.mp4", 50_000_000 + n, clip_bytes()) for n in range(20)]
    with growing(server) as grown, ThreadPoolExecutor(20) as pool:
        began_s = time.monotonic()
        list(pool.map(lambda path: send(server, path), clips))
        took_s = time.monotonic() - began_s
    return [
        *entries,
        ratio(
            "20 uploads of 50 MB at once: growth of the process that grew most",
            grown.most_mb,
            None,
            unit="MB",
            why=f"{grown.who}; {1000 / took_s:.0f} MB/s; of each upload one part of "
            "5 MiB is on its way, in up to three copies",
        ),
    ]


def measure_sdk(server: Server, folder: Path, size_gb: float) -> str:
    """One large video through the published SDK as it is, in a process of its own: time and memory in words."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--quiet",
            "download",
            "--no-deps",
            "--ignore-requires-python",
            "--only-binary",
            ":all:",
            "-d",
            folder,
            "halsted-sdk==0.1.0",
        ],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    small = [write_large(folder / f"small-{n}.mp4", 1_000_000 + n, clip_bytes()) for n in range(6)]
    large = write_large(folder / "large.mp4", int(size_gb * 1e9), clip_bytes())
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import halsted_sdk; "
        "print(len(halsted_sdk.HalstedClient('demo', *sys.argv[2:4]).process_video(sys.argv[4])))"
    )

    def process(video: Path) -> str:
        words = [sys.executable, "-c", program, wheel, server.key, server.address, video]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1]

    # One after the other, until both workers have had a job: the libraries that they load then are not counted.
    for path in small:
        process(path)
    with growing(server) as grown:
        began_s = time.monotonic()
        rows = process(large)
        took_s = time.monotonic() - began_s
    return (
        f"{size_gb:g} GB through the SDK: {rows} rows after {took_s:.0f} s; the process that grew most: "
        f"{grown.who}, {grown.most_mb:.0f} MB"
    )


def write_large(path: Path, size_bytes: int, clip: bytes) -> Path:
    """A video of ``size_bytes``: ``clip``, and a box named free, which players skip. The box is a hole in the file."""
    with open(path, "wb") as file:
        rest = size_bytes - len(clip)
        # A size of 1 says that the size follows in 8 bytes.
        file.write(clip + (1).to_bytes(4, "big") + b"free" + rest.to_bytes(8, "big"))
        file.truncate(size_bytes)
    return path


def send(server: Server, path: Path) -> float:
    """Uploads a file and returns how many seconds that took."""
    import httpx2

    began_s = time.monotonic()
    with httpx2.Client(base_url=server.address, headers={"x-api-key": server.key}, timeout=600) as client:
        where = f"/v1/uploads/{client.post('/v1/uploads', json={}).json()['upload_id']}"
        with open(path, "rb") as file:
            for number, part in enumerate(iter(lambda: file.read(PART_BYTES), b""), start=1):
                client.put(f"{where}/parts/{number}", content=part).raise_for_status()
        client.post(f"{where}/complete").raise_for_status()
    return time.monotonic() - began_s


class Growth:
    """The process that grew most: ``who``, its kind, has ``most_mb`` MB more private memory than before."""

    def __init__(self) -> None:
        self.most_mb, self.who = 0.0, "none"

    def look(self, before: dict[tuple[int, str], float], now: dict[tuple[int, str], float]) -> None:
        """Compares what the processes hold now with what they held before, by process in MB."""
        for (pid, kind), mb in now.items():
            if mb - before.get((pid, kind), mb) > self.most_mb:
                self.most_mb, self.who = mb - before[pid, kind], kind


@contextmanager
def growing(server: Server) -> Iterator[Growth]:
    """Looks at the memory of all processes of the service twice a second until the end of the block."""
    before, grown, over = server.memory_mb(), Growth(), threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            grown.look(before, server.memory_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield grown
    finally:
        over.set()
        watcher.join()
