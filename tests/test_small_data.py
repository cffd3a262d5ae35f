"""The recipe `best` on few samples of any encoder: as good as a linear probe, in seconds."""

import time

import numpy as np
import pytest
import torch

from halsted_ray.evaluation.baselines import baseline_predictions
from halsted_ray.evaluation.predictions import predict, tag_targets
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import Window
from halsted_ray.taxonomy import from_dict
from halsted_ray.training.loop import fit_in_process
from halsted_ray.training.recipe import BEST
from halsted_ray.training.samples import LabelledWindow, build_samples
from halsted_ray.training.train import decoder_options

PHASES = 10
OWN = from_dict(
    {
        "name": "own",
        "tasks": [
            {
                "name": "phase",
                "instruction": "map surgical phase",
                "window": "fine",
                "tags": [{"name": "phase", "categories": [f"Phase {n}" for n in range(PHASES)]}],
            }
        ],
    }
)


@pytest.fixture(autouse=True)
def one_thread():
    """As a fold of an evaluation trains."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def samples(videos, windows, dim, scale, distance, seed):
    """Gaussian phases in the space of an encoder: each feature has a scale of its own, ``scale`` all in all, and a
    common mean of 30 deviations; each video lies elsewhere by a third of a deviation. ``distance``: of the phases."""
    world, drawn = np.random.default_rng(5), np.random.default_rng(seed)
    means_KD = distance * world.normal(size=(PHASES, dim))
    deviation_D = scale * np.exp(0.5 * world.normal(size=dim))
    common_D = 30 * scale * world.normal(size=dim)
    labelled, vectors = {}, {}
    for number in range(videos):
        video_id = f"{seed}-{number:02d}"
        labelled[video_id], vectors[video_id] = [], {}
        own_D = 0.3 * drawn.normal(size=dim)
        for n in range(windows):
            k, window = int(drawn.integers(PHASES)), Window("fine", 2.5 * n, 2.5 * n + 2.5)
            vector = (means_KD[k] + own_D + drawn.normal(size=dim)) * deviation_D + common_D
            vectors[video_id]["fine", window.start_s, window.stop_s] = vector.astype(np.float16)
            labelled[video_id].append(LabelledWindow(window, "phase", (("phase", f"Phase {k}"),), 1.0, True))
    return build_samples(labelled, vectors, Vocabulary(OWN))


@pytest.mark.parametrize(
    ("videos", "windows", "dim", "scale", "distance"),
    [(8, 20, 1280, 2.0, 0.25), (4, 30, 1280, 0.01, 0.2)],
    ids=["160 samples", "4 videos"],
)
def test_few_samples_of_any_scale_are_learned_as_well_as_by_a_linear_probe(videos, windows, dim, scale, distance):
    train, validation, test = (
        samples(count, windows, dim, scale, distance, seed) for count, seed in ((videos, 1), (2, 2), (20, 3))
    )
    started_s = time.process_time()
    model = Halsted.create(OWN, dim, **decoder_options(BEST))
    fitted = fit_in_process(train, validation, model.config.decoder_sizes, OWN, BEST)
    seconds = time.process_time() - started_s
    model.decoder.load_state_dict(fitted.tensors)
    names = np.full(len(test), "fine"), np.full(len(test), "manual")
    targets = tag_targets(test, train, OWN, 0, *names)
    (own,) = predict(model, test, targets)
    (probe,) = baseline_predictions(("linear",), targets, train, validation, test, OWN)
    assert probe.right_N.mean() > 0.8, "the phases can be told apart"
    assert own.right_N.mean() > probe.right_N.mean() - 0.02
    assert fitted.progress.commonest_of_task["phase"] < 0.25
    assert seconds < 60
