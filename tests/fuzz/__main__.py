"""Mangles files of every container, maps them, and says what does not hold: ``make fuzz``, or ``python -m fuzz``.

    make fuzz                                10,000 files, about ten minutes on two cores
    make fuzz COUNT=100000 SECONDS=3600      as many as an hour allows
    make fuzz SEED=7 ONLY=123,456            these files of seed 7, with every change told
    make fuzz FROM=ts,ps                     files of some containers only

A file for which something does not hold is kept under ``build/fuzz`` with what it is made of, smaller where fewer
changes show the same. Exit code: 0 all holds, 1 something does not hold, 2 wrong use.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the modules beside this folder

from fuzz.judging import NOTED, Finding, Judge, Overheard
from fuzz.mangling import Case, case
from fuzz.pieces import PARSERS
from fuzz.whole_files import RECIPES

BATCH = 40
"""Files that go through one inventory."""
SHOWN = 5
"""Cases of one kind of finding that are named."""
MOST_KEPT = 3
"""Files of one kind of finding that are kept by each process."""


def main(words: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="files (default 10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="processes side by side")
    parser.add_argument("--only", default="", help="numbers of cases, separated by commas")
    parser.add_argument("--from", dest="containers", default="", help="containers or whole files to mangle")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="where failing files are kept")
    parser.add_argument("--share", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    containers = tuple(name.strip() for name in options.containers.split(",") if name.strip())
    if unknown := [name for name in containers if name not in RECIPES and name not in PARSERS]:
        print(f"unknown containers {unknown}; expected some of {', '.join([*PARSERS, *RECIPES])}", file=sys.stderr)
        return 2
    numbers = [int(word) for word in options.only.split(",") if word.strip()] or range(options.count)
    until_s = time.monotonic() + options.seconds
    if options.share:
        first, of = map(int, options.share.split("/"))
        for row in run(options.seed, numbers[first::of], containers, options.keep, until_s):
            print(json.dumps(row), flush=True)
        return 0
    return _table(_side_by_side(options, until_s), options)


def run(seed: int, numbers: Sequence[int], containers: tuple[str, ...], keep: Path, until_s: float) -> Iterator[dict]:
    """Judges cases in this process; rows with ``finding``, and a last row with ``states`` and what was measured."""
    kept: Counter[str] = Counter()
    states: dict[str, list[int]] = defaultdict(list)
    done = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as made, Overheard() as overheard:
        judge = Judge(Path(made), overheard)
        files_before = 0
        try:
            for start in range(0, len(numbers), BATCH):
                if time.monotonic() > until_s:
                    break
                cases = [case(seed, number, containers) for number in numbers[start : start + BATCH]]
                findings = judge.judge(cases)
                for state, ended in judge.states.items():
                    states[state] += ended
                for finding in findings:
                    told = next(c for c in cases if c.number == finding.number)
                    yield {"finding": asdict(finding), "case": told.told()}
                    kept[finding.kind] += 1
                    if kept[finding.kind] <= MOST_KEPT:
                        _keep(judge, told, finding, keep / f"seed-{seed}")
                judge.states.clear()  # trying with fewer changes has added to it
                done += len(cases)
                open_files = len(os.listdir("/proc/self/fd")) + judge.watched.open_files
                files_before = files_before or open_files
                if open_files > files_before + 3:
                    what = f"{open_files} open files, {files_before} after the first {BATCH} cases"
                    yield {"finding": asdict(Finding(cases[-1].number, "open files grow", what)), "case": ""}
                    files_before = open_files
        finally:
            judge.close()
    yield {"done": done, "states": states, "peak_mb": judge.watched.peak_mb}


def _keep(judge: Judge, found: Case, finding: Finding, folder: Path) -> None:
    """Keeps a failing file, with as few of its changes as show the same."""
    smallest = found
    for change in found.changes:
        fewer = replace(smallest, changes=tuple(other for other in smallest.changes if other != change))
        if len(smallest.changes) > 1 and any(again.kind == finding.kind for again in judge.judge([fewer])):
            smallest = fewer
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found.number}{found.whole.suffix}"
    path.write_bytes(smallest.data())
    told = {"what": finding.what, "kind": finding.kind, "case": smallest.told(), "case before": found.told()}
    path.with_suffix(".json").write_text(json.dumps(told, indent=2) + "\n")


def _side_by_side(options: argparse.Namespace, until_s: float) -> Iterator[dict]:
    """The rows of all processes, as they come."""
    words = [sys.executable, "-m", "fuzz", "--count", options.count, "--seed", options.seed, "--keep", options.keep]
    words += ["--only", options.only, "--from", options.containers]
    if until_s < float("inf"):
        words += ["--seconds", max(0.0, until_s - time.monotonic())]
    places = [str(Path(__file__).resolve().parents[1]), *(place for place in sys.path if place)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    files = [tempfile.TemporaryFile("w+") for _ in range(options.jobs)]
    started = [
        subprocess.Popen(
            [*map(str, words), "--share", f"{n}/{options.jobs}"], stdout=file, env=environment, stdin=subprocess.DEVNULL
        )
        for n, file in enumerate(files)
    ]
    for process, file in zip(started, files, strict=True):
        if code := process.wait():
            yield {"finding": asdict(Finding(-1, "the fuzz run itself ends", f"exit code {code}")), "case": ""}
        file.seek(0)
        yield from map(json.loads, file)
        file.close()


def _table(rows: Iterator[dict], options: argparse.Namespace) -> int:
    started_s, done, peak_mb = time.monotonic(), 0, 0.0
    states: dict[str, list[int]] = defaultdict(list)
    by_kind: dict[str, list[dict]] = defaultdict(list)
    for row in rows:
        if "finding" in row:
            by_kind[row["finding"]["kind"]].append(row)
        else:
            for state, ended in row["states"].items():
                states[state] += ended
            done, peak_mb = done + row["done"], max(peak_mb, row["peak_mb"])
    took_s = time.monotonic() - started_s
    print(
        f"{done:,} files of seed {options.seed} in {took_s:.0f} s by {options.jobs} processes; "
        f"a decoding process took at most {peak_mb:.0f} MB"
    )
    for state, ended in sorted(states.items(), key=lambda item: -len(item[1])):
        print(f"{len(ended):8,}  {state:32}  such as ONLY={','.join(map(str, sorted(ended)[:SHOWN]))}")
    faults = sum(len(found) for kind, found in by_kind.items() if not kind.startswith(NOTED))
    print(f"{faults:,} findings; files are kept under {options.keep}" if faults else "all holds")
    for kind, found in sorted(by_kind.items(), key=lambda item: -len(item[1])):
        print(f"{len(found):8,}  {kind}")
        for row in found if options.only else sorted(found, key=lambda row: row["finding"]["number"])[:SHOWN]:
            print(f"          ONLY={row['finding']['number']}: {row['case']}: {row['finding']['what'][:160]}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
