"""The phantom is not trivial: mean colour tells nothing of action or direction, a single frame nothing of direction.

Probes are closed-form ridge classifiers and nearest neighbours, judged on clips they have not seen.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from halsted_ray.phantom import catalogue
from halsted_ray.phantom.training_clips import random_clip


def ridge_accuracy(features, labels, penalty):
    """One-hot ridge regression on the first two thirds, exact-match accuracy on the rest."""
    x = np.asarray(features, np.float64).reshape(len(features), -1)
    cut = len(x) * 2 // 3
    x = (x - x[:cut].mean(0)) / (x[:cut].std(0) + 1e-6)
    x = np.hstack([x, np.ones((len(x), 1))])
    target = np.eye(max(labels) + 1)[labels]
    kernel = x[:cut] @ x[:cut].T  # dual form: fewer clips than pixels
    weights = np.linalg.solve(kernel + penalty * np.eye(cut), target[:cut])
    return float(((x[cut:] @ x[:cut].T @ weights).argmax(1) == np.asarray(labels)[cut:]).mean())


def neighbour_accuracy(features, labels, k=15):
    x = np.asarray(features, np.float64).reshape(len(features), -1)
    labels = np.asarray(labels)
    cut = len(x) * 2 // 3
    distance = (x[cut:] ** 2).sum(1)[:, None] - 2 * x[cut:] @ x[:cut].T + (x[:cut] ** 2).sum(1)[None]
    votes = labels[np.argsort(distance, axis=1)[:, :k]]
    return float(np.mean([np.bincount(v).argmax() for v in votes] == labels[cut:]))


def with_squares(colours):
    colours = (colours - colours.mean(0)) / colours.std(0)
    pairs = [colours[:, i] * colours[:, j] for i in range(3) for j in range(i, 3)]
    return np.hstack([colours, np.stack(pairs, 1)])


@pytest.fixture(scope="module")
def actions():
    """Mean colours of clips and their actions."""
    colours, labels = [], []
    for i in range(19 * 45):
        frames, _ = random_clip(np.random.default_rng([1, i]), 48, 2.5, frames=4, name=catalogue.ACTIONS[i % 19])
        colours.append(frames.mean(axis=(0, 1, 2)))
        labels.append(i % 19)
    return mixed(np.array(colours), labels)


@pytest.fixture(scope="module")
def drives():
    """Needle driving: mean colours, one 28×28 frame of each clip, and directions."""
    colours, pictures, labels = [], [], []
    for i in range(1400):
        frames, tags = random_clip(np.random.default_rng([2, i]), 56, 2.5, frames=2, name="Driving")
        if "direction" not in tags:
            continue
        colours.append(frames.mean(axis=(0, 1, 2)))
        pictures.append(cv2.resize(frames[1], (28, 28), interpolation=cv2.INTER_AREA) / 255)
        labels.append(catalogue.DIRECTIONS.index(tags["direction"]))
    return np.array(colours), np.array(pictures), labels


def mixed(features, labels):
    order = np.random.default_rng(0).permutation(len(labels))
    return features[order], list(np.asarray(labels)[order])


def test_mean_colour_tells_nothing_of_the_action(actions):
    colours, labels = actions
    assert ridge_accuracy(with_squares(colours), labels, 1.0) < 1 / 19 + 0.06
    assert neighbour_accuracy(colours, labels) < 1 / 19 + 0.06


def test_mean_colour_tells_nothing_of_the_direction(drives):
    colours, _, labels = drives
    assert ridge_accuracy(with_squares(colours), labels, 1.0) < 1 / 3 + 0.09
    assert neighbour_accuracy(colours, labels) < 1 / 3 + 0.09


def test_one_frame_tells_nothing_of_the_direction(drives):
    _, pictures, labels = drives
    for penalty in (1e2, 1e4):
        assert ridge_accuracy(pictures, labels, penalty) < 1 / 3 + 0.09
    assert neighbour_accuracy(pictures, labels) < 1 / 3 + 0.09


def test_the_same_probes_do_see_what_one_frame_shows(drives):
    """Pixels of one frame tell suturing from dissection at once, so chance above is not a blind probe's chance."""
    _, pictures, _ = drives
    others = []
    for i in range(190):
        frames, _ = random_clip(np.random.default_rng([3, i]), 56, 2.5, frames=1, name=catalogue.ACTIONS[i % 19])
        others.append(cv2.resize(frames[0], (28, 28), interpolation=cv2.INTER_AREA) / 255)
    features, labels = mixed(np.concatenate([pictures[:190], others]), [0] * 190 + [1] * 190)
    assert ridge_accuracy(features, labels, 1e2) > 0.9
