"""A segment becomes its frames, or the reasons why not: the CPU stage of the pipeline.

Nothing here imports torch, so that a decoding actor stays small and starts quickly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from halsted_ray.compute.priority import pause_for_high_priority
from halsted_ray.compute.resources import ActorResources
from halsted_ray.embedding.stage_schemas import DECODED_SCHEMA, SEGMENT_SCHEMA, decoded_table, segments_in
from halsted_ray.errors import DecoderKilled, StorageUnavailable, VideoError
from halsted_ray.maps.packet_indexes import PacketIndexes
from halsted_ray.maps.staging import Staging
from halsted_ray.maps.timeline import Gap
from halsted_ray.profiling import ActorTimer, StageProfile
from halsted_ray.records import Segment, WindowSpec
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.decoder_tally import CPU, NVDEC, DecoderCount, DecoderTally
from halsted_ray.video.frames import UNRECORDED, Frames, Missing
from halsted_ray.video.hybrid_process import HybridProcess
from halsted_ray.video.nvdec_slots import NvdecSlots, RunCount, gpus_here
from halsted_ray.video.readers import AUTO
from halsted_ray.video.windows import frame_times_s

STORAGE_TRIES = 3
"""Each try already waits for a minute inside."""
TRIES_OF_A_KILLED_DECODER = 2
"""A decoder that dies once can be the fault of the machine; a second time it is the fault of the video."""
COMPARED = 4
"""So many pictures of a copy are compared with those of the file that it stands in for."""
OTHER_GREY = 8.0
"""Pictures that differ by more grey levels in the mean are of other recordings. Those of NVDEC and of the CPU differ by
0.01 in the mean."""


@dataclass(frozen=True)
class DecodeOptions:
    """What the decoding actors of a run need to know."""

    out: str | None
    """Where the maps lie: a segment that is staged there already is not decoded. The packet indexes that lie there are
    used, where no maps are made too. None where nothing lies."""
    recipe: str
    """Digest of the ``MappingRecipe``; '' where no maps are made."""
    spec: WindowSpec
    image_size: tuple[int, int]
    """(height, width) that the encoder wants."""
    fidelity: str = "reference"
    reader: str = "pyav"
    eye: str = "left"
    memory_mb: int = 1024
    """Limit of the decoding process."""
    deadline_s: float = 600.0
    """Decoding of one segment that takes longer is killed. Waiting for a store does not count."""
    copies: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """video_id → further files with this id. It is computed from samples of the content, so that one of the files can
    be damaged where another is whole."""
    run: str = ""
    segments: int = 0
    """A name that no other run has, and how many segments the run decodes. On several machines each begins fewer; then
    cores wait for NVDEC less than would pay."""
    yields: bool = False
    """Whether the actor pauses between segments while a run of priority high is at work on the cluster."""
    retry_pause_s: float = 5.0
    """Seconds before the second try to reach a store, doubled with each further try."""


class DecodeStage:
    """Table of segments in, the same rows with their frames out. A callable for Ray Data that knows nothing of Ray.

    ``process`` makes the decoding process; tests replace it.
    """

    input_schema = SEGMENT_SCHEMA
    output_schema = DECODED_SCHEMA
    resources = ActorResources(cpus=1.0, gpus=0.0, memory_mb=210)

    def __init__(self, options: DecodeOptions, process: Callable[..., DecodeProcess] = DecodeProcess):
        self.options = options
        self.staging = Staging(options.out, options.recipe) if options.out and options.recipe else None
        self.indexes = PacketIndexes(options.out) if options.out else None
        self.reader = "pyav" if options.reader == AUTO else options.reader
        self.decoders = DecoderTally()
        """Who decoded the segments of this actor."""
        self.hybrid = hybrid_process(options, process) if options.reader in (AUTO, "nvdec") else None
        if self.hybrid:
            self.decoders = self.hybrid.decoders
        else:
            self.process = process(memory_mb=options.memory_mb)
        self.timer = ActorTimer()
        self._hole: tuple[str, Missing] | None = None
        """(video_id, the last stretch in which its recorder wrote nothing), where no copy could fill it."""

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows of SEGMENT_SCHEMA in, rows of DECODED_SCHEMA out, in the same order.

        A segment that is staged already comes back without frames and without gaps: its decoding was asked for a
        second time because the actor behind this one died. So does a segment of which no window is wanted.
        """
        if self.options.yields:
            pause_for_high_priority()
        segments = segments_in(table)
        frames: list[np.ndarray | None] = []
        gaps: list[list[Gap]] = []
        profiles: list[StageProfile] = []
        decoded_by: list[list[DecoderCount]] = []
        for segment in segments:
            if segment.windows == () or (self.staging and self.staging.state_of(segment)):
                images_NHWC, of_segment, profile = None, list[Gap](), StageProfile()
            else:
                with self.timer:
                    images_NHWC, of_segment = self.decode(segment)
                profile = self.timer.spent
            frames.append(images_NHWC)
            gaps.append(of_segment)
            profiles.append(profile)
            decoded_by.append(self.decoders.take())
        return decoded_table(segments, frames, gaps, profiles, decoded_by)

    def close(self) -> None:
        """Ends the decoding processes, and gives a session of NVDEC back."""
        (self.hybrid or self.process).close()

    def decode(self, segment: Segment) -> tuple[np.ndarray | None, list[Gap]]:
        """(frames, gaps) of one segment: uint8 [T, H, W, 3], or None where no time has a picture; and the spans of the
        segment without picture, in order. Nothing is opened for a segment inside a hole that an earlier one has found.

        ``video.windows.has_picture`` tells from the gaps which times have a picture. The other times are zeros.
        """
        times_s = frame_times_s(segment, self.options.spec)
        # The next segment's first frame tells of damage after this segment's last frame. It costs a frame of some 400.
        asked_s = np.append(times_s, segment.stop_s) if segment.stop_s < segment.duration_s else times_s
        if (hole := self._hole_over(segment)) is not None:
            return None, [Gap(segment.start_s, segment.stop_s, hole.code, hole.reason)]
        try:
            frames = self._read(segment, asked_s)
        except VideoError as error:
            return None, [Gap(segment.start_s, segment.stop_s, error.code, str(error))]
        last = frames.missing[-1] if frames.missing and segment.video_id not in self.options.copies else None
        if last is not None and last.code == UNRECORDED and math.isfinite(last.stop_s):
            self._hole = segment.video_id, last
        gaps = [
            Gap(max(span.start_s, segment.start_s), min(span.stop_s, segment.stop_s), span.code, span.reason)
            for span in frames.missing
            if span.start_s < segment.stop_s
        ]
        images_NHWC = frames.images_NHWC[: len(times_s)]
        return (images_NHWC if frames.present_N[: len(times_s)].any() else None), gaps

    def _hole_over(self, segment: Segment) -> Missing | None:
        """The known hole in which the whole segment lies, and the first frame after it."""
        if self._hole is None or self._hole[0] != segment.video_id:
            return None
        hole = self._hole[1]
        return hole if hole.start_s <= segment.start_s and segment.stop_s < hole.stop_s else None

    def _read(self, segment: Segment, times_s: np.ndarray) -> Frames:
        """The frames at ``times_s``, each from the first of the video's files that has a picture of that time.

        The id of a video is computed from samples of its bytes. A file that has the same id and shows other pictures is
        of another recording, or was edited, and fills nothing.
        """
        frames: Frames | None = None
        is_other = False
        errors: list[VideoError] = []
        for uri in (segment.uri, *self.options.copies.get(segment.video_id, ())):
            try:
                packet_index = self.indexes.get(segment.video_id, uri) if self.indexes else b""
                if frames is None:
                    frames = self._read_from(uri, times_s, packet_index)
                else:
                    rows = np.sort(np.append(compared_rows(frames), np.flatnonzero(~frames.present_N)))
                    copy = self._read_from(uri, times_s[rows], packet_index)
                    if shows_other(frames, copy, rows):
                        is_other = True
                    else:
                        frames = filled(frames, times_s, copy, rows)
            except VideoError as error:
                errors.append(error)
            if frames is not None and not frames.missing:
                return frames
        # A copy that can't be fetched now may be whole: then the segment is worth another try by a later run.
        away = next((error for error in errors if not error.permanent), None)
        if frames is None:
            raise away or errors[0]
        if away is None:
            return frames if not is_other else replace(frames, missing=tuple(map(_with_other, frames.missing)))
        missing = (Missing(span.start_s, span.stop_s, away.code, str(away)) for span in frames.missing)
        return Frames(frames.images_NHWC, frames.pts_s, tuple(missing))

    def _read_from(self, uri: str, times_s: np.ndarray, packet_index: bytes) -> Frames:
        options = self.options
        kills = outages = 0
        while True:
            try:
                limits: dict[str, Any] = {"deadline_s": options.deadline_s, "packet_index": packet_index}
                if self.hybrid:
                    return self.hybrid.read_frames(
                        uri, times_s, options.image_size, options.fidelity, options.eye, **limits
                    )
                frames = self.process.read_frames(
                    uri, times_s, options.image_size, options.fidelity, self.reader, options.eye, **limits
                )
                fallback = self.process.fallback if self.reader == "nvdec" else ""
                self.decoders.add(NVDEC if self.reader == "nvdec" and not fallback else CPU, fallback)
                return frames
            except DecoderKilled:
                kills += 1
                if kills == TRIES_OF_A_KILLED_DECODER:
                    raise
            except StorageUnavailable:
                outages += 1
                if outages == STORAGE_TRIES:
                    raise
                time.sleep(options.retry_pause_s * 2**outages)


def hybrid_process(options: DecodeOptions, process: Callable[..., DecodeProcess]) -> HybridProcess | None:
    """What decodes on NVDEC and on the core; None where this machine has no GPU that may decode."""
    slots = NvdecSlots(gpus_here())
    if not len(slots):
        return None
    run = RunCount(slots.folder, options.run, options.segments) if options.run else None
    return HybridProcess(options.memory_mb, slots, run, options.reader == "nvdec", process)


def compared_rows(frames: Frames) -> np.ndarray:
    """The rows whose pictures a copy must have too: before the first missing picture, since after damage another
    frame may stand in for a keyframe. Empty where nothing is shown before it."""
    before = int(frames.present_N.argmin())
    return np.unique(np.linspace(0, before - 1, COMPARED).astype(int)) if before else np.zeros(0, int)


def shows_other(frames: Frames, copy: Frames, rows: np.ndarray) -> bool:
    """Whether the copy's pictures of ``rows`` are others than those of ``frames``, where both have one."""
    both = np.flatnonzero(frames.present_N[rows] & copy.present_N)
    return any(
        np.abs(frames.images_NHWC[rows[n]].astype(np.int16) - copy.images_NHWC[n]).mean() > OTHER_GREY for n in both
    )


def _with_other(span: Missing) -> Missing:
    told = "another file of this id shows other pictures, so it can't stand in; keep the file of this recording alone"
    return replace(span, reason=f"{span.reason}; {told}")


def filled(frames: Frames, times_s: np.ndarray, copy: Frames, rows: np.ndarray) -> Frames:
    """``frames`` (at ``times_s``) with the pictures that a copy of the video has of their missing times.

    ``copy``: the copy's frames at ``rows`` of the times. What has no picture in either stays missing.
    """
    images_NHWC, pts_s = frames.images_NHWC, frames.pts_s.copy()
    is_absent = ~frames.present_N[rows]
    images_NHWC[rows[is_absent]], pts_s[rows[is_absent]] = copy.images_NHWC[is_absent], copy.pts_s[is_absent]
    missing = [
        Missing(max(ours.start_s, theirs.start_s), min(ours.stop_s, theirs.stop_s), ours.code, ours.reason)
        for ours in frames.missing
        for theirs in copy.missing
        if ours.start_s < theirs.stop_s and theirs.start_s < ours.stop_s
    ]
    return Frames(images_NHWC, pts_s, tuple(missing))
