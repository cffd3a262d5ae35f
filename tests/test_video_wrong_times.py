"""One frame's time stamps are damaged in a transport stream: the rest of the recording stays at its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numbered_video import Recipe, write

from halsted_ray.phantom.frame_number import read_frame_number
from halsted_ray.video.probe import probe
from halsted_ray.video.readers import read_frames

PACKET_BYTES = 188
CLOCK_HZ = 90_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("whole") / "whole.ts", Recipe(".ts", frames=900, codec_options={"bf": "2"}))


def picture_headers(data: bytes) -> list[int]:
    """Where the header of each frame (PES) begins."""
    found = []
    for at in range(0, len(data), PACKET_BYTES):
        body = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
        if data[at + 1] & 0x40 and data[body : body + 3] == b"\0\0\1" and 0xE0 <= data[body + 3] <= 0xEF:
            found.append(body)
    return found


def move(data: bytearray, at: int, by_s: float) -> None:
    """Adds to the time stamp of 33 bits at ``at`` (ISO/IEC 13818-1, 2.4.3.6)."""
    ticks = (data[at] >> 1 & 7) << 30 | data[at + 1] << 22 | data[at + 2] >> 1 << 15 | data[at + 3] << 7
    ticks = ((ticks | data[at + 4] >> 1) + round(by_s * CLOCK_HZ)) % (1 << 33)
    data[at] = data[at] & 0xF0 | ticks >> 29 & 0x0E | 1
    data[at + 1] = ticks >> 22 & 0xFF
    data[at + 2] = ticks >> 14 & 0xFE | 1
    data[at + 3] = ticks >> 7 & 0xFF
    data[at + 4] = ticks << 1 & 0xFE | 1


def damaged(whole, path: Path, frames: range, by_s: float, with_dts: bool) -> Path:
    """A copy in which the packets ``frames`` (in the order of decoding) have other times."""
    data = bytearray(whole.path.read_bytes())
    headers = picture_headers(data)
    assert len(headers) == 900
    for number in frames:
        move(data, headers[number] + 9, by_s)
        if with_dts and data[headers[number] + 7] >> 6 == 3:
            move(data, headers[number] + 14, by_s)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("by_s", [5.0, -5.0, 60.0, -60.0])
@pytest.mark.parametrize("frames", [range(300, 301), range(301, 302), range(302, 303), range(303, 309)], ids=str)
def test_wrong_times_of_a_frame_move_no_other_frame(tmp_path, whole, frames, by_s):
    path = damaged(whole, tmp_path / "a.ts", frames, by_s, with_dts=True)
    assert probe(path).duration_s == pytest.approx(30.0, abs=0.05)
    times_s = np.array([1.0, 9.5, 10.7, 12.0, 15.5, 21.0, 29.5])
    for fidelity in ("exact", "keyframes"):
        found = read_frames(path, times_s, None, fidelity)
        assert not found.missing, fidelity
        right_s = times_s if fidelity == "exact" else np.floor(times_s)
        for time_s, image_HWC in zip(right_s, found.images_NHWC, strict=True):
            assert abs(read_frame_number(image_HWC) - whole.number_at(time_s)) <= 1, (fidelity, time_s)


@pytest.mark.parametrize("by_s", [60.0, 500.0, -60.0])
@pytest.mark.parametrize("frame", [300, 301, 302])
def test_a_frame_that_would_be_shown_long_after_it_is_decoded_costs_itself_alone(tmp_path, whole, frame, by_s):
    path = damaged(whole, tmp_path / "a.ts", range(frame, frame + 1), by_s, with_dts=False)
    assert probe(path).duration_s == pytest.approx(30.0, abs=0.05)
    times_s = np.arange(0.5, 30, 0.5)
    found = read_frames(path, times_s, None, "exact")
    assert not found.missing
    numbers = [read_frame_number(image_HWC) for image_HWC in found.images_NHWC]
    assert all(abs(got - whole.number_at(at_s)) <= 4 for got, at_s in zip(numbers, times_s, strict=True)), numbers
