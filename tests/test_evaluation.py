"""Evaluation of an archive whose vectors tell the truth: no video is decoded, everything else is real."""

import json
import shutil
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from halsted_ray.atlas import read_atlas, write_atlas
from halsted_ray.cli import main
from halsted_ray.cli.evaluation_table import methods_table
from halsted_ray.cli.text_tables import accuracy_table
from halsted_ray.compute.cluster import connected
from halsted_ray.errors import AtlasError, OutputError, TrainingError, UsageError
from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
from halsted_ray.evaluation.map_accuracy import score_timeline
from halsted_ray.evaluation.model_comparison import compare_folds, compare_models
from halsted_ray.evaluation.predictions import REFERENCE, TagPredictions, TagTargets
from halsted_ray.evaluation.run_evaluation import evaluate
from halsted_ray.evaluation.sais import LabelledVectors, SaisRecipe, fit_sais
from halsted_ray.evaluation.scoring import score_predictions
from halsted_ray.mapping.workflow import Workflow
from halsted_ray.maps.timeline import merge
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Segment, Video, WindowSpec
from halsted_ray.reporting.evaluation_page import evaluation_page, write_evaluation
from halsted_ray.reporting.evaluation_plots import map_plot
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.taxonomy import load
from halsted_ray.training.atlas_samples import unique_windows
from halsted_ray.training.clip_samples import clip_windows
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.samples import training_windows

HALSTED = load()
ENCODER = Encoder.load("random:tiny:0")
SPEC = WindowSpec(coarse_s=10.0, fine_s=2.5)
PROCEDURES = {"Prostatectomy": "Urology", "Hysterectomy": "Gynecology"}
RECIPE = Recipe(
    epochs=30,
    batch_size=64,
    learning_rate=1e-2,
    width=32,
    heads=2,
    layers=1,
    feedforward=32,
    warmup_epochs=1,
    validate_every=6,
    units=("clips", "grid"),
)
SAIS = SaisRecipe(layers=1, epochs=2, prototype_dim=16)
DURATION_S = 60.0
READ_ONLY = "/proc/self"
"""A folder that is there, and where nobody, root neither, can write."""


def archive_at(root, videos=8, split=None, seed=0):
    """Videos of two procedures: dissection in [0, 30), suturing in [30, 60). A model labelled the odd videos."""
    rng, directions = np.random.default_rng(seed), np.random.default_rng(99)
    of_category = {(tag.name, c): directions.normal(size=ENCODER.dim) for tag in HALSTED.tags for c in tag.categories}
    rows, clips = [], []
    for n in range(videos):
        name = f"{seed:08x}{n:08x}"
        procedure = list(PROCEDURES)[n % 2]
        rows.append(Video(name, f"{root}/videos/{n}.mp4", 1, DURATION_S, 64, 64, 10.0, "h264"))
        operation = {"specialty": PROCEDURES[procedure], "procedure": procedure}
        own = [
            Clip(name, 0.0, 30.0, "macro", operation | {"step": "Dissection"}),
            Clip(name, 30.0, 60.0, "macro", operation | {"step": "Suturing"}),
        ]
        for start_s in np.arange(0.0, 60.0, 5.0):
            task, tags = (
                ("micro", {"action": ("Tug", "Hook", "Clip")[rng.integers(3)], "arm": "Left"})
                if start_s < 30
                else (
                    "proficiency",
                    {
                        "phase": ("Driving", "Withdrawal")[rng.integers(2)],
                        "proficiency": ("Low", "High")[rng.integers(2)],
                    },
                )
            )
            own.append(Clip(name, start_s, start_s + 5, task, tags))
        clips += [replace(clip, source="ai" if n % 2 else "manual") for clip in own]
        vectors, steps = {}, {}
        for window in [*training_windows(DURATION_S, SPEC), *unique_windows(clip_windows(own, HALSTED.tasks))]:
            middle_s = (window.start_s + window.stop_s) / 2
            true = [item for clip in own if clip.start_s <= middle_s < clip.stop_s for item in clip.tags.items()]
            vector = sum(of_category[item] for item in true)
            noisy = vector + rng.normal(size=(8, ENCODER.dim))
            key = window.kind, window.start_s, window.stop_s
            vectors[key], steps[key] = noisy.mean(0).astype(np.float16), noisy.ravel().astype(np.float16)
        for found, ending in ((vectors, ""), (steps, "-steps")):
            store = VectorStore(f"{root}/embeddings", ENCODER.fingerprint, sampling_name(SPEC, "reference") + ending)
            store.put(name, 0.0, 120.0, found)
    write_atlas(str(root), rows, clips, f"release-{seed}", split=split)
    return str(root)


@pytest.fixture(autouse=True, scope="module")
def coarse_maps():
    """The maps of features (UMAP) take seconds each, and no test here looks at where their points lie."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("halsted_ray.evaluation.umap.EPOCHS", 20)
        yield


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return archive_at(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def crossed(archive, tmp_path_factory):
    """(evaluation of two folds with all baselines, its folder); Ray keeps running for the tests that follow."""
    out = tmp_path_factory.mktemp("crossed")
    with connected():
        yield run(archive, out), out


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads that share these few numbers wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(archive, out, *, model=None, against=None, embeddings=None, **plan):
    return evaluate(
        archive,
        str(out),
        RECIPE,
        model=model,
        against=against,
        plan=EvaluationPlan(**{"folds": 2, "sais": SAIS, **plan}),
        encoder=ENCODER.ref,
        spec=SPEC,
        embeddings=embeddings,
    )


def test_folds_side_by_side_judge_every_method_on_the_same_windows(crossed):
    found = crossed[0].figures
    assert found["strategy"] == "per_procedure" and len(found["folds"]) == 2
    for fold in found["folds"]:
        assert len(fold["test"]) == len(fold["validation"]) == 2 and fold["train"] == 4
        assert not set(fold["test"]) & set(fold["validation"])
        assert [record["epoch"] for record in fold["curve"]] == list(range(RECIPE.epochs))
    methods = found["methods"]
    assert list(methods) == ["halsted", "chance", "majority", "linear", "sais_head"]
    for method in methods.values():
        assert {tag: entry["samples"] for tag, entry in method["tags"].items()} == {
            tag: entry["samples"] for tag, entry in methods["halsted"]["tags"].items()
        }
    # 4 test videos of 12 + 12 fine windows; macro is asked of coarse and of fine ones
    assert methods["halsted"]["tags"]["action"]["samples"] == 4 * 12
    assert methods["halsted"]["tags"]["step"]["samples"] == 4 * (24 + 6)


def test_what_can_be_learned_beats_what_can_be_guessed(crossed):
    methods = crossed[0].figures["methods"]
    accuracy = {
        name: {tag: entry["accuracy"]["value"] for tag, entry in method["tags"].items()}
        for name, method in methods.items()
    }
    for tag in ("step", "procedure", "phase"):
        assert accuracy["halsted"][tag] > 0.9 and accuracy["linear"][tag] > 0.9
    assert accuracy["halsted"]["action"] > 0.7 > accuracy["majority"]["action"] > accuracy["chance"]["action"]
    assert accuracy["chance"]["action"] == pytest.approx(1 / 19)
    assert methods["majority"]["tags"]["phase"]["auroc"]["value"] == 0.5
    assert methods["halsted"]["tags"]["phase"]["auroc"]["value"] > 0.95
    assert methods["halsted"]["tags"]["arm"]["auroc"]["value"] is None, "one class only"
    assert methods["halsted"]["tags"]["step"]["f1_10"]["value"] > 0.7, "a window that flickers costs two spans"
    assert "f1_10" not in methods["chance"]["tags"]["step"]


def test_clips_are_judged_beside_windows_by_every_method_and_group(crossed):
    """The paper's protocol: exact match on held-out clips, AUROC, by specialty and procedure."""
    clips = crossed[0].figures["clips"]
    own = clips["methods"]["halsted"]["tags"]
    assert list(clips["methods"]) == ["halsted", "chance", "majority", "linear", "sais_head"]
    assert own["action"]["samples"] == 4 * 6 and own["step"]["samples"] == 4 * 2, "4 test videos of 6 and 2 such clips"
    assert own["action"]["accuracy"]["value"] > 0.7 and own["phase"]["auroc"]["value"] > 0.95
    assert set(clips["groups"]["procedure"]) == set(PROCEDURES) and set(clips["groups"]["window"]) == {"clip"}
    assert "edit" not in own["step"], "the borders of a clip are given"
    windows = crossed[0].figures["methods"]["halsted"]["tags"]["action"]
    assert windows["counts"] == own["action"]["counts"] == {"windows": 48, "clips": 24, "videos": 4}
    assert set(pq.read_table(crossed[1] / "answers.parquet")["kind"].to_pylist()) == {"coarse", "fine", "clip"}
    text = methods_table(crossed[0].figures)
    assert "Annotated clips" in text and "Windows of a map" in text and "with an error" in text
    assert "Annotated clips" in evaluation_page(crossed[0].figures, HALSTED, [])


def test_a_task_asked_where_the_truth_is_something_else_is_a_false_alarm():
    """A window of suturing has no action, so no accuracy of actions counts what would be said there."""
    dissection, suturing = (HALSTED.tag("step").categories.index(name) for name in ("Dissection", "Suturing"))
    (made,) = hand_made({"a": [1] * 4, "b": [1] * 4})
    truth = np.array([suturing, suturing, dissection, dissection] * 2)
    chosen = np.array([suturing, dissection, dissection, suturing, suturing, suturing, dissection, dissection])
    made = replace(made, targets=replace(made.targets, truth_N=truth), chosen_N=chosen, right_N=(truth == chosen) * 1.0)
    found = score_predictions([made], HALSTED, {})["methods"]["halsted"]["false_alarms"]
    assert found["micro"] == {"elsewhere": 4, "alarms": 1, "share": 0.25, "videos": 1}
    assert found["proficiency"] == {"elsewhere": 4, "alarms": 1, "share": 0.25, "videos": 1}
    assert "context" not in found, "nothing was predicted of phases"


def test_errors_are_counted_by_window_clip_and_video():
    made = hand_made({"a": [1, 1, 0, 0], "b": [1, 1]})
    clips = hand_made({"a": [1, 0], "b": [1]})
    clips = [replace(c, targets=replace(c.targets, kind_N=np.full(len(c.right_N), "clip"))) for c in clips]
    found = score_predictions([*made, *clips], HALSTED, {})
    for block in (found, found["clips"]):
        step = block["methods"]["halsted"]["tags"]["step"]
        assert step["counts"] == {"windows": 6, "clips": 3, "videos": 2}
        assert step["errors"] == {"windows": 2, "clips": 1, "videos": 1}
    assert found["methods"]["halsted"]["tags"]["step"]["samples"] == 6
    assert found["clips"]["methods"]["halsted"]["tags"]["step"]["accuracy"]["over_videos"] == pytest.approx(2 / 3)


def test_an_archive_of_clips_too_short_for_any_window_is_learned_and_judged(crossed, tmp_path):
    """An imported HSA-27k has actions of 1 s; on the grid alone there was nothing to judge."""
    rows, clips, rng = [], [], np.random.default_rng(0)
    categories, directions = HALSTED.tag("action").categories[:2], rng.normal(size=(2, ENCODER.dim))
    store = VectorStore(f"{tmp_path}/embeddings", ENCODER.fingerprint, sampling_name(SPEC, "reference"))
    for n in range(4):
        name = f"{n:016x}"
        rows.append(Video(name, f"{tmp_path}/{n}.mp4", 1, DURATION_S, 64, 64, 10.0, "h264"))
        own = [Clip(name, 5.0 * k + 0.2, 5.0 * k + 1.2, "micro", {"action": categories[k % 2]}) for k in range(12)]
        keys = [("clip", clip.start_s, clip.stop_s) for clip in own]
        vectors = directions[np.arange(12) % 2] + 0.3 * rng.normal(size=(12, ENCODER.dim))
        store.put(name, 0.0, 120.0, dict(zip(keys, vectors.astype(np.float16), strict=True)))
        clips += [replace(clip, specialty="Urology", procedure="Prostatectomy") for clip in own]
    write_atlas(str(tmp_path), rows, clips, "short")
    found = evaluate(
        str(tmp_path),
        str(tmp_path / "out"),
        replace(RECIPE, units=("clips",), epochs=120),
        plan=EvaluationPlan(folds=1, baselines=("majority",)),
        encoder=ENCODER.ref,
        spec=SPEC,
    )
    action = found.figures["clips"]["methods"]["halsted"]["tags"]["action"]
    assert action["samples"] == 12 and action["accuracy"]["value"] > 0.7, "commonest: 0.5"
    assert (
        found.figures["methods"]["halsted"]["tags"] == {}
        and found.figures["methods"]["halsted"]["mean"]["samples"] == 0
    )
    page = evaluation_page(found.figures, HALSTED, [])
    assert "action" in page and "action" in methods_table(found.figures)


def test_groups_split_the_same_predictions(crossed):
    found = crossed[0].figures
    whole = found["methods"]["halsted"]["mean"]
    for group, names in (
        ("specialty", {"Urology", "Gynecology"}),
        ("procedure", set(PROCEDURES)),
        ("source", {"manual", "ai"}),
        ("window", {"coarse", "fine"}),
    ):
        assert set(found["groups"][group]) == names
        assert sum(entry["mean"]["samples"] for entry in found["groups"][group].values()) == whole["samples"]
    assert set(found["videos"]) == {video for fold in found["folds"] for video in fold["test"]} and not found["caveats"]
    video = next(iter(found["videos"].values()))
    assert video["specialty"] in PROCEDURES.values() and set(video["tasks"]) == {"macro", "micro", "proficiency"}


def test_figures_and_predictions_are_left_on_disk(crossed):
    evaluation, out = crossed
    assert json.loads((out / "evaluation.json").read_text()) == json.loads(json.dumps(evaluation.figures))
    rows = pq.read_table(out / "answers.parquet").to_pandas()
    own = rows[(rows.method == "halsted") & (rows.tag == "action")]
    by_fold = (own.truth == own.category).groupby(own.fold).mean()
    figure = evaluation.figures["methods"]["halsted"]["tags"]["action"]
    assert by_fold.mean() == pytest.approx(figure["accuracy"]["value"])


def test_the_same_call_again_trains_nothing(crossed, archive):
    evaluation, out = crossed
    models = {path: path.stat().st_mtime_ns for path in out.glob("folds/*/decoder.safetensors")}
    assert len(models) == 2
    learned = [Halsted.load(str(path.parent)).config.learned_from for path in models]
    for fold in evaluation.figures["folds"]:
        (own,) = [parts for parts in learned if parts["validation"] == fold["validation"]]
        assert len(own["train"]) == fold["train"] and not set(own["train"]) & {*fold["test"], *fold["validation"]}
    again = run(archive, out, baselines=())
    assert {path: path.stat().st_mtime_ns for path in models} == models
    assert again.figures["methods"]["halsted"] == evaluation.figures["methods"]["halsted"]


def test_a_fold_that_fails_ends_the_evaluation_with_its_error(crossed, archive, tmp_path):
    wild = replace(RECIPE, learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(TrainingError, match=r"not finite in epoch 0.*learning rate 1e\+30"):
        plan = EvaluationPlan(folds=2, baselines=())
        evaluate(archive, str(tmp_path), wild, plan=plan, encoder=ENCODER.ref, spec=SPEC)


@pytest.fixture(scope="module")
def fold_model(crossed):
    return str(sorted(crossed[1].glob("folds/*"))[0])


def test_a_given_model_is_judged_on_the_frozen_part(tmp_path, fold_model):
    split = {f"{1:08x}{n:08x}": ("train", "train", "validation", "test", "test", "test")[n] for n in range(6)}
    archive = archive_at(tmp_path / "archive", 6, split, seed=1)
    found = run(
        archive, tmp_path / "out", model=fold_model, release="release-1", baselines=("chance", "linear")
    ).figures
    assert len(found["folds"]) == 1 and found["folds"][0]["curve"] == []
    assert set(found["videos"]) == {video for video, part in split.items() if part == "test"}
    mean = found["methods"]["halsted"]["mean"]
    assert (
        mean["value"] > 0.8
        and mean["normal"] == [None, None]
        and mean["bootstrap"][0] <= mean["value"] <= mean["bootstrap"][1]
    )
    every = run(archive, tmp_path / "all", model=fold_model, part="all").figures
    assert len(every["videos"]) == 6 and list(every["methods"]) == ["halsted", "chance"], "nothing to teach others on"


def test_where_a_map_and_an_evaluation_differ(tmp_path, fold_model):
    """A map's figures are those of the evaluation's predictions, for the kind of window that each tag comes from and
    where the workflow asked: nothing else makes the two differ."""
    archive = archive_at(tmp_path / "archive", 4, seed=2)
    atlas, workflow = read_atlas(archive), Workflow(Halsted.load(fold_model), ENCODER, SPEC)
    store = VectorStore(f"{archive}/embeddings", ENCODER.fingerprint, sampling_name(SPEC, "reference"))
    misleading = store.get(atlas.videos[0].video_id, 0.0, DURATION_S)
    misleading["fine", 0.0, 2.5] = misleading["fine", 30.0, 32.5]  # dissection that looks like suturing
    store.put(atlas.videos[0].video_id, 0.0, 120.0, misleading)
    found = run(archive, tmp_path / "out", model=fold_model, part="all", baselines=())
    rows, mapped_category = [], {}
    for video in atlas.videos:
        segment = Segment("s", video.video_id, video.uri, 0.0, DURATION_S, DURATION_S)
        tags = workflow(segment, vectors=store.get(video.video_id, 0.0, DURATION_S)).tags
        mapped_category |= {(video.video_id, tag.start_s, tag.stop_s, tag.tag): tag.category for tag in tags}
        rows += [{"video_id": video.video_id, **asdict(interval)} for interval in merge(tags)]
    mapped = score_timeline(rows, atlas.clips, HALSTED, SPEC)
    right, total = Counter(), Counter()
    for answer in pq.read_table(tmp_path / "out" / "answers.parquet").to_pylist():
        tag, length_s = answer["tag"], answer["stop_s"] - answer["start_s"]
        shown = mapped_category.get((answer["video_id"], answer["start_s"], answer["stop_s"], tag))
        if shown is not None:
            assert shown == answer["category"], answer
            right[tag] += round(length_s / SPEC.fine_s) * (shown == answer["truth"])
        total[tag] += length_s == SPEC.fine_s
    assert set(total) == {"specialty", "procedure", "step", "action", "arm", "phase", "proficiency"}
    for tag, windows in total.items():
        assert (mapped["tags"][tag]["windows"], mapped["tags"][tag]["right"]) == (windows, right[tag]), tag
    assert mapped["tags"]["action"]["unpredicted"] > 0, "a step that was not seen costs an action"
    assert "halsted report --truth" in found.figures["how"] and "halsted evaluate" in mapped["how"]
    assert "halsted report --truth" in evaluation_page(found.figures, HALSTED, [])
    assert "halsted report --truth" in " ".join(methods_table(found.figures).split())
    assert "halsted evaluate" in " ".join(accuracy_table(mapped).split())


def test_another_archive_judges_two_models_on_the_same_windows(archive, crossed, tmp_path):
    judging = archive_at(tmp_path / "judging", 4, seed=3)
    shutil.copytree(f"{archive}/embeddings", tmp_path / "embeddings")
    shutil.copytree(f"{judging}/embeddings", tmp_path / "embeddings", dirs_exist_ok=True)
    model, other = (str(path) for path in sorted(crossed[1].glob("folds/*")))
    found = run(
        archive,
        tmp_path / "out",
        model=model,
        against=other,
        test_on=judging,
        learn_from=3,
        embeddings=str(tmp_path / "embeddings"),
        baselines=("majority",),
    )
    assert {video[:8] for video in found.figures["videos"]} == {f"{3:08x}"} and len(found.figures["videos"]) == 4
    assert found.figures["strategy"] == "all videos of release-3" and found.figures["folds"][0]["train"] == 3
    first, second = found.of(), found.of(REFERENCE)
    assert [entry.targets for entry in first] == [entry.targets for entry in second] and len(first) > 5
    assert any((a.scores_NK != b.scores_NK).any() for a, b in zip(first, second, strict=True))
    means = {name: method["mean"]["value"] for name, method in found.figures["methods"].items()}
    assert means[REFERENCE] > 0.8 > means["majority"]
    assert found.figures["caveats"] == []
    with pytest.raises(UsageError, match="learned from 6 of the 8 videos that would judge it"):
        run(judging, tmp_path / "out", model=model, test_on=archive, embeddings=str(tmp_path / "embeddings"))
    with pytest.raises(AtlasError, match="can't teach and judge"):
        run(archive, tmp_path / "out", test_on=archive)
    with pytest.raises(UsageError, match="learn from 8 videos; expected 1 to 6"):
        run(archive, tmp_path / "out", test_on=judging, learn_from=8, embeddings=str(tmp_path / "embeddings"))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"release": "hsa-v9"}, AtlasError, "no release 'hsa-v9'"),
        ({"against": "{model}"}, UsageError, "name it with --model"),
        ({"baselines": ("random",)}, UsageError, "unknown baseline 'random'"),
        ({"strategy": "each"}, UsageError, "per_procedure, global"),
        ({"part": "train"}, UsageError, "expected one of test, validation, all"),
        ({"folds": 0}, UsageError, "folds=0; expected at least 1"),
        ({"learn_from": 0}, UsageError, "learn from 0 videos; expected at least 1"),
        ({"splits": ()}, UsageError, "no split is given"),
        ({"model": "{model}"}, AtlasError, "no annotated video in its 'test' part .parts: none."),
        ({"model": "{model}", "part": "all"}, UsageError, "learned from 6 of the 8 videos that would judge it"),
    ],
)
def test_what_can_not_be_judged(archive, fold_model, tmp_path, options, error, message):
    options = {name: fold_model if value == "{model}" else value for name, value in options.items()}
    with pytest.raises(error, match=message):
        run(archive, tmp_path, **options)


def test_the_model_that_another_is_held_against_must_not_have_learned_the_answers_either(archive, fold_model, tmp_path):
    elsewhere = changed(fold_model, tmp_path / "model", learned_from={"train": ["f" * 16], "validation": []})
    with pytest.raises(UsageError, match="learned from 6 of the 8 videos that would judge it"):
        run(archive, tmp_path / "out", model=elsewhere, against=fold_model, part="all")


def changed(model, folder, **described):
    """A copy of a model that says something else of itself."""
    copy = Halsted.load(model)
    copy.configure(**described)
    copy.save(str(folder))
    return str(folder)


RESPLIT = [f"{4:08x}{n:08x}" for n in range(6)]
"""Videos of an archive whose split of release v1 is another one in v2."""


@pytest.fixture(scope="module")
def resplit(tmp_path_factory):
    """Video 0 teaches in version 0 (release-4) and judges in version 1 (v2), where video 5 teaches."""
    parts = ("train", "train", "validation", "test", "test", "test")
    archive = archive_at(tmp_path_factory.mktemp("resplit"), 6, dict(zip(RESPLIT, parts, strict=True)), seed=4)
    first = read_atlas(archive)
    moved = first.split | {RESPLIT[0]: "test", RESPLIT[5]: "train"}
    write_atlas(archive, list(first.videos), list(first.clips), "v2", split=moved)
    return archive


def test_videos_are_compared_and_not_names_of_releases(resplit, fold_model, tmp_path):
    def judged(model, **options):
        return run(resplit, tmp_path / "out", model=model, baselines=(), **options)

    own = {"train": RESPLIT[:2], "validation": RESPLIT[2:3]}
    model = changed(fold_model, tmp_path / "model", learned_from=own, atlas_release="release-4", version="m")
    with pytest.raises(
        UsageError, match=f"model 'm' learned from 1 of the 3 videos that would judge it, such as {RESPLIT[0]}"
    ):
        judged(model)
    assert judged(model, release="release-4").figures["caveats"] == []
    # The newer model's release has another name than the one that judges, which holds its training video.
    newer = {"train": [RESPLIT[1], RESPLIT[5]], "validation": RESPLIT[2:3]}
    model = changed(fold_model, tmp_path / "newer", learned_from=newer, atlas_release="v2", version="n")
    with pytest.raises(UsageError, match=f"model 'n' learned from 1 of the 3 .* such as {RESPLIT[5]}"):
        judged(model, release="release-4")
    chosen = judged(model, part="validation").figures["caveats"]
    assert [caveat[:58] for caveat in chosen] == ["model 'n' was chosen on 1 of the 1 videos that judge it (i"]


def test_a_model_that_does_not_say_what_it_learned_from_is_looked_up_in_the_atlas(resplit, fold_model, tmp_path):
    older = {"learned_from": None, "atlas_release": "release-4", "version": "o"}
    known = changed(fold_model, tmp_path / "known", atlas_version=0, **older)
    with pytest.raises(UsageError, match=f"model 'o' learned from 1 of the 3 .* such as {RESPLIT[0]}"):
        run(resplit, tmp_path / "out", model=known, baselines=())
    # Version 1 has another name: so the model's version 1 is of another atlas.
    unknown = changed(fold_model, tmp_path / "unknown", atlas_version=1, **older)
    found = run(resplit, tmp_path / "out", model=unknown, baselines=()).figures
    (caveat,) = found["caveats"]
    assert caveat.startswith("it is not known which videos model 'o' learned from")
    assert "not known which videos model" in evaluation_page(found, HALSTED, [])


def test_a_folder_that_can_not_be_written_is_reported_before_anything_is_learned(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("halsted_ray.evaluation.run_evaluation.prepare_data", lambda *_: pytest.fail("it began"))
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "out", READ_ONLY):
        with pytest.raises(OutputError, match=f"{place}.*name a folder that can be written"):
            run(archive, place)


def test_the_labels_between_two_models_are_read_before_anything_is_learned(
    archive, fold_model, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("halsted_ray.evaluation.run_evaluation.prepare_data", lambda *_: pytest.fail("it began"))
    elsewhere, model = Halsted.load(fold_model), str(tmp_path / "model")
    elsewhere.configure(atlas_release="another release")
    elsewhere.save(model)
    words = ["--model", model, "--against", model, "--part", "all", "--labels", str(tmp_path), "--out", str(tmp_path)]
    assert main(["evaluate", "--atlas", archive, *words]) == 2
    assert "holds no report.json" in capsys.readouterr().err


def test_the_page_holds_all_it_shows(crossed, tmp_path):
    evaluation, _ = crossed
    mistakes = [  # the models of this atlas make none
        {
            **{"video_id": video_id, "start_s": 30.0, "stop_s": 32.5, "fold": 0, "task": "macro", "tag": "step"},
            **{"truth": "Suturing", "said": "Dissection", "confidence": 0.9},
        }
        for video_id in sorted(evaluation.figures["videos"])[:2]
    ]
    evaluation = replace(evaluation, figures=evaluation.figures | {"mistakes": mistakes})
    page = evaluation_page(evaluation.figures, HALSTED, [(mistakes[0], "gone")])
    for needle in (
        "Halsted",
        "SAIS",
        "linear probe",
        "confusion-action",
        "phase · calibration error",
        "decoder: its last layer",
        "training loss",
        "Gynecology",
        "no picture: gone",
    ):
        assert needle in page
    body = page.split("</style>")[1].split("<script>")[0]
    assert "http" not in body and "src=" not in body
    write_evaluation(evaluation, str(tmp_path / "report.html"), clips=2)
    written = (tmp_path / "report.html").read_text()
    assert written.count("no picture: ") == 2 and str(tmp_path) not in written, "the videos are not there"


def test_the_map_of_features_shows_a_low_proficiency_large_as_the_paper_does(crossed):
    features = crossed[0].figures["map"] | {
        "task": "proficiency",
        "procedures": ["Prostatectomy"] * 3,
        "truth": [{"proficiency": "Low"}, {"proficiency": "High"}, {"phase": "Driving"}],
        "decoder": [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]],
    }
    (trace,) = map_plot(features, "decoder", HALSTED)["data"]
    low, high, unknown = trace["marker"]["size"]
    assert low > high == unknown
    assert "a larger dot a low proficiency" in evaluation_page(crossed[0].figures, HALSTED, [])


def hand_made(rights, tag="step", folds=None, truth=None):
    """Predictions of a tag with two categories. ``rights``: video → whether each of its windows is right."""
    found = []
    for fold in sorted(set(folds or [0])):
        own = [v for v in rights if not folds or folds[list(rights).index(v)] == fold]
        video = np.concatenate([[v] * len(rights[v]) for v in own])
        right = np.concatenate([rights[v] for v in own]).astype(float)
        start_s = np.concatenate([2.5 * np.arange(len(rights[v])) for v in own])
        count = len(video)
        chosen = np.where(right > 0, 0, 1)
        targets = TagTargets(
            fold,
            HALSTED.task_of_tag(tag).name,
            tag,
            np.arange(count),
            video,
            np.full(count, "fine"),
            start_s,
            start_s + 2.5,
            np.full(count, "manual"),
            np.zeros(count, int),
            np.ones(count, bool),
        )
        found.append(TagPredictions("halsted", targets, chosen, np.full(count, 0.9), right, np.eye(2)[chosen]))
    return found


def test_golden_figures_of_hand_made_predictions():
    made = hand_made({"a": [1, 1, 1, 1], "b": [1, 0, 0, 1]}, folds=[0, 1])
    found = score_predictions(made, HALSTED, {"a": {"specialty": "Urology"}, "b": {"specialty": "Cardiac"}})
    step = found["methods"]["halsted"]["tags"]["step"]
    assert step["accuracy"]["folds"] == [1, 0.5] and step["accuracy"]["value"] == 0.75
    assert step["accuracy"]["over_videos"] == 0.75 and step["relative_improvement"] == 1.5
    # video b: 0 1 1 0 against one run of 0, so 1 hit of 3 spans; the order differs by two insertions of three
    assert step["f1_10"]["folds"] == [1, 0.5] and step["edit"]["folds"] == [1, pytest.approx(1 / 3)]
    assert step["auroc"]["value"] is None
    assert step["calibration_error"]["folds"] == [pytest.approx(0.1), pytest.approx(0.4)]
    assert found["groups"]["specialty"]["Cardiac"]["mean"]["over_videos"] == 0.5
    assert found["confusion"]["step"]["counts"] == [[6, 2, 0], [0, 0, 0]]
    assert found["reliability"]["step"] == [{"count": 8, "confidence": pytest.approx(0.9), "accuracy": 0.75}]
    assert [(mistake["video_id"], mistake["start_s"], mistake["said"]) for mistake in found["mistakes"]] == [
        ("b", 2.5, "Dissection"),
        ("b", 5.0, "Dissection"),
    ]
    json.dumps(found, allow_nan=False)


def test_two_models_on_the_same_windows():
    rng = np.random.default_rng(3)
    first = {f"v{k}": rng.random(40) < 0.6 for k in range(8)}
    better = {name: rights | (rng.random(40) < 0.5) for name, rights in first.items()}
    operations = {name: {"specialty": "Urology"} for name in first}
    found = compare_models(hand_made(first), hand_made(better), HALSTED, operations)
    assert found["mean"]["value"] > 0.1 and found["mean"]["low"] > 0 and found["mean"]["p_worse"] == 0
    assert found["tasks"]["macro"] == found["specialties"]["Urology"] == found["mean"]
    same = compare_models(hand_made(first), hand_made(first), HALSTED, operations)["mean"]
    assert same["value"] == same["low"] == same["high"] == 0
    fewer = {name: rights[:-1] for name, rights in first.items()}
    with pytest.raises(ValueError, match="other windows"):
        compare_models(hand_made(first), hand_made(fewer), HALSTED, operations)


def test_two_models_over_folds():
    rights = {f"v{k}": np.arange(20) < 10 + k for k in range(5)}
    more = {name: np.arange(20) < 12 + k for k, name in enumerate(rights)}
    found = compare_folds(hand_made(rights, folds=[0, 1, 2, 3, 4]), hand_made(more, folds=[0, 1, 2, 3, 4]), HALSTED)
    assert found["macro"]["wilcoxon_p"] == pytest.approx(0.0625)
    assert found["macro"]["difference"]["value"] == pytest.approx(0.1)
    assert found["macro"]["first"] == [0.5, 0.55, 0.6, 0.65, 0.7]


def test_sais_learns_what_changes_over_time():
    """Both categories have the same time steps in another order, so their mean tells nothing."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=160)
    rising = np.linspace(-2, 2, 8)[None, :, None] * np.where(labels, 1, -1)[:, None, None]
    steps = (rising * np.ones(8) + 0.3 * rng.normal(size=(160, 8, 8))).astype(np.float32)
    recipe = SaisRecipe(layers=1, heads=2, prototype_dim=8, epochs=10)
    steps = steps[:, None]
    train, validation = (LabelledVectors(steps[part], labels[part]) for part in (slice(100), slice(100, 130)))
    model = fit_sais(train, validation, 2, recipe)
    found = model.probabilities(steps[130:])
    assert (found.argmax(1) == labels[130:]).mean() > 0.9
    assert found.max() <= np.e / (np.e + np.exp(-1)) + 1e-6, "no temperature: two categories never pass .881"
    again = fit_sais(train, validation, 2, recipe)
    assert np.array_equal(again.probabilities(steps[130:]), found)
