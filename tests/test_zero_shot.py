"""Labels by sentences: the file, the figures, and clear errors."""

from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics

from halsted_ray import taxonomy
from halsted_ray.errors import ModelError, TaxonomyError, UsageError
from halsted_ray.language.contrast_model import VideoTextConfig, VideoTextModel
from halsted_ray.language.keywords import fused_scores, keyword_scores, mean_ranks
from halsted_ray.language.prompts import read_prompts
from halsted_ray.language.retrieval import recall
from halsted_ray.language.zero_shot import LabelledClips, figures_of, macro_f1, truth_of
from halsted_ray.records import Clip

TERMS = taxonomy.load()
FILE = """
tag: action
templates: ["{}", "The video shows this: {}."]
labels:
  Clip: [a clip is placed, the vessel is clipped]
  retraction: the organ is held aside
"""


class Words:
    """Stands for a text encoder in tests of what is done with its vectors."""

    fingerprint = "f" * 16
    width = 4

    def encode(self, texts):
        return np.stack([np.random.default_rng(sum(map(ord, text))).normal(size=4) for text in texts])


def written(tmp_path, text):
    (tmp_path / "labels.yaml").write_text(text)
    return str(tmp_path / "labels.yaml")


def test_a_file_of_labels(tmp_path):
    prompts = read_prompts(written(tmp_path, FILE), TERMS)
    assert (prompts.task, prompts.tag, prompts.labels) == ("micro", "action", ("Clip", "Retraction"))
    assert prompts.sentences["Clip"] == (
        "a clip is placed",
        "The video shows this: a clip is placed.",
        "the vessel is clipped",
        "The video shows this: the vessel is clipped.",
    )


def test_a_label_is_the_mean_of_its_sentences(tmp_path):
    prompts = read_prompts(written(tmp_path, FILE), TERMS)
    model = VideoTextModel(VideoTextConfig("tiny", "e" * 16, 6, "", "f" * 16, 4, dim=3, hidden=5)).eval()
    found = prompts.vectors(model, Words())
    each = model.embed_text(Words().encode(prompts.sentences["Clip"]))
    assert np.allclose(found[0], each.mean(0) / np.linalg.norm(each.mean(0)), atol=1e-6)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    other = Words()
    other.fingerprint = "0" * 16
    with pytest.raises(ModelError, match="got a text encoder with fingerprint 0000"):
        prompts.vectors(model, other)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", UsageError, "names no label; expected tag"),
        ("tag: action\nlabels: {}", UsageError, "names no label; expected tag"),
        ("tag: action\nlabels: {Clip: x}", UsageError, "names one label; expected two or more"),
        ("labels: {Clip: x, Hook: y}", UsageError, "has another layout; expected tag"),
        ("tag: action\nlabels: {Clip: [], Hook: y}", UsageError, "label 'Clip': got .*; expected a sentence"),
        ("tag: action\nlabels: {Clipp: x, Hook: y}", TaxonomyError, "Clip"),
        ("tag: acton\nlabels: {Clip: x, Hook: y}", TaxonomyError, "action"),
        ("tag: action\ntemplates: [no place]\nlabels: {Clip: x, Hook: y}", UsageError, "expected one {} where"),
        ("tag: [", UsageError, "is not YAML"),
    ],
)
def test_a_wrong_file_of_labels(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        read_prompts(written(tmp_path, text), TERMS)


def test_a_missing_file_of_labels(tmp_path):
    with pytest.raises(UsageError, match="can't be read"):
        read_prompts(str(tmp_path / "nothing.yaml"), TERMS)


def test_joined_categories_hold_several_labels(tmp_path):
    text = "tag: instrument\nmulti_label: true\nlabels: {Bipolar Grasper: x, Cadiere Forceps: y, Scissors: z}"
    prompts = read_prompts(written(tmp_path, text), TERMS)
    clip = Clip("v" * 16, 0.0, 1.0, "micro", {"instrument": "Cadiere Forceps–Bipolar Grasper"})
    assert truth_of(clip, prompts) == [True, True, False]
    assert truth_of(clip, replace(prompts, is_multi_label=False)) == [False, False, False]


def test_the_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth_N, scores_NK = rng.integers(5, size=200), rng.normal(size=(200, 6))
    scores_NK[np.arange(200), truth_N] += 1
    found_N = scores_NK.argmax(1)
    expected = sklearn.metrics.f1_score(truth_N, found_N, labels=np.unique(truth_N), average="macro")
    assert macro_f1(truth_N, found_N) == pytest.approx(expected)
    clips = LabelledClips([np.zeros((1, 1))] * 200, np.eye(6, dtype=bool)[truth_N], ("a",) * 200, 3)
    one = figures_of(scores_NK, clips, multi=False)
    assert one.accuracy == pytest.approx(sklearn.metrics.accuracy_score(truth_N, found_N))
    assert (one.chance, one.left_out, one.map) == (1 / 6, 3, None)
    several_NK = rng.random((200, 6)) < 0.3
    several = figures_of(scores_NK, replace(clips, truth_NK=several_NK), multi=True)
    assert several.map == pytest.approx(sklearn.metrics.average_precision_score(several_NK, scores_NK, average="macro"))
    assert several.chance == pytest.approx(several_NK.mean()) and several.accuracy is None


def test_recall_counts_moments_and_halves_ties():
    scores = np.array([[9, 0, 0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7], [0] * 8], float)
    found = recall(scores, np.array([0, 1, 2]))
    assert found.recall_at_5 == pytest.approx((1 + 0 + 5 / 8) / 3)  # a search that knows nothing has chance
    assert (found.chance, found.queries, found.moments, found.median_rank) == (5 / 8, 3, 8, 4.5)


def test_two_orders_are_one_by_their_ranks():
    assert mean_ranks(np.array([[0.5, 2.0, 0.5, -1.0]])).tolist() == [[2.5, 1.0, 2.5, 4.0]]
    first, second = np.array([[3.0, 2.0, 1.0]]), np.array([[0.0, 9.0, 1.0]])
    assert fused_scores(first, second).tolist() == [[1 / 61 + 1 / 63, 1 / 62 + 1 / 61, 1 / 63 + 1 / 62]]
    assert fused_scores(first, np.zeros((1, 3))).argsort().tolist() == first.argsort().tolist(), "no words, no change"


def test_keywords_find_words_and_their_stems():
    scores = keyword_scores(["Clipping of the duct", "", 'a "quoted) OR'], ["clip applier", "duct stapled", "suction"])
    assert scores[0, 0] > 0 and scores[0, 1] > 0 and scores[0, 2] == 0
    assert not scores[1].any() and not scores[2].any()
