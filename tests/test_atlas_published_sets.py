"""Import of CholecT50, AutoLaparo, MultiBypass140 and GraSP: what is taken, what is left out, and what comes after."""

import json
import pickle
import re
import shutil
from dataclasses import replace

import av
import in_process
import numpy as np
import published_sets
import pytest
import small_video
from annotations import spans
from hypothesis import given, settings
from hypothesis import strategies as st

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.formats import FORMATS, ImportSettings
from halsted_ray.atlas.formats.published_set import label_spans
from halsted_ray.atlas.formats.published_splits import published_split
from halsted_ray.atlas.imports import import_annotations
from halsted_ray.atlas.releases import release
from halsted_ray.atlas.verify import verify
from halsted_ray.benchmarks.benchmark import benchmark
from halsted_ray.benchmarks.published_files import LAYOUTS
from halsted_ray.cli import main
from halsted_ray.errors import AtlasError
from halsted_ray.evaluation.published_split import Protocol, published_splits, task_figures
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import WindowSpec
from halsted_ray.storage.files import find_files
from halsted_ray.taxonomy import load
from halsted_ray.training.atlas_samples import samples_of_videos
from halsted_ray.training.loop import fit_in_process
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.samples import build_samples, training_windows
from halsted_ray.video.of_pictures import decode_picture

SPEC = WindowSpec(5.0, 2.5)
RECIPE = Recipe(epochs=1, batch_size=8, width=16, heads=2, layers=1, warmup_epochs=1, units=("clips", "grid"))
SETS = ("cholect50", "autolaparo", "multibypass140", "grasp")


def cholect50(root):
    """Videos of CholecT50's train, validation and test part, at a picture per second; VID06 as Cholec80's own."""
    published_sets.cholect50(root, [1, 8, 6])
    for number, name in ((1, "VID01"), (8, "VID08")):
        small_video.write(root / f"videos/{name}.mp4", 6, fps=1, look=number)
    small_video.write(root / "videos/video06.mp4", 6, look=6)
    for number in (1, 8, 6):
        said = json.loads((root / f"labels/VID{number:02d}.json").read_text())
        said["categories"]["phase"] = {"0": "preparation", "1": "carlot-triangle-dissection"}
        for frame, rows in said["annotations"].items():
            for row in rows:
                row[14] = int(int(frame) >= 2)
        published_sets.write(root / f"labels/VID{number:02d}.json", json.dumps(said))


def multibypass140(root):
    published_sets.multibypass140(root, ["BBP01", "BBP02", "SBP03"])
    for look, name in enumerate(("BBP01", "BBP02", "SBP03")):
        small_video.write(root / f"videos/{name}.mp4", 6.2, look=look)
    for part, centre, names in (
        ("train/1fps_100_0", "bern", ["BBP01"]),
        ("val/1fps_0", "bern", ["BBP02"]),
        ("test/1fps_0", "bern", []),
        ("train/1fps_100_0", "strasbourg", []),
        ("val/1fps_0", "strasbourg", []),
        ("test/1fps_0", "strasbourg", ["SBP03"]),
    ):
        file = root / f"labels/{centre}/labels_by70_splits/labels/{part}.pickle"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pickle.dumps({name: [{"Frame_id": f"{name}_00000001"}] for name in names}))


def grasp(root, numbers=published_sets.GRASP_1FPS, fps=1, seconds=8):
    published_sets.grasp(root, ["CASE001", "CASE002"], ["CASE041"], numbers)
    for look, case in enumerate(("CASE001", "CASE002", "CASE041")):
        small_video.write(root / f"videos/{case}.mp4", seconds, fps=fps, look=look)


MADE = {
    "cholect50": cholect50,
    "autolaparo": lambda root: published_sets.autolaparo(root, [1, 11, 15]),
    "multibypass140": multibypass140,
    "grasp": grasp,
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Format → folder of its miniature; each is copied before it is changed."""
    root = tmp_path_factory.mktemp("sets")
    for name, make in MADE.items():
        make(root / name)
    return {name: root / name for name in MADE}


@pytest.fixture(scope="module")
def atlases(sets, tmp_path_factory):
    """Format → (what its import did, the atlas)."""
    root = tmp_path_factory.mktemp("atlases")
    return {
        name: imported(sets[name], name, root, **({"fold": 0} if name == "multibypass140" else {})) for name in SETS
    }


@pytest.fixture
def copied(sets, tmp_path):
    return lambda name: shutil.copytree(sets[name], tmp_path / name)


def imported(source, format, tmp_path, **options):
    done = import_annotations(str(tmp_path / f"{format}-atlas"), str(source), format, **options)
    return done, read_atlas(str(tmp_path / f"{format}-atlas"))


def of_video(atlas, name):
    """The atlas with the clips of one video alone."""
    (video,) = (video for video in atlas.videos if video.uri.rpartition("/")[2].startswith(name))
    return replace(atlas, clips=tuple(clip for clip in atlas.clips if clip.video_id == video.video_id))


def parts(atlas):
    return {video.uri.rpartition("/")[2]: atlas.split.get(video.video_id, "") for video in atlas.videos}


def present(atlas, task):
    return [
        (start, stop, sorted(tag for tag in own if own[tag] == "Present")) for start, stop, own in spans(atlas, task)
    ]


def read(source, format, **options):
    """What a format reads, before any video is opened."""
    chosen = ImportSettings(load(format), **options)
    return FORMATS[format].read(str(source), chosen), chosen


def test_import_of_cholect50(atlases):
    done, atlas = atlases["cholect50"]
    own = of_video(atlas, "video06")  # Cholec80's file is the recording, at another rate
    assert spans(own, "phase", "phase") == [(0, 2, "preparation"), (2, 6, "carlot-triangle-dissection")]
    assert spans(own, "triplet", "triplet") == [
        (0, 5, "grasper, grasp, gallbladder"),
        (3, 5, "hook, dissect, gallbladder"),  # at the same time
    ]
    assert spans(own, "triplet", "verb") == [(0, 5, "grasp"), (3, 5, "dissect")]
    assert present(own, "tools") == [(0, 3, ["grasper"]), (3, 5, ["grasper", "hook"]), (5, 6, [])]
    assert parts(atlas) == {"VID01.mp4": "train", "VID08.mp4": "validation", "video06.mp4": "test"}
    assert (done.videos, done.taxonomy, done.left_out, done.notes) == (3, "cholect50", (), ())
    assert len({video.group for video in atlas.videos} - {""}) == 3
    assert {(clip.specialty, clip.procedure) for clip in atlas.clips} == {("General", "Laparoscopic Cholecystectomy")}
    assert verify(atlas) == []  # triplets overlap by design


def test_triplets_with_one_span_and_equal_triplets_are_counted(copied, tmp_path):
    root = copied("cholect50")
    said = json.loads((root / "labels/VID01.json").read_text())
    for frame, rows in said["annotations"].items():
        rows[:] = [[triplet, *[-1] * 14] for triplet in ((2, 0, 1, 1) if int(frame) in (1, 2) else (-1,))]
    (root / "labels/VID01.json").write_text(json.dumps(said))
    done, atlas = imported(root, "cholect50", tmp_path)
    assert done.counts == {"contradiction": 2} and "2 triplets that begin and end with another one" in str(
        done.left_out[0]
    )
    assert spans(of_video(atlas, "VID01"), "triplet", "verb") == [(1, 3, "grasp")]  # before null_verb
    assert present(of_video(atlas, "VID01"), "tools")[1] == (1, 3, ["grasper", "hook"])  # none is lost here
    (note,) = done.notes
    assert "2 times an instrument does what another one does at that moment" in note
    with pytest.raises(AtlasError, match="2 triplets that begin and end"):
        read(root, "cholect50", strict=True)


@pytest.mark.parametrize("format", ["cholect50", "autolaparo", "multibypass140"])
def test_folders_of_pictures_are_not_listed_for_labels(sets, monkeypatch, format):
    """A data set holds a hundred thousand pictures and more, and a store lists a thousand at a time."""
    looked = []
    monkeypatch.setattr(
        "halsted_ray.atlas.formats.recording.find_files",
        lambda fs, root, depth: looked.append(root) or find_files(fs, root, depth),
    )
    read(sets[format], format)
    assert looked == [f"{sets[format]}/labels"]


def test_import_of_autolaparo(atlases):
    done, atlas = atlases["autolaparo"]
    assert (done.videos, done.samples, done.left_out, done.notes) == (3, 9, (), ())
    assert spans(of_video(atlas, "15"), "phase", "phase") == [
        (0, 2, "Preparation"),
        (2, 5, "Dividing Ligament and Peritoneum"),
        (5, 6, "Washing"),  # number 7
    ]
    assert parts(atlas) == {"01.mp4": "train", "11.mp4": "validation", "15.mp4": "test"}
    assert atlas.taxonomy_digest == load("autolaparo").digest and verify(atlas) == []


def test_import_of_multibypass140(sets, atlases):
    done, atlas = atlases["multibypass140"]
    own = of_video(atlas, "BBP01")
    assert spans(own, "phase", "phase") == [(0, 2.5, "preparation"), (2.5, 6, "gastric_pouch_creation")]
    assert spans(own, "step", "step") == [(0, 4, "s1_cavity_exploration"), (4, 6, "s2_trocar_placement")]
    assert present(own, "overlay") == [(0, 1, []), (1, 4.5, ["out_of_body"]), (4.5, 6, [])]
    assert parts(atlas) == {"BBP01.mp4": "train", "BBP02.mp4": "validation", "SBP03.mp4": "test"}
    assert (done.left_out, done.notes) == ((), ()) and verify(atlas) == []
    with pytest.raises(AtlasError, match=r"bern/.*/train/1fps_100_4.pickle: no such file for fold 4"):
        read(sets["multibypass140"], "multibypass140", fold=4)
    recordings, chosen = read(sets["multibypass140"], "multibypass140")
    assert {recording.part for recording in recordings} == {""} and "none is chosen" in chosen.notes[0]


def test_bypass_videos_where_the_authors_archives_unpack_them(copied, tmp_path):
    root = copied("multibypass140")
    for name, folder in (("BBP01", "BernBypass70"), ("BBP02", "BernBypass70"), ("SBP03", "StrasBypass70")):
        (tmp_path / "datasets" / folder / "videos").mkdir(parents=True, exist_ok=True)
        shutil.move(root / f"videos/{name}.mp4", tmp_path / "datasets" / folder / "videos")
    done, _ = imported(root, "multibypass140", tmp_path, videos=str(tmp_path / "datasets"))
    assert done.videos == 3


def test_import_of_grasp(atlases):
    done, atlas = atlases["grasp"]
    own = of_video(atlas, "CASE041")
    assert spans(own, "phase", "phase") == [(0, 4, "Idle"), (4, 8, "LPIL")]
    assert spans(own, "step", "step")[:2] == [(0, 1, "Idle"), (1, 2, "Id_Illiac_Vein_Artery")]
    assert present(own, "tools") == [  # of every second picture, and each holds for a second
        (0, 1, []),
        (2, 3, ["bipolar forceps"]),
        (4, 5, ["prograsp forceps"]),
        (6, 7, ["prograsp forceps"]),
    ]
    assert parts(atlas) == {"CASE001.mp4": "train", "CASE002.mp4": "train", "CASE041.mp4": "test"}
    assert (done.videos, done.left_out) == (3, ()) and verify(atlas) == []


def test_grasp_at_thirty_pictures_per_second_needs_its_pictures_for_the_times(tmp_path):
    """The numbers of CASE001 rise by one or two per picture: the place of a picture gives its time."""
    root = tmp_path / "set"
    grasp(root, [f"{k:09d}" for k in (0, 1, 3, 4, 6, 7, 9, 10)], 30, 8 / 30)
    done, atlas = imported(root, "grasp", tmp_path)
    got = [
        (round(30 * start), round(30 * stop), phase)
        for start, stop, phase in spans(of_video(atlas, "CASE001"), "phase", "phase")
    ]
    assert got == [(0, 4, "Idle"), (4, 8, "LPIL")]
    (root / "frames/CASE001/000000003.jpg").unlink()
    _, chosen = read(root, "grasp")
    assert [left.code for left in chosen.left_out] == ["no-picture"] * 3  # of phases, steps and tools
    assert "1 labels of pictures that are not there" in str(chosen.left_out[0])
    shutil.rmtree(root / "frames")
    with pytest.raises(AtlasError, match="its numbers do not tell the time, a picture's place does"):
        read(root, "grasp", strict=True)


def test_what_grasp_says_of_single_instruments_is_counted(copied):
    root = copied("grasp")
    file = root / "annotations/grasp_short-term_test.json"
    said = json.loads(file.read_text())
    for one in said["annotations"]:
        one |= {"bbox": [0, 0, 1, 1], "actions": [3, 4]}
    file.write_text(json.dumps(said))
    _, chosen = read(root, "grasp")
    assert "6 actions and 3 places of single instruments are not taken" in chosen.notes[0] and not chosen.left_out


def test_pictures_without_a_video_are_told_and_made_on_request(copied, tmp_path):
    root = copied("grasp")
    (root / "videos/CASE041.mp4").unlink()
    done, _ = imported(root, "grasp", tmp_path)
    assert done.counts == {"no-video": 14} and "1 video is there as pictures alone" in done.notes[0]
    for name in ("CASE001", "CASE002"):
        (root / f"videos/{name}.mp4").rename(tmp_path / f"{name}.mp4")
    code, _, said = in_process.halsted("atlas", "import", tmp_path / "none", root, "--format", "grasp")
    assert code == 2 and "nothing to import" in said and "3 videos are there as pictures alone" in said
    assert "--make-videos writes one of each folder" in said
    for name in ("CASE001", "CASE002"):
        (tmp_path / f"{name}.mp4").rename(root / f"videos/{name}.mp4")
    words = ["atlas", "import", tmp_path / "made", root, "--format", "grasp", "--make-videos"]
    code, shown, _ = in_process.halsted(*words)
    assert code == 0 and "of 3 videos in taxonomy 'grasp'" in shown
    with av.open(str(root / "videos/CASE041.mp4")) as video:
        pictures = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert len(pictures) == 8 and video.duration / av.time_base == 8.0
    frame = decode_picture(str(root / "frames/CASE041/00005.jpg")).to_ndarray(format="rgb24")
    assert np.abs(pictures[5].astype(int) - frame).mean() < 3 < np.abs(pictures[0].astype(int) - frame).mean()
    (root / "videos/CASE041.mp4").unlink()
    (root / "frames/CASE041/00003.jpg").write_bytes(b"no picture")
    _, chosen = read(root, "grasp", make_videos=True)
    assert "00003.jpg can't be decoded" in str(chosen.left_out[0]) and not (root / "videos/CASE041.mp4").exists()


@pytest.mark.parametrize("format", SETS)
def test_a_released_import_is_learned_from_and_judged_on_its_published_test_part(atlases, tmp_path, format):
    root = str(shutil.copytree(atlases[format][1].root, tmp_path / "atlas"))
    release(root, "v1", validation=0.5)  # GraSP has no validation part; one is carved out
    atlas = read_atlas(root)
    ((split,), how) = published_splits(atlas, 1, 0)
    assert sorted(split.values()) == ["test", "train", "validation"] and how == "published split of v1"
    taxonomy, rng = atlas.load_taxonomy(), np.random.default_rng(0)
    labelled = samples_of_videos(atlas.videos, atlas.clips, taxonomy, RECIPE, SPEC)
    windows = {v.video_id: [w for w in training_windows(v.duration_s, SPEC) if w.kind == "fine"] for v in atlas.videos}
    vectors = {
        name: {
            (w.kind, w.start_s, w.stop_s): rng.normal(size=16).astype(np.float16)
            for w in [*windows[name], *(sample.window for sample in own)]
        }
        for name, own in labelled.items()
    }
    of_part = {part: name for name, part in split.items()}
    train, validation = (
        build_samples({of_part[part]: labelled[of_part[part]]}, vectors, Vocabulary(taxonomy))
        for part in ("train", "validation")
    )
    model = Halsted.create(taxonomy, 16, width=16, heads=2, layers=1)
    fitted = fit_in_process(train, validation, model.config.decoder_sizes, taxonomy, RECIPE)
    model.decoder.load_state_dict(fitted.tensors)
    (test,) = (video for video in atlas.videos if video.video_id == of_part["test"])
    clips_of = {test.video_id: [clip for clip in atlas.clips if clip.video_id == test.video_id]}
    for task in taxonomy.tasks:
        if not task.several:
            found = task_figures(task, [test], clips_of, windows, vectors, model, Protocol(), taxonomy.name)
            assert found["frames"] and not found["unanswered"]
            assert set(found) > {"frames", "unanswered"}, "figures of phases, or of tools"


AUTOLAPARO, VID06, BBP01 = "labels/label_15.txt", "labels/VID06.json", "labels/bern/labels_by70/BBP01.mp4.json"
LONG, SHORT = "annotations/grasp_long-term_test.json", "annotations/grasp_short-term_test.json"


@pytest.mark.parametrize(
    ("format", "file", "change", "code", "message"),
    [
        ("autolaparo", AUTOLAPARO, ("\t7", "\t8"), "unknown-label", "got 8; expected a phase of 1 to 7"),
        ("autolaparo", AUTOLAPARO, ("4\t2", "9\t2"), "malformed", "frames that rise by equal steps"),
        ("autolaparo", AUTOLAPARO, ("frame", "time"), "malformed", "the header 'frame phase'"),
        ("cholect50", VID06, ("[[0, -1", '[["0", -1'), "malformed", "15 numbers"),
        ("cholect50", VID06, ("[[0, ", "[[7, "), "unknown-label", "got 7; expected a number of categories.triplet"),
        ("cholect50", VID06, ("1]]", "4]]"), "unknown-label", "got 4; expected a number of categories.phase"),
        ("cholect50", VID06, ("1], [1,", "0], [1,"), "malformed", "one phase per frame"),
        ("cholect50", VID06, ('"fps": 1', '"fps": 0'), "malformed", "frames per second above 0"),
        ("cholect50", VID06, ("hook,dissect,gallbladder", "hook,lift,liver"), "unknown-label", "hook, lift, liver"),
        ("cholect50", VID06, ("grasper", "knife"), "unknown-label", "'knife'"),
        ("cholect50", VID06, ("{", "["), "malformed", "not JSON"),
        ("multibypass140", BBP01, ('"preparation"', '"nap"'), "unknown-label", "'nap'"),
        ("multibypass140", BBP01, ('"end": 4000', '"end": 0'), "no-span", "an end after the start"),
        ("multibypass140", BBP01, ('"start": 0,', ""), "malformed", "start, end, label_name and label_id"),
        ("grasp", LONG, ('"LPIL"', '"Nap"'), "unknown-label", "'Nap'"),
        ("grasp", LONG, ('"phases": 1', '"phases": 9'), "unknown-label", "an id of phases_categories"),
        ("grasp", SHORT, ('"Prograsp Forceps"', '"Knife"'), "unknown-label", "Knife"),
    ],
)
def test_a_wrong_label_is_left_out_and_counted_with_its_place(copied, format, file, change, code, message):
    root = copied(format)
    text = (root / file).read_text()
    assert change[0] in text
    (root / file).write_text(text.replace(*change))
    recordings, chosen = read(root, format)
    (left,) = {(left.code, left.samples) for left in chosen.left_out}
    assert left == (code, 1) and message in str(chosen.left_out[0]) and (root / file).name in str(chosen.left_out[0])
    assert sum(bool(recording.clips) for recording in recordings) >= 2, "the others go on"


@pytest.mark.parametrize(
    ("format", "file", "change", "counts", "message"),
    [
        (
            "cholect50",
            VID06,
            ('"fps": 1', '"fps": 0.5'),
            {"other-length": 7},
            "plays at the rate that its labels count",
        ),
        ("multibypass140", BBP01, ("6000", "60000"), {"other-length": 7}, "is of 60 s and video"),
        ("multibypass140", BBP01, ("6000", "7210"), {"outside-video": 3}, "ends at 6.2 s"),
    ],
)
def test_labels_at_another_rate_or_beyond_the_end_are_counted(copied, tmp_path, format, file, change, counts, message):
    root = copied(format)
    (root / file).write_text((root / file).read_text().replace(*change))
    done, _ = imported(root, format, tmp_path)
    assert done.counts == counts and done.videos >= 2 and message in str(done.left_out[0])


@pytest.mark.parametrize("format", ["multibypass140", "grasp"])
def test_a_missing_video_is_counted_and_the_command_ends_with_code_3(copied, tmp_path, format):
    root = copied(format)
    next(iter(sorted((root / "videos").glob("*.*4")))).unlink()
    code, shown, said = in_process.halsted("atlas", "import", tmp_path / "atlas", root, "--format", format)
    assert code == 3 and "of 2 videos in taxonomy" in shown
    assert "samples left out, because their video is not at the expected place" in said and "no-video" in said


def test_a_video_much_longer_than_its_labels_is_told(copied, tmp_path):
    root = copied("autolaparo")
    small_video.write(root / "videos/15.mp4", 12, look=3)
    done, _ = imported(root, "autolaparo", tmp_path)
    assert "the annotation is of 6 s" in done.notes[0] and "lasts 12 s" in done.notes[0] and not done.left_out


def test_one_video_under_two_names(copied, tmp_path):
    root = copied("autolaparo")
    shutil.copy(root / "videos/01.mp4", root / "videos/15.mp4")
    with pytest.raises(AtlasError, match="is in the part 'train' .*and 'test' is asked for"):
        imported(root, "autolaparo", tmp_path)
    (root / "labels/label_15.txt").rename(root / "labels/label_02.txt")
    (root / "videos/15.mp4").rename(root / "videos/02.mp4")
    published_sets.write(
        root / "labels/label_02.txt", "frame\tphase\n" + "".join(f"{k}\t{1 + k // 3}\n" for k in range(6))
    )
    done, atlas = imported(root, "autolaparo", tmp_path / "two")
    assert len(atlas.videos) == 2 and "is said to be of two groups" in done.notes[0]


def test_a_case_in_both_parts_is_refused(copied):
    root = copied("grasp")
    shutil.copy(root / LONG, root / LONG.replace("test", "train"))  # its short-term labels stay in the test file
    (root / LONG).unlink()
    with pytest.raises(AtlasError, match="CASE041 is in the train files and in the test files"):
        read(root, "grasp")


def test_a_pickle_of_a_fold_runs_nothing(copied):
    class Harmful:
        def __reduce__(self):
            return exec, ("raise SystemExit",)

    root = copied("multibypass140")
    (root / "labels/bern/labels_by70_splits/labels/test/1fps_0.pickle").write_bytes(pickle.dumps({"BBP01": Harmful()}))
    with pytest.raises(AtlasError, match=r"1fps_0.pickle: .*it names builtins.exec"):
        read(root, "multibypass140", fold=0)


@pytest.mark.parametrize(
    ("option", "needs"),
    [(["--fold", "0"], "--format multibypass140"), (["--make-videos"], "--format cholect50 or grasp")],
)
def test_an_option_of_one_data_set_is_refused_for_another(capsys, option, needs):
    with pytest.raises(SystemExit) as ended:
        main(["atlas", "import", "atlas", "set", "--format", "autolaparo", *option])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and f"argument {option[0]}: it needs" in said and needs in said


BAD = st.sampled_from(
    [b"", b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b'"', b"\xff", b"99999999999999999999", b"true"]
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([("cholect50", VID06), ("multibypass140", BBP01), ("grasp", LONG), ("grasp", SHORT)]), st.data())
def test_a_file_with_broken_bytes_is_left_out_or_refused_in_words(sets, tmp_path_factory, which, data):
    format, file = which
    root = tmp_path_factory.mktemp("broken")
    for own in (VID06, BBP01, LONG, SHORT):
        if (sets[format] / own).exists():
            (root / own).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sets[format] / own, root / own)
    whole = (root / file).read_bytes()
    token = data.draw(st.sampled_from(list(re.finditer(rb'-?\d+|"[^"]*"|[\[\]{},:]', whole))))
    (root / file).write_bytes(whole[: token.start()] + data.draw(BAD) + whole[token.end() :])
    try:
        recordings, _ = read(root, format)
    except AtlasError as error:
        assert str(root) in str(error)
        return
    for clip in (clip for recording in recordings for clip in recording.clips):
        assert 0 <= clip.start_s < clip.stop_s and clip.tags


def test_benchmark_and_importer_read_one_split():
    for name in ("cholec80-phase", "cholec80-tool", "autolaparo", "cholect50"):
        own = benchmark(name)
        assert (own.parts, own.split_source) == published_split(own.layout)
    assert set(LAYOUTS) <= set(FORMATS), "what is judged can be brought into an atlas"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sets(st.sampled_from("abc"))), max_size=12))
def test_label_spans_hold_each_label_at_each_moment_once(steps):
    rows, at = [], 0
    for gap, labels in steps:
        at += 1 + gap
        rows.append((at, labels))
    found = label_spans(rows, 2)
    for label in "abc":
        own = sorted((start, stop) for start, stop, name in found if name == label)
        assert all(stop < after for (_, stop), (after, _) in zip(own, own[1:], strict=False)), "neighbours are joined"
        covered = {moment for start, stop in own for moment in range(start, stop)}
        nexts = [*(row[0] for row in rows[1:]), 10**9][: len(rows)]
        assert covered == {m for (at, has), after in zip(rows, nexts, strict=True) if label in has
                           for m in range(at, min(after, at + 2))}  # fmt: skip
