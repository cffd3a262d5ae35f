"""How a stored picture becomes the picture that is shown: turned, mirrored, and one eye of a stereo pair.

libavcodec gives these facts with a decoded frame, wherever they stand: in the container (MP4's track matrix and
``st3d`` box, Matroska's projection and StereoMode) or in the stream itself (the display orientation and the frame
packing of H.264 and HEVC).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from av import VideoFrame
from av.filter import Graph
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

EYES = ("left", "right")
"""Which picture of a stereo pair is read."""

NEAR = 0.02
"""How far a display matrix may be from a turn or mirror, relative to its size, and still count as that: 1°."""


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to hold a picture: mirrored left to right, then turned by quarters counter-clockwise."""

    turns: int = 0
    mirrored: bool = False
    remark: str = ""
    """What the file asks for beyond that; empty where it asks for nothing more."""

    @property
    def rotation_deg(self) -> int:
        """The turn in degrees, counter-clockwise: 0, 90, 180 or 270."""
        return 90 * self.turns

    def upright(self, image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture turned upright; a picture that already is upright comes back as it is."""
        if not self.turns and not self.mirrored:
            return image_HWC
        mirrored_HWC = image_HWC[:, ::-1] if self.mirrored else image_HWC
        return np.ascontiguousarray(np.rot90(mirrored_HWC, self.turns))


TURNED = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
"""(a, b, c, d) of the display matrix by the number of quarter turns: a stored pixel at column p and row q is shown at
column ``a p + c q`` and row ``b p + d q``. Mirrored first, a and b change their signs."""


def orientation_by(matrix: tuple[int, ...]) -> Orientation:
    """The orientation that a display matrix (nine numbers, row by row) asks for.

    A matrix that is none of the eight (a turn by 3°, a shear) gives the nearest of those with its sign, and a remark. A
    matrix that maps the picture onto a line or a point gives none, and a remark.
    """
    a, b, c, d = (float(matrix[place]) for place in (0, 1, 3, 4))
    size = (a * a + b * b + c * c + d * d) ** 0.5
    determinant = a * d - b * c
    if abs(determinant) <= 1e-6 * size * size:
        return Orientation(
            remark="its display matrix maps the picture onto a line or a point; the picture is not turned"
        )
    mirrored = determinant < 0
    if mirrored:
        a, b = -a, -b
    scores = [a * turn[0] + b * turn[1] + c * turn[2] + d * turn[3] for turn in TURNED]
    turns = scores.index(max(scores))
    beside = (b * b + c * c if turns % 2 == 0 else a * a + d * d) ** 0.5
    remark = ""
    if beside > NEAR * size:
        remark = (
            f"its display matrix turns or shears by {np.degrees(np.arcsin(min(1.0, beside / size))):.0f}° beyond a "
            "quarter turn; the nearest quarter turn is taken"
        )
    return Orientation(turns, mirrored, remark)


def orientation_of(frame: VideoFrame) -> Orientation | None:
    """The orientation that comes with a frame; None where none does, and the stored picture is upright."""
    data = _side_data(frame, Type.DISPLAYMATRIX)
    return orientation_by(struct.unpack("=9i", data[:36])) if data is not None and len(data) >= 36 else None


LAYOUTS = (
    "none",
    "side by side",
    "top and bottom",
    "frame by frame",
    "checkerboard",
    "side by side, quincunx",
    "row by row",
    "column by column",
    "unknown",
)
"""libavutil's AVStereo3DType, in its order."""

SPLIT = ("side by side", "top and bottom", "row by row")
"""The layouts of which one eye is read. In all others the stored picture is read as it is, and the probe says so."""


@dataclass(frozen=True)
class Stereo:
    """How a frame holds the pictures of two eyes. ``layout``: one of ``LAYOUTS``."""

    layout: str = "none"
    left_first: bool = True
    """Whether the left eye has the left half, the upper half, or the even rows."""

    @property
    def is_split(self) -> bool:
        """Whether one eye is cut out of the stored picture."""
        return self.layout in SPLIT

    def cut(self, eye: str) -> tuple[str, str] | None:
        """(name, arguments) of libavfilter's filter that cuts one eye out without copying; None where none is cut."""
        half = 0 if (eye == "left") == self.left_first else 1
        if self.layout == "side by side":
            return "crop", f"w=iw/2:h=ih:x={half}*iw/2:y=0"
        if self.layout == "top and bottom":
            return "crop", f"w=iw:h=ih/2:x=0:y={half}*ih/2"
        if self.layout == "row by row":
            return "field", f"type={'bottom' if half else 'top'}"
        return None

    def eye_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) at which one eye is shown, of a stored picture of square pixels.

        Recorders store eyes at their full size (3840x1080) or squeezed into the frame of one (1920x1080). Nothing in
        the file says which; of the two shapes the one nearer to 3:2 is taken.
        """
        halved = {"side by side": (width // 2, height), "top and bottom": (width, height // 2)}.get(self.layout)
        if halved is None or min(halved) < 1:
            return width, height
        return min(halved, (width, height), key=lambda size: abs(np.log(size[0] / size[1] / 1.5)))


def stereo_of(frame: VideoFrame) -> Stereo | None:
    """The stereo layout that comes with a frame; None where none does."""
    data = _side_data(frame, Type.STEREO3D)
    if data is None or len(data) < 8:
        return None
    kind, flags = struct.unpack("=2i", data[:8])
    return Stereo(LAYOUTS[kind] if 0 <= kind < len(LAYOUTS) else "unknown", left_first=not flags & 1)


Filters = tuple[tuple[str, str], ...]
"""(name, arguments) of libavfilter's filters, one after another."""


def filter_graph(frame: VideoFrame, filters: Filters) -> Graph:
    """A graph of ``filters`` for frames like this one."""
    graph = Graph()
    graph.threads = 1  # else libavfilter starts a thread per core, whose stacks count against the decoder's memory
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    nodes = [graph.add(name, arguments) for name, arguments in filters]
    graph.link_nodes(source, *nodes, graph.add("buffersink")).configure()
    return graph


_KNOWN: set[Any] = {kind.value for kind in Type}
WITHOUT_UNKNOWN: Filters = tuple(
    ("sidedata", f"mode=delete:type={number}") for number in range(64) if number not in _KNOWN
)
"""Takes the kinds of side data off a frame that libavutil has and PyAV does not know, such as EXIF: where a frame has
such a kind, PyAV gives no side data at all."""


def _side_data(frame: VideoFrame, kind: Type) -> bytes | None:
    try:
        held: Any = frame.side_data  # PyAV's stub describes it as a dict of another content
    except ValueError:
        graph = filter_graph(frame, WITHOUT_UNKNOWN)
        graph.vpush(frame)
        held = graph.vpull().side_data
    return bytes(held[kind]) if kind in held else None
