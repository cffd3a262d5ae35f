"""Which model is served: a folder, a pointer, the registry; swapped and rolled back; clips that are refused."""

from __future__ import annotations

import shutil
import time

import pytest
from serving import save_model, write_video

from halsted_ray.errors import ModelError, RegistryError, UsageError
from halsted_ray.service import served_model
from halsted_ray.service.clip_tagging import ClipTagger, UnknownWords, task_of
from halsted_ray.service.served_model import from_folder, model_source


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        save_model(folder / str(seed), seed)
    (folder / "0" / "MODEL_CARD.md").write_text("# Knows nothing")
    (folder / "champion").write_text("0\n")
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", 12.0)


def test_the_served_model_is_the_folder_or_the_model_that_its_pointer_names(models):
    alone, pointed = from_folder(str(models / "1")), from_folder(str(models))
    assert (alone.version, pointed.version) == ("v1", "v0") and alone.digest != pointed.digest
    assert pointed.card == "# Knows nothing" and "map procedure type" in pointed.described()["instructions"]
    assert str(models) not in str(pointed.described())


@pytest.mark.parametrize("pointer", ["../1", "", ".", "nowhere"])
def test_a_pointer_to_no_model_is_reported(tmp_path, pointer):
    (tmp_path / "champion").write_text(pointer)
    with pytest.raises(ModelError, match="champion"):
        from_folder(str(tmp_path))
    with pytest.raises(ModelError, match="make demo"):
        from_folder(str(tmp_path / "none"))


def test_models_are_swapped_and_rolled_back_and_a_broken_model_changes_nothing(models, video, tmp_path):
    shutil.copytree(models, tmp_path / "models")
    folder = tmp_path / "models"
    tagger = ClipTagger(model_source(str(folder)), decoders=1)
    before = tagger.read(str(video), "map procedure type", 0, 5)
    first = tagger.answer([before])[0]
    assert not tagger.refresh()
    (folder / "champion").write_text("1")
    assert tagger.refresh() and tagger.answer([before])[0]["model"]["version"] == "v0", "it was read for that one"
    after = tagger.read(str(video), "map procedure type", 0, 5)
    both = tagger.answer([before, after, before])
    assert [answer["model"]["version"] for answer in both] == ["v0", "v1", "v0"]
    assert both[0]["tags"] == both[2]["tags"] == first["tags"] != both[1]["tags"]
    others = [tagger.read(str(video), "map procedure type", start_s, start_s + 2.5) for start_s in (0, 5, 7.5)]
    alone = [tagger.answer([clip])[0]["tags"] for clip in others]
    assert [answer["tags"] for answer in tagger.answer(others)] == alone and alone[0] != alone[1] != alone[2]

    save_model(folder / "2", 2)
    (folder / "2" / "decoder.safetensors").write_bytes(b"half of a copy")
    (folder / "champion").write_text("2")
    assert not tagger.refresh() and tagger.loaded.served.version == "v1"
    (folder / "champion").write_text("0")
    assert (
        tagger.refresh()
        and tagger.answer([tagger.read(str(video), "map procedure type", 0, 5)])[0] | {"seconds": first["seconds"]}
        == first
    )
    tagger.close()


def test_the_served_model_follows_an_alias_of_the_registry(models, video, tmp_path, monkeypatch):
    from halsted_ray.registry.model_registry import Registry
    from halsted_ray.registry.tracking import register

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    source = model_source("registry:halsted@champion")
    with pytest.raises(RegistryError, match="there is no registry at"):
        source()
    registry = Registry()
    assert registry.versions() == []  # the first use makes the file
    with pytest.raises(RegistryError, match="no halsted@champion"):
        source()
    one, two = (register(registry, str(models / name)) for name in ("0", "1"))
    registry.move({"champion": one.number})
    tagger = ClipTagger(source, decoders=1)
    assert tagger.loaded.served.lineage["registry_version"] == one.number
    for version, name in ((two, "v1"), (one, "v0")):
        registry.move({"champion": version.number})
        assert tagger.refresh()
        answer = tagger.answer([tagger.read(str(video), "map procedure type", 0, 5)])[0]
        assert answer["model"]["version"] == name
    registry.move({"champion": None})
    assert not tagger.refresh() and source().version == "v0", "the last answer holds"
    tagger.close()


def test_impossible_spans_and_unknown_instructions_are_refused(models, video):
    tagger = ClipTagger(model_source(str(models)), decoders=1, longest_s=5)
    for span, message in (
        ((0, 6), "at most 5 s"),
        ((20, 30), "12.000 s"),
        ((3, 3), "12.000 s"),
        ((None, None), "at most"),
    ):
        with pytest.raises(UsageError, match=message):
            tagger.read(str(video), "map procedure type", *span)
    with pytest.raises(UnknownWords) as caught:
        task_of(tagger.loaded.served.taxonomy, "dance the needle")
    assert caught.value.words["dance"] and caught.value.nearest[0] == "map needle driving activity"
    tagger.close()


def test_a_model_that_was_just_looked_at_is_known_without_a_look(models, monkeypatch):
    source = model_source(str(models), keep_s=5.0)
    assert source.known is None
    served = source()
    assert source.known is served
    now_s = time.monotonic()
    monkeypatch.setattr(served_model.time, "monotonic", lambda: now_s + 6.0)
    assert source.known is None and source().digest == served.digest
    assert model_source(str(models)).known is None, "one that always looks knows nothing"
