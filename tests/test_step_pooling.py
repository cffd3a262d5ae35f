"""Pooling that learns: attention over the time steps of a window, as the one vector that the decoder reads."""

import numpy as np
import pytest
import torch

from halsted_ray.errors import ModelError, UsageError
from halsted_ray.model.frozen_decoder import FrozenDecoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.step_pooling import StepPooling
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import Window
from halsted_ray.taxonomy import from_dict
from halsted_ray.training.loop import fit_in_process
from halsted_ray.training.recipe import Recipe, changed
from halsted_ray.training.samples import LabelledWindow, build_samples
from halsted_ray.training.train import encoder_for

DIM, STEPS, WIDTH, HEADS = 16, 8, 32, 4
ONE_TAG = from_dict(
    {
        "name": "one-tag",
        "tasks": [
            {
                "name": "drive",
                "instruction": "map needle driving activity",
                "window": "fine",
                "tags": [{"name": "direction", "categories": ["In", "Out"]}],
            }
        ],
    }
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn_pooling():
    pooling = StepPooling(WIDTH, STEPS, HEADS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return pooling


def vectors(count, seed=0):
    return torch.randn(count, STEPS, WIDTH, generator=torch.Generator().manual_seed(seed))


def model(pooling="attention", **options):
    return Halsted.create(
        ONE_TAG, DIM * STEPS, steps=STEPS, width=WIDTH, heads=HEADS, layers=1, pooling=pooling, dropout=0.0, **options
    )


def test_untrained_pooling_is_the_mean_of_the_steps():
    pooling = drawn_pooling()
    pooling.start_as_mean()
    torch.testing.assert_close(pooling(vectors(5)), vectors(5).mean(1, keepdim=True))
    made, of_mean = model(), model("mean")
    assert (made.decoder.vectors, made.decoder.prefix) == (1, 9) and of_mean.decoder.vectors == STEPS
    stream = vectors(2)
    torch.testing.assert_close(made.decoder.pooling(stream), stream.mean(1, keepdim=True))


def test_weights_are_shares_of_the_steps_by_head():
    weights = drawn_pooling().weights(vectors(3))
    assert weights.shape == (3, HEADS, STEPS)
    torch.testing.assert_close(weights.sum(2), torch.ones(3, HEADS))
    assert weights.std(2).min() > 1e-3 and weights.std(1).min() > 1e-4, "heads and steps differ"


def test_pooling_is_what_its_formula_says_row_by_row():
    pooling, rows = drawn_pooling(), vectors(3)
    for n in range(3):
        placed_TW, parts = rows[n] + pooling.positions_TW, []
        values_TW = pooling.values(placed_TW)
        for h in range(HEADS):
            weights_T = (placed_TW @ pooling.queries_HW[h] / WIDTH**0.5).softmax(0)
            parts.append(weights_T @ values_TW[:, h * WIDTH // HEADS : (h + 1) * WIDTH // HEADS])
        expected = rows[n].mean(0) + pooling.out(torch.cat(parts))
        torch.testing.assert_close(pooling(rows)[n, 0], expected)


def test_the_order_of_the_steps_matters_to_pooling_that_has_learned():
    pooling, rows = drawn_pooling(), vectors(2)
    assert not torch.allclose(pooling(rows), pooling(rows.flip(1)), atol=1e-3)
    with torch.no_grad():
        pooling.positions_TW.zero_()
    torch.testing.assert_close(pooling(rows), pooling(rows.flip(1)))


def drives(count, seed):
    """Windows whose steps are the same in another order: a mark in the first half is In, in the second half Out."""
    rng, mark = np.random.default_rng(seed), np.random.default_rng(0).normal(size=DIM) * 2
    labelled, stored = {"v": []}, {"v": {}}
    for n in range(count):
        window, later = Window("fine", n * 2.5, n * 2.5 + 2.5), int(rng.integers(2))
        steps = 0.3 * rng.normal(size=(STEPS, DIM))
        steps[int(rng.integers(STEPS // 2)) + later * STEPS // 2] += mark
        stored["v"]["fine", window.start_s, window.stop_s] = steps.astype(np.float16).reshape(-1)
        labelled["v"].append(LabelledWindow(window, "drive", (("direction", ("In", "Out")[later]),), 1.0, True))
    return build_samples(labelled, stored, Vocabulary(ONE_TAG))


def test_training_finds_an_order_that_the_mean_can_not_show():
    recipe = Recipe(
        epochs=25, batch_size=32, learning_rate=1e-2, warmup_epochs=1, layers=1, heads=HEADS, pooling="attention"
    )
    train, validation = drives(300, 1), drives(100, 2)
    made = model()
    fitted = fit_in_process(train, validation, made.config.decoder_sizes, ONE_TAG, recipe)
    assert fitted.progress.curve[-1]["accuracy_of_task"]["drive"] > 0.95
    assert fitted.progress.curve[-1]["loss"] < 0.3 * fitted.progress.curve[0]["loss"]

    def means(samples):
        whole = samples.embeddings_WD.reshape(-1, STEPS, DIM).mean(1)
        return type(samples)(**{**vars(samples), "embeddings_WD": whole})

    blind = Halsted.create(ONE_TAG, DIM, width=WIDTH, heads=HEADS, layers=1, dropout=0.0)
    of_means = fit_in_process(
        means(train), means(validation), blind.config.decoder_sizes, ONE_TAG, changed(recipe, ["pooling=mean"])
    )
    assert of_means.progress.curve[-1]["accuracy_of_task"]["drive"] < 0.7


def test_a_frozen_decoder_pools_as_the_decoder_does(tmp_path):
    made = model()
    with torch.no_grad():
        made.decoder.pooling.out.weight.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    rows, tasks = vectors(4)[..., :DIM].flatten(1), torch.zeros(4, dtype=torch.long)
    tokens = torch.ones(4, 2, dtype=torch.long)
    with torch.inference_mode():
        plain, _ = made.decoder.prefill(rows, tasks, tokens, last_only=True)
        frozen, _ = FrozenDecoder(made.decoder).prefill(rows, tasks, tokens)
    torch.testing.assert_close(frozen, plain, rtol=1e-4, atol=1e-4)
    made.save(str(tmp_path))
    again = Halsted.load(str(tmp_path))
    assert again.config.pooling == "attention" and again.digest == made.digest
    assert again.tag(rows.numpy(), "drive", unit="grid") == made.tag(rows.numpy(), "drive", unit="grid")
    assert made.digest != model("mean").digest


def test_vectors_without_steps_are_refused_with_what_the_model_needs():
    made = model(encoder_ref="tiny#steps")
    with pytest.raises(ModelError, match=r"looks at 8 time steps per window \(8 vectors of 16\), got one vector of 16"):
        made.tag(np.zeros((3, DIM), np.float32), "drive", unit="grid")
    with pytest.raises(ModelError, match="embed the videos with the encoder 'tiny#steps'"):
        made.tag(np.zeros((1, DIM), np.float32), "drive", unit="clips")


def test_a_recipe_that_pools_asks_the_encoder_for_its_steps():
    recipe = changed(Recipe(), ["pooling=attention"])
    assert encoder_for(recipe, "tiny") == "tiny#steps" == encoder_for(recipe, "tiny#steps")
    assert encoder_for(Recipe(), "tiny") == "tiny"


def test_pooling_without_steps_or_beside_another_use_of_them_is_refused(tmp_path):
    with pytest.raises(ModelError, match="pooling=attention looks at the time steps .* one vector per window"):
        Halsted.create(ONE_TAG, DIM, width=WIDTH, heads=HEADS, pooling="attention")
    with pytest.raises(UsageError, match="pooling=attention and temporal_tokens"):
        Recipe(pooling="attention", temporal_tokens=True)
    with pytest.raises(UsageError, match="pooling=attention and decoder=llama:/models/llama"):
        Recipe(pooling="attention", decoder="llama:/models/llama")
    with pytest.raises(UsageError, match="pooling='max'; expected one of mean, attention"):
        Recipe(pooling="max")
