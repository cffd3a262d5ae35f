"""The model card: what a model was taught, by whom, how well it does, and what it is not for.

``MODEL_CARD.md`` is for people, ``model-card.json`` says the same for programs. Both lie in the model's folder, so they
go wherever the model goes: into the registry, and to the service, whose `GET /v1/models` shows the card.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.evaluation.folds import operation_of_video
from halsted_ray.evaluation.intervals import bootstrap
from halsted_ray.evaluation.json_values import Figures, without_nan
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import SOURCES, SYNTHETIC
from halsted_ray.storage.files import write_atomically
from halsted_ray.storage.locations import absolute_location, filesystem
from halsted_ray.training import train as training
from halsted_ray.training.recipe import PAPER, Recipe
from halsted_ray.training.samples import Samples
from halsted_ray.training.train import TrainSummary

CARD, CARD_JSON = "MODEL_CARD.md", "model-card.json"
ENCODERS = {
    "tiny": "The encoder `tiny` ships with this software. It was taught with all tags of 72,201 labelled clips from "
    "the renderer that also makes the synthetic videos (`halsted phantom`). So it knows the tags of synthetic video "
    "before a model learns anything, and figures on synthetic video say nothing of how many annotations real surgery "
    "needs. It knows nothing of real surgery."
}
"""Reference of an encoder → how it was taught, for encoders that ship."""
OTHER_ENCODER = (
    "How this encoder was taught is not known here. Add it to this card: which videos, whose, with which labels."
)
USE = (
    "Research on archives of surgical video. Not a medical device: not for diagnosis, not for decisions about a "
    "patient, not to judge a person."
)
LIMITS = (
    "The figures are of the validation videos of the atlas, which also chose the epoch and the calibration: they "
    "flatter a little. `halsted evaluate` measures on videos that the model never saw.",
    "A video of another hospital, camera, procedure or instrument can be worse than every figure here.",
)


def train(atlas: str, out: str, recipe: Recipe = PAPER, **options: Any) -> TrainSummary:
    """``training.train.train``, which takes the same arguments, and then the card of the model that it made.

    >>> from halsted_ray import train
    >>> from halsted_ray.training.recipe import BEST, changed
    >>> summary = train("archive", "run", changed(BEST, ["epochs=2", "least_steps=0"]))
    >>> summary.model, summary.epochs
    ('run/model', 2)
    """
    summary = training.train(atlas, out, recipe, **options)
    folder = f"{absolute_location(out)}/model"
    fs, root = filesystem(folder)
    if not (fs.exists(f"{root}/{CARD}") and fs.exists(f"{root}/{CARD_JSON}")):
        own = read_atlas(atlas, version=summary.atlas_version)
        validation = Samples.load(f"{absolute_location(out)}/samples/{summary.model_version}-validation.safetensors")
        card = model_card(Halsted.load(folder), summary, own, validation)
        write_atomically(fs, f"{root}/{CARD_JSON}", (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())
        write_atomically(fs, f"{root}/{CARD}", card_text(card).encode())
    return summary


def model_card(model: Halsted, summary: TrainSummary, atlas: Atlas, validation: Samples) -> Figures:
    """The card as JSON values: ``model``, ``encoder``, ``atlas`` (videos, hours, clips per task and by whom),
    ``verdict`` (``ModelConfig.verdict``), ``figures`` on the samples ``validation`` (``by_tag`` and ``by_procedure``,
    each with a 95% interval over videos), ``unknown``, ``use`` and ``limits``."""
    config = model.config
    learned = {video_id for own in (config.learned_from or {}).values() for video_id in own}
    clips = [clip for clip in atlas.clips if clip.video_id in learned]
    encoder = config.encoder_ref.partition("#")[0]
    return without_nan(
        {
            "model": {
                "name": config.name,
                "version": config.version,
                "parameters": summary.parameters,
                "taxonomy": model.taxonomy.name,
                "taxonomy_digest": model.taxonomy.digest,
            },
            "encoder": {
                "name": encoder.rstrip("/").rsplit("/", 1)[-1],
                "fingerprint": config.encoder_fingerprint,
                "taught": ENCODERS.get(encoder, OTHER_ENCODER),
            },
            "atlas": {
                "release": atlas.name,
                "version": atlas.version,
                "videos": summary.videos,
                "video_hours": sum(v.duration_s for v in atlas.videos if v.video_id in learned) / 3600,
                "clips": dict(Counter(clip.task for clip in clips)),
                "samples": summary.samples,
                "annotated_by": {
                    source: sum(clip.source == source for clip in clips) / max(1, len(clips)) for source in SOURCES
                },
                "annotators": len({clip.annotator for clip in clips if clip.source == "manual" and clip.annotator}),
            },
            "verdict": config.verdict,
            "figures": validation_figures(model, validation, operation_of_video(atlas.clips)),
            # None for a model that was fitted without a threshold, as models were before there was one.
            "unknown": asdict(config).get("novelty"),
            "use": USE,
            "limits": list(LIMITS),
        }
    )


def validation_figures(model: Halsted, samples: Samples, operations: Mapping[str, Mapping[str, str]]) -> Figures:
    """Exact match of ``model`` on the judged ``samples``: ``by_tag``, and ``by_procedure`` as the mean over tags, each
    with ``accuracy``, ``interval``, ``samples`` and ``videos``. ``operations``: video_id → its procedure."""
    rows = np.flatnonzero(samples.judged_S)
    tags = [tag.name for tag in model.taxonomy.tags]
    right_VT, total_VT = (np.zeros((len(samples.video_ids), len(tags))) for _ in range(2))
    tasks = [model.taxonomy.tasks[k] for k in samples.task_S[rows]]
    vectors_ND, names = samples.embeddings_WD[samples.window_S[rows]], [task.name for task in tasks]
    answers = model.tag(vectors_ND, names, unit=samples.units(rows))
    for row, task, answer in zip(rows, tasks, answers, strict=True):
        video = samples.video_W[samples.window_S[row]]
        for tag, category in zip(task.tags, samples.truth_SG[row], strict=False):
            if category >= 0:
                right_VT[video, tags.index(tag.name)] += answer[tag.name][0] == tag.categories[category]
                total_VT[video, tags.index(tag.name)] += 1
    procedures = [operations.get(video_id, {}).get("procedure", "") for video_id in samples.video_ids]
    return {
        "by_tag": {
            tag: accuracy(right_VT[:, [t]], total_VT[:, [t]]) for t, tag in enumerate(tags) if total_VT[:, t].any()
        },
        "by_procedure": {
            name: accuracy(right_VT[of_V], total_VT[of_V])
            for name in sorted({*procedures} - {""})
            if total_VT[of_V := np.array([own == name for own in procedures])].any()
        },
    }


def accuracy(right_VT: np.ndarray, total_VT: np.ndarray) -> Figures:
    """Mean over tags of right / total, with its interval over videos and the numbers that it rests on."""
    found = bootstrap(right_VT, total_VT)
    return {
        "accuracy": found.value,
        "interval": [found.low, found.high],
        "samples": int(total_VT.sum()),
        "videos": int(total_VT.any(1).sum()),
    }


def card_text(card: Figures) -> str:
    """The card in Markdown."""
    model, encoder, atlas = card["model"], card["encoder"], card["atlas"]
    clips = ", ".join(f"{count:,} {task}" for task, count in atlas["clips"].items()) or "none"
    parts = ", ".join(f"{count} {part}" for part, count in atlas["videos"].items())
    by_whom = atlas["annotated_by"]
    lines = [
        f"# Model {model['name']}, version {model['version']}",
        f"**{card['use']}**",
        "## What it was taught",
        f"Atlas `{atlas['release']}` (version {atlas['version']}), taxonomy `{model['taxonomy']}`. "
        f"{atlas['video_hours']:.2f} video-hours; videos: {parts}. Clips: {clips}.",
        f"{100 * by_whom['manual']:.1f}% of the clips were labelled by people (annotators named: "
        f"{atlas['annotators']}), {100 * by_whom['ai']:.1f}% by a model"
        + (f", and {100 * drawn:.1f}% are of drawn videos." if (drawn := by_whom.get(SYNTHETIC)) else "."),
        f"The decoder has {model['parameters']:,} parameters. Its encoder is `{encoder['name']}` "
        f"({encoder['fingerprint']}), which was frozen. {encoder['taught']}",
        "## How well it does",
        f"**{verdict[0].upper()}{verdict[1:]}.**" if (verdict := card.get("verdict")) else "",
        "Exact match on the atlas's validation videos; 95% intervals over videos.",
        figures_table("tag", card["figures"]["by_tag"]),
        figures_table("procedure (mean over tags)", card["figures"]["by_procedure"]),
        "## What it does not know",
        unknown_text(card["unknown"]),
        *(f"- {limit}" for limit in card["limits"]),
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def unknown_text(unknown: Mapping[str, Any] | None) -> str:
    """What the card says of pictures that are unlike the atlas."""
    if unknown is None:
        return (
            "This model has no threshold for what it has not learned: it answers about any picture, with a confidence."
        )
    return "It says `unknown` where a window is unlike its atlas: " + ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in unknown.items()
    )


def figures_table(first: str, figures: Mapping[str, Figures]) -> str:
    """A Markdown table of accuracies; '' where there are none."""
    rows = [
        f"| {name} | {100 * own['accuracy']:.1f}% | {between(own['interval'])} | {own['samples']} | {own['videos']} |"
        for name, own in figures.items()
    ]
    head = f"| {first} | exact match | 95% interval | samples | videos |\n|---|--:|--:|--:|--:|\n"
    return head + "\n".join(rows) if rows else ""


def between(borders: Sequence[float | None]) -> str:
    """``91.2–94.8%``; – where fewer than two videos leave the borders unknown."""
    low, high = borders
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return "–"
    return f"{100 * low:.1f}–{100 * high:.1f}%"
