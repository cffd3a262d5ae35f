"""Training in bf16 on the phantom task: real clips, the encoder that ships, and torch's autocast, on the CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from halsted_ray import taxonomy as taxonomies
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.phantom import catalogue
from halsted_ray.phantom.training_clips import random_clip
from halsted_ray.records import Window
from halsted_ray.training import loop
from halsted_ray.training.recipe import BEST
from halsted_ray.training.samples import LabelledWindow, build_samples

HALSTED = taxonomies.load()
ACTIONS = catalogue.ACTIONS[:4]
RECIPE = replace(BEST, epochs=16, least_steps=0, width=48, heads=4, batch_size=16, validate_every=16, tasks=("micro",))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Two threads that share these few numbers wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def phantoms():
    """(training samples, validation samples, width of a vector): 20 clips of each of four actions, 8 to validate."""
    encoder = Encoder.load("tiny")
    sides = []
    for seed, clips in ((1, 20), (2, 8)):
        labelled, vectors = {"v": []}, {"v": {}}
        for n in range(clips * len(ACTIONS)):
            name = ACTIONS[n % len(ACTIONS)]
            frames, found = random_clip(np.random.default_rng([seed, n]), 112, 2.5, name=name)
            window = Window("fine", 2.5 * n, 2.5 * n + 2.5)
            vectors["v"]["fine", window.start_s, window.stop_s] = encoder.encode(frames[None])[0]
            tags = tuple((tag, found[tag]) for tag in ("action", "arm", "instrument") if tag in found)
            labelled["v"].append(LabelledWindow(window, "micro", tags, 1.0, True))
        sides.append(build_samples(labelled, vectors, Vocabulary(HALSTED)))
    return *sides, encoder.dim


def trained(phantoms, precision):
    train, validation, dim = phantoms
    sizes = Halsted.create(HALSTED, dim, layers=1, heads=4, width=48, feedforward=64, dropout=0.0).config.decoder_sizes
    return loop.fit_in_process(train, validation, sizes, HALSTED, replace(RECIPE, precision=precision))


def test_bf16_learns_the_phantom_task_as_fp32_does(phantoms):
    exact, rounded = (trained(phantoms, precision) for precision in ("fp32", "bf16"))
    exact_losses, rounded_losses = ([record["loss"] for record in run.progress.curve] for run in (exact, rounded))
    assert exact_losses != rounded_losses, "autocast computed in bf16"
    assert rounded_losses == pytest.approx(exact_losses, rel=0.05)
    assert rounded_losses[-1] < 0.5 * rounded_losses[0]
    accuracies = [run.progress.curve[-1]["accuracy_of_tag"]["action"] for run in (exact, rounded)]
    assert min(accuracies) > 1.5 / len(ACTIONS) and accuracies[1] == pytest.approx(accuracies[0], abs=0.1)
    assert all(tensor.dtype != torch.bfloat16 for tensor in rounded.tensors.values()), "the weights stay in fp32"


def test_a_recipe_of_precision_auto_trains_on_cpu_in_fp32(phantoms):
    short = [replace(RECIPE, epochs=2, validate_every=2, precision=precision) for precision in ("auto", "fp32")]
    train, validation, dim = phantoms
    sizes = Halsted.create(HALSTED, dim, layers=1, heads=4, width=48, feedforward=64, dropout=0.0).config.decoder_sizes
    automatic, exact = (loop.fit_in_process(train, validation, sizes, HALSTED, recipe) for recipe in short)
    assert all(torch.equal(automatic.tensors[name], value) for name, value in exact.tensors.items())
