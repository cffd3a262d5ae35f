"""An archive of everything that goes wrong, mapped by the command itself: what is said of each file, what is mapped
none the less, and that no patient's name leaves the archive's own tables."""

from __future__ import annotations

import json
import re
import shutil
import struct
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest
from in_process import halsted
from numbered_video import Recipe, write

from halsted_ray.maps.reading import read_segments, read_timeline
from halsted_ray.video.identity import block_spans

pytestmark = pytest.mark.slow

PATIENT = "Mustermannova"
SIZE = (90, 160)
WHOLE = Recipe(frames=250, rate=10, gop=10, size=SIZE, mux_options={"movflags": "faststart"})


def good(folder: Path) -> None:
    write(folder / f"{PATIENT} 'Zoë' \"2\".mp4", Recipe(frames=150, rate=10, gop=10, size=SIZE))
    first = write(folder / "named inside.mp4", WHOLE).path
    with av.open(str(first)) as source, av.open(str(folder / "b.mp4"), "w") as written:
        written.metadata["title"] = written.metadata["comment"] = f"{PATIENT}, 1.4.1961"
        stream = written.add_stream_from_template(source.streams.video[0])
        stream.metadata["handler_name"] = PATIENT
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                written.mux(packet)
    first.unlink()
    assert (folder / "b.mp4").read_bytes().count(PATIENT.encode()) >= 2
    shutil.copy(folder / "b.mp4", folder / "b copy.mp4")
    write(folder / "one frame.mp4", Recipe(frames=1, size=SIZE))
    twin = write(folder / "twin b.ts", Recipe(".ts", frames=300, rate=10, gop=10, codec_options={"qp": "0"})).path
    twins = bytearray(twin.read_bytes())
    (_, start), (stop, _) = block_spans(len(twins))[6:8]  # what the id does not depend on
    twins[start:stop] = np.random.default_rng(0).bytes(stop - start)
    (folder / "twin a.ts").write_bytes(twins)


def bad(folder: Path) -> None:
    whole = write(folder.parents[1] / "whole.mp4", WHOLE).path.read_bytes()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "empty too.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text(f"Patient: {PATIENT}\n" * 20)
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 3 // 5])
    tail = write(folder.parents[1] / "tail.mp4", Recipe(frames=100, rate=10, size=SIZE)).path.read_bytes()
    (folder / "no moov.mp4").write_bytes(tail[: tail.index(b"moov") - 4])
    (folder / "codec.mp4").write_bytes(whole.replace(b"avc1", b"zzzz"))
    still = bytearray(tail)
    for box, at in ((b"stts", 12), (b"mdhd", 20), (b"mvhd", 20), (b"tkhd", 24)):
        struct.pack_into(">I", still, still.index(box) + at, 0)
    (folder / "no time.mp4").write_bytes(still)
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(folder / "wide.mkv"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16000, 64, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(16000, 64, "yuvj420p")))
        container.mux(stream.encode())
    damaged = bytearray(
        write(folder.parents[1] / "whole.ts", Recipe(".ts", frames=300, rate=10, gop=10, size=SIZE)).path.read_bytes()
    )
    damaged[len(damaged) * 9 // 20 : len(damaged) * 11 // 20] = np.random.default_rng(0).bytes(
        len(damaged) * 11 // 20 - len(damaged) * 9 // 20
    )
    (folder / "damaged.ts").write_bytes(damaged)
    target = folder.parents[1] / "whole.mp4"
    (folder / "concat.mp4").write_text(f"ffconcat version 1.0\nfile '{target}'\n")
    (folder / "hls.mp4").write_text(f"#EXTM3U\n#EXTINF:20,\n{target}\n")
    (folder / "sdp.mp4").write_text("v=0\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n")
    (folder / "link.mp4").symlink_to(folder.parents[1] / f"{PATIENT}.mp4")
    (folder / "notes.txt").write_text(PATIENT)


EXPECTED = {
    f"{PATIENT} 'Zoë' \"2\".mp4": ("mapped", "", ""),
    "b copy.mp4": ("mapped", "", ""),
    "one frame.mp4": ("mapped", "", ""),
    "twin a.ts": ("mapped", "", ""),
    "cut.mp4": ("partial", "corrupt", "this span is a gap: copy the file again"),
    "damaged.ts": ("partial", "corrupt", "this span is a gap"),
    "empty.mp4": ("failed", "unreadable", "an empty file .0 bytes.; copy it again"),
    "empty too.mp4": ("failed", "unreadable", "an empty file .0 bytes.; copy it again"),
    "text.mp4": ("failed", "unreadable", "bytes of text; remove it"),
    "no moov.mp4": ("failed", "unreadable", "MP4 with its index .moov.*copy it again or repair it"),
    "codec.mp4": ("failed", "unreadable", "a codec .*transcode the file"),
    "no time.mp4": ("failed", "unreadable", "a video that lasts"),
    "sound.mp4": ("failed", "unreadable", "a video stream, got audio; .*sound and no picture"),
    "wide.mkv": ("failed", "unreadable", "got 16000x64; scale it down"),
    "concat.mp4": ("failed", "unreadable", "script or playlist of other files; it is not followed"),
    "hls.mp4": ("failed", "unreadable", "script or playlist of other files; it is not followed"),
    "sdp.mp4": ("failed", "unreadable", "script or playlist of other files; it is not followed"),
    "link.mp4": ("failed", "unreadable", "a link to a file that is not there"),
}


@pytest.fixture(scope="module")
def told(small_model, tmp_path_factory):
    """(OUT, Ray's folder, what was exported, [(exit code, stdout, stderr) of each command])"""
    root = tmp_path_factory.mktemp("bad")
    archive, out, shown = root / "archive", root / "out", root / "shown"
    folder = archive / f"{PATIENT}, Erika"
    folder.mkdir(parents=True)
    good(folder)
    bad(folder)
    ray_folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path: Ray's sockets lie in it
    mapping = ("map", archive, "--out", out, "--model", small_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(ray_folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("RAY_ADDRESS", raising=False)
        told = [halsted(*mapping), halsted(*mapping), halsted("status", out, "--json")]
        told += [halsted("report", out, "--to", shown / "page.html")]
        told += [
            halsted("export", out, "--format", kind, "--to", shown / kind) for kind in ("csv", "jsonl", "vtt", "srt")
        ]
    yield out, ray_folder, shown, told
    shutil.rmtree(ray_folder, ignore_errors=True)


def test_every_file_ends_with_what_it_came_to(told):
    out, _, _, ((code, shown, complaint), _, (_, as_json, _), *_rest) = told
    assert code == 3, complaint
    found = {Path(video["uri"]).name: video for video in json.loads(as_json)}
    assert set(found) == set(EXPECTED), "one row a recording: b.mp4 is a copy, and 'twin b.ts' stands in"
    for name, (status, error_code, reason) in EXPECTED.items():
        video = found[name]
        assert (video["status"], video["code"]) == (status, error_code), (name, video["reason"])
        assert re.search(reason, video["reason"]), (name, video["reason"])
        assert (video["video_id"] in shown) == (status != "mapped") and str(out.parent) not in video["reason"]
    assert {name for name, video in found.items() if video["copies"]} == {"b copy.mp4", "twin a.ts"}
    assert "18 videos" in shown and "12 failed, 4 mapped, 2 partial" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if "--files" not in line)
    assert "--files" in shown, "where to find which file a video_id is"
    assert "skipped 1 file of the archive: not a video (1)" in complaint


def test_every_second_is_mapped_or_a_gap_once(told):
    out, *_ = told
    rows = read_timeline(str(out)).to_pylist()
    keys = [(row["video_id"], row["start_s"], row["task"], row["tag"]) for row in rows]
    assert len(set(keys)) == len(keys)
    lanes: dict[str, list] = {}
    for row in rows:
        if row["task"] == "macro" and row["tag"] in ("step", "gap"):
            lanes.setdefault(row["uri"], []).append((row["start_s"], row["stop_s"], row["tag"]))
    assert {Path(uri).name for uri in lanes} == {n for n, (status, *_) in EXPECTED.items() if status != "failed"}
    for spans in lanes.values():
        spans.sort()
        assert spans[0][0] == 0
        assert all(left[1] == right[0] for left, right in zip(spans, spans[1:], strict=False))
    assert {tag for uri, spans in lanes.items() if "cut" in uri for *_, tag in spans} == {"step", "gap"}
    segments = read_segments(str(out)).to_pylist()
    assert len({row["segment_id"] for row in segments}) == len(segments) == len(lanes)


def test_the_same_command_again_does_nothing_and_says_the_same(told):
    _, _, _, (first, second, *_rest) = told
    assert second[0] == 3 and "0 of 6 segments to do" in second[2]
    table = first[1].split("\n\n")[0]
    assert second[1].split("\n\n")[0] == table


def test_no_name_leaves_the_archives_own_tables(told):
    out, ray_folder, shown, commands = told
    for code, printed, complaint in (*commands[:2], *commands[3:]):
        assert code in (0, 3), complaint
        assert PATIENT not in printed and PATIENT not in complaint
        assert "Erika" not in printed and "Erika" not in complaint
    searched = [path for path in ray_folder.rglob("*") if path.is_file()]
    assert any("worker" in path.name for path in searched), "Ray's logs lie elsewhere"
    searched += [path for path in shown.rglob("*") if path.is_file()]
    assert len({path.suffix for path in searched if shown in path.parents}) >= 5
    own = (out / "videos", out / "timeline")
    searched += [path for path in out.rglob("*") if path.is_file() and not any(o in path.parents for o in own)]
    for path in searched:
        assert PATIENT not in path.name and PATIENT.encode() not in path.read_bytes(), f"{path} holds a file's name"
    assert PATIENT not in json.dumps(read_segments(str(out)).to_pylist())
    assert any(PATIENT.encode() in path.read_bytes() for path in own[0].rglob("*") if path.is_file()), (
        "the search finds"
    )
