"""``halsted zero-shot``, ``few-shot`` and ``recall``: their options, and what they print."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from halsted_ray.cli.options import DONE, Commands, Parser, add_command, positive_int
from halsted_ray.cli.registry import REGISTRY_HELP
from halsted_ray.cli.text_tables import counted, percent, show_progress, table
from halsted_ray.registry.references import resolve

if TYPE_CHECKING:
    from halsted_ray.atlas import Atlas
    from halsted_ray.language.contrast_model import VideoTextModel

MODEL_OF_TEXT = "RUN/model of `halsted train --objective contrast`, or registry:halsted-language/1"


def add_zero_shot(commands: Commands) -> None:
    """``halsted zero-shot``."""
    added = add_command(
        commands,
        "zero-shot",
        "label the clips of an atlas by sentences alone, and say how right that is",
        print_zero_shot,
        example="halsted zero-shot run/model --atlas archive --labels actions.yaml",
        more="docs/how-to/language.md shows a file of labels",
    )
    add_shared(added)
    added.add_argument("--labels", required=True, metavar="FILE", help="YAML file with tag, and labels with sentences")


def add_few_shot(commands: Commands) -> None:
    """``halsted few-shot``."""
    added = add_command(
        commands,
        "few-shot",
        "say how right a classifier is that has seen few clips of each label",
        print_few_shot,
        example="halsted few-shot run/model --atlas archive --labels actions.yaml",
        more="The clips that it learns from are drawn from the train part, several times.",
    )
    add_shared(added)
    added.add_argument("--labels", required=True, metavar="FILE", help="the file of labels, as of zero-shot")
    added.add_argument(
        "--shots",
        type=_shots,
        default=(1, 2, 4, 8, 16, None),
        metavar="N,N",
        help="clips of each label (default 1,2,4,8,16,all)",
    )
    added.add_argument("--repeats", type=positive_int, default=10, metavar="N", help="draws of the clips (default 10)")
    added.add_argument(
        "--method",
        choices=("linear", "prompts", "both"),
        default="linear",
        help="linear (default): on the clips' vectors; prompts: learned words before each label (CoOp), far slower",
    )


def add_recall(commands: Commands) -> None:
    """``halsted recall``."""
    added = add_command(
        commands,
        "recall",
        "say how often a sentence finds its moment among those of an atlas",
        print_recall,
        example="halsted recall run/model --atlas archive --part test",
    )
    add_shared(added)
    added.add_argument(
        "--map-model",
        default="phantom",
        metavar="REF",
        help="model of the maps whose words are searched too (default phantom); none: no maps",
    )


def add_shared(added: Parser) -> None:
    """The options of both commands."""
    added.add_argument("model", metavar="MODEL", help=MODEL_OF_TEXT)
    added.add_argument("--atlas", required=True, metavar="DIR", help="the archive that holds atlas/")
    added.add_argument("--release", metavar="NAME", help="release of the atlas (default: the latest)")
    added.add_argument("--part", default="test", choices=("train", "validation", "test"), help="default test")
    added.add_argument("--text-encoder", metavar="DIR", help="folder of the text encoder (default: the model's own)")
    added.add_argument("--embeddings", metavar="DIR", help="where embeddings are kept (default: ATLAS/embeddings)")
    added.add_argument("--registry", metavar="URI", help=REGISTRY_HELP)
    added.add_argument("--json", action="store_true", help="print the figures as JSON")


def print_zero_shot(options: argparse.Namespace) -> int:
    """Prints accuracy and F1, or mean average precision, beside chance."""
    from halsted_ray.language.prompts import read_prompts
    from halsted_ray.language.text_encoder import load_text_encoder
    from halsted_ray.language.zero_shot import labelled_clips, zero_shot

    atlas, model, embeddings = opened(options)
    prompts = read_prompts(options.labels, atlas.load_taxonomy())
    labels_KD = prompts.vectors(model, load_text_encoder(options.text_encoder or model.config.text_ref or None))
    clips = labelled_clips(atlas, options.part, prompts, model, embeddings, embedded)
    found = zero_shot(model, clips, labels_KD, prompts.is_multi_label)
    warn_of_learned(model, clips.video_ids, options.json)
    if options.json:
        print(json.dumps({"tag": prompts.tag, "part": options.part, **asdict(found)}, indent=1))
        return DONE
    figures = [("mean average precision", found.map), ("accuracy", found.accuracy), ("F1, mean over labels", found.f1)]
    rows = [(name, percent(value)) for name, value in figures if value is not None]
    rows += [("chance", percent(found.chance)), ("commonest label", percent(found.commonest))]
    print(table((prompts.tag, options.part), rows, right=(1,)))
    left_out = f"; left out, with none of the labels: {counted(found.left_out, 'clip')}" if found.left_out else ""
    print(
        f"{counted(found.clips, 'clip')} of {counted(found.videos, 'video')}, "
        f"{counted(found.labels, 'label')}{left_out}"
    )
    return DONE


def print_few_shot(options: argparse.Namespace) -> int:
    """Prints the figures by the number of shots, below what sentences alone give."""
    from halsted_ray.errors import AtlasError
    from halsted_ray.language.few_shot import FewShotFigures, few_shot, linear_probe
    from halsted_ray.language.learned_prompts import learned_prompts
    from halsted_ray.language.prompts import read_prompts
    from halsted_ray.language.text_encoder import load_text_encoder
    from halsted_ray.language.zero_shot import labelled_clips, zero_shot

    atlas, model, embeddings = opened(options)
    prompts = read_prompts(options.labels, atlas.load_taxonomy())
    texts = load_text_encoder(options.text_encoder or model.config.text_ref or None)
    sentences = prompts.vectors(model, texts)
    train, test = (
        labelled_clips(atlas, part, prompts, model, embeddings, embedded) for part in ("train", options.part)
    )
    chosen = None
    if options.part != "validation":
        with contextlib.suppress(AtlasError):  # an atlas may be without a validation part
            validation = labelled_clips(atlas, "validation", prompts, model, embeddings, embedded)
            chosen = model.embed_clips(validation.vectors), validation.truth_NK
    train_ND, test_ND, multi = model.embed_clips(train.vectors), model.embed_clips(test.vectors), prompts.is_multi_label
    learners = {}
    if options.method != "prompts":
        learners["linear"] = linear_probe(test_ND, chosen, multi)
    if options.method != "linear":
        learners["prompts"] = learned_prompts(model, texts, prompts, test_ND)
    found: list[FewShotFigures] = []
    for name, learn in learners.items():
        shown = partial(_drawn, name)
        found += few_shot(name, learn, train_ND, train, test, options.shots, options.repeats, multi, shown)
    alone = zero_shot(model, test, sentences, multi)
    warn_of_learned(model, test.video_ids, options.json)
    if options.json:
        stated = {"tag": prompts.tag, "part": options.part, "zero_shot": asdict(alone)}
        print(json.dumps({**stated, "few_shot": [asdict(own) for own in found]}, indent=1))
        return DONE
    of_sentences = alone.map if multi else alone.accuracy
    assert of_sentences is not None
    rows = [("sentences alone", "", "0", percent(of_sentences), "")]
    rows += [
        (own.method, "all" if own.shots is None else str(own.shots), str(own.clips), percent(own.score))
        + (percent(own.deviation) if own.repeats > 1 else "",)
        for own in found
    ]
    rows += [("commonest label", "", "", percent(alone.commonest), ""), ("chance", "", "", percent(alone.chance), "")]
    figure = "mean AP" if multi else "accuracy"
    print(table((prompts.tag, "per label", "clips", figure, "deviation"), rows, right=(1, 2, 3, 4)))
    print(
        f"judged on {counted(alone.clips, 'clip')} of {counted(alone.videos, 'video')} ({options.part}), learned from "
        f"{counted(len(set(train.video_ids)), 'video')} (train), {counted(options.repeats, 'draw')}"
    )
    return DONE


def print_recall(options: argparse.Namespace) -> int:
    """Prints recall@5 from text to moment, of the model, of keywords in maps, and of chance."""
    from halsted_ray.language.held_out_captions import held_out_captions
    from halsted_ray.language.keywords import fused_scores, keyword_scores
    from halsted_ray.language.map_words import map_words
    from halsted_ray.language.retrieval import moments_of, recall, scores_of
    from halsted_ray.model.encoder_identity import encoder_identity
    from halsted_ray.model.halsted import Halsted

    atlas, model, embeddings = opened(options)
    clips = held_out_captions(atlas, options.part, model, embeddings, embedded, options.text_encoder)
    scores_CM, own_C = scores_of(model, clips)
    found = {"this model": recall(scores_CM, own_C)}
    if options.map_model != "none":
        maps = Halsted.load(resolve(options.map_model, options.registry))
        maps.check_encoder(encoder_identity(model.config.encoder_ref))
        words_CM = keyword_scores(clips.texts, map_words(clips, moments_of(clips)[0], maps))[clips.text_C]
        found["keywords in maps"] = recall(words_CM, own_C)
        found["both, as halsted search"] = recall(fused_scores(scores_CM, words_CM), own_C)
    warn_of_learned(model, clips.video_ids, options.json)
    if options.json:
        print(json.dumps({name: asdict(own) for name, own in found.items()}, indent=1))
        return DONE
    rows = [(name, percent(own.recall_at_5), f"{own.median_rank:g}") for name, own in found.items()]
    first = found["this model"]
    rows.append(("chance", percent(first.chance), f"{(first.moments + 1) / 2:g}"))
    print(table(("text to moment", "recall@5", "median rank"), rows, right=(1, 2)))
    print(
        f"{counted(first.queries, 'sentence')}, {counted(first.moments, 'moment')} of "
        f"{counted(len(clips.video_ids), 'video')}"
    )
    return DONE


def opened(options: argparse.Namespace) -> tuple[Atlas, VideoTextModel, str]:
    """(the atlas, the model, where embeddings are)."""
    from halsted_ray.atlas import read_atlas
    from halsted_ray.language.contrast_model import load_video_text

    model = load_video_text(resolve(options.model, options.registry))
    atlas = read_atlas(options.atlas, options.release)
    return atlas, model, options.embeddings or f"{options.atlas.rstrip('/')}/embeddings"


def embedded(done_s: float, all_s: float) -> None:
    """Shows how far decoding and encoding are."""
    show_progress(f"embedded {done_s / 60:.1f} of {all_s / 60:.1f} video-minutes", done_s >= all_s)


def _drawn(name: str, done: int, of: int) -> None:
    show_progress(f"{name}: {done} of {counted(of, 'draw')}", done >= of)


def _shots(text: str) -> tuple[float | None, ...]:
    """``1,4,all`` as (1, 4, None)."""
    found = tuple(None if part.strip() == "all" else positive_int(part) for part in text.split(","))
    if len(set(found)) != len(found):
        raise argparse.ArgumentTypeError(f"got {text!r}; name each number once")
    return found


def warn_of_learned(model: VideoTextModel, video_ids: Sequence[str], quiet: bool) -> None:
    """Says how many of the videos taught the model: figures on them say little."""
    learned = {video_id for own in model.config.learned_from.values() for video_id in own} & set(video_ids)
    if learned and not quiet:
        print(f"warning: {len(learned)} of these videos taught or chose the model, so these figures flatter it")
