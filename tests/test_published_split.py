"""Evaluation on a data set's published split, with the figures of its literature."""

import math

import numpy as np
import pytest

from halsted_ray.atlas import add_samples, read_atlas
from halsted_ray.atlas.commits import Change
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
from halsted_ray.evaluation.frame_metrics import phase_metrics
from halsted_ray.evaluation.json_values import without_nan
from halsted_ray.evaluation.phase_figures import cholec80_neighbours, phase_tables
from halsted_ray.evaluation.published_split import PROTOCOLS, Protocol, published_splits, task_figures
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Video, WindowSpec
from halsted_ray.reporting.literature_section import literature_section
from halsted_ray.taxonomy import load
from halsted_ray.training.samples import training_windows

PHASES = load("cholec80").tag("phase").categories


def close(found, expected):
    return found == pytest.approx(expected, nan_ok=True)


def test_strict_figures_are_those_of_tecno():
    rng = np.random.default_rng(0)
    videos = [([int(k) for k in rng.integers(0, 4, 90)], [n // 30 for n in range(90)]) for _ in range(5)]
    figures, known = phase_tables(videos, range(4)).figures(), phase_metrics(videos, range(4))
    assert close(figures["accuracy"][0], known["accuracy"])
    for name in ("precision", "recall", "jaccard"):
        assert close(figures[name]["by_phase"][0], known[name]), name


def test_means_and_deviations_by_video_and_by_phase():
    videos = [("AAAB", "AABB"), ("AAAA", "AAAA")]  # recall: A 1, B .5; A 1, no B
    found = phase_tables(videos, "AB").figures()
    assert close(found["accuracy"], (0.875, math.sqrt(0.03125)))
    assert close(found["recall"]["by_video"], (0.875, math.sqrt(0.03125)))
    assert close(found["recall"]["by_phase"], (0.75, math.sqrt(0.125)))
    assert close(found["jaccard"]["by_video"][0], ((2 / 3 + 1 / 2) / 2 + 1) / 2)
    assert close(phase_tables([], "AB").figures()["accuracy"], (math.nan, math.nan))


def test_relaxed_figures_forgive_a_change_that_is_late_or_early_by_ten_seconds():
    truth = "A" * 30 + "B" * 30
    late, early = "A" * 38 + "B" * 22, "A" * 22 + "B" * 38
    for predicted in (late, early):
        strict, relaxed = (phase_tables([(predicted, truth)], "AB", frames) for frames in (0, 10))
        assert close(strict.accuracy_V, [52 / 60]) and close(relaxed.accuracy_V, [1.0])
        assert close(relaxed.jaccard_VP[0], [1.0, 1.0]) and close(relaxed.precision_VP[0], [1.0, 1.0])
    far = "A" * 45 + "B" * 15
    assert close(phase_tables([(far, truth)], "AB", 10).accuracy_V, [55 / 60])
    other = "A" * 30 + "C" * 5 + "B" * 25
    assert close(phase_tables([(other, truth)], "ABC", 10).accuracy_V, [55 / 60]), "C comes neither before nor after B"


def test_cholec80_forgives_the_phases_that_its_authors_forgive():
    near = cholec80_neighbours(PHASES)
    assert near[PHASES[0]] == (frozenset(), {PHASES[1]})
    assert near[PHASES[2]] == ({PHASES[1]}, {PHASES[3]})
    assert near[PHASES[3]] == ({PHASES[2]}, {PHASES[4], PHASES[5]})
    assert near[PHASES[6]] == ({PHASES[5], PHASES[4]}, frozenset())


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="1 predicted frames for 2"):
        phase_tables([("A", "AB")], "AB")


@pytest.fixture(scope="module")
def answers():
    """An untrained model of Cholec80, and a video of 61 s with its windows, their vectors and its annotations."""
    taxonomy = load("cholec80")
    model = Halsted.create(taxonomy, 16, width=16, heads=2, layers=1, seed=3)
    video = Video("v", "/v.mp4", 1, 61.0, 64, 64, 25.0, "h264")
    windows = {"v": [w for w in training_windows(61.0, WindowSpec()) if w.kind == "fine"]}
    rng = np.random.default_rng(1)
    vectors = {"v": {(w.kind, w.start_s, w.stop_s): rng.normal(size=16).astype(np.float16) for w in windows["v"]}}
    tags = {tag.name: "Present" if tag.name == "hook" else "Absent" for tag in taxonomy.task("tools").tags}
    clips = [Clip("v", 0.0, 20.4, "phase", {"phase": PHASES[0]}), Clip("v", 20.4, 50.0, "phase", {"phase": PHASES[1]})]
    clips += [Clip("v", 0.0, 30.0, "tools", tags), Clip("v", 30.0, 61.0, "tools", tags | {"grasper": "Present"})]
    return taxonomy, model, video, windows, vectors, {"v": clips}


def figures_of(answers, task, protocol, **other):
    taxonomy, model, video, windows, vectors, clips = answers
    return task_figures(
        taxonomy.task(task), [video], clips, windows, other.get("vectors", vectors), model, protocol, "cholec80"
    )


def test_every_second_has_the_answer_of_its_window(answers):
    taxonomy, model, _, windows, vectors, _ = answers
    found = figures_of(answers, "phase", Protocol())
    rows = model.tag(np.stack([vectors["v"][w.kind, w.start_s, w.stop_s] for w in windows["v"]]), "phase", unit="grid")
    truth = [PHASES[0]] * 21 + [PHASES[1]] * 29
    predicted = [rows[int(second // 2.5)]["phase"][0] for second in range(50)]
    assert (found["frames"], found["unanswered"]) == (50, 0)
    strict = found["phases"]["phase"]["strict"]
    assert close(strict["accuracy"][0], np.mean([p == t for p, t in zip(predicted, truth, strict=True)]))
    assert found["phases"]["phase"]["relaxed"]["accuracy"][0] >= strict["accuracy"][0]


def test_a_second_without_a_window_counts_as_wrong_and_is_counted(answers):
    vectors = answers[4]
    kept = {"v": {key: vector for key, vector in vectors["v"].items() if key[1] >= 10.0}}
    found = figures_of(answers, "phase", Protocol(), vectors=kept)
    assert (found["frames"], found["unanswered"]) == (50, 10)
    assert found["phases"]["phase"]["strict"]["accuracy"][0] <= 0.8


def test_tools_are_scored_as_labels_that_hold_at_once(answers):
    tools = figures_of(answers, "tools", Protocol())["tools"]
    assert set(tools["average_precision"]) == {tag.name for tag in load("cholec80").task("tools").tags}
    assert tools["average_precision"]["hook"] == 1.0, "every second has it"
    assert 0 < tools["average_precision"]["grasper"] <= 1 and math.isnan(tools["average_precision"]["clipper"])
    assert close(tools["map"], np.nanmean(list(tools["average_precision"].values())))


def test_sar_rarp50_is_judged_ten_times_a_second_by_its_own_score(answers):
    found = figures_of(answers, "phase", PROTOCOLS["sar_rarp50"])
    own = found["phases"]["phase"]
    assert found["frames"] == 500 and close(own["score"], math.sqrt(own["accuracy"][0] * own["f1_10"][0]))


def test_the_page_shows_the_literatures_figures_as_tables(answers):
    assert literature_section({}) == ""
    folds = [{task: figures_of(answers, task, Protocol()) for task in ("phase", "tools")}] * 2
    folds.append({"phase": figures_of(answers, "phase", PROTOCOLS["sar_rarp50"])})
    page = literature_section({"literature": without_nan({"step_s": 1.0, "window_s": 2.5, "folds": folds})})
    strict = folds[0]["phase"]["phases"]["phase"]["strict"]
    assert page.count("strict, by video") == 2 and "phase, fold 1" in page and "tools, fold 2" in page
    assert f"{100 * strict['accuracy'][0]:.1f}%" in page and f"{100 * strict['jaccard']['by_video'][0]:.1f}%" in page
    assert f"{100 * folds[0]['tools']['tools']['map']:.1f}%" in page
    assert f"{100 * folds[2]['phase']['phases']['phase']['score']:.1f}%" in page and "phase, fold 3" in page
    alone = literature_section({"literature": without_nan({"step_s": 1.0, "window_s": 2.5, "folds": folds[:1]})})
    assert "fold 1" not in alone and "nan" not in page


@pytest.fixture
def published(tmp_path):
    """Eight operations of two videos to learn from, and two to test on; no validation part."""
    videos = [Video(f"{n:016x}", f"/a/{n}.mp4", n + 1, 4.0, 8, 8, 25.0, "h264", f"g{n // 2}") for n in range(20)]
    clips = [Clip(video.video_id, 0.0, 4.0, "micro", {"action": "Cautery"}) for video in videos]
    split = {video.video_id: "test" if n >= 16 else "train" for n, video in enumerate(videos)}
    add_samples(str(tmp_path), clips, Change("a", "b"), videos=videos, split=split)
    return read_atlas(str(tmp_path))


def test_folds_obey_the_published_test_part_and_draw_validation_by_group(published):
    splits, how = published_splits(published, 3, 0)
    test = {video_id for video_id, part in published.split.items() if part == "test"}
    assert len(splits) == 3 and "published test part" in how
    for split in splits:
        assert {video_id for video_id, part in split.items() if part == "test"} == test
        assert list(split.values()).count("validation") == 4
        for group in range(10):
            assert len({split[f"{n:016x}"] for n in (2 * group, 2 * group + 1)}) == 1
    assert len({str(sorted(split.items())) for split in splits}) > 1
    own = dict(published.split) | {f"{0:016x}": "validation", f"{1:016x}": "validation"}
    object.__setattr__(published, "split", own)
    assert published_splits(published, 1, 0)[0] == [own], "one fold takes the part that the release has"


def test_a_release_without_a_test_part_has_no_published_split(published):
    object.__setattr__(published, "split", {v: "train" for v in published.split})
    with pytest.raises(AtlasError, match="0 annotated test videos.*leave --split published out"):
        published_splits(published, 1, 0)
    with pytest.raises(UsageError, match="another part is named too"):
        EvaluationPlan(published=True, part="validation")
