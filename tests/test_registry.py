"""MLflow's registry in an SQLite file: versions, aliases, promotion, rollback, lineage."""

import json
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import maps
import mlflow
import models
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from halsted_ray.atlas import read_atlas, write_atlas
from halsted_ray.cli import main
from halsted_ray.errors import RegistryError, TaxonomyError, UsageError
from halsted_ray.maps.exports import read_csv
from halsted_ray.maps.publishing import publish
from halsted_ray.maps.staging import MappingRun, SegmentResult, Staging
from halsted_ray.maps.table_schemas import Provenance
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Segment
from halsted_ray.registry import lineage as lineages
from halsted_ray.registry import promotion
from halsted_ray.registry.gate import read_thresholds
from halsted_ray.registry.model_registry import CHALLENGER, CHAMPION, LOCK, PREVIOUS, Registry, Version
from halsted_ray.registry.promotion import EXPERIMENT, promote, rollback
from halsted_ray.registry.resolve import resolve
from halsted_ray.registry.tracking import TrackedRun, learned_videos, register
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.train import TrainingPlan, TrainSummary
from halsted_ray.video.readers import read_frames

ROOT = Path(__file__).parent.parent
CURVE = [
    {
        "epoch": n,
        "loss": 2.0 - n,
        "learning_rate": 1e-3,
        "seconds": 1.0,
        "samples_per_s": 10.0,
        "saved": True,
        "worst": 0.5,
        "accuracy_of_task": {"macro": 0.5, "context": None},
        "accuracy_of_tag": {"step": 0.5},
    }
    for n in range(2)
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An atlas with models under ``models/``: good, better (both know the answers) and bad (knows nothing)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = str(tmp_path_factory.mktemp("archive"))
    models.write_archive(root)
    for version, steps in (("good", 60), ("better", 60), ("bad", 0)):
        models.make_model(root, f"{root}/models/{version}", version, steps)
    yield root
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A fresh registry's file: making its tables takes seconds, so it is made once and copied."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    Registry(f"sqlite:///{file}").versions()
    return file


@pytest.fixture
def registry(empty, tmp_path):
    shutil.copy(empty, tmp_path / "mlflow.db")
    return Registry(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    """The gate that ships, but for speed: a busy machine must not decide a test."""
    stated = yaml.safe_load((ROOT / "halsted_ray" / "registry" / "gate.yaml").read_text())
    stated["speed_of_champion"]["at_least"] = 0.001
    file = tmp_path_factory.mktemp("gate") / "gate.yaml"
    file.write_text(yaml.safe_dump(stated))
    return str(file)


def start_of(archive, version):
    atlas, model = read_atlas(archive), Halsted.load(f"{archive}/models/{version}")
    return TrainingPlan(
        version,
        atlas,
        atlas.split,
        model.taxonomy,
        Recipe(),
        models.SPEC,
        models.ENCODER,
        model.config.encoder_fingerprint,
        1,
        f"{archive}/models/{version}",
    )


def summary_of(archive, version):
    return TrainSummary(
        f"{archive}/models/{version}",
        version,
        "hsa-v1",
        0,
        {"train": 1},
        {"train": 10},
        1000,
        2,
        1,
        {"macro": 0.5},
        {"step": 0.5},
        {},
        1.0,
        1.0,
        CURVE,
    )


def trained(registry, archive, version):
    """A version as a training run leaves it."""
    tracked = TrackedRun(registry)
    tracked.start(start_of(archive, version))
    return tracked.finish(summary_of(archive, version))


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
    expected = model.tag(Encoder.load(models.ENCODER).encode(frames[None]), "macro")[0]
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
        "import sys; from halsted_ray.registry.resolve import resolve; assert resolve('/a') == '/a'; "
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
        tracked.finish(summary_of(archive, "good"))
    tracked.client = there
    tracked.epoch(CURVE[1] | {"epoch": 2, "loss": 0.5})
    history = registry.client.get_metric_history(tracked.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 2.0), (1, 1.0), (2, 0.5)], (
        "in order, before the end"
    )
    version = tracked.finish(summary_of(archive, "good"))
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


def test_promotion_from_the_first_to_the_way_back(registry, archive, gate, capsys):
    good, better, _ = (trained(registry, archive, name) for name in ("good", "better", "bad"))
    first = promote(registry, "1", archive, gate=gate, deploy=True)
    assert first.verdict.passed and first.champion is None
    assert registry.aliased(CHAMPION).number == good.number and registry.aliased(PREVIOUS) is None

    refused = promote(registry, "3", archive, gate=gate, deploy=True)
    failed = {check.name for check in refused.verdict.checks if not check.passed}
    assert not refused.verdict.passed and {"worst_task_fall", "mean_p_worse"} <= failed
    assert registry.aliased(CHAMPION).number == good.number and registry.aliased(CHALLENGER) is None

    waits = promote(registry, "2", archive, gate=gate)
    assert waits.alias == CHALLENGER and registry.aliased(CHALLENGER).number == better.number
    assert registry.aliased(CHAMPION).number == good.number
    deployed = promote(registry, "challenger", archive, gate=gate, deploy=True)
    assert deployed.alias == CHAMPION
    assert {
        alias: registry.aliased(alias) and registry.aliased(alias).number for alias in (CHAMPION, PREVIOUS, CHALLENGER)
    } == {CHAMPION: 2, PREVIOUS: 1, CHALLENGER: None}
    with pytest.raises(RegistryError, match="version 2 is the champion already"):
        promote(registry, "2", archive, gate=gate)

    now, before = rollback(registry, "a surgeon saw worse maps")
    assert (now.number, before.number) == (1, 2) and registry.aliased(PREVIOUS).number == 2
    runs = registry.client.search_runs([registry.experiment(EXPERIMENT)], order_by=["attributes.start_time"])
    assert [run.data.tags["verdict"] for run in runs] == ["passed", "refused", "passed", "passed", "rollback"]
    table = json.loads(Path(registry.client.download_artifacts(refused.run_id, "verdict.json")).read_text())
    assert len(table["data"]) == len(refused.verdict.checks) and "reason" in table["columns"]
    assert runs[1].data.metrics["champion_accuracy/step"] > runs[1].data.metrics["accuracy/step"]


def test_promote_in_the_terminal(registry, archive, gate, capsys):
    uri = registry.uri
    for name in ("good", "bad"):
        trained(registry, archive, name)
    assert main(["registry", "promote", "1", "--atlas", archive, "--deploy", "--gate", gate, "--registry", uri]) == 0
    assert "version 1 against no champion: passed, it is champion now" in capsys.readouterr().out
    assert main(["registry", "promote", "2", "--atlas", archive, "--gate", gate, "--registry", uri]) == 3
    shown = capsys.readouterr().out
    assert "version 2 against champion 1: refused, nothing was changed" in shown and "worst task" in shown
    assert main(["registry", "list", "--registry", uri]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0] == f"registry {uri}"
    assert listed[2].split()[:3] == ["2", "bad", "hsa-v1"] and listed[3].endswith("champion")
    assert main(["registry", "show", "champion", "--registry", uri, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tags"]["model_version"] == "good"
    assert main(["registry", "rollback", "--registry", uri]) == 2
    assert "no previous champion" in capsys.readouterr().err


def test_a_model_of_another_taxonomy_needs_a_migration(registry, archive, gate, tmp_path):
    """The champion knows the action Tug by another name; with its migration it is judged as it deserves."""
    trained(registry, archive, "better")
    described = models.HALSTED.to_dict()
    for task in described["tasks"]:
        for tag in task["tags"]:
            if tag["name"] == "action":
                tag["categories"][tag["categories"].index("Tug")] = "Pull"
    old = models.taxonomies.from_dict(described)
    champion = Halsted.load(f"{archive}/models/good")
    weights = champion.decoder.state_dict()
    champion = Halsted(champion.config, old)
    champion.decoder.load_state_dict(weights)
    champion.configure(version="old")
    champion.save(str(tmp_path / "old"))
    version = register(registry, str(tmp_path / "old"))
    registry.move({CHAMPION: version.number})
    with pytest.raises(TaxonomyError, match=f"{old.digest}.*name a migration"):
        promote(registry, "1", archive, gate=gate)
    bridge = tmp_path / "bridge.yaml"
    stated = {"from": old.digest, "to": models.HALSTED.digest, "reason": "renamed", "categories": {}}
    figures = []
    for categories in ({}, {"action": {"Pull": "Tug"}}):
        bridge.write_text(yaml.safe_dump(stated | {"categories": categories}))
        came_to = promote(registry, "1", archive, gate=gate, migration=str(bridge))
        figures.append(registry.client.get_run(came_to.run_id).data.metrics["champion_accuracy/action"])
    assert figures[0] < figures[1] and came_to.alias == CHALLENGER
    fitting = bridge.read_text()
    stated["from"] = "0" * 16
    bridge.write_text(yaml.safe_dump(stated))
    with pytest.raises(TaxonomyError, match="the migration leads from 0000"):
        promote(registry, "1", archive, gate=gate, migration=str(bridge))
    bridge.write_text(fitting)
    versions = len(registry.versions())
    for aliases, said in (({CHAMPION: None}, "there is no champion"), ({CHAMPION: 1}, "version 1 has the taxonomy of")):
        registry.move(aliases)
        with pytest.raises(RegistryError, match=f"a champion of another taxonomy, and {said}.*leave --migration out"):
            promote(registry, f"{archive}/models/bad", archive, gate=gate, migration=str(bridge))
    assert len(registry.versions()) == versions, "refused before a version is made"


def test_a_model_that_learned_from_a_test_video_does_not_pass(registry, archive, gate, tmp_path):
    trained(registry, archive, "good")
    atlas = read_atlas(archive)
    write_atlas(
        str(tmp_path),
        list(atlas.videos),
        list(atlas.clips),
        "resplit",
        split=atlas.split | {"0" * 16: "test", "4" * 16: "train"},
    )
    store = f"{archive}/embeddings"
    came_to = promote(registry, "1", str(tmp_path), gate=gate, embeddings=store)
    (check,) = [check for check in came_to.verdict.checks if not check.passed]
    assert check.name == "learned_test_videos" and check.said == "0" * 16
    unknown = promote(registry, f"{archive}/models/better", archive, gate=gate)
    assert [check.name for check in unknown.verdict.checks if not check.passed] == ["learned_test_videos"]
    said = Halsted.load(f"{archive}/models/better")
    said.configure(version="said", learned_from={"train": ["0" * 16], "validation": ["1" * 16]})
    said.save(str(tmp_path / "said"))
    assert promote(registry, str(tmp_path / "said"), archive, gate=gate, deploy=True).verdict.passed
    # The champion in its turn has learned from a video that judges elsewhere.
    said.configure(version="new", learned_from={"train": ["4" * 16], "validation": ["1" * 16]})
    said.save(str(tmp_path / "new"))
    came_to = promote(registry, str(tmp_path / "new"), str(tmp_path), gate=gate, embeddings=store)
    (check,) = [check for check in came_to.verdict.checks if not check.passed]
    assert check.name == "learned_test_videos/champion" and f"learned from {'0' * 16}" in check.said


PROMOTER = """
    import sys, time
    from pathlib import Path
    from halsted_ray.cli import main
    from halsted_ray.registry import promote as promotion

    sys.path.insert(0, sys.argv[1])
    from test_registry import meeting

    promotion.record = meeting(Path(sys.argv[2]), Path(sys.argv[3]), promotion.record)
    sys.exit(main(sys.argv[4:]))
"""


def meeting(mine, other, record):
    """``record``, and then a wait for the other process: nothing else is changed, so that the two really meet."""

    def both_are_here(*arguments):
        run_id = record(*arguments)
        mine.touch()
        until_s = time.monotonic() + 120
        while not other.exists() and time.monotonic() < until_s:
            time.sleep(0.01)
        return run_id

    return both_are_here


@pytest.mark.slow
def test_of_two_that_promote_at_once_one_wins(registry, archive, gate, tmp_path, monkeypatch, capsys):
    """One of the two is this very process, since another start of Python and PyTorch is most of the time."""
    numbers = [trained(registry, archive, name).number for name in ("good", "better")]
    script = tmp_path / "promoter.py"
    script.write_text(textwrap.dedent(PROMOTER))
    here, there = tmp_path / "here", tmp_path / "there"
    words = [
        ["registry", "promote", str(number), "--atlas", archive, "--deploy", "--gate", gate, "--registry", registry.uri]
        for number in numbers
    ]
    other = subprocess.Popen(
        [sys.executable, script, ROOT / "tests", there, here, *words[1]],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    monkeypatch.setattr(promotion, "record", meeting(here, there, promotion.record))
    codes, complaints = [main(words[0])], [capsys.readouterr().err]
    complaints.append(other.communicate(timeout=120)[1])
    codes.append(other.returncode)
    assert sorted(codes) == [0, 2], complaints
    winner, loser = codes.index(0), codes.index(2)
    assert registry.aliased(CHAMPION).number == numbers[winner] and registry.aliased(PREVIOUS) is None
    said = complaints[loser]
    assert "another one was quicker" in said or "somebody else is changing" in said or "has just finished" in said
    assert "nothing was changed" in said and "Traceback" not in said
    with registry.locked("after"):  # nothing is left behind
        pass


def test_the_lock_says_who_holds_it_and_is_no_model(registry):
    with registry.locked("a long look"):
        with pytest.raises(RegistryError, match=r"a long look, process \d+ .*delete the registered model"):
            with registry.locked("another"):
                pass
        assert registry.versions() == []
        assert registry.client.get_registered_model(LOCK)
    with registry.locked("another"):
        pass


def test_lineage_from_a_row_to_the_commit_of_its_atlas(registry, archive, tmp_path, capsys):
    version = trained(registry, archive, "good")
    out = str(tmp_path / "maps")
    maps.write_maps(out)  # by a model that is not registered
    known = lineages.lineage(registry, out, f"{maps.WHOLE}:70:action")
    assert known["row"]["category"] == "Push/Peel" and known["version"] is None
    assert known["commit"] | {"timestamp": 0} == {
        "table_version": 0,
        "timestamp": 0,
        "run_id": "run",
        "recipe": "recipe",
        "code_version": "0.1.0",
        "model_version": "v1",
        "tasks": "macro,micro",
    }
    # the registered model maps one of the two videos again
    staging = Staging(out, "other")
    staging.begin(MappingRun("second", "other", ("macro",), 60.0, 0))
    segments = [Segment(f"s{n}", maps.WHOLE, maps.video(maps.WHOLE).uri, n, n + 60, 120.0) for n in (0, 60)]
    for segment in segments:
        tags = [tag for tag in maps.tags_of(segment) if tag.task == "macro"]
        staging.write(SegmentResult(segment, tags, [], "second"))
    origin = Provenance("second", "other", ("macro",), "halsted", "good", "hsa-v1", models.HALSTED.digest, "0.1.0")
    publish(out, staging, {maps.WHOLE: segments}, origin)

    known = lineages.lineage(registry, out, f"{maps.WHOLE[:4]}:70:step")
    assert (known["commit"]["table_version"], known["commit"]["run_id"]) == (1, "second")
    assert known["version"]["number"] == version.number and known["training"]["run_id"] == version.run_id
    assert known["atlas"]["release"] == "hsa-v1" and known["atlas"]["table_version"] == 0
    assert known["atlas"]["commit"]["why"] == "first annotated videos"
    assert lineages.lineage(registry, out, f"{maps.PARTIAL}:10:step")["commit"]["table_version"] == 0
    assert main(["lineage", out, "--row", f"{maps.WHOLE}:70:step", "--registry", registry.uri]) == 0
    shown = capsys.readouterr().out
    assert "atlas     hsa-v1, version 0 of" in shown and ": first annotated videos" in shown
    for row, said in (
        ("999", "there is no row 999"),
        (f"{maps.WHOLE}:70", "several rows fit"),
        ("aa", "expected the number"),
        ("zz:1", "no row is there"),
    ):
        with pytest.raises(UsageError, match=said):
            lineages.lineage(registry, out, row)


def test_a_row_is_numbered_as_in_the_exported_table(registry, tmp_path, capsys):
    out = str(tmp_path / "maps")
    maps.write_maps(out)
    assert main(["export", out, "--to", str(tmp_path / "to"), "--format", "csv"]) == 0
    capsys.readouterr()
    rows = read_csv((tmp_path / "to" / "timeline.csv").read_text())
    assert len({row["end_s"] for row in rows if row["start_s"] == 0}) > 1, "an order by start alone would differ"
    for number, row in enumerate(rows):
        assert main(["lineage", out, "--row", str(number), "--registry", registry.uri, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["row"]
        assert [found["stop_s" if name == "end_s" else name] for name in row] == list(row.values()), number


@pytest.mark.parametrize(
    "text, said",
    [
        ("- 1", "expected"),
        ("mean_p_worse: {at_most: 1}", "expected"),
        (": :", "YAML"),
    ],
)
def test_a_gate_that_is_not_whole_is_refused(tmp_path, text, said):
    file = tmp_path / "gate.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_thresholds(str(file))
    stated = yaml.safe_load((ROOT / "halsted_ray" / "registry" / "gate.yaml").read_text())
    del stated["calibration_error"]["reason"]
    file.write_text(yaml.safe_dump(stated))
    with pytest.raises(UsageError, match="calibration_error needs a number 'at_most' and a 'reason'"):
        read_thresholds(str(file))
