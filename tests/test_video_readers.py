"""What readers promise beyond the time of one frame: they agree, they seek well, they keep up with long files."""

from fractions import Fraction

import numpy as np
import pytest
from numbered_video import Recipe, numbers_of, trim_by_edit_list, write

from halsted_ray.errors import UnreadableVideo
from halsted_ray.video.container import VideoFile
from halsted_ray.video.probe import probe
from halsted_ray.video.readers import read_frames

SIZE = (90, 160)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readers")


@pytest.mark.parametrize(
    "name, recipe",
    [
        ("plain", Recipe(codec_options={"bf": "3"})),
        ("varying", Recipe(steps=(1000, 333, 200, 4000) * 45, time_base=Fraction(1, 10000))),
        ("matroska", Recipe(".mkv")),
        ("transport", Recipe(".ts")),
        ("late", Recipe(start_tick=300)),
        ("turned", Recipe(rotation_deg=90)),
        ("ntsc", Recipe(rate=Fraction(30000, 1001))),
    ],
)
@pytest.mark.parametrize("fidelity", ["exact", "keyframes"])
def test_decord_and_pyav_agree(folder, name, recipe, fidelity):
    video = write(folder / f"{name}{recipe.suffix}", recipe)
    times_s = np.arange(0, video.times_s[-1], 0.15625) + 0.004  # between two frames: decord's times are float32
    ours = read_frames(video.path, times_s, SIZE, fidelity)
    theirs = read_frames(video.path, times_s, SIZE, fidelity, "decord")
    assert numbers_of(ours.images_NHWC) == numbers_of(theirs.images_NHWC)
    assert np.allclose(ours.pts_s, theirs.pts_s, atol=2e-3)
    assert np.abs(ours.images_NHWC.astype(int) - theirs.images_NHWC).mean() < 3.0


def test_decord_refuses_what_it_would_show_at_the_wrong_time(folder):
    video = trim_by_edit_list(write(folder / "whole.mp4", Recipe(codec_options={"bf": "3"})), 40)
    with pytest.raises(UnreadableVideo, match="edit list or hidden first frames; use the reader 'pyav'"):
        read_frames(video.path, np.array([0.0, 1.0]), SIZE, "exact", "decord")


def test_a_segment_is_decoded_from_the_keyframe_before_it(folder, monkeypatch):
    """The seek takes presentation times: by the index's decoding times it would land one GOP early, every time."""
    video = write(
        folder / "gops.mp4",
        Recipe(frames=600, gop=60, codec_options={"bf": "3", "x264-params": "scenecut=0:b-adapt=0"}),
    )
    decoded = []
    decode = VideoFile.decode
    monkeypatch.setattr(VideoFile, "decode", lambda self, packet: decoded.append(packet) or decode(self, packet))
    for key in range(60, 600, 60):
        decoded.clear()
        start_s = key / 30
        numbers = numbers_of(read_frames(video.path, np.array([start_s, start_s + 0.2]), SIZE, "exact").images_NHWC)
        assert numbers == [key, key + 6]
        assert len(decoded) < 6 + 10 + 10, f"{len(decoded)} packets for 6 frames after the keyframe"


def test_far_times_are_sought_and_near_ones_are_not(folder, monkeypatch):
    video = write(folder / "far.mp4", Recipe(frames=1200, gop=30, codec_options={"x264-params": "scenecut=0"}))
    decoded = []
    decode = VideoFile.decode
    monkeypatch.setattr(VideoFile, "decode", lambda self, packet: decoded.append(packet) or decode(self, packet))
    times_s = np.array([0.5, 20.2, 20.4, 39.1])
    assert numbers_of(read_frames(video.path, times_s, SIZE, "exact").images_NHWC) == [15, 606, 612, 1173]
    assert len(decoded) < 100
    decoded.clear()
    times_s = np.arange(0.1, 39.0, 2.0)  # every second keyframe's GOP holds none of them
    assert numbers_of(read_frames(video.path, times_s, SIZE, "exact").images_NHWC) == [round(t * 30) for t in times_s]
    assert len(decoded) < 20 * 16


@pytest.mark.parametrize(
    "name, recipe, share",
    [
        ("pyramid", Recipe(frames=300, codec_options={"bf": "3"}), 0.75),
        ("two b frames", Recipe(".ts", frames=300, codec_options={"bf": "2", "x264-params": "b-pyramid=none"}), 0.6),
        ("every frame a keyframe", Recipe(".mov", "mjpeg", pix_fmt="yuvj420p", frames=300), 0.25),
    ],
)
def test_exact_decodes_no_frame_that_nothing_needs(folder, monkeypatch, name, recipe, share):
    video = write(folder / f"{name}{recipe.suffix}", recipe)
    decoded, times_s = [], np.arange(0, 9.9, 0.15625)
    decode = VideoFile.decode

    def count(self, packet):
        frames = decode(self, packet)
        decoded.extend(frames or ())
        return frames

    monkeypatch.setattr(VideoFile, "decode", count)
    numbers = numbers_of(read_frames(video.path, times_s, SIZE, "exact").images_NHWC)
    assert numbers == [video.number_at(time_s) for time_s in times_s]
    assert len(decoded) < share * 300


def test_segment_length_invariance(folder):
    """The frames at a time do not depend on where reading began."""
    video = write(
        folder / "cut.mp4", Recipe(frames=600, gop=47, codec_options={"bf": "3", "x264-params": "open-gop=1:b-adapt=0"})
    )
    times_s = np.arange(0, 20, 0.15625)
    for fidelity in ("exact", "reference", "keyframes"):
        whole = read_frames(video.path, times_s, SIZE, fidelity)
        for length in (1, 7, 50):
            parts = [
                read_frames(video.path, times_s[n : n + length], SIZE, fidelity) for n in range(0, len(times_s), length)
            ]
            assert np.array_equal(whole.pts_s, np.concatenate([part.pts_s for part in parts]))
            assert np.array_equal(whole.images_NHWC, np.concatenate([part.images_NHWC for part in parts]))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_ten_hours(folder, suffix):
    """A frame every 12 s for 10 hours with 30 a second around three instants; ticks pass 32 bits in a TS."""
    steps = []
    for _ in range(3):
        steps += [12 * 90_000] * 997 + [3000] * 200
    video = write(
        folder / f"hours{suffix}",
        Recipe(suffix, frames=len(steps) + 1, steps=tuple(steps), gop=25, time_base=Fraction(1, 90_000), size=(48, 64)),
    )
    assert video.times_s[-1] > 9.9 * 3600
    assert probe(video.path).duration_s == pytest.approx(video.times_s[-1], abs=12.1)
    slack_s = 1e-3 if suffix == ".mkv" else 0.0
    for start_s in (0.0, video.times_s[1000], 5 * 3600.0, video.times_s[-200], video.times_s[-1] - 60):
        times_s = start_s + np.arange(0, 5, 0.15625)
        frames = read_frames(video.path, times_s, (48, 64), "exact")
        for time_s, number in zip(times_s, numbers_of(frames.images_NHWC), strict=True):
            assert video.number_at(time_s - slack_s) <= number <= video.number_at(time_s + slack_s)


def test_a_small_picture_is_the_average_of_the_large_one(folder):
    """Scaling must not alias: fine stripes become grey, not a pattern of their own."""
    import av

    stripes_HWC = np.zeros((1080, 1920, 3), np.uint8)
    stripes_HWC[:, ::2] = 255
    with av.open(str(folder / "stripes.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stripes_HWC, format="rgb24")))
        container.mux(stream.encode())
    (small_HWC,) = read_frames(folder / "stripes.mp4", np.array([0.0]), (112, 112)).images_NHWC
    assert np.abs(small_HWC[:, 2:-2].astype(int) - 127).max() < 4
