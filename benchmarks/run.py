"""Runs the measurements on this machine: prints a table, and writes ``results/latest.json`` and the table of docs.

    make bench                          all measurements, about half an hour on two quiet cores
    make bench ONLY=decode,planning     some measurements; the last results of all others stay in the file
    make bench QUICK=1                  minutes of footage instead of hours, to try the code; nothing is written

Each measurement is a file in this folder with a function ``measure(setting)``. It runs in a process of its own, so that
a measurement that fails costs only its own figures. Exit code: 0 all bars hold, 1 some bars do not hold, 2 wrong use,
3 a measurement failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import textwrap
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measuring import Entry, commit

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "latest.json"
PAGE = HERE.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- speed: written by make bench -->\n", "<!-- end of speed -->\n"
MEASUREMENTS = (
    "decode",
    "generate",
    "planning",
    "inside_ray",
    "hour",
    "remap",
    "against_script",
    "read_videos",
    "memory",
    "prediction",
    "training",
    "serve_load",
    "serve_library",
)
LIMIT_S = 1800
"""A measurement that takes longer is ended, and counts as failed."""
QUIET_LOAD = 5.0
"""The load average over five minutes up to which the machine counts as quiet; a measurement that keeps both cores busy
through Ray makes 3 by itself."""
PACKAGES = ("ray", "torch", "transformers", "av", "decord", "numpy", "pyarrow", "deltalake")
BARS_HOLD, SOME_MISSED, WRONG_USE, SOME_FAILED = 0, 1, 2, 3


def main(words: list[str] | None = None) -> int:
    """Runs the measurements that the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default="", help=f"measurements to run, of {','.join(MEASUREMENTS)}")
    parser.add_argument("--quick", action="store_true", help="take short footage and write nothing")
    parser.add_argument("--results", type=Path, help="the file to write the results to (default: results/latest.json)")
    options = parser.parse_args(words)
    names = [name.strip() for name in options.only.split(",") if name.strip()] or list(MEASUREMENTS)
    if unknown := [name for name in names if not (HERE / f"{name}.py").is_file()]:
        print(f"unknown measurements {unknown}; expected some of {', '.join(MEASUREMENTS)}", file=sys.stderr)
        return WRONG_USE
    path = options.results or (None if options.quick else RESULTS)
    entries = kept(path, names)
    measured = []
    for name in names:
        print(f"{name} …", end=" ", flush=True)
        command = [sys.executable, str(HERE / "run.py"), "--only", name, *(["--quick"] if options.quick else [])]
        found, took_s = in_own_process(name, options.quick)
        shown = "benchmarks/run.py " + " ".join(command[2:])
        taken = {
            "command": shown,
            "seconds": round(took_s),
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "code": commit(),
            "load_average": hardware()["load_average"],
        }
        measured += [{**entry, "measurement": name, **taken} for entry in found]
        print(f"{took_s:.0f} s")
        if path:
            write(path, entries + measured)
    print("\n" + table(measured))
    if any(entry.get("failed") for entry in measured):
        return SOME_FAILED
    return SOME_MISSED if any(entry["holds"] is False for entry in measured) else BARS_HOLD


def kept(path: Path | None, names: list[str]) -> list[Entry]:
    """The entries of earlier runs, but for the measurements ``names``, which are measured anew."""
    if path is None or not path.exists():
        return []
    return [entry for entry in json.loads(path.read_text())["ratios"] if entry["measurement"] not in names]


def in_own_process(name: str, quick: bool) -> tuple[list[Entry], float]:
    """(the entries of one measurement, the seconds that it took). A failure is an entry with its reason."""
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        answer, log = Path(folder) / "entries.json", Path(folder) / "log"
        code = f"import run, sys; run.measure_here({name!r}, {quick}, sys.argv[1])"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", code, str(answer)], stdout=file, stderr=file, env=environment
            )
            try:
                ended = f"ended with code {process.wait(LIMIT_S)}"
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                ended = f"was not done after {LIMIT_S} s"
        took_s = time.monotonic() - started_s
        if answer.exists():
            return json.loads(answer.read_text()), took_s
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
    return [
        {
            "name": name,
            "value": None,
            "unit": "",
            "bar": None,
            "at_most": False,
            "holds": False,
            "rows": "",
            "why": f"the measurement {ended}: {last[0][:300]}",
            "failed": True,
        }
    ], took_s


def measure_here(name: str, quick: bool, answer: str) -> None:
    """Runs one measurement in this process, and writes its entries to the file ``answer``."""
    from measuring import Setting

    entries = importlib.import_module(name).measure(Setting(quick=quick))
    Path(answer).write_text(json.dumps(entries))


def write(path: Path, entries: list[Entry]) -> None:
    """Writes the results to ``path``; for the file of recorded results also the table of ``docs/benchmarks.md``."""
    order = {name: number for number, name in enumerate(MEASUREMENTS)}
    entries = sorted(entries, key=lambda entry: order.get(entry["measurement"], len(order)))
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {
        "hardware": {name: value for name, value in hardware().items() if name != "load_average"},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "ratios": entries,
    }
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    if path.resolve() == RESULTS:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(before + BEGIN + quoted(found) + END + rest.partition(END)[2], encoding="utf-8")


def quoted(found: dict[str, Any]) -> str:
    """The results (as in ``latest.json``) as ``docs/benchmarks.md`` shows them."""
    hardware, versions = found["hardware"], found["versions"]
    lines = ["| | measured | bar | |", "|---|--:|--:|---|"]
    for entry in found["ratios"]:
        lines.append(f"| {entry['name'].strip()} | {shown(entry)} | {shown_bar(entry)} | {VERDICT[entry['holds']]} |")
    busy = sorted({entry["measurement"] for entry in found["ratios"] if entry["load_average"][1] > QUIET_LOAD})
    dates = sorted(entry["date"] for entry in found["ratios"])
    beside = f", with other work beside {', '.join(busy)}" if busy else ", nothing else running"
    return "\n".join(lines) + (
        f"\n\n{dates[0]} to {dates[-1]}{beside}: {hardware['cores']} cores of {hardware['cpu']}, "
        f"{hardware['memory_gb']} GB; Python {versions['python']}, ray {versions['ray']}, "
        f"torch {versions['torch']}, PyAV {versions['av']}, decord {versions['decord']}.\n"
    )


def hardware() -> dict[str, Any]:
    """This machine's processor, cores, memory and load average."""
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    memory_kb = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal")))
    return {
        "cpu": cpu or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory_kb / 1e6, 1),
        "load_average": [round(load, 1) for load in os.getloadavg()],
    }


def table(entries: list[Entry]) -> str:
    """The entries as a table of 80 columns, with the reason below each bar that does not hold."""
    lines = [f"{'':50}{'measured':>13}{'bar':>10}"]
    for entry in entries:
        row = f"{entry['name'][:50]:50}{shown(entry):>13}{shown_bar(entry):>10} {VERDICT[entry['holds']]}"
        lines.append(row.rstrip())
        if entry["holds"] is False:
            lines += textwrap.wrap(entry["why"], 76, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


VERDICT = {True: "met", False: "MISSED", None: ""}


def shown(entry: Entry) -> str:
    """An entry's figure with its unit."""
    unit = "x" if entry["unit"] == "x" else f" {entry['unit']}"
    return "–" if entry["value"] is None else f"{entry['value']:.3g}{unit}"


def shown_bar(entry: Entry) -> str:
    """An entry's bar."""
    return "–" if entry["bar"] is None else f"{'≤' if entry['at_most'] else '≥'} {entry['bar']:g}"


if __name__ == "__main__":
    sys.exit(main())
