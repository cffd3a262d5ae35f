"""Small files that claim much: how long a picture stands, and how long a video may be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from halsted_ray.embedding.decode_stage import DecodeOptions, DecodeStage
from halsted_ray.errors import UsageError
from halsted_ray.mapping.inventory import take_inventory
from halsted_ray.records import WindowSpec
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.limits import VideoLimits
from halsted_ray.video.packet_index import LONGEST_STILL_S
from halsted_ray.video.probe import probe
from halsted_ray.video.windows import segments as segments_of

HOUR_S = 3600.0
APART_S = 0.99 * HOUR_S
"""A step that no clock that was set explains."""


def sparse(path: Path, frames: int, apart_s: float = APART_S) -> Path:
    """A file of some kB whose few pictures lie ``apart_s`` seconds apart."""
    time_base = Fraction(1, 90_000 if path.suffix == ".ts" else 1000)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = 1
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 + number % 200, np.uint8), "rgb24")
            frame.pts, frame.time_base = round(number * apart_s / time_base), time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".flv"])
def test_a_picture_stands_for_five_minutes_at_most_and_the_rest_is_a_gap(tmp_path, suffix):
    path = sparse(tmp_path / f"sparse{suffix}", 6)
    found = probe(path)
    assert path.stat().st_size < 10_000 and found.frames == 6
    pictures_s = found.duration_s - sum(stop_s - start_s for start_s, stop_s in found.holes)
    assert pictures_s <= 6 * LONGEST_STILL_S + 1
    with DecodeProcess() as process:
        frames = process.read_frames(path, np.arange(1200.0, 1260.0, 2.5), (32, 32), deadline_s=60)
        shown = process.read_frames(path, np.arange(0.0, 60.0, 2.5), (32, 32), deadline_s=60)
    assert not frames.present_N.any() and shown.present_N.all()
    (span,) = frames.missing
    assert (span.code, span.start_s, span.stop_s) == (
        "unrecorded",
        pytest.approx(LONGEST_STILL_S, abs=0.1),
        pytest.approx(APART_S, abs=0.1),
    )


def test_a_frame_in_half_a_minute_is_still_a_video_without_gaps(tmp_path):
    found = probe(sparse(tmp_path / "slow.mkv", 10, 30.0))
    assert found.duration_s == pytest.approx(300.0) and found.holes == []


def test_a_video_that_is_too_long_is_a_row_with_the_reason_until_more_is_allowed(tmp_path):
    uri = str(sparse(tmp_path / "long.mkv", 6))
    (entry,) = take_inventory([uri], limits=VideoLimits(hours=2))
    assert (entry.code, entry.video.duration_s) == ("too-long", 0.0)
    assert "at most 2 hours, got 5.0 hours" in entry.reason and "long.mkv" not in entry.reason
    (again,) = take_inventory([uri], {uri: entry}, limits=VideoLimits(hours=6))
    assert again.code == "" and again.video.duration_s > 4 * HOUR_S, "without asking for failed files"
    (many,) = take_inventory([uri], limits=VideoLimits(frames=5))
    assert many.code == "too-long" and "at most 5 frames, got 6" in many.reason


@pytest.mark.parametrize("wrong", [{"hours": 0}, {"hours": float("nan")}, {"frames": -1}])
def test_a_limit_that_no_video_meets_is_named(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        VideoLimits(**wrong)


class CountingProcess(DecodeProcess):
    """A decoding process that counts how often a file is read."""

    reads = 0

    def read_frames(self, *asked, **options):
        type(self).reads += 1
        return super().read_frames(*asked, **options)


def test_segments_inside_a_hole_of_hours_are_gaps_and_open_nothing(tmp_path, monkeypatch):
    path = sparse(tmp_path / "sparse.mkv", 2)
    (entry,) = take_inventory([str(path)])
    spec, video = WindowSpec(coarse_s=10, fine_s=2.5), entry.video
    segments = segments_of(video, spec, 120.0, "")
    stage = DecodeStage(DecodeOptions(None, "", spec, (32, 32)), CountingProcess)
    monkeypatch.setattr(CountingProcess, "reads", 0)
    try:
        found = [stage.decode(segment) for segment in segments]
        reads = CountingProcess.reads
        stage._hole = None
        again = []
        for segment in segments:  # each by a look of its own
            again.append(stage.decode(segment))
            stage._hole = None
    finally:
        stage.close()
    assert [gaps for _, gaps in found] == [gaps for _, gaps in again]
    assert [frames is None for frames, _ in found] == [frames is None for frames, _ in again]
    inside = [gaps for frames, gaps in found if frames is None]
    assert len(inside) > 20 and all(gap.code == "unrecorded" for gaps in inside for gap in gaps)
    assert reads <= len(segments) - len(inside) + 2, "one look finds the hole"
    assert sum(gap.stop_s - gap.start_s for _, gaps in found for gap in gaps) == pytest.approx(
        sum(stop_s - start_s for start_s, stop_s in probe(path).holes), abs=0.2
    )
