"""Captions and transcripts found by their words: what is found, what is shown, and the index beside them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3

import pytest

from halsted_ray.atlas import read_atlas, withdraw_samples
from halsted_ray.atlas.atlas_table import add_samples, write_atlas
from halsted_ray.atlas.commits import Change
from halsted_ray.cli import main
from halsted_ray.errors import AtlasError, OutputError, UsageError
from halsted_ray.language import caption_search
from halsted_ray.language.caption_search import LONGEST_SENTENCE, search_captions, sentences
from halsted_ray.records import Caption, Clip, Video

A, B = (f"{n:016x}" for n in (1, 2))
LECTURE = "Welcome to this case. First we dissect. Now the cystic artery is clipped twice. Then we irrigate."
CAPTIONS = [
    Caption(A, 0.0, 5.0, "fine", "Clip on the cystic duct"),
    Caption(A, 0.0, 5.0, "fine", "A clip is placed on the cystic duct by the surgeon", "enhanced"),
    Caption(A, 20.0, 30.0, "mid", "the duct, which is wide", excluded="it is not descriptive"),
    Caption(A, 0.0, 60.0, "video", LECTURE, "transcript", "SurgLaVi-β"),
    Caption(B, 7.5, 9.0, "fine", "so we irrigate here", "transcript"),
]


@pytest.fixture
def root(tmp_path) -> str:
    videos = [Video(one, f"videos/{one}.mp4", 10, 60.0, 64, 48, 25.0, "h264") for one in (A, B)]
    clips = [Clip(one, 0.0, 5.0, "micro", {"action": "Clip"}, annotator="me") for one in (A, B)]
    write_atlas(str(tmp_path), videos, clips, "v1", captions=CAPTIONS)
    return str(tmp_path)


def found(root: str, text: str, **asked):
    return search_captions(read_atlas(root), text, **asked)


def test_the_best_sentence_of_each_span_is_found_by_stems_and_a_text_without_times_gets_none(root):
    answer = found(root, "clipping the placed duct")
    assert [(one.video_id, one.start_s, one.stop_s, one.kind) for one in answer] == [
        (A, 0.0, 5.0, "enhanced"),
        (A, 20.0, 30.0, "raw"),
        (A, None, None, "transcript"),
    ]
    lecture = next(one for one in answer if one.kind == "transcript")
    assert lecture.text == "Now the cystic artery is clipped twice." and lecture.source == "SurgLaVi-β"
    assert (lecture.start_s, lecture.stop_s) == (None, None), "nobody knows when it was said"
    assert [one.score for one in answer] == sorted((one.score for one in answer), reverse=True)
    assert next(one for one in answer if one.start_s == 20).excluded == "it is not descriptive"


def test_a_phrase_stays_together_kinds_are_chosen_and_the_count_holds(root):
    assert {one.kind for one in found(root, '"cystic duct"')} == {"raw"}, "the best of the span"
    assert [one.kind for one in found(root, '"cystic duct"', kinds=["enhanced"])] == ["enhanced"]
    spoken = found(root, "irrigate", kinds=["transcript"])
    assert {(one.video_id, one.start_s, one.stop_s) for one in spoken} == {(A, None, None), (B, 7.5, 9.0)}
    assert len(found(root, "irrigate", count=1)) == 1
    assert found(root, "gastrectomy") == []
    assert len(found(root, "irrigate", count=10**30)) == 2
    for count in (0, -1):
        with pytest.raises(UsageError, match=f"a count of {count}; expected 1 or more"):
            found(root, "irrigate", count=count)
    with pytest.raises(UsageError, match="no kind 'spoken'; expected some of raw, enhanced, transcript"):
        found(root, "irrigate", kinds=["spoken"])


@pytest.mark.parametrize("text", ["clip AND (", 'clip"', "clip NEAR/2 *", "text: clip", "-clip ^", "clip\x00\x1b[2J"])
def test_no_sign_in_a_question_is_an_operator(root, text):
    assert found(root, text)[0].text == "Clip on the cystic duct"


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("une incise\u0301e du cholédoque", "cholédoque"),
        ("une incise\u0301e ici", "incisée"),
        ("une incisée ici", "incise\u0301e"),
        ("पित्ताशय को निकालें", "पित्ताशय"),
        ("胆嚢を切除します。 胆嚢管 を結紮します。", '"胆嚢管"'),
    ],
)
def test_letters_keep_their_marks_however_they_are_written(root, said, asked):
    add_samples(root, [], Change("a person", "by hand"), captions=[Caption(B, 1.0, 2.0, "fine", said)])
    assert [one.start_s for one in search_captions(read_atlas(root, "head"), asked)] == [1.0]
    half = asked.strip('"')[:2]
    assert search_captions(read_atlas(root, "head"), half) == [], "half a word is none"


def test_a_question_without_a_word_and_an_atlas_without_captions_are_refused_in_words(root, tmp_path):
    for text in ("", " ", '""', "?!", "\x1b", "_", '"_ _"', "\u0301"):
        with pytest.raises(UsageError, match="a question without a word"):
            found(root, text)
    with pytest.raises(UsageError, match="1,001 characters; expected 1,000 at most"):
        found(root, "a" * 1001)
    empty = str(tmp_path / "empty")
    write_atlas(empty, [Video(A, "a.mp4", 10, 60.0, 64, 48, 25.0, "h264")], [], "v1")
    with pytest.raises(AtlasError, match="has no captions; add some with"):
        found(empty, "clip")


def test_the_index_follows_the_version_and_keeps_no_words_of_a_video_that_left(root):
    folder = os.path.join(root, "atlas", ".words")
    assert len(found(root, "irrigate")) == 2
    (before,) = os.listdir(folder)
    withdraw_samples(root, lambda clip: clip.video_id == B, Change("a person", "by hand"))
    assert [one.video_id for one in search_captions(read_atlas(root, "head"), "irrigate")] == [A]
    (after,) = os.listdir(folder)
    assert after != before and b"so we irrigate" not in open(os.path.join(folder, after), "rb").read()
    add_samples(root, [], Change("a person", "by hand"), captions=[Caption(A, 1.0, 2.0, "fine", "the irrigator leaks")])
    assert len(search_captions(read_atlas(root, "head"), "irrigator leaks")) == 2
    assert len(search_captions(read_atlas(root, "v1"), "irrigate")) == 2, "a release finds what it had"


def test_the_command_finds_no_words_of_a_withdrawn_video_unless_a_release_is_named(root, capsys):
    withdraw_samples(root, lambda clip: clip.video_id == B, Change("a person", "by hand"))
    assert main(["atlas", "search", root, "irrigate", "--json"]) == 0
    assert [one["video_id"] for one in json.loads(capsys.readouterr().out)["results"]] == [A]
    assert main(["atlas", "search", root, "irrigate", "--release", "v1", "--json"]) == 0
    assert {one["video_id"] for one in json.loads(capsys.readouterr().out)["results"]} == {A, B}


def test_searches_of_two_versions_remove_no_index_that_the_other_one_reads(root, monkeypatch):
    withdraw_samples(root, lambda clip: clip.video_id == B, Change("a person", "by hand"))
    folder, remove, opened = (
        os.path.join(root, "atlas", ".words"),
        caption_search._remove_others,
        caption_search._opened,
    )

    def gone(path) -> None:
        for name in os.listdir(folder):
            if name.endswith(".sqlite"):
                os.remove(os.path.join(folder, name))

    monkeypatch.setattr(caption_search, "_remove_others", lambda *asked: (remove(*asked), gone(None)))
    assert len(found(root, "irrigate")) == 2, "removed when it was made"
    monkeypatch.setattr(caption_search, "_remove_others", remove)
    found(root, "irrigate")
    monkeypatch.setattr(
        caption_search, "_opened", lambda path: (os.path.dirname(path) == folder and gone(path), opened(path))[1]
    )
    assert len(found(root, "irrigate")) == 2, "removed when it was found"


def test_what_a_killed_search_left_goes_with_the_next_search(root):
    found(root, "clip")
    left, fresh = (os.path.join(root, "atlas", ".words", name) for name in ("tmpold", "tmpnew"))
    for folder in (left, fresh):
        os.mkdir(folder)
    os.utime(left, (0, 0))
    found(root, "clip")
    assert not os.path.exists(left) and os.path.exists(fresh)


def test_the_index_is_made_once_and_damage_is_said(root, monkeypatch):
    told: list[str] = []
    for _ in range(2):
        found(root, "clip", progress=told.append)
    assert len(told) == 1
    folder = os.path.join(root, "atlas", ".words")
    path = os.path.join(folder, os.listdir(folder)[0])
    with open(path, "r+b") as file:
        file.write(b"x" * 100)
    with pytest.raises(AtlasError, match="remove it and search again"):
        found(root, "clip")

    def killed(*_):
        raise KeyboardInterrupt

    os.remove(path)
    monkeypatch.setattr(caption_search, "sentences", killed)
    with pytest.raises(KeyboardInterrupt):
        found(root, "clip")
    assert os.listdir(folder) == [], "half an index is none"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_an_atlas_that_cannot_be_written_is_searched_all_the_same(root, monkeypatch, code):
    def refused(*_args, **_more):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(caption_search.Path, "mkdir", refused)
    told: list[str] = []
    assert found(root, "clip", progress=told.append)[0].video_id == A
    assert "for this search alone" in told[-1] and not os.path.exists(os.path.join(root, "atlas", ".words"))


def test_a_full_disk_and_captions_that_cannot_be_read_are_said_in_words(root, monkeypatch, capsys):
    small = f"pragma max_page_count = 8; {caption_search.SCHEMA}"
    monkeypatch.setattr(caption_search, "SCHEMA", small)  # SQLite answers as on a full disk
    more = [Caption(B, 1.0, 2.0, "fine", "the fundus is stapled " * 20_000)]
    add_samples(root, [], Change("a person", "by hand"), captions=more)
    assert main(["atlas", "search", root, "clip"]) == 2
    said = capsys.readouterr().err
    assert "for this search alone" in said and "disk is full" in said and "or name another folder in TMPDIR" in said
    assert os.listdir(os.path.join(root, "atlas", ".words")) == []
    monkeypatch.setattr(caption_search, "SCHEMA", caption_search.SCHEMA.replace("fts5", "fts5_not_built"))
    with pytest.raises(OutputError, match="has no full-text search"):
        found(root, "clip")
    shutil.rmtree(os.path.join(root, "atlas", "captions", "_delta_log"))
    with pytest.raises(AtlasError, match="can't be read: .*; restore them from a backup"):
        found(root, "clip")


def test_a_transcript_that_says_it_often_hides_no_other_video(root):
    often = " ".join(f"We irrigate {n}." for n in range(50))
    more = [Caption(A, 0.0, 60.0, "video", often, "transcript")]
    add_samples(root, [], Change("a person", "by hand"), captions=more)
    head = read_atlas(root, "head")
    assert {one.video_id for one in search_captions(head, "irrigate we", count=2)} == {A, B}


def test_sentences_are_short_whatever_was_said():
    spoken = "and then " * 100_000
    pieces = list(sentences(spoken))
    assert max(map(len, pieces)) <= LONGEST_SENTENCE and " ".join(pieces).split() == spoken.split()
    assert max(map(len, sentences("x" * 1_000_000))) == LONGEST_SENTENCE
    assert list(sentences("切除します。結紮します！次")) == ["切除します。", "結紮します！", "次"]
    assert list(sentences(" One.  Two!\nthree\r\n\n ")) == ["One.", "Two!", "three"]


def test_nothing_in_a_text_moves_the_terminal(root, capsys):
    evil = "the \x1b[2J\x1b]0;owned\x07 fundus \u202eis\u2066 stapled \x9b31m\x00" + "w" * 2000
    add_samples(
        root, [], Change("a person", "by hand"), captions=[Caption(B, 1.0, 2.0, "fine", evil, excluded="\x1b[1m")]
    )
    assert main(["atlas", "search", root, "fundus \x1b stapled"]) == 0
    shown = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in shown) and "\\x1b[2J" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_the_command_prints_video_time_and_sentence(root, capsys):
    assert main(["atlas", "search", root, "irrigate", "--files"]) == 0
    lines = capsys.readouterr().out.splitlines()
    timed = next(n for n, line in enumerate(lines) if B in line)
    assert "0:07.5 to 0:09.0  (fine transcript)" in lines[timed]
    assert lines[timed + 1].strip().endswith(f"{B}.mp4") and lines[timed + 2].strip() == "so we irrigate here"
    assert any(f"{A}  whole video, no time  (transcript)" in line for line in lines)
    assert main(["atlas", "search", root, "irrigate", "--json", "--count", "1"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["results"]
    assert one["kind"] == "transcript" and "file" not in one and one["score"] > 0, "also in a small atlas"
    assert main(["atlas", "search", root, "gastrectomy"]) == 0
    assert "no caption or transcript of v1 has one of these words" in capsys.readouterr().out
    assert main(["atlas", "search", root, "?"]) == 2


def test_the_index_is_opened_for_reading_alone(root):
    found(root, "clip")
    folder = os.path.join(root, "atlas", ".words")
    path = os.path.join(folder, os.listdir(folder)[0])
    with sqlite3.connect(path) as base:
        assert base.execute("select count(*) from captions").fetchone() == (len(CAPTIONS),)
    before = os.stat(path).st_mtime_ns
    found(root, "duct")
    assert os.stat(path).st_mtime_ns == before
