from dataclasses import replace

import pytest

from halsted_ray.training.recipe import (
    BEST,
    PAPER,
    RECIPES,
    Recipe,
    changed,
    learning_rate_at,
    lowest_accuracy,
    passes_per_epoch,
    should_save,
)


@pytest.mark.parametrize(("epoch", "expected"), [(0, 1e-5), (1, 5.5e-5), (2, 1e-4), (21, 5e-5), (40, 0.0)])
def test_golden_learning_rate(epoch, expected):
    assert learning_rate_at(epoch, PAPER) == pytest.approx(expected, abs=1e-12)


def test_the_learning_rate_is_continuous_and_never_negative():
    rates = [learning_rate_at(epoch / 100, PAPER) for epoch in range(4200)]
    assert max(abs(b - a) for a, b in zip(rates, rates[1:], strict=False)) < 1e-6
    assert min(rates) >= 0 and max(rates) <= 1e-4
    assert learning_rate_at(0, replace(PAPER, warmup_epochs=0)) == 1e-4
    assert learning_rate_at(1, replace(PAPER, epochs=1, warmup_epochs=1)) == 1e-4


def test_golden_save_rule():
    best, saved = None, []
    for candidate in (0.60, 0.58, 0.61, 0.61):
        saved.append(should_save(best, candidate))
        best = candidate if saved[-1] else best
    assert saved == [True, False, True, False]


def test_the_worst_task_decides_and_unmeasured_ones_do_not():
    assert lowest_accuracy({"macro": 0.9, "micro": 0.4, "context": None}) == 0.4
    assert lowest_accuracy({"macro": None}) == -1


def test_the_paper_is_the_default():
    assert (PAPER.epochs, PAPER.batch_size, PAPER.learning_rate, PAPER.weight_decay) == (40, 128, 1e-4, 1e-2)
    assert (PAPER.warmup_epochs, PAPER.warmup_from, PAPER.layers, PAPER.heads) == (2, 0.1, 2, 8)
    assert (PAPER.least_steps, PAPER.label_smoothing, PAPER.noise, PAPER.hide_tags) == (0, 0.0, 0.0, 0.0)


def test_the_recipe_of_earlier_demos_is_best():
    assert RECIPES["demo"] == RECIPES["best"] == BEST


@pytest.mark.parametrize("samples", [1, 100, 1000, 100_000])
def test_few_samples_get_as_many_steps_as_many_do(samples):
    batches = -(-samples // BEST.batch_size)
    steps = BEST.epochs * batches * passes_per_epoch(batches, BEST)
    assert BEST.least_steps <= steps < max(2 * BEST.least_steps, BEST.epochs * batches + 1)
    assert passes_per_epoch(batches, PAPER) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"learning_rate": 0},
        {"warmup_epochs": 41},
        {"noise": -1.0},
        {"shifts_s": ()},
        {"batch_size": -1},
        {"least_steps": -1},
        {"label_smoothing": 1.0},
    ],
)
def test_a_bad_recipe_names_the_field(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Recipe(**change)


def test_changes_by_name():
    given = ["layers=10", "learning_rate=1e-3", "width=null", "sampling=balanced", "shifts_s=[0, 1.25]", "tasks=micro"]
    assert changed(PAPER, given) == replace(
        PAPER, layers=10, learning_rate=1e-3, sampling="balanced", shifts_s=(0, 1.25), tasks=("micro",)
    )
    assert changed(PAPER, []) == PAPER


@pytest.mark.parametrize(
    "change, said",
    [
        ("layer=3", "expected NAME=VALUE with a name of epochs"),
        ("layers", "expected NAME=VALUE"),
        ("layers=many", "expected a value of kind int"),
        ("layers=2.5", "of kind int"),
        ("epochs=null", "of kind int"),
        ("sampling=even", "expected one of as_is, balanced"),
        ("ai_weight=0", "ai_weight=0.0; expected more than 0"),
    ],
)
def test_a_change_that_does_not_fit_is_named(change, said):
    with pytest.raises(ValueError, match=said):
        changed(PAPER, [change])
