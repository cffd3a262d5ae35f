"""The paper's outside test: suturing actions of SAR-RARP50, one prediction per segment with given borders."""

from __future__ import annotations

import posixpath
import random
from collections.abc import Callable, Sequence

import numpy as np

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.atlas.imports import import_annotations
from halsted_ray.embedding.embed import EmbedProgress
from halsted_ray.errors import AtlasError
from halsted_ray.evaluation import metrics
from halsted_ray.evaluation.baselines import BASELINES
from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
from halsted_ray.evaluation.json_values import Figures
from halsted_ray.evaluation.predictions import TagPredictions, of_unit
from halsted_ray.evaluation.run_evaluation import Evaluation, evaluate, save_evaluation
from halsted_ray.storage.files import require_writable
from halsted_ray.training.recipe import Recipe

PUBLISHED: Sequence[Figures] = (
    {"method": "MA-TCN", "chance": 0.259, "accuracy": 0.809, "source": "van Amsterdam 2022, IEEE TMI"},
    {"method": "SAIS", "chance": 0.143, "accuracy": 0.598, "source": "Kiyasseh 2023, Nat Biomed Eng 7:780"},
    {"method": "Halsted, 2 layers", "chance": 0.125, "accuracy": 0.666, "source": "Kiyasseh 2026, arXiv 2603.22583"},
    {"method": "Halsted, 10 layers", "chance": 0.125, "accuracy": 0.686, "source": "Kiyasseh 2026, arXiv 2603.22583"},
)
"""Published accuracies (Halsted paper, Table 1 and Methods). The first two rows are as that paper quotes them: other
protocols, with infrequent actions left out, and MA-TCN by frames with the robot's kinematics."""
VALIDATION = 0.1
"""Share of the training operations that choose the epoch to keep; the paper does not say which videos did."""


def evaluate_rarp50(
    folder: str,
    out: str,
    recipe: Recipe,
    *,
    seed: int = 0,
    baselines: tuple[str, ...] = BASELINES,
    sais_encoder: str | None = None,
    encoder: str | None = None,
    embeddings: str | None = None,
    on_embed: EmbedProgress | None = None,
    on_fold: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Trains ``recipe`` on train1 and train2 of the data set at ``folder`` and judges it on test, by segment.

    The annotations become an atlas under ``out``; the videos stay where they are. ``seed`` draws the validation
    operations; the other options as of ``evaluate``. The figures get ``benchmark``: per method ``micro`` (share
    of segments that are right), ``macro`` (mean over actions), ``macro_videos`` (mean over videos of the mean over
    their actions) and ``relative_improvement`` (micro over chance). Raises AtlasError for a folder of another layout,
    or without training or test videos.
    """
    require_writable(out)  # before every video of the data set is looked at
    done = import_annotations(out, folder, "sar-rarp50", why="the SAR-RARP50 benchmark", replace_earlier=True)
    if broken := [left for left in done.left_out if left.code == "malformed"]:
        raise AtlasError(f"{broken[0]}; a benchmark needs every annotation file, and {len(broken)} can't be read")
    source = read_atlas(out, "head")
    plan = EvaluationPlan(
        release="head",
        splits=(split_of(source, seed),),
        baselines=baselines,
        sais_encoder=sais_encoder,
    )
    found = evaluate(
        out,
        out,
        recipe,
        plan=plan,
        encoder=encoder,
        embeddings=embeddings,
        on_embed=on_embed,
        on_fold=on_fold,
    )
    chance = metrics.uniform_chance(len(found.taxonomy.tag("action").categories))
    found.figures["benchmark"] = {
        "name": "rarp50",
        "chance": chance,
        "published": [
            {**row, "relative_improvement": metrics.relative_improvement(row["accuracy"], row["chance"])}
            for row in PUBLISHED
        ],
        "methods": {
            name: segment_accuracy(of_unit(found.of(name), "clips"), chance) for name in found.figures["methods"]
        },
    }
    save_evaluation(out, found.figures, found.predictions, found.taxonomy)
    return found


def split_of(source: Atlas, seed: int) -> dict[str, str]:
    """video_id → part: the data set's own test part; a tenth of its training operations becomes validation.

    Raises AtlasError where there are too few operations or no test video.
    """
    operation_of = {video.video_id: operation(video.uri) for video in source.videos if video.video_id in source.split}
    learning = sorted({operation_of[v] for v, part in source.split.items() if part != "test" and v in operation_of})
    if len(learning) < 2 or "test" not in source.split.values():
        raise AtlasError(
            f"{len(learning)} operations to learn from and {sum(p == 'test' for p in source.split.values())} test "
            "videos; expected at least 2 and 1: name the folder that holds train1, train2 and test"
        )
    chosen = set(random.Random(seed).sample(learning, max(1, round(VALIDATION * len(learning)))))
    return {
        video_id: "test" if source.split[video_id] == "test" else "validation" if name in chosen else "train"
        for video_id, name in operation_of.items()
    }


def operation(uri: str) -> str:
    """``video_08`` of ``…/train1/video_08_2/video_left.avi``, so that two fragments of an operation stay together."""
    return "_".join(posixpath.basename(posixpath.dirname(uri)).split("_")[:2])


def segment_accuracy(predictions: Sequence[TagPredictions], chance: float) -> dict[str, float]:
    """``micro``, ``macro``, ``macro_videos``, ``relative_improvement`` (``evaluate_rarp50``) and ``segments``, their
    number."""
    right_N = np.concatenate([entry.right_N for entry in predictions])
    truth_N = np.concatenate([entry.targets.truth_N for entry in predictions])
    video_N = np.concatenate([entry.targets.video_N for entry in predictions])

    def mean_of_actions(is_kept_N: np.ndarray) -> float:
        actions = np.unique(truth_N[is_kept_N])
        return float(np.mean([right_N[is_kept_N & (truth_N == action)].mean() for action in actions]))

    micro = float(right_N.mean())
    return {
        "micro": micro,
        "macro": mean_of_actions(np.ones(len(right_N), bool)),
        "macro_videos": float(np.mean([mean_of_actions(video_N == video) for video in np.unique(video_N)])),
        "relative_improvement": metrics.relative_improvement(micro, chance),
        "segments": len(right_N),
    }
