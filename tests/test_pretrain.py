"""Pretraining of the tiny encoder: what is learned is what is saved, and an interrupted run goes on."""

import json

import numpy as np
import pytest
import torch

from halsted_ray.errors import OutputError, UsageError
from halsted_ray.model.encoder import Encoder
from halsted_ray.taxonomy import load
from halsted_ray.training.clip_loader import clip_of, tag_names
from halsted_ray.training.patch_init import cosine_patches, start_patches
from halsted_ray.training.pretrain import learning_rate, pretrain
from halsted_ray.training.pretrain_model import random_mask, tag_loss
from halsted_ray.training.pretrain_recipe import PretrainRecipe
from halsted_ray.training.pretrain_run import PretrainRun

SMALL = PretrainRecipe(
    minutes=0.06,
    masked_minutes=0.02,
    image_size=32,
    width=24,
    layers=1,
    heads=3,
    batch=4,
    slots=8,
    warmup_s=1,
    validation_clips=8,
    log_every_s=1,
    validate_every_s=1,
)
TASKS = load().tasks


def draw_brightness(rng: np.random.Generator, size: int, window_s: float, frames: int):
    """A clip whose brightness is its step; importable by the renderers' processes."""
    step = int(rng.integers(2))
    clip = rng.integers(0, 60, (frames, size, size, 3)) + 150 * step
    return clip.astype(np.uint8), {"step": load().tag("step").categories[step]}


def test_a_run_lands_in_its_time_and_its_folder_is_an_encoder(tmp_path):
    summary = pretrain(SMALL, tmp_path, draw_brightness)
    assert set(summary["accuracy"]) == set(tag_names(load()))
    stages = [row["stage"] for row in json.loads((tmp_path / "run.json").read_text())["curve"]]
    assert stages[0] == "masked" and stages[-1] == "tags"
    encoder = Encoder.load(str(tmp_path / "encoder"))
    assert encoder.encode(np.zeros((2, 16, 32, 32, 3), np.uint8)).shape == (2, SMALL.width)


def test_the_saved_encoder_gives_the_vectors_that_were_trained(tmp_path):
    run = PretrainRun(SMALL, tmp_path, draw_brightness)
    for parameter in run.tagger.encoder.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    run.average = run.tagger.state_dict()
    run.export(tmp_path / "encoder")
    clips = np.random.default_rng(0).integers(0, 255, (3, 16, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        tokens = run.tagger.tokens(torch.from_numpy(clips), keep=1.0, shake=False)
        hidden = run.tagger.encoder.encoder(tokens).last_hidden_state
        trained = run.tagger.encoder.layernorm(hidden).mean(1).numpy()
    saved = Encoder.load(str(tmp_path / "encoder")).encode(clips)
    np.testing.assert_allclose(saved, trained, atol=0.03)
    assert np.abs(trained - trained[::-1]).max() > 0.03  # or the comparison above says nothing


def test_resume_restores_every_tensor_and_counter(tmp_path):
    run = PretrainRun(SMALL, tmp_path, draw_brightness)
    clips = torch.randint(0, 255, (4, 16, 32, 32, 3), dtype=torch.uint8)
    logits = run.tagger(clips)
    sum(part.square().sum() for part in logits).backward()
    for optimizer in run.optimizers:
        optimizer.step()
    run.elapsed_s, run.steps, run.rendered = 1.5, 1, 12
    run.save()
    again = PretrainRun(SMALL, tmp_path, draw_brightness)
    assert again.resumed and (again.elapsed_s, again.steps, again.rendered) == (1.5, 1, 12)
    for name, value in run.masked_model.state_dict().items():
        assert torch.equal(value, again.masked_model.state_dict()[name]), name
    for before, after in zip(run.optimizers, again.optimizers, strict=True):
        assert before.state_dict()["state"].keys() == after.state_dict()["state"].keys()
        for index, state in before.state_dict()["state"].items():
            for key, value in state.items():
                assert torch.equal(torch.as_tensor(value), after.state_dict()["state"][index][key]), (index, key)


def test_a_folder_of_another_shape_is_refused(tmp_path):
    PretrainRun(SMALL, tmp_path, draw_brightness).save()
    with pytest.raises(OutputError, match="layers"):
        PretrainRun(PretrainRecipe(**{**vars(SMALL), "layers": 2}), tmp_path, draw_brightness)


def test_training_and_validation_never_share_a_clip():
    training, held_out = (clip_of(SMALL.clips(draw_brightness, h), load(), 0)[0] for h in (False, True))
    assert not np.array_equal(training, held_out)
    again = clip_of(SMALL.clips(draw_brightness, False), load(), 0)[0]
    assert np.array_equal(training, again)


def test_cosine_patches_are_orthonormal_and_start_at_unit_spread():
    basis = cosine_patches(24, 4, 16).flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(24), atol=1e-5, rtol=0)
    projection = torch.nn.Conv3d(3, 24, (4, 16, 16), stride=(4, 16, 16))
    pixels = torch.randn(8, 3, 16, 32, 32, generator=torch.Generator().manual_seed(0)) * 3 + 1
    start_patches(projection, pixels)
    answers = projection(pixels)
    assert answers.mean((0, 2, 3, 4)).abs().max() < 0.05
    torch.testing.assert_close(answers.std((0, 2, 3, 4)), torch.ones(24), atol=0.1, rtol=0)


def test_a_batch_without_a_tag_teaches_nothing_and_stops_nothing():
    scores = torch.randn(4, 3, requires_grad=True)
    loss = tag_loss([scores], torch.full((4, 1), -1), [1.0])
    loss.backward()
    assert loss.item() == 0 and not scores.grad.any()


def test_learning_rate_warms_up_and_ends_at_zero():
    rates = [learning_rate(elapsed_s, PretrainRecipe(minutes=50)) for elapsed_s in (0, 40, 1500, 3000)]
    assert rates[0] < 0.05 and rates[1] > 0.99 and 0.4 < rates[2] < 0.6 and rates[3] == 0


@pytest.mark.parametrize("wrong", [{"masked_minutes": 60.0}, {"keep": 0.0}, {"tag_weights": (("colour", 1.0),)}])
def test_a_wrong_recipe_is_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        PretrainRecipe(**wrong)


def test_masked_rows_hide_the_same_number():
    hidden = random_mask(6, 50, 0.2).sum(1)
    assert hidden.tolist() == [40] * 6
