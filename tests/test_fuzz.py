"""Mangled files of every container: each is mapped, partial or failed with a reason, and no row claims time that has no
picture. ``make fuzz`` tries 10,000 of them; here it is a minute of it, and what the run itself must see."""

from __future__ import annotations

from contextlib import contextmanager
from fractions import Fraction

import av
import fuzz.__main__ as run_of_fuzz
import numpy as np
import pytest
from fuzz.judging import NOTED, SPEC, Call, Judge, Overheard, check_pictures, reports_in
from fuzz.mangling import CHANGES, TIMED, Case, Change, case
from fuzz.pieces import PARSERS, TICKS_A_SECOND, stamps
from fuzz.whole_files import whole_files

from halsted_ray.embedding.decode_stage import DecodeStage
from halsted_ray.errors import DecoderKilled, StorageUnavailable, UnreadableVideo
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.records import Video
from halsted_ray.video.container import DEMUXERS
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.frames import Frames
from halsted_ray.video.probe import probe


@pytest.mark.slow
def test_a_minute_of_mangled_files(tmp_path, capsys):
    code = run_of_fuzz.main(["--seconds", "50", "--jobs", "2", "--count", "3000", "--keep", str(tmp_path)])
    told = capsys.readouterr().out
    assert code == 0, told
    assert int(told.split()[0].replace(",", "")) >= 200, "else a minute of it is too little"


def test_there_is_a_whole_file_of_every_container_that_is_opened(tmp_path):
    opened = set()
    for whole in whole_files():
        path = tmp_path / f"whole{whole.suffix}"
        path.write_bytes(whole.data)
        opened.add(probe(path).container)
        assert len(list(PARSERS[whole.container](whole.data))) > 10, f"{whole.name}: its pieces are found"
        assert bool(stamps(whole.data, whole.container)) == (whole.container in TICKS_A_SECOND), whole.name
    assert opened == set(DEMUXERS.values())


def test_a_case_is_the_same_file_whenever_it_is_asked_for():
    for number in range(20):
        assert case(5, number).data() == case(5, number).data()
        assert case(5, number, ("mkv",)).whole.container == "mkv"
    assert len({case(5, number).data() for number in range(40)}) == 40


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_changes_files_of_every_container(name):
    for whole in whole_files():
        if name not in TIMED or whole.container in TICKS_A_SECOND:
            changed = 0
            for seed in range(5):
                data = bytearray(whole.data)
                CHANGES[name](data, whole.container, np.random.default_rng(seed))
                changed += data != whole.data
            assert changed >= 2, f"{name} leaves {whole.name} as it is"


def test_a_stamp_is_written_as_it_is_read():
    for whole in whole_files():
        for stamp in stamps(whole.data, whole.container):
            data = bytearray(whole.data)
            stamp.write(data, stamp.read(whole.data))
            assert data == whole.data
            if stamp.form == "pes":
                stamp.write(data, (1 << 33) + 12_345_678)
                assert stamp.read(data) == 12_345_678


STEP_S = SPEC.fine_s / SPEC.frames
TIMES_S = np.arange(64) * STEP_S


def claims(pts_s, same=(), gaps=(), frames=b"", uri="uri"):
    """What is said about ten seconds whose pictures have these times."""
    images = np.arange(64, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    images[list(same)] = 200
    entry = ArchiveFile(Video("id", uri, 1, 10.0, 2, 2, 25.0, "h264"), "")
    row = {"start_s": 0.0, "stop_s": 10.0, "duration_s": 10.0, "frames": frames, "gaps": gaps}
    call = Call(TIMES_S[: len(pts_s)], 0.0, Frames(images[: len(pts_s)], np.asarray(pts_s, np.float64)))
    return [kind for kind, _ in check_pictures(entry, [row], [call])]


@pytest.mark.parametrize(("apart_s", "told"), [(800, []), (0.04, ["an old picture"])])
def test_the_judge_takes_the_step_of_one_shown_picture_from_the_packets(tmp_path, apart_s, told):
    """One picture is shown for ten seconds: right where frames are far apart, wrong where the next ones were there."""
    path = tmp_path / "slow.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = [packet for _ in range(6) for packet in stream.encode(av.VideoFrame(64, 48, "yuv420p"))]
        for number, packet in enumerate([*packets, *stream.encode()]):
            packet.pts = packet.dts = round(number * apart_s * 90_000)
            packet.time_base = Fraction(1, 90_000)
            container.mux(packet)
    assert claims(np.zeros(64), uri=f"file://{path}") == told


def test_the_judge_sees_time_that_has_no_picture():
    assert claims(TIMES_S) == []
    assert claims(np.minimum(TIMES_S, 3.0)) == ["an old picture"]
    assert claims(np.minimum(TIMES_S, 3.0), gaps=[{"start_s": 3.0, "stop_s": 10.0}]) == []
    assert claims(TIMES_S + 0.1) == ["a picture from later"]
    assert claims(TIMES_S[:20]) == ["time without a picture and without a gap"]
    assert claims(TIMES_S[:20], frames=None) == [], "a segment without frames is a gap by itself"
    assert claims(TIMES_S, same=range(5, 60)) == ["a frozen picture"]
    assert claims(TIMES_S, same=range(5, 16)) == [], "a picture may stand for two seconds"


@contextmanager
def judging(folder):
    """No fixture: between a fixture and its test pytest changes stderr."""
    with Overheard() as overheard:
        judge = Judge(folder, overheard)
        try:
            yield judge
        finally:
            judge.close()


WHOLE = next(whole for whole in whole_files() if whole.name == "ts")


def test_the_judge_sees_errors_of_any_kind(monkeypatch, tmp_path):
    with judging(tmp_path) as judge:
        assert judge.judge([Case(1, WHOLE, ())]) == [] and judge.states == {"mapped": [1]}
        monkeypatch.setattr(DecodeStage, "decode", lambda self, segment: 1 / 0)
        (finding,) = judge.judge([Case(2, WHOLE, ())])
        assert finding.kind.startswith("decoding raises ZeroDivisionError")
        monkeypatch.undo()
        monkeypatch.setattr("halsted_ray.mapping.inventory._probe_file", lambda *asked: 1 / 0)
        findings = judge.judge([Case(3, WHOLE, ()), Case(4, WHOLE, ())])
        assert [finding.number for finding in findings] == [3, 4]
        assert all(finding.kind.startswith("inventory raises ZeroDivisionError") for finding in findings)


@pytest.mark.parametrize(
    "error, kind",
    [
        (UnreadableVideo("Mustermann's video is damaged"), "a message holds the file's name"),
        (StorageUnavailable("away"), "the store is blamed for a file's damage"),
        (UnreadableVideo(""), "a gap without a reason"),
        (DecoderKilled("killed by SIGSEGV"), f"{NOTED}: libav itself ends by a signal"),
        (DecoderKilled("late", hung=True), "hung"),
    ],
)
def test_the_judge_sees_what_messages_say(monkeypatch, tmp_path, error, kind):
    def raises(self, location, **named):
        raise error

    monkeypatch.setattr(DecodeProcess, "probe_and_index", raises)
    with judging(tmp_path) as judge:
        assert [finding.kind for finding in judge.judge([Case(1, WHOLE, ())])] == [kind]


def test_the_judge_hears_how_a_decoding_process_ended(monkeypatch, tmp_path):
    trace = 'halsted decoding process:   File "/x/halsted_ray/video/walk.py", line 7, in to\n    return 1\n{}\n'
    assert reports_in(trace.format("KeyError") + trace.format("MemoryError")) == {"KeyError in walk.py:7"}
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "sitecustomize.py").write_text(
        "import halsted_ray.video.probe as module\nmodule.probe_and_index = lambda source: {}[0]\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "modules")
    with judging(tmp_path) as judge:
        findings = judge.judge([Case(1, WHOLE, ()), Case(2, WHOLE, (Change("pad_end", (1,)),))])
    assert [finding.number for finding in findings] == [1, 2]
    assert all(finding.kind.startswith("decoding process fails: KeyError in decode_worker") for finding in findings)
