"""What a cluster must survive, tried on real Ray nodes of one machine:

    python cluster/drill.py [DIR]

Maps a small synthetic archive without a cluster, and then on a head and two workers: a worker comes late and is killed;
the head is killed and a new head goes on; a worker is drained; a new model maps the archive while the timeline is read.
After each of these, the rows must be the same as without a cluster. The models are untrained, because the rows must be
the same, not right.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from nodes import Nodes, wait_for  # noqa: E402

from halsted_ray.maps.reading import read_segments, read_timeline  # noqa: E402
from jobs.submit import CLUSTER_LOST  # noqa: E402

CPUS = 3
"""Logical CPUs of each worker: enough for the whole job, so that it goes on when the other worker is lost. Each CPU
more is an actor more, and most of the drill's time is their start."""
WITHIN_S = 300.0
"""Seconds that each step may take."""
READ_EVERY_S = 0.2
"""A reader that never pauses takes a core from the run that it watches."""


class Drill:
    """Maps ``archive`` with ``models`` (the present and the next version) below ``place``, and disturbs the runs.

    Every method raises AssertionError where the cluster did not survive, TimeoutError where a step takes too long.
    """

    def __init__(self, place: Path, archive: Path, models: tuple[str, str], on_message: Callable[[str], None] = print):
        self.place, self.archive, self.models, self.on_message = place, archive, models, on_message
        self.log = place / "jobs.log"
        self.expected = None
        """The timeline of the run without a cluster."""

    def one_machine(self) -> None:
        """Maps without a cluster: every other run must give these rows."""
        out = self.place / "one-machine"
        words = [sys.executable, ROOT / "jobs" / "map_archive.py", *self.options(out)]
        subprocess.run(words, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        self.expected = read_timeline(str(out))
        self.on_message(f"one machine: {self.expected.num_rows} rows")

    def lose_worker(self, nodes: Nodes) -> None:
        """A job waits for a second worker. In the job's middle the raylet of that worker gets SIGKILL; the job must end
        well on the first worker."""
        out = self.place / "worker-lost"
        with self.mapping(nodes, out, wait_for_cpus=2 * CPUS) as job:
            wait_for(lambda: f"waiting: the cluster has {CPUS} CPUs" in self.log.read_text(), WITHIN_S)
            assert "pools: " not in self.log.read_text(), "the job did not wait for the second worker"
            lost = nodes.add_worker(CPUS)
            wait_for(lambda: len(staged(out)) >= 2, WITHIN_S)
            nodes.kill(lost, only="raylet")
            done = len(staged(out))
            assert job.wait(WITHIN_S) == 0, "the job did not survive the loss of a worker"
        assert done < segments(out), "the job was over before the worker was lost"
        assert read_timeline(str(out)).equals(self.expected)
        wait_for(lambda: lost not in nodes.alive(), WITHIN_S)
        nodes.kill(lost)
        self.on_message(f"a worker came late and was lost after {done} of {segments(out)} segments: the same rows")

    def lose_head(self, nodes: Nodes) -> set[str]:
        """SIGKILL to all processes of the head in the middle of a job.

        Returns the ids of the segments that are finished by then.
        """
        out = self.place / "head-lost"
        head, *workers = nodes.processes
        with self.mapping(nodes, out) as job:
            wait_for(lambda: len(staged(out)) >= 2, WITHIN_S)
            nodes.kill(head)
            assert job.wait(WITHIN_S) == CLUSTER_LOST
        for worker in workers:  # by itself, each would notice within a minute, and be started again
            nodes.kill(worker)
        finished = staged(out)
        self.on_message(f"the head lost after {len(finished)} segments")
        return finished

    def resume(self, nodes: Nodes, finished: set[str]) -> None:
        """The same command on a new head. In its middle a worker is drained: it leaves when it has nothing to do."""
        out = self.place / "head-lost"
        leaving = list(nodes.processes)[-1]
        with self.mapping(nodes, out) as job:
            wait_for(lambda: len(staged(out)) > len(finished), WITHIN_S)
            nodes.drain(leaving, deadline_s=60)
            assert job.wait(WITHIN_S) == 0, "the job did not resume on the new head"
        rows = read_segments(str(out), ["segment_id", "run_id"]).to_pylist()
        runs = {row["segment_id"]: row["run_id"] for row in rows}
        first = {runs[segment_id] for segment_id in finished}
        unexpected = [name for name, run_id in runs.items() if run_id in first and name not in finished]
        assert len(first) == 1 and not unexpected, "a finished segment was done twice"
        assert read_timeline(str(out)).equals(self.expected)
        wait_for(lambda: leaving not in nodes.alive(), WITHIN_S)
        nodes.kill(leaving)
        self.on_message(
            f"a new head: {len(runs) - len(finished)} segments done, {len(finished)} kept, the same rows; "
            "a worker drained meanwhile"
        )

    def upgrade(self, nodes: Nodes) -> None:
        """The next model maps from stored vectors; a reader sees one version of the map at any time."""
        out = self.place / "head-lost"
        before = read_timeline(str(out))
        with reading(str(out)) as seen, self.mapping(nodes, out, self.models[1]) as job:
            assert job.wait(WITHIN_S) == 0
            until = seen.total()
            wait_for(lambda: seen.total() > until + 2, WITHIN_S)  # a whole read after the end
        after = read_timeline(str(out))
        versions = [set(table["model_version"].to_pylist()) for table in (before, after)]
        assert all(len(version) == 1 for version in versions) and versions[0] != versions[1]
        assert set(seen) == {frozenset(version) for version in versions}, f"a reader saw a mixture: {seen}"
        assert read_timeline(str(out), version=0).equals(before), "the earlier map stays readable"
        assert not any(read_segments(str(out), ["new_vectors"])["new_vectors"].to_pylist()), "encoded again"
        counts = ", ".join(f"{count} of {next(iter(version))}" for version, count in seen.items())
        self.on_message(
            f"a new model, from stored vectors: {sum(seen.values())} reads meanwhile ({counts}), none mixed"
        )

    def options(self, out: Path, model: str | None = None) -> list[object]:
        """Options of ``halsted map`` for a run to ``out`` with ``model`` (default: the present version)."""
        return [self.archive, "--out", out, "--model", model or self.models[0]]

    @contextmanager
    def mapping(
        self, nodes: Nodes, out: Path, model: str | None = None, wait_for_cpus: int = 0
    ) -> Iterator[subprocess.Popen]:
        """A submitted job, which is killed at the end of the block. What it says is added to ``log``."""
        words = [sys.executable, ROOT / "jobs" / "submit.py", "map_archive", *self.options(out, model)]
        words += ["--wait-for-cpus", str(wait_for_cpus)]
        with open(self.log, "ab") as log:
            job = subprocess.Popen(words, env=nodes.environment, stdout=log, stderr=log)
        try:
            yield job
        finally:
            job.kill()
            job.wait()


@contextmanager
def reading(out: str) -> Iterator[Counter[frozenset[str]]]:
    """Reads the timeline all the time; counts which model versions stood in it together."""
    seen: Counter[frozenset[str]] = Counter()
    over = threading.Event()

    def read() -> None:
        while not over.wait(READ_EVERY_S):
            seen[frozenset(read_timeline(out)["model_version"].to_pylist())] += 1

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        over.set()
        reader.join()


def staged(out: Path) -> set[str]:
    """Ids of the segments under ``out`` that are finished and not published yet."""
    return {path.name.split(".")[0] for path in out.glob("staging/*/*/*.json")}


def segments(out: Path) -> int:
    """Number of published segments under ``out``."""
    return read_segments(str(out), ["segment_id"]).num_rows


def start(nodes: Nodes, workers: int) -> None:
    """Starts a head and ``workers``."""
    nodes.start_head()
    for _ in range(workers):
        nodes.add_worker(CPUS)


def disturb(drill: Drill, nodes: Nodes) -> None:
    """All steps of the drill after ``one_machine``. ``nodes``: a head and one worker."""
    drill.lose_worker(nodes)
    nodes.add_worker(CPUS)
    finished = drill.lose_head(nodes)
    start(nodes, workers=2)
    drill.resume(nodes, finished)
    drill.upgrade(nodes)


def untrained(place: Path) -> tuple[str, str]:
    """Two versions of a model that has learned nothing, with the encoder that ships."""
    from halsted_ray.model.encoder import Encoder
    from halsted_ray.model.halsted import Halsted

    encoder = Encoder.load("tiny")
    for seed in (0, 1):
        Halsted.create(
            None,
            encoder.dim,
            encoder_ref="tiny",
            encoder_fingerprint=encoder.fingerprint,
            heads=4,
            width=64,
            seed=seed,
            version=f"v{seed}",
            atlas_release="drill",
        ).save(str(place / f"v{seed}"))
    return str(place / "v0"), str(place / "v1")


def main(place: Path) -> None:
    """The whole drill below the folder ``place``."""
    from halsted_ray.atlas.phantom_archive import write_archive

    started_s = time.monotonic()
    place.mkdir(parents=True)
    write_archive(str(place / "archive"), 8, 0.5, 0, width=192, height=108, fps=8)
    drill = Drill(place, place / "archive", untrained(place))
    drill.one_machine()
    with Nodes() as nodes:
        start(nodes, workers=1)
        disturb(drill, nodes)
    print(f"{time.monotonic() - started_s:.0f} s; what was left: {place}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no node outlives the drill
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo/drill").resolve())
