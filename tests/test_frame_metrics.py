"""Frame-wise metrics against the packages that publish them."""

import math
import warnings

import ivtmetrics
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from halsted_ray.evaluation import frame_metrics as f


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=60))
def test_average_precision_agrees_with_scikit_learn(pairs):
    scores, positive = np.array([p[0] for p in pairs]) / 6, np.array([p[1] for p in pairs])
    if not positive.any():
        assert math.isnan(f.average_precision(scores, positive))
    else:
        assert f.average_precision(scores, positive) == pytest.approx(average_precision_score(positive, scores))


@pytest.fixture(scope="module")
def triplets():
    """Three videos of 100 classes; each class has a positive in each video, since the original counts 0 otherwise."""
    rng = np.random.default_rng(7)
    videos = []
    for frames in (30, 40, 25):
        truth = (rng.random((frames, 100)) < 0.1).astype(int)
        truth[rng.integers(frames, size=100), np.arange(100)] = 1
        videos.append((np.round(rng.random((frames, 100)) * 0.7 + 0.3 * truth, 2), truth))
    return videos


@pytest.fixture(scope="module")
def original(triplets):
    recognition = ivtmetrics.Recognition(100)
    for scores, truth in triplets:
        recognition.update(truth, scores)
        recognition.video_end()
    return recognition


@pytest.mark.parametrize("component, column", [("ivt", 0), ("i", 1), ("v", 2), ("t", 3), ("iv", 4), ("it", 5)])
def test_mean_average_precision_agrees_with_ivtmetrics(triplets, original, component, column):
    groups = original.bank[:, column] if component != "ivt" else np.arange(100)
    own = [(f.by_component(scores, groups), f.by_component(truth, groups)) for scores, truth in triplets]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        per_video, pooled = original.compute_video_AP(component), original.compute_global_AP(component)
    for expected, pooling in ((per_video, "per_video"), (pooled, "pooled")):
        classes, mean = f.mean_average_precision(own, pooling)
        assert classes == pytest.approx(expected["AP"], abs=1e-6)
        assert mean == pytest.approx(expected["mAP"], abs=1e-6)


def test_a_class_that_a_video_lacks_does_not_count():
    scores, truth = np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([[1, 0], [0, 0]])
    classes, mean = f.mean_average_precision([(scores, truth), (scores, truth[:, ::-1])])
    assert classes.tolist() == [1, 0.5] and mean == 0.75
    classes, mean = f.mean_average_precision([(scores, np.zeros((2, 2)))])
    assert np.isnan(classes).all() and math.isnan(mean)
    assert math.isnan(f.mean_average_precision([])[1])
    with pytest.raises(ValueError, match="pooling='mean'"):
        f.mean_average_precision([], "mean")


def test_golden_phase_metrics():
    first, second = ("AABB", "AAAB"), ("AAAA", "AACC")  # predicted, true
    found = f.phase_metrics([first, second], "ABC")
    # A: precision 1, 1/2; recall 2/3, 1. B: only in the first: 1/2, 1. C: only in the second, never said: 0, 0
    assert found == pytest.approx(
        {
            "accuracy": (3 / 4 + 1 / 2) / 2,
            "precision": (3 / 4 + 1 / 2 + 0) / 3,
            "recall": (5 / 6 + 1 + 0) / 3,
            "jaccard": ((2 / 3 + 1 / 2) / 2 + 1 / 2 + 0) / 3,
        }
    )
    assert f.phase_metrics([("AB", "AB")], "ABC")["precision"] == 1, "a phase of no video does not count"
    assert all(math.isnan(value) for value in f.phase_metrics([("", "")], "A").values())
    with pytest.raises(ValueError, match="1 predicted frames for 2"):
        f.phase_metrics([("A", "AB")], "AB")


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from("ABC")), min_size=1, max_size=40))
def test_phase_metrics_agree_with_scikit_learn_on_one_video(pairs):
    from sklearn.metrics import jaccard_score, precision_score, recall_score

    predicted, truth = ([pair[k] for pair in pairs] for k in (0, 1))
    present = sorted(set(truth))
    found = f.phase_metrics([(predicted, truth)], "ABC")
    for name, score in (("precision", precision_score), ("recall", recall_score), ("jaccard", jaccard_score)):
        expected = score(truth, predicted, labels=present, average="macro", zero_division=0)
        assert found[name] == pytest.approx(expected)
