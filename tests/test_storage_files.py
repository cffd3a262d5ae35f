"""Whole files at a location: the same functions, the same answers and the same errors on a disk and in a store."""

from __future__ import annotations

import doctest

import fsspec
import pytest

from halsted_ray import storage
from halsted_ray.errors import OutputError, StorageUnavailable, UsageError
from halsted_ray.storage import files
from halsted_ray.storage.files import (
    download,
    exists,
    list_folder,
    make_folder,
    move_file,
    read_bytes,
    read_json,
    remove_folder,
    write_bytes,
    write_json,
)
from halsted_ray.storage.locations import absolute_location, filesystem, is_local


@pytest.fixture(params=["disk", "s3"])
def place(request, tmp_path) -> str:
    if request.param == "disk":
        return str(tmp_path / "place")
    return f"{request.getfixturevalue('s3_server').bucket}/files-{tmp_path.name}"


def test_what_is_written_is_read_again(place):
    assert not exists(f"{place}/deep/er/run.json")
    write_json(f"{place}/deep/er/run.json", {"name": "Ø", "videos": [1, 2]})
    assert read_json(f"{place}/deep/er/run.json") == {"name": "Ø", "videos": [1, 2]}
    assert "Ø".encode() in read_bytes(f"{place}/deep/er/run.json")
    write_bytes(f"{place}/deep/er/run.json", b"[]")
    assert read_json(f"{place}/deep/er/run.json") == []
    assert exists(f"{place}/deep/er/run.json") and exists(f"{place}/deep")


def test_a_file_that_is_not_there_is_an_answer_and_not_an_outage(place):
    with pytest.raises(FileNotFoundError):
        read_bytes(f"{place}/none.json")
    with pytest.raises(FileNotFoundError):
        download(f"{place}/none.json", "/nonexistent/file")
    assert list_folder(*filesystem(f"{place}/none")) == []


def test_a_finished_file_is_moved_in_whole(place, tmp_path):
    made = tmp_path / "made"
    made.write_bytes(b"12345")
    move_file(str(made), f"{place}/videos/a.mp4")
    assert read_bytes(f"{place}/videos/a.mp4") == b"12345"
    assert not made.exists()


def test_a_file_or_a_folder_is_downloaded(place, tmp_path):
    write_bytes(f"{place}/model/a", b"1")
    write_bytes(f"{place}/model/deep/b", b"2")
    download(f"{place}/model", str(tmp_path / "copy"))
    found = {path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*")}
    assert found == {"a", "deep", "deep/b"}
    download(f"{place}/model/deep/b", str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == b"2"


def test_a_folder_is_removed_with_all_that_is_in_it(place):
    write_bytes(f"{place}/kept/a", b"1")
    write_bytes(f"{place}/gone/deep/b", b"2")
    remove_folder(*filesystem(f"{place}/gone"))
    remove_folder(*filesystem(f"{place}/never-there"))
    assert not exists(f"{place}/gone/deep/b") and exists(f"{place}/kept/a")


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for write in (
        lambda location: make_folder(location),
        lambda location: write_json(f"{location}/run.json", {}),
        lambda location: move_file(str(tmp_path / "file"), f"{location}/a.mp4"),
    ):
        with pytest.raises(OutputError, match="can't write .*file/place.*that can be written"):
            write(str(tmp_path / "file" / "place"))


def test_a_folder_that_is_made_can_be_used(place):
    fs, path = make_folder(place)
    assert make_folder(place) == (fs, path), "a second time too"
    files.write_atomically(fs, f"{path}/a", b"1")
    assert read_bytes(f"{place}/a") == b"1"


def test_a_store_that_is_away_is_waited_for(monkeypatch):
    fs = fsspec.filesystem("memory")
    fs.pipe("/storage-files/a.json", b"[1]")
    failures = iter([ConnectionError("away"), ConnectionError("away")])
    cat_file = type(fs).cat_file

    def away(self, path, **kwargs):
        for error in failures:
            raise error
        return cat_file(self, path, **kwargs)

    monkeypatch.setattr(type(fs), "cat_file", away)
    assert read_json("memory://storage-files/a.json") == [1]
    failures = iter([ConnectionError("away")] * 1000)
    monkeypatch.setattr(files, "PATIENCE_S", 0.3)
    with pytest.raises(StorageUnavailable, match="could not fetch"):
        read_json("memory://storage-files/a.json")


def test_a_place_that_refuses_a_write_is_told_with_what_helps_a_write(monkeypatch):
    fs = fsspec.filesystem("memory")
    for error, words in (
        (PermissionError(13, "denied"), "refused the place to write to: PermissionError; give .* right to write to it"),
        (FileNotFoundError(2, "no such bucket"), "could not find the place to write to.*make the bucket first"),
        (ConnectionError("away"), "could not reach the place to write to within"),
    ):

        def fails(self, path, value, error=error, **named):
            raise error

        monkeypatch.setattr(files, "PATIENCE_S", 0.1)
        monkeypatch.setattr(type(fs), "pipe_file", fails)
        with pytest.raises(OutputError, match=words):
            write_bytes("memory://storage-files/a", b"1")


def test_a_local_cache_of_a_store_is_not_this_machines_disk():
    assert not is_local(fsspec.filesystem("filecache", target_protocol="memory"))


def test_a_kind_of_location_that_does_not_exist_is_a_usage_error():
    with pytest.raises(UsageError, match="'nosuch://a/b': .*expected a path, or a URL such as s3://bucket/folder"):
        filesystem("nosuch://a/b")


def test_a_home_folder_is_the_same_wherever_it_is_given(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    fs, path = filesystem("~/maps")
    assert is_local(fs) and path == absolute_location("~/maps") == str(tmp_path / "maps")


def test_a_path_is_taken_literally(tmp_path):
    for name in ("a::b", "a#b", "100%", "{a}", "a b"):
        write_bytes(str(tmp_path / name), name.encode())
        assert (tmp_path / name).read_bytes() == read_bytes(f"file://{tmp_path}/{name}") == name.encode()


def test_the_example_in_the_docstring_is_true():
    found = doctest.testmod(storage)
    assert found.attempted and not found.failed
