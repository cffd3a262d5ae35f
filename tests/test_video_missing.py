"""Times without picture: how a reader states them, how they travel, and what becomes of them in ``Frames``."""

import math
import os
import threading

import numpy as np
import pytest
from numbered_video import Recipe, numbers_of, trim_by_edit_list, write

from halsted_ray.atlas.verify import same_pictures
from halsted_ray.errors import CorruptSegment
from halsted_ray.records import Window
from halsted_ray.video import wire
from halsted_ray.video.decode_process import DecodeProcess, _frames_of
from halsted_ray.video.decode_worker import PART_BYTES, send_frames
from halsted_ray.video.frames import Missing, collect
from halsted_ray.video.presence import pictures_of
from halsted_ray.video.readers import read_frames

SIZE = (90, 160)


def damage(start_s, stop_s=math.inf, code="corrupt"):
    return Missing(start_s, stop_s, code, f"why {code}")


def frames_of(*rows):
    """The ``Frames`` of (time, what the reader gives for it: a pts or a Missing)."""
    picture = np.ones((2, 2, 3), np.uint8)
    given = [row if isinstance(row, Missing) else (picture, row) for _, row in rows]
    return collect(given, np.array([time_s for time_s, _ in rows], np.float64), None)


def spans_of(*rows):
    return [(span.start_s, span.stop_s) for span in frames_of(*rows).missing]


def test_missing_times_have_zeros_and_nan_and_their_span():
    frames = frames_of((0.0, 0.0), (1.0, damage(0.5, 2.5)), (2.0, damage(0.5, 2.5)), (3.0, 2.5))
    assert frames.present_N.tolist() == [True, False, False, True]
    assert frames.images_NHWC[[0, 3]].all() and not frames.images_NHWC[[1, 2]].any()
    assert frames.missing == (damage(0.5, 2.5),)
    assert frames_of((0.0, damage(0.0))).images_NHWC.shape == (1, 0, 0, 3), "no picture, no size"


def test_a_span_ends_where_the_next_picture_begins():
    assert spans_of((0.0, 0.0), (1.0, damage(0.5)), (2.0, 1.75), (3.0, 3.0)) == [(0.5, 1.75)]
    assert spans_of((1.0, damage(0.5)), (2.0, 2.0), (3.0, damage(2.5))) == [(0.5, 2.0), (2.5, math.inf)]
    assert spans_of((1.0, damage(0.5, 9.0)), (2.0, 2.0)) == [(0.5, 2.0)], "a picture has the last word"


def test_touching_spans_of_one_kind_are_one():
    assert spans_of((1.0, damage(0.5, 1.5)), (2.0, damage(1.5, 2.5)), (3.0, damage(2.5, 3.5))) == [(0.5, 3.5)]
    assert spans_of((1.0, damage(0.5)), (2.0, damage(0.5, 2.5)), (3.0, 3.0)) == [(0.5, 2.5)], "the last word counts"
    mixed = [(1.0, damage(0.5)), (2.0, damage(1.5, 2.5, "unrecorded")), (3.0, 2.5)]
    assert spans_of(*mixed) == [(0.5, 1.5), (1.5, 2.5)]
    assert spans_of((1.0, damage(0.5, 1.5)), (2.0, damage(1.75, 3.0))) == [(0.5, 1.5), (1.75, 3.0)], "a hole stays"


def test_a_picture_from_before_the_damage_does_not_stand_in_it():
    """A reader knows only after a while that the frame it repeats is followed by damage."""
    frames = frames_of((0.0, 0.0), (1.0, 0.4), (2.0, 0.4), (3.0, damage(0.5, 3.5)), (4.0, 3.5))
    assert frames.present_N.tolist() == [True, False, False, False, True]
    assert [(span.start_s, span.stop_s) for span in frames.missing] == [(0.5, 3.5)]
    after = frames_of((1.0, damage(0.5, 3.5)), (2.0, 0.4), (4.0, 3.5))
    assert after.present_N.tolist() == [False, False, True]


def test_a_statement_that_does_not_hold_its_time_is_put_right():
    assert spans_of((1.0, damage(2.0, 3.0)), (4.0, 4.0)) == [(1.0, 3.0)]
    assert spans_of((1.0, damage(0.0, 0.5)), (4.0, 4.0)) == [(0.0, 4.0)]
    assert spans_of((1.0, damage(math.nan, math.nan)), (4.0, 3.0)) == [(1.0, 3.0)]
    assert spans_of((1.0, 0.9), (2.0, damage(0.5, 3.0))) == [(2.0, 3.0)], "at 1 s there was a picture"


def test_any_order_of_statements_leaves_every_time_in_one_place():
    """Random statements: a time has a picture, or lies in exactly one span; spans are in order and don't overlap."""
    rng = np.random.default_rng(0)
    for _ in range(2000):
        times_s = np.cumsum(rng.uniform(0.05, 1.0, 12))
        rows = []
        for time_s in times_s:
            start_s, stop_s = time_s + rng.uniform(-3, 0.3), time_s + rng.uniform(-0.3, 3)
            said = Missing(start_s, rng.choice([stop_s, math.inf]), rng.choice(["corrupt", "unrecorded"]), "")
            rows.append((time_s, said if rng.random() < 0.5 else time_s - rng.uniform(0, 2)))
        frames = frames_of(*rows)
        edges = [edge for span in frames.missing for edge in (span.start_s, span.stop_s)]
        assert edges == sorted(edges)
        for n, time_s in enumerate(times_s):
            holding = [span for span in frames.missing if span.start_s <= time_s < span.stop_s]
            assert len(holding) == (0 if frames.present_N[n] else 1)
            assert not (isinstance(rows[n][1], Missing) and frames.present_N[n])


def test_who_needs_every_frame_gets_the_first_span_as_an_error():
    frames = frames_of((0.0, 0.0), (1.0, damage(0.5, 1.5, "unrecorded")), (2.0, 2.0), (3.0, damage(2.5)))
    with pytest.raises(CorruptSegment, match="why unrecorded") as caught:
        frames.require_whole()
    assert (caught.value.start_s, caught.value.stop_s, caught.value.code) == (0.5, 1.5, "unrecorded")
    with pytest.raises(CorruptSegment) as caught:
        frames_of((3.0, damage(2.5))).require_whole()
    assert caught.value.stop_s is None and caught.value.code == "corrupt"
    whole = frames_of((0.0, 0.0))
    assert whole.require_whole() is whole


@pytest.mark.parametrize("side", [4, 700])
def test_missing_times_travel_over_the_pipe(side):
    """What goes in comes out, in small parts as in many large ones, and a repeated statement is sent once."""
    rng, rows = np.random.default_rng(0), []
    for n in range(60):
        here = damage(n - 0.5, n + 0.5) if n % 20 < 3 else damage(20.0 * (n // 20))
        rows.append(here if n % 3 or n < 20 else (rng.integers(0, 256, (side, side, 3), np.uint8), float(n)))
    receiving, sending = os.pipe()
    heads = []

    def answers():
        while True:
            head, body = wire.receive(receiving)
            heads.append(head)
            yield head, body
            if "done" in head:
                return

    def send():
        send_frames(iter(rows), sending)
        wire.send(sending, {"done": {"wall_s": {}, "cpu_s": {}}})

    thread = threading.Thread(target=send)
    thread.start()
    found = list(_frames_of(answers()))
    thread.join()
    assert len(found) == len(rows)
    for got, sent in zip(found, rows, strict=True):
        if isinstance(sent, Missing):
            assert got == sent
        else:
            assert np.array_equal(got[0], sent[0]) and got[1] == sent[1]
    shown = [item for head in heads if "part" in head for item in head["shown"]]
    assert shown.count(None) > 10
    assert all(head["part"][0] * side**2 * 3 < PART_BYTES + side**2 * 3 for head in heads[:-1])
    os.close(receiving)
    os.close(sending)


def damaged(path, video, start_s, stop_s, ticks_a_second=15360):
    """A copy of an MP4 whose packets of [start_s, stop_s) are noise."""
    import av

    data = bytearray(video.path.read_bytes())
    with av.open(str(video.path)) as container:
        packets = [(p.pts, p.pos, p.size) for p in container.demux(video=0) if p.size]
    for pts, position, size in packets:
        if start_s * ticks_a_second <= pts < stop_s * ticks_a_second:
            data[position + 4 : position + size] = np.random.default_rng(pts).bytes(size - 4)
    path.write_bytes(data)
    return path


def test_the_process_gives_missing_times_as_the_reader_does(tmp_path):
    video = write(
        tmp_path / "long.mp4", Recipe(frames=240, mux_options={"movflags": "faststart"}, codec_options={"bf": "2"})
    )
    path = damaged(tmp_path / "bad.mp4", video, 3.0, 4.5)
    times_s = np.arange(0, 8, 0.15625)
    with DecodeProcess() as process:
        for fidelity in ("exact", "reference", "keyframes"):
            here = read_frames(path, times_s, SIZE, fidelity)
            there = process.read_frames(path, times_s, SIZE, fidelity, deadline_s=30)
            assert here.missing == there.missing and len(here.missing) == 1
            assert np.array_equal(here.pts_s, there.pts_s, equal_nan=True)
            assert np.array_equal(here.images_NHWC, there.images_NHWC)


@pytest.mark.parametrize("fidelity", ["exact", "reference", "keyframes"])
def test_a_cut_that_begins_with_an_unreferenced_frame_misses_nothing(tmp_path, fidelity):
    """As ``ffmpeg -ss 3.3 -c copy`` leaves it: the first shown frame lies between keyframes, and none refers to it."""
    video = write(
        tmp_path / "long.mp4",
        Recipe(frames=240, mux_options={"movflags": "faststart"}, codec_options={"bf": "2", "b_strategy": "0"}),
    )
    for frames in range(98, 104):
        cut = trim_by_edit_list(video, frames)
        shown = read_frames(cut.path, np.arange(0, 4, 0.15625), SIZE, fidelity).require_whole()
        if fidelity == "exact":
            assert numbers_of(shown.images_NHWC[:1]) == [frames]


def test_one_clip_is_tagged_from_its_remaining_pictures_where_there_are_enough():
    """As a window of a map: the service and a loaded model go by the same rule."""
    times_s = np.arange(16) * 0.5
    for stop_s, asked in ((3.0, True), (3.5, False)):
        lost = damage(1.0, stop_s)
        rows = [lost if 1.0 <= t < stop_s else (np.full((2, 2, 3), int(2 * t), np.uint8), float(t)) for t in times_s]
        frames, window = collect(rows, times_s, (2, 2)), Window("clip", 0.0, 8.0)
        if asked:
            assert pictures_of(frames, window)[:, 0, 0, 0].tolist() == [0, 1, 1, 1, 6, 6, *range(6, 16)]
        else:
            with pytest.raises(CorruptSegment, match="why corrupt"):
                pictures_of(frames, window)
            assert len(pictures_of(frames, window, least_present=0.0)) == 16
    nothing = frames_of((0.0, damage(0.0)))
    with pytest.raises(CorruptSegment):
        pictures_of(nothing, Window("clip", 0.0, 8.0), least_present=0.0)


def test_a_copy_is_recognised_by_the_pictures_that_both_videos_have():
    pictures = np.random.default_rng(0).uniform(0, 255, (8, 32, 32))
    damaged_copy = pictures.copy()
    damaged_copy[:4] = np.nan
    assert same_pictures(pictures, damaged_copy) and not same_pictures(pictures, damaged_copy[::-1])
    damaged_copy[4] = np.nan
    assert not same_pictures(pictures, damaged_copy), "too few to tell"
