"""Which frame is shown at which time: for every peculiarity of containers and codecs that recorders produce."""

from fractions import Fraction

import numpy as np
import pytest
from numbered_video import Recipe, numbers_of, trim_by_edit_list, write

from halsted_ray.video.probe import probe
from halsted_ray.video.readers import read_frames

SIZE = (90, 160)
OPEN_GOP = {"bf": "3", "x264-params": "open-gop=1:scenecut=0:keyint=30:b-adapt=0"}
VARYING = tuple(np.random.default_rng(0).choice([200, 333, 500, 1000, 4000], 180).tolist())

RECIPES = {
    "plain": Recipe(),
    "b frames, open gop": Recipe(codec_options=OPEN_GOP),
    "variable frame rate": Recipe(steps=VARYING, time_base=Fraction(1, 10000), codec_options={"bf": "3"}),
    "variable frame rate, mkv": Recipe(".mkv", steps=VARYING, time_base=Fraction(1, 10000), codec_options={"bf": "3"}),
    "60 fps": Recipe(rate=60, frames=240, gop=60, codec_options={"bf": "2"}),
    "ntsc rate": Recipe(rate=Fraction(30000, 1001), codec_options={"bf": "2"}),
    "rotated by 90": Recipe(rotation_deg=90),
    "rotated by 180": Recipe(rotation_deg=180),
    "rotated by 270": Recipe(rotation_deg=270),
    "anamorphic": Recipe(aspect=Fraction(4, 3)),
    "10-bit hevc": Recipe(codec="libx265", pix_fmt="yuv420p10le", frames=90, codec_options={"bf": "3"}),
    "hevc, open gop": Recipe(codec="libx265", frames=120, codec_options={"x265-params": "open-gop=1:keyint=30"}),
    "mpeg-ts": Recipe(".ts", codec_options={"bf": "3"}),
    "mpeg-ts, open gop": Recipe(".ts", codec_options=OPEN_GOP),
    "mpeg-ts over the 33-bit wrap": Recipe(".ts", start_tick=int((2**33 / 90000 - 4) * 30)),
    "mpeg-2 in mpeg-ts": Recipe(".ts", codec="mpeg2video", codec_options={"bf": "2"}),
    "mpeg-ps": Recipe(".mpg", codec="mpeg2video", codec_options={"bf": "2"}),
    "mkv with cues": Recipe(".mkv", codec_options={"bf": "3"}),
    "mkv without cues": Recipe(".mkv", codec_options={"bf": "3"}, mux_options={"live": "1"}),
    "webm": Recipe(".webm", codec="libvpx", frames=90),
    "avi": Recipe(".avi", codec="mpeg4"),
    "avi with b frames": Recipe(".avi", codec="mpeg4", codec_options={"bf": "2"}),
    "wmv": Recipe(".wmv", codec="wmv2"),
    "h264 in avi": Recipe(".avi", codec_options={"bf": "3"}),
    "motion jpeg": Recipe(".mov", codec="mjpeg", pix_fmt="yuvj420p", gop=1),
    "moov at the front": Recipe(mux_options={"movflags": "faststart"}),
    "fragmented": Recipe(mux_options={"movflags": "frag_keyframe+empty_moov"}),
    "av1": Recipe(codec="libsvtav1", frames=90, codec_options={"preset": "12"}),
    "av1, mkv without cues": Recipe(".mkv", codec="libsvtav1", frames=90, codec_options={"preset": "12"}),
    "one keyframe": Recipe(gop=600, codec_options={"x264-params": "scenecut=0"}),
    "starts late": Recipe(start_tick=300),
    "starts before zero": Recipe(
        ".ts", start_tick=-60, mux_options={"avoid_negative_ts": "disabled", "mpegts_copyts": "1"}
    ),
    "with sound": Recipe(audio=True, codec_options={"bf": "3"}),
}


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("times"), {}

    def get(name: str):
        if name not in made:
            if name == "edit list":
                made[name] = trim_by_edit_list(get("b frames, open gop"), 40)
            else:
                made[name] = write(folder / f"{len(made)}{RECIPES[name].suffix}", RECIPES[name])
        return made[name]

    return get


def wanted_times(video, seed: int, count: int = 40) -> np.ndarray:
    """Frame edges to the tick, and times between, over all of the video."""
    rng = np.random.default_rng(seed)
    end_s = video.times_s[-1]
    return np.sort(np.concatenate([[0.0, end_s], rng.choice(video.times_s, count // 4), rng.uniform(0, end_s, count)]))


def rounding_s(video) -> float:
    """Matroska, WMV and FLV keep whole milliseconds: a frame's edge lies up to half of one off."""
    return 1.1e-3 if video.path.suffix in (".mkv", ".webm", ".wmv") else 0.0


def keyframe_slack_s(video) -> float:
    """MPEG-PS has no pts for most frames of this size; libavformat's guess for a keyframe is two frames early."""
    return 0.07 if video.path.suffix == ".mpg" else max(rounding_s(video), 2e-5)


def assert_exact(video, times_s, frames):
    slack_s = rounding_s(video)
    for time_s, number, pts_s in zip(times_s, numbers_of(frames.images_NHWC), frames.pts_s, strict=True):
        assert video.number_at(time_s - slack_s) <= number <= video.number_at(time_s + slack_s), time_s
        assert pts_s == pytest.approx(video.times_s[number - video.first], abs=max(slack_s, 2e-5)), time_s


@pytest.mark.parametrize("name", [*RECIPES, "edit list"])
def test_exact_shows_the_displayed_frame(numbered, name):
    video = numbered(name)
    grid_s = np.arange(0, video.times_s[-1], 0.15625)
    assert_exact(video, grid_s, read_frames(video.path, grid_s, SIZE, "exact"))
    for seed in range(3):
        times_s = wanted_times(video, seed)
        assert_exact(video, times_s, read_frames(video.path, times_s, SIZE, "exact"))
    for time_s in wanted_times(video, 9, 6):
        alone_s = np.array([time_s])
        assert_exact(video, alone_s, read_frames(video.path, alone_s, SIZE, "exact"))


@pytest.mark.parametrize("name", [*RECIPES, "edit list"])
def test_reference_stays_within_the_run_of_skipped_frames(numbered, name):
    video = numbered(name)
    times_s = wanted_times(video, 4)
    frames = read_frames(video.path, times_s, SIZE, "reference")
    exact = read_frames(video.path, times_s, SIZE, "exact")
    slack_s = rounding_s(video)
    for row, number in enumerate(numbers_of(frames.images_NHWC)):
        displayed = video.number_at(times_s[row] + slack_s)
        assert displayed - video.longest_run - 1 <= number <= displayed
        assert frames.pts_s[row] == pytest.approx(video.times_s[number - video.first], abs=max(slack_s, 2e-5))
        if frames.pts_s[row] == exact.pts_s[row]:
            assert np.array_equal(frames.images_NHWC[row], exact.images_NHWC[row])


@pytest.mark.parametrize("name", [*RECIPES, "edit list"])
def test_keyframes_show_the_last_keyframe(numbered, name):
    video = numbered(name)
    times_s = wanted_times(video, 5)
    frames = read_frames(video.path, times_s, SIZE, "keyframes")
    assert np.all(frames.pts_s <= times_s + 1e-6)
    gop_s = np.diff(np.unique([*frames.pts_s, video.times_s[-1]])).max(initial=0) if name == "one keyframe" else 0
    for pts_s, number in zip(frames.pts_s, numbers_of(frames.images_NHWC), strict=True):
        assert pts_s == pytest.approx(video.times_s[number - video.first], abs=keyframe_slack_s(video))
    if "open" not in name and not gop_s and name != "edit list":
        # A keyframe every ``gop`` frames at least, so none older than that is ever the last one.
        behind = [video.number_at(t) - n for t, n in zip(times_s, numbers_of(frames.images_NHWC), strict=True)]
        assert max(behind) <= RECIPES[name].gop


@pytest.mark.parametrize("name", [*RECIPES, "edit list"])
def test_probe_tells_length_and_origin(numbered, name):
    video = numbered(name)
    found = probe(video.path)
    last_step_s = video.times_s[-1] - video.times_s[-2]
    assert found.duration_s == pytest.approx(video.times_s[-1] + last_step_s, abs=max(0.07, last_step_s))
    assert found.duration_s > video.times_s[-1]
    if "variable" not in name:
        assert found.fps == pytest.approx(1 / last_step_s, rel=0.02)


def test_display_size_honours_rotation_and_aspect(numbered):
    assert (probe(numbered("rotated by 90").path).width, probe(numbered("rotated by 90").path).height) == (180, 320)
    assert probe(numbered("rotated by 90").path).rotation_deg in (90, 270)
    assert (probe(numbered("anamorphic").path).width, probe(numbered("anamorphic").path).height) == (427, 180)
    shown = read_frames(numbered("anamorphic").path, np.array([0.0]), None)
    assert shown.images_NHWC.shape == (1, 180, 427, 3)


def test_a_recording_may_begin_with_frames_shown_before_its_first_keyframe(tmp_path):
    """A transport stream cut before an HEVC keyframe with decodable leading pictures: time 0 is the first of those."""
    import av

    whole = write(
        tmp_path / "whole.ts",
        Recipe(
            ".ts",
            codec="libx265",
            frames=90,
            codec_options={
                "x265-params": "radl=2:open-gop=0:keyint=30:min-keyint=30:scenecut=0:bframes=3:b-adapt=0:log-level=none"
            },
        ),
    )
    with av.open(str(whole.path)) as container:
        second = [packet for packet in container.demux(video=0) if packet.is_keyframe][1]
        head_bytes = second.pos - 2 * 188  # the two tables that the muxer repeats before a keyframe
    path = tmp_path / "cut.ts"
    path.write_bytes(whole.path.read_bytes()[head_bytes:])
    frames = read_frames(path, np.arange(0, 1, 1 / 30) + 1e-3, SIZE, "exact")
    assert numbers_of(frames.images_NHWC)[:3] == [28, 29, 30]
    assert frames.pts_s[0] == 0.0
