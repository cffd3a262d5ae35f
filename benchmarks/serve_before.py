"""The service against an earlier checkout of it: both run at once on this machine and are asked in turns.

    git worktree add /tmp/before COMMIT
    python benchmarks/serve_before.py --before /tmp/before        five minutes; prints the table of docs/benchmarks.md
    … --rounds 5 --seconds 8                                      more turns, longer turns
    python benchmarks/serve_before.py                             this checkout alone

The clients are processes of their own. CPU time is told apart by kind of process: what one answer costs depends less on
other work beside it than how many answers come per second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from serve_load import DELAY_S, connected, cpu_text, exchange, processor, step
from serving import ROOT, Server, serving, untrained

VIDEO_ID, HOURS, ROWS_PER_TAG, TAGS = "ab" * 16, 2.0, 1200, 4
CLIENTS, READERS, RATIO = (32, 64), 4, 1.34
WAYS = {"whole": {}, "gzip": {"accept-encoding": "gzip"}, "known (304)": {}}
"""How a timeline is read again: as it is, compressed, and by its ETag."""


def main() -> None:
    """Parses the options; measures, or is a process of the measurement: the client, or code of one checkout."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--before", type=Path, help="another checkout of this repository")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each checkout (default 3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a turn (default 5)")
    parser.add_argument("--read", nargs=2, metavar=("ADDRESS", "KEY"), help=argparse.SUPPRESS)
    parser.add_argument("--make-model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--put-case", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make_model:
        untrained(options.make_model, "tiny")
    elif options.put_case:
        put_case()
    elif options.read:
        print(json.dumps(asyncio.run(read_timelines(*options.read, options.seconds))))
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Prints the table: clips, timelines, and latency with the encoder elsewhere."""
    trees = {"before": options.before, "now": ROOT} if options.before else {"now": ROOT}
    print(f"{os.cpu_count()} cores of {processor()}, load before {os.getloadavg()[0]:.1f}\n", flush=True)
    with tempfile.TemporaryDirectory() as place, ExitStack() as running:
        folder, servers = Path(place), {}
        for name, tree in trees.items():
            model = folder / f"{name}-model"
            environment = {**os.environ, "HALSTED_STATE": str(folder / name / "state"), "PYTHONPATH": str(tree)}
            in_tree = partial(subprocess.run, env=environment, cwd=tree, check=True)
            in_tree([sys.executable, __file__, "--make-model", str(model)])
            servers[name] = running.enter_context(serving(folder / name, str(model), tree=tree))
            in_tree([sys.executable, __file__, "--put-case"])
        for clients in CLIENTS:
            show_clips(
                clients, in_turns(servers, options.rounds, partial(step, clients=clients, seconds=options.seconds))
            )
        show_timelines(in_turns(servers, options.rounds, partial(as_reader, seconds=options.seconds / 2)))
    with tempfile.TemporaryDirectory() as place:
        model = untrained(Path(place) / "model", "tiny")
        with serving(Path(place) / "site", model, encoder_delay=DELAY_S) as server:
            show_latency(*(step(server, clients, 2 * options.seconds) for clients in (2, 64)))
    print(f"\nload after {os.getloadavg()[0]:.1f}")


def in_turns(servers: dict[str, Server], rounds: int, ask: Any) -> dict[str, list[Any]]:
    """Name of a checkout → what ``ask`` found, once per round; who comes first changes with every round."""
    found: dict[str, list[Any]] = {name: [] for name in servers}
    for number in range(rounds):
        for name in list(servers)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(ask(servers[name]))
    return found


def show_clips(clients: int, found: dict[str, list[Any]]) -> None:
    """Prints medians of a step of ``clips:map``, and the ratios of both checkouts."""
    rates, spent_ms = {}, {}
    for name, rows in found.items():
        rates[name] = statistics.median(row["rate"] for row in rows)
        spent_ms[name] = statistics.median(sum(row["cpu_ms"].values()) for row in rows)
        kinds = {kind for row in rows for kind in row["cpu_ms"]}
        cpu_ms = {kind: statistics.median(row["cpu_ms"].get(kind, 0.0) for row in rows) for kind in kinds}
        answers = sum(row["codes"].get("200", 0) for row in rows)
        others = {code for row in rows for code in row["codes"]} - {"200"}
        print(
            f"clips:map, {clients} clients, {name}: {rates[name]:.1f} answers/s, P50 "
            f"{statistics.median(row['p50_s'] for row in rows):.2f} s, {spent_ms[name]:.1f} CPU-ms each "
            f"({cpu_text({'cpu_ms': cpu_ms})}; client {statistics.median(row['client_ms'] for row in rows):.1f} ms); "
            f"{answers} answers{f', also {sorted(others)}' if others else ''}",
            flush=True,
        )
    if len(found) == 2:
        rate, cpu = rates["now"] / rates["before"], spent_ms["before"] / spent_ms["now"]
        print(f"clips:map, {clients} clients: {rate:.2f}x the answers/s, {cpu:.2f}x less CPU each\n", flush=True)


def show_timelines(found: dict[str, list[Any]]) -> None:
    """Prints medians of reading the timeline: the first time, and again by ``READERS`` clients at once."""
    for name, rows in found.items():
        first = rows[0]
        print(
            f"timeline of {HOURS:g} h ({first['rows']} rows, {first['bytes']['whole'] / 1e6:.2f} MB), {name}: first "
            f"read {1000 * first['first_s']:.0f} ms; again, {READERS} clients, P50 "
            + ", ".join(
                f"{way} {1000 * statistics.median(row['p50_s'][way] for row in rows):.1f} ms "
                f"({first['bytes'][way] / 1e3:.0f} kB)"
                for way in first["p50_s"]
            ),
            flush=True,
        )
    if len(found) == 2:
        p50_s = {name: statistics.median(row["p50_s"]["gzip"] for row in rows) for name, rows in found.items()}
        first_s = {name: rows[0]["first_s"] for name, rows in found.items()}
        print(
            f"timeline: {p50_s['before'] / p50_s['now']:.1f}x faster again (a client that takes gzip), "
            f"{first_s['before'] / first_s['now']:.1f}x the first time\n",
            flush=True,
        )


def show_latency(few: dict[str, Any], many: dict[str, Any]) -> None:
    """Prints P95 at 64 clients against 2, and how many cores would have to be there for ``RATIO``."""
    spent_ms = sum(many["cpu_ms"].values()) + many["client_ms"]
    wanted = 64 / (RATIO * few["p95_s"])
    print(
        f"encoder elsewhere ({DELAY_S:g} s per pass): P95 {few['p95_s']:.3f} s at 2 clients, {many['p95_s']:.3f} s at "
        f"64 ({many['p95_s'] / few['p95_s']:.2f}x); {many['rate']:.0f} answers/s, batches of {many['batch']:.0f}, "
        f"{spent_ms:.1f} CPU-ms each ({cpu_text(many)})\n"
        f"a ratio of {RATIO} takes {wanted:.0f} answers/s, so {wanted * spent_ms / 1000:.1f} cores for themselves"
    )


def as_reader(server: Server, seconds: float) -> dict[str, Any]:
    """What ``read_timelines`` finds, as a process of its own."""
    words = [sys.executable, __file__, "--read", server.address, server.key, "--seconds", str(seconds)]
    found: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return found


async def read_timelines(address: str, key: str, seconds: float) -> dict[str, Any]:
    """Reads the case's timeline once, then from ``READERS`` clients at once, each of ``WAYS`` for ``seconds``."""
    what = f"GET /v1/videos/{VIDEO_ID}/timeline"
    async with connected(address) as connection:
        began_s = time.perf_counter()
        status, headers, body = await exchange(connection, what, key, {"accept-encoding": "gzip"})
        first_s = time.perf_counter() - began_s
        assert status == 200, (status, body)
        etag = headers.get("etag", '"none"')
        _, _, whole = await exchange(connection, what, key, {})
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    sizes: dict[str, int] = {}
    for way, sent in WAYS.items():
        over_s = time.perf_counter() + seconds

        async def one(way: str = way, sent: dict[str, str] = sent, over_s: float = over_s) -> None:
            asked = {"if-none-match": etag} if way.startswith("known") else sent
            async with connected(address) as connection:
                while time.perf_counter() < over_s or len(taken[way]) < READERS:
                    began_s = time.perf_counter()
                    status, _, body = await exchange(connection, what, key, asked)
                    taken[way].append(time.perf_counter() - began_s)
                    sizes[way] = len(body)
                    assert status in (200, 304), (status, body)

        await asyncio.gather(*(one() for _ in range(READERS)))
    p50_s = {way: float(np.median(times)) for way, times in taken.items()}
    return {"first_s": first_s, "p50_s": p50_s, "bytes": sizes, "rows": len(json.loads(whole)["rows"])}


def put_case() -> None:
    """Puts a case of two hours with a published map into the site at HALSTED_STATE, with the code of the checkout that
    PYTHONPATH names."""
    import pyarrow as pa
    from deltalake import write_deltalake

    from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA
    from halsted_ray.service.database import Database, now_s
    from halsted_ray.service.object_store import open_store
    from halsted_ray.service.settings import Settings
    from halsted_ray.service.tables import StoredVideo, User
    from halsted_ray.service.videos import Videos
    from halsted_ray.storage.delta import table_uri

    settings = Settings.read()
    database, store = Database(settings.database), open_store(settings.store)
    facts = {
        "tenant_id": "load",
        "video_id": VIDEO_ID,
        "place": "uploads/none/video",
        "size_bytes": 1,
        "duration_s": 3600 * HOURS,
        "width": 1920,
        "height": 1080,
        "fps": 30.0,
        "codec": "h264",
        "created_s": now_s(),
    }
    with database.writing() as session:
        if hasattr(StoredVideo, "owner_id"):
            facts["owner_id"] = session.query(User).filter_by(tenant_id="load", name="client").one().user_id
        session.add(StoredVideo(**facts))
    step_s = 3600 * HOURS / ROWS_PER_TAG
    values: dict[str, list[Any]] = {name: [] for name in TIMELINE_SCHEMA.names}
    for number in range(ROWS_PER_TAG):
        for tag in range(TAGS):
            row = {"video_id": VIDEO_ID, "uri": "x", "start_s": number * step_s, "stop_s": (number + 1) * step_s}
            row |= {"task": "phase", "tag": f"tag {tag}", "category": f"category {(number + tag) % 7}", "windows": 2}
            row |= {"confidence": 0.5 + number % 100 / 250, "share": 0.9, "margin": 0.4, "source": "coarse"}
            for name, kept in values.items():
                kept.append(row.get(name, "model"))
    maps = Videos(database, store).maps_location("load", VIDEO_ID)
    write_deltalake(table_uri(maps, "timeline"), pa.table(values, schema=TIMELINE_SCHEMA))


if __name__ == "__main__":
    main()
