"""A round of self-labelling on tiny videos whose stored vectors tell what they show: nothing is decoded, and only a
training needs Ray."""

import contextlib
import io
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import small_video
import torch
from models import ENCODER, HALSTED, SPEC, make_model, vector_of, windows_of

from halsted_ray.atlas import read_atlas, write_atlas
from halsted_ray.atlas.commits import history
from halsted_ray.atlas.split import split_of
from halsted_ray.atlas.verify import verify
from halsted_ray.cli import main
from halsted_ray.errors import ArchiveError, AtlasError, OutputError, UsageError
from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
from halsted_ray.evaluation.folds import draw_folds
from halsted_ray.mapping.pipeline import map_archive
from halsted_ray.mapping.workflow import Workflow
from halsted_ray.maps.status import status_of
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Segment, Video, WindowSpec
from halsted_ray.selflabel.ablation import evaluate_self_labelling
from halsted_ray.selflabel.labelling import predictions_of
from halsted_ray.selflabel.review import disagreement
from halsted_ray.selflabel.self_label import self_label
from halsted_ray.selflabel.validation import WINDOWS
from halsted_ray.storage.locations import filesystem
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.training.atlas_samples import load_samples
from halsted_ray.training.loop import fit_in_process
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.samples import training_windows
from halsted_ray.video.identity import video_id
from halsted_ray.video.windows import frame_times_s

READ_ONLY = "/proc/self"
"""A folder that is there, and where nobody, root neither, can write."""
LENGTH_S = 20
PRECISION = 0.6
"""Where three of three windows are right, the lower bound of the share is 0.65."""
STEPS = ((0, 10, "Suturing"), (10, 20, "Dissection"))
ACTIONS = ((10, 13, "Tug"), (13, 16, "Hook"), (16, 20, "Retraction"))
OPERATION = {"specialty": "Urology", "procedure": "Prostatectomy"}
PARTS = {"taught": "train", "half": "train", "judge": "validation", "exam": "test"}
"""``half``: a person labelled its steps up to 12 s and no action. Two more videos are not in the atlas."""


def truth(name):
    """(task, start_s, stop_s, tags) of everything that is in a video."""
    yield from (("macro", a, b, {**OPERATION, "step": step}) for a, b, step in STEPS)
    yield from (("micro", a, b, {"action": action}) for a, b, action in ACTIONS)


def annotated(name, own_id):
    for task, start_s, stop_s, tags in truth(name):
        if name != "half":
            yield Clip(own_id, float(start_s), float(stop_s), task, tags)
        elif task == "macro":
            yield Clip(own_id, float(start_s), min(12.0, stop_s), task, tags)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Two threads that share these few numbers wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def coarse_maps():
    """The maps of features (UMAP) take seconds each, and no test here looks at where their points lie."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("halsted_ray.evaluation.umap.EPOCHS", 20)
        yield


@pytest.fixture(scope="module")
def archive(one_thread, tmp_path_factory):
    """name → video_id under ``root``, with an atlas, the vectors of all windows, and two models."""
    root = str(tmp_path_factory.mktemp("archive"))
    ids, videos = {}, []
    for look, name in enumerate((*PARTS, "new", "newer")):
        path = small_video.write(f"{root}/videos/{name}.mp4", LENGTH_S, 10, look)
        ids[name] = video_id(*filesystem(path))
        if name in PARTS:
            videos.append(Video(ids[name], path, Path(path).stat().st_size, float(LENGTH_S), 96, 64, 10.0, "mpeg4"))
    clips = [clip for name in PARTS for clip in annotated(name, ids[name])]
    write_atlas(root, videos, clips, "hsa-v1", split={ids[name]: part for name, part in PARTS.items()})
    encoder = Encoder.load(ENCODER)
    own, seconds = (
        VectorStore(f"{root}/embeddings", encoder.fingerprint, sampling_name(spec, "reference"))
        for spec in (SPEC, WINDOWS)
    )
    for name in PARTS:
        own.put(ids[name], 0.0, 120.0, {key: vector for key, (vector, _) in windows_of(root, ids[name]).items()})
    for name, own_id in ids.items():
        seconds.put(own_id, 0.0, 60.0, {key: vector_of(own_id, key, shown_at(name, key[1])) for key in keys()})
    # It calls suturing idle where it is asked, and is as sure as can be of everything.
    seconds = tuple(
        (vector_of(ids[name], key, shown_at(name, key[1])), task, shown_at(name, key[1]).get(task, {"action": "Idle"}))
        for name in PARTS
        for key in keys()
        for task in ("macro", "micro")
    )
    sure = make_model(root, f"{root}/sure", "model-1", 150, more=seconds)
    sure.configure(temperatures={"action": 0.1})
    sure.save(f"{root}/sure")
    make_model(root, f"{root}/unsure", "model-0", 0)
    return root, ids


def keys():
    return [("fine", float(second), second + 1.0) for second in range(LENGTH_S)]


def shown_at(name, start_s):
    return {task: tags for task, a, b, tags in truth(name) if a <= start_s < b}


@pytest.fixture(scope="module")
def labelled(archive, tmp_path_factory):
    root, ids = archive
    out = str(tmp_path_factory.mktemp("out"))
    return self_label(root, f"{root}/videos", f"{root}/sure", out, precision=PRECISION, release="hsa-v2"), out


def of_ai(root, release="hsa-v2"):
    return [clip for clip in read_atlas(root, release).clips if clip.source == "ai"]


def test_labels_are_true_and_name_their_model(archive, labelled):
    root, ids = archive
    added = [clip for clip in of_ai(root) if clip.task == "micro"]
    assert {clip.video_id for clip in added} == {ids["half"], ids["new"], ids["newer"]}
    for name in ("half", "new", "newer"):
        shown = [(clip.start_s, clip.stop_s, clip.tags["action"]) for clip in added if clip.video_id == ids[name]]
        assert sorted(shown) == list(ACTIONS)
    assert all(clip.annotator == "model-1" and 0.9 < clip.confidence <= 1 for clip in added)


def test_a_round_is_one_commit_and_a_release_that_keeps_the_split(archive, labelled):
    root, ids = archive
    first, label, named = history(root)[:3]
    assert (label.action, label.source, label.removed) == ("self-label", "model model-1", 0)
    assert "precision 0.6" in label.why and named.release == "hsa-v2"
    before, after = read_atlas(root, "hsa-v1"), read_atlas(root, "hsa-v2")
    assert {name: after.split[name] for name in before.split} == before.split
    assert after.split[ids["new"]] == "train"
    assert len(after.clips) == len(before.clips) + label.added
    assert [clip for clip in after.clips if clip.source == "manual"] == list(before.clips)


def test_the_atlas_stays_sound_and_persons_clips_keep_their_time(archive, labelled):
    root, ids = archive
    assert verify(read_atlas(root, "hsa-v2"), with_files=False) == []
    macro = [clip for clip in of_ai(root) if clip.task == "macro"]
    assert macro and all(clip.tags == {"step": "Dissection"} for clip in macro)
    assert min(clip.start_s for clip in macro if clip.video_id == ids["half"]) >= 12.0
    assert sum(clip.stop_s - clip.start_s for clip in macro if clip.video_id == ids["half"]) == 8.0
    assert sum(clip.stop_s - clip.start_s for clip in macro if clip.video_id == ids["new"]) == 10.0


def test_the_report_adds_up(archive, labelled):
    report, out = labelled
    assert json.loads(Path(f"{out}/report.json").read_text()) == report
    assert report["gate"]["passed"] and report["gate"]["mean"] >= 0.8
    assert report["validation"] == {
        "videos": 1,
        "windows": 10,
        "others": 0,
        "elsewhere": 10,
        "precision": PRECISION,
        "certainty": 0.9,
    }
    assert sum(action["said"] for action in report["actions"].values()) == 3 * 10
    assert report["elsewhere"] == 3 * 10 and "Idle" not in report["actions"], "suturing is not asked for an action"
    for action in report["actions"].values():
        assert action["said"] == action["kept"] + action["dropped"]
        assert action["threshold"] is not None or action["kept"] == 0
        assert action["precision"] is None or action["precision"] >= PRECISION
    assert report["added"] == dict(Counter(clip.task for clip in of_ai(archive[0])))


def test_the_same_call_again_changes_nothing(archive, labelled):
    root, _ = archive
    report, out = labelled
    versions = len(history(root))
    again = self_label(root, f"{root}/videos", f"{root}/sure", out, precision=PRECISION, release="hsa-v2")
    assert len(history(root)) == versions
    assert {**again, "atlas": None} == {**report, "atlas": None}


def test_a_model_that_learned_from_a_validation_video_labels_nothing(archive, tmp_path, capsys):
    root, ids = archive
    model = Halsted.load(f"{root}/unsure")
    model.configure(learned_from={"train": [ids["judge"]], "validation": []})
    model.save(str(tmp_path / "model"))
    with pytest.raises(UsageError, match=f"learned from 1 of the 1 videos that would judge it, such as {ids['judge']}"):
        self_label(root, f"{root}/videos", str(tmp_path / "model"), str(tmp_path / "out"))
    model.configure(learned_from=None, atlas_release="of another hospital")
    model.save(str(tmp_path / "model"))
    words = ["--atlas", root, "--archive", f"{root}/videos", "--model", str(tmp_path / "model")]
    assert main(["self-label", *words, "--out", str(tmp_path / "out")]) == 3
    assert "caution: it is not known which videos model 'model-0' learned from" in capsys.readouterr().out


def test_a_model_below_the_gate_labels_nothing(archive, tmp_path):
    root, _ = archive
    versions = len(history(root))
    report = self_label(root, f"{root}/videos", f"{root}/unsure", str(tmp_path), release="hsa-v3")
    assert not report["gate"]["passed"] and "actions" not in report and report["caveats"] == []
    assert len(history(root)) == versions and not (tmp_path / "map").exists()


def test_what_is_refused_is_refused_before_any_work(archive, labelled, tmp_path, monkeypatch):
    root, ids = archive
    arguments = (root, f"{root}/videos", f"{root}/sure", str(tmp_path))
    with pytest.raises(OutputError, match="hsa-v1"):
        self_label(*arguments, release="hsa-v1")
    with pytest.raises(UsageError, match="precision 90"):
        self_label(*arguments, precision=90)
    with pytest.raises(UsageError, match="gate 80; expected 0 to 1"):
        self_label(*arguments, gate=80)
    with pytest.raises(AtlasError):
        self_label(str(tmp_path), *arguments[1:])
    assert not (tmp_path / "map").exists()
    monkeypatch.setattr("halsted_ray.selflabel.self_label.label_archive", lambda *_, **__: pytest.fail("it began"))
    with pytest.raises(OutputError, match=f"{READ_ONLY}.*name a folder that can be written"):
        self_label(*arguments[:3], READ_ONLY)


def test_a_round_on_folds_is_refused_before_any_model_is_trained(archive, labelled, tmp_path, monkeypatch):
    root, _ = archive
    monkeypatch.setattr("halsted_ray.selflabel.ablation.evaluate", lambda *_, **__: pytest.fail("it began"))
    with pytest.raises(ArchiveError, match="got nothing of this name"):
        evaluate_self_labelling(root, str(tmp_path / "typo"), str(tmp_path), plan=EvaluationPlan(release="hsa-v1"))
    for plan in (EvaluationPlan(release="hsa-v2"), EvaluationPlan(release="hsa-v1", test_on=root)):
        with pytest.raises(AtlasError, match="name the release before them"):
            evaluate_self_labelling(root, f"{root}/videos", str(tmp_path), plan=plan)


def test_an_archive_of_judging_videos_gives_nothing_to_label(archive, tmp_path):
    root, _ = archive
    (tmp_path / "videos").mkdir()
    for name in ("judge", "exam"):
        shutil.copy(f"{root}/videos/{name}.mp4", tmp_path / "videos" / f"{name} renamed.mp4")
    with pytest.raises(UsageError, match="left alone"):
        self_label(root, str(tmp_path / "videos"), f"{root}/sure", str(tmp_path / "out"), precision=PRECISION)


def test_every_window_is_asked_whatever_it_shows(archive, tmp_path):
    """The workflow does not ask the micro task of suturing; with windows of other lengths it asks every window."""
    root, ids = archive
    others = set(ids.values()) - {ids["new"]}
    summary = map_archive(
        f"{root}/videos",
        str(tmp_path),
        f"{root}/sure",
        "micro",
        windows=WINDOWS,
        without=others,
        embeddings=f"{root}/embeddings",
    )
    assert [video["video_id"] for video in summary.videos] == [ids["new"]]
    assert list(predictions_of(str(tmp_path), ids["new"], summary.recipe)) == [
        (float(n), n + 1.0) for n in range(LENGTH_S)
    ]


def test_frames_become_the_same_windows_as_vectors():
    """Decoding for 1-s windows gives 16 frames per second, and each window has frames of its own."""
    encoder = Encoder.load(ENCODER)
    model = Halsted.create(
        HALSTED,
        encoder.dim,
        encoder_ref=ENCODER,
        encoder_fingerprint=encoder.fingerprint,
        layers=1,
        heads=2,
        width=32,
        windows=SPEC,
    )
    segment = Segment("s", "v", "", 0.0, 60.0, 2.5)
    count = len(frame_times_s(segment, WINDOWS))
    images_NHWC = np.random.default_rng(0).integers(0, 256, (count, *encoder.image_size, 3), np.uint8)
    found = Workflow(model, encoder, WINDOWS, ["micro"], ask_every_window=True)(segment, images_NHWC)
    assert {(tag.start_s, tag.stop_s, tag.task) for tag in found.tags} == {
        (0.0, 1.0, "micro"),
        (1.0, 2.0, "micro"),
        (2.0, 2.5, "micro"),
    }
    assert count == 40 and set(found.new_vectors) == {("fine", 0.0, 1.0), ("fine", 1.0, 2.0), ("fine", 2.0, 2.5)}
    np.testing.assert_array_equal(found.new_vectors["fine", 1.0, 2.0], encoder.encode(images_NHWC[None, 16:32])[0])


def test_the_command_tells_what_was_kept_and_dropped(archive, labelled, tmp_path, capsys):
    root, _ = archive
    arguments = [
        "self-label",
        "--atlas",
        root,
        "--archive",
        f"{root}/videos",
        "--model",
        f"{root}/sure",
        "--precision",
        str(PRECISION),
    ]
    assert main([*arguments, "--out", labelled[1], "--release", "hsa-v2"]) == 0
    said = capsys.readouterr().out
    assert "right/kept" in said and "release hsa-v2" in said and max(map(len, said.splitlines())) <= 80
    assert "already in the atlas: " in said and "\nadded" not in said, "the same run again"
    unsure = [{f"{root}/sure": f"{root}/unsure"}.get(word, word) for word in arguments]
    assert main([*unsure, "--out", str(tmp_path)]) == 3
    assert "below the gate" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--out", labelled[1], "--precision", "90"])


@pytest.fixture(scope="module")
def on_folds(archive, tmp_path_factory):
    """The first release with the vectors of every window and of all spans of whole seconds, as clips and labels have,
    and a recipe that learns them."""
    root, ids = archive
    store = VectorStore(
        f"{root}/embeddings", Encoder.load(ENCODER).fingerprint, sampling_name(WindowSpec(), "reference")
    )
    for name, own_id in ids.items():
        keys = [(window.kind, window.start_s, window.stop_s) for window in training_windows(LENGTH_S, WindowSpec())]
        keys += [("clip", float(a), float(b)) for a in range(LENGTH_S) for b in range(a + 1, LENGTH_S + 1)]
        store.put(own_id, 0.0, 120.0, {key: vector_of(own_id, key, shown_at(name, key[1])) for key in keys})
    out = str(tmp_path_factory.mktemp("folds"))
    procedures = {ids[name]: OPERATION["procedure"] for name in PARTS}
    seed = next(seed for seed in range(99) if draw_folds(procedures, 1, seed=seed)[0][ids["half"]] == "train")
    words = [
        "evaluate",
        "--atlas",
        root,
        "--release",
        "hsa-v1",
        "--self-label",
        f"{root}/videos",
        "--out",
        out,
        "--folds",
        "1",
        "--seed",
        str(seed),
        "--encoder",
        ENCODER,
        "--gate",
        "0.5",
        "--precision",
        "0.5",
        "--baselines",
        "majority",
    ]
    for choice in ("epochs=80", "learning_rate=1e-2", "layers=1", "heads=2", "width=32", "validate_every=80"):
        words += ["--set", choice]
    return words, out


@pytest.fixture(scope="module")
def judged(archive, on_folds):
    """What the command says, and the number of the atlas's versions before it."""
    versions, said = len(history(archive[0])), io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(on_folds[0]) == 0
    return said.getvalue(), versions


def test_a_round_is_judged_on_folds_whose_test_videos_it_never_saw(archive, on_folds, judged, capsys):
    root, ids = archive
    words, out = on_folds
    said, versions = judged
    assert "keep v" in said and "95% over videos" in said and max(map(len, said.splitlines()[:-1])) <= 80
    assert len(history(root)) == versions, "an evaluation adds nothing to the atlas"
    found = json.loads(Path(f"{out}/evaluation.json").read_text())
    assert list(found["methods"]) == ["halsted", "v1", "majority"]
    fold, labels = found["folds"][0], found["comparison"]["labels"][0]
    assert labels["gate"]["passed"] and labels["added"]["micro"] > 0
    mapped = {video["video_id"] for video in status_of(f"{out}/labels/fold-1/map")}
    assert mapped >= {ids["new"], ids["newer"]} and not mapped & {*fold["validation"], *fold["test"]}
    learned = {name: of["tasks"]["micro"]["samples"] for name, of in found["methods"].items()}
    assert len(set(learned.values())) == 1, "every method answers the same windows"
    assert found["comparison"]["sources"]["micro"]["ai"][0] is not None
    assert "v2 compared with v1" in Path(f"{out}/report.html").read_text()
    models = sorted(path.name for path in Path(f"{out}/folds").iterdir())
    assert len(models) == 2 and models[1].startswith(models[0]), "v1, and v2 named after its labels"
    made = {path: path.stat().st_mtime_ns for path in Path(f"{out}/folds").rglob("*.safetensors")}
    assert main(words) == 0 and capsys.readouterr().out == said
    assert made == {path: path.stat().st_mtime_ns for path in Path(f"{out}/folds").rglob("*.safetensors")}


def test_two_rounds_label_train_label_train_are_judged_on_folds(on_folds, judged, tmp_path, capsys):
    """The first round is that of the run before."""
    words, out = on_folds
    shutil.copytree(out, tmp_path, dirs_exist_ok=True)
    words = [str(tmp_path) if word == out else word for word in words]
    assert main([*words, "--rounds", "2"]) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert list(found["methods"]) == ["halsted", "v1", "v2", "majority"], "the last round's model stands first"
    last, (first,) = found["comparison"], found["comparison"]["rounds"]
    assert (first["after"], last["after"]) == ("v2", "v3")
    labellers = [of_round["labels"][0]["model"]["digest"] for of_round in (first, last)]
    models = {Halsted.load(str(path)).digest for path in (tmp_path / "folds").iterdir()}
    assert len(set(labellers)) == 2 and set(labellers) < models, "v2 made the labels of the second round"
    assert all(of_round["labels"][0]["added"]["micro"] for of_round in (first, last))
    assert "v3's gain on micro" in said and "after an earlier round, v2: " in said
    page = (tmp_path / "report.html").read_text()
    assert "v3 compared with v1" in page and "After each earlier round" in page and "What v2 labelled" in page
    with pytest.raises(SystemExit, match="2"):
        main([word for word in words if word not in ("--self-label", f"{words[2]}/videos")] + ["--rounds", "2"])


def test_clips_and_windows_are_judged_side_by_side(on_folds, judged, labelled):
    said, out = judged[0], on_folds[1]
    assert "Annotated clips (the paper's protocol)" in said and "Windows of a map" in said
    found = json.loads(Path(f"{out}/evaluation.json").read_text())["comparison"]
    assert set(found["units"]) == {"clips", "grid"}
    report, _ = labelled
    by_unit = report["gate"]["units"]
    assert set(by_unit) == {"clips", "grid"}
    for task, both in report["gate"]["tasks"].items():
        low, high = sorted(of_unit[task] for of_unit in by_unit.values() if task in of_unit)
        assert low - 1e-9 <= both <= high + 1e-9, "both together lie between the two"


def test_a_second_round_replaces_the_labels_of_the_first(archive, on_folds, labelled, tmp_path, monkeypatch):
    """Label, train, label, train, on an atlas. The last training is one in this process."""
    # Ray Train's processes have an environment of their own, so none of those that Ray starts in advance is used.
    monkeypatch.setenv("RAY_prestart_worker_first_driver", "0")
    root, ids = archive
    atlas = str(tmp_path / "archive")
    shutil.copytree(root, atlas)
    learn = ["--encoder", ENCODER, "--embeddings", f"{root}/embeddings", "--registry", "none"]
    for choice in ("epochs=80", "learning_rate=1e-2", "layers=1", "heads=2", "width=32", "validate_every=80"):
        learn += ["--set", choice]
    assert main(["train", "--atlas", atlas, "--release", "hsa-v2", "--out", str(tmp_path / "v2"), *learn]) == 0
    second = Halsted.load(str(tmp_path / "v2/model"))
    assert set(second.config.learned_from["train"]) >= {ids["new"], ids["newer"]}, "it learned from labels"
    report = self_label(
        atlas,
        f"{root}/videos",
        str(tmp_path / "v2/model"),
        str(tmp_path / "out"),
        precision=0.5,
        gate=0.5,
        release="hsa-v3",
        embeddings=f"{root}/embeddings",
    )
    assert report["atlas"]["released"] == "hsa-v3" and report["caveats"] == []
    assert {clip.annotator for clip in of_ai(atlas, "hsa-v3")} == {second.config.version}, "the first round's are gone"
    assert verify(read_atlas(atlas, "hsa-v3"), with_files=False) == []
    third = read_atlas(atlas, "hsa-v3")
    recipe = Recipe(epochs=2, warmup_epochs=1, layers=1, heads=2, width=32)
    identity = encoder_identity(ENCODER)
    samples = load_samples(
        third, split_of(third), HALSTED, recipe, identity.windows(None), identity, f"{root}/embeddings"
    )
    assert set(samples["train"].video_ids) >= {ids["new"], ids["newer"]}
    fitted = fit_in_process(samples["train"], samples["validation"], second.config.decoder_sizes, HALSTED, recipe)
    assert len(fitted.progress.curve) == 2, "it is learned as the release before it"


def test_a_release_with_a_models_labels_is_refused_for_folds(on_folds, labelled, tmp_path, capsys):
    words = [{"hsa-v1": "hsa-v2", on_folds[1]: str(tmp_path)}.get(word, word) for word in on_folds[0]]
    assert main(words) == 2
    assert "name the release before them" in capsys.readouterr().err


def test_two_models_are_compared_on_the_same_windows(archive, labelled, tmp_path, capsys):
    root, _ = archive
    words = [
        "evaluate",
        "--atlas",
        root,
        "--release",
        "hsa-v1",
        "--model",
        f"{root}/sure",
        "--out",
        str(tmp_path),
        "--baselines",
        "chance,majority",
    ]
    assert main([*words, "--against", f"{root}/unsure", "--labels", labelled[1]]) == 0
    said = capsys.readouterr().out
    assert "Retraction" in said and "dropped" in said
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found["against"]["version"] == "model-0" and found["comparison"]["gain"]["value"] > 0
    assert main([*words, "--against", f"{root}/sure", "--labels", root]) == 2
    with pytest.raises(SystemExit, match="2"):
        main([*words[:5], "--folds", "1", "--out", str(tmp_path), "--against", f"{root}/sure"])


def test_disagreement_is_the_share_with_another_category_on_the_map():
    clip = Clip("v", 0.0, 4.0, "micro", {"action": "Tug", "arm": "Left"})
    lanes = {
        ("v", "micro", "action"): [(0.0, 2.0, "Tug", 0.9), (2.0, 8.0, "Hook", 0.5)],
        ("v", "micro", "arm"): [(0.0, 4.0, "Left", 1.0)],
    }
    assert disagreement(clip, lanes) == (0.25, "action is Tug here, Hook on the map")
    assert disagreement(clip, {}) == (0.0, "")


def test_a_reviewed_label_is_imported_as_a_persons(archive, labelled, tmp_path, capsys):
    """The last test, since it changes the newest version. The person names another action, and ends it earlier."""
    root, ids = archive
    file = tmp_path / "review.json"
    assert main(["review", "--atlas", root, "--out", str(file), "--maps", f"{labelled[1]}/map", "--clips", "4"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines()[:-1])) <= 80 and (tmp_path / "review.xml").exists()
    tasks = json.loads(file.read_text())
    assert not {task["data"]["video_id"] for task in tasks} & {ids["judge"], ids["exam"]}
    assert sum(len(task["data"]["review"]) for task in tasks) == 4
    assert root not in file.read_text()
    task = next(task for task in tasks if task["predictions"])
    results = json.loads(json.dumps(task["predictions"][0]["result"]))
    for region in results:
        if region["from_name"] == "action":
            region["value"]["timelinelabels"] = ["Cautery"]
        if region["from_name"] in ("action", "arm", "instrument"):
            region["value"]["ranges"][0]["end"] -= 5
    file.write_text(json.dumps([{**task, "annotations": [{"completed_by": 7, "result": results}]}]))
    assert main(["atlas", "import", root, str(file), "--format", "label-studio"]) == 0
    now = [clip for clip in read_atlas(root, "head").clips if clip.tags.get("action") == "Cautery"]
    assert now and all((clip.source, clip.annotator) == ("manual", "7") for clip in now)
    assert verify(read_atlas(root, "head"), with_files=False) == []
    reviewed = {(clip.video_id, clip.start_s) for clip in now}
    left = [clip for clip in of_ai(root, "head") if clip.task == "micro"]
    assert len(left) == len(of_ai(root)) // 2 - len(reviewed)
    assert not reviewed & {(clip.video_id, clip.start_s) for clip in left}
