"""Numbers in documents come from one file, ``benchmarks/results/figures.json``, which this writes.

    python benchmarks/figures.py                 collects the figures anew, and writes them into the documents
    python benchmarks/figures.py --demo demo     takes the figures of a `make demo` first

A document marks a number so: ``<!-- figure demo.step -->99.7%<!-- end -->``. ``tests/test_documents.py`` holds every
marked number to the file, and the file to the results that it was collected from.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
FIGURES, DEMO, LATEST = RESULTS / "figures.json", RESULTS / "demo.json", RESULTS / "latest.json"
WALL_S = re.compile(r"([\d.]+) s against")
"""How the measurement of an hour says what it took."""
MARKED = re.compile(r"<!-- figure ([\w.]+) -->(.*?)<!-- end -->", re.DOTALL)
RATIOS = {
    "hour.from_vectors": ("mapping from stored vectors against from video", "{:.0f}"),
    "decode.reference_against_decord": ("decoding: reference against decord", "{:.2f}"),
    "decode.reference_against_exact": ("decoding: reference against exact", "{:.2f}"),
    "generate.constrained": ("tag generation against token by token", "{:.1f}"),
    "script.whole_mapping": ("whole mapping against a user's script, same tags", "{:.2f}"),
}
"""Figure → (name in latest.json, how it is shown)."""


def documents() -> Iterator[Path]:
    """Every page that may quote a figure."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def collect() -> dict[str, str]:
    """Figure → its text, from the result files."""
    demo = json.loads(DEMO.read_text(encoding="utf-8"))
    entries = {entry["name"].strip(): entry for entry in json.loads(LATEST.read_text(encoding="utf-8"))["ratios"]}
    figures = {name: form.format(entries[ratio]["value"]) for name, (ratio, form) in RATIOS.items()}
    for tag, found in demo["tags"].items():
        figures[f"demo.{tag}"] = f"{100 * found['accuracy']:.1f}%"
        figures[f"demo.{tag}.chance"] = f"{100 * found['chance']:.1f}%"
        figures[f"demo.{tag}.f1"] = "–" if found["f1_10"] is None else f"{found['f1_10']:.2f}"
        figures[f"demo.{tag}.windows"] = f"{found['windows']:,}"
    hour_s = float(WALL_S.match(entries["mapping from stored vectors against from video"]["why"])[1])
    figures["hour.wall_s"], figures["hour.rate"] = f"{hour_s:.0f}", f"{3600 / hour_s:.1f}"
    return dict(sorted(figures.items()))


def take_demo(folder: Path) -> None:
    """Keeps what the report of a demo says of the model."""
    from halsted_ray.reporting.summary import report

    accuracy = report(str(folder / "maps"), str(folder / "archive" / "heldout"))["accuracy"]
    names = ("accuracy", "chance", "majority", "f1_10", "windows")
    tags = {tag: {name: found[name] for name in names} for tag, found in accuracy["tags"].items()}
    DEMO.write_text(json.dumps({"command": "make demo", "tags": tags}, indent=1) + "\n", encoding="utf-8")


def quoted(text: str, figures: dict[str, str]) -> str:
    """``text`` with every marked number as ``figures`` has it."""
    return MARKED.sub(lambda found: f"<!-- figure {found[1]} -->{figures[found[1]]}<!-- end -->", text)


def main() -> None:
    """Writes the file of figures, and the figures into the documents."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--demo", type=Path, metavar="FOLDER", help="a finished demo")
    options = parser.parse_args()
    if options.demo:
        take_demo(options.demo)
    figures = collect()
    FIGURES.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for page in documents():
        text = page.read_text(encoding="utf-8")
        if (now := quoted(text, figures)) != text:
            page.write_text(now, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: figures written")


if __name__ == "__main__":
    main()
