"""The reader ``nvdec`` on a real GPU: the times of the CPU, its pictures, and its reasons. Skipped without one."""

import numpy as np
import pytest
from numbered_video import Recipe, numbers_of, write

from halsted_ray.video import nvdec_library
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.readers import read_frames

pytestmark = pytest.mark.skipif(nvdec_library.problem() != "", reason=f"NVDEC: {nvdec_library.problem()}")
SIZE = (90, 160)
MOST = 1.5


@pytest.fixture(scope="module")
def process():
    with DecodeProcess(gpu="0") as process:
        yield process


@pytest.mark.parametrize("fidelity", ["exact", "reference", "keyframes"])
@pytest.mark.parametrize(
    "name, recipe",
    [
        ("b-frames", Recipe(codec_options={"bf": "3"})),
        ("matroska", Recipe(".mkv", codec_options={"bf": "2"})),
        ("transport", Recipe(".ts")),
        ("open-gops", Recipe(codec_options={"bf": "3", "x264-params": "open-gop=1:b-adapt=0"})),
        ("uneven", Recipe(size=(182, 326))),
        ("hevc", Recipe(codec="libx265")),
        ("deep", Recipe(codec="libx265", pix_fmt="yuv420p10le")),
        ("turned", Recipe(rotation_deg=180)),
    ],
)
def test_the_chip_gives_the_times_and_pictures_of_the_cpu(tmp_path, process, name, recipe, fidelity):
    video = write(tmp_path / f"{name}{recipe.suffix}", recipe)
    for times_s in (np.arange(0, 5.9, 0.15625), np.arange(2.7, 5.9, 0.9)):
        ours = process.read_frames(video.path, times_s, SIZE, fidelity, "nvdec", deadline_s=120)
        assert process.fallback == ""
        theirs = read_frames(video.path, times_s, SIZE, fidelity)
        assert np.array_equal(ours.pts_s, theirs.pts_s) and numbers_of(ours.images_NHWC) == numbers_of(
            theirs.images_NHWC
        )
        assert np.abs(ours.images_NHWC.astype(int) - theirs.images_NHWC).mean() < MOST
    assert process.starts == 1


@pytest.mark.parametrize(
    "recipe, reason",
    [
        (Recipe(pix_fmt="yuv422p"), "h264 with pixels yuv422p"),
        (Recipe(pix_fmt="yuv420p10le"), "the chip does not decode h264 with 10 bits"),
        (Recipe(codec="mpeg4"), "codec mpeg4"),
    ],
)
def test_what_the_chip_does_not_decode_is_read_by_the_cpu(tmp_path, process, recipe, reason):
    video = write(tmp_path / "video.mp4", recipe)
    times_s = np.arange(0, 5, 0.5)
    frames = process.read_frames(video.path, times_s, SIZE, "exact", "nvdec", deadline_s=120)
    assert process.fallback == reason
    assert np.array_equal(frames.images_NHWC, read_frames(video.path, times_s, SIZE, "exact").images_NHWC)
