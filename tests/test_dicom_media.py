"""DICOM videos from media: a DICOMDIR, streams in many fragments, streams beyond 4 GiB."""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
import time
from pathlib import Path

import av
import dicom_video
import pydicom
import pytest
import small_video
from hospital_files import write_dicom
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.fileset import FileSet

from halsted_ray.cli import main
from halsted_ray.errors import UnreadableVideo
from halsted_ray.hospital.elements import element
from halsted_ray.hospital.identities import Identities
from halsted_ray.hospital.intake import LARGEST_HEADER_BYTES, read_instance, take_in
from halsted_ray.storage.ranges import RangeFile
from halsted_ray.video import encapsulated
from halsted_ray.video.encapsulated import find_stream, stream_in
from halsted_ray.video.probe import probe

GIB = 1 << 30
OFFSETS, LENGTHS, TOTAL = 0x7FE00001, 0x7FE00002, 0x7FE00003


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> bytes:
    return Path(small_video.write(tmp_path_factory.mktemp("stream") / "v.mp4", 2)).read_bytes()


def disc(folder: Path, streams: list[bytes]) -> Path:
    """A medium as pydicom writes one, of a video per stream; its DICOMDIR."""
    files = FileSet()
    for number, one in enumerate(streams):
        path = folder.with_name(f"made-{number}.dcm")
        write_dicom(
            path, one, 2, StudyDate="20260102", StudyTime="101112", StudyID="7", SeriesNumber=1, InstanceNumber=1
        )
        files.add(path)
        path.unlink()
    files.write(folder)
    return folder / "DICOMDIR"


def import_from(source: Path, tmp_path: Path) -> tuple[int, list[Path]]:
    out, table = tmp_path / "archive", tmp_path / "private/ids.db"
    status = main(["dicom", "import", str(source), "--out", str(out), "--identities", str(table)])
    return status, sorted(out.iterdir()) if out.is_dir() else []


def test_the_videos_that_a_dicomdir_lists_are_taken_and_others_beside_it_are_not(tmp_path, stream, capsys):
    dicomdir = disc(tmp_path / "disc", [stream, stream + b"\0\0\0\x08free"])
    write_dicom(tmp_path / "disc/BESIDE", stream + b"\0\0\0\x08skip")
    status, videos = import_from(dicomdir, tmp_path)
    assert status == 0 and sorted(path.stat().st_size for path in videos) == [len(stream), len(stream) + 8]
    assert "2 videos, 0 files without a DICOM video, 0 refused" in capsys.readouterr().out
    assert all(len(Identities(tmp_path / "private/ids.db").of(path.stem)) == 1 for path in videos)


@pytest.mark.parametrize("kind", ["text", "cut"])
def test_a_stream_that_no_player_opens_is_refused_and_found_by_the_private_list(tmp_path, stream, capsys, kind):
    assert stream.index(b"mdat") < stream.index(b"moov"), "what is cut off is the index"
    pacs = tmp_path / "pacs"
    pacs.mkdir()
    write_dicom(pacs / "Mustermann.dcm", b"this is a text and no video." if kind == "text" else stream[:-2000])
    write_dicom(pacs / "good.dcm", stream)
    status, videos = import_from(pacs, tmp_path)
    said = capsys.readouterr()
    assert status == 3 and [video.read_bytes() for video in videos] == [stream], "what is good is taken all the same"
    assert "1 video, 0 files without a DICOM video, 1 refused" in said.out and "refused 1: expected" in said.err
    assert "Mustermann" not in said.out + said.err
    listed = tmp_path / "private/ids.db.refused-files.csv"
    assert f"which files these are: {listed}" in said.err and listed.stat().st_mode & 0o777 == 0o600
    assert [row[:2] for row in csv.reader(listed.open())][1:] == [["1", str(pacs / "Mustermann.dcm")]]
    with Identities(tmp_path / "private/ids.db").database() as database:
        assert database.execute("SELECT count(*) FROM identities").fetchone() == (1,), "no row of a video that is not"
    (pacs / "Mustermann.dcm").unlink()
    assert import_from(pacs, tmp_path)[0] == 0 and not listed.exists(), "the list is of the last run"


def test_a_disc_in_small_letters_is_read_by_its_dicomdir(tmp_path, stream):
    """Linux shows the names of an ISO 9660 disc in small letters."""
    disc(tmp_path / "disc", [stream])
    for path in sorted((tmp_path / "disc").rglob("*"), key=lambda path: -len(path.parts)):
        path.rename(path.with_name(path.name.lower()))
    assert [video.read_bytes() for video in import_from(tmp_path / "disc/dicomdir", tmp_path)[1]] == [stream]


def test_what_a_dicomdir_lists_and_is_not_there_is_refused_and_the_rest_is_taken(tmp_path, stream, capsys):
    dicomdir = disc(tmp_path / "disc", [stream, stream + b"\0\0\0\x08free"])
    images = [record for record in pydicom.dcmread(dicomdir).DirectoryRecordSequence if "ReferencedFileID" in record]
    dicomdir.parent.joinpath(*images[0].ReferencedFileID).unlink()
    status, videos = import_from(dicomdir, tmp_path)
    assert status == 3 and len(videos) == 1
    assert "expected a file that is listed, got none; copy the whole disc" in capsys.readouterr().err


def test_a_dicomdir_leads_to_no_file_outside_of_its_folder_and_to_no_deleted_record(tmp_path, stream):
    (tmp_path / "disc").mkdir()
    write_dicom(tmp_path / "elsewhere.dcm", stream)
    (tmp_path / "disc/LINK").symlink_to(tmp_path / "elsewhere.dcm")
    write_dicom(tmp_path / "disc/DELETED", stream)
    listing = pydicom.Dataset()
    listing.DirectoryRecordSequence = []
    for name, flag in (
        ("../elsewhere.dcm", 0xFFFF),
        (["..", "elsewhere.dcm"], 0xFFFF),
        ("LINK", 0xFFFF),
        ("DELETED", 0),
    ):
        record = pydicom.Dataset()
        record.RecordInUseFlag, record.ReferencedFileID = flag, name
        listing.DirectoryRecordSequence.append(record)
    listing.file_meta = pydicom.dataset.FileMetaDataset()
    listing.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    listing.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    listing.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "disc/DICOMDIR", listing, enforce_file_format=True)
    found = take_in(str(tmp_path / "disc/DICOMDIR"), str(tmp_path / "archive"), Identities(tmp_path / "i/ids.db"))
    assert found.taken == [] and len(found.refused) == 3 and all("elsewhere" in one.reason for one in found.refused)


def reader_of(path: Path) -> RangeFile:
    source = stream_in(str(path))
    assert isinstance(source, RangeFile)
    return source


@settings(max_examples=40)
@given(data=st.data())
def test_a_stream_in_any_fragments_is_read_as_if_it_were_one(data, stream, tmp_path_factory):
    """With any offset table before it, and an end that only the stated length tells from padding."""
    stream += data.draw(st.sampled_from([b"", b"\0", b"x\0", b"\0\0\0"]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) // 2 - 1), max_size=30)))
    edges = [0, *(2 * cut for cut in cuts), len(stream)]
    parts = [stream[start:stop] for start, stop in zip(edges, edges[1:], strict=False)]
    parts[-1] += b"\0" * (len(parts[-1]) % 2)
    table = data.draw(st.sampled_from([(), (0,), tuple(edges[:-1])]))
    header = dicom_video.identified() + element(TOTAL, b"UV", struct.pack("<Q", len(stream)))
    path = tmp_path_factory.mktemp("dicom") / "1.dcm"
    path.write_bytes(dicom_video.file_meta() + header + dicom_video.pixels(parts, table))
    source = reader_of(path)
    assert source.size_bytes == len(stream)
    for _ in range(5):
        start = data.draw(st.integers(0, len(stream)))
        count = data.draw(st.integers(0, len(stream)))
        source.seek(start)
        assert source.read(count) == stream[start : start + count]
    with av.open(reader_of(path)) as opened:
        assert sum(1 for _ in opened.decode(video=0)) > 0


def beyond_4_gib(path: Path, stream: bytes, first: bytes, pieces: list[int]) -> int:
    """A sparse DICOM file at ``path``: an MP4 with a hole of ``sum(pieces)`` bytes, in as many fragments and one more.
    Returns the length of the stream. ``first``: elements before the pixels."""
    head_stop = struct.unpack(">I", stream[:4])[0]
    hole = struct.pack(">I4sQ", 1, b"free", sum(pieces) - head_stop)
    beginning = stream[:head_stop] + hole
    rest = stream[head_stop:]
    with open(path, "wb") as file:
        file.write(dicom_video.file_meta() + dicom_video.identified() + first)
        file.write(b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + dicom_video.ITEM + b"\0\0\0\0")
        for number, length in enumerate(pieces):
            file.write(dicom_video.ITEM + struct.pack("<I", length))
            start = file.tell()
            file.write(beginning if number == 0 else b"")
            file.seek(start + length)
        padded = rest + b"\0" * (len(rest) % 2)
        file.write(dicom_video.ITEM + struct.pack("<I", len(padded)) + padded + dicom_video.SEQUENCE_END)
    return sum(pieces) + len(rest)


def moved(stream: bytes, by: int) -> bytes:
    """``stream``, whose chunks lie ``by`` bytes later: the 32-bit offsets of its ``stco`` become 64-bit ones."""
    at = stream.index(b"stco")
    count = struct.unpack(">I", stream[at + 8 : at + 12])[0]
    offsets = struct.unpack(f">{count}I", stream[at + 12 : at + 12 + 4 * count])
    assert max(offsets) + by > 1 << 32
    wide = b"co64" + stream[at + 4 : at + 12] + struct.pack(f">{count}Q", *(offset + by for offset in offsets))
    grown = 4 * count
    changed = bytearray(stream[:at] + wide + stream[at + 12 + 4 * count :])
    for box in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        place = changed.index(box) - 4
        changed[place : place + 4] = struct.pack(">I", struct.unpack(">I", changed[place : place + 4])[0] + grown)
    place = at - 4
    changed[place : place + 4] = struct.pack(">I", struct.unpack(">I", stream[place : place + 4])[0] + grown)
    return bytes(changed)


@pytest.mark.parametrize("table", ["none", "total length", "extended offset table"])
def test_a_stream_beyond_4_gib_is_found_and_decoded_where_it_lies(tmp_path, table):
    """5 GiB in fragments, as a sparse file. A fragment's length has 32 bits, so the offsets of DICOM's basic table are
    not enough; neither that table nor the extended one is needed to join the fragments."""
    small = Path(small_video.write(tmp_path / "v.mp4", 2)).read_bytes()
    pieces = [4 * GIB - 2, GIB + 2]
    head_stop = struct.unpack(">I", small[:4])[0]
    video = moved(small, sum(pieces) - head_stop)
    rest = len(video) - head_stop
    first = {
        "none": b"",
        "total length": element(TOTAL, b"UV", struct.pack("<Q", sum(pieces) + rest)),
        "extended offset table": element(OFFSETS, b"OV", struct.pack("<3Q", 0, pieces[0] + 8, sum(pieces) + 16))
        + element(LENGTHS, b"OV", struct.pack("<3Q", *pieces, rest)),
    }[table]
    path = tmp_path / "1.dcm"
    length = beyond_4_gib(path, video, first, pieces)
    assert path.stat().st_size > 5 * GIB > 1000 * path.stat().st_blocks * 512, "sparse"
    source = reader_of(path)
    with open(path, "rb") as file:
        instance = read_instance(file)
    assert source.size_bytes == instance.stream.size_bytes == length and instance.subject.patient_id == "P-4711"
    assert (probe(str(path)).duration_s, probe(str(path)).width) == (2.0, probe(str(tmp_path / "v.mp4")).width)
    with av.open(source) as opened, av.open(str(tmp_path / "v.mp4")) as plain:
        ours, wanted = ([bytes(frame.planes[0]) for frame in one.decode(video=0)] for one in (opened, plain))
    assert ours == wanted


def test_lengths_beyond_what_is_there_are_not_believed(tmp_path, stream):
    """A total of 2^63 bytes and a fragment of 4 GiB in a small file: what is there is read, nothing is allocated."""
    header = dicom_video.identified() + element(TOTAL, b"UV", struct.pack("<Q", 1 << 63))
    pixels = dicom_video.pixels([stream])
    lying = pixels[: 12 + 8] + dicom_video.ITEM + b"\xfe\xff\xff\xff" + stream
    (tmp_path / "1.dcm").write_bytes(dicom_video.file_meta() + header + lying)
    source = reader_of(tmp_path / "1.dcm")
    assert source.size_bytes == len(stream) and source.read(len(stream)) == stream


def test_a_stream_in_a_hundred_thousand_fragments_is_found_in_seconds(tmp_path):
    """As a recorder writes that sends while it records: 1.6 GiB in fragments of 16 KiB, sparse."""
    path = tmp_path / "1.dcm"
    fragment = 16 * 1024
    with open(path, "wb") as file:
        file.write(dicom_video.file_meta() + dicom_video.identified() + dicom_video.pixels([b""])[:-8])
        for _ in range(100_000):
            file.write(dicom_video.ITEM + struct.pack("<I", fragment))
            file.seek(fragment - 2, os.SEEK_CUR)
            file.write(b"ab")
        file.write(dicom_video.SEQUENCE_END)
    with open(path, "rb") as file:
        begun = time.process_time()
        found = find_stream(lambda at, count: os.pread(file.fileno(), count, at), path.stat().st_size)
        took = time.process_time() - begun
    assert found.size_bytes == 100_000 * fragment and len(found.spans) == 100_000 and took < 10
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.parametrize("out", ["s3://bucket/archive", "{source}"])
def test_an_archive_elsewhere_or_among_the_dicom_files_is_refused_before_anything_is_written(
    tmp_path, stream, capsys, out
):
    source = tmp_path / "pacs"
    source.mkdir()
    write_dicom(source / "a.dcm", stream)
    table = tmp_path / "private/ids.db"
    words = ["dicom", "import", str(source), "--out", out.format(source=source), "--identities", str(table)]
    assert main(words) == 2 and "--out" in capsys.readouterr().err
    assert [path.name for path in source.iterdir()] == ["a.dcm"]
    if out.startswith("s3"):
        assert main(["dicom", "receive", *words[3:]]) == 2 and "folder of this machine" in capsys.readouterr().err


def test_a_report_that_is_a_folder_is_refused_in_words(tmp_path, capsys):
    assert main(["dicom", "rows", str(tmp_path)]) == 2
    assert "got a folder" in capsys.readouterr().err


def test_empty_fragments_are_counted(monkeypatch):
    monkeypatch.setattr(encapsulated, "MAX_FRAGMENTS", 1000)
    empty = dicom_video.ITEM + struct.pack("<I", 0)
    data = dicom_video.file_meta() + dicom_video.identified() + dicom_video.pixels([b""])[:-8] + 5000 * empty
    with pytest.raises(UnreadableVideo, match="at most 1,000 fragments"):
        find_stream(lambda at, count: data[at : at + count], len(data))


def test_a_header_beyond_its_bound_is_refused_before_pydicom_reads_it(tmp_path, stream, monkeypatch):
    private = element(0x00091001, b"OB", bytes(LARGEST_HEADER_BYTES))
    path = tmp_path / "1.dcm"
    path.write_bytes(dicom_video.file_meta() + private + dicom_video.identified() + dicom_video.pixels([stream]))
    monkeypatch.setattr(pydicom, "dcmread", lambda *_, **__: pytest.fail("pydicom read it"))
    with open(path, "rb") as file, pytest.raises(UnreadableVideo, match="at most 1 MiB"):
        read_instance(file)


def test_an_element_without_a_meaning_stays_in_the_header_without_its_value(tmp_path, stream):
    header = dicom_video.identified() + element(0x00201208, b"IS", b"ROE^JIM ")
    path = tmp_path / "1.dcm"
    path.write_bytes(dicom_video.file_meta() + header + dicom_video.pixels([stream]))
    with open(path, "rb") as file:
        kept = read_instance(file).header
    assert kept["00201208"] == {"vr": "UN"} and "ROE" not in json.dumps(kept)
