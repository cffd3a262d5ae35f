"""Golden values: produced by running MS-TCN's and SAR-RARP50's own code once (percent there, fractions here)."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from halsted_ray.evaluation import metrics as m


def f1s(predicted, truth, background=frozenset()):
    pair = (m.spans_of(predicted, background), m.spans_of(truth, background))
    return [100 * m.segmental_f1([pair], k, "pooled") for k in (0.1, 0.25, 0.5)]


@pytest.mark.parametrize(
    ("predicted", "truth", "counts", "f1", "edit"),
    [
        ("AAABBBCCC", "AAABBBCCC", (3, 0, 0), (100, 100, 100), 100),
        ("AAAABBCCC", "AAABBBCCC", (3, 0, 0), (100, 100, 100), 100),
        ("ABABABABA", "AAAAAAAAA", (1, 8, 0), (20, 0, 0), 11.1111),
        ("CCCBBBAAA", "AAABBBCCC", (1, 2, 2), (33.3333, 33.3333, 33.3333), 33.3333),
        ("ABBBBBBBBB", "A" * 10, (1, 1, 0), (66.6667, 0, 0), 50),
    ],
)
def test_golden_segmental_f1_and_edit(predicted, truth, counts, f1, edit):
    spans = m.spans_of(predicted), m.spans_of(truth)
    assert m.match_spans(*spans, 0.1) == m.Matches(*counts)
    assert f1s(predicted, truth) == pytest.approx(f1, abs=1e-4)
    assert 100 * m.edit_score(*([s.label for s in side] for side in spans)) == pytest.approx(edit, abs=1e-4)


def test_golden_background_is_dropped():
    background = frozenset("_")
    predicted, truth = m.spans_of("__AA_BB_", background), m.spans_of("_AAA_BBB", background)
    assert truth == [m.Span("A", 1, 4), m.Span("B", 5, 8)]
    assert m.match_spans(predicted, truth, 0.5) == m.Matches(2, 0, 0)
    assert m.edit_score("AB", "AB") == 1


def test_golden_pooling_over_videos():
    perfect = (m.spans_of("AAABBBCCC"), m.spans_of("AAABBBCCC"))
    flicker = (m.spans_of("ABABABABA"), m.spans_of("AAAAAAAAA"))
    assert m.segmental_f1([perfect, flicker], 0.1, "pooled") == pytest.approx(0.5)
    assert m.segmental_f1([perfect, flicker], 0.1, "per_video") == pytest.approx(0.6)
    with pytest.raises(ValueError, match="mean"):
        m.segmental_f1([perfect], 0.1, "mean")


def random_videos():
    """200 pairs (predicted, truth) of 80 frames and 8 labels; the prediction comes late and flickers."""
    rng, videos = random.Random(20), []
    for _ in range(200):
        truth = []
        while len(truth) < 80:
            truth += [rng.randrange(8)] * rng.randrange(1, 16)
        truth = truth[:80]
        predicted = [
            rng.randrange(8) if rng.random() < 0.15 else truth[max(0, n - rng.randrange(4))] for n in range(80)
        ]
        videos.append((predicted, truth))
    return videos


@pytest.mark.parametrize(
    ("overlap", "counts", "without_0", "per_video"),
    [
        (0.1, (1701, 3888, 162), (1484, 3352, 134), 0.46156364255845644),
        (0.25, (1639, 3950, 224), (1430, 3406, 188), 0.4455606602963121),
        (0.5, (1036, 4553, 827), (908, 3928, 710), 0.2880296459233783),
    ],
)
def test_golden_random_sequences(overlap, counts, without_0, per_video):
    """Counts and edit score by MS-TCN's eval.py, the mean of the videos' F1 by SAR-RARP50's ``_f1k``: neither is a
    package that can be installed, so what they answered is kept."""
    videos = [(m.spans_of(predicted), m.spans_of(truth)) for predicted, truth in random_videos()]
    assert sum((m.match_spans(*pair, overlap) for pair in videos), m.Matches(0, 0, 0)) == m.Matches(*counts)
    assert m.segmental_f1(videos, overlap, "per_video") == pytest.approx(per_video, abs=1e-9)
    edits = [m.edit_score(*([span.label for span in side] for side in pair)) for pair in videos]
    assert 100 * np.mean(edits) == pytest.approx(32.683192643004375, abs=1e-9)
    foreground = [(m.spans_of(p, frozenset([0])), m.spans_of(t, frozenset([0]))) for p, t in random_videos()]
    assert sum((m.match_spans(*pair, overlap) for pair in foreground), m.Matches(0, 0, 0)) == m.Matches(*without_0)


def test_empty_sides_are_defined():
    spans = m.spans_of("AAB")
    assert m.match_spans([], spans, 0.1) == m.Matches(0, 0, 2)
    assert m.match_spans(spans, [], 0.1) == m.Matches(0, 2, 0)
    assert m.Matches(0, 0, 0).f1 == 1 and m.Matches(0, 0, 2).f1 == 0
    assert m.edit_score("", "") == 1 and m.edit_score("", "AB") == 0 and m.edit_score("AB", "") == 0
    assert math.isnan(m.segmental_f1([], 0.1, "pooled"))
    assert m.spans_of("") == []


def test_touching_spans_do_not_overlap():
    assert m.match_spans([m.Span("A", 0.0, 2.5)], [m.Span("A", 2.5, 5.0)], 0.1) == m.Matches(0, 1, 1)


def test_golden_edit_distance():
    assert m.edit_distance("ABC", "AC") == 1
    assert 100 * m.edit_score("ABC", "AC") == pytest.approx(66.6667, abs=1e-4)


def slow_edit_distance(a, b):
    if not a or not b:
        return len(a) + len(b)
    return min(
        slow_edit_distance(a[1:], b) + 1,
        slow_edit_distance(a, b[1:]) + 1,
        slow_edit_distance(a[1:], b[1:]) + (a[0] != b[0]),
    )


@given(st.text("ABC", max_size=5), st.text("ABC", max_size=5))
def test_edit_distance_by_its_definition(a, b):
    assert m.edit_distance(a, b) == slow_edit_distance(a, b)


def test_golden_exact_match():
    predicted = [{"action": "Cold Cut", "arm": "Left"}]
    truth = [{"action": "Cold Cut", "arm": "Left", "instrument": "Scissors"}]
    assert m.component_accuracy(predicted, truth) == {
        "action": (1, 1),
        "arm": (1, 1),
        "instrument": (0, 1),
        "": (0, 1),
    }
    with pytest.raises(ValueError, match="0 predictions for 1"):
        m.component_accuracy([], truth)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60))
def test_auroc_agrees_with_scikit_learn(pairs):
    scores, positive = np.array([p[0] for p in pairs]) / 6, np.array([p[1] for p in pairs])
    if positive.all() or not positive.any():
        assert math.isnan(m.auroc(scores, positive))
    else:
        assert m.auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-9)


def test_auroc_one_vs_rest_averages_present_classes_only():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(4), size=200)
    truth = rng.integers(0, 3, size=200)  # class 3 never occurs
    expected = np.mean([roc_auc_score(truth == k, scores[:, k]) for k in range(3)])
    assert m.auroc_one_vs_rest(scores, truth) == pytest.approx(expected, abs=1e-9)
    assert m.auroc_one_vs_rest(np.eye(3)[[0, 1, 2]], np.array([0, 1, 2])) == 1
    assert m.auroc(np.zeros(4), np.array([1, 0, 0, 1])) == 0.5
    assert math.isnan(m.auroc_one_vs_rest(scores, np.zeros(200, int)))


def test_calibration_error():
    assert m.calibration_error(np.full(10, 0.8), np.array([1] * 8 + [0] * 2)) == pytest.approx(0)
    assert m.calibration_error(np.array([1.0, 1.0]), np.array([1, 0])) == pytest.approx(0.5)
    # over-confidence in one bin does not cancel lack of it in another; a bin holds 50 predictions
    assert m.calibration_error(np.repeat([0.9, 0.3], 50), np.repeat([0, 1], 50)) == pytest.approx(0.8)
    assert m.calibration_error(np.full(200, 0.5), np.arange(200) < 100) == pytest.approx(0), "equal ones share a bin"
    assert m.calibration_error(np.array([0.0]), np.array([1])) == pytest.approx(1)
    assert math.isnan(m.calibration_error(np.array([]), np.array([])))


def test_golden_chance_and_relative_improvement():
    assert m.uniform_chance(8) == 0.125
    assert m.relative_improvement(0.686, m.uniform_chance(8)) == pytest.approx(5.488)
    assert m.relative_improvement(0.809, 0.259) == pytest.approx(3.124, abs=1e-3)
    assert m.relative_improvement(0.598, 0.143) == pytest.approx(4.182, abs=1e-3)
    assert m.majority_share("AAB") == pytest.approx(2 / 3)
    assert m.stratified_chance("AAB") == pytest.approx(5 / 9)
    assert math.isnan(m.majority_share(""))


LABELS = st.text("ABC", min_size=1, max_size=30)


@given(LABELS, st.sampled_from((0.1, 0.25, 0.5)))
def test_a_sequence_matches_itself_and_nothing_of_other_labels(labels, overlap):
    spans = m.spans_of(labels)
    assert m.match_spans(spans, spans, overlap) == m.Matches(len(spans), 0, 0)
    assert m.edit_score(labels, labels) == 1
    assert m.match_spans(m.spans_of(labels.lower()), spans, overlap).true_positives == 0


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=4), st.sampled_from((0.1, 0.25, 0.5)))
def test_segmental_f1_by_its_definition(videos, overlap):
    """Frame sets, as MS-TCN's own masks; pooled over videos, and as the mean of the videos."""
    videos = [(p[: min(len(p), len(t))], t[: min(len(p), len(t))]) for p, t in videos]
    counts, each = np.zeros(3, int), []
    for predicted, truth in videos:
        true_runs = [(s.label, set(range(s.start, s.stop))) for s in m.spans_of(truth)]
        used, found = [False] * len(true_runs), np.zeros(3, int)
        for span in m.spans_of(predicted):
            own = set(range(span.start, span.stop))
            ious = [(len(own & run) / len(own | run)) * (label == span.label) for label, run in true_runs]
            best = int(np.argmax(ious))
            hit = ious[best] >= overlap and not used[best]
            used[best] |= hit
            found += [hit, not hit, 0]
        found[2] = used.count(False)
        counts += found
        each.append(2 * found[0] / (2 * found[0] + found[1] + found[2]))
    spans = [(m.spans_of(p), m.spans_of(t)) for p, t in videos]
    assert m.segmental_f1(spans, overlap, "pooled") == pytest.approx(2 * counts[0] / (2 * counts[0] + counts[1:].sum()))
    assert m.segmental_f1(spans, overlap, "per_video") == pytest.approx(np.mean(each))
