"""Finished segments of a run that is not published yet. Each is a file, whole or absent, so that after a kill the next
run goes on where this one was.

    <out>/staging/<recipe>/run.json
    <out>/staging/<recipe>/<video_id>/<segment_id>.<state>.json

The state stands in the name of the file, so that a listing alone says how far a run is. The same segment and recipe
give the same result, so it does not matter when a file is written twice. The files are JSON, because a file holds some
80 short rows: it is read ten times as fast as Parquet of that size. The name of the video's file is not in it, because
it can be a patient's name.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from halsted_ray.errors import OutputError, StorageUnavailable
from halsted_ray.maps.timeline import Gap, Unasked
from halsted_ray.records import UNKNOWN, Prediction, Segment
from halsted_ray.storage.files import REQUESTS_AT_ONCE, list_folder, read_file, remove_folder, write_atomically
from halsted_ray.storage.locations import filesystem, is_local
from halsted_ray.video.presence import without

STATES = ("done", "part", "fail")
"""All of the segment is mapped; some of it is a gap; all of it is a gap, or was not asked because of gaps."""


@dataclass(frozen=True)
class SegmentResult:
    """What became of one segment."""

    segment: Segment
    tags: list[Prediction]
    gaps: list[Gap]
    run_id: str
    new_vectors: int = 0
    """Number of vectors that were made from frames."""
    used_vectors: int = 0
    """Number of stored vectors that were used."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall seconds of the stages ``decode``, ``encode`` and ``tag``."""
    encoder: str = ""
    """Fingerprint of the encoder. This and the two fields below are '' in results that an earlier version of this
    package made."""
    encoder_size: str = ""
    """``Encoder.size_name``."""
    device: str = ""
    """``Encoder.device_name``: the device that encoded and tagged."""
    unasked: list[Unasked] = field(default_factory=list)
    """What a task was not asked, because too much of a window's time lies in ``gaps``, and what the model does not
    know."""

    @property
    def state(self) -> str:
        """One of ``STATES``."""
        if not self.gaps:
            return "done"
        if self.tags:
            return "part"
        lost = [(gap.start_s, gap.stop_s) for gap in self.gaps]
        lost += [(span.start_s, span.stop_s) for span in self.unasked if span.code != UNKNOWN]
        return "part" if without((self.segment.start_s, self.segment.stop_s), lost) else "fail"


@dataclass(frozen=True)
class MappingRun:
    """What ``run.json`` says about the run that is under way."""

    run_id: str
    recipe: str
    tasks: tuple[str, ...]
    segment_s: float
    started_ms: int
    again: tuple[str, ...] = ()
    """Ids of videos whose failed segments are tried again, since a file of them was written anew: the table of videos
    tells that to one run only, which may be killed before it has tried."""


class Staging:
    """The staged results of one recipe under ``out``."""

    def __init__(self, out: str, recipe: str):
        self.fs, root = filesystem(out)
        self.root = f"{root.rstrip('/')}/staging/{recipe}"

    def begin(self, run: MappingRun) -> None:
        """Notes the run that stages its results here from now on. Raises OutputError."""
        write_atomically(self.fs, f"{self.root}/run.json", json.dumps(asdict(run)).encode())

    def run(self) -> MappingRun | None:
        """The run that began here last, None where there is none, or where a power cut left its file empty."""
        try:
            described = json.loads(read_file(self.fs, f"{self.root}/run.json"))
        except (FileNotFoundError, ValueError):
            return None
        lists = {name: tuple(described.get(name, ())) for name in ("tasks", "again")}
        return MappingRun(**{**described, **lists})

    def write(self, result: SegmentResult) -> None:
        """Stages one finished segment. Raises OutputError."""
        segment = result.segment
        # `asdict` of the whole result would copy some 80 tags value by value, only for them to be replaced.
        text = json.dumps(
            {
                **vars(result),
                "segment": {**asdict(segment), "uri": ""},
                "gaps": [asdict(gap) for gap in result.gaps],
                "unasked": [asdict(span) for span in result.unasked],
                "tags": [[t.start_s, t.stop_s, t.task, t.tag, t.category, t.confidence] for t in result.tags],
            },
            ensure_ascii=False,
        )
        path = f"{self.root}/{segment.video_id}/{segment.segment_id}.{result.state}.json"
        write_atomically(self.fs, path, text.encode())

    def write_many(self, results: Sequence[SegmentResult]) -> None:
        """Stages finished segments, each as ``write`` does. To a remote store 16 are written at a time, since a request
        there takes some 30 ms. Raises OutputError."""
        if is_local(self.fs):
            for result in results:
                self.write(result)
        else:
            with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
                list(pool.map(self.write, results))

    def state_of(self, segment: Segment) -> str | None:
        """The state of one segment, None while it is not finished."""
        return self.states_of(segment.video_id).get(segment.segment_id)

    def states_of(self, video_id: str) -> dict[str, str]:
        """segment_id → state of the staged segments of one video, from one listing."""
        return self._states(f"{self.root}/{video_id}").get(video_id, {})

    def states(self) -> dict[str, dict[str, str]]:
        """video_id → segment_id → state of all staged segments, from one listing."""
        return self._states(self.root)

    def read(self, video_id: str) -> list[SegmentResult]:
        """Staged results of one video, in order of time. Their segments have no ``uri``.

        Raises OutputError where a result is damaged, as a power cut may leave it; it is removed, so that the next run
        makes it anew.
        """
        states = self.states_of(video_id)
        names = [f"{self.root}/{video_id}/{segment_id}.{state}.json" for segment_id, state in states.items()]
        if is_local(self.fs):
            found = {name: read_file(self.fs, name) for name in names}
        else:
            with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
                found = dict(zip(names, pool.map(lambda name: read_file(self.fs, name), names), strict=True))
        results = [self._parsed_or_removed(name, data) for name, data in found.items()]
        return sorted(results, key=lambda result: result.segment.start_s)

    def _parsed_or_removed(self, path: str, data: bytes) -> SegmentResult:
        try:
            return _parsed(data)
        except (ValueError, KeyError, TypeError) as error:
            with suppress(OSError):
                self.fs.rm_file(path)
            raise OutputError(
                f"the staged result {path!r} is damaged ({type(error).__name__}, {len(data):,} bytes), perhaps by a "
                "power cut; it was removed: give the same command again, and its segment is mapped anew"
            ) from None

    def drop(self, video_ids: list[str], run_goes_on: bool = False) -> None:
        """Removes the results of the videos ``video_ids``, which are published.

        Unless ``run_goes_on``, also removes the rest of the staging where no result is left in it.
        """
        for video_id in video_ids:
            remove_folder(self.fs, f"{self.root}/{video_id}")
        if not run_goes_on and not self.states():
            remove_folder(self.fs, self.root)

    def drop_failed(self, again: Collection[str] = ()) -> None:
        """Removes the failures that a run which was killed left here and that are to be tried again: all of the videos
        with an id in ``again``, and failures of other videos that came of a store that was away."""
        failures = [
            (video_id, f"{self.root}/{video_id}/{segment_id}.{state}.json")
            for video_id, states in self.states().items()
            for segment_id, state in states.items()
            if state != "done"
        ]

        def drop(video_id: str, path: str) -> None:
            try:
                gaps = [] if video_id in again else self._parsed_or_removed(path, read_file(self.fs, path)).gaps
            except OutputError:  # it was damaged, and is removed
                return
            if video_id in again or any(gap.code == StorageUnavailable.code for gap in gaps):
                self.fs.rm_file(path)

        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            list(pool.map(lambda failure: drop(*failure), failures))

    def _states(self, folder: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for path in list_folder(self.fs, folder, deep=True):
            *_, video_id, name = path.split("/")
            parts = name.split(".")
            if len(parts) == 3 and parts[1] in STATES and parts[2] == "json":
                found.setdefault(video_id, {})[parts[0]] = parts[1]
        return found


def stagings(out: str) -> Iterator[Staging]:
    """Every staging under ``out``: of a run under way, and of runs that were stopped."""
    fs, root = filesystem(out)
    for folder in sorted(list_folder(fs, f"{root.rstrip('/')}/staging")):
        yield Staging(out, folder.rstrip("/").rsplit("/", 1)[1])


def _parsed(data: bytes) -> SegmentResult:
    record = json.loads(data)
    record["segment"] = Segment(**record["segment"])
    record["tags"] = [Prediction(*row) for row in record["tags"]]
    record["gaps"] = [Gap(**gap) for gap in record["gaps"]]
    record["unasked"] = [Unasked(**span) for span in record.get("unasked", ())]
    return SegmentResult(**record)
