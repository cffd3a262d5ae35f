"""The service under load, from clients in a process of their own on loopback; prints tables with the hardware.

    python benchmarks/serve_load.py --model demo/model/model            clips:map from 1 to 64 clients
    python benchmarks/serve_load.py --model … --encoder-delay 0.3       the encoder stands elsewhere: 0.3 s a batch
    python benchmarks/serve_load.py --model … --batch 1                 one by one, to compare batching with
    python benchmarks/serve_load.py --model … --upload-gb 2             one large upload, then 20 at once: memory
    … --to load.html                                                    latency by number of clients, drawn

Every client sends its next request when it has the answer to the last. 503 with Retry-After is an answer, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
PART_BYTES = 5 * 1024 * 1024
CLIENTS = (1, 2, 4, 8, 16, 32, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="demo/model/model")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each step (default 10)")
    parser.add_argument("--encoder-delay", type=float, default=0.0, help="a stand-in that sleeps this long a batch")
    parser.add_argument("--batch", type=int, help="clips a pass at most (default: as config.yaml says)")
    parser.add_argument("--upload-gb", type=float, default=0.0)
    parser.add_argument("--to", type=Path, help="an HTML file with the drawing")
    parser.add_argument("--part", choices=("server", "client"), help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--key", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "server":
        serve_with(options)
    elif options.part == "client":
        print(json.dumps(asyncio.run(load(options.address, options.key, options.clients[0], options.seconds))))
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    print(f"{os.cpu_count()} cores of {processor()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), options) as server:
        if options.upload_gb:
            measure_uploads(server, Path(folder), options.upload_gb)
            return
        print(f"{'clients':>8}{'requests/s':>12}{'P50 s':>9}{'P95 s':>9}{'batch':>7}  answers")
        rows = []
        for clients in options.clients:
            words = [sys.executable, __file__, "--part", "client", "--address", server.address, "--key", server.key,
                     "--clients", str(clients), "--seconds", str(options.seconds)]
            found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
            rows.append({"clients": clients, **found})
            print(f"{clients:>8}{found['rate']:>12.1f}{found['p50_s']:>9.3f}{found['p95_s']:>9.3f}"
                  f"{found['batch']:>7.1f}  {found['codes']}", flush=True)
        best = max(row["rate"] for row in rows)
        print(f"throughput at {rows[-1]['clients']} clients is {rows[-1]['rate'] / best:.0%} of the best")
        if options.to:
            draw(rows, options.to)


async def load(address: str, key: str, clients: int, seconds: float) -> dict:
    """``clients`` at once for ``seconds``, after half of that to warm up; answers that came within them count."""
    import httpx2

    clip = clip_bytes()
    url, headers = f"{address}/v1/clips:map?instruction=map+procedure+type", {"x-api-key": key}
    taken: list[tuple[float, float, int, int]] = []
    over_s = time.monotonic() + 1.5 * seconds

    async def one() -> None:
        async with httpx2.AsyncClient(timeout=120, headers=headers) as client:
            while time.monotonic() < over_s:
                began_s = time.monotonic()
                answer = await client.post(url, content=clip)
                batch = answer.json()["batch"] if answer.status_code == 200 else 0
                code = answer.status_code if answer.headers.get("retry-after") is None else -answer.status_code
                taken.append((began_s, time.monotonic() - began_s, code, batch))
                if code == -503:
                    await asyncio.sleep(float(answer.headers["retry-after"]) * 0.2)

    await asyncio.gather(*(one() for _ in range(clients)))
    counted = [row for row in taken if over_s - seconds <= row[0] + row[1] < over_s]
    good = [row for row in counted if row[2] == 200]
    took_s = [row[1] for row in good] or [float("nan")]
    codes = Counter("503 with Retry-After" if row[2] == -503 else str(row[2]) for row in counted)
    return {"rate": len(good) / seconds, "p50_s": float(np.percentile(took_s, 50)),
            "p95_s": float(np.percentile(took_s, 95)), "batch": float(np.mean([row[3] for row in good] or [0])),
            "codes": dict(codes)}


def clip_bytes() -> bytes:
    """2.5 s of a small picture: what a client cuts out before it asks."""
    import av

    rng = np.random.default_rng(0)
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        with av.open(file.name, "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = 224, 224, "yuv420p"
            ground = rng.integers(0, 255, (28, 28, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            for n in range(25):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(ground, 3 * n, 1), format="rgb24")))
            container.mux(stream.encode())
        return Path(file.name).read_bytes()


class Server:
    """The service in processes of its own, ended with the block."""

    def __init__(self, folder: Path, options: argparse.Namespace):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.options = folder, options
        self.address = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        words = [sys.executable, __file__, "--part", "server", "--address", str(self.port), "--model",
                 self.options.model, "--encoder-delay", str(self.options.encoder_delay)]
        words += ["--batch", str(self.options.batch)] if self.options.batch else []
        environment = {**os.environ, "HALSTED_STATE": str(self.folder / "state"),
                       "HALSTED_REQUESTS_A_MINUTE": "1000000000"}
        with open(self.folder / "log", "w") as log:
            self.process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=log, stderr=log)
        while True:
            time.sleep(0.5)
            text = (self.folder / "log").read_text()
            found = [line.split()[1] for line in text.splitlines() if line.startswith("key:")]
            if found:
                self.key = found[0]
                return self
            if self.process.poll() is not None:
                sys.exit(text)

    def __exit__(self, *_exc) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def memory_mb(self) -> dict[str, float]:
        """Private memory of every process of the service, by name and id."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if str(self.folder).encode() not in (process / "environ").read_bytes():
                    continue
                fields = dict(line.split(":", 1) for line in (process / "smaps_rollup").read_text().splitlines()[1:])
                private_kb = sum(int(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))
                title = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:60].strip()
                found[f"{process.name} {title}"] = private_kb / 1024
            except (OSError, ValueError, KeyError):
                continue
        return found


def serve_with(options: argparse.Namespace) -> None:
    """The service as ``python -m serve run`` starts it; with a delay, the encoder's passes only sleep."""
    from serve import __main__ as command
    from serve import app

    changes = {"user_config": {**app.deployed("Tagger")["user_config"]}}
    if options.batch:
        changes["user_config"]["max_batch_size"] = options.batch
    tagger = app.Tagger.options(**{**app.deployed("Tagger"), **changes})
    if options.encoder_delay:
        delay_s = options.encoder_delay

        class Elsewhere:
            """In place of an encoder on a GPU: this machine has nothing to do but to wait."""

            def __init__(self, encoder):
                self.fingerprint, self.image_size, self.dim = encoder.fingerprint, encoder.image_size, encoder.dim

            def encode(self, clips_NTHWC):
                time.sleep(delay_s)
                return np.zeros((len(clips_NTHWC), self.dim), np.float16)

        class StandIn(app.Tagger.func_or_class):
            def __init__(self, *arguments, **named):
                super().__init__(*arguments, **named)
                self.clips.loaded = replace(self.clips.loaded, encoder=Elsewhere(self.clips.loaded.encoder))

        tagger = tagger.options(func_or_class=StandIn, name="Tagger")
    app.app = app.Gateway.options(**app.deployed("Gateway")).bind(
        tagger.bind(), app.Mapper.options(**app.deployed("Mapper")).bind())
    sys.exit(command.main(["run", "--model", options.model, "--port", options.address, "--state",
                           os.environ["HALSTED_STATE"]]))


def measure_uploads(server: Server, folder: Path, size_gb: float) -> None:
    path = folder / "large.mp4"
    size_bytes = int(size_gb * 1e9)
    clip = clip_bytes()
    with open(path, "wb") as file:  # players skip a box named free; its bytes are a hole in the file
        file.write(clip + (1).to_bytes(4, "big") + b"free" + (size_bytes - len(clip)).to_bytes(8, "big"))
        file.truncate(size_bytes)
    before, peak, over = server.memory_mb(), {}, threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            for name, mb in server.memory_mb().items():
                peak[name] = max(peak.get(name, 0.0), mb)

    watcher = threading.Thread(target=watch)
    watcher.start()
    print(f"one upload of {size_gb:g} GB: {size_bytes / 1e6 / send(server, path):.0f} MB/s; {growth(before, peak)}")
    peak.clear()
    small = folder / "small.mp4"
    small.write_bytes(clip + (50_000_000).to_bytes(4, "big") + b"free" + bytes(50_000_000 - 8))
    began_s = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: send(server, small), range(20)))
    print(f"20 uploads of 50 MB at once: {20 * 50 / (time.monotonic() - began_s):.0f} MB/s; {growth(before, peak)}")
    over.set()
    watcher.join()


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


def growth(before: dict[str, float], peak: dict[str, float]) -> str:
    grown = {name: mb - before[name] for name, mb in peak.items() if name in before}
    name = max(grown, key=grown.get)
    return f"the process that grew most by {grown[name]:.0f} MB private ({name.split(' ', 1)[1]})"


def draw(rows: list[dict], to: Path) -> None:
    from plotly import graph_objects
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, subplot_titles=("seconds", "answers a second"))
    clients = [row["clients"] for row in rows]
    for name in ("p50_s", "p95_s"):
        figure.add_trace(graph_objects.Scatter(x=clients, y=[row[name] for row in rows], name=name[:3].upper()), 1, 1)
    figure.add_trace(graph_objects.Scatter(x=clients, y=[row["rate"] for row in rows], name="throughput"), 1, 2)
    figure.update_xaxes(type="log", title="clients", tickvals=clients)
    figure.write_html(to, include_plotlyjs=True)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
