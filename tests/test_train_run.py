"""From an atlas of real video files to a model folder, with an untrained encoder."""

import json
import signal
from dataclasses import asdict, replace
from pathlib import Path

import av
import numpy as np
import pytest

from halsted_ray.atlas import read_atlas, write_atlas
from halsted_ray.embedding import embed as embedding
from halsted_ray.embedding.decode_stage import DecodeStage
from halsted_ray.errors import AtlasError, OutputError, StorageUnavailable
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Segment, Video, Window, WindowSpec
from halsted_ray.registry.model_registry import Registry
from halsted_ray.registry.tracking import train_tracked
from halsted_ray.storage.locations import filesystem
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.samples import LabelledWindow, with_vectors
from halsted_ray.training.train import TrainSummary, train
from halsted_ray.video.frames import Missing, collect
from halsted_ray.video.identity import video_id
from halsted_ray.video.readers import read_frames
from halsted_ray.video.windows import frame_rows, frame_times_s, windows_of

ENCODER = "random:tiny:0"
SPEC = WindowSpec(coarse_s=5.0, fine_s=2.5)
DURATION_S = 11.2
RECIPE = Recipe(epochs=2, batch_size=8, width=32, heads=2, layers=1, warmup_epochs=1, units=("clips", "grid"))


def write_video(path, seed):
    """Suturing is green with a moving square, dissection red."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "28"})
        stream.width, stream.height, stream.pix_fmt = 112, 112, "yuv420p"
        for n in range(round(DURATION_S * 10)):
            image = rng.integers(0, 30, (112, 112, 3), dtype=np.uint8)
            image[..., 0 if n > 55 else 1] += 120
            image[10:30, 3 * n % 90 :][:, :20] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("archive")
    (root / "videos").mkdir()
    videos, clips, split = [], [], {}
    for seed in range(2):
        path = root / "videos" / f"{seed}.mp4"
        write_video(path, seed)
        name = video_id(*filesystem(path))
        videos.append(Video(name, str(path), path.stat().st_size, DURATION_S, 112, 112, 10.0, "h264"))
        operation = {"specialty": "Urology", "procedure": "Prostatectomy"}
        clips += [
            Clip(name, 0.0, 5.5, "macro", operation | {"step": "Suturing"}),
            Clip(name, 5.5, DURATION_S, "macro", operation | {"step": "Dissection"}),
            Clip(name, 5.5, DURATION_S, "micro", {"action": "Tug", "arm": "Left", "instrument": "Shears"}),
        ]
        split[name] = ("train", "validation")[seed]
    write_atlas(str(root), videos, clips, "small", split=split)
    return str(root)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    return Registry(f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db")


@pytest.fixture(scope="module")
def trained(archive, registry, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        # Ray Train's processes have an environment of their own, so none of those that Ray starts in advance is used.
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        summary, _ = train_tracked(registry, archive, str(out), RECIPE, encoder=ENCODER, spec=SPEC)
    return summary, out


def test_a_run_leaves_a_model_that_says_what_it_stands_on(trained, archive):
    summary, out = trained
    model = Halsted.load(summary.model)
    assert summary.model == f"{out}/model"
    assert model.config.encoder_fingerprint == Encoder.load(ENCODER).fingerprint
    assert (model.config.atlas_release, model.config.version) == ("small", summary.model_version)
    assert model.config.windows == SPEC and set(model.config.temperatures) >= {"step", "action"}
    assert summary.videos == {"train": 1, "validation": 1} and summary.atlas_version == 0
    parts = read_atlas(archive).split
    assert model.config.learned_from == {part: [v for v in parts if parts[v] == part] for part in summary.videos}
    # 3 clips; 3 coarse and 5 fine windows, of which two coarse ones and a fine one hold both steps or end short
    assert summary.samples["train"] == summary.samples["validation"] > 13
    assert len(summary.curve) == RECIPE.epochs and summary.accuracy_of_task["context"] is None
    assert summary.commonest_of_task.keys() == summary.accuracy_of_task.keys()
    written = json.loads((out / "training.json").read_text())
    assert written["verdict"] == model.config.verdict == summary.verdict()
    assert written["recipe"]["epochs"] == 2 and written["run_id"] == summary.model_version


def test_a_card_lies_beside_the_model_and_in_its_version(trained, registry):
    summary, out = trained
    text = (out / "model" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"version {summary.model_version}" in text and "`small`" in text and "not known here" in text
    card = json.loads((out / "model" / "model-card.json").read_text())
    assert card["atlas"]["clips"] == {"macro": 4, "micro": 2} and set(card["figures"]["by_tag"]) >= {"step", "action"}
    (version,) = registry.versions()
    assert Path(registry.folder(version), "MODEL_CARD.md").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("found", "commonest", "is_told"),
    [(0.6, 0.5, False), (0.5, 0.5, True), (0.4, 0.5, True), (1.0, 1.0, False), (None, None, False), (0.5, None, False)],
)
def test_a_run_no_better_than_the_commonest_category_says_so_in_words(trained, found, commonest, is_told):
    """With a single category to answer nothing can be learned, so all right is no fault."""
    summary = replace(
        trained[0],
        accuracy_of_task={"macro": 0.9, "micro": found},
        commonest_of_task={"macro": 0.3, "micro": commonest},
    )
    assert summary.learned_nothing == (("micro",) if is_told else ())
    words = summary.verdict()
    assert bool(words) == is_told and "macro" not in words
    if is_told:
        assert f"micro {found:.3f} (commonest category 0.500)" in words and "annotate more clips" in words


def test_a_model_of_too_few_videos_says_that_it_cant_say_unknown(trained):
    few = trained[0]
    assert Halsted.load(few.model).novelty is None and not few.says_unknown
    assert any("can't say 'unknown'" in warning for warning in few.warnings())
    assert not any("unknown" in warning for warning in replace(few, says_unknown=True).warnings())


def test_the_record_of_an_earlier_version_is_read_without_a_verdict(trained):
    told = asdict(trained[0])
    del told["commonest_of_task"]
    assert TrainSummary(**told).verdict() == ""


def test_ctrl_c_means_after_a_training_what_it_meant_before(trained):
    """Ray Train sets a handler of its own and leaves it: it asks a controller that is gone."""
    assert "ray" not in getattr(signal.getsignal(signal.SIGINT), "__module__", "")


def test_the_run_is_in_the_registry_and_stays_one(trained, archive, registry):
    summary, out = trained
    again, version = train_tracked(registry, archive, str(out), RECIPE, encoder=ENCODER, spec=SPEC)
    assert again == summary and registry.versions() == [version]
    assert version.tags["model_version"] == summary.model_version and version.tags["atlas_release"] == "small"
    assert Halsted.load(registry.folder(version)).digest == Halsted.load(summary.model).digest
    (run,) = registry.client.search_runs([registry.experiment("halsted-training")])
    assert run.info.run_id == version.run_id and run.info.status == "FINISHED"
    assert run.data.params["batch_size"] == "8" and run.data.params["videos.train"] == "1"
    history = registry.client.get_metric_history(version.run_id, "loss")
    assert [point.value for point in history] == [record["loss"] for record in summary.curve]


def test_the_same_command_again_answers_at_once_and_another_one_is_refused(trained, archive):
    summary, out = trained
    assert train(archive, str(out), RECIPE, encoder=ENCODER, spec=SPEC) == summary
    with pytest.raises(OutputError, match="another recipe"):
        train(archive, str(out), Recipe(epochs=3, warmup_epochs=1), encoder=ENCODER, spec=SPEC)


def test_vectors_are_those_that_mapping_would_make(trained, archive):
    encoder = Encoder.load(ENCODER)
    store = VectorStore(f"{archive}/embeddings", encoder.fingerprint, sampling_name(SPEC, "reference"))
    video = read_atlas(archive).videos[0]
    segment = Segment("s", video.video_id, video.uri, 0.0, 60.0, video.duration_s)
    images = read_frames(video.uri, frame_times_s(segment, SPEC), encoder.image_size).images_NHWC
    coarse, fine_of = windows_of(segment, SPEC)
    stored = store.get(video.video_id, 0.0, 60.0)
    windows = [*coarse, *(window for fine in fine_of.values() for window in fine)]
    spans = {Window("clip", clip.start_s, clip.stop_s) for clip in read_atlas(archive).clips}
    of_clips = replace(segment, windows=tuple(sorted(spans, key=lambda window: window.start_s)))
    images_of_clips = read_frames(video.uri, frame_times_s(of_clips, SPEC), encoder.image_size).images_NHWC
    assert {(w.kind, w.start_s, w.stop_s) for w in (*windows, *spans)} == set(stored)
    for own, pictures, wanted in ((segment, images, windows), (of_clips, images_of_clips, spans)):
        for window in wanted:
            expected = encoder.encode(pictures[frame_rows([window], own, SPEC)])[0]
            assert np.array_equal(stored[window.kind, window.start_s, window.stop_s], expected), window


def test_stored_vectors_are_not_made_again(trained, archive, monkeypatch):
    atlas = read_atlas(archive)
    encoder = Encoder.load(ENCODER)
    store = VectorStore(f"{archive}/embeddings", encoder.fingerprint, sampling_name(SPEC, "reference"))
    monkeypatch.setattr(embedding, "embed_segments", lambda *_, **__: pytest.fail("decoded for nothing"))
    windows = {video.video_id: [Window("fine", 2.5, 5.0)] for video in atlas.videos}
    vectors = embedding.embed(atlas.videos, windows, ENCODER, store, SPEC)
    assert all(("fine", 2.5, 5.0) in found for found in vectors.values())


def test_a_video_that_is_gone_is_named(archive, tmp_path):
    atlas = read_atlas(archive)
    broken = [Video(**{**vars(atlas.videos[0]), "uri": str(tmp_path / "gone.mp4")})]
    store = VectorStore(str(tmp_path / "store"), Encoder.load(ENCODER).fingerprint, "x")
    windows = {broken[0].video_id: [Window("fine", 0.0, 2.5)]}
    with pytest.raises(AtlasError, match=f"video {broken[0].video_id}.*unreadable.*restore the file"):
        embedding.embed(broken, windows, ENCODER, store, SPEC)


class DamagedVideo:
    """A decoder of a video that has a frame every 1/32 s and none in ``damaged``."""

    damaged, asked, open = (), [], 0

    def __init__(self, memory_mb):
        DamagedVideo.open += 1

    def close(self):
        DamagedVideo.open -= 1

    def read_frames(self, uri, times_s, size, *_, **__):
        self.asked.append(float(times_s[0]))
        lost = Missing(*self.damaged, "corrupt", "why") if self.damaged else None
        picture_HWC = np.full((*size, 3), 100, np.uint8)
        return collect(
            [lost if lost and lost.start_s <= t < lost.stop_s else (picture_HWC, float(t)) for t in times_s],
            times_s,
            size,
        )


@pytest.fixture
def damaged_video(monkeypatch):
    """Every span that is embedded in this process is decoded by ``DamagedVideo``."""
    monkeypatch.setattr(embedding, "DecodeStage", lambda options: DecodeStage(options, process=DamagedVideo))
    monkeypatch.setattr(DamagedVideo, "asked", [])
    monkeypatch.setattr(DamagedVideo, "open", 0)
    return DamagedVideo


def test_a_damaged_clip_is_learned_from_where_three_quarters_of_it_are_there(
    tmp_path, monkeypatch, caplog, damaged_video
):
    """The rule of mapping; what is left out is counted and said, and nothing but whole windows is stored."""
    monkeypatch.setattr(DamagedVideo, "damaged", (9.0, 13.0))
    video = Video("v" * 16, "file.mp4", 1, 60.0, 112, 112, 32.0, "h264")
    spans = {"whole": (0.0, 8.0), "mended": (1.0, 21.0), "edge": (0.0, 16.0), "lost": (6.0, 14.0), "tail": (13.0, 20.0)}
    windows = {name: Window("clip", *span) for name, span in spans.items()}
    store = VectorStore(str(tmp_path), Encoder.load(ENCODER).fingerprint, "x")
    vectors = embedding.embed([video], {video.video_id: list(windows.values())}, ENCODER, store, SPEC)
    made = {key[1:] for key in vectors[video.video_id]}
    assert made == {spans[name] for name in ("whole", "mended", "edge", "tail")}
    assert {key[1:] for key in store.get(video.video_id, 0.0, 60.0)} == {spans["whole"], spans["tail"]}
    assert "1 videos have damaged spans: 2 windows are made from their remaining pictures, 1 windows" in caplog.text
    assert "file.mp4" not in caplog.text and video.video_id in caplog.text
    labelled = {video.video_id: [LabelledWindow(window, "macro", (), 1.0, True) for window in windows.values()]}
    kept = with_vectors(labelled, vectors)[video.video_id]
    assert [sample.window for sample in kept] == [w for name, w in windows.items() if name != "lost"]
    caplog.clear()
    monkeypatch.setattr(DamagedVideo, "damaged", ())
    whole = embedding.embed([video], {video.video_id: list(windows.values())}, ENCODER, store, SPEC)
    assert len(whole[video.video_id]) == 5 and not caplog.text, "a file that is whole again is made anew"


@pytest.mark.parametrize(
    "stop",
    [OutputError("can't write: No space left on device"), KeyboardInterrupt("Ctrl-C"), StorageUnavailable("away")],
    ids=lambda error: type(error).__name__,
)
def test_whatever_ends_embedding_ends_the_decoding_that_is_queued(tmp_path, monkeypatch, damaged_video, stop):
    """A full disk, a signal (while the progress is shown), a store that is away."""

    def fail(*_):
        raise stop

    store = VectorStore(str(tmp_path / "store"), Encoder.load(ENCODER).fingerprint, "x")
    if isinstance(stop, OutputError):
        monkeypatch.setattr(VectorStore, "put", fail)
    video = Video("v" * 16, "gone.mp4", 1, 4 * embedding.SPAN_S, 112, 112, 10.0, "h264")
    windows = {video.video_id: [Window("fine", n * embedding.SPAN_S, n * embedding.SPAN_S + 2.5) for n in range(4)]}
    with pytest.raises(type(stop), match=str(stop)):
        embedding.embed([video], windows, ENCODER, store, SPEC, progress=fail)
    assert len(damaged_video.asked) == 1 and damaged_video.open == 0


def test_a_release_that_is_not_there(archive, tmp_path):
    with pytest.raises(AtlasError, match="no release 'smal'; did you mean 'small'"):
        train(archive, str(tmp_path / "run"), RECIPE, encoder=ENCODER, spec=SPEC, release="smal")
    assert not (tmp_path / "run").exists()


def test_a_place_that_can_not_be_written_is_said_before_anything_is_decoded(archive, monkeypatch):
    monkeypatch.setattr("halsted_ray.training.train.load_samples", lambda *_: pytest.fail("it began"))
    with pytest.raises(OutputError, match="/proc/self.*name a folder that can be written"):
        train(archive, "/proc/self", RECIPE, encoder=ENCODER, spec=SPEC)  # nobody, root neither, can write there


def test_an_atlas_without_a_validation_video(archive, tmp_path):
    atlas = read_atlas(archive)
    videos = [Video(**{**vars(video), "uri": f"{tmp_path}/{n}.mp4"}) for n, video in enumerate(atlas.videos)]
    write_atlas(str(tmp_path), videos, list(atlas.clips), "x", split={video.video_id: "train" for video in videos})
    with pytest.raises(AtlasError, match="has no validation video.*halsted atlas release"):
        train(str(tmp_path), str(tmp_path / "run"), RECIPE, encoder=ENCODER, spec=SPEC)
