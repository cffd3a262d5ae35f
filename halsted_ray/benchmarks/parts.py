"""Which videos of a benchmark teach, choose and judge: the official split, or the files that a person names."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from halsted_ray.atlas.formats.multibypass140 import names_of_pickle
from halsted_ray.atlas.formats.published_splits import PARTS
from halsted_ray.benchmarks.benchmark import Benchmark
from halsted_ray.benchmarks.data_set import DataSet
from halsted_ray.benchmarks.published_files import layout_of
from halsted_ray.errors import UsageError, first_line
from halsted_ray.storage.files import read_file
from halsted_ray.storage.locations import filesystem

LONGEST_BYTES = 200_000_000
PICKLED = b"\x80"
"""The first byte of a pickle since protocol 2."""


def parts_of(
    benchmark: Benchmark, data: DataSet, annotated: Collection[str], named: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Part → names of its videos, whether or not they are there.

    ``annotated``: the videos that the folder has annotations of. ``named``: part → a file with the names of its videos,
    in the place of the official split. Raises UsageError where the split is not known here and no file names it, or
    where a video is in two parts.
    """
    if named:
        if "test" not in named:
            raise UsageError("--train names videos without --test; name those that judge too")
        found = {part: read_names(file) for part, file in named.items()}
    elif benchmark.unknown:
        raise UsageError(f"the split of {benchmark.name} must be named: {benchmark.unknown}")
    else:
        said = {name: layout_of(benchmark.layout).part_of(data, name) for name in annotated}
        found = dict(benchmark.parts) or {part: tuple(n for n in annotated if said[n] == part) for part in PARTS}
        if benchmark.rest:
            stated = {name for own in found.values() for name in own}
            rest = tuple(n for n in annotated if n not in stated and said[n] == benchmark.rest)
            found = {**found, benchmark.rest: rest}
    seen: dict[str, str] = {}
    for part, own in found.items():
        for name in own:
            if seen.setdefault(name, part) != part:
                raise UsageError(f"video {name!r} is in the {seen[name]!r} part and in the {part!r} part; name it once")
    return {part: own for part, own in found.items() if own}


def read_names(location: str) -> tuple[str, ...]:
    """The names of videos in a file: one per line, or the keys of a split pickle as MultiBypass140 publishes them.

    A pickle is read as plain values alone, and nothing in it runs. Raises UsageError.
    """
    fs, path = filesystem(location)
    try:
        data = read_file(fs, path)
    except OSError as error:
        raise UsageError(f"split {location!r} can't be read: {first_line(error)}; name an existing file") from error
    if len(data) > LONGEST_BYTES:
        raise UsageError(f"split {location!r} has {len(data):,} bytes; expected {LONGEST_BYTES:,} at most")
    if data.startswith(PICKLED):
        found = names_of_pickle(data, f"split {location!r}")
    else:
        try:
            found = [line.strip() for line in data.decode("utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise UsageError(f"split {location!r} is not UTF-8 text; name a file with a video's name a line") from error
    if not found:
        raise UsageError(f"split {location!r} names no video; expected a name a line, or a split pickle")
    return tuple(dict.fromkeys(found))
