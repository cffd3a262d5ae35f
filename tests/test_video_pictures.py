"""The picture that a model sees is what a person sees: upright, one eye, one instant, of the right stream."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import drawn_video
import field_pictures
import numpy as np
import pytest
from drawn_video import RATE, card, write

from halsted_ray.compute.resources import ResourceRequest
from halsted_ray.embedding.decode_stage import DecodeStage
from halsted_ray.errors import UnreadableVideo, UsageError
from halsted_ray.mapping.mapping_recipe import MappingRecipe, RecipeSource
from halsted_ray.mapping.run_plan import RunPlan, check_request
from halsted_ray.model.halsted import ModelConfig
from halsted_ray.records import Segment, WindowSpec
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.video.container import VideoFile
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.frames import Frames
from halsted_ray.video.geometry import Orientation, Stereo, orientation_by
from halsted_ray.video.pictures import picture_of
from halsted_ray.video.probe import probe
from halsted_ray.video.readers import read_frames

ONE = 1 << 16
EIGHT = [Orientation(turns, mirrored) for mirrored in (False, True) for turns in range(4)]


def stored_for(upright: np.ndarray, orientation: Orientation) -> np.ndarray:
    """The picture as a file stores it that asks for ``orientation``."""
    turned_back = np.rot90(upright, -orientation.turns)
    return np.ascontiguousarray(turned_back[:, ::-1] if orientation.mirrored else turned_back)


def first_picture(path, size=None, **options) -> np.ndarray:
    return read_frames(path, [0.0], size, **options).images_NHWC[0]


def error(got: np.ndarray, expected: np.ndarray) -> float:
    assert got.shape == expected.shape
    return float(np.abs(got.astype(int) - expected).mean())


def said(path, eye="left"):
    with VideoFile(str(path)) as video:
        return picture_of(video, eye)


@pytest.mark.parametrize("orientation", EIGHT)
def test_a_display_matrix_means_what_the_standard_says(orientation):
    """ISO/IEC 14496-12: a pixel at (p, q) is shown at (a p + c q + x, b p + d q + y)."""
    upright = np.arange(12).reshape(3, 4, 1).astype(np.uint8)
    stored = stored_for(upright, orientation)
    found = []
    for a, b, c, d in [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1)] + [
        (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, -1, 0), (0, -1, -1, 0)
    ]:  # fmt: skip
        shown = {}
        for q in range(stored.shape[0]):
            for p in range(stored.shape[1]):
                shown[a * p + c * q, b * p + d * q] = stored[q, p, 0]
        columns, rows = (sorted({place[axis] for place in shown}) for axis in (0, 1))
        picture = np.array([[shown[column, row] for column in columns] for row in rows])
        if np.array_equal(picture, upright[..., 0]):
            found.append(orientation_by((a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)))
    assert found == [orientation]


@pytest.mark.parametrize("source", ["mp4", "mov", "mkv", "h264 in ts"])
def test_all_eight_orientations(tmp_path, source):
    """Case 08: a mirrored picture was turned by 180 degrees; left and right arm are tags."""
    upright = card()
    for orientation in EIGHT:
        turn = orientation.rotation_deg
        # set_display_rotation mirrors after the turn; the other way round the turn changes its sign.
        degrees = -turn if orientation.mirrored else turn
        name = f"{orientation.turns}{orientation.mirrored}"
        if source == "h264 in ts":
            plain = write(tmp_path / f"plain-{name}.ts", [stored_for(upright, orientation)] * 3)
            flip = ":flip=horizontal" if orientation.mirrored else ""
            asks = f"h264_metadata=display_orientation=insert:rotate={turn}{flip}"
            path = drawn_video.copy(plain, tmp_path / f"{name}.ts", asks)
        else:
            path = write(
                tmp_path / f"{name}.{source}",
                [stored_for(upright, orientation)] * 3,
                mark=lambda stream, d=degrees, o=orientation: stream.set_display_rotation(d, hflip=o.mirrored),
            )
        assert error(first_picture(path), upright) < 4, orientation
        picture = said(path)
        assert (picture.rotation_deg, picture.mirrored) == (turn, orientation.mirrored)
        facts = probe(path)
        assert (facts.height, facts.width) == upright.shape[:2]


def test_the_movie_s_own_matrix_counts_too(tmp_path):
    """MP4 may turn the whole movie (mvhd), and the track in it (tkhd): here a quarter, and then a mirror."""
    upright = card()
    stored = stored_for(upright, Orientation(1, True))
    path = write(tmp_path / "movie.mp4", [stored] * 3, mark=lambda stream: stream.set_display_rotation(-90))
    data = bytearray(path.read_bytes())
    matrix = data.index(b"mvhd") + 40
    assert struct.unpack_from(">9i", data, matrix) == (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    struct.pack_into(">i", data, matrix, -ONE)
    path.write_bytes(data)
    assert error(first_picture(path), upright) < 4


@pytest.mark.parametrize(
    "exif, orientation", [(2, Orientation(0, True)), (6, Orientation(3)), (5, Orientation(1, True))]
)
def test_the_orientation_of_exif_in_motion_jpeg(tmp_path, exif, orientation):
    """PyAV knows no EXIF, and gave no side data at all of a frame with it: a mirror was turned by 180 degrees."""
    tags = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, exif, 0, 0)
    segment = b"\xff\xe1" + struct.pack(">H", len(tags) + 8) + b"Exif\0\0" + tags
    plain = write(tmp_path / "plain.mov", [stored_for(card(), orientation)] * 3, "mjpeg", pix_fmt="yuvj420p")
    with av.open(str(plain)) as source, av.open(str(tmp_path / "exif.mov"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                data = bytes(packet)
                tagged = av.Packet(data[:2] + segment + data[2:])
                tagged.pts, tagged.dts, tagged.time_base = packet.pts, packet.dts, packet.time_base
                tagged.stream, tagged.is_keyframe = stream, True
                container.mux(tagged)
    assert error(first_picture(tmp_path / "exif.mov"), card()) < 4


@pytest.mark.parametrize("fidelity", ["exact", "keyframes"])
def test_an_orientation_that_is_stated_once_holds_after_a_seek(tmp_path, fidelity):
    """The decoder forgets it at every seek, and the stream need not repeat it."""
    plain = write(tmp_path / "plain.ts", [np.rot90(card(), -1).copy()] * 200, options={"g": "10", "bf": "0"})
    path = drawn_video.copy(plain, tmp_path / "once.ts", "h264_metadata=display_orientation=insert:rotate=90", 1)
    for image in read_frames(path, [0.0, 7.3], None, fidelity).images_NHWC:
        assert error(image, card()) < 4


@pytest.mark.parametrize(
    "degrees, scale, taken, remark",
    [
        (3, 1.0, 0, "by 3° beyond a quarter turn"),
        (87, 1.0, 1, "by 3° beyond a quarter turn"),
        (200, 1.0, 2, "by 20° beyond a quarter turn"),
        (90, 0.5, 1, ""),
        (0.2, 1.0, 0, ""),
    ],
)
def test_a_matrix_that_is_none_of_the_eight_gives_the_nearest_and_says_so(degrees, scale, taken, remark):
    cos, sin = (round(scale * ONE * value) for value in (np.cos(np.radians(degrees)), np.sin(np.radians(degrees))))
    orientation = orientation_by((cos, -sin, 0, sin, cos, 0, 0, 0, 1 << 30))
    assert (orientation.turns, orientation.mirrored) == (taken, False)
    assert remark in orientation.remark and bool(remark) == bool(orientation.remark)


@pytest.mark.parametrize("matrix", [(0,) * 9, (ONE, 0, 0, 0, 0, 0, 0, 0, 1 << 30), (ONE, ONE, 0, ONE, ONE, 0, 0, 0, 0)])
def test_a_matrix_without_an_inverse_turns_nothing_and_is_said(matrix):
    orientation = orientation_by(matrix)
    assert (orientation.turns, orientation.mirrored) == (0, False) and "onto a line or a point" in orientation.remark


def test_a_turn_by_three_degrees_is_read_and_said(tmp_path):
    path = write(tmp_path / "tilted.mp4", [card()] * 3, mark=lambda stream: stream.set_display_rotation(3))
    assert error(first_picture(path), card()) < 4
    assert any("the nearest quarter turn is taken" in remark for remark in said(path).remarks)


def two_streams(path, sizes, default=None, cover=None):
    """A file with a video stream per size, each of another look; ``default``: the stream that is marked so."""
    with av.open(str(path), "w") as container:
        if cover:
            pictures = container.add_stream("mjpeg", rate=RATE)
            pictures.width, pictures.height, pictures.pix_fmt = cover[1], cover[0], "yuvj420p"
            pictures.disposition = av.stream.Disposition.attached_pic
        streams = []
        for size in sizes:
            stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "crf": "8"})
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            stream.disposition = av.stream.Disposition.default if len(streams) == default else 0
            streams.append(stream)
        if cover:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(card(cover, 9), "rgb24")))
            container.mux(pictures.encode())
        for number in range(30):
            for look, (stream, size) in enumerate(zip(streams, sizes, strict=True)):
                frame = av.VideoFrame.from_ndarray(card(size, look), "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mov"])
@pytest.mark.parametrize(
    "sizes, default, taken",
    [
        (((48, 80), (96, 160)), 0, 1),
        (((96, 160), (48, 80)), 1, 0),
        (((48, 80), (96, 160), (64, 64)), None, 1),
    ],
)
def test_the_largest_picture_of_several_is_read_and_it_is_said(tmp_path, suffix, sizes, default, taken):
    path = two_streams(tmp_path / f"several.{suffix}", sizes, default)
    assert error(first_picture(path), card(sizes[taken], taken)) < 4
    facts, picture = probe(path), said(path)
    assert (facts.height, facts.width) == sizes[taken]
    assert len(picture.streams) == len(sizes) and picture.stream == taken
    (remark,) = picture.remarks
    assert f"has {len(sizes)} video streams" in remark and "h264 160x96" in remark and "h264 80x48" in remark


def test_of_streams_of_one_size_the_default_is_read_and_else_the_first(tmp_path):
    sizes = ((96, 160), (96, 160))
    assert error(first_picture(two_streams(tmp_path / "second.mkv", sizes, 1)), card(sizes[1], 1)) < 4
    assert error(first_picture(two_streams(tmp_path / "first.mkv", sizes, 0)), card(sizes[0], 0)) < 4
    assert error(first_picture(two_streams(tmp_path / "none.ts", sizes)), card(sizes[0], 0)) < 4


def test_a_stream_that_comes_up_while_reading_does_not_end_in_an_error(tmp_path):
    """In a transport stream sound may come up late. At the end PyAV may take it for a stream that was asked for."""

    class Container:
        def __init__(self, opened):
            self.opened = opened

        def __getattr__(self, name):
            return getattr(self.opened, name)

        def demux(self, stream):
            yield from (packet for packet in self.opened.demux(stream) if packet.size)
            raise IndexError("list index out of range")

    with VideoFile(str(write(tmp_path / "late.ts", [card()] * 30))) as video:
        video.reopen()
        opened = video.container
        video._container = Container(opened)
        assert len(list(video.packets())) == 30
        video._container = opened


def test_a_cover_larger_than_the_video_is_no_video(tmp_path):
    path = two_streams(tmp_path / "covered.mp4", [(96, 160)], cover=(480, 640))
    assert error(first_picture(path), card((96, 160), 0)) < 4
    (stream,) = said(path).streams
    assert "h264 160x96" in stream and not said(path).remarks


def eyes(layout: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(stored, left, right): two eyes squeezed into one frame, the left eye first."""
    left, right = card((96, 160), 1), card((96, 160), 2)
    if layout == "side by side":
        return np.concatenate([left[:, ::2], right[:, ::2]], 1), left, right
    if layout == "top and bottom":
        return np.concatenate([left[::2], right[::2]], 0), left, right
    stored = left.copy()
    stored[1::2] = right[1::2]
    return stored, left, right


def frame_packing(tmp_path, layout):
    number = {"side by side": 3, "top and bottom": 4, "row by row": 2}[layout]
    options = {"x264-params": f"frame-packing={number}", "bf": "0"}
    return write(tmp_path / "packed.ts", [eyes(layout)[0]] * 60, options={**options, "g": "10"})


def st3d(tmp_path, layout):
    path = write(tmp_path / "boxed.mp4", [eyes(layout)[0]] * 60)
    mode = {"top and bottom": 1, "side by side": 2}[layout]
    drawn_video.add_box(path, b"\0\0\0\x0dst3d" + bytes([0, 0, 0, 0, mode]))
    return path


def stereo_mode(tmp_path, layout):
    mode = {"top and bottom": "top_bottom", "side by side": "left_right", "row by row": "row_interleaved_lr"}[layout]
    return write(
        tmp_path / "moded.mkv", [eyes(layout)[0]] * 60, mark=lambda stream: stream.metadata.update(stereo_mode=mode)
    )


@pytest.mark.parametrize(
    "how, layout",
    [
        (frame_packing, "side by side"),
        (frame_packing, "top and bottom"),
        (frame_packing, "row by row"),
        (st3d, "side by side"),
        (st3d, "top and bottom"),
        (stereo_mode, "side by side"),
        (stereo_mode, "top and bottom"),
        (stereo_mode, "row by row"),
    ],
)
def test_of_a_stereo_pair_the_left_eye_is_read_and_by_choice_the_right_one(tmp_path, how, layout):
    path = how(tmp_path, layout)
    _, left, right = eyes(layout)
    for fidelity in ("exact", "keyframes"):
        for time_s in (0.0, 1.3):
            (got,) = read_frames(path, [time_s], left.shape[:2], fidelity).images_NHWC
            (other,) = read_frames(path, [time_s], left.shape[:2], fidelity, eye="right").images_NHWC
            assert error(got, left) < 6 and error(other, right) < 6
    facts = probe(path)
    assert (facts.height, facts.width) == left.shape[:2]
    assert said(path).stereo == layout and said(path).left_first
    assert f"two eyes, {layout}; the right eye is read" in "".join(said(path, "right").remarks)


def test_the_order_of_the_eyes_is_the_file_s(tmp_path):
    stored, left, right = eyes("side by side")
    path = write(
        tmp_path / "crossed.mkv", [stored] * 3, mark=lambda stream: stream.metadata.update(stereo_mode="right_left")
    )
    assert error(first_picture(path, left.shape[:2]), right) < 6
    assert error(first_picture(path, left.shape[:2], eye="right"), left) < 6
    assert not said(path).left_first


@pytest.mark.parametrize("layout, options", [("frame by frame", 5), ("checkerboard", 0), ("column by column", 1)])
def test_stereo_that_is_not_told_apart_is_said_and_read_as_it_is(tmp_path, layout, options):
    path = write(tmp_path / "other.ts", [card()] * 3, options={"x264-params": f"frame-packing={options}"})
    assert error(first_picture(path), card()) < 4
    assert said(path).stereo == layout
    assert f"two eyes, {layout}, which are not told apart" in "".join(said(path).remarks)


def test_anaglyph_is_said(tmp_path):
    path = write(
        tmp_path / "cyan.mkv",
        [card()] * 3,
        mark=lambda stream: stream.metadata.update(stereo_mode="anaglyph_cyan_red"),
    )
    assert "anaglyph" in "".join(said(path).remarks)


@pytest.mark.parametrize(
    "layout, stored, shown",
    [
        ("side by side", (3840, 1080), (1920, 1080)),
        ("side by side", (1920, 1080), (1920, 1080)),
        ("side by side", (2560, 1024), (1280, 1024)),
        ("side by side", (1280, 480), (640, 480)),
        ("top and bottom", (1920, 2160), (1920, 1080)),
        ("top and bottom", (1920, 1080), (1920, 1080)),
        ("top and bottom", (720, 576), (720, 576)),
        ("row by row", (1920, 1080), (1920, 1080)),
        ("none", (3840, 1080), (3840, 1080)),
    ],
)
def test_an_eye_is_shown_at_the_likelier_of_two_shapes(layout, stored, shown):
    assert Stereo(layout).eye_size(*stored) == shown


def test_the_eye_travels_to_the_decoding_process_and_into_the_names_of_what_is_stored(tmp_path):
    path = frame_packing(tmp_path, "side by side")
    _, left, right = eyes("side by side")
    with DecodeProcess() as process:
        size = left.shape[:2]
        assert error(process.read_frames(path, [0.4], size, deadline_s=60).images_NHWC[0], left) < 6
        assert error(process.read_frames(path, [0.4], size, eye="right", deadline_s=60).images_NHWC[0], right) < 6
        with pytest.raises(ValueError, match="expected an eye of left, right, got 'both'"):
            process.read_frames(path, [0.4], size, eye="both", deadline_s=60)
    recipes = [MappingRecipe("m", "e", "t", WindowSpec(), ("macro",), "exact", eye=eye) for eye in ("left", "right")]
    assert recipes[0].digest != recipes[1].digest
    assert len({sampling_name(WindowSpec(), "exact", eye) for eye in ("left", "right")}) == 2


def test_the_eye_travels_from_the_recipe_to_the_decoding_actor(tmp_path):
    recipe = MappingRecipe("m", "e", "t", WindowSpec(), ("macro",), "exact", eye="right")
    source = RecipeSource(recipe, "model", "encoder", ModelConfig("encoder", "fingerprint", 8), (8, 8))
    plan = RunPlan.of(str(tmp_path), None, source, 60.0, None)
    options = plan.decode_options(ResourceRequest(), [])
    assert plan.tag_options().sampling == sampling_name(WindowSpec(), "exact", "right")
    asked = []

    class Decoder(DecodeProcess):
        def read_frames(self, _location, times_s, size, fidelity, reader, eye, **named):
            asked.append(eye)
            return Frames(np.zeros((len(times_s), *size, 3), np.uint8), np.zeros(len(times_s)))

    DecodeStage(options, Decoder).decode(Segment("s" * 16, "v" * 16, "/archive/pair.mp4", 0.0, 30.0, 30.0))
    assert asked == ["right"]
    with pytest.raises(UsageError, match="unknown eye 'both'; expected one of left, right"):
        check_request(str(tmp_path / "archive"), str(tmp_path / "out"), "exact", 0.75, "both")


def test_vectors_of_pictures_as_older_versions_made_them_are_not_mixed_in(monkeypatch):
    """Untagged HD, mirrors, fields and stereo look different now."""
    recipe, spec = MappingRecipe("m", "e", "t", WindowSpec(), ("macro",), "exact"), WindowSpec()
    assert sampling_name(spec, "reference") == "reference-30-2.5-16-p2" != "reference-30-2.5-16"
    now = recipe.digest
    monkeypatch.setattr("halsted_ray.mapping.mapping_recipe.PICTURES", "p3")
    assert recipe.digest != now


def moving(time: int, size=(288, 352)) -> np.ndarray:
    """Blocks that move to the right by 6 pixels per field."""
    grey = np.random.default_rng(3).integers(30, 226, (size[0] // 12, size[1] // 11), np.uint8)
    picture = np.roll(grey.repeat(12, 0).repeat(11, 1), 6 * time, 1)
    return np.repeat(picture[..., None], 3, 2)


def scaled(image: np.ndarray, size) -> np.ndarray:
    from av.video.reformatter import VideoReformatter

    from halsted_ray.video.pictures import SCALING

    frame = av.VideoFrame.from_ndarray(image, "rgb24")
    return VideoReformatter().reformat(frame, width=size[1], height=size[0], interpolation=SCALING).to_ndarray()


@pytest.mark.parametrize("codec, suffix", [("libx264", "mp4"), ("libx264", "ts"), ("mpeg2video", "mpg")])
@pytest.mark.parametrize("fields", ["tff", "bff"])
def test_of_an_interlaced_frame_the_field_shown_first_is_read(tmp_path, codec, suffix, fields):
    """Two instants in one picture show each instrument twice. The time of the frame is the first field's."""
    frames = [drawn_video.woven(moving(2 * n), moving(2 * n + 1), fields) for n in range(30)]
    options = {"x264-params": f"{fields}=1"} if codec == "libx264" else {}
    path = write(tmp_path / f"fields.{suffix}", frames, codec, options, fields)
    size, times_s = (112, 112), np.arange(4, 20) / RATE
    got = read_frames(path, times_s, size, "exact")
    assert np.allclose(got.pts_s, times_s, atol=1e-3)
    for number, image in zip(range(4, 20), got.images_NHWC, strict=True):
        first, second = (error(image, scaled(moving(2 * number + late), size)) for late in (0, 1))
        both = error(scaled(frames[number], size), scaled(moving(2 * number), size))
        assert first < 8 and first < second / 3 and first < both / 2, (first, second, both)
    assert said(path).interlaced and any("the field that is shown first is read" in r for r in said(path).remarks)


@pytest.mark.parametrize("timed", ["each", "one"])
@pytest.mark.parametrize("fields", ["tff", "bff"])
def test_field_pictures_are_joined_and_the_first_is_read_at_its_time(tmp_path, fields, timed):
    """Packets of single fields were left out one by one: pictures were of one field, and wrong by up to 3 frames."""
    fine = np.random.default_rng(0).integers(40, 216, (12, 20), np.uint8).repeat(8, 0).repeat(8, 1)
    instants = [np.roll(fine, 3 * time, 1) for time in range(60)]
    frames = [drawn_video.woven(*instants[n : n + 2], fields) for n in range(0, 60, 2)]
    path = field_pictures.write(tmp_path / "fields.ts", frames, fields, timed)
    size, numbers = (48, 160), np.arange(2, 28)
    for offset_s in (0.005, 0.025):
        for fidelity in ("exact", "reference", "keyframes"):
            got = read_frames(path, numbers / RATE + offset_s, size, fidelity).require_whole()
            shown = np.rint(got.pts_s * RATE).astype(int)
            assert np.allclose(got.pts_s, shown / RATE, atol=1e-3)
            assert np.all(shown <= numbers) and np.all(shown >= numbers // field_pictures.GOP * field_pictures.GOP)
            assert fidelity != "exact" or np.array_equal(shown, numbers)
            for number, image in zip(shown, got.images_NHWC, strict=True):
                rows = instants[2 * number][0 if fields == "tff" else 1 :: 2]
                luma = np.clip((rows.astype(float) - 16) * 255 / 219, 0, 255)
                assert np.abs(image.mean(2) - luma).mean() < 3


def test_an_odd_number_of_rows_in_fields(tmp_path):
    frames = [moving(0)[:287]] * 10
    path = write(tmp_path / "odd.mpg", frames, "mpeg2video", fields="tff")
    assert said(path).interlaced
    assert error(first_picture(path, (112, 112)), scaled(frames[0], (112, 112))) < 5


def test_progressive_video_marked_as_interlaced_loses_next_to_nothing(tmp_path):
    frames = [moving(2 * n) for n in range(12)]
    marked = write(tmp_path / "marked.mp4", frames, fields="tff", options={"x264-params": "tff=1"})
    plain = write(tmp_path / "plain.mp4", frames)
    times_s = np.arange(12) / RATE
    for size in ((112, 112), (224, 224)):
        got, expected = (read_frames(path, times_s, size, "exact").images_NHWC for path in (marked, plain))
        assert error(got, expected) < 3


def test_hevc_gives_out_single_fields_and_each_is_read_whole(tmp_path):
    fields = [np.ascontiguousarray(moving(n)[n % 2 :: 2]) for n in range(20)]
    path = write(tmp_path / "fields.mkv", fields, "libx265", {"x265-params": "interlace=tff:log-level=error"})
    got = read_frames(path, np.arange(20) / RATE, (144, 352), "exact")
    for number, image in enumerate(got.images_NHWC):
        assert error(image, fields[number]) < 3
    facts = probe(path)
    assert (facts.height, facts.width) == (288, 352)


def test_a_size_that_changes_in_the_middle_fills_the_same_picture(tmp_path):
    sizes = [(96, 160), (144, 256), (96, 128)]
    with av.open(str(tmp_path / "sizes.ts"), "w") as container:
        stream = None
        for part, size in enumerate(sizes):
            encoder = av.CodecContext.create("libx264", "w")
            encoder.height, encoder.width, encoder.pix_fmt = *size, "yuv420p"
            encoder.time_base, encoder.framerate, encoder.gop_size = Fraction(1, RATE), Fraction(RATE), 10
            encoder.options = {"preset": "ultrafast", "crf": "8", "bf": "0"}
            if stream is None:
                stream = container.add_stream("libx264", rate=RATE)
                stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            packets = []
            for number in range(20):
                frame = av.VideoFrame.from_ndarray(card(size, part), "rgb24")
                frame.pts, frame.time_base = 20 * part + number, Fraction(1, RATE)
                packets += encoder.encode(frame)
            for packet in packets + encoder.encode():
                packet.stream, packet.time_base = stream, Fraction(1, RATE)
                container.mux(packet)
    got = read_frames(tmp_path / "sizes.ts", (np.arange(60) + 0.5) / RATE, (96, 160), "exact")
    for number, image in enumerate(got.images_NHWC):
        assert error(image, scaled(card(sizes[number // 20], number // 20), (96, 160))) < 8, number


def test_a_sample_aspect_that_changes_leaves_the_whole_picture(tmp_path):
    """Two MPEG-2 sequences, 4:3 and 16:9, of one stored size: both are squeezed into the asked size alike."""
    parts = []
    for aspect in (Fraction(16, 15), Fraction(64, 45)):
        path = tmp_path / f"{aspect.numerator}.m2v"
        write(
            path,
            [card((288, 352))] * 20,
            "mpeg2video",
            mark=lambda stream, a=aspect: setattr(stream.codec_context, "sample_aspect_ratio", a),
        )
        parts.append(path)
    with av.open(str(tmp_path / "aspects.ts"), "w") as container:
        stream = None
        for number, path in enumerate(parts):
            with av.open(str(path)) as source:
                if stream is None:
                    stream = container.add_stream_from_template(source.streams.video[0])
                for count, packet in enumerate(p for p in source.demux(video=0) if p.size):
                    packet.pts = packet.dts = 20 * number + count
                    packet.time_base, packet.stream = Fraction(1, RATE), stream
                    container.mux(packet)
    got = read_frames(tmp_path / "aspects.ts", (np.arange(38) + 0.5) / RATE, (96, 160), "exact")
    assert all(error(image, scaled(card((288, 352)), (96, 160))) < 6 for image in got.images_NHWC)


def test_rows_that_only_fill_up_macroblocks_are_not_shown(tmp_path):
    """H.264 stores 1080 rows as 1088 and crops them; 90 rows as 96 here."""
    path = write(tmp_path / "cropped.mp4", [card((90, 150))] * 3)
    assert first_picture(path).shape == (90, 150, 3) and error(first_picture(path), card((90, 150))) < 4


@pytest.mark.parametrize(
    "what, make",
    [
        ("a mirrored picture", lambda p: write(p, [card()] * 3, mark=lambda s: s.set_display_rotation(0, hflip=True))),
        ("the pictures of two eyes", lambda p: write(p, [card()] * 3, options={"x264-params": "frame-packing=3"})),
        ("interlaced frames", lambda p: write(p, [card()] * 3, fields="tff", options={"x264-params": "tff=1"})),
        ("several video streams", lambda p: two_streams(p, ((48, 80), (96, 160)))),
    ],
)
def test_decord_refuses_what_it_would_show_wrongly(tmp_path, what, make):
    path = make(tmp_path / "wrong.mp4")
    with pytest.raises(UnreadableVideo, match=f"reads rightly, got {what}; use the reader 'pyav'"):
        first_picture(path, reader="decord")


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_decord_refuses_a_picture_that_the_stream_itself_turns(tmp_path, suffix):
    """decord knows the turns of a container, and not those of H.264."""
    plain = write(tmp_path / "plain.ts", [stored_for(card(), Orientation(1))] * 3)
    path = drawn_video.copy(plain, tmp_path / f"sei.{suffix}", "h264_metadata=display_orientation=insert:rotate=90")
    assert error(first_picture(path), card()) < 4
    with pytest.raises(UnreadableVideo, match="got another picture: it may be turned by the stream itself"):
        first_picture(path, reader="decord")
