"""Leave one specialty out: the folds, the figures, and which options fit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from halsted_ray import taxonomy as taxonomies
from halsted_ray.cli.evaluation_table import left_out_table, vocabulary_table
from halsted_ray.cli.parser import build_parser
from halsted_ray.errors import AtlasError, TaxonomyError, UsageError
from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
from halsted_ray.evaluation.left_out import left_out_figures, left_out_folds, left_out_names, macro_f1
from halsted_ray.evaluation.predictions import NO_CATEGORY, TagPredictions, TagTargets
from halsted_ray.evaluation.vocabulary import vocabulary_figures

OPERATIONS = {
    **{f"u{n}": {"specialty": "Urology", "procedure": "Prostatectomy"} for n in range(3)},
    **{f"g{n}": {"specialty": "General", "procedure": "Laparoscopic Hernia"} for n in range(2)},
    "t0": {"specialty": "Thoracic", "procedure": "Segmentectomy"},
    "x0": {},
}


def test_each_specialty_tests_once_and_teaches_nobody_who_judges_it():
    folds = left_out_folds(OPERATIONS, OPERATIONS, {})
    assert left_out_names(folds, OPERATIONS, "specialty") == ["General", "Thoracic", "Urology"]
    for fold, name in zip(folds, ["General", "Thoracic", "Urology"], strict=True):
        tested = {video_id for video_id, part in fold.items() if part == "test"}
        assert tested == {v for v, operation in OPERATIONS.items() if operation.get("specialty") == name}
        assert fold["x0"] == "train"  # nobody knows its specialty, so it can't judge one
        assert {"train", "validation", "test"} == set(fold.values())


def test_videos_of_one_group_take_one_part():
    group_of = dict.fromkeys(("u0", "u1"), "patient")
    for fold in left_out_folds(OPERATIONS, OPERATIONS, group_of):
        assert fold["u0"] == fold["u1"]


def test_two_specialties_are_too_few():
    few = {video_id: operation for video_id, operation in OPERATIONS.items() if video_id[0] in "ug"}
    with pytest.raises(AtlasError, match="name 2 specialty values .General, Urology.; to leave one out takes 3"):
        left_out_folds(few, few, {})


def test_macro_f1_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    truth_N, chosen_N = rng.integers(4, size=60), rng.integers(4, size=60)
    assert macro_f1(truth_N, chosen_N) == pytest.approx(f1_score(truth_N, chosen_N, average="macro"))
    only = truth_N < 2
    expected = f1_score(truth_N[only], chosen_N[only], average="macro", labels=[0, 1])
    assert macro_f1(truth_N[only], chosen_N[only]) == pytest.approx(expected)


def entry(fold: int, tag: str, truth: list[int], chosen: list[int], is_taught: bool = True, kind: str = "clip"):
    size = len(truth)
    targets = TagTargets(
        fold, "micro", tag, np.arange(size), np.array(["v"] * size), np.array([kind] * size), np.zeros(size),
        np.ones(size), np.array(["manual"] * size), np.array(truth), np.full(size, is_taught),
    )  # fmt: skip
    return TagPredictions.from_scores("halsted", targets, np.eye(10)[chosen])


def test_figures_are_per_specialty_and_their_mean_counts_each_once():
    found = left_out_figures(
        [
            entry(0, "action", [0, 0, 1, 1], [0, 0, 1, 0]),
            entry(1, "action", [2], [2]),
            entry(0, "action", [0], [1], kind="fine"),  # clips are judged, so windows are not
            entry(0, "specialty", [0], [1], is_taught=False),  # nobody taught what was left out
        ],
        ["General", "Urology"],
    )["halsted"]
    assert list(found) == ["action"]
    assert found["action"]["General"] == {"accuracy": 0.75, "f1": pytest.approx((0.8 + 2 / 3) / 2), "n": 4}
    assert found["action"]["mean"]["accuracy"] == 0.875 and found["action"]["mean"]["n"] == 5
    text = left_out_table({"of": "specialty", "methods": {"halsted": found}})
    assert "specialty left out" in text and text.splitlines()[-1].split()[:2] == ["action", "mean"]


def test_leaving_out_needs_folds_of_its_own(capsys):
    assert EvaluationPlan(leave_out="procedure").leave_out == "procedure"
    with pytest.raises(UsageError, match="can't leave out 'surgeon'; expected one of specialty, procedure"):
        EvaluationPlan(leave_out="surgeon")
    with pytest.raises(UsageError, match="another part is named too"):
        EvaluationPlan(leave_out="specialty", strategy="global")
    for extra in (["--model", "m"], ["--folds", "3"], ["--split", "published"]):
        with pytest.raises(SystemExit):
            build_parser().parse_args(["evaluate", "--atlas", "a", "--out", "o", "--leave-out", "specialty", *extra])
    assert "--leave-out" in capsys.readouterr().err


def test_predictions_are_judged_in_the_words_of_another_taxonomy():
    """Picking-up and positioning (1, 2) are one phase in Halsted's; Other (0) has none."""
    assert NO_CATEGORY == -1  # the last place of the table that translates
    found = vocabulary_figures(
        [entry(0, "action", [1, 2, 3, 0], [2, 2, 0, 3]), entry(1, "action", [4], [4])],
        taxonomies.load("sar_rarp50"),
        "halsted",
    )
    phase = found["methods"]["halsted"]["action → phase"]
    assert (phase["accuracy"], phase["n"], phase["without"]) == (0.75, 4, 1)
    assert found["methods"]["halsted"]["action → procedure"]["accuracy"] == 1
    assert "in halsted" in vocabulary_table(found)
    with pytest.raises(TaxonomyError, match="no relations between"):
        vocabulary_figures([], taxonomies.load("sar_rarp50"), "cholec80")


def test_cholect50_and_grasp_are_judged_in_halsteds_words_and_back():
    """Of CholecT50's verbs retract is 1, dissect 2, coagulate 3, clip 4, cut 5; of GraSP's steps 13 to 16 suture."""
    cholect50 = taxonomies.load("cholect50")
    found = vocabulary_figures([entry(0, "verb", [1, 4, 3, 2, 5], [1, 1, 3, 2, 5])], cholect50, "halsted")
    action, step = (found["methods"]["halsted"][f"verb → {tag}"] for tag in ("action", "step"))
    assert (action["accuracy"], action["n"], action["without"]) == (pytest.approx(2 / 3), 3, 2)
    assert (step["accuracy"], step["n"], step["without"]) == (1, 1, 4)
    halsted = taxonomies.load()
    clip, retraction = (halsted.tag("action").categories.index(name) for name in ("Clip", "Retraction"))
    back = vocabulary_figures([entry(0, "action", [clip, retraction], [clip, clip])], halsted, "cholect50")
    assert back["methods"]["halsted"]["action → verb"]["accuracy"] == 0.5
    found = vocabulary_figures([entry(0, "step", [5, 7, 8], [7, 5, 0])], taxonomies.load("grasp"), "halsted")
    step = found["methods"]["halsted"]["step → step"]  # three dissections, one answered by an idle step
    assert (step["accuracy"], step["n"]) == (pytest.approx(2 / 3), 3)
