"""Promotion of a model of video and text: candidate and champion search the same captions of the frozen test videos.

Legend: C captions, V videos.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.embedding.embed import EmbedProgress
from halsted_ray.errors import AtlasError, RegistryError
from halsted_ray.evaluation.intervals import PairedDifference, paired_bootstrap
from halsted_ray.language.contrast_model import STATED, load_video_text
from halsted_ray.language.held_out_captions import held_out_captions
from halsted_ray.language.retrieval import Recall, found_among_first, recall, scores_of
from halsted_ray.registry.gate import Bounds, GateThreshold, Verdict, checked, learned_checks, read_thresholds
from halsted_ray.registry.held_out import PART
from halsted_ray.registry.language_tracking import LANGUAGE_MODEL, register_language
from halsted_ray.registry.model_registry import CHALLENGER, CHAMPION, Registry, Version, names_version
from halsted_ray.registry.promotion import Promotion, give_alias, keep_verdict
from halsted_ray.registry.references import parse
from halsted_ray.storage.locations import filesystem

GATE = "language_gate.yaml"
BOUNDS: Bounds = {"recall_over_chance": "at_least", "recall_p_worse": "at_most", "learned_test_videos": "at_most"}
Key = tuple[str, float, float, str]
"""Video, start, stop and text of a caption."""


@dataclass(frozen=True)
class CaptionSearch:
    """What one model found. ``found``: how likely each caption's moment is among the first five. ``learned``: the test
    videos that the model was trained or chosen on; None where its training videos are not known."""

    recall: Recall
    found: dict[Key, float]
    learned: tuple[str, ...] | None


def is_language_model(candidate: str) -> bool:
    """Whether ``candidate`` names a version of ``LANGUAGE_MODEL``, or a folder with a model of video and text."""
    if names_version(candidate):
        reference = parse(candidate)
        return reference is not None and reference.name == LANGUAGE_MODEL
    fs, path = filesystem(candidate)
    return bool(fs.exists(f"{path.rstrip('/')}/{STATED}"))


def promote_language(
    registry: Registry,
    candidate: str,
    atlas: str,
    *,
    deploy: bool = False,
    release: str | None = None,
    gate: str | None = None,
    embeddings: str | None = None,
    progress: EmbedProgress | None = None,
) -> Promotion:
    """Compares a model of video and text with the champion of its kind, and gives it an alias if it passes the gate.

    Both search the moments of the captions of the release's test videos. The arguments, aliases and errors are those of
    ``promotion.promote``; ``gate``: a file of thresholds, default ``language_gate.yaml``.
    """
    thresholds = read_thresholds(gate, BOUNDS, GATE)
    source = read_atlas(atlas, release)
    before = {alias: registry.aliased(alias, LANGUAGE_MODEL) for alias in (CHAMPION, CHALLENGER)}
    champion = before[CHAMPION]
    version = (
        registry.find(candidate, LANGUAGE_MODEL) if names_version(candidate) else register_language(registry, candidate)
    )
    if champion and champion.number == version.number:
        raise RegistryError(f"version {version.number} is the champion already; name another version")
    store = embeddings or f"{atlas.rstrip('/')}/embeddings"
    ours = searched(registry, version, source, store, progress)
    theirs = searched(registry, champion, source, store, progress) if champion else None
    verdict, figures = judged(ours, theirs, thresholds)
    facts = {
        "atlas_release": source.name,
        "atlas_version": str(source.version),
        "atlas_content_digest": source.content_digest,
    }
    metrics = {"recall_at_5": ours.recall.recall_at_5, "chance": ours.recall.chance}
    if theirs:
        metrics["champion_recall_at_5"] = theirs.recall.recall_at_5
    run_id = keep_verdict(registry, verdict, version, champion, facts, metrics, figures)
    alias = give_alias(registry, version, before, deploy, run_id) if verdict.passed else ""
    return Promotion(verdict, version, champion, run_id, alias)


def searched(
    registry: Registry, version: Version, atlas: Atlas, embeddings: str, progress: EmbedProgress | None
) -> CaptionSearch:
    """Searches the test captions of ``atlas`` with the model of ``version``. Raises AtlasError, ModelError."""
    model = load_video_text(registry.folder(version))
    clips = held_out_captions(atlas, PART, model, embeddings, progress)
    scores_CM, own_C = scores_of(model, clips)
    found_C, _ = found_among_first(scores_CM, own_C)
    of_caption = (clips.video_C.tolist(), clips.start_C.tolist(), clips.stop_C.tolist(), clips.text_C.tolist())
    keys = [
        (clips.video_ids[video], start_s, stop_s, clips.texts[text])
        for video, start_s, stop_s, text in zip(*of_caption, strict=True)
    ]
    learned = {video_id for own in model.config.learned_from.values() for video_id in own}
    return CaptionSearch(
        recall(scores_CM, own_C),
        dict(zip(keys, found_C.tolist(), strict=True)),
        tuple(sorted(learned & set(clips.video_ids))) if learned else None,
    )


def judged(
    ours: CaptionSearch, theirs: CaptionSearch | None, thresholds: dict[str, GateThreshold]
) -> tuple[Verdict, dict[str, object]]:
    """(the verdict, the figures behind it). Only captions that both models could search are compared.

    Raises AtlasError where they have no caption in common.
    """
    own = ours.recall
    figures: dict[str, object] = {"candidate": asdict(own)}
    measured: list[tuple[str, float | None, str]] = [
        (
            "recall_over_chance",
            own.recall_at_5 / own.chance,
            f"recall@5 {own.recall_at_5:.3f}, chance {own.chance:.3f}: {own.queries:,} sentences, "
            f"{own.moments:,} moments",
        )
    ]
    if theirs is None:
        measured.append(("recall_p_worse", None, "there is no champion to compare with"))
    else:
        change = compared(ours, theirs)
        figures |= {"champion": asdict(theirs.recall), "difference": asdict(change)}
        lone = np.isnan(change.p_worse)  # one video has no spread, so the sign of the change decides
        measured.append(
            (
                "recall_p_worse",
                float(change.value < 0) if lone else change.p_worse,
                f"recall@5 changes by {change.value:+.3f}"
                + (" on one video" if lone else f" [{change.low:+.3f}, {change.high:+.3f}]"),
            )
        )
    measured += learned_checks(ours.learned, theirs.learned if theirs else None, theirs is not None)
    checks = tuple(checked(thresholds, name, value, said, bounds=BOUNDS) for name, value, said in measured)
    return Verdict(checks), figures


def compared(ours: CaptionSearch, theirs: CaptionSearch) -> PairedDifference:
    """The difference of both recalls over the captions that both have, with an interval over videos."""
    common = sorted(ours.found.keys() & theirs.found.keys())
    if not common:
        raise AtlasError("candidate and champion have no test caption in common; name another release (--release)")
    video_ids, video_C = np.unique([key[0] for key in common], return_inverse=True)
    ours_V1, theirs_V1 = (
        np.bincount(video_C, [side.found[key] for key in common], len(video_ids))[:, None] for side in (ours, theirs)
    )
    return paired_bootstrap(theirs_V1, ours_V1, np.bincount(video_C, minlength=len(video_ids))[:, None])
