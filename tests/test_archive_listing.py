"""What an archive holds beside videos: names of any bytes, links, bins, snapshots, files still being written, DICOM."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import fsspec
import pytest
import small_video

import halsted_ray
from halsted_ray.atlas.formats.recording import matching_files
from halsted_ray.errors import ArchiveError, StorageUnavailable, UnreadableVideo
from halsted_ray.mapping.inventory import take_inventory
from halsted_ray.maps.reading import read_timeline
from halsted_ray.maps.status import status_of
from halsted_ray.storage.locations import PERCENT_ENCODED, filesystem, local_path, local_uri, printable
from halsted_ray.storage.retry import with_retries
from halsted_ray.storage.tree import CIRCLE, LISTED_ALREADY, NOT_PERMITTED, SNAPSHOT
from halsted_ray.video import left_out
from halsted_ray.video.archive import Listing, list_archive, list_videos
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.file_head import dicom_reason, dicom_video, is_container

NAMES = [
    b"M\xfcller OP.mp4",
    "Müller OP.mp4".encode(),
    "Mu\u0308ller OP.mp4".encode(),
    b"two\nlines\tand\x1b[31m red.mp4",
    "🔪 emoji.mp4".encode(),
    b"a#b?c*d[e]%41%.mp4",
    b"\\xfc 'quoted\" $HOME `x` ;.mp4",
    b"\xff\xfe\x80.mp4",
    b"x" * 251 + b".mp4",
    "a\u2028b\u202ec.mp4".encode(),
]
"""Latin-1, NFC, NFD, control characters, what shells, URLs and globs read as their own, no text at all, the longest."""


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def skipped(listing: Listing) -> dict[str, str]:
    """Path below the archive → reason."""
    return {skip.uri.removeprefix(f"{listing.root}/"): skip.reason for skip in listing.skipped}


@pytest.fixture
def names(tmp_path) -> list[bytes]:
    """A folder with a video under each of NAMES."""
    video = Path(small_video.write(tmp_path / "v.mp4", 1)).read_bytes()
    (tmp_path / "archive").mkdir()
    for number, name in enumerate(NAMES):
        with open(os.fsencode(tmp_path) + b"/archive/" + name, "wb") as file:
            file.write(video + b"\0\0\0\x09free%d" % number)
    return NAMES


def test_a_name_of_any_bytes_is_listed_identified_and_decoded(names, tmp_path):
    uris = list_videos(tmp_path / "archive")
    assert len(uris) == len(set(uris)) == len(names)
    for uri in uris:
        uri.encode()  # UTF-8: Arrow, Delta and JSON take it
        assert json.loads(json.dumps(uri)) == uri
    assert sorted(os.fsencode(local_path(uri)).rsplit(b"/", 1)[1] for uri in uris) == sorted(names)
    entries = take_inventory(uris)
    assert [(entry.code, entry.reason) for entry in entries] == [("", "")] * len(names)
    assert len({entry.video.video_id for entry in entries}) == len(names)
    with DecodeProcess() as process:
        for uri in uris:
            assert process.read_frames(uri, [0.0, 0.5], (64, 96), deadline_s=60).images_NHWC.shape == (2, 64, 96, 3)


def test_names_go_through_arrow_and_back(names, tmp_path):
    from halsted_ray.embedding.stage_schemas import segment_of, segments_table
    from halsted_ray.records import Segment

    for uri in list_videos(tmp_path / "archive"):
        segment = segment_of(segments_table([Segment("s", "v", uri, 0.0, 1.0, 1.0)]))
        fs, path = filesystem(segment.uri)
        assert fs.size(path) > 0


def test_data_sets_with_such_names_are_found(names, tmp_path):
    found = matching_files(str(tmp_path), "*/*.mp4")
    assert sorted(os.fsencode(local_path(uri)).rsplit(b"/", 1)[1] for uri in found) == sorted(names)
    assert all(uri.encode() for uri in found)


def test_an_archive_whose_own_name_is_no_text_is_mapped_too(tmp_path):
    folder = os.fsencode(tmp_path) + b"/Klinik M\xfcnchen"
    os.mkdir(folder)
    os.mkdir(folder + b"/maps")
    small_video.write(os.fsdecode(folder + b"/a.mp4"), 1)
    Path(os.fsdecode(folder + b"/maps/b.mp4")).write_bytes(b"x")
    (uri,) = list_videos(os.fsdecode(folder), outside=os.fsdecode(folder) + "/maps")
    assert uri == f"{PERCENT_ENCODED}{tmp_path}/Klinik%20M%FCnchen/a.mp4"
    assert list_videos(f"{PERCENT_ENCODED}{tmp_path}/Klinik%20M%FCnchen/a.mp4") == [uri]
    assert take_inventory([uri])[0].code == ""


def test_only_a_name_that_is_no_text_is_escaped():
    assert local_uri("/a/100%25 ü.mp4") == "/a/100%25 ü.mp4"
    assert local_path(local_uri("/a/100%25.mp4")) == "/a/100%25.mp4"
    path = os.fsdecode(b"/a/100%25 \xfc.mp4")
    assert local_uri(path) == f"{PERCENT_ENCODED}/a/100%2525%20%FC.mp4" and local_path(local_uri(path)) == path


def test_a_name_is_shown_on_one_line_and_changes_no_terminal():
    assert printable(local_uri(os.fsdecode(b"/a/M\xfcller\n.mp4"))) == r"/a/M\xfcller\n.mp4"
    assert printable("/a/Müller \x1b[31m\u2028\u202e🔪.mp4") == r"/a/Müller \x1b[31m\u2028\u202e🔪.mp4"


def test_a_link_to_a_folder_is_followed_once_and_a_circle_is_named(tmp_path):
    archive = tmp_path / "archive"
    touch(archive, "a.mp4", "case1/b.mp4")
    touch(tmp_path, "store/case7/c.mp4", "store/case7/deep/d.mp4")
    (archive / "case7").symlink_to(tmp_path / "store/case7")
    (archive / "second").symlink_to(tmp_path / "store/case7")
    (archive / "around").symlink_to(tmp_path / "store")
    (archive / "inside").symlink_to(archive / "case1")
    (archive / "again").symlink_to(archive)
    (archive / "case1/up").symlink_to("..")
    (archive / "root").symlink_to("/")
    (tmp_path / "store/case7/back").symlink_to(tmp_path / "store")
    (archive / "self").symlink_to("self")
    listing = list_archive(archive)
    assert listing.videos == [
        str(archive / name) for name in ("a.mp4", "around/case7/c.mp4", "around/case7/deep/d.mp4", "case1/b.mp4")
    ]
    assert skipped(listing) == {
        "again": CIRCLE,
        "around/case7/back": CIRCLE,
        "case1/up": CIRCLE,
        "root": CIRCLE,
        "self": CIRCLE,
        "case7": LISTED_ALREADY,
        "inside": LISTED_ALREADY,
        "second": LISTED_ALREADY,
    }
    assert listing.messages() == [
        f"skipped 8 files of the archive: {CIRCLE} (5), {LISTED_ALREADY} (3)",
        "followed 1 link out of the archive",
    ]


def test_a_folder_that_a_link_reaches_twice_is_listed_once(tmp_path):
    archive = tmp_path / "archive"
    touch(tmp_path, "store/case/part/a.mp4", "archive/b.mp4")
    (archive / "first").symlink_to(tmp_path / "store/case/part")
    (archive / "second").symlink_to(tmp_path / "store")
    listing = list_archive(archive)
    assert listing.videos == [str(archive / "b.mp4"), str(archive / "first/a.mp4")]
    assert skipped(listing) == {"second/case/part": LISTED_ALREADY}


def test_links_to_one_file_are_one_video(tmp_path):
    archive = tmp_path / "archive"
    touch(tmp_path, "archive/z.mp4", "outside.mp4", "archive/.annex/objects/1234")
    (archive / "a.mp4").symlink_to(archive / "z.mp4")
    (archive / "b.mp4").symlink_to(tmp_path / "outside.mp4")
    (archive / "c.mp4").symlink_to(tmp_path / "outside.mp4")
    (archive / "d.mp4").symlink_to(archive / ".annex/objects/1234")
    (archive / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    listing = list_archive(archive)
    assert [Path(uri).name for uri in listing.videos] == ["b.mp4", "d.mp4", "gone.mp4", "z.mp4"]
    assert skipped(listing) == {
        "a.mp4": LISTED_ALREADY,
        "c.mp4": LISTED_ALREADY,
        ".annex/objects/1234": left_out.HIDDEN,
    }
    (tmp_path / "link").symlink_to(archive)
    assert len(list_videos(tmp_path / "link")) == 4, "the archive may be a link itself"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("$RECYCLE.BIN/S-1-5-21-1/$RABC123.mp4", left_out.RECYCLED),
        ("case/$Recycle.Bin/a.mp4", left_out.RECYCLED),
        ("RECYCLER/a.mp4", left_out.RECYCLED),
        ("#recycle/a.mp4", left_out.RECYCLED),
        ("@Recycle/a.mp4", left_out.RECYCLED),
        (".Trash-1000/files/a.mp4", left_out.RECYCLED),
        (".Trashes/501/a.mp4", left_out.RECYCLED),
        ("System Volume Information/a.mp4", left_out.OF_THE_DRIVE),
        ("@eaDir/a.mp4/SYNOVIDEO.mp4", left_out.OF_THE_DRIVE),
        ("lost+found/a.mp4", left_out.OF_THE_DRIVE),
        ("deep/._a.mp4", left_out.APPLE_DOUBLE),
        (".a.mp4", left_out.HIDDEN),
        (".cache/a.mp4", left_out.HIDDEN),
        ("a.mp4.part", left_out.BEING_WRITTEN),
        ("a.mp4.crdownload", left_out.BEING_WRITTEN),
        ("a.tmp", left_out.BEING_WRITTEN),
        (".a.mp4.Ab3xYz", left_out.BEING_WRITTEN),
        ("GX010123.LRV", left_out.PROXY),
        ("notes.txt", left_out.NO_VIDEO),
    ],
)
def test_what_is_left_out_for_its_name_is_counted_and_named(name, reason, tmp_path):
    touch(tmp_path, "a.mp4", name)
    listing = list_archive(tmp_path)
    assert listing.videos == [str(tmp_path / "a.mp4")]
    assert skipped(listing) == {name: reason}
    assert listing.messages() == [f"skipped 1 file of the archive: {reason} (1)"]
    fs = fsspec.filesystem("memory")
    root = f"memory://{tmp_path.name}"
    fs.pipe(f"/{tmp_path.name}/b.mp4", b"1")
    fs.pipe(f"/{tmp_path.name}/{name}", b"1")
    listing = list_archive(root)
    assert [uri.rsplit("/", 1)[1] for uri in listing.videos] == ["b.mp4"], "in a store too"
    assert skipped(listing) == {f"memory:///{tmp_path.name}/{name}": reason}


@pytest.mark.parametrize("name", [".snapshot", ".snapshots", "~snapshot", "#snapshot", "@GMT-2026.01.01-00.00", ".zfs"])
def test_snapshots_are_named_and_not_looked_into(name, tmp_path):
    touch(tmp_path, "a.mp4", f"case/{name}/hourly.0/case/a.mp4", f"case/{name}/hourly.1/case/a.mp4")
    listing = list_archive(tmp_path)
    assert listing.videos == [str(tmp_path / "a.mp4")] and skipped(listing) == {f"case/{name}": SNAPSHOT}


def test_names_that_only_resemble_those_are_videos(tmp_path):
    kept = ["recycled prostate.mp4", "a.tmp.mp4", "part.mp4", "snapshot/a.mp4", "$RABC123.mp4", "trash/a.mp4"]
    touch(tmp_path, *kept)
    assert list_videos(tmp_path) == sorted(str(tmp_path / name) for name in kept)
    touch(tmp_path, "#recycle/deep/b.mp4")
    assert list_videos(tmp_path / "#recycle") == [str(tmp_path / "#recycle/deep/b.mp4")], "whoever names it wants it"


def test_a_link_that_may_not_be_followed_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "archive/a.mp4", "closed/b.mp4")
    (tmp_path / "archive/link").symlink_to(tmp_path / "closed")
    real = os.stat

    def stat(path, *arguments, **options):
        if str(path).endswith("archive/link"):
            raise PermissionError
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert skipped(list_archive(tmp_path / "archive")) == {"link": NOT_PERMITTED}


def test_a_file_that_grows_is_left_for_the_next_run(tmp_path):
    touch(tmp_path, "whole.mp4", "grows.mp4", "preallocated.mp4", "copied.mp4")
    os.utime(tmp_path / "copied.mp4", (1e9, 1e9))
    listing = list_archive(tmp_path)
    assert listing.young == {str(tmp_path / name) for name in ("whole.mp4", "grows.mp4", "preallocated.mp4")}
    with open(tmp_path / "grows.mp4", "ab") as file:
        file.write(b"y")
    now_s = time.time() + 0.01
    os.utime(tmp_path / "preallocated.mp4", (now_s, now_s))  # written to, at the same size
    assert listing.still_written(0.05) == [str(tmp_path / "grows.mp4"), str(tmp_path / "preallocated.mp4")]
    assert listing.still_written(0) == [], "switched off"


def test_a_file_that_grows_under_an_old_time_is_seen_too(tmp_path):
    """A network drive may keep the old time until the file is closed."""
    touch(tmp_path, "a.mp4", "b.mp4")
    for name in ("a.mp4", "b.mp4"):
        os.utime(tmp_path / name, (1e9, 1e9))
    listing = list_archive(tmp_path)
    sizes = {str(tmp_path / "a.mp4"): 1, str(tmp_path / "b.mp4"): 7}
    assert listing.still_written(60, sizes) == [str(tmp_path / "b.mp4")]


def test_nobody_waits_for_an_archive_that_was_not_written_to(tmp_path):
    touch(tmp_path, "a.mp4")
    os.utime(tmp_path / "a.mp4", (1e9, 1e9))
    started_s = time.monotonic()
    assert list_archive(tmp_path).still_written(60) == [] and time.monotonic() - started_s < 50


def test_the_time_since_the_first_look_counts(tmp_path, monkeypatch):
    touch(tmp_path, *(f"{n}.mp4" for n in range(50)))
    listing = list_archive(tmp_path)
    time.sleep(0.3)
    slept_s = []
    monkeypatch.setattr("halsted_ray.video.archive.time.sleep", slept_s.append)
    assert listing.still_written(0.3) == [] and slept_s == [0.0], "once for all files"


def dicom(pixels: bytes, syntax: str, sop_class: str = "1.2.840.10008.5.1.4.1.1.77.1.1.1") -> bytes:
    """A DICOM file with its file meta information, and ``pixels`` as one encapsulated fragment."""

    def uid(element: int, value: str) -> bytes:
        text = value.encode() + b"\0" * (len(value) % 2)
        return b"\x02\0" + element.to_bytes(2, "little") + b"UI" + len(text).to_bytes(2, "little") + text

    meta = uid(0x02, sop_class) + uid(0x03, "1.2.3") + uid(0x10, syntax) + uid(0x12, "1.2.3.4")
    length = b"\x02\0\0\0UL\x04\0" + len(meta).to_bytes(4, "little")
    item = b"\xfe\xff\0\xe0"
    fragments = item + b"\0\0\0\0" + item + len(pixels).to_bytes(4, "little") + pixels + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return bytes(128) + b"DICM" + length + meta + b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + fragments


@pytest.mark.parametrize(("suffix", "codec", "syntax"), [
    (".mp4", "mpeg4", "1.2.840.10008.1.2.4.102"),
    (".mpg", "mpeg2video", "1.2.840.10008.1.2.4.100"),
    (".ts", "mpeg2video", "1.2.840.10008.1.2.4.101.1"),
])  # fmt: skip
@pytest.mark.parametrize("beside", [True, False])
def test_a_dicom_video_is_a_video_of_the_archive(suffix, codec, syntax, beside, tmp_path):
    video = Path(small_video.write(tmp_path / f"v{suffix}", 1, codec=codec)).read_bytes()
    archive = tmp_path / "archive"
    archive.mkdir()
    names = ("IM0001.dcm", "IM0002", "1.2.840.113619.2.55", "named.mp4")
    for name in names:
        (archive / name).write_bytes(dicom(video, syntax))
    (archive / "DICOMDIR").write_bytes(dicom(b"", "1.2.840.10008.1.2.1", "1.2.840.10008.1.3.10"))
    (archive / "CT0001").write_bytes(dicom(b"", "1.2.840.10008.1.2.1", "1.2.840.10008.5.1.4.1.1.2"))
    if beside:
        (archive / "beside.mp4").write_bytes(video)
    listing = list_archive(archive)
    assert skipped(listing) == {"DICOMDIR": left_out.DICOM, "CT0001": left_out.DICOM}
    entries = {Path(entry.video.uri).name: entry for entry in take_inventory(listing.videos)}
    assert len(entries) == 4 + beside
    assert {entry.code for entry in entries.values()} == {""} and {e.video.duration_s for e in entries.values()} == {1}
    assert len({entry.video.video_id for entry in entries.values()}) == 1, "its id is that of the stream in it"
    assert sum(not entry.copy_of for entry in entries.values()) == 1


def test_pictures_that_dicom_calls_a_video_are_named_too():
    head = dicom(b"\xff\xd8", "1.2.840.10008.1.2.4.50")
    assert dicom_video(head) == "pictures"
    assert "as single pictures, which is not read; export it" in dicom_reason(head)
    assert dicom_video(b"DICM") is None


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts", ".mpg", ".avi", ".asf", ".flv", ".mxf"])
def test_a_video_without_a_videos_name_is_found_by_its_head(suffix, tmp_path):
    codec = "mpeg2video" if suffix in (".mpg", ".ts", ".mxf") else "flv" if suffix == ".flv" else "mpeg4"
    video = Path(small_video.write(tmp_path / f"v{suffix}", 1, codec=codec))
    assert is_container(video.read_bytes()[:2048])
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "REC0001").write_bytes(video.read_bytes())
    (archive / "REC0002.dav").write_bytes(video.read_bytes())
    (archive / "song.m4a").write_bytes(video.read_bytes())
    (archive / "notes").write_text("Patient 7\n" * 500)
    os.mkfifo(archive / "pipe")
    listing = list_archive(archive)
    assert [Path(uri).name for uri in listing.videos] == ["REC0001", "REC0002.dav"]
    assert set(skipped(listing)) == {"song.m4a", "notes", "pipe"}


def test_heads_are_read_up_to_a_number_and_the_rest_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("halsted_ray.video.archive.HEADS_AT_MOST", 3)
    touch(tmp_path, "a.mp4", *(f"file{n}" for n in range(5)))
    reasons = list(skipped(list_archive(tmp_path)).values())
    assert reasons == [left_out.NO_VIDEO] * 3 + [left_out.NOT_LOOKED_AT] * 2
    touch(tmp_path, "later/file")
    reasons = skipped(list_archive(tmp_path))
    assert reasons["later/file"] == left_out.NO_VIDEO, "every folder is looked into first"
    assert reasons["file2"] == left_out.NOT_LOOKED_AT


def test_an_archived_object_is_named_as_such():
    class ClientError(Exception):
        response = {"Error": {"Code": "InvalidObjectState", "Message": "The operation is not valid"}}

    def read():
        raise PermissionError("The operation is not valid") from ClientError()

    with pytest.raises(StorageUnavailable, match="archive class such as Glacier.*restore it first"):
        with_retries(read, "its first bytes", 60)


def test_a_writer_at_work_is_seen_by_the_inventory(tmp_path):
    small_video.write(tmp_path / "whole.mp4", 1)
    data = Path(small_video.write(tmp_path / "v.ts", 4, codec="mpeg2video")).read_bytes()
    (tmp_path / "v.ts").unlink()
    stop = threading.Event()

    def record():
        with open(tmp_path / "recording.ts", "wb") as file:
            for at in range(0, len(data), 188):
                file.write(data[at : at + 188])
                file.flush()
                if stop.wait(0.02):
                    return

    writer = threading.Thread(target=record)
    writer.start()
    try:
        time.sleep(0.1)
        listing = list_archive(tmp_path)
        assert len(listing.videos) == 2
        entries = take_inventory(listing.videos, still_written=lambda _: listing.still_written(0.2))
        assert [entry.video.uri for entry in entries] == [str(tmp_path / "whole.mp4")]
    finally:
        stop.set()
        writer.join()


def test_an_archive_in_which_nothing_is_a_video_says_what_is_there(tmp_path):
    touch(tmp_path, "#recycle/a.mp4", "a.mp4.part")
    with pytest.raises(ArchiveError, match=f"got 1 {left_out.RECYCLED}, 1 {left_out.BEING_WRITTEN}"):
        list_videos(tmp_path)


def test_ray_starts_though_the_command_and_its_folder_are_no_text(tmp_path, monkeypatch):
    import ray._private.utils

    from halsted_ray.compute.cluster import _words_as_utf8

    folder = os.fsdecode(os.fsencode(tmp_path) + b"/Klinik M\xfcnchen")
    os.mkdir(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(ray._private.utils, "get_entrypoint_name", lambda: f"halsted map {folder}")
    with _words_as_utf8():
        assert ray._private.utils.get_entrypoint_name() == rf"halsted map {tmp_path}/Klinik M\xfcnchen"
        os.getcwd().encode()
    assert os.getcwd() == folder and ray._private.utils.get_entrypoint_name().endswith(folder)


@pytest.mark.slow
def test_names_of_any_bytes_are_mapped_by_the_command(names, tmp_path, small_model):
    archive = os.fsencode(tmp_path) + b"/M\xfcnchen"
    os.rename(tmp_path / "archive", archive)
    ray_folder = tempfile.mkdtemp(prefix="ray-")  # a short path: Ray's sockets lie in it
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "RAY_TMPDIR": ray_folder,
    }
    environment.pop("RAY_ADDRESS", None)
    words = [sys.executable, "-m", "halsted_ray.cli", "map", archive, "--out", tmp_path / "out", "--model", small_model]
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    finally:
        shutil.rmtree(ray_folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    videos = status_of(str(tmp_path / "out"))
    assert {video["status"] for video in videos} == {"mapped"}
    assert {os.fsencode(local_path(video["uri"])) for video in videos} == {archive + b"/" + name for name in names}
    assert {row["uri"] for row in read_timeline(str(tmp_path / "out")).to_pylist()} == {v["uri"] for v in videos}


@pytest.mark.parametrize("name", ["a" * 300, "a.mp4/b.mp4", "zero\0byte", "circle"], ids=ascii)
def test_a_name_that_no_file_can_have_is_no_outage(tmp_path, name):
    """Annotations can name anything. A store that is away would be waited for, a minute per name."""
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(UnreadableVideo, match="a name that no file can have"):
        with_retries(lambda: os.stat(tmp_path / name), "its size", 60)
