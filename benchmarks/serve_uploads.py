"""Memory of the service while large and many files come in: measured by ``serve_load.py``."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from measuring import ratio
from serving import Server, clip_bytes

PART_BYTES = 5 * 1024 * 1024


def measure_uploads(server: Server, folder: Path, size_gb: float) -> list[dict]:
    """One large upload, then 20 of 50 MB at once; how much the process grew that grew most."""
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
    """One large video through the published SDK, unchanged, in a process of its own."""
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

    for path in small:  # in turn, until both workers had one: what they load for it is not the large file's doing
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
    """Players skip a box named free; its bytes are a hole in the file."""
    with open(path, "wb") as file:
        rest = size_bytes - len(clip)
        # A size of 1 says that the real one follows in 8 bytes.
        file.write(clip + (1).to_bytes(4, "big") + b"free" + rest.to_bytes(8, "big"))
        file.truncate(size_bytes)
    return path


def send(server: Server, path: Path) -> float:
    """Seconds that the upload took."""
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
    """``most_mb`` more private memory than before had the process ``who``, looked at twice a second."""

    def __init__(self):
        self.most_mb, self.who = 0.0, "none"

    def look(self, before: dict, now: dict) -> None:
        for (pid, kind), mb in now.items():
            if mb - before.get((pid, kind), mb) > self.most_mb:
                self.most_mb, self.who = mb - before[pid, kind], kind


@contextmanager
def growing(server: Server):
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
