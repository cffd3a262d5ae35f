"""The library and the home page of a service with ten thousand cases: how long one answer takes.

    python benchmarks/run.py --only serve_library          SQLite; half a minute
    python benchmarks/serve_library.py                     the same, with every request
    … --cases 100000 --database postgresql://…             more cases; an empty database on a server

The cases are rows of a database, as uploads and jobs leave them; there are no videos. The API runs in this process, so
a time is that of the whole answer without the network: rights, query, audit log, JSON.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Setting, ratio
from sqlalchemy import insert
from starlette.testclient import TestClient

from halsted_ray.service import users
from halsted_ray.service.api import create_api
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import now_s
from halsted_ray.service.settings import Settings
from halsted_ray.service.summaries import RULE, packed_times
from halsted_ray.service.tables import CaseLabel, Job, Operation, Share, StoredVideo, User, VideoSummary
from halsted_ray.service.users import DAY_S
from halsted_ray.taxonomy.names import fold

CASES, TIMES = 10_000, 7
"""How many cases there are; how often each request is sent."""
BAR_S = 0.3
PROCEDURES = ("Prostatectomy", "Gastric Bypass", "Hysterectomy", "Right Colectomy", "Laparoscopic Cholecystectomy")
STEPS, LABELS = ("Suturing", "Dissection"), ("teaching", "bleeding", "conference", "robot 3")
TENANT = "north"
REQUESTS = {
    "first page": "cases",
    "200 cases": "cases?limit=200",
    "a word": "cases?q=suturing",
    "three words": "cases?q=prostatectomy+bleeding+mapped",
    "a word that is nowhere": "cases?q=nowhere",
    "procedure": "cases?procedure=Hysterectomy",
    "label and state": "cases?label=bleeding&status=mapped",
    "days": "cases?since=2025-06-01&until=2026-06-01",
    "longest first": "cases?order=longest",
    "home": "home",
    "home, a year": "home?days=366",
}
"""What is asked for, by its name."""


def fill(service: ServiceComponents, cases: int, since_days: float = 1000.0, seed: int = 0) -> dict[str, str]:
    """Enters ``cases`` cases into an empty site, uploaded evenly over ``since_days`` days; caller → key.

    ``ada`` owns all of them but each tenth, ``ben`` owns these and sees each twentieth through a share, ``root`` is an
    administrator. Each hundredth case has two files, each fiftieth no map, half have labels and a day.
    """
    keys = {
        name: users.issue_operator_key(service.database, TENANT, name, role)
        for name, role in (("ada", "surgeon"), ("ben", "surgeon"), ("root", "admin"))
    }
    with service.database.reading() as session:
        ids = {user.name: user.user_id for user in session.query(User)}
    rows = _rows(np.random.default_rng(seed), cases, since_days, ids)
    with service.database.writing() as session:
        for table, values in rows.items():
            for start in range(0, len(values), 1000):
                session.execute(insert(table), values[start : start + 1000])
    return keys


def _rows(
    rng: np.random.Generator, cases: int, since_days: float, ids: dict[str, str]
) -> dict[Any, list[dict[str, Any]]]:
    """Table → its rows."""
    found: dict[Any, list[dict[str, Any]]] = {
        table: [] for table in (StoredVideo, VideoSummary, Operation, CaseLabel, Share, Job)
    }
    for n in range(cases):
        case_id, created_s = f"{n:016x}", now_s() - since_days * DAY_S * n / cases
        owner = "ben" if n % 10 == 9 else "ada"
        for position in range(1, 3 if n % 100 == 50 else 2):
            video_id = f"{n:060x}{position:04x}"
            whose = {"tenant_id": TENANT, "video_id": video_id}
            duration_s = float(rng.uniform(600, 10_800))
            found[StoredVideo].append(
                {
                    **whose,
                    "place": f"videos/{case_id}/clean.mp4",
                    "size_bytes": 10**9,
                    "duration_s": duration_s,
                    "width": 1920,
                    "height": 1080,
                    "fps": 25.0,
                    "codec": "h264",
                    "created_s": created_s,
                    "owner_id": ids[owner],
                    "state": "ready",
                    "case_id": case_id,
                    "position": position,
                }
            )
            if n % 50 != 7:
                found[VideoSummary].append({**whose, **_summary(rng)})
                found[Job].append(_job(whose, f"{n:012x}{position:04x}", ids[owner], created_s, duration_s, "done"))
            if n % 200 == 7:
                found[Job].append(_job(whose, f"{n:012x}ffff", ids[owner], created_s, duration_s, "queued"))
            if owner == "ada" and n % 20 == 0:
                share = {"share_id": f"{n:016x}{position}", "user_id": ids["ben"], "relation": "surgeon"}
                found[Share].append({**whose, **share, "granted_by": ids["ada"], "created_s": created_s})
        if n % 2:
            about = {"tenant_id": TENANT, "case_id": case_id}
            day = time.strftime("%Y-%m-%d", time.gmtime(created_s))
            procedure = "Redo of a bypass" if n % 30 == 1 else None
            written = {"procedure_chosen": procedure, "operated_on": day, "words": fold(procedure or "")}
            found[Operation].append({**about, **written})
            label = LABELS[n % len(LABELS)]
            found[CaseLabel].append({**about, "label": label, "folded": fold(label), "position": 0})
    return found


def _summary(rng: np.random.Generator) -> dict[str, Any]:
    """A map with a hundred stitches and twenty steps."""
    procedure = PROCEDURES[int(rng.integers(len(PROCEDURES)))]
    edges = np.round(np.linspace(0, 1, 21), 4).tolist()
    times = {phase: packed_times(rng.gamma(4, 3, 100)) for phase in ("Needle Handling", "Driving", "Withdrawal")}
    moment = {"start_s": 10.0, "stop_s": 12.0, "tag": "phase", "category": "Driving", "value": 0.5}
    return {
        "rule": RULE,
        "state": "mapped",
        "model_version": "v1",
        "asked": ["macro", "proficiency"],
        "not_asked": ["micro", "context"],
        "procedure": procedure,
        "procedure_confidence": 0.9,
        "words": fold(f"{procedure} {' '.join(STEPS)}"),
        "strip": [[start, stop, place % 2] for place, (start, stop) in enumerate(zip(edges, edges[1:], strict=False))],
        "strip_categories": list(STEPS),
        "stitches": 100,
        "rated": 100,
        "rated_high": int(rng.integers(100)),
        "phase_times": times,
        "least_sure": float(rng.uniform()),
        "longest_s": float(rng.uniform(5, 100)),
        "unlike": float(rng.uniform(0, 9)),
        "moments": dict.fromkeys(("least_sure", "longest", "unlike"), moment),
    }


def _job(
    whose: dict[str, Any], job_id: str, user_id: str, created_s: float, duration_s: float, state: str
) -> dict[str, Any]:
    done = {"done_s": duration_s if state == "done" else 0.0, "total_s": duration_s, "rate": 0.0}
    counts = {"failed_segments": 0, "cancel": False, "attempts": 1}
    mine = {"job_id": job_id, "kind": "map", "user_id": user_id, "tasks": ["macro"], "state": state}
    return {**whose, **mine, **done, **counts, "created_s": created_s}


def ask_all(service: ServiceComponents, keys: dict[str, str], times: int = TIMES) -> list[dict[str, Any]]:
    """How long each request takes for each caller: median and greatest of ``times`` seconds, CPU seconds of the
    answer that took the least, and how many cases were found."""
    found = []
    app = create_api(service)
    for name, key in keys.items():
        with TestClient(app, headers={"x-api-key": key}) as client:
            cursor = _deep_cursor(client)
            for what, path in {**REQUESTS, "page 21": f"cases?cursor={cursor}"}.items():
                client.get(f"/v1/{path}")  # the first answer of a process also compiles the query
                took_s, cpu_s = [], []
                for _ in range(times):
                    at_s, began_s = time.perf_counter(), time.process_time()
                    answer = client.get(f"/v1/{path}")
                    took_s.append(time.perf_counter() - at_s)
                    cpu_s.append(time.process_time() - began_s)
                assert answer.status_code == 200, answer.text
                said = answer.json()
                found.append(
                    {
                        "caller": name,
                        "request": what,
                        "median_s": statistics.median(took_s),
                        "most_s": max(took_s),
                        "cpu_s": min(cpu_s),
                        "found": said.get("total", said["cases"]),
                    }
                )
    return found


def _deep_cursor(client: TestClient) -> str:
    """The cursor of page 21."""
    cursor = ""
    for _ in range(20):
        said = client.get(f"/v1/cases{f'?cursor={cursor}' if cursor else ''}").json()
        cursor = said["next"] or cursor
    return cursor


def opened(folder: Path, database: str | None = None) -> ServiceComponents:
    """An empty site; no model is needed."""
    settings = Settings(database or f"sqlite:///{folder}/halsted.db", str(folder / "store"), "phantom")
    return ServiceComponents.open(settings)


def measure(setting: Setting) -> list[dict[str, Any]]:
    """All entries of this benchmark (``measuring.ratio``)."""
    with setting.place() as place:
        service = opened(Path(place))
        keys = fill(service, 500 if setting.quick else CASES)
        rows = ask_all(service, keys)
        service.database.close()
    slowest = max(rows, key=lambda row: row["median_s"])
    return [
        ratio(
            "library and home, 10,000 cases: the slowest request, median",
            slowest["median_s"],
            BAR_S,
            unit="s",
            at_most=True,
            rows=f"{len(rows)} requests, {TIMES} times each",
            why=f"{slowest['request']!r} of {slowest['caller']}; {slowest['cpu_s'] * 1000:.0f} ms of CPU; in memory "
            "of this process, SQLite, without a network",
        )
    ]


def main() -> None:
    """Prints a table of all requests."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--database", help="an empty database on a server; default: SQLite in a temporary folder")
    parser.add_argument("--since-days", type=float, default=1000.0, help="uploaded over so many days")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = opened(Path(folder), options.database)
        keys = fill(service, options.cases, options.since_days)
        print(f"{'caller':7} {'request':24} {'found':>7} {'median':>9} {'most':>9} {'CPU':>9}")
        for row in ask_all(service, keys):
            shown = " ".join(f"{row[name] * 1000:6.0f} ms" for name in ("median_s", "most_s", "cpu_s"))
            print(f"{row['caller']:7} {row['request']:24} {row['found']:7,} {shown}")
        service.database.close()


if __name__ == "__main__":
    main()
