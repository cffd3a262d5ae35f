"""The paper's comparisons with SAIS and with a Llama, its figures, and ROC curves."""

import json
from dataclasses import replace

import numbered_video
import numpy as np
import pytest
import torch
from sklearn.metrics import auc, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve
from test_encoder_families import published, write_folder
from test_evaluation import ENCODER, HALSTED, RECIPE, SAIS, SPEC, archive_at, coarse_maps, hand_made, one_thread
from test_llama_text import folder as llama_folder
from transformers import VideoMAEConfig, VideoMAEModel

from halsted_ray.cli import main
from halsted_ray.cli.evaluation_table import benchmark_table
from halsted_ray.compute.cluster import connected
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.evaluation import metrics
from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
from halsted_ray.evaluation.fold_resources import gpu_share_of_fold
from halsted_ray.evaluation.published import by_category, by_specialty, durations, roc_curve, roc_curves
from halsted_ray.evaluation.published_comparisons import PUBLISHED_SAIS, compare_with_llama, compare_with_sais
from halsted_ray.evaluation.sais_features import GRIDS_S, sais_encoder_identity, sais_features, shifted_window
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import Clip, Video, Window
from halsted_ray.reporting.evaluation_page import evaluation_page
from halsted_ray.reporting.published_plots import category_plot, decoder_plot, duration_plot, gain_plot, specialty_plot
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.training.samples import LabelledWindow

fixtures = (llama_folder, coarse_maps, one_thread)
SPECIALTIES = ("Urology", "Gynecology")
SHORT = replace(RECIPE, epochs=6, validate_every=6)
PLAN = EvaluationPlan(folds=2, sais=SAIS)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return archive_at(tmp_path_factory.mktemp("archive"), videos=6)


@pytest.fixture(scope="module")
def frame_encoder(tmp_path_factory):
    """A small untrained encoder with a vector per frame, as Hugging Face writes it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("frames")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = VideoMAEModel(VideoMAEConfig(image_size=32, patch_size=16, num_frames=16, tubelet_size=1, **sizes))
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(value)  # an encoder whose biases were lost is refused
    model.save_pretrained(path)
    preprocessing = {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"height": 32, "width": 32},
    }
    (path / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return str(path)


def stored(archive, identity, seed=0):
    """Vectors per frame of all windows that the archive has vectors of, and of the same windows shifted."""
    own = VectorStore(f"{archive}/embeddings", ENCODER.fingerprint, sampling_name(SPEC, "reference"))
    store = VectorStore(
        f"{archive}/embeddings", identity.vectors_name("fp32"), sampling_name(SPEC, "reference") + "-steps"
    )
    rng = np.random.default_rng(seed)
    for number in range(6):
        name = f"{0:08x}{number:08x}"
        (found,) = own.read_videos([name])
        windows = [Window(*key) for key in found.keys]
        keys = {
            (moved.kind, moved.start_s, moved.stop_s)
            for window in windows
            for moved in (shifted_window(window, shift_s, 60.0) for shift_s in GRIDS_S)
        }
        store.put(
            name, 0.0, 120.0, {key: rng.normal(size=16 * identity.width).astype(np.float16) for key in sorted(keys)}
        )


@pytest.fixture(scope="module")
def both(archive, frame_encoder, llama_folder, tmp_path_factory):
    """The comparison with SAIS on vectors per frame, its folder, and the comparison with a Llama, by one Ray."""
    stored(archive, sais_encoder_identity(frame_encoder, 16))
    out, out_of_llama = tmp_path_factory.mktemp("sais"), tmp_path_factory.mktemp("llama")
    with_sais = replace(PLAN, sais_encoder=frame_encoder, baselines=("linear", "sais"))
    with_llama = replace(PLAN, baselines=("chance",))
    with connected():
        of_sais = compare_with_sais(
            archive, str(out), SHORT, with_sais, specialties=SPECIALTIES, encoder=ENCODER.ref, spec=SPEC
        )
        of_llama = compare_with_llama(
            archive, str(out_of_llama), SHORT, with_llama, llama_folder, encoder=ENCODER.ref, spec=SPEC
        )
    return of_sais, out, of_llama


@pytest.fixture(scope="module")
def compared(both):
    return both[:2]


def test_halsted_and_sais_are_compared_on_suturing_of_some_specialties(compared):
    found, out = compared
    benchmark = found.figures["benchmark"]
    assert benchmark["specialties"] == list(SPECIALTIES)
    assert list(benchmark["methods"]) == ["halsted", "linear", "sais"], "with a ViT it is SAIS itself"
    for of_tags in benchmark["methods"].values():
        assert set(of_tags) == {"phase", "proficiency"}
        assert all(len(own["folds"]) == 2 for own in of_tags.values())
    assert benchmark["methods"]["halsted"]["phase"]["value"] > 0.8
    shown = benchmark_table(benchmark)
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "published: SAIS" in shown and "arXiv 2603.22583" in shown
    assert json.loads((out / "evaluation.json").read_text())["benchmark"] == benchmark
    page = evaluation_page(found.figures, HALSTED, [])
    assert "Halsted and SAIS on suturing" in page and "over three grids of frames, as published" in page
    for name in (
        "specialty (Fig. 2a)",
        "specialty (Fig. 2b)",
        "phase: accuracy by category",
        "lengths of proficiency clips",
        "phase · AUROC",
    ):
        assert name in page


def test_the_published_rows_are_the_papers():
    assert {(row["method"], row["tag"]): row["auroc"] for row in PUBLISHED_SAIS} == {
        ("Halsted", "phase"): 1.00,
        ("SAIS", "phase"): 0.68,
        ("Halsted", "proficiency"): 0.78,
        ("SAIS", "proficiency"): 0.73,
    }


def test_a_specialty_that_no_video_has_is_said_with_those_that_are_there(archive, tmp_path):
    with pytest.raises(AtlasError, match="no video of Bariatric, General with clips.*found Gynecology, Urology"):
        compare_with_sais(archive, str(tmp_path), SHORT, PLAN, encoder=ENCODER.ref, spec=SPEC)


def test_an_encoder_that_does_not_give_a_vector_per_frame_is_refused(archive, tmp_path, capsys):
    with pytest.raises(UsageError, match="gives 8 vectors per window of 16 frames; SAIS reads one vector per frame"):
        sais_encoder_identity("random:tiny:0", 16)
    words = ["evaluate", "--atlas", archive, "--out", str(tmp_path), "--sais-encoder", "x", "--baselines", "linear"]
    with pytest.raises(SystemExit):
        main(words)
    assert "the baseline sais" in capsys.readouterr().err


def test_three_grids_of_frames_lie_under_the_windows_keys(archive, frame_encoder, compared):
    identity = sais_encoder_identity(frame_encoder, 16)
    name = f"{0:08x}{0:08x}"
    video = Video(name, f"{archive}/videos/0.mp4", 1, 60.0, 64, 64, 10.0, "h264")
    window, last = Window("fine", 10.0, 12.5), Window("fine", 57.5, 60.0)
    labelled = {name: [LabelledWindow(w, "proficiency", (("phase", "Driving"),), 1.0, True) for w in (window, last)]}
    windows = {name: [window, last]}
    found = sais_features([video], windows, windows, ENCODER, frame_encoder, f"{archive}/embeddings", SPEC)
    rows_NGTD = found.of(labelled, Vocabulary(HALSTED), 3)
    assert rows_NGTD.shape == (2, 3, 16, identity.width)
    assert not np.array_equal(rows_NGTD[0, 0], rows_NGTD[0, 1]), "other frames"
    assert np.array_equal(rows_NGTD[1, 0], rows_NGTD[1, 2]), "a window at the video's end can't move"
    assert shifted_window(window, 0.2, 60.0) == Window("fine", 10.2, 12.7)
    one = found.of(labelled, Vocabulary(HALSTED), 1)
    assert np.array_equal(one[:, 0], rows_NGTD[:, 0])


def test_sais_reads_each_frame_of_a_video_through_a_vit_of_its_published_folder(tmp_path):
    """From the folder as Hugging Face writes it and a video file to features; nothing is stored before."""
    model = published("vit")
    folder = write_folder(tmp_path / "vit", model)
    recipe = numbered_video.Recipe(frames=120, rate=10, gop=20, size=(90, 160))
    path = numbered_video.write(tmp_path / "case.mp4", recipe).path
    found = Video("0" * 16, str(path), path.stat().st_size, 12.0, 160, 90, 10.0, "h264")
    windows = [Window("fine", 2.5, 5.0), Window("fine", 5.0, 7.5)]
    labelled = {found.video_id: [LabelledWindow(w, "proficiency", (("phase", "Driving"),), 1.0, True) for w in windows]}
    asked = {found.video_id: windows}
    features = sais_features([found], asked, asked, ENCODER, folder, str(tmp_path / "embeddings"), SPEC)
    rows_NGTD = features.of(labelled, Vocabulary(HALSTED), 3)
    assert rows_NGTD.shape == (2, 3, 16, model.config.hidden_size) and np.isfinite(rows_NGTD).all()
    assert (rows_NGTD.std(axis=2) > 0).any(axis=-1).all(), "a vector of its own for each frame"
    assert not np.array_equal(rows_NGTD[0, 0], rows_NGTD[0, 1]), "each grid has other frames"
    same = sais_features([found], asked, asked, ENCODER, folder, str(tmp_path / "embeddings"), SPEC)
    assert np.array_equal(same.of(labelled, Vocabulary(HALSTED), 3), rows_NGTD), "from the store now"


def test_a_decoder_and_a_llama_are_compared_with_a_p_value(both):
    found = both[2]
    benchmark = found.figures["benchmark"]
    assert list(benchmark["methods"]) == ["halsted", "llama"]
    assert set(benchmark["methods"]["llama"]) == {"action", "arm"}
    assert all(0 <= found["t"] <= 1 and 0 <= found["wilcoxon"] <= 1 for found in benchmark["p"].values())
    assert gpu_share_of_fold(found.data) == 1.0, "fine-tuning a Llama takes a whole GPU"
    shown = benchmark_table(benchmark)
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "published: Llama-3.2-1B" in shown and "action p = " in shown
    page = evaluation_page(found.figures, HALSTED, [])
    assert "accuracy by tag and decoder" in page and "Llama, text answers" in page


def test_a_llama_needs_a_folder_and_its_benchmark(archive, tmp_path, capsys):
    assert main(["evaluate", "--benchmark", "llama", archive, "--out", str(tmp_path)]) == 2
    assert "give --llama DIR" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", "--atlas", archive, "--llama", "x", "--out", str(tmp_path)])
    assert "--set decoder=llama:DIR" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(5))
def test_roc_curves_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    positive = rng.random(200) < 0.3
    scores = np.round(rng.normal(size=200) + positive, 1)  # with ties
    alarms, hits = roc_curve(scores, positive)
    theirs_alarms, theirs_hits, _ = sklearn_roc_curve(positive, scores, drop_intermediate=False)
    assert np.allclose(alarms, theirs_alarms) and np.allclose(hits, theirs_hits)
    assert auc(alarms, hits) == pytest.approx(roc_auc_score(positive, scores))
    assert auc(alarms, hits) == pytest.approx(metrics.auroc(scores, positive))


def test_the_mean_curve_is_that_of_the_categories_that_occur():
    made = hand_made({"a": [1, 0, 1, 1], "b": [1, 0, 0, 1]})[0]
    targets = replace(made.targets, truth_N=np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    scores = np.array([[0.9, 0.1, 0.0]] * 3 + [[0.4, 0.6, 0.0]] * 2 + [[0.1, 0.9, 0.0]] * 3)
    entry = replace(made, targets=targets, scores_NK=scores)
    found = roc_curves([entry], ("x", "y", "never"))
    assert list(found["categories"]) == ["x", "y"], "a category without a clip has no curve"
    assert found["auroc"] == pytest.approx(roc_auc_score(targets.truth_N, scores[:, 1]))
    assert found["macro"][0] == pytest.approx(0.75) and found["macro"][-1] == 1.0


def test_a_standard_error_is_over_folds_and_with_one_fold_over_videos():
    rights = {"a": [1, 1, 1, 1], "b": [1, 0, 0, 1], "c": [1, 1, 0, 0]}
    over_folds = by_category(hand_made(rights, folds=[0, 1, 2]), ("Suturing", "Dissection"))
    assert list(over_folds) == ["Suturing"] and over_folds["Suturing"]["over"] == "folds"
    assert over_folds["Suturing"]["value"] == pytest.approx(2 / 3)
    expected = np.std([1, 0.5, 0.5], ddof=1) / np.sqrt(3)
    assert over_folds["Suturing"]["error"] == pytest.approx(expected)
    over_videos = by_category(hand_made(rights), ("Suturing", "Dissection"))["Suturing"]
    assert over_videos["over"] == "videos" and over_videos["error"] == pytest.approx(expected)
    specialties = {"a": {"specialty": "Urology"}, "b": {"specialty": "General"}, "c": {}}
    found = by_specialty(hand_made(rights), specialties)
    assert {name: entry["accuracy"]["value"] for name, entry in found.items()} == {"General": 0.5, "Urology": 1.0}


def test_the_lengths_of_clips_are_counted_by_task_and_specialty():
    lengths = (0.4, 1.0, 1.9, 5.0, 19.9, 20.0, 300.0)
    clips = [Clip("v", 0.0, length, "micro", {"action": "Tug"}, specialty="Urology") for length in lengths]
    counts = durations([*clips, Clip("w", 0.0, 2.0, "macro", {"step": "Suturing"})], {"w": {"specialty": "General"}})
    own = counts["counts"]["micro"]["Urology"]
    assert (own[0], own[1], own[5], own[19], own[20], sum(own)) == (1, 2, 1, 1, 2, 7)
    assert counts["counts"]["macro"]["General"][2] == 1
    plot = duration_plot(counts, "micro")
    assert plot["data"][0]["x"][-1] == "≥ 20" and sum(plot["data"][0]["y"]) == 7


def test_whiskers_are_one_standard_error():
    entry = {"value": 0.8, "error": 0.1, "samples": 9}
    unknown = {"value": 0.5, "error": None, "samples": 1}
    (trace,) = category_plot({"Tug": entry, "Hook": unknown})["data"]
    assert trace["error_x"]["array"] == pytest.approx([0.1, 0]) == trace["error_x"]["arrayminus"]
    of_tag = {"General": {"accuracy": entry, "auroc": {"value": None, "error": None, "samples": 1}}}
    assert specialty_plot({"arm": of_tag}, "accuracy")["data"][0]["error_y"]["array"] == pytest.approx([0.1])
    assert specialty_plot({"arm": of_tag}, "auroc")["data"][0]["y"] == []
    interval = {"value": 0.78, "low": 0.73, "high": 0.77}  # a misprint of the paper
    (bar,) = decoder_plot({"halsted": {"phase": interval}}, [], {})["data"]
    assert bar["error_y"]["array"] == [0.0] and bar["error_y"]["arrayminus"] == pytest.approx([0.05])
    before, after = gain_plot({"micro": {"first": [0.6, 0.8], "second": [0.9, None]}})["data"]
    assert before["y"] == [pytest.approx(0.7)] and before["error_y"]["array"] == pytest.approx([0.1])
    assert after["y"] == [0.9] and after["error_y"]["array"] == [0.0]
