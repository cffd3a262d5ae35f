"""The benchmarks of the field: each published layout, split, metric and figure; leaks; and clear errors."""

import json
import pickle
import re

import in_process
import numpy as np
import published_sets
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas.atlas_table import write_atlas
from halsted_ray.atlas.formats.grasp import read_rows
from halsted_ray.atlas.formats.published_splits import numbered_names
from halsted_ray.atlas.formats.recording import Recording
from halsted_ray.atlas.imports import identify_videos
from halsted_ray.benchmarks.benchmark import benchmark, benchmark_of, known
from halsted_ray.benchmarks.data_set import DataSet
from halsted_ray.benchmarks.figures import figures_of
from halsted_ray.benchmarks.labelled import JudgedFrames
from halsted_ray.benchmarks.leaks import Leak, find_leak, shared_recordings
from halsted_ray.benchmarks.parts import parts_of, read_names
from halsted_ray.benchmarks.published_files import LAYOUTS, annotation_files, find_media, labels_of, read_video
from halsted_ray.benchmarks.run import BenchmarkRun, Choices, own_names, run_benchmark, unlike_vocabulary
from halsted_ray.cli.benchmark import as_text
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.language.contrast_model import VideoTextConfig, VideoTextModel
from halsted_ray.language.prompts import LabelPrompts
from halsted_ray.language.text_encoder import load_text_encoder
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.records import Video
from halsted_ray.storage.vectors import sampling_name

TABLE = {
    "cholec80-phase",
    "autolaparo",
    "strasbypass70",
    "bernbypass70",
    "grasp-phase",
    "grasp-step",
    "sar-rarp50",
    "cholect50",
    "cholec80-tool",
    "grasp-tool",
}
"""The columns of SurgLaVi's table of zero-shot results."""


@pytest.fixture(scope="module")
def texts():
    """The text encoder, loaded once for all runs."""
    loaded = load_text_encoder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("halsted_ray.benchmarks.run.load_text_encoder", lambda ref: loaded)
        yield loaded


def model_of(texts, **settings):
    """An untrained model: what it says is arbitrary, and always the same."""
    identity = encoder_identity("tiny")
    config = VideoTextConfig(
        "tiny", identity.fingerprint, identity.dim, "", texts.fingerprint, texts.width, dim=8, hidden=8, **settings
    )
    import torch

    torch.manual_seed(0)
    return VideoTextModel(config).eval()


def listed(tmp_path, own):
    (tmp_path / "test.txt").write_text("\n".join(own))
    return str(tmp_path / "test.txt")


def read_all(name, folder, **settings):
    """Name → (times, truth) of every video that is there."""
    own = benchmark(name)
    data = DataSet(str(folder), own.target, own.within, **settings)
    labels = list(own.labels) or labels_of(data, own.layout)
    found = {}
    for video, file in annotation_files(data, own.layout).items():
        read = read_video(data, own.layout, video, file, find_media(data, own.layout, video), labels)
        found[video] = list(zip(read.times_s, read.truth, strict=True))
    return found


def test_every_column_of_the_table_is_a_benchmark_and_multibypass140_is():
    assert TABLE | {"multibypass140-phase", "multibypass140-step"} == set(known())


def test_published_figures_are_those_of_the_table_and_name_their_source():
    """Spot checks of each column, read from the table by hand."""
    surgclip = {name: next(r for r in known()[name].published if r.model == "SurgCLIP").figures for name in TABLE}
    assert surgclip["cholec80-phase"] == {"accuracy": 61.29, "f1": 50.53}
    assert surgclip["autolaparo"] == {"accuracy": 69.14, "f1": 56.37}
    assert surgclip["strasbypass70"] == {"accuracy": 32.37, "f1": 30.78}
    assert surgclip["bernbypass70"] == {"accuracy": 23.90, "f1": 19.68}
    assert surgclip["grasp-phase"] == {"accuracy": 41.49, "f1": 34.94}
    assert surgclip["grasp-step"] == {"accuracy": 26.28, "f1": 16.53}
    assert surgclip["sar-rarp50"] == {"accuracy": 17.42, "f1": 7.76}
    assert [surgclip[name]["map"] for name in ("cholect50", "cholec80-tool", "grasp-tool")] == [5.28, 40.80, 45.97]
    rows = [row for one in known().values() for row in one.published]
    assert len(rows) == 70 and {row.source for row in rows} == {"SurgLaVi 2026"}


def test_official_splits():
    parts = {name: known()[name].parts for name in known()}
    assert parts["cholec80-phase"]["test"] == tuple(f"video{n}" for n in range(41, 81))
    assert parts["autolaparo"]["validation"] == ("11", "12", "13", "14") and parts["autolaparo"]["test"][0] == "15"
    assert parts["sar-rarp50"]["test"][-1] == "test/video_50"
    triplets = parts["cholect50"]
    assert [len(triplets[part]) for part in ("train", "validation", "test")] == [35, 5, 10]
    assert len({name for own in triplets.values() for name in own}) == 50
    assert not parts["bernbypass70"] and "--test FOLDER/labels/bern" in known()["bernbypass70"].unknown


def test_cholec80(tmp_path):
    published_sets.cholec80(tmp_path, [41], with_videos=False)
    published_sets.pictures(tmp_path / "frames/video41", ["1.jpg"], [0])
    found = read_all("cholec80-phase", tmp_path)["video41"]
    assert [at for at, _ in found] == [0, 1, 2, 3, 4, 5]  # one frame per second of 25
    assert [own for _, own in found] == [("Preparation",)] * 3 + [("GallbladderDissection",)] * 3
    tools = read_all("cholec80-tool", tmp_path)["video41"]
    assert tools[0] == (0.0, ("Grasper",)) and tools[5] == (5.0, ("Grasper", "Hook"))


def test_autolaparo(tmp_path):
    published_sets.autolaparo(tmp_path, [15])
    found = read_all("autolaparo", tmp_path)["15"]
    assert [at for at, _ in found] == [0, 1, 2, 3, 4, 5]
    assert found[0][1] == ("Preparation",) and found[2][1] == ("Dividing Ligament and Peritoneum",)
    assert found[5][1] == ("Washing",)
    rows = "".join(f"{k * 25}\t{k + 1}\n" for k in range(3))  # frames counted at 25 per second are the same seconds
    published_sets.write(tmp_path / "labels/label_15.txt", f"Frame\tPhase\n{rows}")
    assert [at for at, _ in read_all("autolaparo", tmp_path)["15"]] == [0, 1, 2]


def test_multibypass140(tmp_path):
    published_sets.multibypass140(tmp_path, ["BBP01", "SBP02"])
    both = read_all("multibypass140-phase", tmp_path)
    assert set(both) == {"BBP01", "SBP02"}
    assert set(read_all("bernbypass70", tmp_path)) == {"BBP01"}
    assert set(read_all("strasbypass70", tmp_path)) == {"SBP02"}
    # Out of body lies over the phases and is none of them.
    assert [own for _, own in both["BBP01"]] == [("preparation",)] * 3 + [("gastric_pouch_creation",)] * 3
    assert labels_of(DataSet(str(tmp_path), "phases"), "multibypass140") == ["preparation", "gastric_pouch_creation"]
    steps = read_all("multibypass140-step", tmp_path)["SBP02"]
    assert [own for _, own in steps] == [("s1_cavity_exploration",)] * 4 + [("s2_trocar_placement",)] * 2


def test_grasps_annotation_whose_image_id_is_a_list_is_refused_in_words():
    good = {"image_name": "CASE001/00012.jpg", "image_id": [1], "phases": 2}
    assert read_rows("phases", "a.json", {"images": [], "annotations": [good]}) == {
        "CASE001": [(12, "CASE001/00012.jpg", 2)]
    }
    with pytest.raises(AtlasError, match="image_name, or the image_id of one of images"):
        read_rows("phases", "a.json", {"images": [], "annotations": [{"image_id": [1], "phases": 2}]})
    assert unlike_vocabulary(benchmark("grasp-phase"), ["Idle", "Nap"])[0].startswith("1 label is not in")


def test_grasp(tmp_path):
    published_sets.grasp(tmp_path, ["CASE001"], ["CASE041"])
    data = DataSet(str(tmp_path), "phases")
    found = parts_of(benchmark("grasp-phase"), data, annotation_files(data, "grasp"), {})
    assert found == {"train": ("CASE001",), "test": ("CASE041",)}
    phases = read_all("grasp-phase", tmp_path)["CASE041"]
    assert [own for _, own in phases] == [("Idle",)] * 4 + [("LPIL",)] * 4
    assert [own for _, own in read_all("grasp-step", tmp_path)["CASE041"]][:3] == [
        ("Idle",),
        ("Id_Illiac_Vein_Artery",),
        ("Dissection_Illiac_Lymph_Nodes",),
    ]
    tools = read_all("grasp-tool", tmp_path)["CASE041"]
    assert tools == [  # the picture without an instrument counts
        (0.0, ()),
        (2.0, ("Bipolar Forceps",)),
        (4.0, ("Prograsp Forceps",)),
        (6.0, ("Prograsp Forceps",)),
    ]


def test_grasp_at_thirty_pictures_per_second(tmp_path):
    """The pictures of CASE041 count its 30 frames per second; those of CASE001 each one or two of 45, so that the place
    of a picture gives its time, and the number does not (BCV-Uniandes/GraSP)."""
    numbers = [f"{k:09d}" for k in (0, 1, 3, 4, 6, 7, 9, 10)]
    published_sets.grasp(tmp_path, ["CASE001"], ["CASE041"], numbers)
    found = read_all("grasp-phase", tmp_path)["CASE001"]
    assert [at for at, _ in found] == pytest.approx([k / 30 for k in range(8)])
    media = find_media(DataSet(str(tmp_path), "phases"), "grasp", "CASE001")
    assert media.per_s == 30 and media.length_s == pytest.approx(8 / 30)


def test_grasps_descriptions_are_the_sentences_of_its_short_names(tmp_path):
    published_sets.grasp(tmp_path, ["CASE001"], ["CASE041"])
    data = DataSet(str(tmp_path), "phases")
    said = own_names(labels_of(data, "grasp"), LAYOUTS["grasp"].descriptions(data))
    assert said == {"Idle": ("idle",), "LPIL": ("left pelvic isolated lymphadenectomy",)}
    assert own_names(["s18_gastrojejunal_stapling"], {}) == {"s18_gastrojejunal_stapling": ("gastrojejunal stapling",)}


def test_pictures_are_in_the_order_of_their_numbers(tmp_path):
    names = [f"img{k}.jpg" for k in range(1, 13)]  # img10 is not before img2
    published_sets.pictures(tmp_path / "frames/BBP01", names, [1] * 12)
    assert find_media(DataSet(str(tmp_path), "phases"), "multibypass140", "BBP01").pictures == tuple(names)


@pytest.mark.parametrize("name", sorted(name for name, own in known().items() if own.vocabulary))
def test_the_labels_of_a_benchmark_are_the_categories_of_its_taxonomy(name):
    own = benchmark(name)
    categories = taxonomies.load(own.vocabulary.split("/")[0]).tag(own.vocabulary.split("/")[1]).categories
    assert not own.labels or tuple(own.labels) == categories
    assert not unlike_vocabulary(own, categories)
    assert unlike_vocabulary(own, (*categories, "Eversion"))[0].startswith("1 label is not in the taxonomy")


def test_sar_rarp50(tmp_path):
    published_sets.sar_rarp50(tmp_path, ["test/video_41", "train1/video_01_1"])
    found = read_all("sar-rarp50", tmp_path)
    assert len(found["test/video_41"]) == 20 and found["test/video_41"][1][0] == pytest.approx(0.1)
    assert found["test/video_41"][9][1] == ("Other",) and found["test/video_41"][10][1] == ("Tying a knot",)
    data = DataSet(str(tmp_path), "action")
    parts = parts_of(benchmark("sar-rarp50"), data, annotation_files(data, "sar-rarp50"), {})
    assert parts["train"] == ("train1/video_01_1",) and len(parts["test"]) == 10
    spans = "0 59 0\n60 119 5\n"  # the same, as the other file has it
    (tmp_path / "test/video_41/action_discrete.txt").unlink()
    published_sets.write(tmp_path / "test/video_41/action_continues.txt", spans)
    assert read_all("sar-rarp50", tmp_path)["test/video_41"] == found["test/video_41"]


def test_cholect50(tmp_path):
    published_sets.cholect50(tmp_path, [6])
    found = read_all("cholect50", tmp_path)["VID06"]
    assert [own for _, own in found][2:] == [
        ("grasper, grasp, gallbladder",),
        ("grasper, grasp, gallbladder", "hook, dissect, gallbladder"),
        ("grasper, grasp, gallbladder", "hook, dissect, gallbladder"),
        (),
    ]


@pytest.mark.parametrize("name", sorted(known()))
def test_a_folder_of_another_layout(tmp_path, name):
    (tmp_path / "notes.txt").write_text("nothing")
    own = benchmark(name)
    with pytest.raises(AtlasError, match=f"no {own.layout} here; expected files such as"):
        annotation_files(DataSet(str(tmp_path), own.target, own.within), own.layout)


def grasp_text(annotations):
    """A file of GraSP with two phases."""
    categories = [{"id": 0, "name": "Idle"}, {"id": 1, "name": "Dissection"}]
    return json.dumps({"images": [], "annotations": annotations, "phases_categories": categories})


NO_CATEGORIES = '{"images": [], "annotations": []}'


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("cholec80-phase", "phase_annotations/video41-phase.txt", "Frame\tPhase\n0\tprep\n", ".txt:2: got 'prep'"),
        ("cholec80-tool", "tool_annotations/video41-tool.txt", "Frame\n", "expected the header 'Frame Grasper"),
        ("autolaparo", "labels/label_15.txt", "frame\tphase\n0\t8\n", "got 8; expected a phase of 1 to 7"),
        ("autolaparo", "labels/label_15.txt", "frame\tphase\n0\t1\n1\t1\n5\t1\n", "frames that rise by equal steps"),
        ("autolaparo", "labels/label_15.txt", "frame\tphase\n4\t1\n4\t1\n", "frames that rise by equal steps"),
        ("autolaparo", "labels/label_15.txt", "frame\tphase\n", "no labelled frame of '15'"),
        ("autolaparo", "labels/label_15.txt", "", "expected the header 'frame phase'|no labelled frame"),
        ("bernbypass70", "labels/bern/labels_by70/BBP01.mp4.json", "{", "not JSON"),
        ("bernbypass70", "labels/bern/labels_by70/BBP01.mp4.json", '{"phases": [{"start": 1}]}', "expected start, end"),
        ("bernbypass70", "labels/bern/labels_by70/BBP01.mp4.json", "[]", "expected a list of spans"),
        ("grasp-phase", "annotations/grasp_long-term_test.json", "[]", "an object with the lists images and"),
        (
            "bernbypass70",
            "labels/bern/labels_by70/BBP01.mp4.json",
            '{"phases": [{"start": 0, "end": 1e300, "label_name": "a", "label_id": 0}]}',
            "172,800,000 at most",
        ),
        ("grasp-phase", "annotations/grasp_long-term_test.json", NO_CATEGORIES, "expected a list of categories"),
        ("grasp-phase", "annotations/grasp_long-term_test.json", grasp_text([{}]), "expected image_name"),
        (
            "grasp-phase",
            "annotations/grasp_long-term_test.json",
            grasp_text([{"image_name": "../etc/1.jpg", "phases": 1}]),
            "a picture such as CASE041/000000012.jpg",
        ),
        (
            "grasp-phase",
            "annotations/grasp_long-term_test.json",
            grasp_text([{"image_name": "CASE041/1.jpg", "phases": 5}]),
            "expected an id of phases_categories",
        ),
        ("sar-rarp50", "test/video_41/action_discrete.txt", "0,9\n", "expected a class of 0 to 7"),
        ("cholect50", "labels/VID06.json", "{}", "instrument,verb,target"),
        (
            "cholect50",
            "labels/VID06.json",
            '{"categories": {"triplet": {"0": "a,b,c"}}, "annotations": {"0": [[0]]}}',
            "expected 15 numbers",
        ),
        (
            "cholect50",
            "labels/VID06.json",
            '{"categories": {"triplet": {"0": "a,b,c"}}, "annotations": {"0": [[7' + ", 1" * 14 + "]]}}",
            "expected a number of categories.triplet",
        ),
    ],
)  # fmt: skip
def test_annotations_that_break_their_layout_are_named_with_their_place(tmp_path, name, file, text, message):
    published_sets.write(tmp_path / file, text)
    for media in ("frames/video41", "frames/15", "frames/BBP01", "frames/CASE041", "videos/VID06"):
        (tmp_path / media).mkdir(parents=True)
        (tmp_path / media / "0.jpg").write_bytes(b"")
    with pytest.raises(AtlasError, match=message):
        read_all(name, tmp_path)


def frames_of(truth_NK, video_N):
    found = np.arange(len(truth_NK))
    return JudgedFrames(np.zeros((1, 1)), found, truth_NK, np.array(video_N), ("a", "b"), 0)


def test_accuracy_and_f1_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth_N, scores_NK, video_N = rng.integers(4, size=90), rng.normal(size=(90, 6)), np.repeat([0, 1], [60, 30])
    scores_NK[np.arange(90), truth_N] += 1
    found_N = scores_NK.argmax(1)
    found = figures_of(scores_NK, frames_of(np.eye(6, dtype=bool)[truth_N], video_N), "accuracy-f1", False, [])
    theirs = [
        (sklearn.metrics.accuracy_score(t, f), sklearn.metrics.f1_score(t, f, labels=np.unique(t), average="macro"))
        for t, f in ((truth_N, found_N), *((truth_N[video_N == v], found_N[video_N == v]) for v in (0, 1)))
    ]
    assert (found["accuracy"], found["f1"]) == pytest.approx(theirs[0])
    assert (found["accuracy_videos"], found["f1_videos"]) == pytest.approx(np.mean(theirs[1:], 0))
    assert found["chance"] == 1 / 6 and found["commonest"] == np.bincount(truth_N).max() / 90


def test_map_is_that_of_scikit_learn_and_by_video_as_ivtmetrics_defines_it():
    rng = np.random.default_rng(1)
    truth_NK, scores_NK, video_N = rng.random((80, 5)) < 0.3, rng.random((80, 5)), np.repeat([0, 1], 40)
    truth_NK[:, 4] = False  # never there: does not count
    truth_NK[:40, 3] = False  # in one video alone: its mean is of that video
    frames = frames_of(truth_NK, video_N)
    ap = sklearn.metrics.average_precision_score
    pooled = np.mean([ap(truth_NK[:, k], scores_NK[:, k]) for k in range(4)])
    each = [
        [ap(truth_NK[v * 40 : v * 40 + 40, k], scores_NK[v * 40 : v * 40 + 40, k]) for v in (0, 1) if k < 3 or v]
        for k in range(4)
    ]
    by_video = np.mean([np.mean(own) for own in each])
    found = figures_of(scores_NK, frames, "map", False, [])
    assert (found["map"], found["map_videos"]) == pytest.approx((pooled, by_video))
    found = figures_of(scores_NK, frames, "map-per-video", False, ["x"] * 5)
    assert (found["map"], found["map_pooled"]) == pytest.approx((by_video, pooled))


def test_a_triplets_parts_are_scored_by_the_best_triplet():
    labels = ["grasper, grasp, gallbladder", "hook, dissect, gallbladder", "grasper, pack, gallbladder"]
    truth_NK = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]], bool)
    scores_NK = np.array([[0.1, 0.2, 0.9], [0.1, 0.8, 0.3], [0.7, 0.2, 0.1], [0.1, 0.9, 0.2]])
    found = figures_of(scores_NK, frames_of(truth_NK, [0, 0, 0, 0]), "map-per-video", False, labels)
    assert found["map_instrument"] == 1.0  # a grasper is seen where one is, if only in the wrong triplet
    assert found["map_target"] == 1.0 and found["map"] < 1.0


def test_the_action_score_is_the_challenges():
    """Row 2 of the table of MS-TCN's golden values: accuracy 8/9, F1@10 1; row 3: 5/9 and 0.2."""
    letters = {"A": 0, "B": 1, "C": 2}
    rows = [("AAAABBCCC", "AAABBBCCC"), ("ABABABABA", "AAAAAAAAA")]
    found_N, truth_N = ([letters[c] for pair in rows for c in pair[side]] for side in (0, 1))
    frames = frames_of(np.eye(3, dtype=bool)[truth_N], np.repeat([0, 1], 9))
    found = figures_of(np.eye(3)[found_N], frames, "accuracy-f1", True, [])
    assert found["f1_10"] == pytest.approx(0.6)
    assert found["action_score"] == pytest.approx(np.sqrt((8 / 9 + 5 / 9) / 2 * 0.6))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(1, 40))
def test_figures_are_shares_and_do_not_depend_on_the_scale_of_scores(seed, labels, count):
    rng = np.random.default_rng(seed)
    scores_NK, truth_N = rng.normal(size=(count, labels)), rng.integers(labels, size=count)
    one = frames_of(np.eye(labels, dtype=bool)[truth_N], np.sort(rng.integers(2, size=count)))
    several = frames_of(rng.random((count, labels)) < 0.4, one.video_N)
    for frames, metric in ((one, "accuracy-f1"), (several, "map"), (several, "map-per-video")):
        found = figures_of(scores_NK, frames, metric, metric == "accuracy-f1", ["a"] * labels)
        assert all(value is None or 0 <= value <= 1 for value in found.values())
        assert figures_of(7 * scores_NK, frames, metric, metric == "accuracy-f1", ["a"] * labels) == found


def test_a_perfect_answer_is_a_whole_share():
    truth_NK = np.eye(3, dtype=bool)[[0, 0, 1, 2, 2, 1]]
    for metric, names_ in (("accuracy-f1", ("accuracy", "f1", "f1_videos")), ("map", ("map", "map_videos"))):
        found = figures_of(truth_NK.astype(float), frames_of(truth_NK, [0, 0, 0, 1, 1, 1]), metric, False, [])
        assert [found[name] for name in names_] == [1.0] * len(names_)


@pytest.fixture(scope="module")
def cholec80(tmp_path_factory):
    folder = tmp_path_factory.mktemp("field") / "cholec80"
    published_sets.cholec80(folder, [1, 41, 42])
    return folder


def test_a_run_on_videos_has_the_figures_of_its_vectors(cholec80, texts, tmp_path):
    model = model_of(texts)
    choices = Choices(model, named={"test": listed(tmp_path, ["video41", "video42"])})
    found = run_benchmark(benchmark("cholec80-phase"), str(cholec80), choices)
    assert (found.videos, found.of_videos, found.frames, found.left_out, found.missing) == (2, 2, 12, 0, {})
    # The same by hand, from the stored vectors of the windows of 2.5 s.
    identity, own = encoder_identity("tiny"), benchmark("cholec80-phase")
    store = open_vectors(str(cholec80 / "embeddings"), identity, sampling_name(model.config.windows, "reference"))
    files = [Recording((), "", str(cholec80 / f"videos/video{n}.mp4")) for n in (41, 42)]
    held = [store.get(video.video_id, 0, 9) for video in identify_videos(files, {}, "")]
    clips = [v["fine", s // 2.5 * 2.5, min(s // 2.5 * 2.5 + 2.5, 6.0)][None] for v in held for s in range(6)]
    labels_KD = LabelPrompts("", "", own.sentences(own.labels)).vectors(model, texts)
    answers_N = (model.embed_clips(clips) @ labels_KD.T).argmax(1)
    truth_N = [0, 0, 0, 3, 3, 3] * 2
    assert found.figures["accuracy"] == pytest.approx(np.mean(answers_N == truth_N))


def test_missing_videos_are_counted_and_named_and_end_with_code_3(cholec80, texts, tmp_path):
    model_of(texts).save(str(tmp_path / "model"))
    words = ["benchmark", "run", "cholec80-phase", cholec80, "--model", tmp_path / "model"]
    code, shown, _ = in_process.halsted(*words)
    assert code == 3
    assert "2 of 40 test videos, 12 frames, 7 labels" in shown
    assert "missing: 38 videos: video43 (no annotations), video44" in shown and "and 28 more" in " ".join(shown.split())
    assert "this run, zero-shot" in shown and re.search(r"SurgCLIP +61.29 +50.53  SurgLaVi 2026", shown)
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_no_video_of_the_split_is_an_error(texts, tmp_path):
    published_sets.cholec80(tmp_path, [1, 41], with_videos=False)
    with pytest.raises(
        AtlasError, match=r"none of the 40 videos of the test part .* 'video41' \(no video or pictures\)"
    ):
        run_benchmark(benchmark("cholec80-phase"), str(tmp_path), Choices(model_of(texts)))


def test_a_leak_by_content_is_refused_unless_it_is_allowed_and_then_marked(cholec80, texts, tmp_path):
    (video,) = identify_videos([Recording((), "", str(cholec80 / "videos/video41.mp4"))], {}, "")
    model_of(texts, learned_from={"train": ["0" * 16], "validation": [video.video_id]}).save(str(tmp_path / "model"))
    words = ["benchmark", "run", "cholec80-tool", cholec80, "--model", tmp_path / "model"]
    code, _, said = in_process.halsted(*words, "--embeddings", tmp_path / "e")
    assert code == 2 and "has learned from 1 of the test videos (1 by content), such as 'video41'" in said
    assert not (tmp_path / "e").exists()  # refused before anything is decoded
    code, shown, _ = in_process.halsted(*words, "--allow-leak", "--json")
    said = json.loads(shown)
    assert code == 3 and said["leak"]["by_content"] == ["video41"] and len(said["missing"]) == 38
    assert said["published_percent"][-1]["model"] == "SurgCLIP"


def test_a_row_with_a_leak_is_marked():
    figures = {"map": 0.5, "map_videos": None, "chance": 0.1}
    own, leak = benchmark("cholec80-tool"), Leak(("video41",))
    shown = as_text(BenchmarkRun(own, "zero-shot", "m 0", figures, ("a", "b"), 1, 2, 9, 0, {}, leak, ()))
    assert re.search(r"m 0 +50.00  this run, with a leak, zero-shot", shown)
    assert "LEAK: the model has learned from 1 of the test videos (1 by content)" in shown
    assert "mAP, mean over videos –" in shown


def test_the_videos_that_cholect50_and_cholec80_share_are_found(texts, tmp_path):
    """Pictures of CholecT50 have another content than Cholec80's videos; the numbers of the operations are the same."""
    published_sets.cholect50(tmp_path / "t50", [6, 111])
    videos = [
        Video(f"{n:016x}", f"/x/cholec80/videos/video{n:02d}.mp4", 1, 9.0, 8, 8, 25.0, "h264") for n in (1, 6, 11)
    ]
    write_atlas(str(tmp_path / "atlas"), videos, [], "v1")
    model = model_of(texts, learned_from={"train": [video.video_id for video in videos]})
    named = {"test": listed(tmp_path, ["VID06", "VID111"])}
    choices = Choices(model, named=named, atlases=[str(tmp_path / "atlas")], embeddings=str(tmp_path / "e"))
    with pytest.raises(UsageError, match=r"from 1 of the test videos \(1 by name\), such as 'VID06'"):
        run_benchmark(benchmark("cholect50"), str(tmp_path / "t50"), choices)
    # Without the atlas the names are not known, and this is said.
    unnamed = run_benchmark(
        benchmark("cholect50"), str(tmp_path / "t50"), Choices(model, named=named, embeddings=str(tmp_path / "e"))
    )
    assert "the names of 3 videos that the model has learned from are not known" in unnamed.leak.told()
    assert unnamed.frames == 12 and set(unnamed.figures) >= {"map", "map_instrument", "map_verb", "map_target"}
    assert any("training videos of cholec80-phase (VID06)" in text for text in unnamed.differs)


def test_numbers_of_operations_are_told_from_others():
    own = benchmark("cholect50")
    assert own.recording("/x/video06.mp4") == own.recording("videos/VID06") == "cholec80 6"
    assert own.recording("/x/VID111/000001.png") == "cholec80 111" and own.recording("/x/myvideo06.mp4") == ""
    assert benchmark("autolaparo").recording("/d/AutoLaparo/videos/07.mp4") == "autolaparo 7"
    assert benchmark("autolaparo").recording("/d/other/videos/07.mp4") == ""
    assert benchmark("sar-rarp50").recording("/d/test/video_41/video_left.avi") == "sar-rarp50 video_41"
    assert benchmark("sar-rarp50").recording("sar-rarp50/test/video_41") == "sar-rarp50 video_41"
    videos = [Video("1" * 16, "/d/video_41/video_left.avi", 1, 9.0, 8, 8, 25.0, "h264")]
    leak = find_leak(benchmark("sar-rarp50"), {"test/video_41": ""}, {"train": ["1" * 16]}, videos)
    assert leak.by_name == ("test/video_41",) and not leak.unnamed


def test_videos_that_another_benchmark_teaches_with_are_named():
    (said,) = shared_recordings(benchmark("cholec80-phase"), ["video41", "video43"])
    assert said.startswith("1 of the test videos are training videos of cholect50 (video43)")
    own = benchmark("cholect50")
    assert "4 of the test videos are training videos of cholec80-phase (VID06, VID10, VID14, VID32)" in " ".join(
        shared_recordings(own, own.parts["test"])
    )
    assert not shared_recordings(benchmark("autolaparo"), ["15"])


def test_a_linear_probe_learns_from_the_train_part(tmp_path):
    published_sets.grasp(tmp_path, ["CASE001", "CASE002"], ["CASE041"])
    words = ["benchmark", "run", "grasp-phase", tmp_path, "--encoder", "tiny", "--probe", "linear", "--json"]
    code, shown, _ = in_process.halsted(*words)
    said = json.loads(shown)
    assert code == 0 and said["figures"]["accuracy"] >= 7 / 8  # a window of 2.5 s lies across both phases
    assert said["leak"]["told"] == "which videos the model has learned from is not known"
    assert any("classifier saw the train part" in text for text in said["differs"])


def test_a_split_that_is_not_known_must_be_named_and_a_pickle_names_it(texts, tmp_path):
    published_sets.multibypass140(tmp_path, ["BBP01", "BBP02"])
    choices = Choices(model_of(texts))
    with pytest.raises(UsageError, match="the split of bernbypass70 must be named: The data set has five folds"):
        run_benchmark(benchmark("bernbypass70"), str(tmp_path), choices)
    rows = [{"Frame_id": "BBP02_00000005", "Original_frame_id": 4, "Phase_gt": 1, "Step_gt": 2, "unique_id": 7}]
    (tmp_path / "fold.pickle").write_bytes(pickle.dumps({"BBP02": rows}))
    choices = Choices(model_of(texts), named={"test": str(tmp_path / "fold.pickle")})
    found = run_benchmark(benchmark("bernbypass70"), str(tmp_path), choices)
    assert (found.videos, found.frames, found.labels) == (1, 6, ("preparation", "gastric_pouch_creation"))


class Harmful:
    def __reduce__(self):
        return exec, ("print('code of a pickle ran')",)


def test_a_pickle_runs_nothing(tmp_path, capsys):
    (tmp_path / "bad.pickle").write_bytes(pickle.dumps({"BBP02": Harmful()}))
    with pytest.raises(UsageError, match="it names builtins.exec"):
        read_names(str(tmp_path / "bad.pickle"))
    assert not capsys.readouterr().out
    for data, message in (
        (b"\x80\x04junk", "as a pickle"),
        (b"", "names no video"),
        (pickle.dumps([1]), "holds a list"),
    ):
        (tmp_path / "bad.pickle").write_bytes(data)
        with pytest.raises(UsageError, match=message):
            read_names(str(tmp_path / "bad.pickle"))


def test_a_labelled_frame_whose_picture_is_gone_is_counted(tmp_path):
    published_sets.cholect50(tmp_path, [6])
    (tmp_path / "videos/VID06/000002.png").unlink()
    data = DataSet(str(tmp_path), "triplet")
    media, labels = find_media(data, "cholect50", "VID06"), labels_of(data, "cholect50")
    read = read_video(data, "cholect50", "VID06", str(tmp_path / "labels/VID06.json"), media, labels)
    assert read.unseen == 1 and read.times_s == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert len(read.truth[2]) == 2  # the label of frame 3 stays with its own picture


def test_a_picture_that_is_broken_or_gone_leaves_its_frames_out_and_counts_them(texts, tmp_path):
    published_sets.cholect50(tmp_path, [6])
    (tmp_path / "videos/VID06/000005.png").write_bytes(b"no picture")
    (tmp_path / "videos/VID06/000000.png").unlink()
    model_of(texts).save(str(tmp_path / "model"))
    words = ["benchmark", "run", "cholect50", tmp_path, "--model", tmp_path / "model"]
    code, shown, _ = in_process.halsted(*words, "--test", listed(tmp_path, ["VID06"]))
    assert code == 3 and "left out: 3 labelled frames without a picture" in shown and "3 frames" in shown


def test_videos_may_lie_elsewhere(tmp_path):
    for name in ("cholec80/video41.mp4", "cholec80/video42.MKV", "sar/test/video_41/video_left.mp4", "by/BBP01/1.jpg"):
        published_sets.write(tmp_path / name, "")
    for layout, folder, name, expected in (
        ("cholec80", "cholec80", "video41", "video41.mp4"),
        ("cholec80", "cholec80", "video42", "video42.MKV"),  # re-encoded
        ("sar-rarp50", "sar", "test/video_41", "test/video_41/video_left.mp4"),
        ("multibypass140", "by", "BBP01", "BBP01"),
    ):
        found = find_media(DataSet("/nowhere", "", videos=str(tmp_path / folder)), layout, name)
        assert found.uri == str(tmp_path / folder / expected)
    assert found.pictures == ("1.jpg",)
    assert find_media(DataSet("/nowhere", "", videos=str(tmp_path)), "cholec80", "video41") is None


def test_a_data_set_without_its_test_part_says_so(texts, tmp_path):
    published_sets.grasp(tmp_path, ["CASE001"], ["CASE041"])
    (tmp_path / "annotations/grasp_long-term_test.json").unlink()
    with pytest.raises(AtlasError, match="its files name no test video of grasp-phase"):
        run_benchmark(benchmark("grasp-phase"), str(tmp_path), Choices(model_of(texts)))


def test_a_model_that_does_not_say_what_it_learned_from_is_not_called_clean():
    said = find_leak(benchmark("cholec80-phase"), {"video41": "1" * 16}, {}, []).told()
    assert said == "which videos the model has learned from is not known"


def test_wrong_choices(texts, tmp_path):
    published_sets.cholec80(tmp_path, [41], with_videos=False)
    for choices, message in (
        (Choices(), "name a model of video and text with --model"),
        (Choices(probe="linear"), "an --encoder alone can be judged with --probe linear"),
        (Choices(model_of(texts), named={"train": "x"}), "--train names videos without --test"),
        (
            Choices(None, "tiny", "linear", named={"test": listed(tmp_path, ["video41"])}),
            "needs videos to learn from; name them with --train FILE",
        ),
        (
            Choices(None, "tiny", "linear", named=dict.fromkeys(("train", "test"), listed(tmp_path, ["video41"]))),
            "'video41' is in the '(test|train)' part and in the '(test|train)' part",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            run_benchmark(benchmark("cholec80-phase"), str(tmp_path), choices)
    with pytest.raises(UsageError, match="no benchmark 'cholec81'; expected one of autolaparo"):
        benchmark("cholec81")


def test_sentences_of_ones_own_must_fit_the_labels(texts, tmp_path):
    published_sets.multibypass140(tmp_path, ["BBP01"])
    (tmp_path / "own.yaml").write_text("labels: {preparation: first, pouch: second}")
    own = {"test": listed(tmp_path, ["BBP01"])}
    with pytest.raises(UsageError, match="'gastric_pouch_creation' is missing; expected preparation, gastric"):
        run_benchmark(
            benchmark("bernbypass70"),
            str(tmp_path),
            Choices(model_of(texts), named=own, labels=str(tmp_path / "own.yaml")),
        )


def test_the_list_fits_a_terminal(capsys):
    code, shown, _ = in_process.halsted("benchmark", "list")
    assert code == 0 and all(len(line) <= 80 for line in shown.splitlines())
    assert "cholec80-phase        phase       40              accuracy, F1  SurgLaVi 2026" in shown
    code, shown, _ = in_process.halsted("benchmark", "list", "--json")
    assert {one["name"] for one in json.loads(shown)} == set(known())


def test_a_file_of_a_benchmark_that_lacks_a_key_is_refused():
    with pytest.raises(UsageError, match="x.yaml: KeyError 'split'; expected the keys of the other files"):
        benchmark_of({"name": "x"}, "x.yaml")
    assert numbered_names("video{:02d}", ["1-2", 5]) == ("video01", "video02", "video05")
