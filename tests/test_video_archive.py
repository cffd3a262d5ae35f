"""Finding the videos of an archive and telling them apart by content."""

import os
import shutil
import tempfile
from pathlib import Path

import fsspec
import pytest

from halsted_ray.atlas.formats.recording import matching_files
from halsted_ray.errors import ArchiveError, AtlasError
from halsted_ray.storage.delta import is_table, table_uri
from halsted_ray.storage.files import list_folder
from halsted_ray.storage.locations import filesystem
from halsted_ray.video.archive import list_videos
from halsted_ray.video.identity import BLOCK_BYTES, BLOCKS, block_spans, video_id


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_lists_recursively_and_leaves_out_what_is_hidden(tmp_path):
    kept = ["a.mp4", "deep/er/b.MKV", "c d 'e' \"f\".mov", "Müller–Ø::1#2%20.ts"]
    touch(tmp_path, *kept, ".hidden.mp4", "._a.mp4", ".trash/d.mp4", "notes.txt", "mp4")
    touch(tmp_path, "maps/videos/_delta_log/0.json", "maps/videos/clip.mp4")
    assert list_videos(tmp_path) == sorted(str(tmp_path / name) for name in kept)
    assert list_videos(f"file://{tmp_path}/deep") == [str(tmp_path / "deep/er/b.MKV")]
    assert list_videos(tmp_path / "a.mp4") == [str(tmp_path / "a.mp4")]


def test_what_is_no_video_is_counted_and_our_own_output_is_not(tmp_path):
    touch(tmp_path, "a.mp4", "a.wav", "b.txt", ".hidden", "maps/b.mp4", "maps/report.html")
    touch(tmp_path, "maps/videos/_delta_log/0.json")
    told = []
    assert list_videos(tmp_path, f"{tmp_path}/maps/", told.append) == [str(tmp_path / "a.mp4")]
    assert told == ["skipped 4 files of the archive: not a video (2), hidden (1), of a Delta table (1)"]
    with pytest.raises(ArchiveError, match="got 2 of the maps, 1 of a Delta table"):
        list_videos(tmp_path / "maps", str(tmp_path / "maps"))


def test_other_file_systems_give_their_own_uris():
    fs = fsspec.filesystem("memory")
    fs.pipe("/archive/x/a.mp4", b"1")
    assert list_videos("memory://archive") == ["memory:///archive/x/a.mp4"]


def test_archive_without_videos_says_what_is_there(tmp_path):
    touch(tmp_path, "a.txt", "b.txt", "c", ".d.mp4")
    with pytest.raises(ArchiveError, match=r"expected videos.*got 2 \.txt, 1 hidden, 1 without an extension"):
        list_videos(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArchiveError, match="got no file at all"):
        list_videos(tmp_path / "empty")
    with pytest.raises(ArchiveError, match="nowhere.*got nothing of this name"):
        list_videos(tmp_path / "nowhere")
    with pytest.raises(ArchiveError, match="could not be listed"):
        list_videos("nosuchprotocol://archive")


@pytest.fixture
def as_visitor():
    """A folder that everybody may read, and a call after which this process has no right of root's."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:  # tmp_path itself is closed to other users
        os.chmod(folder, 0o755)
        try:
            yield Path(folder), lambda: os.seteuid(65534) if user == 0 else None
        finally:
            os.seteuid(user)
            for path in Path(folder).glob("*"):  # so that the folder can be removed
                path.chmod(0o755)


@pytest.mark.parametrize("closed", ["case-2", "case-1/deep"])
def test_a_folder_that_may_not_be_listed_is_no_empty_folder(as_visitor, closed):
    """fsspec leaves such a folder out without a word, and its videos would be missing from the maps."""
    archive, become_visitor = as_visitor
    touch(archive, "case-1/a.mp4", "case-1/deep/b.mp4", "case-2/c.mp4")
    (archive / closed).chmod(0o700 if os.geteuid() == 0 else 0)
    become_visitor()
    with pytest.raises(ArchiveError, match=f"no permission to list '{archive / closed}'.*ask for the permission"):
        list_videos(archive)
    with pytest.raises(ArchiveError, match="no permission to list"):
        list_videos(archive / closed / "below")
    with pytest.raises(PermissionError):
        list_folder(*filesystem(str(archive)), deep=True)
    with pytest.raises(AtlasError, match="can't be listed"):
        matching_files(str(archive), "*/" * closed.count("/") + "*/*.mp4")
    with pytest.raises(PermissionError):
        is_table(table_uri(str(archive / closed), "videos"))


@pytest.mark.parametrize("name", ["lost+found", ".snapshots"])
def test_the_folders_of_a_drive_itself_are_not_missed(as_visitor, name):
    archive, become_visitor = as_visitor
    touch(archive, "a.mp4", f"{name}/b.mp4")
    (archive / name).chmod(0o700 if os.geteuid() == 0 else 0)
    become_visitor()
    assert list_videos(archive) == [str(archive / "a.mp4")]


def test_a_store_that_is_away_is_no_empty_store(monkeypatch):
    """``exists`` of fsspec says False where the store doesn't answer."""

    def info(*_arguments, **_options):
        raise OSError("Connection refused")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", info)
    with pytest.raises(ArchiveError, match="could not be listed.*Connection refused.*check the location"):
        list_videos("memory://archive-that-is-away")


@pytest.mark.parametrize("size_bytes", [0, 1, BLOCK_BYTES, BLOCKS * BLOCK_BYTES, BLOCKS * BLOCK_BYTES + 1, 10**9 + 7])
def test_identity_reads_head_middle_and_tail_and_at_most_1_mb(size_bytes):
    spans = block_spans(size_bytes)
    assert sum(stop - start for start, stop in spans) <= 1_000_000
    if size_bytes:
        assert spans[0][0] == 0 and spans[-1][1] == size_bytes
        assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))


def test_identity_follows_the_content_not_the_name(tmp_path):
    local, memory = fsspec.filesystem("file"), fsspec.filesystem("memory")
    data = bytearray(range(256)) * 8192
    first = tmp_path / "patient name.mp4"
    first.write_bytes(data)
    shutil.copy(first, tmp_path / "copy.mov")
    memory.pipe("/identity/a.mp4", bytes(data))
    name = video_id(local, str(first))
    assert len(name) == 16 and int(name, 16) >= 0
    assert video_id(local, str(tmp_path / "copy.mov")) == name == video_id(memory, "/identity/a.mp4")
    for position in (0, len(data) // 2, len(data) - 1):
        changed = data.copy()
        changed[position] ^= 1
        first.write_bytes(changed)
        assert video_id(local, str(first)) != name
    first.write_bytes(data + b"\0")
    assert video_id(local, str(first)) != name
