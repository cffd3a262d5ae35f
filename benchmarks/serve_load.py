"""The service under load: clients in a process of their own, on the same machine.

    python benchmarks/run.py --only serve_load                 everything that has a bar to meet; takes six minutes
    python benchmarks/serve_load.py                            clips:map from 1 to 64 clients, CPU time by process
    python benchmarks/serve_load.py --encoder-delay 0.3        as if the encoder ran elsewhere: 0.3 s per batch
    python benchmarks/serve_load.py --upload-gb 2              one large upload, then 20 uploads at once: memory
    python benchmarks/serve_load.py --sdk-gb 1                 one large video through the published SDK
    … --model demo/model/model --batch 1 --to load.html        another model; no batches; a drawing of the latencies
    python benchmarks/serve_before.py --before CHECKOUT        against an earlier state of the service, in turns

A client sends its next request when it has the answer to its last request. 503 with Retry-After counts as an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Setting, ratio
from serve_uploads import measure_sdk, measure_uploads
from serving import Server, clip_bytes, serving, untrained

CLIENTS = (1, 2, 4, 8, 16, 32, 64)
DELAY_S = 0.3
BUSY = "503 with Retry-After"
"""Stands for the status of a refused request that says when to come back."""


def measure(setting: Setting) -> list[dict[str, Any]]:
    """All entries of this benchmark (``measuring.ratio``)."""
    seconds, size_gb = (2.0, 0.1) if setting.quick else (8.0, 2.0)
    with setting.place() as place:
        folder = Path(place)
        tiny, base = untrained(folder / "model", "tiny"), untrained(folder / "base", "random:base:0")
        with serving(folder / "tiny", tiny) as server:
            steps = [step(server, clients, seconds) for clients in CLIENTS]
            uploads = measure_uploads(server, folder, size_gb)
        with serving(folder / "elsewhere", tiny, encoder_delay=DELAY_S) as server:
            few, many = (step(server, clients, 1.5 * seconds) for clients in (2, 64))
        with serving(folder / "elsewhere-1", tiny, encoder_delay=DELAY_S, batch=1) as server:
            single = step(server, 64, seconds)
        took_s = []
        for batch in (None, 1):
            with serving(folder / f"base-{batch}", base, batch=batch) as server:
                took_s.append(all_at_once(server, 3))
    best, last = max(row["rate"] for row in steps), steps[-1]
    shown = ", ".join(
        f"{row['clients']}: {row['rate']:.1f}/s (P50 {row['p50_s']:.2f} s, P95 {row['p95_s']:.2f} s)" for row in steps
    )
    fine = all(set(row["codes"]) <= {"200", BUSY} for row in (*steps, few, many))
    answers = f"{sum(row['codes'].get('200', 0) for row in steps)} answers of the tiny encoder on this machine"
    return [
        ratio(
            "clips:map: throughput at 64 clients against the best of 1 to 64",
            last["rate"] / best,
            0.9,
            also=fine,
            rows=answers,
            why=f"{shown}; CPU per answer at 64: {cpu_text(last)}",
        ),
        ratio(
            "clips:map: P95 at 64 clients against 2, encoder elsewhere (0.3 s per batch)",
            many["p95_s"] / few["p95_s"],
            1.34,
            at_most=True,
            also=fine,
            rows=f"{few['codes']} and {many['codes']}",
            why=f"{few['p95_s']:.3f} and {many['p95_s']:.3f} s at "
            f"{few['rate']:.1f} and {many['rate']:.1f} answers per second; CPU per answer at 64: {cpu_text(many)}",
        ),
        ratio(
            "clips:map: batching against one by one, encoder elsewhere (0.3 s per pass)",
            many["rate"] / single["rate"],
            None,
            rows=f"{many['codes']} and {single['codes']}",
        ),
        ratio(
            "clips:map: batching against one by one, encoder base",
            took_s[1] / took_s[0],
            2,
            rows="3 clips each",
            why=f"{took_s[0]:.1f} s together, {took_s[1]:.1f} s one by one: without a GPU one clip, 0.36 TFLOP, "
            "keeps the processor busy by itself, and sharing a pass saves nothing",
        ),
        *uploads,
    ]


def main() -> None:
    """Parses the options, and measures or is the process of the clients."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--model", help="default: the tiny encoder with an untrained decoder")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each step (default 10)")
    parser.add_argument(
        "--encoder-delay",
        type=float,
        default=0.0,
        help="in place of the encoder something that sleeps so many seconds per batch",
    )
    parser.add_argument("--batch", type=int, help="clips per pass at most (default: as in serve/config.yaml)")
    parser.add_argument("--upload-gb", type=float, default=0.0)
    parser.add_argument("--sdk-gb", type=float, default=0.0)
    parser.add_argument("--to", type=Path, help="the HTML file to draw to")
    parser.add_argument("--client", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--key", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        print(json.dumps(asyncio.run(load(options.address, options.key, options.clients[0], options.seconds))))
    else:
        show(options)


def show(options: argparse.Namespace) -> None:
    """Measures what the options ask for and prints it."""
    print(f"{os.cpu_count()} cores of {processor()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = options.model or untrained(folder / "model", "tiny")
        with serving(folder / "site", model, options.encoder_delay, options.batch) as server:
            if options.upload_gb:
                for entry in measure_uploads(server, folder, options.upload_gb):
                    print(f"{entry['name']}: {entry['value']:.0f} {entry['unit']} ({entry['why']})")
            elif options.sdk_gb:
                print(measure_sdk(server, folder, options.sdk_gb))
            else:
                show_load(server, options)


def show_load(server: Server, options: argparse.Namespace) -> None:
    """Prints a row per number of clients."""
    print(f"{'clients':>8}{'requests/s':>12}{'P50 s':>9}{'P95 s':>9}{'batch':>7}  answers; CPU per answer")
    rows = []
    for clients in options.clients:
        rows.append(row := step(server, clients, options.seconds))
        print(
            f"{clients:>8}{row['rate']:>12.1f}{row['p50_s']:>9.3f}{row['p95_s']:>9.3f}{row['batch']:>7.1f}  "
            f"{row['codes']}; {cpu_text(row)}",
            flush=True,
        )
    best = max(row["rate"] for row in rows)
    print(f"throughput at {rows[-1]['clients']} clients is {rows[-1]['rate'] / best:.0%} of the best")
    if options.to:
        draw(rows, options.to)


def step(server: Server, clients: int, seconds: float) -> dict[str, Any]:
    """The answers that ``clients`` at once got in ``seconds``, and CPU-milliseconds per answer by kind of process."""
    words = [
        sys.executable,
        __file__,
        "--client",
        "--address",
        server.address,
        "--key",
        server.key,
        "--clients",
        str(clients),
        "--seconds",
        str(seconds),
    ]
    client = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    client.stdout.readline()  # it begins now: a start takes seconds beside other work
    time.sleep(0.5 * seconds)
    before, began_s = server.cpu_s(), time.monotonic()
    time.sleep(0.9 * seconds)
    after, spent_s = server.cpu_s(), time.monotonic() - began_s
    found = json.loads(client.communicate()[0])
    answers = max(1.0, found["rate"] * spent_s)
    return {
        "clients": clients,
        **found,
        "cpu_ms": {kind: 1000 * (after[kind] - before.get(kind, 0.0)) / answers for kind in after},
    }


def cpu_text(row: dict[str, Any]) -> str:
    """CPU time per answer by kind of process, in words."""
    spent = sorted(row["cpu_ms"].items(), key=lambda kind: -kind[1])
    return ", ".join(f"{kind} {ms:.1f} ms" for kind, ms in spent if ms >= 0.5)


async def load(address: str, key: str, clients: int, seconds: float) -> dict[str, Any]:
    """Sends requests from ``clients`` at once for ``1.5 * seconds`` and counts the answers of the last ``seconds``."""
    clip = clip_bytes()
    print("begins", flush=True)
    taken: list[tuple[float, float, str, int]] = []
    over_s = time.monotonic() + 1.5 * seconds

    async def one() -> None:
        async with connected(address) as connection:
            while time.monotonic() < over_s:
                began_s = time.monotonic()
                status, headers, body = await ask(connection, key, clip)
                batch = json.loads(body)["batch"] if status == 200 else 0
                wait_s = headers.get("retry-after")
                code = "200" if status == 200 else BUSY if status == 503 and wait_s else str(status)
                taken.append((began_s, time.monotonic() - began_s, code, batch))
                if code == BUSY:
                    await asyncio.sleep(float(wait_s or 0) * 0.2)

    before_s = time.process_time()
    await asyncio.gather(*(one() for _ in range(clients)))
    client_ms = 1000 * (time.process_time() - before_s) / max(1, len(taken))
    counted = [row for row in taken if over_s - seconds <= row[0] + row[1] < over_s]
    good = [row for row in counted if row[2] == "200"]
    took_s = [row[1] for row in good] or [float("nan")]
    # Answers come in bursts, one per batch: the slope of their count does not depend on where the window cuts a batch.
    done_s = sorted(row[0] + row[1] for row in good)
    rate = float(np.polyfit(done_s, np.arange(len(done_s)), 1)[0]) if len(done_s) > 2 else len(done_s) / seconds
    return {
        "rate": rate,
        "p50_s": float(np.percentile(took_s, 50)),
        "p95_s": float(np.percentile(took_s, 95)),
        "batch": float(np.mean([row[3] for row in good] or [0])),
        "codes": dict(Counter(row[2] for row in counted)),
        "client_ms": client_ms,
    }


class connected:  # noqa: N801 - read as a verb: async with connected(address) as connection
    """(reader, writer) of one connection to ``address``."""

    def __init__(self, address: str) -> None:
        self.host, port = address.removeprefix("http://").split(":")
        self.port = int(port)

    async def __aenter__(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.streams = await asyncio.open_connection(self.host, self.port)
        return self.streams

    async def __aexit__(self, *_exc: object) -> None:
        self.streams[1].close()


async def ask(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], key: str, clip: bytes
) -> tuple[int, dict[str, str], bytes]:
    """Sends one request and returns (status, headers, body) of its answer.

    The request is written as bytes: a client library would cost as much CPU as the service's own code does.
    """
    return await exchange(
        connection, "POST /v1/clips:map?instruction=map+procedure+type", key, {"content-type": "video/mp4"}, clip
    )


async def exchange(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    what: str,
    key: str,
    headers: dict[str, str],
    body: bytes = b"",
) -> tuple[int, dict[str, str], bytes]:
    """Sends a request, ``what`` being its method and path, and returns (status, headers, body) of the answer."""
    reader, writer = connection
    host, port = writer.get_extra_info("peername")
    sent = {"host": f"{host}:{port}", "x-api-key": key, "content-length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    writer.write(f"{what} HTTP/1.1\r\n{lines}\r\n".encode() + body)
    first, *lines_back = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    got = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines_back)}
    return int(first.split()[1]), got, await reader.readexactly(int(got.get("content-length", 0)))


def all_at_once(server: Server, clips: int) -> float:
    """Seconds until ``clips`` requests that came at once had their answers; one request before them warms up."""

    async def together(count: int) -> None:
        async def one() -> None:
            async with connected(server.address) as connection:
                status, _, body = await ask(connection, server.key, clip)
                assert status == 200, body

        await asyncio.gather(*(one() for _ in range(count)))

    clip = clip_bytes()
    asyncio.run(together(1))
    began_s = time.monotonic()
    asyncio.run(together(clips))
    return time.monotonic() - began_s


def draw(rows: list[dict[str, Any]], to: Path) -> None:
    """Draws latency and throughput by number of clients to an HTML file."""
    from plotly import graph_objects
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, subplot_titles=("seconds", "answers per second"))
    clients = [row["clients"] for row in rows]
    for name in ("p50_s", "p95_s"):
        figure.add_trace(graph_objects.Scatter(x=clients, y=[row[name] for row in rows], name=name[:3].upper()), 1, 1)
    figure.add_trace(graph_objects.Scatter(x=clients, y=[row["rate"] for row in rows], name="throughput"), 1, 2)
    figure.update_xaxes(type="log", title="clients", tickvals=clients)
    figure.write_html(to, include_plotlyjs=True)


def processor() -> str:
    """The name of this machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
