"""The service under attack: what others wait for while clients do what stopped it before there was a front.

    python benchmarks/serve_attacks.py                         all attacks at once, and nothing before and after them
    python benchmarks/serve_attacks.py --attacks streams clips --seconds 20

The service, the attackers and the client that measures are three processes on one machine. Each attack comes from an
address of its own, since an address has a limited number of connections. Whoever was refused comes again after half a
second, for as long as the measurement lasts.

    posts-250, posts-700   so many POSTs to /session that send one byte of 1,000 and wait
    parts                  eight part uploads of one key, each at 1 kB/s
    streams                220 event streams of one key that may only read, on a job that runs
    clips                  six clips of 4096x4096 of one tenant at once
    headers                four requests at once, each with a header of 2 MB
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

AGAIN_S = 0.5
"""After so many seconds a client that was refused attacks again."""
PART_BYTES = 5 * 1024 * 1024
SIDE = 4096
"""Pixels of a side of a big clip."""
ASK = "/v1/clips:map?instruction=map+procedure+type"


@dataclass(frozen=True)
class Target:
    """A running service, and what the attackers and the others have there.

    ``key``: of the tenant that attacks; it may upload. ``reading_key``: of the same tenant, may only read. ``upload``:
    an open upload of ``key``. ``job``: a job that ``reading_key`` may follow. ``other_key``: of another tenant.
    ``big``, ``small``: files with a clip of 4096x4096 and with a small one.
    """

    port: int
    key: str
    reading_key: str
    other_key: str
    upload: str
    job: str
    big: str
    small: str

    def head(self, asked: str, size_bytes: int | None = None, key: str | None = None) -> bytes:
        """The head of a request, but for the empty line. ``asked``: method and path."""
        lines = [f"{asked} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"x-api-key: {key}"] if key else []
        lines += [f"Content-Length: {size_bytes}"] if size_bytes is not None else []
        return "".join(f"{line}\r\n" for line in lines).encode()


class Counts(Counter[str]):
    """What the clients of one attack, who come from the address ``source``, got: a status, ``closed`` without an
    answer, ``200 ended`` where a stream came to its end, or ``open`` until the end of the attack."""

    source = "127.0.0.1"


async def read_status(reader: asyncio.StreamReader) -> str:
    """The status of the answer that comes, and ``closed`` where the connection ends without one."""
    try:
        line = await reader.readline()
    except ConnectionError:
        return "closed"
    return line.split()[1].decode() if line.startswith(b"HTTP/") and len(line.split()) > 1 else "closed"


async def one_request(
    target: Target,
    counts: Counts,
    send: Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]],
    follows: bool = False,
) -> None:
    """Sends a request again and again, each on a connection of its own. ``follows``: an answer of 200 is read to its
    end."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port, local_addr=(counts.source, 0))
        except OSError:
            counts["no connection"] += 1
            await asyncio.sleep(AGAIN_S)
            continue
        sending = asyncio.create_task(send(writer))
        try:
            status = await read_status(reader)
            counts[status] += 1
            if follows and status == "200":
                with suppress(ConnectionError):
                    while await reader.read(65536):
                        pass
                counts["200 ended"] += 1
        except asyncio.CancelledError:
            counts["open"] += 1
            raise
        finally:
            sending.cancel()
            writer.close()
        await asyncio.sleep(AGAIN_S)


def waiting_posts(count: int) -> Callable[[Target, Counts], list[Awaitable[None]]]:
    """``count`` clients that send one byte of a body and wait."""

    def clients(target: Target, counts: Counts) -> list[Awaitable[None]]:
        async def send(writer: asyncio.StreamWriter) -> None:
            writer.write(target.head("POST /session", 1000) + b"\r\n{")

        return [one_request(target, counts, send) for _ in range(count)]

    return clients


def slow_parts(target: Target, counts: Counts) -> list[Awaitable[None]]:
    """Eight parts of an upload at 1 kB/s."""

    def part(number: int) -> Awaitable[None]:
        async def send(writer: asyncio.StreamWriter) -> None:
            path = f"/v1/uploads/{target.upload}/parts/{number}"
            writer.write(target.head(f"PUT {path}", PART_BYTES, target.key) + b"\r\n")
            while True:
                writer.write(b"x" * 256)
                await asyncio.sleep(0.25)

        return one_request(target, counts, send)

    return [part(number) for number in range(1, 9)]


def streams(target: Target, counts: Counts) -> list[Awaitable[None]]:
    """220 event streams of one key."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(target.head(f"GET /v1/jobs/{target.job}/events", key=target.reading_key) + b"\r\n")

    return [one_request(target, counts, send, follows=True) for _ in range(220)]


def big_clips(target: Target, counts: Counts) -> list[Awaitable[None]]:
    """Six clips of 4096x4096 of one tenant."""
    clip = Path(target.big).read_bytes()

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(target.head(f"POST {ASK}", len(clip), target.key) + b"Content-Type: video/mp4\r\n\r\n" + clip)

    return [one_request(target, counts, send) for _ in range(6)]


def large_headers(target: Target, counts: Counts) -> list[Awaitable[None]]:
    """Four requests with a header of 2 MB."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(target.head("GET /healthz") + b"x-large: ")
        with suppress(ConnectionError):
            for _ in range(20):
                writer.write(b"x" * 100_000)
                await writer.drain()

    return [one_request(target, counts, send) for _ in range(4)]


ATTACKS: dict[str, Callable[[Target, Counts], list[Awaitable[None]]]] = {
    "posts-250": waiting_posts(250),
    "posts-700": waiting_posts(700),
    "parts": slow_parts,
    "streams": streams,
    "clips": big_clips,
    "headers": large_headers,
}
"""Name → the clients of the attack, as coroutines that never end."""


async def attack(target: Target, names: list[str]) -> dict[str, Counts]:
    """Attacks until standard input ends. Returns name → what its clients got."""
    counts = {name: Counts() for name in names}
    for number, name in enumerate(names, start=2):
        counts[name].source = f"127.0.0.{number}"
    clients = [asyncio.ensure_future(client) for name in names for client in ATTACKS[name](target, counts[name])]
    print("attacking", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    return counts


def wait_for_others(target: Target, seconds: float) -> dict[str, list[float]]:
    """What others wait for during ``seconds``, one question after the other of each kind: kind → seconds of each
    answer. Raises RuntimeError for an answer that is none."""
    small, signing = Path(target.small).read_bytes(), json.dumps({"key": target.other_key}).encode()
    kinds: dict[str, tuple[str, str, dict[str, str], bytes, float]] = {
        "healthz": ("GET", "/healthz", {}, b"", 0.02),
        "sign in": ("POST", "/session", {"content-type": "application/json"}, signing, 0.2),
        "models of another tenant": ("GET", "/v1/models", {"x-api-key": target.other_key}, b"", 0.2),
        "clip of another tenant": (
            "POST",
            ASK,
            {"x-api-key": target.other_key, "content-type": "video/mp4"},
            small,
            0.2,
        ),
    }
    until_s, took_s, wrong = time.monotonic() + seconds, defaultdict[str, list[float]](list), list[str]()

    def ask(kind: str) -> None:
        import http.client

        method, path, headers, body, pause_s = kinds[kind]
        while time.monotonic() < until_s:
            began_s = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
            try:
                connection.request(method, path, body or None, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    wrong.append(f"{kind}: {answer.status}")
            except OSError as error:
                wrong.append(f"{kind}: {type(error).__name__}")
            finally:
                connection.close()
            took_s[kind].append(time.monotonic() - began_s)
            time.sleep(pause_s)

    askers = [threading.Thread(target=ask, args=(kind,)) for kind in kinds]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    if wrong:
        raise RuntimeError(f"others were refused: {dict(Counter(wrong))}")
    return dict(took_s)


@contextmanager
def attacking(target: Target, names: list[str]) -> Iterator[dict[str, dict[str, int]]]:
    """Attacks from another process during the block. What it gives is filled when the block ends: name of the attack →
    what its clients got."""
    found: dict[str, dict[str, int]] = {}
    if not names:
        yield found
        return
    words = [
        sys.executable,
        __file__,
        "--client",
        "attack",
        "--target",
        json.dumps(asdict(target)),
        "--attacks",
        *names,
    ]
    attacker = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert attacker.stdin is not None and attacker.stdout is not None
    try:
        if attacker.stdout.readline() != "attacking\n":
            raise RuntimeError("the attackers did not start")
        yield found
        attacker.stdin.close()
        found |= json.loads(attacker.stdout.read())
    finally:
        attacker.stdin.close()
        attacker.kill()
        attacker.wait()


def measured(target: Target, seconds: float) -> dict[str, list[float]]:
    """``wait_for_others`` in a process of its own. Raises RuntimeError where others were refused."""
    words = [sys.executable, __file__, "--client", "measure", "--target", json.dumps(asdict(target))]
    done = subprocess.run([*words, "--seconds", str(seconds)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    took_s: dict[str, list[float]] = json.loads(done.stdout)
    return took_s


def big_clip(path: Path) -> Path:
    """A clip of a second whose pictures have 4096x4096 pixels."""
    import av

    rng = np.random.default_rng(0)
    ground = rng.integers(0, 255, (SIDE // 64, SIDE // 64, 3), np.uint8).repeat(64, 0).repeat(64, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for n in range(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(ground, 64 * n, 1), format="rgb24")))
        container.mux(stream.encode())
    return path


def long_video(path: Path, minutes: float) -> Path:
    """A video of small pictures that lasts so many minutes."""
    import av

    ground = np.random.default_rng(1).integers(0, 255, (12, 20, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for n in range(round(minutes * 600)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(ground, n, 1), format="rgb24")))
        container.mux(stream.encode())
    return path


def prepare(port: int, state: Path, folder: Path, minutes: float) -> Target:
    """What the attackers and the others have at the service on ``port``: keys, an open upload, and a job that maps a
    video of so many minutes and has begun. ``state``: the folder of the service's state."""
    import httpx2

    from halsted_ray.service import users
    from halsted_ray.service.database import Database

    database = Database(f"sqlite:///{state}/halsted.db")
    key = users.issue_operator_key(database, "attacker", "ada", "surgeon")
    reading_key = users.issue_operator_key(database, "attacker", "eve", "trainee")
    other_key = users.issue_operator_key(database, "other", "bob", "surgeon")
    database.close()
    small, video = long_video(folder / "small.mp4", 2.5 / 60), long_video(folder / "long.mp4", minutes)
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers={"x-api-key": key}, timeout=120) as client:

        def asked(method: str, path: str, **options: Any) -> Any:
            answer = client.request(method, path, **options)
            answer.raise_for_status()
            return answer.json()

        first, second = (asked("POST", "/v1/uploads", json={})["upload_id"] for _ in range(2))
        with open(video, "rb") as file:
            for number, part in enumerate(iter(lambda: file.read(PART_BYTES), b""), start=1):
                asked("PUT", f"/v1/uploads/{first}/parts/{number}", content=part)
        video_id = asked("POST", f"/v1/uploads/{first}/complete")["video_id"]
        asked("POST", f"/v1/videos/{video_id}/shares", json={"user": "eve", "relation": "trainee"})
        job = asked("POST", f"/v1/videos/{video_id}/maps", json={})["job_id"]
        until_s = time.monotonic() + 60
        while asked("GET", f"/v1/jobs/{job}")["state"] != "running":
            if time.monotonic() > until_s:
                raise RuntimeError("the job did not begin within 60 s")
            time.sleep(0.1)
    return Target(port, key, reading_key, other_key, second, job, str(big_clip(folder / "big.mp4")), str(small))


def front_mb(top: int) -> float:
    """Private memory in MB of the fronts (HAProxy) below the process ``top``."""
    from measuring import is_below, parents_of_processes, private_mb

    parents, found = parents_of_processes(), 0.0
    for pid in parents:
        with suppress(OSError):
            if is_below(pid, top, parents) and Path(f"/proc/{pid}/comm").read_text().strip() == "haproxy":
                found += private_mb(pid)
    return found


def show(names: list[str], seconds: float) -> None:
    """Measures without an attack, under the attacks and again without, and prints a table of each."""
    from serving import serving, untrained

    # An hour of video whose pictures are looked through would take a quarter of an hour of a core before it is mapped.
    os.environ["HALSTED_DEIDENTIFY"] = "metadata"
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; seconds")
    with (
        tempfile.TemporaryDirectory() as place,
        serving(Path(place) / "site", untrained(Path(place) / "model", "tiny")) as server,
    ):
        port = int(server.address.rsplit(":", 1)[1])
        target = prepare(port, Path(place) / "site" / "state", Path(place), minutes=60 if seconds > 20 else 20)
        for what, attacks in (("before", []), ("under attack", names), ("after", [])):
            with attacking(target, attacks) as counts:
                before_mb = front_mb(server.process.pid)
                took_s = measured(target, seconds if attacks else seconds / 3)
                after_mb = front_mb(server.process.pid)
            print(f"\n{what}: the front has {before_mb:.1f} MB at the beginning, {after_mb:.1f} MB at the end")
            for kind, values in took_s.items():
                p50, p99 = np.percentile(values, (50, 99))
                print(f"  {kind:<26} P50 {p50:.3f}  P99 {p99:.3f}  longest {max(values):.3f}  ({len(values)} answers)")
            for name, found in counts.items():
                print(f"  {name:<26} {', '.join(f'{count} {status}' for status, count in sorted(found.items()))}")


def main() -> None:
    """Parses the options, and measures or is one of the clients."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the attack (default 60)")
    parser.add_argument("--client", choices=["attack", "measure"], help=argparse.SUPPRESS)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client is None:
        show(options.attacks, options.seconds)
        return
    target = Target(**json.loads(options.target))
    if options.client == "attack":
        print(json.dumps(asyncio.run(attack(target, options.attacks))))
    else:
        print(json.dumps(wait_for_others(target, options.seconds)))


if __name__ == "__main__":
    main()
