"""Classifiers that have seen few clips: what is drawn, what is learned, the learned words, and clear errors."""

import json
from dataclasses import replace

import numpy as np
import pytest
import sklearn.linear_model
import torch
from test_contrast_run import captioned, labels, untrained  # noqa: F401  fixtures

from halsted_ray.cli import main
from halsted_ray.errors import ModelError, UsageError
from halsted_ray.evaluation.baselines import fit_logistic, logits
from halsted_ray.language.contrast_model import VideoTextConfig, VideoTextModel
from halsted_ray.language.few_shot import drawn, few_shot, linear_probe
from halsted_ray.language.learned_prompts import learned_prompts
from halsted_ray.language.prompts import LabelPrompts
from halsted_ray.language.text_encoder import load_text_encoder
from halsted_ray.language.zero_shot import LabelledClips

PROMPTS = LabelPrompts("micro", "action", {"Clip": ("a clip",), "Hook": ("a hook",), "Sponge": ("a sponge",)})


def clips_of(truth_NK):
    return LabelledClips([np.zeros((1, 1))] * len(truth_NK), truth_NK, ("a",) * len(truth_NK), 0)


def separable(count, seed, dim=8, noise=0.4):
    """(vectors, truth) of clips of three labels about three directions that every seed shares."""
    rng = np.random.default_rng(seed)
    truth_N = np.arange(count) % 3
    vectors_ND = np.eye(dim)[truth_N] + noise * rng.normal(size=(count, dim))
    unit_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return unit_ND.astype(np.float32), np.eye(3, dtype=bool)[truth_N]


def test_so_many_clips_of_each_label_are_drawn_and_of_a_rare_label_all():
    truth_NK = np.eye(3, dtype=bool)[[0] * 10 + [1] * 10 + [2] * 2]
    rows = drawn(truth_NK, 4, seed=1)
    assert truth_NK[rows].sum(0).tolist() == [4, 4, 2] and len(set(rows)) == len(rows)
    assert rows.tolist() == drawn(truth_NK, 4, seed=1).tolist() != drawn(truth_NK, 4, seed=2).tolist()
    assert len(drawn(truth_NK, None, seed=0)) == 22


def test_more_clips_are_better_and_a_draw_of_all_is_drawn_once():
    train_ND, train_NK = separable(90, 0)
    test_ND, test_NK = separable(60, 1)
    learn = linear_probe(test_ND, separable(30, 2))
    found = few_shot("linear", learn, train_ND, clips_of(train_NK), clips_of(test_NK), (1, 16, None), repeats=5)
    assert [(own.shots, own.clips, own.repeats) for own in found] == [(1, 3, 5), (16, 48, 5), (None, 90, 1)]
    assert found[0].score < found[1].score and found[2].score > 0.8
    assert found[0].deviation > 0 and found[2].deviation == 0
    assert found == few_shot("linear", learn, train_ND, clips_of(train_NK), clips_of(test_NK), (1, 16, None), 5)


def test_the_regression_is_that_of_scikit_learn():
    vectors_ND, truth_NK = separable(60, 0, noise=1.0)
    x, y = torch.from_numpy(vectors_ND), torch.from_numpy(truth_NK.argmax(1))
    penalty = 0.05
    found = logits(x, fit_logistic(x, y, torch.zeros(9, 3), penalty)).softmax(1).numpy()
    # Ours is the mean loss plus the penalty on the mean square of 8 x 3 weights; theirs C times the sum, plus half.
    strength = 1 / (len(y) * 2 * penalty / (8 * 3))
    theirs = sklearn.linear_model.LogisticRegression(C=strength, tol=1e-8, max_iter=1000).fit(vectors_ND, y.numpy())
    assert np.abs(found - theirs.predict_proba(vectors_ND)).max() < 1e-3


def test_a_label_without_a_clip_is_never_answered():
    train_ND, train_NK = separable(30, 0)
    seen = ~train_NK[:, 2]
    scores_NK = linear_probe(separable(12, 1)[0], None)(train_ND[seen], train_NK[seen], 0)
    assert np.isneginf(scores_NK[:, 2]).all() and np.isfinite(scores_NK[:, :2]).all()


def test_several_labels_per_clip_are_judged_by_average_precision():
    vectors_ND, truth_NK = separable(60, 0)
    truth_NK = truth_NK | np.roll(truth_NK, 1, axis=0)
    learn = linear_probe(vectors_ND, None, is_multi_label=True)
    clips = clips_of(truth_NK)
    (found,) = few_shot("linear", learn, vectors_ND, clips, clips, (None,), is_multi_label=True)
    assert truth_NK.mean() < found.score <= 1
    scores_NK = learn(vectors_ND[truth_NK[:, 0]], truth_NK[truth_NK[:, 0]], 0)
    assert np.isfinite(scores_NK[:, 0]).all(), "a label of all clips has no rest to tell it from"


@pytest.fixture(scope="module")
def texts():
    return load_text_encoder()


def model_of(texts, dim=8):
    torch.manual_seed(0)
    config = VideoTextConfig("tiny", "e" * 16, 6, texts.ref, texts.fingerprint, texts.width, dim=dim, hidden=16)
    return VideoTextModel(config).eval()


def test_words_of_the_vocabulary_as_context_are_the_words(texts):
    """Behind the embeddings of real words stands the same sentence as behind the words themselves."""
    ids = texts.tokenizer("the clip", add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    context_MW = texts.model.get_input_embeddings()(ids)
    found = texts.encode_behind(context_MW, ["is closed", "of a long vessel is closed"]).detach().numpy()
    expected = texts.encode(["the clip is closed", "the clip of a long vessel is closed"])
    assert np.abs(found - expected).max() < 1e-5
    assert np.isfinite(texts.encode_behind(context_MW, ["word " * 600]).detach().numpy()).all()


def test_learned_words_tell_labels_apart_and_nothing_else_is_changed(texts):
    model = model_of(texts)
    before = {name: weight.clone() for name, weight in [*model.named_parameters(), *texts.model.named_parameters()]}
    train_ND, train_NK = separable(9, 0)
    learn = learned_prompts(model, texts, PROMPTS, train_ND, steps=25)
    start = learned_prompts(model, texts, PROMPTS, train_ND, steps=0)(train_ND, train_NK, 0)
    scores_NK = learn(train_ND, train_NK, 0)

    def loss(scores):
        return float(torch.nn.functional.cross_entropy(torch.from_numpy(scores), torch.from_numpy(train_NK.argmax(1))))

    assert loss(scores_NK / model.temperature) < loss(start / model.temperature) - 0.1
    assert np.array_equal(scores_NK, learn(train_ND, train_NK, 0)), "the same seed, the same words"
    now = dict([*model.named_parameters(), *texts.model.named_parameters()])
    assert all(torch.equal(weight, now[name]) and now[name].requires_grad for name, weight in before.items())


def test_learned_words_want_one_label_and_the_models_text_encoder(texts):
    model = model_of(texts)
    with pytest.raises(UsageError, match="one label for each clip"):
        learned_prompts(model, texts, replace(PROMPTS, is_multi_label=True), np.zeros((1, 8), np.float32))
    other = VideoTextModel(replace(model.config, text_fingerprint="0" * 16))
    with pytest.raises(ModelError, match="got a text encoder with fingerprint"):
        learned_prompts(other, texts, PROMPTS, np.zeros((1, 8), np.float32))


@pytest.fixture
def fitting(captioned, texts):  # noqa: F811
    """An untrained model of the atlas's video encoder and of the shipped text encoder."""
    from halsted_ray.model.encoder_identity import encoder_identity

    identity = encoder_identity("tiny")
    torch.manual_seed(0)
    config = VideoTextConfig("tiny", identity.fingerprint, identity.dim, "", texts.fingerprint, texts.width)
    VideoTextModel(config).save(str(captioned / "model"))
    return str(captioned / "model")


def test_the_command_prints_a_row_for_each_number_of_shots(captioned, fitting, capsys):  # noqa: F811
    command = ["few-shot", fitting, "--atlas", str(captioned), "--labels", labels(captioned), "--repeats", "3"]
    assert main([*command, "--shots", "1,8,all"]) == 0
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    assert [line[:2] for line in lines if line[0] == "linear"] == [["linear", "1"], ["linear", "8"], ["linear", "all"]]
    assert "judged on 32 clips of 2 videos (test), learned from 6 videos (train), 3 draws" in printed
    assert max(map(len, printed.splitlines())) <= 100
    assert main([*command, "--shots", "8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (eight,) = found["few_shot"]
    assert eight["score"] > found["zero_shot"]["accuracy"] and eight["clips"] == 32 and eight["repeats"] == 3


@pytest.mark.parametrize("shots", ["0", "many", "1,1", "-2", ""])
def test_a_wrong_number_of_shots(captioned, fitting, capsys, shots):  # noqa: F811
    command = ["few-shot", fitting, "--atlas", str(captioned), "--labels", labels(captioned), "--shots", shots]
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2 and "--shots" in capsys.readouterr().err
