"""What is known of one file, as the command `halsted probe` tells it."""

import json
import os

import pytest
from numbered_video import Recipe, write

from halsted_ray.cli import main
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.probe import probe
from halsted_ray.video.readers import read_frames


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    return {
        "mp4": write(folder / "a.mp4", Recipe()).path,
        "ts": write(folder / "a.ts", Recipe(".ts", codec_options={"bf": "2"})).path,
        "turned": write(folder / "turned.mp4", Recipe(rotation_deg=90)).path,
    }


def told(capsys, *words):
    code = main(["probe", *map(str, words)])
    return code, capsys.readouterr().out


def test_probe_says_what_a_file_is_and_how_it_is_read(videos, capsys):
    code, text = told(capsys, videos["mp4"])
    assert code == 0 and max(map(len, text.splitlines())) <= 80
    for words in ("MP4/MOV", "320×180", "h264", "30.000 frames/s", "upright", "0:06.000", "the container's own index"):
        assert words in text
    code, text = told(capsys, videos["turned"])
    assert code == 0 and "turned by" in text


def test_probe_tells_takes_and_the_length_that_the_packets_hold(videos, tmp_path, capsys):
    joined = tmp_path / "joined.ts"
    joined.write_bytes(videos["ts"].read_bytes() * 2)
    code, text = told(capsys, joined)
    assert code == 0 and "2 takes" in text and "0:12.000" in text and "one pass over all packets" in text
    assert "note: Its header states 6.000 s, and 12.000 s are used" in text
    found = json.loads(told(capsys, joined, "--json")[1])
    assert [[round(edge, 3) for edge in take] for take in found["probe"]["takes"]] == [[0.0, 6.0], [6.0, 12.0]]
    assert found["lengths_s"]["packets"] == pytest.approx(12.0) and found["keyframes"]["count"] == 12


def test_what_libavformat_does_not_read_of_joined_mp4_files_is_a_gap_and_is_said(videos, tmp_path, capsys):
    joined = tmp_path / "joined.mp4"
    joined.write_bytes(videos["mp4"].read_bytes() * 2)
    found = probe(joined)
    assert found.unread_bytes == videos["mp4"].stat().st_size and found.duration_s == pytest.approx(12.0, abs=0.1)
    (lost,) = read_frames(joined, [1.0, 5.9, 6.5, 11.0], (90, 160)).missing
    assert lost.start_s == pytest.approx(6.0, abs=0.05) and lost.stop_s > 11.0
    assert "a further recording that can't be read" in " ".join(told(capsys, joined)[1].split())


def test_probe_says_why_a_file_is_no_video(tmp_path, capsys):
    text_file, dicom = tmp_path / "Mustermann.mp4", tmp_path / "IM0001"
    text_file.write_text("hello\n" * 99)
    dicom.write_bytes(bytes(128) + b"DICM" + bytes(400))
    code, text = told(capsys, text_file)
    assert code == 3 and text.startswith("unreadable: expected a video") and "Mustermann" not in text
    code, text = told(capsys, dicom, "--json")
    assert code == 3 and "DICOM" in json.loads(text)["reason"]
    assert told(capsys, tmp_path / "nothing.mp4")[0] == 3


def test_a_pipe_is_not_waited_for_and_a_folder_is_no_file(tmp_path, capsys):
    os.mkfifo(tmp_path / "a.mp4")
    code, text = told(capsys, tmp_path / "a.mp4")
    assert code == 3 and "got a pipe" in text
    code, text = told(capsys, tmp_path)
    assert code == 3 and "got a folder" in text


def test_the_description_comes_out_of_the_decoding_process(videos):
    """A file of unknown origin is not opened in the process that holds credentials."""
    with DecodeProcess() as process:
        found = process.describe(videos["ts"])
        assert process.starts == 1 and found["probe"] == process.probe(videos["ts"]).asdict()
    assert found["picture"]["matrix"] == "BT.601" and found["streams"] == ["video h264"]
