"""Where the pictures of a recording lie, from one pass over its packets: its takes, keyframes and holes.

A container without a table of keyframes that can be trusted says nothing about its whole until every packet was read:
its clock may start again, jump or wrap, its keyframes are where the packets say, and its end is where the packets end.
The pass decodes nothing. It costs 8 µs per packet (one second per hour of video at 30 frames/s) and reads the file
once; its result is kept with the inventory, so that later seeks land at the keyframe at once.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from fractions import Fraction

    from halsted_ray.video.container import VideoPacket

JUMP_AHEAD_S = 10.0
"""A clock that moves on by more than this from one packet to the next was set anew, in containers whose clock may be
interrupted (MPEG-TS and PS). FFmpeg has the same limit (``dts_delta_threshold``)."""

LONGEST_PAUSE_S = 3600.0
"""In all other containers the clock counts as right. A step of more than this is a clock that was set."""

JUMP_BACK_S = 0.5
"""A clock that moves back by more than this was started again. Smaller steps back are guesses of libavformat (MPEG-PS
states a time once per pack of 2 KB)."""

HOLE_S = 2.0
HOLE_STEPS = 8
"""Where no frame was recorded for this many seconds, and for as many times the usual step from frame to frame, the
recorder was paused or packets were lost. Such a stretch has no picture. A shorter one shows the last picture."""

LONGEST_STILL_S = 300.0
"""No picture stands longer than this, however far apart the frames usually are: a file of 30 kB with a frame per hour
would else be a month of pictures to map."""

WRONG_IN_A_ROW = 8
"""So many jumps of the clock in a row may be damage, where the clock then goes on as before them."""

LEAD_BYTES = 128 * 1024
"""How far before a keyframe reading begins where a container can't be entered at the keyframe itself."""

STEPS_COUNTED = 100_000
"""Steps from frame to frame whose median is the usual step: of the first hour."""

MAX_BYTES = 256 * 1024 * 1024
"""A larger index is not read: it would list 8,000,000 keyframes, three days of intra-only video."""

MAX_PACKED_BYTES = 64 * 1024 * 1024
"""A larger index is not kept either. As bytes, 8,000,000 keyframes take about 40 MB."""


def hole_s(step_s: float) -> float:
    """The longest time for which a frame may stand, where frames usually follow each other every ``step_s``."""
    return max(HOLE_S, min(HOLE_STEPS * step_s, LONGEST_STILL_S))


@dataclass(frozen=True)
class Take:
    """A stretch of a recording in which one clock runs. Times are ticks of the stream on the video's own axis, on which
    the takes lie one after another."""

    first_byte: int
    """Its packets begin here, as far as the container says."""
    shift: int
    """The packets' times plus this are times on the axis."""
    start: int
    stop: int


@dataclass(frozen=True)
class PacketIndex:
    """What one pass over the packets found. Times are ticks of the stream on the video's own axis."""

    takes: tuple[Take, ...]
    keys: NDArray[np.int64]
    """int64 [K, 4], rising: a keyframe's pts, the byte of its packet (-1 where unknown), the byte from which to read so
    that the packet is read whole, the size of its packet."""
    holes: tuple[tuple[int, int], ...]
    """``[start, stop)`` of the stretches within takes in which no frame was recorded."""
    step: int
    """The median step from frame to frame."""
    packets: int
    stop_byte: int = 0
    """The byte after the last packet, as far as the container says."""

    @property
    def stop(self) -> int:
        """The end of the last frame."""
        return self.takes[-1].stop

    def before(self, pts: int) -> int | None:
        """The row of the last keyframe displayed at or before ``pts``; None where there is none."""
        row = int(np.searchsorted(self.keys[:, 0], pts, side="right")) - 1
        return row if row >= 0 else None

    def take_at(self, byte: int) -> Take:
        """The take to which the packet at ``byte`` belongs."""
        return self.takes[max(0, bisect_right(self._first_bytes, byte) - 1)]

    @cached_property
    def _first_bytes(self) -> list[int]:
        return [take.first_byte for take in self.takes]

    def to_bytes(self) -> bytes:
        """The index as bytes, a few KB per hour of video; ``from_bytes`` reads them."""
        head = {
            "takes": [[take.first_byte, take.shift, take.start, take.stop] for take in self.takes],
            "holes": self.holes,
            "step": self.step,
            "packets": self.packets,
            "stop_byte": self.stop_byte,
            "keys": len(self.keys),
        }
        deltas = np.diff(self.keys, axis=0, prepend=np.zeros((1, 4), np.int64))
        return json.dumps(head).encode() + b"\n" + zlib.compress(deltas.astype("<i8").T.tobytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> PacketIndex:
        """Raises ValueError where ``data`` is no index, or the index of another version."""
        text, _, packed = data.partition(b"\n")
        try:
            head = json.loads(text)
            deltas = np.frombuffer(zlib.decompressobj().decompress(packed, MAX_BYTES), "<i8").reshape(4, head["keys"])
            found = cls(
                takes=tuple(Take(*map(int, values)) for values in head["takes"]),
                keys=np.cumsum(deltas.T, axis=0, dtype=np.int64),
                holes=tuple((int(start), int(stop)) for start, stop in head["holes"]),
                step=int(head["step"]),
                packets=int(head["packets"]),
                stop_byte=int(head["stop_byte"]),
            )
        except (zlib.error, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"expected a packet index, got bytes that are none ({type(error).__name__})") from None
        if not found.takes:
            raise ValueError("expected a packet index, got an index without a take")
        return found


@dataclass
class IndexSlot:
    """The index of an earlier pass over a file's packets; or the place where a new one is put.

    ``on_lead`` is called with the seconds of video that must be decoded before the first wanted frame, where these are
    many: a file with one keyframe is decoded from its start. ``on_fallback`` is called with the reason why the reader
    ``nvdec`` hands the video to the CPU.
    """

    index: PacketIndex | None = None
    on_lead: Callable[[float], None] = lambda lead_s: None
    on_fallback: Callable[[str], None] = lambda reason: None


@dataclass
class _Stretch:
    """Packets whose times follow each other without a jump, in ticks as the container states them."""

    first_byte: int
    restarted: bool
    """Whether the clock went back before the first packet."""
    first_pts: int
    last_pts: int
    first_dts: int
    last_dts: int
    last_length: int = 0
    keys: list[tuple[int, int, int, int]] = field(default_factory=list)

    def add(self, pts: int, dts: int, length: int) -> None:
        self.last_dts = dts
        self.first_pts = min(self.first_pts, pts)
        if pts >= self.last_pts:
            self.last_pts, self.last_length = pts, length


def index_packets(
    packets: Iterable[VideoPacket],
    time_base: Fraction,
    may_restart: bool,
    is_key: Callable[[VideoPacket], bool],
) -> PacketIndex | None:
    """Indexes ``packets``, all packets of a video stream in the order of the file; None where none has a time.

    ``may_restart``: whether the container's clock may be interrupted (``JUMP_AHEAD_S``).
    """
    second = 1 / float(time_base)
    stretches: list[_Stretch] = []
    steps: list[int] = []
    earlier: deque[int] = deque([0])
    back = round(JUMP_BACK_S * second)
    count = stop_byte = 0
    for packet in packets:
        count += 1
        byte = packet.pos
        if byte is not None:
            stop_byte = max(stop_byte, byte + packet.size)
            earlier.append(byte)
            while len(earlier) > 1 and byte - earlier[1] >= LEAD_BYTES:
                earlier.popleft()
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is None:  # the second field of the picture before
            continue
        last = stretches[-1] if stretches else None
        # Matroska has no decoding times; libavformat knows them from the third or fourth packet on, and after a jump
        # of the clock from the second.
        dts = packet.dts if packet.dts is not None else last.last_dts if last else pts
        step = dts - last.last_dts if last else 0
        if last is None or abs(step) > back or pts - last.last_pts > back:
            last = _Stretch(stop_byte if byte is None else byte, step < -back, pts, pts, dts, dts)
            stretches.append(last)
        elif step > 0 and len(steps) < STEPS_COUNTED:
            steps.append(step)
        last.add(pts, dts, packet.duration or 0)
        if is_key(packet):
            last.keys.append((pts, -1 if byte is None else byte, earlier[0], packet.size))
    if not stretches:
        return None
    if not steps and count > 1 and len(stretches) == 1:  # so few packets that libavformat knows no time of decoding
        steps = [(stretches[-1].last_pts - stretches[0].first_pts) // (count - 1)]
    return replace(_join(stretches, steps, second, may_restart), packets=count, stop_byte=stop_byte)


def _join(stretches: list[_Stretch], steps: list[int], second: float, may_restart: bool) -> PacketIndex:
    """Lays the stretches on one axis: as holes of one take, or as takes one after another."""
    pauses = [later.first_pts - earlier.last_pts for earlier, later in zip(stretches, stretches[1:], strict=False)]
    # The steps over holes are steps too where most frames are that far apart.
    long_steps = [pause for pause in pauses if 0 < pause < LONGEST_PAUSE_S * second]
    if 2 * len(long_steps) >= len(pauses):
        steps += long_steps
    elif not steps:  # the time of every frame is damaged
        steps += [stretch.last_length for stretch in stretches if stretch.last_length > 0]
    step = int(np.median(steps)) if steps else 0
    hole = hole_s(step / second) * second
    jump_s = max(JUMP_AHEAD_S, HOLE_STEPS * step / second) if may_restart else LONGEST_PAUSE_S
    takes: list[Take] = []
    holes: list[tuple[int, int]] = []
    keys: list[tuple[int, int, int, int]] = []
    shifts: list[int] = []
    before = _wrong_clocks(stretches, round(HOLE_S * second))
    for number, stretch in enumerate(stretches):
        pause = pauses[number - 1] if number else 0
        if not takes or stretch.restarted or pause > jump_s * second or number in before:
            shift = takes[-1].stop - stretch.first_pts if takes else 0
            if (goes_on_from := before.get(number)) is not None:
                shift = shifts[goes_on_from]
            takes.append(Take(stretch.first_byte, shift, stretch.first_pts + shift, stretch.first_pts + shift))
        elif pause > hole and stretch.first_pts + takes[-1].shift > takes[-1].stop:
            # Where single frames lie so far apart and are reordered, a later packet may be displayed before it.
            holes.append((takes[-1].stop, stretch.first_pts + takes[-1].shift))
        take = takes[-1]
        shifts.append(take.shift)
        # Some containers state a length of one tick.
        length = min(stretch.last_length if 2 * stretch.last_length >= step else step, round(hole))
        stop = max(take.stop, stretch.last_pts + length + take.shift)
        takes[-1] = Take(take.first_byte, take.shift, min(take.start, stretch.first_pts + take.shift), stop)
        keys += [(pts + take.shift, byte, lead, size) for pts, byte, lead, size in stretch.keys]
    rows = np.array(keys, np.int64).reshape(-1, 4)
    return PacketIndex(tuple(takes), rows[np.argsort(rows[:, 0], kind="stable")], tuple(holes), step, 0)


def _wrong_clocks(stretches: list[_Stretch], near: int) -> dict[int, int | None]:
    """Where the times of a few packets are damaged and the clock then goes on as before: number of a stretch with
    damaged times → None, number of the stretch after them → that of the stretch whose clock it goes on with.

    Else the rest of the recording would be moved by as much as the damaged times are wrong. ``near``: ticks in which
    the clock goes on, and that the damaged packets may last.
    """
    found: dict[int, int | None] = {}
    for number in range(2, len(stretches)):
        for earlier in range(number - 2, max(-1, number - 2 - WRONG_IN_A_ROW), -1):
            between = stretches[earlier + 1 : number]
            if between[0].last_pts - between[0].first_pts > near:
                break
            if earlier in found and found[earlier] is None:
                continue
            if not any(stretch.restarted for stretch in stretches[earlier + 1 : number + 1]):
                continue  # frames that are usually so far apart
            if 0 < stretches[number].first_dts - stretches[earlier].last_dts <= near:
                found |= dict.fromkeys(range(earlier + 1, number))
                found[number] = earlier
                break
    return found
