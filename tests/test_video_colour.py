"""Colours are those that the camera meant: the matrix, the range and the transfer of the stream, in every reader."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

from halsted_ray.phantom.render import Renderer
from halsted_ray.phantom.script import Deck, Script, dissection
from halsted_ray.phantom.write import write_video
from halsted_ray.video.colour import LUMA, change_matrix
from halsted_ray.video.container import VideoFile
from halsted_ray.video.pictures import picture_of
from halsted_ray.video.readers import READERS, read_frames

BARS = np.array(
    [
        (255, 255, 255),
        (191, 191, 0),
        (0, 191, 191),
        (0, 191, 0),
        (191, 0, 191),
        (191, 0, 0),
        (0, 0, 191),
        (16, 16, 16),
        (128, 128, 128),
        (200, 90, 70),  # tissue
    ],
    np.uint8,
)
SD, HD = (180, 320), (720, 1280)
TAGS = {"BT.709": 1, "FCC": 4, "BT.601": 6, "SMPTE 240M": 7, "BT.2020": 9, "none": 2}
LIMITED, FULL, UNTAGGED = ColorRange.MPEG, ColorRange.JPEG, ColorRange.UNSPECIFIED
BITS = {"yuv420p": 8, "yuv422p": 8, "yuv444p": 8, "yuv420p10le": 10, "yuv422p10le": 10, "yuv444p12le": 12}


def bars(size) -> np.ndarray:
    """The bars side by side, float [H, W, 3] in 0 … 1."""
    height, width = size
    return np.broadcast_to(BARS[np.arange(width) * len(BARS) // width] / 255, (height, width, 3))


def coded(rgb: np.ndarray, matrix: str, full: bool, bits: int = 8) -> list[np.ndarray]:
    """Y, Cb, Cr of RGB (0 … 1), as H.273 defines them."""
    red, blue = LUMA[matrix]
    luma = rgb @ np.array([red, 1 - red - blue, blue])
    chroma = [(rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)]
    step, top = 1 << (bits - 8), (1 << bits) - 1
    scaled = (
        [luma * top, *(c * top + (top + 1) / 2 for c in chroma)]
        if full
        else [(16 + 219 * luma) * step, *((128 + 224 * c) * step for c in chroma)]
    )
    return [np.clip(np.rint(plane), 0, top).astype(np.uint8 if bits == 8 else "<u2") for plane in scaled]


def write_planes(path, planes, pix_fmt, codec="libx264", tag=2, value_range=LIMITED, trc=2, primaries=2, options=None):
    """Three frames of ``planes`` (Y, Cb and Cr at full resolution), tagged as said."""
    height, width = planes[0].shape
    quiet = {"x265-params": "log-level=error"} if codec == "libx265" else {}
    with av.open(str(path), "w") as container:
        exact = {"preset": "ultrafast", "crf": "1"} if codec.startswith("libx26") else {}
        stream = container.add_stream(codec, rate=25, options={**exact, **quiet, **(options or {})})
        stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_range = tag, value_range
        context.color_trc, context.color_primaries = trc, primaries
        for number in range(3):
            frame = av.VideoFrame(width, height, pix_fmt)
            for into, plane in zip(frame.planes, planes, strict=False):
                small = np.ascontiguousarray(plane[:: height // into.height, :: width // into.width]).view(np.uint8)
                target = np.frombuffer(into, np.uint8).reshape(into.height, into.line_size)
                target[:, : small.shape[1]] = small
            frame.colorspace, frame.color_range = tag, value_range
            frame.color_trc, frame.color_primaries = trc, primaries
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def middles(image: np.ndarray) -> np.ndarray:
    """The mean colour in the middle of each bar."""
    height, width, _ = image.shape
    edges = [(round((n + 0.35) * width / len(BARS)), round((n + 0.65) * width / len(BARS))) for n in range(len(BARS))]
    return np.stack([image[height // 4 : 3 * height // 4, a:b].mean((0, 1)) for a, b in edges])


def shown(path, reader="pyav", size=(112, 224)) -> np.ndarray:
    return middles(read_frames(path, [0.0], size, "exact", reader).images_NHWC[0])


def difference(path, reader="pyav", truth=BARS) -> float:
    return float(np.abs(shown(path, reader) - truth).mean())


def said(path):
    with VideoFile(str(path)) as video:
        return picture_of(video)


@pytest.mark.parametrize("reader", sorted(READERS))
@pytest.mark.parametrize("size", [SD, HD])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["BT.601", "BT.709", "BT.2020", "SMPTE 240M", "FCC"])
def test_colour_bars_of_each_matrix_and_range(tmp_path, matrix, full, size, reader):
    path = write_planes(
        tmp_path / "bars.mp4", coded(bars(size), matrix, full), "yuv420p", tag=TAGS[matrix],
        value_range=FULL if full else LIMITED,
    )  # fmt: skip
    assert difference(path, reader) < 1.5
    picture = said(path)
    assert (picture.matrix, picture.matrix_stated) == (matrix, True)
    assert picture.colour_range == ("full" if full else "limited")


UNTAGGED_SIZES = [(SD, "BT.601"), ((576, 720), "BT.601"), ((720, 960), "BT.709"), (HD, "BT.709")]


@pytest.mark.parametrize("size, matrix", UNTAGGED_SIZES)
def test_without_tags_hd_is_bt_709_and_smaller_pictures_bt_601(tmp_path, size, matrix):
    path = write_planes(tmp_path / "bars.mp4", coded(bars(size), matrix, False), "yuv420p", value_range=UNTAGGED)
    assert difference(path) < 1.5
    assert (said(path).matrix, said(path).matrix_stated, said(path).colour_range) == (matrix, False, "limited")


@pytest.mark.parametrize("size, matrix", UNTAGGED_SIZES)
def test_decord_s_one_matrix_for_untagged_video_is_mended(tmp_path, size, matrix):
    """Exactly, but for pure colours, which decord's matrix puts beyond 0 or 255 before they can be mended."""
    path = write_planes(tmp_path / "bars.mp4", coded(bars(size), matrix, False), "yuv420p", value_range=UNTAGGED)
    mixed = [0, 7, 8, 9]  # white, black, gray, tissue
    assert np.abs(shown(path, "decord") - BARS)[mixed].mean() < 2
    assert difference(path, "decord") < 3.5  # 6.5 as decord gives it


def test_primaries_speak_for_a_matrix_that_is_not_named(tmp_path):
    path = write_planes(
        tmp_path / "bars.mp4", coded(bars(SD), "BT.709", False), "yuv420p", primaries=ColorPrimaries.BT709
    )
    assert difference(path) < 1.5 and said(path).matrix == "BT.709"


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pix_fmt", list(BITS))
def test_every_sampling_and_depth(tmp_path, pix_fmt, full):
    path = write_planes(
        tmp_path / "bars.mkv", coded(bars(SD), "BT.709", full, BITS[pix_fmt]), pix_fmt, "ffv1", TAGS["BT.709"],
        FULL if full else LIMITED,
    )  # fmt: skip
    assert difference(path) < 1.5


def test_rgb_needs_no_matrix(tmp_path):
    with av.open(str(tmp_path / "bars.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *HD, "bgr0"
        frame = av.VideoFrame.from_ndarray(np.rint(255 * bars(HD)).astype(np.uint8), "rgb24").reformat(format="bgr0")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert difference(tmp_path / "bars.mkv") < 0.5 and said(tmp_path / "bars.mkv").matrix == "RGB"


@pytest.mark.parametrize(
    "codec, value_range, full",
    [("libx265", LIMITED, False), ("libx265", FULL, True), ("libx265", UNTAGGED, False), ("ffv1", UNTAGGED, True)],
)
def test_gray_of_either_range(tmp_path, codec, value_range, full):
    """swscale takes all gray for full range. HEVC's standard says that untagged gray is limited."""
    grey = np.repeat(np.rint(BARS.mean(1, keepdims=True)), 3, 1)
    luma = grey[np.arange(320) * len(BARS) // 320, 0]
    plane = np.broadcast_to(luma if full else 16 + 219 * luma / 255, SD)
    planes = [np.rint(plane).astype(np.uint8)]
    path = write_planes(tmp_path / "gray.mkv", planes, "gray", codec, value_range=value_range)
    with VideoFile(str(path)) as video:
        assert video.first_frame.format.name == "gray"
    assert difference(path, truth=grey) < 1.5
    assert said(path).colour_range == ("full" if full else "limited")


@pytest.mark.parametrize("tag", [0, 3, 8, 10, 11, 12, 13, 14])
def test_a_matrix_that_swscale_lacks_is_read_by_rule_and_said(tmp_path, tag):
    """swscale refuses these with "operation not supported"; the video counted as broken."""
    matrix = "BT.2020" if tag == 10 else "BT.601"
    path = write_planes(tmp_path / "bars.mp4", coded(bars(SD), matrix, False), "yuv420p", tag=tag)
    assert difference(path) < 1.5
    remarks = "".join(said(path).remarks)
    assert (f"its colour matrix (number {tag} of H.273) is read as BT.601" in remarks) == (tag not in (0, 3, 10))


def pq(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084's signal, 0 … 1."""
    power = (nits / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg(nits: np.ndarray) -> np.ndarray:
    """BT.2100's signal, 0 … 1, for a screen of 1000 nits."""
    luminance = np.maximum(nits @ np.array([0.2627, 0.6780, 0.0593]) / 1000, 1e-9)[..., None]
    scene = nits / 1000 * luminance ** (-0.2 / 1.2)
    bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)


TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


@pytest.mark.parametrize("name, signal, trc", [("PQ", pq, ColorTrc.SMPTE2084), ("HLG", hlg, ColorTrc.ARIB_STD_B67)])
def test_high_dynamic_range_looks_as_on_a_screen_of_standard_range_and_is_said(tmp_path, name, signal, trc):
    nits = 203 * bars(SD) ** 2.4 @ TO_2020.T
    path = write_planes(
        tmp_path / "hdr.mkv", coded(signal(nits), "BT.2020", False, 10), "yuv420p10le", "libx265", TAGS["BT.2020"],
        LIMITED, trc, ColorPrimaries.BT2020,
    )  # fmt: skip
    assert difference(path) < 6.5  # read as it is, the difference is 37 (HLG) and 58 (PQ)
    picture = said(path)
    assert picture.transfer == name and any(f"HDR ({name})" in remark for remark in picture.remarks)


def test_a_matrix_can_be_changed_afterwards():
    tissue = np.random.default_rng(0).integers(60, 190, (50, 50, 3), np.uint8)
    wrong = change_matrix(tissue, "BT.709", "BT.601")
    assert np.abs(change_matrix(wrong, "BT.601", "BT.709").astype(int) - tissue).max() <= 2
    assert change_matrix(tissue, "BT.709", "BT.709") is tissue


@pytest.mark.parametrize("reader", sorted(READERS))
@pytest.mark.parametrize("width, height", [(320, 180), (1280, 720)])
def test_a_phantom_has_the_colours_that_were_painted(tmp_path, width, height, reader):
    script = Script(
        1, 4.0, "Prostatectomy", tuple(dissection(Deck(np.random.default_rng(1), "Prostatectomy"), 0.0, 4.0))
    )
    path = tmp_path / "phantom.mp4"
    write_video(path, script, width, height, 5, duration_s=0.6, crf=12)
    (got,) = read_frames(path, [0.0], (height, width), "exact", reader).images_NHWC
    painted = Renderer(script, width, height).frame(0.0)
    assert np.abs(got.reshape(-1, 3).mean(0) - painted.reshape(-1, 3).mean(0)).max() < 3
