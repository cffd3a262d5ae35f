"""Which videos judge which model: Monte-Carlo cross-validation that leaves whole videos out."""

from __future__ import annotations

import random
from collections.abc import Mapping

from halsted_ray.errors import AtlasError, UsageError

STRATEGIES = ("per_procedure", "global")


def draw_folds(
    procedure_of_video: Mapping[str, str], folds: int = 5, strategy: str = "per_procedure", seed: int = 0
) -> list[dict[str, str]]:
    """Per fold video_id → ``train``, ``validation`` or ``test``; the same answer for the same videos in any order.

    Source: paper, Methods ("two unique videos per fold, one for validation and one for testing"). ``per_procedure``
    reads that of each procedure, the only reading that fits the paper's counts; ``global`` of the archive. A test
    video comes a second time only after all of its group were tested, a pair of validation and test only after all
    pairs. A procedure with one video is only learned from. Raises UsageError, AtlasError where nothing can be tested
    or nothing is left to learn from.
    """
    if strategy not in STRATEGIES:
        raise UsageError(f"unknown strategy {strategy!r}; expected one of {', '.join(STRATEGIES)}")
    if folds < 1:
        raise UsageError(f"folds={folds}; expected at least 1")
    groups: dict[str, list[str]] = {}
    for video_id, procedure in sorted(procedure_of_video.items()):
        groups.setdefault(procedure if strategy == "per_procedure" else "", []).append(video_id)
    tested = {name: members for name, members in groups.items() if len(members) > 1}
    left = len(procedure_of_video) - 2 * len(tested)
    if not tested or left < 1:
        raise AtlasError(
            f"{len(procedure_of_video)} videos of {len(set(procedure_of_video.values()))} procedures give no fold by "
            f"strategy {strategy!r}: it holds out {2 * len(tested)} and leaves {left if tested else 'no test video'} "
            "to learn from; annotate more videos" + ("" if strategy == "global" else ", or take strategy 'global'")
        )
    drawn: list[dict[str, str]] = [dict.fromkeys(sorted(procedure_of_video), "train") for _ in range(folds)]
    for name in sorted(tested):
        for split, (validation, test) in zip(drawn, pairs(tested[name], folds, f"{seed}/{name}"), strict=True):
            split[validation], split[test] = "validation", "test"
    return drawn


def pairs(members: list[str], count: int, seed: str) -> list[tuple[str, str]]:
    """``count`` pairs (validation, test) of different members."""
    rng = random.Random(seed)
    order = rng.sample(members, len(members))
    apart = list(range(1, len(members)))
    rng.shuffle(apart)
    # Test videos in turn; each turn pairs them with validation videos that are further along by another step.
    return [
        (order[(k + apart[k // len(order) % len(apart)]) % len(order)], order[k % len(order)]) for k in range(count)
    ]


def strategy_for(procedure_of_video: Mapping[str, str]) -> str:
    """``per_procedure``, as the paper; ``global`` where that would hold out more than half of the videos."""
    counts: dict[str, int] = {}
    for procedure in procedure_of_video.values():
        counts[procedure] = counts.get(procedure, 0) + 1
    held_out = 2 * sum(count > 1 for count in counts.values())
    return "per_procedure" if 0 < held_out <= len(procedure_of_video) / 2 else "global"


def thinned(
    split: Mapping[str, str], learn_from: int, procedure_of_video: Mapping[str, str], seed: int
) -> dict[str, str]:
    """``split`` with ``learn_from`` of its training videos, the others in no part: one of each procedure before a
    second one of any. What would a model be worth with fewer annotated videos? Raises UsageError."""
    learning = sorted(video_id for video_id, part in split.items() if part == "train")
    if not 1 <= learn_from <= len(learning):
        raise UsageError(f"learn from {learn_from} videos; expected 1 to {len(learning)}, which is all there are")
    random.Random(seed).shuffle(learning)
    turn, seen = {}, {}
    for video_id in learning:
        procedure = procedure_of_video.get(video_id, "")
        turn[video_id] = seen[procedure] = seen.get(procedure, -1) + 1
    kept = set(sorted(learning, key=turn.get)[:learn_from])
    return {video_id: part for video_id, part in split.items() if part != "train" or video_id in kept}
