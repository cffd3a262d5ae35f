"""``halsted forecast`` and its actions: their options, and what they print."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING

from halsted_ray.cli.options import DONE, Commands, Parser, add_command, add_group, count, positive_int, seconds
from halsted_ray.cli.text_tables import WIDTH, counted, show_progress, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halsted_ray.records import JsonObject

METHOD_NAMES = {"commonest": "commonest", "ngram": "n-gram", "gru": "GRU", "goes on": "goes on"}


def add_forecast(commands: Commands) -> None:
    """``halsted forecast train``, ``evaluate`` and ``next``."""
    actions = add_group(
        commands,
        "forecast",
        "forecast which action comes next, and when",
        example="halsted forecast evaluate demo/maps",
        more="A forecast says what usually follows in the videos it learned from. It is no advice on what to do.",
    )
    train = add_command(
        actions,
        "train",
        "learn what follows what from maps or from an atlas",
        train_forecast,
        example="halsted forecast train demo/archive --to demo/forecast",
    )
    _add_source(train)
    train.add_argument("--to", required=True, metavar="DIR", help="folder or URL that the forecaster is written to")
    train.add_argument(
        "--method", choices=("gru", "ngram"), default="gru", metavar="NAME", help="gru (default) or ngram"
    )
    train.add_argument("--seed", type=count, default=0, metavar="N", help="of the network's first weights (default 0)")
    evaluate = add_command(
        actions,
        "evaluate",
        "measure forecasts on videos that were held out, by horizon",
        evaluate_forecast,
        example="halsted forecast evaluate demo/archive --folds 5",
        more="Compares a network (GRU) with an n-gram, with the commonest actions, and with 'the action goes on'.",
    )
    _add_source(evaluate)
    evaluate.add_argument("--folds", type=positive_int, default=5, metavar="N", help="number of folds (default 5)")
    evaluate.add_argument(
        "--seed", type=count, default=0, metavar="N", help="another seed draws other folds (default 0)"
    )
    evaluate.add_argument("--json", action="store_true", help="print the figures as JSON")
    upcoming = add_command(
        actions,
        "next",
        "print what a forecaster expects after a moment of a mapped video",
        show_next,
        example="halsted forecast next demo/maps 3f2a --with demo/forecast --at 95",
    )
    upcoming.add_argument("out", metavar="OUT", help="the OUT of `halsted map`")
    upcoming.add_argument("video", metavar="VIDEO", help="id of a video, its beginning, or a file name")
    upcoming.add_argument(
        "--with", required=True, metavar="DIR", dest="forecaster", help="what `halsted forecast train` wrote"
    )
    upcoming.add_argument(
        "--at",
        type=seconds,
        metavar="SECONDS",
        help="the moment, from the start of the video (default: its last action)",
    )
    upcoming.add_argument("--json", action="store_true", help="print the forecast as JSON")


def _add_source(parser: Parser) -> None:
    parser.add_argument("source", metavar="PLACE", help="the OUT of `halsted map`, or an archive that holds atlas/")
    parser.add_argument("--release", metavar="R", help="release of the atlas (default: the latest; head: newest state)")
    parser.add_argument(
        "--tags",
        default="action,phase",
        metavar="NAMES",
        help="tags whose categories are forecast, separated by commas (default: action,phase)",
    )


def train_forecast(options: argparse.Namespace) -> int:
    """Trains a forecaster and says what it learned from."""
    from halsted_ray.sequences.action_sequences import read_sequences
    from halsted_ray.sequences.forecaster import train_forecaster

    source = read_sequences(options.source, options.tags.split(","), options.release)
    forecaster = train_forecaster(source, options.method, options.seed)
    forecaster.save(options.to)
    learned = counted(sum(len(one.actions) for one in source.sequences), "action")
    print(
        f"{METHOD_NAMES[options.method]} learned from {learned} of {len(forecaster.symbols)} kinds in "
        f"{counted(len(source.sequences), 'video')} ({source.kind})"
    )
    print(options.to)
    return DONE


def evaluate_forecast(options: argparse.Namespace) -> int:
    """Prints the figures as two tables, by actions ahead and by seconds ahead."""
    from halsted_ray.sequences.action_sequences import read_sequences
    from halsted_ray.sequences.forecast_folds import evaluate_forecasts

    source = read_sequences(options.source, options.tags.split(","), options.release)
    figures = evaluate_forecasts(
        source,
        options.folds,
        options.seed,
        lambda done, of: show_progress(f"{done} of {counted(of, 'fold')} evaluated", done == of),
    )
    print(json.dumps(figures, indent=1) if options.json else forecast_text(figures))
    return DONE


def forecast_text(figures: JsonObject) -> str:
    """The figures of ``sequences.forecast_folds`` as text."""
    parts = []
    for kind, unit in (("actions", "actions ahead"), ("seconds", "seconds ahead")):
        methods = [name for name, found in figures["methods"].items() if found[kind]]
        horizons = list(figures["methods"][methods[0]][kind]) if methods else []
        rows = [
            (
                horizon,
                METHOD_NAMES[name],
                _share(found["top_1"]),
                "–" if name == "goes on" else _share(found["top_3"]),
                found["n"],
            )
            for horizon in horizons
            for name in methods
            for found in (figures["methods"][name][kind][horizon],)
        ]
        parts.append(table((unit, "method", "top-1", "top-3", "forecasts"), rows, right=(0, 2, 3, 4)))
    errors = [
        f"{METHOD_NAMES[name]} {_seconds(found['begins_error_s'])}"
        for name, found in figures["methods"].items()
        if "begins_error_s" in found
    ]
    truth = "the maps, which a model made" if figures["learned_from"] == "maps" else "the annotated clips"
    said = [
        f"When the next action begins, mean error in seconds: {'; '.join(errors)}.",
        f"{counted(figures['actions'], 'action')} of {figures['symbols']} kinds in "
        f"{counted(figures['videos'], 'video')}, {counted(figures['folds'], 'fold')}; the truth is {truth}. "
        "In brackets: 95% intervals, from videos drawn with replacement.",
    ]
    return "\n\n".join([*parts, *(textwrap.fill(line, WIDTH) for line in said)])


def show_next(options: argparse.Namespace) -> int:
    """Prints the forecast after one moment of one video."""
    from halsted_ray.errors import UsageError
    from halsted_ray.maps.status import status_of
    from halsted_ray.reporting.report_data import find_video
    from halsted_ray.reporting.terminal import clock
    from halsted_ray.sequences.action_sequences import sequences_of_maps
    from halsted_ray.sequences.forecaster import forecast_json, load_forecaster, moment_of

    forecaster = load_forecaster(options.forecaster)
    video_id = find_video(status_of(options.out), options.video)["video_id"]
    source = sequences_of_maps(options.out, forecaster.tags)
    if forecaster.taxonomy_digest and source.taxonomy_digest not in ("", forecaster.taxonomy_digest):
        raise UsageError(
            f"the forecaster learned taxonomy {forecaster.taxonomy_digest}, the maps are in {source.taxonomy_digest}; "
            "train one on maps or an atlas of the same taxonomy"
        )
    sequence = next((one for one in source.sequences if one.video_id == video_id), None)
    if sequence is None:
        raise UsageError(
            f"video {video_id} has no row of {', '.join(forecaster.tags)}; `halsted status {options.out}` says how far "
            "it is"
        )
    found = forecast_json(forecaster, moment_of(sequence, options.at))
    if options.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return DONE
    current = found["current"]
    print(f"{video_id} at {clock(found['at_s'])}: {current['category']} since {current['elapsed_s']:.1f} s")
    rows = [(one["actions_ahead"], f"{one['begins_in_s']:.1f} s", _likely(one["likely"])) for one in found["next"]]
    print(table(("ahead", "begins in", "likely"), rows, right=(0, 1)))
    if found["learned_from_this_video"]:
        print("\n" + textwrap.fill("The forecaster learned from this video, so it may know it by heart.", WIDTH))
    return DONE


def _likely(likely: Sequence[JsonObject]) -> str:
    return ", ".join(f"{one['category']} {one['probability']:.0%}" for one in likely)


def _share(triple: Sequence[float | None]) -> str:
    value, low, high = triple
    if value is None:
        return "–"
    return f"{100 * value:.1f}%" + ("" if low is None or high is None else f" [{100 * low:.1f}–{100 * high:.1f}]")


def _seconds(triple: Sequence[float | None]) -> str:
    value, low, high = triple
    if value is None:
        return "–"
    return f"{value:.1f}" + ("" if low is None or high is None else f" [{low:.1f}–{high:.1f}]")
