"""NV12 and P016 on a device become the picture that swscale makes on the CPU: every matrix, range, size and depth."""

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange

from halsted_ray.video.colour import MATRICES, colour_of
from halsted_ray.video.container import VideoFile
from halsted_ray.video.device_pictures import Planes, to_rgb
from halsted_ray.video.nvdec import BITS, unlike_swscale
from halsted_ray.video.pictures import PictureScaler

MOST = 0.1
"""Grey levels in the mean; the reader promises 1.5, and the conversion alone is nearer."""
NUMBERS = {name: number for number, name in MATRICES.items() if name != "RGB"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of torch that wait for each other take many times as long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def planes_of(frame):
    """The planes of a decoded frame as NVDEC lays them out."""
    bits = BITS[frame.format.name]
    kind = np.uint8 if bits == 8 else np.dtype("<u2")
    rows = [np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width] for plane in frame.planes]
    samples = [torch.from_numpy(row << (16 - bits) if bits > 8 else row.copy()) for row in rows]
    return Planes(samples[0], torch.stack(samples[1:], dim=2))


def coloured(height, width):
    """A picture with edges, ramps and saturated colours, as instruments under a lamp have them."""
    coarse = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8)).permute(2, 0, 1)
    smooth = torch.nn.functional.interpolate(coarse[None].float(), (height, width), mode="bicubic").clamp(0, 255)[0]
    image_HWC = smooth.permute(1, 2, 0).numpy().astype(np.uint8)
    image_HWC[height // 3 : height // 2, width // 4 : width // 2] = (200, 10, 20)
    image_HWC[::17, ::13] = 255
    return image_HWC


def encoded(path, size, codec="libx264", pixels="yuv420p"):
    height, width = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "12", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        container.mux(stream.encode(av.VideoFrame.from_ndarray(coloured(height, width), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def difference(video, small):
    """(mean, largest) difference in grey levels between the two ways from the first frame to a picture."""
    frame = video.first_frame
    ours = to_rgb(planes_of(frame), small, colour_of(frame, video.stream.codec_context.name)).numpy()
    off = np.abs(ours.astype(int) - PictureScaler(video, small).to_rgb(frame))
    return off.mean(), off.max()


@pytest.fixture(scope="module", params=[(480, 720), (1080, 1920)], ids=["SD", "HD"])
def video(request, tmp_path_factory):
    path = encoded(tmp_path_factory.mktemp("pictures") / "picture.mkv", request.param)
    with VideoFile(path) as video:
        yield video


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", sorted(NUMBERS))
def test_every_matrix_and_range_gives_the_picture_of_the_cpu(video, matrix, full):
    frame = video.first_frame
    frame.colorspace, frame.color_range = NUMBERS[matrix], ColorRange.JPEG if full else ColorRange.MPEG
    colour = colour_of(frame, video.stream.codec_context.name)
    assert (colour.matrix, colour.full_range) == (matrix, full)
    for small in ((224, 224), (126, 224)):
        mean, largest = difference(video, small)
        assert mean < MOST and largest <= 6


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv420p12le"])
def test_deep_colour_gives_the_picture_of_the_cpu(tmp_path, pixels):
    with VideoFile(encoded(tmp_path / "deep.mkv", (480, 720), "libx265", pixels)) as video:
        assert difference(video, (224, 224))[0] < MOST


def test_sizes_that_swscale_makes_in_another_way_are_known(video):
    height, width = video.first_frame.height, video.first_frame.width
    for small in ((224, 224), (height // 2, width // 2), (40, 66)):
        assert unlike_swscale(small, (height, width)) == ""
        assert difference(video, small)[0] < MOST
    for other in ((224, 225), (height, width), (height // 2 + 1, 224), (224, width // 2 + 2)):
        assert "half its size" in unlike_swscale(other, (height, width))


def test_a_part_of_a_picture_is_cut_from_all_planes(video):
    planes = planes_of(video.first_frame)
    part = planes.cut(240, 360, 240, 360)
    assert part.size == (240, 360) and part.chroma_HWC.shape == (120, 180, 2)
    assert torch.equal(part.luma_HW, planes.luma_HW[240:480, 360:720])
    assert torch.equal(part.chroma_HWC, planes.chroma_HWC[120:240, 180:360])
