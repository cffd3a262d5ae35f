"""MLflow's registry in an SQLite file: versions, what they stand on, aliases, references, the lock."""

import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import maps
import mlflow
import models
import numpy as np
import pandas as pd
import pytest
from registries import CURVE, ROOT, start_of, summary_of, trained

from halsted_ray.atlas import read_atlas
from halsted_ray.cli import main
from halsted_ray.errors import RegistryError
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.registry.model_registry import CHAMPION, LOCK, Registry, Version
from halsted_ray.registry.references import resolve
from halsted_ray.registry.tracking import TrackedRun, learned_videos, register
from halsted_ray.video.readers import read_frames

pytest_plugins = ["registries"]


def write_video(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 112, 112, "yuv420p"
        for n in range(60):
            image = np.full((112, 112, 3), 4 * n, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))


def test_a_version_is_a_pyfunc_that_answers_and_holds_no_pickle(registry, archive, tmp_path):
    version = register(registry, f"{archive}/models/good")
    place = Path(version.location.removeprefix("file://"))
    files = {path.name for path in place.rglob("*") if path.is_file()}
    assert {"MLmodel", "pyfunc.py", "model.json", "decoder.safetensors", "input_example.json"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib"))]
    for path in place.rglob("*"):  # a pickle under another name: protocol 2 and later begin so
        assert path.is_dir() or not path.read_bytes().startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))
    assert register(registry, f"{archive}/models/good") == version, "the same model is one version"

    import mlflow

    registry.move({CHAMPION: version.number})
    before = mlflow.get_tracking_uri()
    try:
        mlflow.set_tracking_uri(registry.uri)
        loaded = mlflow.pyfunc.load_model("models:/halsted@champion")
    finally:
        mlflow.set_tracking_uri(before)
    assert loaded.metadata.signature.inputs.input_names() == ["uri", "start_s", "stop_s", "instruction"]
    video = tmp_path / "Jane Doe.mp4"
    write_video(video)
    answers = loaded.predict(
        pd.DataFrame(
            {
                "uri": [str(video), str(tmp_path / "gone.mp4"), str(video)],
                "start_s": [1.0, 0.0, 2.0],
                "stop_s": [3.5, 2.0, 4.5],
                "instruction": ["map procedure type", "map procedure type", "map dissection activity"],
            }
        )
    )
    model = Halsted.load(f"{archive}/models/good")
    frames = read_frames(str(video), 1.0 + np.arange(16) * 2.5 / 16, (112, 112)).images_NHWC
    expected = model.tag(Encoder.load(models.ENCODER).encode(frames[None]), "macro", unit="grid")[0]
    first, gone, second = answers.to_dict("records")
    assert {tag: tuple(said.values()) for tag, said in json.loads(first["tags"]).items()} == expected
    assert first["answer"] == model.text("macro", {tag: said[0] for tag, said in expected.items()})
    assert second["task"] == "micro" and set(json.loads(second["tags"])) == {"action", "arm", "instrument"}
    assert gone["tags"] == "{}" and gone["error"].startswith("unreadable: ") and "Jane" not in gone["error"]


def test_a_version_says_what_it_stands_on(registry, archive):
    version = trained(registry, archive, "good")
    model = Halsted.load(f"{archive}/models/good")
    tags = dict(version.tags)
    assert tags.pop("code_version").startswith("0.")
    assert tags == {
        "model_version": "good",
        "model_digest": model.digest,
        "atlas_release": "hsa-v1",
        "atlas_version": "0",
        "taxonomy": "halsted",
        "taxonomy_digest": model.taxonomy.digest,
        "encoder_fingerprint": model.config.encoder_fingerprint,
        "encoder": models.ENCODER,
    }
    assert registry.made_by("good") == version and registry.made_by("other") is None
    assert Halsted.load(registry.folder(version)).digest == model.digest
    run = registry.client.get_run(version.run_id)
    assert run.info.status == "FINISHED" and run.data.params["epochs"] == "40"
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("hsa-v1", read_atlas(archive).content_digest)
    assert json.loads(dataset.source)["path"] == f"{archive}/atlas/samples"
    assert [point.value for point in registry.client.get_metric_history(version.run_id, "loss")] == [2.0, 1.0]
    assert "accuracy/context" not in run.data.metrics
    files = {file.path for file in registry.client.list_artifacts(version.run_id)}
    assert files >= {"environment.json", "summary.json", "split.json"}
    assert learned_videos(registry, version, model.config) == {"0" * 16, "1" * 16}
    model.configure(learned_from={"train": ["2" * 16], "validation": ["3" * 16]})
    assert learned_videos(registry, version, model.config) == {"2" * 16, "3" * 16}, "the model knows best"


def test_references(registry, archive, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    version = register(registry, f"{archive}/models/good")
    registry.move({CHAMPION: version.number})
    for ref in ("registry:halsted@champion", "models:/halsted@champion", "registry:halsted/1", "models:/halsted/1"):
        assert resolve(ref) == registry.folder(version)
    assert resolve("s3://bucket/model@2/x") == "s3://bucket/model@2/x"
    with pytest.raises(RegistryError, match=r"names no version.*registry:halsted@champion"):
        resolve("registry:halsted")
    with pytest.raises(RegistryError, match=r"no halsted@challenger; it has 1 @champion"):
        resolve("registry:halsted@challenger")
    with pytest.raises(RegistryError, match=r"no other/1"):
        resolve("registry:other/1")


def test_who_only_looks_makes_no_registry(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    maps.write_maps("maps")
    before = sorted(tmp_path.rglob("*"))
    for words in (
        ["registry", "list"],
        ["registry", "show", "champion"],
        ["registry", "rollback"],
        ["registry", "promote", "7", "--atlas", "a"],
        ["lineage", "maps", "--row", "0"],
        ["map", "videos", "--out", "out", "--model", "registry:halsted@champion"],
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert f"there is no registry at sqlite:///{tmp_path}/mlflow.db; `halsted train`" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_command_that_is_refused_makes_no_registry(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for words in (["train", "--atlas", "typo", "--out", "run"], ["registry", "promote", "folder", "--atlas", "typo"]):
        assert main(words) == 2 and "no atlas at 'typo'" in capsys.readouterr().err
    assert main(["train", "--atlas", "typo", "--out", "run", "--registry", "sqlite:///folder/mlflow.db"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_what_to_do_where_a_version_is_not_there(registry, archive, capsys):
    assert main(["registry", "list", "--registry", registry.uri]) == 0
    assert capsys.readouterr().out == (
        f"registry {registry.uri}: no version yet; `halsted train --registry URI` adds one\n"
    )
    for ref in ("registry:halsted@champion", "registry:halsted/7"):
        with pytest.raises(RegistryError, match="no version at all: `halsted train"):
            registry.find(ref)
    register(registry, f"{archive}/models/good")
    for alias, way in (
        ("champion", "`halsted registry promote 1 --atlas DIR --deploy` makes"),
        ("challenger", "`halsted registry promote 1 --atlas DIR` lets"),
        ("previous_champion", "a --deploy over a champion"),
    ):
        with pytest.raises(RegistryError, match=f"has no halsted@{alias}; it has 1: {way}.* .registry:halsted/1."):
            registry.find(alias)


def test_two_processes_that_fetch_one_version_at_once_both_have_it(registry, tmp_path, monkeypatch):
    """Of a server that keeps the files to itself. Both have found no copy when they begin, and both fetch one."""
    version = Version("halsted", 7, (), "run", 0, {"model_digest": "abc"}, "mlflow-artifacts:/1/models/m/artifacts")
    both_fetch = threading.Barrier(2)

    def download(uri: str, dst_path: str, tracking_uri: str) -> str:
        fetched = Path(dst_path, "model")
        fetched.mkdir()
        (fetched / "model.json").write_text("{}")
        both_fetch.wait(timeout=30)
        return str(fetched)

    monkeypatch.setenv("HALSTED_MODELS", str(tmp_path / "kept"))
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: registry.folder(version), range(2)))
    assert folders == [str(tmp_path / "kept" / "halsted-7-abc")] * 2
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["halsted-7-abc"], "nothing half fetched stays"
    assert registry.folder(version) == folders[0] and Path(folders[0], "model.json").is_file()


def test_a_folder_is_resolved_without_mlflow():
    code = (
        "import sys; from halsted_ray.registry.references import resolve; assert resolve('/a') == '/a'; "
        "assert not {'mlflow', 'torch', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_a_registry_that_is_down_is_one_clear_message(archive, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://user:secret@127.0.0.1:{port}"
    assert main(["registry", "list", "--registry", uri]) == 2
    complaint = capsys.readouterr().err
    assert complaint == (
        f"halsted registry: the registry at http://127.0.0.1:{port} can't do this: it does not answer; see that it is "
        "up and that its URI is right (--registry or MLFLOW_TRACKING_URI), then give the same command again\n"
    )
    code = main(
        ["train", "--atlas", archive, "--out", str(tmp_path / "run"), "--encoder", models.ENCODER, "--registry", uri]
    )
    assert code == 2 and not (tmp_path / "run").exists(), "refused before any work"


def test_a_registry_that_is_lost_on_the_way_costs_nothing(registry, archive, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracked = TrackedRun(registry)
    tracked.start(start_of(archive, "good"))
    tracked.epoch(CURVE[0])
    there = tracked.client
    tracked.client = Registry("http://127.0.0.1:9").client
    tracked.epoch(CURVE[1])
    with pytest.raises(RegistryError):
        tracked.finish(summary_of(archive, "good"), register)
    tracked.client = there
    tracked.epoch(CURVE[1] | {"epoch": 2, "loss": 0.5})
    history = registry.client.get_metric_history(tracked.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 2.0), (1, 1.0), (2, 0.5)], (
        "in order, before the end"
    )
    version = tracked.finish(summary_of(archive, "good"), register)
    assert registry.client.get_metric_history(version.run_id, "loss") == history


def test_a_run_that_was_killed_before_it_said_what_it_stands_on_says_so_when_it_goes_on(registry, archive, monkeypatch):
    first = TrackedRun(registry)
    with monkeypatch.context() as dying:
        dying.setattr(first.client, "log_batch", lambda *_, **__: sys.exit("killed"))
        with pytest.raises(SystemExit):
            first.start(start_of(archive, "good"))
    version = trained(registry, archive, "good")
    assert version.run_id == first.run_id
    run = registry.client.get_run(version.run_id)
    assert run.data.params["epochs"] == "40" and run.inputs.dataset_inputs[0].dataset.name == "hsa-v1"
    files = {file.path for file in registry.client.list_artifacts(version.run_id)}
    assert files >= {"environment.json", "split.json"}


def test_the_same_run_again_is_one_run_and_one_version(registry, archive):
    first = TrackedRun(registry)
    first.start(start_of(archive, "good"))
    first.epoch(CURVE[0])
    first.fail(KeyboardInterrupt())
    assert registry.client.get_run(first.run_id).info.status == "KILLED"
    version = trained(registry, archive, "good")
    assert version.run_id == first.run_id and trained(registry, archive, "good") == version
    assert len(registry.client.get_metric_history(first.run_id, "loss")) == 2
    assert len(registry.versions()) == 1


def test_the_lock_says_who_holds_it_and_is_no_model(registry):
    with registry.locked("a long look"):
        with pytest.raises(RegistryError, match=r"a long look, process \d+ .*delete the registered model"):
            with registry.locked("another"):
                pass
        assert registry.versions() == []
        assert registry.client.get_registered_model(LOCK)
    with registry.locked("another"):
        pass
