"""The main job with built-in defaults: a synthetic archive, a small Halsted model, maps of held-out videos, a report;
and what a round of self-labelling would be worth if fewer of the videos were annotated.

Every step is the command that a person would type. Results of an earlier run are kept, so a second run only checks.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from halsted_ray.cli import main
from halsted_ray.cli.text_tables import percent, table

VIDEOS, HELD_OUT = 32, 8
"""Videos to learn from, two per procedure; and videos to be judged by, one per specialty and drawn from other seeds."""
MINUTES = 2.0
PICTURE = ("--size", "384x216", "--fps", "15")
"""Rendering takes most of the demo's time, and this size is still twice what the encoder sees."""
ANNOTATED = 16
"""Training videos, one per procedure, that count as annotated in the round of self-labelling: v1 learns from these
alone and labels the other training videos, v2 learns from both. The model that maps the held-out videos learns from
all."""
BARS = (
    # (tag, figure, least value that the demo promises)
    ("step", "accuracy", 0.95),
    ("action", "accuracy", 0.80),
    ("direction", "accuracy", 0.80),
    ("action", "f1_10", 0.75),
)


def demo(place: Path) -> int:
    """Runs all steps below the folder ``place``; returns the exit code of the first step that fails, else 0."""
    training, heldout = place / "archive" / "training", place / "archive" / "heldout"
    model, maps, page, loop = place / "model", place / "maps", place / "report.html", place / "loop"
    steps: list[tuple[str, list[object]]] = [
        ("phantom", [training, "--videos", VIDEOS, "--minutes", MINUTES, "--seed", 1, *PICTURE]),
        ("phantom", [heldout, "--videos", HELD_OUT, "--minutes", MINUTES, "--seed", 2, *PICTURE]),
        (
            "train",
            [
                "--atlas",
                training,
                "--out",
                model,
                "--recipe",
                "best",
                "--registry",
                f"sqlite:///{(place / 'registry').absolute()}/mlflow.db",
            ],
        ),
        ("map", [heldout, "--out", maps, "--model", model / "model"]),
        ("report", [maps, "--truth", heldout, "--to", page]),
        (
            "evaluate",
            [
                "--atlas",
                training,
                "--test-on",
                heldout,
                "--learn-from",
                ANNOTATED,
                "--self-label",
                training,
                "--recipe",
                "best",
                "--baselines",
                "chance,majority,linear",
                "--out",
                loop,
            ],
        ),
    ]
    timings = []
    for command, arguments in steps:
        words = [command, *map(str, arguments)]
        print(f"\n$ halsted {' '.join(words)}", flush=True)
        started_s = time.monotonic()
        code = main(words)
        timings.append((command, time.monotonic() - started_s))
        if code:
            return code
    print(f"\n{figures_table(maps, heldout)}\n")
    print(
        "seconds: "
        + ", ".join(f"{name} {seconds:.0f}" for name, seconds in timings)
        + f"; {sum(seconds for _, seconds in timings):.0f} in all"
    )
    print(f"reports: {page}, {loop / 'report.html'}")
    return 0


def figures_table(maps: Path, heldout: Path) -> str:
    """Table of the figures that the demo promises: measured, by chance, and promised."""
    from halsted_ray.reporting import report

    tags = report(str(maps), str(heldout))["accuracy"]["tags"]
    rows = []
    for tag, figure, bar in BARS:
        value = tags.get(tag, {}).get(figure)
        if value is None:
            rows.append((f"{tag}: not in the truth of these videos", "–", "–", "–", ""))
            continue
        verdict = "met" if value >= bar else "missed"
        if figure == "accuracy":
            shown = (f"{tag}, exact match per window", percent(value), percent(tags[tag]["chance"]), percent(bar))
        else:
            shown = (f"{tag}, temporal F1@10", f"{value:.2f}", "–", f"{bar:.2f}")
        rows.append((*shown, verdict))
    return table(("held-out videos", "measured", "chance", "bar", ""), rows, right=(1, 2, 3))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "folder",
        nargs="?",
        default="demo",
        type=Path,
        help="folder for everything that the demo writes (default: demo)",
    )
    sys.exit(demo(parser.parse_args().folder))
