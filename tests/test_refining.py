"""Whole videos: chains and networks over slots, and the tags that are stated once for an operation."""

import numpy as np
import pytest
import torch

from halsted_ray.errors import AtlasError, ModelError
from halsted_ray.mapping.whole_video import Refiner, WholeVideo
from halsted_ray.maps.staging import SegmentResult
from halsted_ray.maps.timeline import Gap, Unasked
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Prediction, Segment
from halsted_ray.refining import learn
from halsted_ray.refining.label_chain import LabelChain
from halsted_ray.refining.operation import operation_tags
from halsted_ray.refining.refinement import Refinement, refined_tags
from halsted_ray.refining.slots import SLOTS, UNKNOWN, on_slots, runs_of, sequence_of, truth_of
from halsted_ray.taxonomy import from_dict, load
from halsted_ray.taxonomy.parsing import from_yaml

TAXONOMY = from_dict(
    {
        "name": "small",
        "tasks": [
            {
                "name": "macro",
                "instruction": "map",
                "window": "fine",
                "tags": [{"name": "step", "categories": ["Cut", "Sew"]}],
            }
        ],
    },
    "small",
)
DIM = 8


def vectors(labels, fine_s=2.5):
    """One vector per window, that of its label, with a little noise."""
    drawn = np.random.default_rng(0)
    kinds = np.eye(2, DIM) * 4
    return {
        ("fine", n * fine_s, (n + 1) * fine_s): (kinds[label] + 0.1 * drawn.standard_normal(DIM)).astype(np.float16)
        for n, label in enumerate(labels)
        if label >= 0
    }


@pytest.fixture
def model(monkeypatch):
    """A decoder that reads the label off the vector, but for a flicker."""
    made = Halsted.create(TAXONOMY, DIM, width=DIM, heads=2, layers=1)

    def tag(vectors_ND, task, *, unit, return_probabilities):
        assert unit == "grid"
        sewing = 0.5 + 0.45 * np.sign(vectors_ND[:, 1].astype(float) - vectors_ND[:, 0])
        return [], [{"step": np.array([1 - p, p])} for p in sewing]

    monkeypatch.setattr(made, "tag", tag)
    return made


@pytest.fixture
def refinement(model, monkeypatch):
    monkeypatch.setattr(learn, "STEPS", 5)
    of_video = vectors([0] * 12 + [1] * 12)
    clips = [Clip("a", 0, 30, "macro", {"step": "Cut"}), Clip("a", 30, 60, "macro", {"step": "Sew"})]
    known = learn.annotated_sequences(model, {"a": of_video}, clips)
    return learn.learn_refinement(model, known, known)


def test_a_flicker_is_smoothed_away(model, refinement):
    labels = [0] * 12 + [1] + [0] * 5 + [1] * 12
    found = refinement.refine(model, sequence_of(vectors(labels), 2.5), ["macro"], "viterbi")
    assert [tag.category for tag in found] == ["Cut", "Sew"]
    assert found[0].stop_s == found[1].start_s == pytest.approx(45, abs=0.5)
    assert all(0.5 <= tag.confidence <= 1 for tag in found)


def test_an_edge_lies_where_the_shares_of_its_window_put_it():
    shares = on_slots(np.array([[1.0, 0.0], [0.8, 0.2], [0.0, 1.0]]), np.ones(3, bool))
    first = int((shares[:, 1] > 0.5).argmax()) * 0.5
    assert first == pytest.approx(2.5 + 0.8 * 2.5, abs=0.5)


def test_a_hole_takes_no_tag_and_lends_no_evidence(model, refinement):
    labels = [0] * 8 + [UNKNOWN] * 4 + [1] * 8
    sequence = sequence_of(vectors(labels), 2.5)
    found = refinement.refine(model, sequence, ["macro"], "tcn")
    assert not any(tag.start_s < 30 and tag.stop_s > 20 for tag in found)
    assert not sequence.present_T[8 * SLOTS : 12 * SLOTS].any()
    assert (on_slots(np.ones((20, 2)), sequence.present_W)[8 * SLOTS : 12 * SLOTS] == 0).all()


def test_a_chain_learns_durations_and_what_follows():
    truth = np.repeat([0, 1, 2, 0, 1, 2], 20)
    chain = LabelChain.learn([truth], 3, 2)
    step = np.exp(chain.log_step_KK)
    assert np.allclose(step.sum(1), 1)
    assert np.allclose(np.diag(step), 1 - 1 / 20)
    assert step[0, 1] > step[0, 2] and step[1, 2] > step[1, 0]
    path, posterior = chain.decode(np.zeros((7, 3)))
    assert len(path) == 7 and np.allclose(posterior.sum(1), 1)


def test_a_chain_agrees_with_trying_every_sequence():
    from itertools import product

    drawn = np.random.default_rng(1)
    chain = LabelChain.learn([drawn.integers(3, size=40)], 3, 0)
    evidence = drawn.standard_normal((5, 3))
    scores = {}
    for path in product(range(3), repeat=5):
        total = chain.log_start_K[path[0]] + sum(evidence[t, k] for t, k in enumerate(path))
        scores[path] = total + sum(chain.log_step_KK[a, b] for a, b in zip(path, path[1:], strict=False))
    path, posterior = chain.decode(evidence)
    assert tuple(path) == max(scores, key=scores.get)
    weights = np.exp(np.array(list(scores.values())))
    by_hand = [[sum(w for p, w in zip(scores, weights, strict=True) if p[t] == k) for k in range(3)] for t in range(5)]
    assert np.allclose(posterior, np.array(by_hand) / weights.sum())


def test_truth_is_unknown_where_no_clip_lies():
    sequence = sequence_of(vectors([0] * 4), 2.5)
    truth = truth_of([Clip("a", 2.5, 5, "macro", {"step": "Sew"})], TAXONOMY, sequence)["step"]
    assert runs_of(truth) == [(UNKNOWN, 0, 5), (1, 5, 10), (UNKNOWN, 10, 20)]


def test_a_refinement_lies_beside_its_model_and_knows_it(tmp_path, refinement, model):
    model.save(str(tmp_path))
    refinement.save(str(tmp_path))
    again = Refinement.load(str(tmp_path))
    sequence = sequence_of(vectors([0] * 6 + [1] * 6), 2.5)
    assert again.refine(model, sequence, ["macro"], "tcn") == refinement.refine(model, sequence, ["macro"], "tcn")
    (tmp_path / "refinement.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match="not the file that model.json states"):
        Refinement.load(str(tmp_path))


def test_an_older_model_has_no_refinement_and_says_so(tmp_path, model):
    model.save(str(tmp_path))
    with pytest.raises(ModelError, match="has no refinement: expected refinement.safetensors .*--refine"):
        Refinement.load(str(tmp_path))


def test_nothing_is_learned_of_clips_alone(model):
    clips = [Clip("a", 0, 2.5, "macro", {"step": "Cut"})]
    sparse = learn.annotated_sequences(model, {"a": vectors([0] + [UNKNOWN] * 9 + [0])}, clips)
    assert not sparse
    with pytest.raises(AtlasError, match="no whole annotated video"):
        learn.learn_refinement(model, sparse, [])


def test_the_network_leaves_torchs_seed_alone(model):
    clips = [Clip("a", 0, 25, "macro", {"step": "Cut"})]
    known = learn.annotated_sequences(model, {"a": vectors([0] * 10)}, clips)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learn, "STEPS", 2)
        learn.train_network(model, known, refined_tags(TAXONOMY), 0)
    assert torch.equal(torch.rand(1), expected)


HALSTED = load()


def answer(start_s, specialty, procedure, confidence=0.9, of_procedure=0.9):
    at = start_s, start_s + 30
    return [
        Prediction(*at, "macro", "specialty", specialty, confidence),
        Prediction(*at, "macro", "procedure", procedure, of_procedure),
    ]


def test_an_operation_has_one_specialty_however_its_windows_waver():
    tags = answer(0, "General", "Laparoscopic Cholecystectomy") + answer(30, "Cardiac", "IMA Harvest", 0.6, 0.4)
    tags += answer(60, "General", "Laparoscopic Cholecystectomy")
    specialty, procedure = operation_tags(HALSTED, tags)
    assert (specialty.category, procedure.category) == ("General", "Laparoscopic Cholecystectomy")
    assert specialty.windows == 3 and specialty.share == pytest.approx(2 / 3, abs=1e-4)
    assert 0 < specialty.margin <= specialty.confidence <= 1


@pytest.mark.parametrize("seed", range(20))
def test_an_operations_confidence_is_never_below_chance_and_its_pair_is_allowed(seed):
    drawn = np.random.default_rng(seed)
    tags = []
    for n in range(drawn.integers(1, 6)):
        specialty = str(drawn.choice(HALSTED.tag("specialty").categories))
        procedure = str(drawn.choice(HALSTED.allowed("procedure", {"specialty": specialty})))
        tags += answer(30.0 * n, specialty, procedure, *drawn.uniform(0.1, 1, 2))
    specialty, procedure = operation_tags(HALSTED, tags)
    assert procedure.category in HALSTED.allowed("procedure", {"specialty": specialty.category})
    assert specialty.confidence >= 1 / 8 and procedure.confidence >= 1 / 16


def test_more_windows_that_agree_count_as_two_at_most():
    few = operation_tags(HALSTED, [tag for n in range(2) for tag in answer(30.0 * n, "Urology", "Prostatectomy", 0.5)])
    many = operation_tags(
        HALSTED, [tag for n in range(200) for tag in answer(30.0 * n, "Urology", "Prostatectomy", 0.5)]
    )
    assert few[0].confidence < many[0].confidence < 0.999


def test_windows_that_do_not_know_do_not_vote():
    tags = answer(0, "unknown", "unknown") + answer(30, "Urology", "Prostatectomy")
    specialty, procedure = operation_tags(HALSTED, tags)
    assert specialty.windows == procedure.windows == 1
    assert operation_tags(HALSTED, answer(0, "unknown", "unknown")) == []


def result(start_s, tags, gaps=(), unasked=()):
    segment = Segment(f"s{start_s}", "v", "", start_s, start_s + 60, 120.0)
    return SegmentResult(segment, tags, list(gaps), "run", unasked=list(unasked))


class Stored:
    """A store that holds the vectors of one video."""

    def __init__(self, of_video):
        self.of_video = of_video

    def get(self, video_id, start_s, stop_s):
        return self.of_video


def test_a_video_gets_one_row_per_tag_of_the_operation_over_its_gaps_too():
    gap = Gap(60.0, 120.0, "corrupt", "no packet")
    whole = WholeVideo(HALSTED, ["macro"], Stored({}))
    rows = whole([result(0.0, answer(0, "Urology", "Prostatectomy")), result(60.0, [], [gap])])
    of_tag = {row.tag: row for row in rows}
    assert [row.tag for row in rows].count("specialty") == 1
    assert (of_tag["specialty"].start_s, of_tag["specialty"].stop_s, of_tag["specialty"].windows) == (0.0, 120.0, 1)
    assert of_tag["gap"].windows is None


def test_a_tag_that_smoothing_makes_worse_on_validation_videos_keeps_the_answers_of_its_windows(model, monkeypatch):
    """The chain learns long spans; in the validation video each window differs from the last."""
    monkeypatch.setattr(learn, "STEPS", 5)
    slow = [Clip("a", 0, 30, "macro", {"step": "Cut"}), Clip("a", 30, 60, "macro", {"step": "Sew"})]
    fast = [Clip("b", n * 2.5, n * 2.5 + 2.5, "macro", {"step": "Sew" if n % 2 else "Cut"}) for n in range(24)]
    train = learn.annotated_sequences(model, {"a": vectors([0] * 12 + [1] * 12)}, slow)
    validation = learn.annotated_sequences(model, {"b": vectors([0, 1] * 12)}, fast)
    learned = learn.learn_refinement(model, train, validation)
    assert learned.stated == {"viterbi": (), "tcn": ()} and learned.tags == ("step",)
    tags = [Prediction(n * 2.5, n * 2.5 + 2.5, "macro", "step", "Sew" if n % 2 else "Cut", 0.9) for n in range(48)]
    whole = WholeVideo(TAXONOMY, ["macro"], Stored(vectors([0, 1] * 24)), Refiner(model, learned, "viterbi"))
    rows = whole([result(0.0, tags[:24]), result(60.0, tags[24:])])
    assert len(rows) == 48 and {row.confidence for row in rows} == {0.9}
    assert learn.learn_refinement(model, train, train).stated["viterbi"] == ("step",)


def test_refined_rows_stand_where_vectors_are_and_answers_stand_elsewhere(model, refinement):
    stored = vectors([0] * 24)  # the first minute alone
    tags = [Prediction(n * 2.5, n * 2.5 + 2.5, "macro", "step", "Sew" if n % 7 == 0 else "Cut", 0.6) for n in range(48)]
    whole = WholeVideo(TAXONOMY, ["macro"], Stored(stored), Refiner(model, refinement, "viterbi"))
    rows = whole([result(0.0, tags[:24]), result(60.0, tags[24:])])
    assert (rows[0].category, rows[0].start_s, rows[0].stop_s) == ("Cut", 0.0, 70.0)  # the first Sew past the vectors
    assert [row.category for row in rows[1:]] == ["Sew", "Cut"] * 3
    assert rows[-1].stop_s == 120.0


def test_what_the_model_does_not_know_stays_unknown_when_refined(model, refinement):
    tags = [Prediction(n * 2.5, n * 2.5 + 2.5, "macro", "step", "Cut", 0.9) for n in range(48)]
    del tags[10]
    unknown = Unasked("macro", 25.0, 27.5, "unknown")
    whole = WholeVideo(TAXONOMY, ["macro"], Stored(vectors([0] * 48)), Refiner(model, refinement, "viterbi"))
    rows = whole([result(0.0, tags[:23], unasked=[unknown]), result(60.0, tags[23:])])
    assert [(row.category, row.start_s, row.stop_s) for row in rows] == [
        ("Cut", 0.0, 25.0),
        ("unknown", 25.0, 27.5),
        ("Cut", 27.5, 120.0),
    ]


def test_a_taxonomy_says_which_tags_are_of_the_operation_and_its_digest_does_not():
    assert [tag.name for tag in HALSTED.tags if tag.per == "operation"] == ["specialty", "procedure"]
    stated = HALSTED.to_dict()
    assert from_dict(stated, "again") == HALSTED
    for task in stated["tasks"]:
        for tag in task["tags"]:
            tag.pop("per", None)
    older = from_dict(stated, "older")
    assert older.digest == HALSTED.digest
    assert all(tag.per == "window" for tag in older.tags)


def test_an_unknown_span_of_a_tag_is_refused_with_its_line():
    text = "name: a\ntasks:\n- {name: b, instruction: c, window: fine, tags: [{name: d, per: day, categories: [e]}]}\n"
    with pytest.raises(Exception, match="'day'.*window or operation"):
        from_yaml(text, "a.yaml")


def test_a_forced_procedure_is_stated_with_its_share_of_what_the_specialty_allows(monkeypatch):
    """The vector speaks for a cholecystectomy, the specialty is Cardiac: three procedures are left to choose from."""
    from halsted_ray.model import halsted
    from halsted_ray.model.generation import Generated

    made = Halsted.create(HALSTED, DIM, width=DIM, heads=2, layers=1)
    procedures = HALSTED.tag("procedure").categories
    chosen = torch.tensor([[1, procedures.index("IMA Harvest"), 0]])
    logits = torch.full((1, 3, made.grammars["grid"].categories), -torch.inf)
    logits[0, 0, :8], logits[0, 1, :16], logits[0, 2, :2] = 0.0, -6.0, 0.0
    logits[0, 0, 1] = 5.0
    logits[0, 1, procedures.index("Laparoscopic Cholecystectomy")] = 6.0
    monkeypatch.setattr(halsted, "generate", lambda *arguments, **options: Generated(chosen, logits))
    rows, shares = made.tag(np.zeros((1, DIM), np.float32), "macro", return_probabilities=True, unit="grid")
    assert rows[0]["procedure"] == ("IMA Harvest", pytest.approx(1 / 3, abs=1e-4))
    assert shares[0]["procedure"][procedures.index("IMA Harvest")] == rows[0]["procedure"][1]
    _, shares = made.tag(np.zeros((1, DIM), np.float32), "macro", return_probabilities=True, given=[{}], unit="grid")
    assert shares[0]["procedure"][procedures.index("IMA Harvest")] < 0.01  # of all procedures, as AUROC wants them
