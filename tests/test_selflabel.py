"""Self-labelling, piece by piece: thresholds, merge, lanes without overlap, which model to keep."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from halsted_ray.cli.self_label_table import comparison_text
from halsted_ray.evaluation.predictions import TagPredictions, TagTargets
from halsted_ray.reporting.self_label_section import comparison_section
from halsted_ray.selflabel.gain import by_action, by_source, measure_gain
from halsted_ray.selflabel.labelling import labels_of
from halsted_ray.selflabel.merge import Label, cut_overlaps, merge, subtract_spans
from halsted_ray.selflabel.thresholds import (
    Threshold,
    is_trusted,
    lower_bound,
    shared_threshold,
    threshold_per_category,
    thresholds_of_tags,
)
from halsted_ray.taxonomy import load
from halsted_ray.video.presence import union

WINDOWS = st.lists(st.tuples(st.sampled_from("RCT"), st.integers(0, 4)), max_size=40)
"""Per window of one second: the predicted category, and its confidence in quarters (0: no label)."""
PREDICTIONS = st.lists(st.tuples(st.sampled_from("RC"), st.integers(0, 10), st.booleans()), min_size=1, max_size=30)


def label(start_s, stop_s, action, confidence, **tags):
    return Label(start_s, stop_s, {"action": action, **tags}, confidence)


def kept_of(windows):
    return [label(n, n + 1, action, quarters / 4) for n, (action, quarters) in enumerate(windows) if quarters]


def shown(labels):
    return [(label.start_s, label.stop_s, label.tags["action"], round(label.confidence, 6)) for label in labels]


GOLDEN = [
    label(0, 1, "R", 0.9),
    label(1, 2, "R", 0.8),
    label(2, 3, "C", 0.6),
    label(3, 4, "R", 0.7),
    label(6, 7, "R", 0.95),
]


def test_golden_merge():
    merged = merge(GOLDEN, "action")
    assert shown(merged) == [(0, 4, "R", 0.8), (2, 3, "C", 0.6), (6, 7, "R", 0.95)]
    assert shown(cut_overlaps(merged, GOLDEN, "action")) == [
        (0, 2, "R", 0.8),
        (3, 4, "R", 0.8),
        (2, 3, "C", 0.6),
        (6, 7, "R", 0.95),
    ]


def test_a_gap_of_one_second_closes_and_a_longer_one_does_not():
    assert shown(merge([label(0, 1, "R", 0.5), label(2, 3, "R", 1.0)], "action")) == [(0, 3, "R", 0.75)]
    assert len(merge([label(0, 1, "R", 0.5), label(2.001, 3, "R", 1.0)], "action")) == 2


def test_other_tags_are_what_most_windows_say():
    windows = [label(n, n + 1, "R", 0.9, arm=arm) for n, arm in enumerate(("Left", "Right", "Right"))]
    assert merge(windows, "action")[0].tags == {"action": "R", "arm": "Right"}
    assert merge(windows[:2], "action")[0].tags["arm"] == "Left"


@settings(deadline=None)
@given(WINDOWS)
def test_merge_covers_its_labels_and_leaves_no_gap_to_close(windows):
    labels = kept_of(windows)
    merged = merge(labels, "action")
    assert merge(reversed(labels), "action") == merged
    for label in labels:
        holders = [
            m for m in merged if m.tags == label.tags and m.start_s <= label.start_s and label.stop_s <= m.stop_s
        ]
        assert len(holders) == 1
    for action in "RCT":
        own = [m for m in merged if m.tags["action"] == action]
        assert all(later.start_s - earlier.stop_s > 1 for earlier, later in zip(own, own[1:], strict=False))
        confidences = [label.confidence for label in labels if label.tags["action"] == action]
        assert all(min(confidences) - 1e-9 <= m.confidence <= max(confidences) + 1e-9 for m in own)


@settings(deadline=None)
@given(WINDOWS)
def test_labels_do_not_overlap_and_each_window_keeps_its_category(windows):
    labels = kept_of(windows)
    parts = sorted(cut_overlaps(merge(labels, "action"), labels, "action"), key=lambda part: part.start_s)
    assert all(a.stop_s <= b.start_s for a, b in zip(parts, parts[1:], strict=False))
    for label in labels:
        assert [part.tags for part in parts if part.start_s <= label.start_s < part.stop_s] == [label.tags]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8)), max_size=8), st.integers(0, 20), st.integers(1, 15))
def test_subtract_spans_keeps_exactly_the_time_that_no_span_covers(spans, start_s, length_s):
    spans = [(a, a + b) for a, b in spans]
    parts = subtract_spans(label(start_s, start_s + length_s, "R", 0.5), union(spans))
    seconds = {s for part in parts for s in range(int(part.start_s), int(part.stop_s))}
    assert seconds == {s for s in range(start_s, start_s + length_s) if not any(a <= s < b for a, b in spans)}


@settings(deadline=None)
@given(PREDICTIONS, st.sampled_from((0.3, 0.5, 0.75, 0.9)))
def test_a_threshold_is_the_smallest_whose_lower_bound_reaches_the_precision(predictions, precision):
    found = threshold_per_category(*zip(*predictions, strict=True), precision)
    for action in {action for action, _, _ in predictions}:

        def right(tau, action=action):
            return [ok for category, sure, ok in predictions if category == action and sure >= tau]

        reach = [
            tau
            for category, tau, _ in predictions
            if category == action and lower_bound(sum(right(tau)), len(right(tau))) >= precision
        ]
        threshold = found[action]
        assert threshold.min_confidence == min(reach, default=math.inf)
        assert threshold.predicted == len(right(0))
        if reach:
            assert (threshold.kept, threshold.right) == (len(right(min(reach))), sum(right(min(reach))))
            assert threshold.precision >= precision


def test_a_precision_that_can_not_be_reached_trusts_nothing():
    found = threshold_per_category(["R", "R", *"C" * 15], [0.9, 0.8, *[0.7] * 15], [False, *[True] * 16], 0.9)
    assert math.isinf(found["R"].min_confidence) and math.isnan(found["R"].precision)
    assert found["C"].min_confidence == 0.7
    assert math.isinf(threshold_per_category(["C"] * 14, [0.7] * 14, [True] * 14, 0.9)["C"].min_confidence), (
        "too few to be certain"
    )
    with pytest.raises(ValueError, match="precision=90"):
        threshold_per_category(["R"], [0.9], [True], 90)


def test_categories_that_share_a_threshold_are_trusted_or_not_together():
    """Twenty instruments of three windows each: too few for each instrument, enough for all together."""
    predicted = [f"instrument {n // 3}" for n in range(60)]
    confidence = [0.9 if n % 3 else 0.5 for n in range(60)]
    right = [bool(n % 3) for n in range(60)]
    assert all(
        math.isinf(threshold.min_confidence)
        for threshold in threshold_per_category(predicted, confidence, right, 0.9).values()
    )
    found = shared_threshold(predicted, confidence, right, 0.9)
    assert found == {f"instrument {n}": Threshold(0.9, 3, 2, 2) for n in range(20)}
    assert shared_threshold([], [], [], 0.9) == {}


def test_other_tags_are_judged_together_where_the_first_is_trusted():
    """Beside a trusted action the instrument is right in 19 of 20 windows; each window has another instrument."""
    predicted = [{"action": ("Cut" if n < 40 else "Grasp", 0.9), "instrument": (f"i{n}", 0.6)} for n in range(60)]
    truth = [
        {"action": "Cut" if n < 40 else "Idle", "instrument": "else" if n % 20 == 0 else f"i{n}"} for n in range(60)
    ]
    found = thresholds_of_tags(predicted, truth, ["action", "instrument"], 0.8)
    assert found["action"]["Cut"].min_confidence == 0.9 and math.isinf(found["action"]["Grasp"].min_confidence)
    assert set(found["instrument"]) == {f"i{n}" for n in range(40)}
    assert {threshold.min_confidence for threshold in found["instrument"].values()} == {0.6}


def test_an_answer_that_lacks_a_tag_counts_nowhere_for_it():
    said = [{"action": ("Cut", 0.9), "instrument": ("Scissors", 0.6)} for _ in range(40)]
    truth = [{"action": "Cut", "instrument": "Scissors"} for _ in said]
    without_action = [{"instrument": ("Forceps", 0.9)}, {}] * 10
    without_instrument = [{"action": ("Cut", 0.95)}] * 10
    more = [*said, *without_action, *without_instrument]
    found = thresholds_of_tags(more, [*truth, *truth[:30]], ["action", "instrument"], 0.8)
    assert found["action"] == {"Cut": Threshold(0.9, 50, 50, 50)}
    assert found["instrument"] == thresholds_of_tags(said, truth, ["action", "instrument"], 0.8)["instrument"]
    assert not is_trusted({}, "action", found) and is_trusted(said[0], "instrument", found)


def test_windows_whose_answer_lacks_a_tag_are_no_labels():
    task, taxonomy = load().task("micro"), load()
    trusted = {tag.name: {} for tag in task.tags} | {"action": {"Tug": Threshold(0.5, 10, 10, 10)}}
    seen = {
        (0.0, 1.0): {"step": ("Dissection", 0.9), "action": ("Tug", 0.8)},
        (1.0, 2.0): {"step": ("Dissection", 0.9)},
        (2.0, 3.0): {"action": ("Tug", 0.9)},
        (3.0, 4.0): {},
    }
    found = labels_of("a" * 16, seen, task, taxonomy, trusted, {})
    assert [(clip.start_s, clip.stop_s) for clip in found.clips if clip.task == "micro"] == [(0.0, 1.0)]
    assert found.predicted == {"Tug": 1} and found.not_asked == 2


@pytest.mark.parametrize("right, kept", [(15, 15), (9, 10), (0, 5), (90, 100), (1, 1)])
def test_the_lower_bound_is_wilsons_by_scipy(right, kept):
    both_sides = binomtest(right, kept).proportion_ci(confidence_level=0.8, method="wilson")
    assert lower_bound(right, kept, 0.9) == pytest.approx(both_sides.low, abs=1e-9)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 60))
def test_the_lower_bound_never_exceeds_the_share_that_was_seen(right, kept):
    right = min(right, kept)
    assert -1e-12 <= lower_bound(right, kept) <= right / kept + 1e-12
    assert lower_bound(2 * right, 2 * kept) >= lower_bound(right, kept) - 1e-12, "more of the same is more certain"


def predictions_with(right_of_video, folds, source="manual"):
    """Predictions of the action. ``right_of_video``: video → whether each window is right; ``folds``: video → fold."""
    found = []
    for fold in sorted(set(folds.values())):
        own = [video for video in right_of_video if folds[video] == fold]
        video_N = np.concatenate([[video] * len(right_of_video[video]) for video in own])
        right_N = np.concatenate([right_of_video[video] for video in own]).astype(float)
        count = len(video_N)
        source_N = np.where(np.arange(count) % 2, source, "manual")
        targets = TagTargets(
            fold,
            "micro",
            "action",
            np.arange(count),
            video_N,
            np.full(count, "fine"),
            np.arange(count),
            np.arange(count) + 1,
            source_N,
            np.zeros(count, int),
            np.ones(count, bool),
        )
        chosen_N = np.where(right_N > 0, 0, 1)
        found.append(TagPredictions("halsted", targets, chosen_N, np.full(count, 0.9), right_N, np.eye(2)[chosen_N]))
    return found


FOLDS = {f"v{n}": n for n in range(5)}
BEFORE = {video: np.arange(20) < 10 + n for n, video in enumerate(FOLDS)}


def test_the_later_model_is_kept_only_where_its_gain_excludes_zero():
    better = {video: np.arange(20) < 13 + n + n % 2 for n, video in enumerate(FOLDS)}
    found = measure_gain(predictions_with(BEFORE, FOLDS), predictions_with(better, FOLDS), load(), {})
    assert found["keep"] == "v2" and found["over"] == "folds" and found["gain"]["low"] > 0
    assert found["folds"]["micro"]["wilcoxon_p"] == pytest.approx(0.0625) and found["sources"] == {}
    mixed = {video: np.arange(20) < 10 + n + (4 if n % 2 else -2) for n, video in enumerate(FOLDS)}
    assert measure_gain(predictions_with(BEFORE, FOLDS), predictions_with(mixed, FOLDS), load(), {})["keep"] == "v1"
    assert measure_gain(predictions_with(BEFORE, FOLDS), predictions_with(BEFORE, FOLDS), load(), {})["keep"] == "v1"


def test_one_fold_is_judged_over_its_videos():
    alone = dict.fromkeys(FOLDS, 0)
    better = {video: np.arange(20) < 14 + n for n, video in enumerate(FOLDS)}
    found = measure_gain(predictions_with(BEFORE, alone), predictions_with(better, alone), load(), {})
    assert (found["over"], found["keep"]) == ("videos", "v2") and found["folds"]["micro"]["wilcoxon_p"] is None


def test_accuracy_by_the_source_of_the_label():
    found = by_source(predictions_with({video: np.arange(20) % 2 for video in FOLDS}, FOLDS, "ai"), load())
    assert found["micro"]["ai"] == [1.0] * 5 and found["micro"]["manual"] == [0.0] * 5
    assert found["micro"]["wilcoxon_p"] == pytest.approx(0.0625)


def test_a_models_labels_are_judged_on_the_tags_that_persons_gave_too():
    """A model labels the step alone; the specialty that persons label beside it must not count for one side only."""
    manual = predictions_with({video: np.arange(20) < 10 for video in FOLDS}, FOLDS)
    others = [replace(entry, targets=replace(entry.targets, tag="arm"), right_N=np.ones(20)) for entry in manual]
    labels = [
        replace(entry, targets=replace(entry.targets, source_N=np.full(20, "ai")))
        for entry in predictions_with({video: np.arange(20) < 15 for video in FOLDS}, FOLDS)
    ]
    found = measure_gain(manual, manual, load(), {}, labelled=labels)["sources"]["micro"]
    assert (found["manual"], found["ai"]) == ([0.5] * 5, [0.75] * 5)
    assert by_source([*manual, *others, *labels], load())["micro"]["manual"] == [0.5] * 5


def report(threshold, said, kept, right=9, passed=True):
    action = {
        "threshold": threshold,
        "validation": {"said": 20, "kept": 10 if threshold else 0, "right": right},
        "said": said,
        "kept": kept,
        "dropped": said - kept,
        "clips": kept // 2,
    }
    return {
        "gate": {"passed": passed, "mean": 0.85, "least": 0.8},
        "added": {"micro": kept // 2},
        "labelled_s": float(kept),
        "actions": {"Tug": action},
    }


def test_labels_of_several_folds_are_reported_by_action():
    reports = [
        report(0.6, 100, 40),
        report(None, 50, 0, right=0),
        {"gate": {"passed": False, "mean": 0.5, "least": 0.8}},
    ]
    assert by_action(reports) == {
        "Tug": {"thresholds": [0.6, None], "said": 150, "kept": 40, "dropped": 110, "clips": 20, "precision": 0.9}
    }
    compared = measure_gain(predictions_with(BEFORE, FOLDS), predictions_with(BEFORE, FOLDS), load(), {}) | {
        "labels": reports
    }
    told = comparison_text(compared)
    assert (
        "keep v1: the 95% interval of v2's gain on micro is not above zero" in told
        and max(map(len, told.splitlines())) <= 80
    )
    assert "0.60 (1 of 2)" in told and "gate: 2 of 3 models passed; 20 samples added" in told
    page = comparison_section({"comparison": compared})
    assert "keep v1" in page and "0.60 –" in page and comparison_section({}) == ""
