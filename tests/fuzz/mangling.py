"""From a whole file and a seed to a mangled file: one to four changes, each at bytes, pieces, numbers or time stamps.

Each change has a seed of its own, so any of them can be left out and the others stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fuzz.pieces import PARSERS, TICKS_A_SECOND, Piece, float_bytes, put, stamps
from fuzz.whole_files import Whole, whole_files

Rng = np.random.Generator
INTERESTING = (0, 1, 2, 7, 8, 127, 255, 256, 65_535, 65_536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32)
LARGEST = 4 * 1024 * 1024
"""Bytes: no file grows beyond this."""


@dataclass(frozen=True)
class Change:
    """One change of a case: ``name`` of CHANGES, and the seed that decides where and how."""

    name: str
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One mangled file: the whole file that it comes from, and the changes, first to last."""

    number: int
    whole: Whole
    changes: tuple[Change, ...]

    def data(self) -> bytes:
        """Its bytes."""
        data = bytearray(self.whole.data)
        for change in self.changes:
            CHANGES[change.name](data, self.whole.container, np.random.default_rng(change.seed))
            del data[LARGEST:]
        return bytes(data)

    def told(self) -> str:
        """What it is, in words."""
        return f"{self.whole.name}: {' + '.join(change.name for change in self.changes)}"


def case(seed: int, number: int, containers: tuple[str, ...] = ()) -> Case:
    """The case ``number`` of a seed; ``containers``: names of ``whole_files`` or of parsers that it comes from."""
    rng = np.random.default_rng([seed, number])
    files = [f for f in whole_files() if not containers or f.name in containers or f.container in containers]
    whole = files[int(rng.integers(len(files)))]
    names = [name for name in CHANGES if name not in TIMED or whole.container in TICKS_A_SECOND]
    weights = np.array([WEIGHTS.get(name, 1.0) for name in names])
    count = 1 + int(rng.choice(4, p=[0.55, 0.25, 0.12, 0.08]))
    picked = [str(name) for name in rng.choice(names, count, p=weights / weights.sum())]
    return Case(number, whole, tuple(Change(name, (seed, number, place)) for place, name in enumerate(picked)))


def flip_bits(data: bytearray, _container: str, rng: Rng) -> None:
    """Some bits, anywhere or near each other."""
    if not data:
        return
    first = int(rng.integers(len(data)))
    for _ in range(int(rng.integers(1, 40))):
        at = int(rng.integers(len(data))) if rng.random() < 0.5 else min(len(data) - 1, first + int(rng.integers(200)))
        data[at] ^= 1 << int(rng.integers(8))


def overwrite(data: bytearray, _container: str, rng: Rng) -> None:
    """A run of bytes becomes zeros, ones or noise: a bad sector."""
    if data:
        at, length = int(rng.integers(len(data))), int(rng.choice([1, 4, 100, 512, 4096, 20_000]))
        length = min(length, len(data) - at)
        data[at : at + length] = (bytes(length), b"\xff" * length, rng.bytes(length))[int(rng.integers(3))]


def delete_bytes(data: bytearray, _container: str, rng: Rng) -> None:
    """A run of bytes is gone."""
    if data:
        at = int(rng.integers(len(data)))
        del data[at : at + int(rng.choice([1, 3, 188, 1000, 4096, 30_000]))]


def insert_bytes(data: bytearray, _container: str, rng: Rng) -> None:
    """A run of zeros or noise is put in."""
    at, length = int(rng.integers(len(data) + 1)), int(rng.choice([1, 3, 188, 1000, 4096]))
    data[at:at] = bytes(length) if rng.random() < 0.5 else rng.bytes(length)


def repeat_bytes(data: bytearray, _container: str, rng: Rng) -> None:
    """A run of bytes stands a second time, there or elsewhere."""
    if data:
        at = int(rng.integers(len(data)))
        run = data[at : at + int(rng.choice([4, 188, 2048, 20_000]))]
        to = at if rng.random() < 0.5 else int(rng.integers(len(data)))
        data[to:to] = run


def cut_end(data: bytearray, _container: str, rng: Rng) -> None:
    """The copy stopped."""
    del data[int(rng.integers(len(data) + 1)) :]


def cut_start(data: bytearray, container: str, rng: Rng) -> None:
    """The first packets are gone, or some bytes."""
    at = int(rng.integers(len(data) + 1) * rng.random())
    del data[: at // 188 * 188 if container == "ts" else at]


def pad_end(data: bytearray, _container: str, rng: Rng) -> None:
    """Zeros or noise after the end: a file that was allocated before it was written."""
    length = int(rng.choice([1, 100, 5_000, 100_000, 2_000_000]))
    data += bytes(length) if rng.random() < 0.7 else rng.bytes(min(length, 100_000))


def append_other(data: bytearray, container: str, rng: Rng) -> None:
    """Another file of the same container, or of any, follows."""
    others = [whole for whole in whole_files() if whole.container == container or rng.random() < 0.1]
    data += others[int(rng.integers(len(others)))].data


def zero_middle(data: bytearray, _container: str, rng: Rng) -> None:
    """Blocks of 4 KB that were never written."""
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(data) // 4096 + 1)) * 4096
        length = len(data[at : at + 4096])
        data[at : at + length] = bytes(length)


def _pieces(data: bytearray, container: str, rng: Rng, least_depth: int = 0) -> list[Piece]:
    found = list(PARSERS[container](bytes(data)))
    if not found:
        return []
    # By names, since a file has hundreds of packets and few headers.
    names = sorted({piece.name for piece in found})
    if len(names) > 1 and rng.random() < 0.6:
        name = names[int(rng.integers(len(names)))]
        found = [piece for piece in found if piece.name == name]
    return [piece for piece in found if len(piece.parents) >= least_depth] or found


def _one(pieces: list[Piece], rng: Rng) -> Piece:
    return pieces[int(rng.integers(len(pieces)))]


def _resize(data: bytearray, piece: Piece, by: int, container: str) -> None:
    """The pieces around it say the new length, where their size fields have room for it."""
    for start, stop in piece.parents:
        width = stop - start
        order = "big" if piece.big_endian else "little"
        mark = 1 << 7 * width if container == "mkv" else 0
        value = int.from_bytes(data[start:stop], order)
        if mark and value == 2 * mark - 1:
            continue  # unknown
        if 0 <= value + by < (2 * mark - 1 if mark else 1 << 8 * width):
            put(data, start, value + by, width, piece.big_endian)


def drop_pieces(data: bytearray, container: str, rng: Rng) -> None:
    """Some pieces are gone; those around them mostly know."""
    for _ in range(int(rng.choice([1, 1, 1, 3, 12]))):
        if pieces := _pieces(data, container, rng):
            piece = _one(pieces, rng)
            if rng.random() < 0.7:
                _resize(data, piece, piece.start - piece.stop, container)
            del data[piece.start : piece.stop]


def drop_run(data: bytearray, container: str, rng: Rng) -> None:
    """Pieces that follow one another are gone."""
    if pieces := [piece for piece in PARSERS[container](bytes(data)) if piece.name not in ("moov", "18538067", "RIFF")]:
        first = int(rng.integers(len(pieces)))
        last = pieces[min(len(pieces) - 1, first + int(rng.integers(1, 80)))]
        if last.stop > pieces[first].start:
            _resize(data, pieces[first], pieces[first].start - last.stop, container)
            del data[pieces[first].start : last.stop]


def duplicate_piece(data: bytearray, container: str, rng: Rng) -> None:
    """A piece stands twice, or many times."""
    if pieces := _pieces(data, container, rng):
        piece, times = _one(pieces, rng), int(rng.choice([1, 1, 1, 2, 20]))
        body = bytes(data[piece.start : piece.stop])
        if len(body) * times < LARGEST:
            if rng.random() < 0.7:
                _resize(data, piece, len(body) * times, container)
            data[piece.stop : piece.stop] = body * times


def swap_pieces(data: bytearray, container: str, rng: Rng) -> None:
    """Two pieces change places."""
    for _ in range(int(rng.choice([1, 1, 4, 20]))):
        if pieces := _pieces(data, container, rng):
            a, b = sorted((_one(pieces, rng), _one(pieces, rng)), key=lambda piece: piece.start)
            if a.stop <= b.start:
                moved = data[b.start : b.stop] + data[a.stop : b.start] + data[a.start : a.stop]
                data[a.start : b.stop] = moved


def move_tail(data: bytearray, container: str, rng: Rng) -> None:
    """What follows a piece comes before what precedes it: takes in another order."""
    if len(pieces := [piece for piece in PARSERS[container](bytes(data)) if len(piece.parents) <= 1]) > 4:
        a, b, c = sorted(rng.choice(len(pieces), 3, replace=False))
        first, middle, last = pieces[a].start, pieces[b].start, pieces[c].start
        data[first:last] = data[middle:last] + data[first:middle]


def change_size(data: bytearray, container: str, rng: Rng) -> None:
    """A piece claims another length."""
    if pieces := [piece for piece in _pieces(data, container, rng) if piece.size[1] > piece.size[0]]:
        piece = _one(pieces, rng)
        start, stop = piece.size
        width, length = stop - start, piece.stop - piece.start
        near = length + int(rng.integers(-20, 21))
        number = near if rng.random() < 0.4 else int(rng.choice(INTERESTING))
        if container == "mkv" and rng.random() < 0.8:
            number = 1 << 7 * width | number % (1 << 7 * width)
        put(data, start, number, width, piece.big_endian)


def change_kind(data: bytearray, container: str, rng: Rng) -> None:
    """A piece claims to be of another kind, or of none: a PID, a box's name, a stream's number, continuity."""
    for _ in range(int(rng.choice([1, 1, 5]))):
        pieces = [piece for piece in _pieces(data, container, rng) if piece.kind[1] > piece.kind[0]]
        if not pieces:
            return
        piece, other = _one(pieces, rng), _one(pieces, rng)
        start, stop = piece.kind
        if rng.random() < 0.5:
            everywhere = list(PARSERS[container](bytes(data)))
            other = _one(everywhere, rng)
        if other.kind[1] - other.kind[0] == stop - start and rng.random() < 0.8:
            data[start:stop] = data[other.kind[0] : other.kind[1]]
        else:
            data[start:stop] = rng.bytes(stop - start)
        if container in ("ts", "m2ts") and rng.random() < 0.5:
            data[stop] = int(rng.integers(256))  # continuity counter, and which fields follow


def change_numbers(data: bytearray, container: str, rng: Rng) -> None:
    """Numbers in tables and headers: counts, times, offsets, sizes of pictures; zero, huge, negative, near."""
    for _ in range(int(rng.choice([1, 1, 2, 6]))):
        if not (pieces := [piece for piece in _pieces(data, container, rng) if piece.stop > piece.body]):
            return
        piece = _one(pieces, rng)
        length = piece.stop - piece.body
        if length <= 8 and rng.random() < 0.7:
            at, width = piece.body, length
        else:
            width = int(rng.choice([1, 2, 4, 4, 4, 8]))
            step = width if rng.random() < 0.8 else 1
            at = piece.body + int(rng.integers(max(1, min(length, 400) // step))) * step
        old = int.from_bytes(data[at : at + width], "big" if piece.big_endian else "little")
        new = (
            int(rng.choice(INTERESTING)),
            -int(rng.choice(INTERESTING)),
            old + int(rng.integers(-3, 4)),
            old * int(rng.choice([2, 10, 1000])),
            old // int(rng.choice([2, 10, 1000])),
            int(rng.integers(1 << 62)),
        )[int(rng.integers(6))]
        put(data, at, new, width, piece.big_endian)


def change_table(data: bytearray, container: str, rng: Rng) -> None:
    """Every number of a table, or every n-th, by the same rule."""
    if not (pieces := [piece for piece in _pieces(data, container, rng, 1) if piece.stop - piece.body >= 16]):
        return
    piece = _one(pieces, rng)
    width, every = int(rng.choice([2, 4, 8])), int(rng.integers(1, 5))
    order = "big" if piece.big_endian else "little"
    number, by = int(rng.choice(INTERESTING)), int(rng.choice([-1000, -1, 1, 1000, 90_000]))
    rule = int(rng.integers(3))
    for at in range(piece.body + width * int(rng.integers(3)), min(piece.stop, piece.body + 8000), width * every):
        old = int.from_bytes(data[at : at + width], order)
        new = (number, old + by, int(rng.integers(1 << 31)))[rule]
        put(data, at, new, width, piece.big_endian)


def change_float(data: bytearray, container: str, rng: Rng) -> None:
    """A declared length becomes nothing, negative, huge, infinite or no number."""
    if container in ("flv", "mkv"):
        mark = b"duration\0" if container == "flv" else b"\x44\x89\x88"
        at = data.find(mark)
        if at >= 0:
            at += len(mark)
            number = float(rng.choice([0.0, -1.0, 0.3, 1e3, 1e5, 1e9, 1e18, 1e300, np.inf, np.nan]))
            data[at : at + 8] = float_bytes(number, True)
            return
    change_numbers(data, container, rng)


def noise_in_piece(data: bytearray, container: str, rng: Rng) -> None:
    """The inside of a piece becomes noise or zeros, and its head stays."""
    for _ in range(int(rng.choice([1, 1, 3, 30]))):
        if pieces := [piece for piece in _pieces(data, container, rng) if piece.stop > piece.body]:
            piece = _one(pieces, rng)
            start = piece.body + int(rng.integers(piece.stop - piece.body) * rng.random())
            stop = min(piece.stop, start + int(rng.choice([16, 400, 20_000])))
            data[start:stop] = rng.bytes(stop - start) if rng.random() < 0.7 else bytes(stop - start)


def shift_clock(data: bytearray, container: str, rng: Rng) -> None:
    """From some packet on, the clock is another: it jumps ahead or back, by a frame or by hours."""
    if found := stamps(bytes(data), container):
        by_s = float(rng.choice([-4e4, -3600, -20, -3, -0.5, -0.04, 0.04, 0.5, 3, 8, 20, 600, 3600, 4e4]))
        by = round(by_s * TICKS_A_SECOND[container])
        first = int(rng.integers(len(found)))
        stop = len(found) if rng.random() < 0.7 else first + int(rng.integers(1, 60))
        for stamp in found[first:stop]:
            stamp.write(data, stamp.read(data) + by)


def jitter_clock(data: bytearray, container: str, rng: Rng) -> None:
    """Some stamps are noise, zero, or the same."""
    if found := stamps(bytes(data), container):
        rule = int(rng.integers(4))
        same = found[int(rng.integers(len(found)))].read(data)
        share = float(rng.choice([0.02, 0.3, 1.0]))
        spread = float(rng.choice([0.02, 0.5, 30.0])) * TICKS_A_SECOND[container]
        for stamp in found:
            if rng.random() < share:
                noise = round(float(rng.normal()) * spread)
                new = (stamp.read(data) + noise, 0, same, int(rng.integers(1 << 33)))[rule]
                stamp.write(data, new)


def stretch_clock(data: bytearray, container: str, rng: Rng) -> None:
    """The clock runs too fast, too slow, or backwards."""
    if found := stamps(bytes(data), container):
        first, by = found[0].read(data), float(rng.choice([-1.0, 0.0, 0.01, 0.5, 3.0, 100.0, 20_000.0]))
        for stamp in found:
            stamp.write(data, round(first + (stamp.read(data) - first) * by))


CHANGES: dict[str, Callable[[bytearray, str, Rng], None]] = {
    change.__name__: change
    for change in (
        flip_bits,
        overwrite,
        delete_bytes,
        insert_bytes,
        repeat_bytes,
        cut_end,
        cut_start,
        pad_end,
        append_other,
        zero_middle,
        drop_pieces,
        drop_run,
        duplicate_piece,
        swap_pieces,
        move_tail,
        change_size,
        change_kind,
        change_numbers,
        change_table,
        change_float,
        noise_in_piece,
        shift_clock,
        jitter_clock,
        stretch_clock,
    )
}
TIMED = {"shift_clock", "jitter_clock", "stretch_clock"}
WEIGHTS = {"change_numbers": 4.0, "change_table": 2.0, "drop_pieces": 2.0, "shift_clock": 2.0}
"""The most is found where numbers and pieces change; every other change has the weight 1."""
