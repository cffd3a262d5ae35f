"""A segment becomes frames, or a reason why not: the CPU stage of the pipeline. No torch in here: a decoding actor
stays small and starts quickly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from halsted_ray.compute.priority import LOOK_EVERY_S, must_pause
from halsted_ray.errors import CorruptSegment, DecoderKilled, StorageUnavailable, VideoError
from halsted_ray.maps.staging import Staging
from halsted_ray.maps.timeline import Gap
from halsted_ray.profiling import ActorTimer, StageProfile
from halsted_ray.records import Segment, WindowSpec
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.windows import frame_times_s, windows_of

SEGMENT_SCHEMA = pa.schema(
    [
        ("segment_id", pa.string()),
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("start_s", pa.float64()),
        ("stop_s", pa.float64()),
        ("duration_s", pa.float64()),
    ]
)
DECODED_SCHEMA = pa.schema(
    [
        *SEGMENT_SCHEMA,
        ("frames", pa.large_binary()),
        ("gaps", pa.string()),
        ("profile", pa.string()),
    ]
)
"""``frames`` is uint8 [T, H, W, 3] at ``windows.frame_times_s``, null where nothing decoded; ``gaps`` and ``profile``
(``profiling.StageProfile.asdict``) are JSON."""

STORAGE_TRIES = 3
"""Each already waits a minute inside."""


class DecodeStage:
    """Table of segments in, the same rows with their frames out. Callable of Ray Data; nothing in it knows Ray.

    ``copies``: video_id → further files of that id. It is computed from samples of the content, so one of them can be
    damaged where another is whole.
    """

    def __init__(
        self,
        staging: tuple[str, str],
        spec: WindowSpec,
        image_size: tuple[int, int],
        fidelity: str,
        reader: str,
        memory_mb: int,
        deadline_s: float,
        retry_pause_s: float = 5.0,
        copies: Mapping[str, Sequence[str]] | None = None,
        process: Callable[..., DecodeProcess] = DecodeProcess,
    ):
        self.staging, self.spec, self.image_size = Staging(*staging), spec, tuple(image_size)
        self.fidelity, self.reader = fidelity, reader
        self.deadline_s, self.retry_pause_s = deadline_s, retry_pause_s
        self.copies = copies or {}
        self.process = process(memory_mb=memory_mb)
        self.shift = ActorTimer()

    def __call__(self, segments: pa.Table) -> pa.Table:
        rows = []
        for row in segments.to_pylist():
            segment = Segment(**row)
            if self.staging.state_of(segment):  # asked again after the actor behind it died: it is done
                rows.append({**row, "frames": None, "gaps": "[]", "profile": json.dumps(StageProfile().asdict())})
                continue
            with self.shift:
                images_NHWC, gaps = self.decode(segment)
            rows.append(
                {
                    **row,
                    "frames": images_NHWC,
                    "gaps": json.dumps([asdict(gap) for gap in gaps]),
                    "profile": json.dumps(self.shift.spent.asdict()),
                }
            )
        return _table(rows)

    def decode(self, segment: Segment) -> tuple[np.ndarray | None, list[Gap]]:
        """(uint8 [T, H, W, 3] or None, spans that could not be decoded). A damaged segment is decoded again coarse
        window by coarse window, so that only the damaged ones are lost."""
        times_s = frame_times_s(segment, self.spec)
        try:
            return self._read(segment, times_s), []
        except CorruptSegment as error:
            coarse, _ = windows_of(segment, self.spec)
            if len(coarse) == 1:
                return None, [_gap(segment, error)]
        except VideoError as error:
            return None, [_gap(segment, error)]
        images_NHWC = np.zeros((len(times_s), *self.image_size, 3), np.uint8)
        gaps = []
        for window in coarse:
            rows = (times_s >= window.start_s) & (times_s < window.stop_s)
            try:
                images_NHWC[rows] = self._read(segment, times_s[rows])
            except VideoError as error:
                gaps.append(_gap(window, error))
        return (None if len(gaps) == len(coarse) else images_NHWC), gaps

    def _read(self, segment: Segment, times_s: np.ndarray) -> np.ndarray:
        """From the first of the video's files that gives these frames."""
        errors = []
        for uri in (segment.uri, *self.copies.get(segment.video_id, ())):
            try:
                return self._read_from(uri, times_s)
            except VideoError as error:
                errors.append(error)
        # A copy that can't be fetched now may be whole: then this is worth another try.
        raise next((error for error in errors if not error.permanent), errors[0])

    def _read_from(self, uri: str, times_s: np.ndarray) -> np.ndarray:
        kills = outages = 0
        while True:
            try:
                return self.process.read_frames(
                    uri, times_s, self.image_size, self.fidelity, self.reader, deadline_s=self.deadline_s
                ).images_NHWC
            except DecoderKilled:  # once can be the machine's fault; twice is the video's
                kills += 1
                if kills == 2:
                    raise
            except StorageUnavailable:
                outages += 1
                if outages == STORAGE_TRIES:
                    raise
                time.sleep(self.retry_pause_s * 2**outages)


def _gap(span, error: VideoError) -> Gap:
    return Gap(span.start_s, span.stop_s, error.code, str(error))


def _table(rows: list[dict]) -> pa.Table:
    columns = {name: [row[name] for row in rows] for name in DECODED_SCHEMA.names if name != "frames"}
    frames = [row["frames"] for row in rows]
    if len(rows) == 1 and frames[0] is not None:  # the frames are handed over without a copy
        offsets = pa.py_buffer(np.array([0, frames[0].nbytes], np.int64))
        columns["frames"] = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), 1, [None, offsets, pa.py_buffer(np.ascontiguousarray(frames[0]))]
        )
    else:
        columns["frames"] = pa.array([None if f is None else f.tobytes() for f in frames], pa.large_binary())
    return pa.table(columns, schema=DECODED_SCHEMA)


def segments_table(segments: list[Segment]) -> pa.Table:
    return pa.Table.from_pylist([asdict(segment) for segment in segments], schema=SEGMENT_SCHEMA)


class YieldingDecodeStage(DecodeStage):
    """Decodes like its parent, but not while a run of priority high is at work."""

    def __call__(self, segments):
        while must_pause():
            time.sleep(LOOK_EVERY_S)
        return super().__call__(segments)
