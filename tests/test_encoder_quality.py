"""What fewer bits cost: vectors and tags of real trained weights on phantom clips, and vectors of an untrained base."""

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

import halsted_ray
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.presets import random_checkpoint
from halsted_ray.phantom.training_clips import random_clip

FINE, COARSE = 96, 24
CERTAIN = 0.95
"""A tag that float32 gives with this confidence must not depend on the precision."""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def windows():
    """(clips, the task that each is asked): every category of every tag equally often, so many are hard to tell."""
    rng = np.random.default_rng(0)
    clips, tasks = [], []
    for _ in range(FINE):
        clip, tags = random_clip(rng, 112, 2.5)
        asked = [("action", "micro"), ("phase", "proficiency"), ("anatomy", "context")]
        for tag, task in asked:
            if tag in tags:
                clips.append(clip)
                tasks.append(task)
    for _ in range(COARSE):
        clips.append(random_clip(rng, 112, 30.0)[0])
        tasks.append("macro")
    return np.stack(clips), tasks


@pytest.fixture(scope="module")
def exact(windows):
    return Encoder.load("tiny").encode(windows[0])


def cosines(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize(("precision", "tags_equal"), [("bf16", 0.995), ("int8", 0.99), ("fp8", 0.98)])
def test_trained_vectors_and_tags_hardly_change_in_fewer_bits(windows, exact, precision, tags_equal):
    clips, tasks = windows
    found = Encoder.load("tiny", precision=precision).encode(clips)
    model = halsted_ray.load_model("phantom")
    rows = list(zip(model.tag(exact, tasks, unit="grid"), model.tag(found, tasks, unit="grid"), strict=True))
    pairs = [(before[tag], after.get(tag, ("", 0.0))) for before, after in rows for tag in before]
    equal = np.mean([before[0] == after[0] for before, after in pairs])
    whole = np.mean(
        [{tag: pair[0] for tag, pair in a.items()} == {tag: pair[0] for tag, pair in b.items()} for a, b in rows]
    )
    least = cosines(exact, found).min()
    print(f"{precision}: cosine {least:.5f}, {equal:.2%} of {len(pairs)} tags, {whole:.2%} of {len(clips)} windows")
    assert least >= 0.999
    assert equal >= tags_equal
    assert all(before[0] == after[0] for before, after in pairs if before[1] >= CERTAIN)


def test_vectors_of_an_untrained_base_hardly_change_in_fewer_bits():
    clips = np.random.default_rng(0).integers(0, 256, (1, 16, 224, 224, 3), dtype=np.uint8)
    weights = random_checkpoint("base", 0)
    exact = Encoder(weights, fingerprint="base").encode(clips)
    for precision in ("bf16", "int8", "fp8"):
        found = Encoder(weights, precision=precision, fingerprint="base").encode(clips)
        least = cosines(exact, found).min()
        print(f"base, {precision}: cosine {least:.5f}")
        assert 0.999 <= least


def test_all_layers_share_one_compilation():
    torch._dynamo.reset()
    counters.clear()
    clips = np.random.default_rng(0).integers(0, 256, (1, 16, 112, 112, 3), dtype=np.uint8)
    found = Encoder.load("tiny", precision="bf16", compile=True).encode(clips)
    assert counters["stats"]["unique_graphs"] == 1
    assert cosines(Encoder.load("tiny", precision="bf16").encode(clips), found).min() >= 0.9999
