"""Gives windows their vectors: decodes, encodes and stores those that the store does not hold yet.

    windows ──► minus stored ──► spans ──► decode ──► encode ──► store

Training, evaluation, self-labelling, promotion and ``halsted embed`` all call this, on the same stages as mapping. The
frames of a window are those that mapping takes, so they all share one store. A few spans are done in this process; more
go to the cluster at hand, or to a local one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from uuid import uuid4

import numpy as np
import pyarrow as pa

from halsted_ray.compute.cluster import is_attached
from halsted_ray.compute.priority import reporting_pauses
from halsted_ray.compute.progress import QUIET, RunObserver
from halsted_ray.compute.resources import DEFAULT_REQUEST, ResourceRequest
from halsted_ray.compute.run_cluster import RunCluster
from halsted_ray.embedding.batching import EncodingFigures
from halsted_ray.embedding.brought_windows import store_windows
from halsted_ray.embedding.decode_stage import DecodeOptions, DecodeStage
from halsted_ray.embedding.embed_stage import EmbedOptions, EmbedStage
from halsted_ray.embedding.segments import SPAN_S, ListedSegments, Segments, window_key
from halsted_ray.embedding.stage_schemas import segments_table
from halsted_ray.embedding.streaming import Stage, stream
from halsted_ray.errors import AtlasError, OutputError
from halsted_ray.maps.timeline import Gap
from halsted_ray.model.brought import BROUGHT
from halsted_ray.model.encoder import STEPS
from halsted_ray.model.encoder_identity import EncoderIdentity, encoder_identity
from halsted_ray.profiling import StageProfile
from halsted_ray.records import Segment, Video, Window, WindowSpec, digest
from halsted_ray.storage.vectors import VectorStore, WindowKey
from halsted_ray.video.decoder_tally import DecoderCount
from halsted_ray.video.presence import LEAST_PRESENT

log = logging.getLogger(__name__)

NAMED = 10
"""Videos with damage that a warning names; it counts the others."""
LOCALLY_AT_MOST = 4
"""Up to this number, spans are done in this process where no cluster is at hand: 3 s each on a core, while a local
cluster takes 10 s to start and brings two to four cores on the machines where this matters."""
DEADLINE_START_S, DEADLINE_PER_VIDEO_S = 60.0, 4.0
"""Seconds that decoding may take: for its start, and for each second of video."""
EmbedProgress = Callable[[float, float], None]
"""Called with (video-seconds done, video-seconds in all) of what had to be decoded."""


@dataclass(frozen=True)
class EmbeddedSegment:
    """A row of ``stage_schemas.EMBEDDED_SCHEMA``."""

    segment_id: str
    video_id: str
    start_s: float
    stop_s: float
    stored: int
    """Number of windows that have all their pictures, whose vectors are stored."""
    mended: dict[WindowKey, np.ndarray]
    """float16 [D] of windows that lack some pictures, made from those that are there. They are not stored, so that they
    do not stand in the way where the file is whole again."""
    left_out: list[WindowKey]
    """Windows that lack too many pictures (``video.presence``)."""
    gaps: list[Gap]
    """Spans of the segment without picture."""
    profile: StageProfile
    decoded_by: list[DecoderCount]
    actor: str
    """Which actor encoded it."""
    figures: EncodingFigures
    """What the actor had done until then."""


@dataclass
class _Damage:
    """Windows of one video that lack pictures."""

    mended: set[WindowKey] = field(default_factory=set)
    left_out: set[WindowKey] = field(default_factory=set)


def embed(
    videos: Sequence[Video],
    windows: Mapping[str, Sequence[Window]],
    encoder_ref: str,
    store: VectorStore,
    spec: WindowSpec,
    *,
    fidelity: str = "reference",
    steps: bool = False,
    resources: ResourceRequest = DEFAULT_REQUEST,
    progress: EmbedProgress | None = None,
    observer: RunObserver = QUIET,
) -> dict[str, dict[WindowKey, np.ndarray]]:
    """video_id → (kind, start_s, stop_s) → float16 [D], of ``windows`` (video_id → windows).

    A window that lacks more pictures than ``video.presence`` allows is left out (``samples.with_vectors``); a window
    that lacks fewer is made from the others. One warning says how many there are of either, and in which videos.
    With ``steps`` a window's vector is its ``Encoder.encode_steps``, flattened; these vectors need a store of their
    own (another ``sampling``). ``progress`` is called whenever a span that had to be decoded is done. Raises AtlasError
    that names the video where a span of a video can't be read at all: a model must not silently learn from fewer
    videos. Raises OutputError where a vector can't be stored. Whatever ends this ends the decoding at once; what is
    stored stays.
    """
    segments = missing_segments(videos, windows, store)
    mended: dict[str, dict[WindowKey, np.ndarray]] = {}
    if segments:
        reference = encoder_ref if not steps or encoder_ref.endswith(STEPS) else f"{encoder_ref}{STEPS}"
        damaged: dict[str, _Damage] = {}
        done_s, all_s = 0.0, sum(map(_video_s, segments))
        with ExitStack() as stack:
            cluster = stack.enter_context(RunCluster(resources, observer))
            longest_s = max(map(_video_s, segments))
            rows = embed_segments(
                ListedSegments(segments), longest_s, encoder_identity(reference), store, spec, cluster, fidelity
            )
            stack.enter_context(closing(rows))
            for found in rows:
                _require_some_picture(found)
                mended.setdefault(found.video_id, {}).update(found.mended)
                if found.mended or found.left_out:
                    of_video = damaged.setdefault(found.video_id, _Damage())
                    of_video.mended |= found.mended.keys()
                    of_video.left_out |= set(found.left_out)
                done_s += found.stop_s - found.start_s
                if progress:
                    progress(done_s, all_s)
        if damaged:
            log.warning("%s", damage_report(damaged))
        store.pack(video.video_id for video in videos)
    stored = stored_vectors(videos, windows, store)
    return {video_id: vectors | mended.get(video_id, {}) for video_id, vectors in stored.items()}


def stored_vectors(
    videos: Sequence[Video], windows: Mapping[str, Sequence[Window]], store: VectorStore
) -> dict[str, dict[WindowKey, np.ndarray]]:
    """video_id → (kind, start_s, stop_s) → float16 [D], of those of ``windows`` that the store holds, and perhaps of
    others that begin in the same spans."""
    vectors: dict[str, dict[WindowKey, np.ndarray]] = {video.video_id: {} for video in videos}
    for found in store.read_videos(video_id for video_id in vectors if windows[video_id]):
        starts_s = [window.start_s for window in windows[found.video_id]]
        vectors[found.video_id] = found.between(min(starts_s), max(starts_s) + SPAN_S)
    return vectors


def missing_segments(
    videos: Sequence[Video], windows: Mapping[str, Sequence[Window]], store: VectorStore
) -> list[Segment]:
    """Those of ``windows`` (video_id → windows) that the store does not hold, as segments of about ``SPAN_S``."""
    lacking = {video.video_id: windows[video.video_id] for video in videos}
    for found in store.read_videos(lacking):
        have = set(found.keys)
        lacking[found.video_id] = [window for window in lacking[found.video_id] if window_key(window) not in have]
    segments = []
    for video in videos:
        spans: dict[float, list[Window]] = {}
        for window in lacking[video.video_id]:
            spans.setdefault(window.start_s // SPAN_S, []).append(window)
        segments += [_segment(video, spans[number]) for number in sorted(spans)]
    return segments


def embed_segments(
    segments: Segments,
    longest_s: float,
    identity: EncoderIdentity,
    store: VectorStore,
    spec: WindowSpec,
    cluster: RunCluster,
    fidelity: str = "reference",
    eye: str = "left",
    copies: Mapping[str, Sequence[str]] | None = None,
    least_present: float = LEAST_PRESENT,
    out: str | None = None,
) -> Generator[EmbeddedSegment, None, None]:
    """Decodes and encodes ``segments`` (with ``windows``, or all windows of the grid) and stores the vectors; yields
    what became of each as it is done. Of brought vectors nothing is decoded: a window has the mean of its rows.

    ``longest_s``: seconds of the longest segment. ``cluster``: connected to, or started, where there are more than a
    few segments. ``copies``: video_id → further files with this id. ``out``: where packet indexes of these videos lie.
    Raises OutputError where a vector can't be stored, ModelError, ResourceError.
    """
    if identity.family == BROUGHT:
        for segment, stored in store_windows(segments, identity.ref, store, spec):
            yield _embedded_from_rows(segment, stored)
        return
    resources = cluster.resources
    decoding = DecodeOptions(
        out=out,
        recipe="",
        spec=spec,
        image_size=identity.image_size,
        fidelity=fidelity,
        eye=eye,
        reader=resources.reader,
        memory_mb=resources.decoder_memory_mb,
        deadline_s=DEADLINE_START_S + DEADLINE_PER_VIDEO_S * longest_s,
        copies=copies or {},
    )
    embedding = _embed_options(identity, store, spec, least_present)
    if len(segments) <= LOCALLY_AT_MOST and not is_attached():
        yield from _embed_here(segments, decoding, embedding)
        return
    pools = cluster.size_pools(len(segments))
    decoding = replace(decoding, yields=cluster.yields, run=uuid4().hex, segments=len(segments))
    embedding = replace(embedding, device=pools.device, callers=pools.encoders.calls)
    stages = [Stage(DecodeStage, decoding, pools.decoders), Stage(EmbedStage, embedding, pools.encoders)]
    tables = stream(segments, stages, pools.leave)
    with closing(reporting_pauses(tables, cluster.observer.on_wait) if cluster.yields else tables) as reported:
        for table in reported:
            yield from read_embedded(table)


def _embedded_from_rows(segment: Segment, stored: int) -> EmbeddedSegment:
    nothing = StageProfile(), list[DecoderCount](), "", EncodingFigures(clips=stored)
    return EmbeddedSegment(
        segment.segment_id, segment.video_id, segment.start_s, segment.stop_s, stored, {}, [], [], *nothing
    )


def read_embedded(table: pa.Table) -> Generator[EmbeddedSegment, None, None]:
    """The rows of a table of EMBEDDED_SCHEMA. Raises OutputError for a row that says why the run must end."""
    for row in table.to_pylist():
        if fatal := row.pop("fatal"):
            raise OutputError(fatal)
        encoding = row.pop("encoding")
        yield EmbeddedSegment(
            **{
                **row,
                "mended": {
                    (found["kind"], found["start_s"], found["stop_s"]): np.array(found["vector"], np.float16)
                    for found in row["mended"]
                },
                "left_out": [(found["kind"], found["start_s"], found["stop_s"]) for found in row["left_out"]],
                "gaps": [Gap(**gap) for gap in row["gaps"]],
                "profile": StageProfile.from_rows(row["profile"]),
                "actor": encoding.pop("actor"),
                "figures": EncodingFigures(**encoding),
            }
        )


def damage_report(damaged: Mapping[str, _Damage]) -> str:
    """How many windows of which videos lack pictures, in one sentence."""
    mended = sum(len(found.mended) for found in damaged.values())
    left_out = sum(len(found.left_out) for found in damaged.values())
    names = sorted(damaged)
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return (
        f"{len(names):,} videos have damaged spans: {mended:,} windows are made from their remaining pictures, "
        f"{left_out:,} windows lack more than {1 - LEAST_PRESENT:.0%} of their time and are left out; restore the "
        f"files to use them whole: {', '.join(names[:NAMED])}{more}"
    )


def _embed_here(
    segments: Segments, decoding: DecodeOptions, embedding: EmbedOptions
) -> Generator[EmbeddedSegment, None, None]:
    """The same stages in this process, one after the other."""
    import torch

    threads = torch.get_num_threads()
    decode, device = DecodeStage(decoding), "cuda" if torch.cuda.is_available() else "cpu"
    try:
        encode = EmbedStage(replace(embedding, device=device))
        for segment in segments:
            yield from read_embedded(encode(decode(segments_table([segment]))))
    finally:
        decode.close()
        torch.set_num_threads(threads)


def _embed_options(
    identity: EncoderIdentity, store: VectorStore, spec: WindowSpec, least_present: float
) -> EmbedOptions:
    return EmbedOptions(
        identity.ref,
        identity.fingerprint,
        store.encoder,
        spec,
        store.location,
        store.sampling,
        least_present=least_present,
    )


def _segment(video: Video, windows: Sequence[Window]) -> Segment:
    """The span of a video that holds ``windows``."""
    ordered = tuple(sorted(dict.fromkeys(windows), key=lambda window: (window.start_s, window.stop_s, window.kind)))
    start_s, stop_s = ordered[0].start_s, max(window.stop_s for window in ordered)
    name = digest(video.video_id, *map(window_key, ordered))
    return Segment(name, video.video_id, video.uri, start_s, stop_s, video.duration_s, ordered)


def _require_some_picture(found: EmbeddedSegment) -> None:
    lost_s = sum(gap.stop_s - gap.start_s for gap in found.gaps)
    if found.gaps and not found.stored and not found.mended and lost_s >= found.stop_s - found.start_s:
        gap = found.gaps[0]
        raise AtlasError(
            f"video {found.video_id}, [{found.start_s}, {found.stop_s}) s: {gap.code}: {gap.reason}; "
            "a video of an atlas must be readable: restore the file, or take its clips out of the atlas"
        )


def _video_s(segment: Segment) -> float:
    return segment.stop_s - segment.start_s
