"""A model folder is self-contained, saving and loading changes nothing, and a wrong folder is reported."""

import json
import re
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

from halsted_ray import model as model_package
from halsted_ray import taxonomy
from halsted_ray.errors import ModelError, TaxonomyError
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.model_file import read_stated_model
from halsted_ray.records import WindowSpec


def small(**described):
    return Halsted.create(None, 24, width=32, heads=4, seed=5, encoder_ref="random:tiny:0", **described)


def vectors(count, dim=24, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float16)


@pytest.fixture
def folder(tmp_path):
    model = small(version="3", atlas_release="hsa-v1", windows=WindowSpec(20.0, 5.0))
    model.decoder.fit_features(torch.from_numpy(vectors(50)))
    model.configure(temperatures={"step": 1.5})
    model.save(str(tmp_path / "model"))
    return tmp_path / "model", model


def test_round_trip(folder):
    path, model = folder
    again = Halsted.load(str(path))
    assert again.config == model.config and again.taxonomy == model.taxonomy and again.digest == model.digest
    for (name, value), (other, copy) in zip(
        model.decoder.state_dict().items(), again.decoder.state_dict().items(), strict=True
    ):
        assert name == other and (value == copy).all()
    tasks = ["macro", "micro", "proficiency", "context"] * 3
    assert again.tag(vectors(12), tasks, unit="grid") == model.tag(vectors(12), tasks, unit="grid")
    again.save(str(path.parent / "second"))
    for name in ("model.json", "decoder.safetensors"):
        assert (path / name).read_bytes() == (path.parent / "second" / name).read_bytes()


def test_a_model_says_which_videos_it_learned_from(folder):
    path, model = folder
    learned = {"train": ["a" * 16], "validation": ["b" * 16]}
    before = model.digest
    model.configure(learned_from=learned)
    assert model.digest == before, "it decides no tag"
    model.save(str(path))
    assert Halsted.load(str(path)).config.learned_from == learned
    stated = json.loads((path / "model.json").read_text())
    del stated["config"]["learned_from"]  # as models were saved before they said so
    (path / "model.json").write_text(json.dumps(stated))
    older = Halsted.load(str(path))
    assert older.config.learned_from is None and older.digest == before


def test_a_model_says_at_which_tasks_training_learned_nothing(folder):
    path, model = folder
    before = model.digest
    model.configure(verdict="no better than always answering the commonest category: micro 0.100")
    assert model.digest == before, "it decides no tag"
    model.save(str(path))
    assert Halsted.load(str(path)).config.verdict == model.config.verdict
    stated = json.loads((path / "model.json").read_text())
    del stated["config"]["verdict"]  # as models were saved before they said so
    (path / "model.json").write_text(json.dumps(stated))
    older = Halsted.load(str(path))
    assert older.config.verdict == "" and older.digest == before


def test_a_model_folder_contains_its_taxonomy(tmp_path):
    model = Halsted.create(taxonomy.load("sar_rarp50"), 24, width=32, heads=4)
    model.save(str(tmp_path))
    row = Halsted.load(str(tmp_path)).tag(vectors(1), "action", unit="grid")[0]
    assert list(row) == ["action"] and row["action"][0] in taxonomy.load("sar_rarp50").tag("action").categories


def test_save_and_load_by_url():
    model = small()
    model.save("memory://models/one")
    assert Halsted.load("memory://models/one").digest == model.digest
    fsspec.filesystem("memory").rm("/models", recursive=True)


def test_digest_changes_with_everything_that_decides_the_tags(folder):
    _, model = folder
    seen = {model.digest}
    for change in ({"temperatures": {"step": 1.6}}, {"version": "4"}):
        model.configure(**change)
        seen.add(model.digest)
    with torch.no_grad():
        model.decoder.positions[0, 0] += 1e-3
    assert len(seen | {model.digest}) == 4


def test_a_place_without_a_model_is_reported(tmp_path):
    with pytest.raises(ModelError, match="found nothing, expected a folder with model.json and decoder.safetensors"):
        Halsted.load(str(tmp_path / "none"))
    with pytest.raises(ModelError, match=r"found an empty folder, .*model.json, decoder.safetensors missing"):
        Halsted.load(str(tmp_path))
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ModelError, match=r"found model.json, .*\(decoder.safetensors missing"):
        Halsted.load(str(tmp_path))
    with pytest.raises(ModelError, match="found a file, expected a folder"):
        Halsted.load(str(tmp_path / "model.json"))
    with pytest.raises(ModelError, match="Protocol not known: nowhere"):
        Halsted.load("nowhere://bucket/model")


def test_a_damaged_model_is_reported(folder):
    path, _ = folder
    text = (path / "model.json").read_text()
    for old, new, message in [
        ('"halsted-model/1"', '"halsted-model/9"', "format 'halsted-model/9'; this version reads 'halsted-model/1'"),
        ('"Suturing"', '"Sewing"', "taxonomy of model"),
        ('"name": "Left"', '"name": "Left', None),
        ('"map procedure type"', '"map procedures"', "its taxonomy has digest .*changed by hand"),
        ('"layers": 2', '"storeys": 2', "unexpected keyword argument 'storeys'"),
        ('"layers": 2', '"layers": 3', "decoder.safetensors does not fit model.json"),
        ('"config": {', '"config": [', "model.json is not JSON"),
    ]:
        if message:
            assert old in text
            (path / "model.json").write_text(text.replace(old, new, 1))
            with pytest.raises(ModelError, match=message):
                Halsted.load(str(path))
    (path / "model.json").write_text(text)
    weights = bytearray((path / "decoder.safetensors").read_bytes())
    weights[-1] ^= 1
    (path / "decoder.safetensors").write_bytes(bytes(weights))
    with pytest.raises(ModelError, match="not the file that model.json was written with"):
        Halsted.load(str(path))


def test_model_json_can_be_read_by_a_person(folder):
    stated = json.loads((folder[0] / "model.json").read_text())
    assert stated["config"]["atlas_release"] == "hsa-v1" and stated["config"]["windows"]["coarse_s"] == 20
    assert stated["taxonomy_digest"] == taxonomy.load().digest
    assert stated["parameters"] == folder[1].parameters
    assert "Bile Duct\u2013Small Intestine" in (folder[0] / "model.json").read_text("utf-8")


def test_the_encoder_must_be_the_one_it_was_trained_on():
    encoder = Encoder.create("tiny", 0)
    model = Halsted.create(None, encoder.dim, encoder_ref=encoder.ref, encoder_fingerprint=encoder.fingerprint)
    assert model.load_encoder().fingerprint == encoder.fingerprint
    with pytest.raises(ModelError, match="was trained on encoder 'random:tiny:0' with fingerprint"):
        model.check_encoder(Encoder.create("tiny", 1))


def test_wrong_input_is_reported():
    model = small()
    with pytest.raises(ModelError, match=r"vectors of shape \(2, 25\), expected \(N, 24\)"):
        model.tag(vectors(2, 25), "macro", unit="grid")
    with pytest.raises(ModelError, match="got 2 vectors and 3 tasks"):
        model.tag(vectors(2), ["macro"] * 3, unit="grid")
    with pytest.raises(TaxonomyError, match="no task 'marco'; did you mean 'macro'"):
        model.tag(vectors(2), "marco", unit="grid")
    with pytest.raises(ModelError, match="width 30 can't have 8 heads"):
        Halsted.create(None, 30)
    assert model.tag(vectors(0), "macro", unit="grid") == [] == model.tag(vectors(0), [], unit="grid")


def test_the_same_seed_gives_the_same_model_and_leaves_others_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = small()
    assert torch.rand(1) == expected
    assert first.digest == small().digest != Halsted.create(None, 24, width=32, heads=4, seed=6).digest


def test_the_readme_s_code_runs():
    text = (Path(model_package.__file__).parent / "README.md").read_text("utf-8")
    block = re.search(r"```python\n(.*?)```", text, re.S)[1]
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    assert [list(row) for row in names["rows"]] == [["specialty", "procedure", "step"], ["action", "arm", "instrument"]]


def test_a_folder_states_the_model_that_is_loaded_from_it(tmp_path):
    model = Halsted.create(None, 192, encoder_fingerprint="f" * 16, width=32, heads=2, learned_from={"train": ["v"]})
    model.configure(temperatures={"step": 1.5})
    model.save(str(tmp_path))
    stated, loaded = read_stated_model(str(tmp_path)), Halsted.load(str(tmp_path))
    assert stated.digest == loaded.digest == model.digest
    assert stated.config == loaded.config and stated.taxonomy.digest == loaded.taxonomy.digest
    assert read_stated_model("phantom").digest == Halsted.load("phantom").digest
    (tmp_path / "decoder.safetensors").write_bytes(b"others")
    assert read_stated_model(str(tmp_path)).digest == model.digest, "the weights were not read"
    with pytest.raises(ModelError, match="copy both again"):
        Halsted.load(str(tmp_path))
