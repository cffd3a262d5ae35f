"""Do drawn clips help with the actions that an atlas has fewest samples of?

    python benchmarks/synthetic_rare.py --out /tmp/synthetic_rare

Two archives of phantoms with dissection alone, each with ``--rare`` actions of which every fold's training part keeps
``--kept`` samples; all others of these actions count as annotated by nobody. In the archive ``plain`` the camera and
the instruments are those of the generator, so the drawn clips are as good as any generator's can be. In ``shifted`` the
camera, colours, noise, compression and instruments are others, as where a hospital's videos are not the generator's.

Each fold trains the same recipe on: the training part as it is (``without``); the same and the clips of
`halsted synthesize --like rare` (``synthetic``), also with half their weight (``synthetic, weight 0.5``); and, for
comparison, the training part with the samples that were taken away (``annotated``). Every video is tested once, by a
model that has not seen it, on annotated clips.

F1 is that of one action against all others, pooled over the folds, as the mean over the rare actions. Intervals are
95% of 2,000 draws of test videos, the same videos for both of a difference. Videos and vectors are kept in <out>.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import commit
from run import hardware

from halsted_ray.atlas import Atlas
from halsted_ray.atlas.phantom_archive import DOMAINS, write_archive
from halsted_ray.cli.text_tables import table
from halsted_ray.evaluation.intervals import percentiles
from halsted_ray.model.encoder_identity import EncoderIdentity, encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.phantom.catalogue import ACTIONS
from halsted_ray.synthesis.condition import Condition
from halsted_ray.synthesis.phantom_generator import draw
from halsted_ray.synthesis.synthesize import Synthesis, conditions_like_rare, write_clips
from halsted_ray.training.atlas_samples import load_samples
from halsted_ray.training.loop import fit_in_process
from halsted_ray.training.recipe import BEST, Recipe, changed
from halsted_ray.training.train import calibrate, decoder_options

RESULTS = Path(__file__).parent / "results" / "synthetic_rare.json"
ENCODER, TASK, TAG = "tiny", "micro", "action"
PROCEDURES = ("Gastric Bypass", "Right Colectomy", "Hysterectomy", "Prostatectomy")
SIZE, FPS = (256, 144), 12.5
DRAWS = 2000
WITHOUT, SYNTHETIC, HALF, ANNOTATED = ARMS = ("without", "synthetic", "synthetic, weight 0.5", "annotated")


@dataclass(frozen=True)
class Answers:
    """Of all test clips of all folds: number of the video, true and predicted action as indices of ``ACTIONS``."""

    video_N: np.ndarray
    truth_N: np.ndarray
    chosen_N: np.ndarray


def main() -> None:
    """Renders the archives, trains the folds, prints the tables and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--results", metavar="FILE", type=Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=15, help="of the phantoms, the rare actions and the folds")
    parser.add_argument("--videos", type=int, default=24, help="per archive (default 24)")
    parser.add_argument("--folds", type=int, default=6)
    parser.add_argument("--rare", type=int, default=4, help="how many actions are rare (default 4)")
    parser.add_argument("--kept", type=int, default=2, help="training samples of each rare action (default 2)")
    parser.add_argument("--drawn", type=int, default=14, help="clips that are drawn of each (default 14)")
    parser.add_argument("--domains", nargs="+", default=list(DOMAINS), choices=DOMAINS)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of the recipe")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started_s, cpu_s = time.monotonic(), time.process_time()
    recipe = changed(replace(BEST, tasks=(TASK,), units=("clips",)), options.set)
    rare = tuple(sorted(random.Random(options.seed).sample(ACTIONS, options.rare)))
    setting = {
        "seed": options.seed,
        "videos": options.videos,
        "folds": options.folds,
        "kept": options.kept,
        "drawn": options.drawn,
        "rare": rare,
        "recipe": {"base": "best", "tasks": [TASK], "units": ["clips"], "set": options.set},
        "encoder": ENCODER,
    }
    result: dict[str, Any] = {"commit": commit(), "hardware": hardware(), "setting": setting, "domains": {}}
    for domain in options.domains:
        found = figures_of(run_domain(options, domain, rare, recipe), rare)
        print(text_of(domain, found) + "\n", flush=True)
        result["domains"][domain] = found
        result["seconds"] = {"wall": time.monotonic() - started_s, "cpu": time.process_time() - cpu_s}
        options.results.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    print(f"{result['seconds']['wall']:.0f} s, {result['seconds']['cpu']:.0f} s of one core; {options.results}")


def run_domain(options: argparse.Namespace, domain: str, rare: tuple[str, ...], recipe: Recipe) -> dict[str, Answers]:
    """Arm → the answers of all folds on one archive."""
    place = f"{options.out}/{domain}"
    whole = write_archive(
        place,
        options.videos,
        1.9,
        options.seed,
        width=SIZE[0],
        height=SIZE[1],
        fps=FPS,
        pace=2.0,
        domain=domain,
        suturing=0.0,
        procedures=PROCEDURES,
        workers=1,
    )
    encoder = encoder_identity(ENCODER)
    parts: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {arm: [] for arm in ARMS}
    for number, split in enumerate(folds_of(whole, options.folds, options.seed)):
        annotated = replace(whole, split=split)
        poor = with_few(annotated, rare, options.kept, options.seed + number)
        made = drawn_like(poor, options, place, number)
        grown = with_drawn(poor, made)
        arms = {
            WITHOUT: (poor, recipe),
            SYNTHETIC: (grown, recipe),
            HALF: (grown, replace(recipe, synthetic_weight=0.5)),
            ANNOTATED: (annotated, recipe),
        }
        for arm, (atlas, own) in arms.items():
            parts[arm].append(answers_of(atlas, own, encoder, f"{place}/embeddings"))
        print(f"{domain}: fold {number + 1} of {options.folds}", flush=True)
    return {arm: Answers(*map(np.concatenate, zip(*of_folds, strict=True))) for arm, of_folds in parts.items()}


def folds_of(whole: Atlas, folds: int, seed: int) -> list[dict[str, str]]:
    """Per fold video_id → part. Every video is tested in one fold, and validates in the one before."""
    ids = sorted(video.video_id for video in whole.videos)
    random.Random(seed).shuffle(ids)
    turn = {video_id: n % folds for n, video_id in enumerate(ids)}
    part_of_distance = {0: "test", 1: "validation"}
    return [
        {video_id: part_of_distance.get((turn[video_id] - fold) % folds, "train") for video_id in ids}
        for fold in range(folds)
    ]


def with_few(atlas: Atlas, rare: tuple[str, ...], kept: int, seed: int) -> Atlas:
    """The atlas with only ``kept`` training samples of each rare action; nothing else changes."""
    training = [clip for clip in atlas.clips if atlas.split[clip.video_id] == "train"]
    taken = set()
    for action in rare:
        own = [clip.clip_id for clip in training if clip.tags.get(TAG) == action]
        taken |= set(own) - set(random.Random(f"{seed} {action}").sample(own, min(kept, len(own))))
    return replace(atlas, clips=tuple(clip for clip in atlas.clips if clip.task != TASK or clip.clip_id not in taken))


def drawn_like(poor: Atlas, options: argparse.Namespace, place: str, fold: int) -> Synthesis:
    """The clips of the rarest actions in the fold's training part, as `halsted synthesize` makes them."""
    conditions: list[Condition] = conditions_like_rare(
        poor, TAG, options.rare, options.drawn, options.seed + fold, width=SIZE[0], height=SIZE[1], fps=FPS
    )
    return write_clips(poor, TAG, conditions, f"{place}/drawn-{fold}", draw)


def with_drawn(poor: Atlas, made: Synthesis) -> Atlas:
    """The atlas with the drawn videos in its training part."""
    return replace(
        poor,
        videos=(*poor.videos, *made.videos),
        clips=(*poor.clips, *made.clips),
        split=poor.split | {video.video_id: "train" for video in made.videos},
    )


def answers_of(
    atlas: Atlas, recipe: Recipe, encoder: EncoderIdentity, embeddings: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trains on the training part; (video, true and predicted action) of each test clip."""
    taxonomy, spec = atlas.load_taxonomy(), encoder.windows(None)
    parts = ("train", "validation", "test")
    samples = load_samples(atlas, atlas.split, taxonomy, recipe, spec, encoder, embeddings, parts=parts)
    model = Halsted.create(
        taxonomy,
        encoder.dim,
        encoder_ref=encoder.ref,
        encoder_fingerprint=encoder.fingerprint,
        steps=encoder.steps,
        version="study",
        atlas_release=atlas.name,
        atlas_version=atlas.version,
        windows=spec,
        learned_from={},
        **decoder_options(recipe),
    )
    fitted = fit_in_process(samples["train"], samples["validation"], model.config.decoder_sizes, taxonomy, recipe)
    model.decoder.load_state_dict(fitted.tensors)
    calibrate(model, samples["validation"])
    test = samples["test"]
    said = model.tag(test.embeddings_WD[test.window_S], TASK, unit="clips")
    column = [tag.name for tag in taxonomy.task(TASK).tags].index(TAG)
    names = taxonomy.tag(TAG).categories
    truth_N = np.array([ACTIONS.index(names[k]) for k in test.truth_SG[:, column]])
    chosen_N = np.array([ACTIONS.index(row[TAG][0]) for row in said])
    return np.array(test.video_ids)[test.video_W[test.window_S]], truth_N, chosen_N


def f1_of(truth_N: np.ndarray, chosen_N: np.ndarray, actions: list[int], weight_BN: np.ndarray) -> np.ndarray:
    """[B] mean F1 over ``actions`` for each draw of clips' weights."""
    scores = []
    for action in actions:
        is_true_N, is_chosen_N = truth_N == action, chosen_N == action
        hits_B = weight_BN @ (is_true_N & is_chosen_N)
        named_B = weight_BN @ is_true_N.astype(float) + weight_BN @ is_chosen_N.astype(float)
        scores.append(np.where(named_B > 0, 2 * hits_B / np.maximum(named_B, 1e-9), np.nan))
    mean_B: np.ndarray = np.nanmean(scores, axis=0)
    return mean_B


def figures_of(answers: dict[str, Answers], rare: tuple[str, ...]) -> dict[str, Any]:
    """Arm → F1 of the rare and of the other actions, each with interval and with the difference to ``without``."""
    base = answers[WITHOUT]
    videos, of_video_N = np.unique(base.video_N, return_inverse=True)
    rng = np.random.default_rng(0)
    drawn_BV = rng.multinomial(len(videos), np.full(len(videos), 1 / len(videos)), size=DRAWS).astype(float)
    weight_BN = np.vstack([np.ones(len(of_video_N)), drawn_BV[:, of_video_N]])
    groups = {
        "rare": [ACTIONS.index(name) for name in rare],
        "others": [n for n, name in enumerate(ACTIONS) if name not in rare],
    }
    found: dict[str, Any] = {}
    for arm, own in answers.items():
        assert (own.video_N == base.video_N).all() and (own.truth_N == base.truth_N).all(), "the same test clips"
        found[arm] = {"each": {}}
        for name, actions in groups.items():
            score_B, before_B = (f1_of(a.truth_N, a.chosen_N, actions, weight_BN) for a in (own, base))
            found[arm][name] = {
                "f1": float(score_B[0]),
                "interval": percentiles(score_B[1:], 0.95),
                "gain": float(score_B[0] - before_B[0]),
                "gain_interval": percentiles((score_B - before_B)[1:], 0.95),
            }
        for action in rare:
            k = ACTIONS.index(action)
            one = f1_of(own.truth_N, own.chosen_N, [k], np.ones((1, len(own.truth_N))))
            found[arm]["each"][action] = {"f1": float(one[0]), "clips": int((own.truth_N == k).sum())}
    return found


def text_of(domain: str, figures: dict[str, Any]) -> str:
    """One archive's figures as a table."""
    rows = []
    for arm, own in figures.items():
        for_both = []
        for group in ("rare", "others"):
            low, high = own[group]["gain_interval"]
            gain = "" if arm == WITHOUT else f"{100 * own[group]['gain']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
            for_both += [f"{100 * own[group]['f1']:.1f}", gain]
        rows.append((arm, *for_both))
    header = (domain, "F1 rare", "gain, 95%", "F1 others", "gain, 95%")
    return table(header, rows, right=(1, 2, 3, 4))


if __name__ == "__main__":
    main()
