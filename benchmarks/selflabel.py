"""Does a model learn from its own labels? Few phantoms with a person's labels, many without.

    python benchmarks/selflabel.py --out /tmp/selflabel                 5 folds of 40 phantoms: hours on 2 cores
    python benchmarks/selflabel.py --out /tmp/selflabel --folds 1 --videos 8 --minutes 1 --manual 3 --test 2 --gate 0

Per fold other videos are labelled by hand, judge and test. v1 learns the hand-made labels, labels the rest of the
archive, v2 learns both, and both answer the same test videos, which no model of the fold has seen: also not the one
whose labels v2 learns. Since phantoms' truth is known, so is how many of the labels are right.

Vectors are kept in <out>/archive/embeddings and serve all folds; a run that was stopped goes on. Writes
<out>/selflabel.json.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from halsted_ray.atlas import Atlas, read_atlas, write_atlas
from halsted_ray.atlas.phantom_archive import write_archive
from halsted_ray.cli.selflabel import report_text
from halsted_ray.cli.tables import percent, table
from halsted_ray.evaluation.answers import Answers
from halsted_ray.evaluation.run import evaluate, operation_of_video
from halsted_ray.records import Clip
from halsted_ray.selflabel.compare import compare
from halsted_ray.selflabel.run import self_label
from halsted_ray.training.recipe import RECIPES, Recipe, changed
from halsted_ray.training.run import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--manual", type=int, default=6, help="videos labelled by hand to learn from (default 6)")
    parser.add_argument("--validation", type=int, default=4)
    parser.add_argument("--test", type=int, default=8)
    parser.add_argument("--precision", type=float, default=0.9)
    parser.add_argument("--gate", type=float, default=0.8, help="default 0.8, the paper's")
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="such as ai_weight=0.5")
    options = parser.parse_args()
    if options.manual + options.validation + options.test >= options.videos:
        parser.error("expected videos without labels: raise --videos")
    out, recipe = options.out.rstrip("/"), changed(RECIPES[options.recipe], options.set)
    whole = write_archive(f"{out}/archive", options.videos, options.minutes, seed=4)
    folds = []
    for number in range(options.folds):
        split = drawn(whole, number, options.manual, options.validation, options.test)
        print(f"\nfold {number + 1} of {options.folds}", flush=True)
        folds.append(run_fold(whole, f"{out}/fold-{number}", number, split, recipe, options.precision, options.gate))
    before, after = ([entry for fold in folds for entry in fold[name]] for name in ("v1", "v2"))
    found = compare(before, after, whole.load_taxonomy(), operation_of_video(whole.clips))
    found["labels"] = [fold["labels"] for fold in folds]
    Path(f"{out}/selflabel.json").write_text(json.dumps(found, indent=1))
    print("\n" + comparison_table(found))


def drawn(whole: Atlas, number: int, manual: int, validation: int, test: int) -> dict[str, str]:
    """video_id → part, of the videos that a person labelled in this fold."""
    video_ids = sorted(video.video_id for video in whole.videos)
    random.Random(number).shuffle(video_ids)
    parts = ["train"] * manual + ["validation"] * validation + ["test"] * test
    return dict(zip(video_ids, parts, strict=False))


def run_fold(
    whole: Atlas, place: str, number: int, split: dict[str, str], recipe: Recipe, precision: float, gate: float
) -> dict:
    """``v1``, ``v2``: answers about the test videos; ``labels``: the report, and how much of its time is right."""
    videos = [video for video in whole.videos if video.video_id in split]
    clips = [clip for clip in whole.clips if clip.video_id in split]
    if not Path(f"{place}/atlas").exists():
        write_atlas(place, videos, clips, "v1", split=split, taxonomy=whole.load_taxonomy())
    shared = {"embeddings": f"{whole.root}/embeddings"}
    train(place, f"{place}/v1", recipe, release="v1", **shared)
    report = self_label(place, whole.root, f"{place}/v1/model", f"{place}/labels", precision=precision, gate=gate,
                        release="v2", **shared)
    print(report_text(report), flush=True)
    answers = {"v1": judged(place, "v1", number, shared)}
    if not report.get("added"):
        return {**answers, "v2": answers["v1"], "labels": report}
    train(place, f"{place}/v2", recipe, release="v2", **shared)
    added = [clip for clip in read_atlas(place, "v2").clips if clip.source == "ai"]
    report["right"] = {task: right_share([clip for clip in added if clip.task == task], whole.clips)
                       for task in report["added"]}
    print("labels that are right, by time: " + ", ".join(f"{task} {percent(v)}" for task, v in report["right"].items()))
    return {**answers, "v2": judged(place, "v2", number, shared), "labels": report}


def judged(place: str, version: str, number: int, shared: dict) -> list[Answers]:
    """What the model of one version answers about the fold's test videos, which both releases hold alike."""
    found = evaluate(place, f"{place}/{version}/evaluation", model=f"{place}/{version}/model", release="v1",
                     part="test", baselines=(), **shared)
    return [replace(entry, asked=replace(entry.asked, fold=number)) for entry in found.of()]


def right_share(labels: Sequence[Clip], truth: Sequence[Clip]) -> float:
    """Share of the labelled time in which the first tag is the truth's; time without a truth counts as wrong."""
    of_video: dict[str, list[Clip]] = {}
    for clip in truth:
        of_video.setdefault(clip.video_id, []).append(clip)
    right_s = 0.0
    for label in labels:
        tag, category = next(iter(label.tags.items()))
        right_s += sum(
            max(0.0, min(clip.stop_s, label.stop_s) - max(clip.start_s, label.start_s))
            for clip in of_video[label.video_id] if clip.task == label.task and clip.tags.get(tag) == category
        )
    return right_s / sum(label.stop_s - label.start_s for label in labels)


def comparison_table(found: dict) -> str:
    """Per task the means over folds, the gain with its interval, and Wilcoxon's p; then which to keep."""
    def mean(values: list) -> float:
        return sum(values) / len(values)

    rows = []
    for task, own in found["folds"].items():
        gain = own["difference"] if found["over"] == "folds" else found["videos"]["tasks"].get(
            task, found["videos"]["mean"])
        interval = "–" if gain["low"] is None else f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}"
        p = own["wilcoxon_p"]
        rows.append((task, percent(mean(own["first"])), percent(mean(own["second"])), f"{100 * gain['value']:+.1f}",
                     interval, "–" if p is None else f"{p:.3f}"))
    return (table(("task", "v1", "v2", "gain", f"95% over {found['over']}", "p"), rows, right=range(1, 6))
            + f"\nkeep {found['keep']}: its {found['task']} gain " + (
                "excludes zero" if found["keep"] == "v2" else "does not exclude zero from below, so v1 stays"))


if __name__ == "__main__":
    main()
