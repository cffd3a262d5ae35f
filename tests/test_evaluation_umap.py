"""The map of features: neighbours stay neighbours, better than on the plane of largest variance."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from halsted_ray.evaluation.umap import MOST, umap
from halsted_ray.model.encoder import Encoder


def test_neighbours_stay_neighbours():
    digits = load_digits().data[:250]
    places = umap(digits)
    assert places.shape == (250, 2)
    flat = trustworthiness(digits, PCA(2, random_state=0).fit_transform(digits), n_neighbors=10)
    assert trustworthiness(digits, places, n_neighbors=10) > max(0.93, flat + 0.05)
    assert np.array_equal(umap(digits), places), "the same vectors and seed, the same map"


def test_few_and_equal_vectors_have_a_map():
    for vectors in (np.eye(4), np.zeros((10, 3)), np.random.default_rng(0).normal(size=(6, 2))):
        assert np.isfinite(umap(vectors)).all()
    for count in (3, MOST + 1):
        with pytest.raises(ValueError, match=f"{count} vectors; expected 4 to {MOST}"):
            umap(np.zeros((count, 2)))


def test_the_mean_of_a_windows_time_steps_is_its_vector():
    encoder = Encoder.load("random:tiny:0")
    clips = np.random.default_rng(0).integers(0, 255, (1, 16, 112, 112, 3), dtype=np.uint8)
    steps = encoder.encode_steps(clips)
    assert steps.shape == (1, 8, encoder.dim)
    assert steps[0].astype(np.float32).mean(0) == pytest.approx(encoder.encode(clips)[0].astype(np.float32), abs=4e-3)
    still = encoder.encode_steps(np.concatenate([clips[:, :8], clips[:, :8]], axis=1))
    assert not np.allclose(still[0, 0], still[0, 4]), "a step knows when it is"
