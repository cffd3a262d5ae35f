"""Clips and windows of the grid have temperatures of their own, and whoever asks says which of them it asks."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from serving import save_model, write_video

from halsted_ray.errors import ModelError
from halsted_ray.evaluation.predictions import predict, tag_targets
from halsted_ray.model.calibration import TagLogits, fit_temperatures
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.model_file import read_stated_model
from halsted_ray.records import Window
from halsted_ray.registry.clip_predictor import ClipPredictor
from halsted_ray.service.clip_tagging import ClipTagger
from halsted_ray.service.served_model import model_source
from halsted_ray.training.samples import LabelledWindow, build_samples
from halsted_ray.training.train import calibrate

DIM = 24
CLIPS_UNSURE = {"temperatures": {"step": 0.5, "specialty": 0.5}, "clip_temperatures": {"step": 4.0, "specialty": 4.0}}


def model(**described):
    made = Halsted.create(None, DIM, width=32, heads=4, seed=7, **described)
    with torch.no_grad():
        made.decoder.head.weight *= 30
    return made


def vectors(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float16)


def known(count, categories=3, sureness=4.0):
    """A tag that is always right."""
    labels = torch.arange(count) % categories
    return torch.nn.functional.one_hot(labels, categories) * sureness, labels


def guessed(count, categories=3, sureness=4.0):
    """A tag that is right by chance, and sure all the same."""
    said, _ = known(count, categories, sureness)
    return said, torch.arange(count) // categories % categories


def confidence(temperature, sureness=4.0, categories=3):
    return 1 / (1 + (categories - 1) * math.exp(-sureness / temperature))


def test_a_tag_that_is_known_on_the_grid_and_guessed_on_clips_is_unsure_of_clips_alone():
    tags = {"direction": {"clips": TagLogits(*guessed(90), 12), "grid": TagLogits(*known(90), 12)}}
    found = fit_temperatures(tags)
    assert confidence(found["clips"]["direction"]) < 0.45, "a third are right"
    assert confidence(found["grid"]["direction"]) > 0.7 > 1.5 * confidence(found["clips"]["direction"])
    together = fit_temperatures(tags, unit_spread=0)
    assert together["clips"] == together["grid"]
    assert confidence(together["clips"]["direction"]) > 0.7, "far from what clips are worth"


def test_a_unit_with_few_samples_stays_near_its_tag():
    few = {"arm": {"clips": TagLogits(*guessed(9), 1), "grid": TagLogits(*known(300), 60)}}
    many = {"arm": {"clips": TagLogits(*guessed(9), 60), "grid": TagLogits(*known(300), 60)}}
    near, far = (fit_temperatures(tags) for tags in (few, many))
    assert near["clips"]["arm"] < 4 < 6 < far["clips"]["arm"]
    alone = fit_temperatures({"arm": {"grid": TagLogits(*known(300), 60)}})
    assert alone["clips"] == alone["grid"], "no clip says anything else"


def test_a_unit_never_makes_a_tag_surer_than_its_videos_can_show():
    """The same six videos speak for a tag once, however many units they have."""
    right, labels = torch.zeros(400, 8), torch.full((400,), 2)
    right[:, 2] = 4.0
    six = TagLogits(right, labels, 6)
    alone = fit_temperatures({"procedure": {"grid": TagLogits(right, labels, 12)}})
    both = fit_temperatures({"procedure": {"clips": six, "grid": six}})
    assert both["clips"] == both["grid"] == alone["grid"]


def test_confidences_follow_the_unit_that_is_asked_row_by_row():
    made = model(**CLIPS_UNSURE)
    tasks, units = ["macro"] * 6, ["clips", "grid", "grid", "clips", "grid", "clips"]
    for given in (None, [{"specialty": "Thoracic"}] * 6):
        asked = {unit: made.tag(vectors(6), tasks, unit=unit, given=given, return_probabilities=True) for unit in units}
        rows, shares = made.tag(vectors(6), tasks, unit=units, given=given, return_probabilities=True)
        for n, unit in enumerate(units):
            assert rows[n] == asked[unit][0][n] and list(rows[n]) == ["specialty", "procedure", "step"]
            for tag, own in shares[n].items():
                np.testing.assert_array_equal(own, asked[unit][1][n][tag])
        assert made.tag(vectors(6), "macro", unit=units, given=given) == rows
    for of_clip, of_window in zip(asked["clips"][0], asked["grid"][0], strict=True):
        assert of_clip["step"][0] == of_window["step"][0] and of_clip["step"][1] < of_window["step"][1]


def test_units_that_do_not_fit_the_vectors_are_refused():
    with pytest.raises(ModelError, match="got 3 vectors and 2 units"):
        model().tag(vectors(3), "macro", unit=["clips", "grid"])
    with pytest.raises(ModelError, match=r"\(frames, grid\); expected one of clips, grid per vector"):
        model().tag(vectors(2), "macro", unit=["frames", "grid"])


def test_a_model_with_one_temperature_per_tag_answers_both_units_with_it_and_keeps_its_digest(tmp_path):
    made = model(temperatures={"step": 2.5})
    made.save(str(tmp_path))
    before = made.digest
    stated = json.loads((tmp_path / "model.json").read_text())
    del stated["config"]["clip_temperatures"]  # as models were saved before units had temperatures
    (tmp_path / "model.json").write_text(json.dumps(stated))
    older = Halsted.load(str(tmp_path))
    assert older.digest == before == read_stated_model(str(tmp_path)).digest
    both = [older.tag(vectors(4), "macro", unit=unit) for unit in ("clips", "grid")]
    assert both[0] == both[1] != model().tag(vectors(4), "macro", unit="grid")


def test_a_model_that_shipped_before_units_had_temperatures_keeps_the_digest_that_maps_name():
    stated = read_stated_model("phantom")
    assert stated.config.clip_temperatures == {} and stated.config.pooling == "mean"
    assert stated.digest == "ad0a26aaee598a1b", "as versions without these two fields gave it"


def test_temperatures_of_clips_are_saved_and_change_the_digest(tmp_path):
    made = model(**CLIPS_UNSURE)
    plain = model(temperatures=CLIPS_UNSURE["temperatures"])
    assert made.digest != plain.digest
    made.save(str(tmp_path))
    again = Halsted.load(str(tmp_path))
    assert again.config == made.config and again.digest == made.digest
    assert again.tag(vectors(4), "macro", unit="clips") == made.tag(vectors(4), "macro", unit="clips")


@pytest.fixture(scope="module")
def mixed():
    """Samples of step: of windows of the grid, which hold what the model says of them, and of clips, which do not."""
    made = model()
    names = made.taxonomy.tag("step").categories
    labelled, stored = {}, {}
    for video in range(12):
        rows, own = [], {}
        for n in range(8):
            kind = "clip" if n % 2 else "coarse"
            window = Window(kind, 30.0 * n, 30.0 * n + (7.0 if n % 2 else 30.0))
            own[kind, window.start_s, window.stop_s] = vector_D = vectors(1, 100 * video + n)[0]
            said = made.tag(vector_D[None], "macro", unit="grid")[0]["step"][0]
            step = names[(names.index(said) + video) % len(names)] if n % 2 else said
            rows.append(LabelledWindow(window, "macro", (("step", step),), 1.0, True))
        labelled[f"{video:016x}"], stored[f"{video:016x}"] = rows, own
    return build_samples(labelled, stored, made.vocabulary)


def test_training_fits_clips_and_windows_of_the_grid_apart(mixed):
    made = model()
    assert mixed.units(np.arange(4)) == ["grid", "clips", "grid", "clips"]
    calibrate(made, mixed)
    assert made.config.clip_temperatures["step"] > 2 * made.config.temperatures["step"]


def test_an_evaluation_asks_clips_as_clips_and_windows_as_windows(mixed):
    made, kind_S = model(**CLIPS_UNSURE), np.where(np.arange(len(mixed)) % 2, "clip", "coarse")
    (found,) = predict(made, mixed, tag_targets(mixed, mixed, made.taxonomy, 0, kind_S, np.full(len(mixed), "")))
    for unit, kind in (("clips", "clip"), ("grid", "coarse")):
        rows = np.flatnonzero(found.targets.kind_N == kind)
        embeddings_ND = mixed.embeddings_WD[mixed.window_S[found.targets.row_N[rows]]]
        expected = [row["step"][1] for row in made.tag(embeddings_ND, "macro", unit=unit)]
        assert len(rows) == 48 and found.confidence_N[rows].tolist() == expected
    assert found.confidence_N[1::2].mean() < found.confidence_N[::2].mean() - 0.2


@pytest.fixture(scope="module")
def unsure_of_clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "m"
    save_model(folder, 0)
    made = Halsted.load(str(folder))
    made.configure(temperatures=dict.fromkeys(("specialty", "step"), 1.0), clip_temperatures={"specialty": 1000.0})
    made.save(str(folder))
    return str(folder), write_video(tmp_path_factory.mktemp("video") / "v.mp4", 6.0)


EVEN = pytest.approx(1 / 8, abs=0.01)
"""The confidence of a specialty at a temperature of 1000: one of eight."""


def test_a_clip_over_http_is_asked_as_a_clip(unsure_of_clips):
    folder, video = unsure_of_clips
    tagger = ClipTagger(model_source(folder), decoders=1)
    answer = tagger.answer([tagger.read(str(video), "map procedure type", 0, 5)])[0]
    tagger.close()
    (of_specialty,) = (tag for tag in answer["tags"] if tag["tag"] == "specialty")
    assert of_specialty["confidence"] == EVEN


def test_a_registered_model_asks_its_clips_as_clips(unsure_of_clips):
    folder, video = unsure_of_clips
    table = pd.DataFrame(
        {"uri": [str(video)], "start_s": [0.0], "stop_s": [5.0], "instruction": ["map procedure type"]}
    )
    answer = ClipPredictor(folder)(table).to_dict("records")[0]
    assert answer["error"] == "" and json.loads(answer["tags"])["specialty"]["confidence"] == EVEN
