"""Whether a model says "unknown" of what is unlike its training windows, and of little else."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from halsted_ray.errors import ModelError
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.model_file import read_stated_model
from halsted_ray.model.novelty import NoveltyLimits, fit_limits, fit_novelty
from halsted_ray.phantom.foreign import FOREIGN, foreign_frames

DIM = 24
KNOWN = ("Prostatectomy", "Gastric Bypass", "Mitral Stitching")


def windows_of(videos: range, each: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [N, DIM] of videos of one kind (a plane of the space, and little noise around it), and whose they are."""
    rng = np.random.default_rng(seed)
    plane = np.random.default_rng(99).normal(size=(4, DIM))
    rows = [rng.normal(size=4) * 2 + rng.normal(size=(each, 4)) for _ in videos]
    vectors = np.concatenate(rows) @ plane + 0.1 * rng.normal(size=(each * len(videos), DIM))
    return vectors.astype(np.float32), np.repeat(list(videos), each)


@pytest.fixture
def model() -> Halsted:
    made = Halsted.create(None, DIM, heads=2, width=16, layers=1)
    made.learn_what_is_known(*windows_of(range(12)), *windows_of(range(8), seed=1))
    return made


def test_what_is_unlike_the_training_windows_is_unknown_and_its_own_kind_is_not(model):
    own, _ = windows_of(range(20), seed=2)
    foreign = np.random.default_rng(3).normal(size=(200, DIM)).astype(np.float32) * own.std()
    assert model.is_unknown(foreign).mean() > 0.95
    assert model.is_unknown(own).mean() < 0.05


def test_the_threshold_keeps_the_stated_rate_of_false_alarms_on_the_validation_windows():
    scores = np.random.default_rng(0).normal(size=1000)
    for rate in (0.01, 0.05, 0.2):
        limits = fit_limits(scores, np.arange(1000) // 50, rate)
        assert (scores > limits.threshold).mean() == pytest.approx(rate, abs=1e-9)
        assert (limits.rate, limits.windows, limits.videos) == (rate, 1000, 20)


def test_a_video_is_unknown_only_where_more_of_it_is_than_in_its_own_kind():
    videos = np.arange(1000) // 50
    scores = np.random.default_rng(0).normal(size=1000)
    assert fit_limits(scores, videos).video_share == 0.5, "never below a half"
    of_one = np.where(videos == 3, 9.0 + scores, scores)
    assert fit_limits(of_one, videos, rate=0.06, video_rate=0.0).video_share > 0.5, "a video of its own kind had more"


def test_scores_do_not_depend_on_the_batch(model):
    own, _ = windows_of(range(6), seed=5)
    together = model.novelty.scores(torch.from_numpy(own))
    apart = torch.cat([model.novelty.scores(torch.from_numpy(own[n : n + 1])) for n in range(len(own))])
    assert torch.equal(together, apart)


def test_a_window_of_several_vectors_is_judged_by_their_mean():
    train, videos = windows_of(range(12))
    judged, _ = windows_of(range(3), seed=4)
    one = fit_novelty(train, videos)
    several = fit_novelty(np.tile(train, 2), videos, steps=2)
    assert torch.allclose(
        one.scores(torch.from_numpy(judged)), several.scores(torch.from_numpy(np.tile(judged, 2))), atol=2e-3
    )


def test_the_same_after_saving_and_the_digest_covers_it(model, tmp_path):
    model.save(str(tmp_path))
    again = Halsted.load(str(tmp_path))
    own, _ = windows_of(range(6), seed=7)
    assert again.limits == model.limits and again.digest == model.digest
    assert torch.equal(again.novelty.scores(torch.from_numpy(own)), model.novelty.scores(torch.from_numpy(own)))
    silent = Halsted.create(None, DIM, heads=2, width=16, layers=1)
    assert silent.digest != model.digest, "an archive is mapped again when its model learns to say 'unknown'"


def test_a_model_of_an_earlier_version_flags_nothing_and_keeps_its_digest(tmp_path):
    old = Halsted.create(None, DIM, heads=2, width=16, layers=1)
    old.save(str(tmp_path))
    before = old.digest
    content = json.loads((tmp_path / "model.json").read_text())
    del content["config"]["novelty"]
    (tmp_path / "model.json").write_text(json.dumps(content))
    loaded = Halsted.load(str(tmp_path))
    assert loaded.digest == read_stated_model(str(tmp_path)).digest == before
    assert loaded.limits is None and not loaded.is_unknown(np.full((3, DIM), 1e3, np.float32)).any()


def test_the_shipped_model_can_say_unknown():
    assert Halsted.load("phantom").limits is not None


def test_too_few_windows_or_videos_give_no_threshold():
    silent = Halsted.create(None, DIM, heads=2, width=16, layers=1)
    one_video = np.zeros(40, int)
    silent.learn_what_is_known(windows_of(range(1))[0], one_video, *windows_of(range(8), seed=1))
    assert silent.limits is None, "one video can't tell what varies from video to video"
    silent.learn_what_is_known(*windows_of(range(12)), *windows_of(range(1), each=5))
    assert silent.limits is None, "a threshold of five windows would be a guess"


def test_vectors_of_another_encoder_are_refused(model):
    with pytest.raises(ModelError, match="expected"):
        model.is_unknown(np.zeros((2, DIM + 1), np.float32))


def test_limits_are_json(model):
    assert NoveltyLimits.from_json(json.loads(json.dumps(model.limits.to_json()))) == model.limits


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_pictures_are_the_same_from_the_same_seed_and_move_with_it(kind):
    first = foreign_frames(kind, 1, [0.0, 2.0], 96, 64)
    assert first.shape == (2, 64, 96, 3) and first.dtype == np.uint8
    assert np.array_equal(first, foreign_frames(kind, 1, [0.0, 2.0], 96, 64))
    others = np.stack([foreign_frames(kind, seed, [0.0], 96, 64) for seed in range(4)])
    assert any(not np.array_equal(others[0], other) for other in others[1:])


def test_the_tiny_encoder_sees_that_foreign_pictures_are_not_phantoms():
    """On vectors of real pictures: what the phantom renderer draws is known, all else is not."""
    from halsted_ray.phantom.render import Renderer
    from halsted_ray.phantom.script import make_script

    torch.set_num_threads(1)
    encoder = Encoder.load("tiny")
    height, width = encoder.image_size

    def phantom(seed: int) -> np.ndarray:
        renderer = Renderer(make_script(seed, 60.0, KNOWN[seed % len(KNOWN)]), width, height)
        starts_s = np.arange(0, 60, 4.0)
        clips = [[renderer.frame(float(start_s + k * 2.5 / 16)) for k in range(16)] for start_s in starts_s]
        return encoder.encode(np.array(clips, np.uint8))

    vectors = {seed: phantom(seed) for seed in range(18)}
    train, validation, judged = (
        np.concatenate([vectors[seed] for seed in part]) for part in (range(9), range(9, 15), range(15, 18))
    )
    made = Halsted.create(None, encoder.dim, heads=2, width=16, layers=1)
    made.learn_what_is_known(train, np.arange(9).repeat(15), validation, np.arange(6).repeat(15))
    foreign = [
        foreign_frames(kind, seed, np.arange(16) * 2.5 / 16, width, height) for kind in FOREIGN for seed in range(3)
    ]
    of_foreign, of_phantoms = (
        made.novelty.scores(torch.from_numpy(vectors)).numpy()
        for vectors in (encoder.encode(np.stack(foreign)), judged)
    )
    assert np.quantile(of_foreign, 0.05) > np.quantile(of_phantoms, 0.9), "the benchmark measures the rates, on more"
    assert made.is_unknown(judged).mean() < 0.05
