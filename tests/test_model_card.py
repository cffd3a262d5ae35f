"""The model card: what a model was taught and how well it does, for people and for programs."""

import json

import numpy as np
import pytest

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas import read_atlas, write_atlas
from halsted_ray.evaluation import model_card as cards
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import Clip, Video, Window
from halsted_ray.service.served_model import from_folder
from halsted_ray.training.samples import LabelledWindow, build_samples
from halsted_ray.training.train import TrainSummary

VIDEOS = [chr(ord("a") + n) * 16 for n in range(4)]
DIM = 16


@pytest.fixture
def atlas(tmp_path):
    videos = [Video(name, f"/videos/{name}.mp4", 1, 1800.0, 64, 36, 10.0, "h264") for name in VIDEOS]
    clips = []
    for n, name in enumerate(VIDEOS):
        operation = {"specialty": "Urology", "procedure": "Prostatectomy"}
        if n % 2:
            operation = {"specialty": "Bariatric", "procedure": "Gastric Bypass"}
        clips.append(Clip(name, 0.0, 30.0, "macro", operation | {"step": "Dissection"}, annotator="someone"))
        tags = {"action": "Tug", "arm": "Left", "instrument": "Shears"}
        clips.append(Clip(name, 0.0, 10.0, "micro", tags, source="ai" if n == 0 else "manual", annotator="someone"))
    write_atlas(str(tmp_path / "atlas"), videos, clips, "small", split=dict.fromkeys(VIDEOS, "train"))
    return read_atlas(str(tmp_path / "atlas"))


@pytest.fixture
def model():
    return Halsted.create(
        None, DIM, encoder_ref="tiny", layers=1, heads=2, version="7", learned_from={"train": VIDEOS[:2]}
    )


@pytest.fixture
def samples():
    tags = (("action", "Tug"), ("arm", "Left"), ("instrument", "Shears"))
    window = Window("fine", 0.0, 2.5)
    labelled = {name: [LabelledWindow(window, "micro", tags, 1.0, True)] for name in VIDEOS}
    rng = np.random.default_rng(0)
    vectors = {name: {("fine", 0.0, 2.5): rng.normal(size=DIM).astype(np.float16)} for name in VIDEOS}
    return build_samples(labelled, vectors, Vocabulary(taxonomies.load()))


@pytest.fixture
def summary():
    return TrainSummary(
        model="run/model",
        model_version="7",
        atlas_release="small",
        atlas_version=0,
        videos={"train": 2, "validation": 2},
        samples={"train": 8, "validation": 4},
        parameters=1234,
        epochs=1,
        best_epoch=0,
        accuracy_of_task={},
        accuracy_of_tag={},
        temperatures={},
        embed_s=0.0,
        train_s=0.0,
        curve=[],
    )


def test_the_card_says_what_was_taught_and_by_whom(model, summary, atlas, samples):
    card = cards.model_card(model, summary, atlas, samples)
    assert card["atlas"]["release"] == "small" and card["atlas"]["videos"] == {"train": 2, "validation": 2}
    assert card["atlas"]["video_hours"] == pytest.approx(1.0), "of the two videos that it learned from"
    assert card["atlas"]["clips"] == {"macro": 2, "micro": 2}
    assert (
        card["atlas"]["annotated_by"] == {"manual": 0.75, "ai": 0.25, "synthetic": 0.0}
        and card["atlas"]["annotators"] == 1
    )
    assert "72,201 labelled clips" in card["encoder"]["taught"]
    assert card["use"] == cards.USE and "Not a medical device" in card["use"]
    json.dumps(card, allow_nan=False)


def test_figures_are_exact_matches_by_tag_and_procedure(model, atlas, samples, monkeypatch):
    def answer(_vectors, tasks, *, unit):
        assert len(unit) == len(tasks), "each sample is asked as what it is"
        right = {"action": ("Tug", 0.9), "arm": ("Left", 0.9), "instrument": ("Shears", 0.9)}
        return [right | ({"arm": ("Both", 0.9)} if n % 2 else {}) for n in range(len(tasks))]

    monkeypatch.setattr(model, "tag", answer)
    figures = cards.validation_figures(model, samples, cards.operation_of_video(atlas.clips))
    assert figures["by_tag"]["action"] == {"accuracy": 1.0, "interval": [1.0, 1.0], "samples": 4, "videos": 4}
    assert figures["by_tag"]["arm"]["accuracy"] == 0.5 and figures["by_tag"]["arm"]["interval"] == [0.0, 1.0]
    assert figures["by_procedure"]["Prostatectomy"]["accuracy"] == 1.0
    assert figures["by_procedure"]["Gastric Bypass"]["accuracy"] == pytest.approx(2 / 3)


def test_another_encoders_teaching_is_said_to_be_unknown(model, summary, atlas, samples):
    model.configure(encoder_ref="s3://hospital/encoders/giant")
    card = cards.model_card(model, summary, atlas, samples)
    assert card["encoder"]["name"] == "giant", "no place of a hospital stands in a card"
    assert "not known here" in card["encoder"]["taught"]
    assert "hospital/encoders" not in json.dumps(card) + cards.card_text(card)


def test_the_text_holds_the_figures_and_the_threshold(model, summary, atlas, samples):
    card = cards.model_card(model, summary, atlas, samples)
    text = cards.card_text(card)
    assert text.startswith("# Model halsted, version 7\n\n**Research")
    assert "| action | " in text and "| Prostatectomy | " in text and "75.0% of the clips" in text
    assert "no threshold for what it has not learned" in cards.card_text(card | {"unknown": None})
    assert "threshold 3.2" in cards.card_text(card | {"unknown": {"rate": 0.01, "threshold": 3.2}})


def test_the_card_says_at_which_task_training_learned_nothing(model, summary, atlas, samples):
    assert "no better than" not in cards.card_text(cards.model_card(model, summary, atlas, samples))
    model.configure(verdict="no better than always answering the commonest category: macro 0.300")
    card = cards.model_card(model, summary, atlas, samples)
    assert card["verdict"] == model.config.verdict
    assert "**No better than always answering the commonest category: macro 0.300.**" in cards.card_text(card)
    del card["verdict"]  # a card of an earlier version
    assert "no better than" not in cards.card_text(card).lower()


def test_a_service_shows_the_card_of_the_model_it_serves(model, summary, atlas, samples, tmp_path):
    model.save(str(tmp_path / "model"))
    text = cards.card_text(cards.model_card(model, summary, atlas, samples))
    (tmp_path / "model" / cards.CARD).write_text(text, encoding="utf-8")
    assert from_folder(str(tmp_path / "model")).described()["card"] == text
