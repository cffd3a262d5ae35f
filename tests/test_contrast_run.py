"""A whole run of video and text: from captions and stored vectors to a model, its version, and figures by command."""

import json

import numpy as np
import pytest

from halsted_ray.atlas.atlas_table import write_atlas
from halsted_ray.cli import main
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.errors import AtlasError, ModelError, RegistryError
from halsted_ray.language.contrast_model import VideoTextConfig, VideoTextModel, load_video_text
from halsted_ray.language.retrieval import Recall
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.records import Caption, Clip, Video
from halsted_ray.registry.gate import read_thresholds
from halsted_ray.registry.language_promotion import BOUNDS, GATE, CaptionSearch, judged, promote_language
from halsted_ray.registry.model_registry import Registry
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.training.atlas_samples import FIDELITY

SAYINGS = {
    "Clip": ("a clip is placed", "the vessel is clipped"),
    "Retraction": ("tissue is retracted", "the organ is held aside"),
    "Sponge": ("a sponge dabs the field", "blood is soaked up"),
    "Mesh": ("a mesh is placed", "the mesh is spread out"),
}
SPLIT = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2


@pytest.fixture
def captioned(tmp_path):
    """An atlas of ten videos that do not exist, with a vector for each of their windows: nothing may be decoded."""
    identity = encoder_identity("tiny")
    spec = identity.windows()
    store = open_vectors(str(tmp_path / "embeddings"), identity, sampling_name(spec, FIDELITY))
    meanings = np.random.default_rng(0).normal(size=(len(SAYINGS), identity.dim))
    rng = np.random.default_rng(1)
    videos, clips, captions = [], [], []
    for number in range(len(SPLIT)):
        name = f"{number:016x}"
        videos.append(Video(name, f"videos/{number}.mp4", 10, 40.0, 64, 48, 25.0, "h264"))
        vectors = {}
        for cell in range(16):
            which, start_s = int(rng.integers(len(SAYINGS))), cell * 2.5
            action = list(SAYINGS)[which]
            vector = meanings[which] + 0.2 * rng.normal(size=identity.dim)
            vectors["fine", start_s, start_s + 2.5] = vector.astype(np.float16)
            clips.append(Clip(name, start_s, start_s + 2.5, "micro", {"action": action}))
            captions.append(Caption(name, start_s, start_s + 2.5, "fine", SAYINGS[action][int(rng.integers(2))]))
        store.put(name, 0.0, 40.0, vectors)
    split = dict(zip((video.video_id for video in videos), SPLIT, strict=True))
    write_atlas(str(tmp_path), videos, clips, "v1", split=split, annotator="me", captions=captions)
    return tmp_path


def labels(folder):
    lines = [f"  {action}: [{', '.join(own)}]" for action, own in SAYINGS.items()]
    (folder / "labels.yaml").write_text("tag: action\nlabels:\n" + "\n".join(lines))
    return str(folder / "labels.yaml")


@pytest.mark.slow
def test_a_run_from_captions_to_figures(captioned, capsys, monkeypatch):
    # Ray Train's processes have an environment of their own, so none of those that Ray starts in advance is used.
    monkeypatch.setenv("RAY_prestart_worker_first_driver", "0")
    run, registry = str(captioned / "run"), f"sqlite:///{captioned}/mlflow.db"
    command = ["train", "--objective", "contrast", "--atlas", str(captioned), "--out", run, "--registry", registry]
    command += ["--set", "epochs=12", "--set", "validate_every=4", "--set", "batch_size=32", "--json"]
    assert main(command) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["registered"] == 1 and said["captions"] == {"train": 96, "validation": 32} and said["epochs"] == 12
    assert main(command) == 0  # the same command again answers at once, with the same model
    assert json.loads(capsys.readouterr().out)["curve"] == said["curve"]
    identity = encoder_identity("tiny")
    assert load_video_text(f"{run}/model", identity.fingerprint).config.atlas_release == "v1"

    shared = ["--atlas", str(captioned), "--registry", registry, "--json"]
    assert main(["zero-shot", "registry:halsted-language/1", *shared, "--labels", labels(captioned)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] > 0.9 and found["clips"] == 32 and found["videos"] == 2
    assert main(["recall", f"{run}/model", *shared]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["this model"]["recall_at_5"] > 2 * found["this model"]["chance"]
    assert found["keywords in maps"]["moments"] == found["both, as halsted search"]["moments"] == 32

    client = Registry(registry).client
    version = client.get_model_version("halsted-language", "1")
    logged = client.get_run(version.run_id)
    assert logged.data.params["epochs"] == "12" and logged.info.status == "FINISHED"
    assert len(client.get_metric_history(version.run_id, "loss")) == 12

    own = {"atlas": str(captioned), "registry": registry}
    assert promoted("registry:halsted-language/1", own, "--deploy") == 0
    assert "version 1 against no champion: passed, it is champion now" in capsys.readouterr().out
    unlike = VideoTextModel(load_video_text(f"{run}/model").config)
    unlike.save(str(captioned / "unlike"))
    assert promoted(str(captioned / "unlike"), own) == 3, "an untrained model is refused"
    said = capsys.readouterr().out
    assert "version 2 against champion 1: refused, nothing was changed" in said and "recall_p_worse" in said
    assert main(["recall", "registry:halsted-language@champion", *shared, "--map-model", "none"]) == 0
    with pytest.raises(RegistryError, match="version 1 is the champion already"):
        promote_language(Registry(registry), "registry:halsted-language/1", str(captioned))
    assert promoted("registry:halsted-language/2", own, "--migration", "x.yaml") == 2
    assert "has no taxonomy to migrate" in capsys.readouterr().err


def promoted(candidate, own, *options):
    """The exit code of ``halsted registry promote``."""
    given = [text for name, value in own.items() for text in (f"--{name}", value)]
    return main(["registry", "promote", candidate, *given, *options])


def searches(found_of_video, learned=()):
    """What a model found: video → whether each of its ten captions found its moment."""
    found = {
        (video, float(n), n + 1.0, "text"): value
        for video, own in found_of_video.items()
        for n, value in enumerate(own)
    }
    share = float(np.mean(list(found.values())))
    return CaptionSearch(Recall(share, 0.1, 1.0, len(found), 50), found, learned)


@pytest.mark.parametrize(
    ("ours", "theirs", "refused"),
    [
        ({"a": [1] * 10, "b": [1] * 10}, None, set()),
        ({"a": [0.1] * 10, "b": [0.1] * 10}, None, {"recall_over_chance"}),
        ({"a": [1] * 10, "b": [0] * 10}, {"a": [0] * 10, "b": [1] * 10}, set()),
        ({"a": [1] * 9 + [0], "b": [1] * 9 + [0]}, {"a": [1] * 10, "b": [1] * 10}, {"recall_p_worse"}),
        ({"a": [1] * 9 + [0]}, {"a": [1] * 10}, {"recall_p_worse"}),
        ({"a": [1] * 10}, {"a": [1] * 9 + [0]}, set()),
    ],
)
def test_the_gate_of_video_and_text_refuses_what_finds_less(ours, theirs, refused):
    thresholds = read_thresholds(None, BOUNDS, GATE)
    verdict, figures = judged(searches(ours), theirs and searches(theirs), thresholds)
    assert {check.name for check in verdict.checks if not check.passed} == refused
    assert ("difference" in figures) == (theirs is not None)


@pytest.mark.parametrize(("learned", "name"), [(("a",), "learned_test_videos"), (None, "learned_test_videos")])
def test_the_gate_of_video_and_text_refuses_a_model_that_may_have_learned_from_a_test_video(learned, name):
    thresholds = read_thresholds(None, BOUNDS, GATE)
    verdict, _ = judged(searches({"a": [1] * 10}, learned), None, thresholds)
    assert [check.name for check in verdict.checks if not check.passed] == [name]
    verdict, _ = judged(searches({"a": [1] * 10}), searches({"a": [1] * 10}, ("a",)), thresholds)
    assert [check.name for check in verdict.checks if not check.passed] == [f"{name}/champion"]


def test_models_without_a_common_caption_are_not_compared():
    with pytest.raises(AtlasError, match="no test caption in common"):
        judged(searches({"a": [1]}), searches({"b": [1]}), read_thresholds(None, BOUNDS, GATE))


@pytest.fixture
def untrained(tmp_path):
    """The folder of an untrained model of this atlas's encoder."""
    identity = encoder_identity("tiny")
    config = VideoTextConfig("tiny", identity.fingerprint, identity.dim, "", "f" * 16, 384, dim=8, hidden=8)
    VideoTextModel(config).save(str(tmp_path / "untrained"))
    return str(tmp_path / "untrained")


def test_an_atlas_without_captions_does_not_train(tmp_path, capsys):
    video = Video("1" * 16, "videos/1.mp4", 10, 60.0, 64, 48, 25.0, "h264")
    write_atlas(str(tmp_path), [video], [], "v1")
    out = str(tmp_path / "run")
    assert main(["train", "--objective", "contrast", "--atlas", str(tmp_path), "--out", out, "--registry", "none"]) == 2
    assert "has no captions; add some with `halsted atlas import" in capsys.readouterr().err


def test_an_empty_file_of_labels(captioned, untrained, capsys):
    (captioned / "labels.yaml").write_text("tag: action\n")
    command = ["zero-shot", untrained, "--atlas", str(captioned), "--labels", str(captioned / "labels.yaml")]
    assert main(command) == 2
    assert "names no label; expected tag: a tag's name" in capsys.readouterr().err


def test_a_text_encoder_of_another_model_is_refused(captioned, untrained):
    model = load_video_text(untrained)
    with pytest.raises(ModelError, match=r"shape \(2, 16\); this model expects rows of 384 numbers"):
        model.embed_text(np.ones((2, 16)))
    with pytest.raises(ModelError, match="got a text encoder with fingerprint 0000"):
        model.check(text_fingerprint="0" * 16)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--text-encoder", "x"], "--objective contrast"),
        (["--objective", "contrast", "--recipe", "best"], "--objective tags"),
        (["--objective", "contrast", "--refine"], "--objective tags"),
    ],
)
def test_options_of_another_objective_are_refused(given, message, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--atlas", "a", "--out", "b", *given])
    assert message in capsys.readouterr().err
