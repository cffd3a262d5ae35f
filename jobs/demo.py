"""The main job with built-in defaults: a synthetic archive, a small Halsted model, maps of held-out videos, a report;
and what a round of self-labelling would be worth if fewer of the videos were annotated.

Every step is the command that a person would type. Results of an earlier run are kept, so a second run only checks.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from halsted_ray.cli import main
from halsted_ray.cli.text_tables import interval, percent, table, with_error
from halsted_ray.compute.cluster import connected

if TYPE_CHECKING:
    from halsted_ray.records import JsonObject

VIDEOS, HELD_OUT = 32, 144
"""Videos to learn from, two per procedure; and short pieces to be judged by, nine per procedure, of other seeds."""
MINUTES, HELD_OUT_MINUTES = 2.0, 0.5
PACE = ("--pace", 2)
"""Twice as many actions and stitches in a minute: more to learn from, and more to be judged by, for the same
rendering. Both archives have it, since a model of slower operations takes faster ones for unknown."""
SUTURING = ("--suturing", 0.75)
"""With the pace, makes the held-out pieces hold 237 driven needles and 167 actions. By these counts, direction (.9 by
span) and action (.93) have a standard error of .02. A needle is driven once in a stitch, so most pieces are of
suturing."""
PICTURE = ("--size", "256x144", "--fps", "12.8")
"""Still more than twice as wide as what the encoder sees, and twice its rate, since the usual decoding skips every
other frame. A minute takes 2.2 s of a slow core to render, against 4.3 s at 384x216 and 15 frames per
second."""
FOREIGN_S = 10.0
"""Length of each video of foreign pictures."""
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
    # Beside the held-out videos: an archive holds such files, too, and one run maps all.
    write_foreign(heldout / "foreign")
    steps: list[tuple[str, list[object]]] = [
        ("phantom", [training, "--videos", VIDEOS, "--minutes", MINUTES, "--seed", 1, *PACE, *PICTURE]),
        (
            "phantom",
            [heldout, "--videos", HELD_OUT, "--minutes", HELD_OUT_MINUTES, "--seed", 2, *PACE, *SUTURING, *PICTURE],
        ),
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
    with connected():  # one Ray for all steps: each of them would start one
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
        f"unknown: {unknown_share(maps, 'foreign'):.1%} of the time of foreign pictures (test pictures, noise, "
        f"cartoons,\nfractals, an empty room), {unknown_share(maps, 'videos'):.1%} of the held-out videos\n"
    )
    print(
        f"Learned from {ANNOTATED} annotated videos and from labels of its own, on the same windows as the baselines:"
    )
    print(f"{methods_table(json.loads((loop / 'evaluation.json').read_text()))}\n")
    print(
        "seconds: "
        + ", ".join(f"{name} {seconds:.0f}" for name, seconds in timings)
        + f"; {sum(seconds for _, seconds in timings):.0f} in all"
    )
    print(f"reports: {page}, {loop / 'report.html'}")
    return 0


def write_foreign(folder: Path) -> None:
    """Writes a video of each kind of pictures that no operation shows, where it is not there yet."""
    from halsted_ray.phantom.foreign import FOREIGN, write_foreign_video

    folder.mkdir(parents=True, exist_ok=True)
    for kind in FOREIGN:
        path = folder / f"{kind.replace(' ', '-')}.mp4"
        if not path.exists():
            write_foreign_video(path, kind, 3, FOREIGN_S)


def unknown_share(maps: Path, folder: str) -> float:
    """Share of the time of the mapped videos in ``folder`` of the archive that the model does not know."""
    from halsted_ray.maps.status import status_of

    videos = [
        video for video in status_of(str(maps)) if video["duration_s"] and Path(video["uri"]).parent.name == folder
    ]
    return sum(video["unknown_s"] or 0.0 for video in videos) / sum(video["duration_s"] for video in videos)


def figures_table(maps: Path, heldout: Path) -> str:
    """Table of the figures that the demo promises: measured with their interval over videos, by span with the standard
    error, by chance, and promised."""
    from halsted_ray.reporting import report

    accuracy = report(str(maps), str(heldout))["accuracy"]
    tags, certainty = accuracy["tags"], accuracy["certainty"]["tags"]
    rows = []
    for tag, figure, bar in BARS:
        value = tags.get(tag, {}).get(figure)
        if value is None:
            rows.append((f"{tag}: not in the truth of these videos", "–", "–", "–", "–", "–", ""))
            continue
        verdict = "met" if value >= bar else "missed"
        if figure == "accuracy":
            rows.append(
                (
                    f"{tag}, exact match per window",
                    percent(value),
                    interval(certainty[tag]["interval"]),
                    with_error(certainty[tag]["spans"]),
                    percent(tags[tag]["chance"]),
                    percent(bar),
                    verdict,
                )
            )
        else:
            rows.append((f"{tag}, temporal F1@10", f"{value:.2f}", "–", "–", "–", f"{bar:.2f}", verdict))
    header = ("held-out videos", "measured", "95% interval", "by span", "chance", "bar", "")
    return table(header, rows, right=(1, 2, 3, 4, 5))


def methods_table(figures: JsonObject) -> str:
    """Table of the model of the round of self-labelling beside the linear probe and chance, on the same windows, each
    with its 95% interval over videos."""
    methods = figures["methods"]
    shown = [name for name in ("halsted", "linear", "chance") if name in methods]
    rows = [
        (tag, *(with_interval(methods[name]["tags"].get(tag, {}).get("accuracy")) for name in shown))
        for tag in methods["halsted"]["tags"]
    ]
    rows.append(("mean", *(with_interval(methods[name]["mean"]) for name in shown)))
    names = {"halsted": "Halsted", "linear": "linear probe"}
    header = ("tag", *(names.get(name, name) for name in shown))
    return table(header, rows, right=range(1, len(header)))


def with_interval(accuracy: JsonObject | None) -> str:
    """``91.2% (88.0–93.9)``; – where there is no figure."""
    if accuracy is None:
        return "–"
    low, high = accuracy["bootstrap"]
    value = percent(accuracy["value"])
    return (
        value if low is not None and high - low < 1e-9 else f"{value} ({interval((low, high))})"
    )  # chance is always the same


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
