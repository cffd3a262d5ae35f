"""The main job: an archive becomes maps.

    list, identify, probe ──► segments ──► minus finished ──► nothing left: no Ray is started
      ├─ vectors are stored ──► tag many at once  (no decoding stage; few segments in this process)
      └─ else, or too few   ──► decode ──► tag     (Ray Data: CPU actors → encoding actors)
    every finished segment is staged by the actor that tagged it ──► published with its wave, beside the mapping

A run is one stream of segments, which are cut from their videos on the way: there is no pause between waves, and memory
does not grow with the archive.

A run resumes from the staged results: Ray sees only segments that are not finished. Ray Data's own checkpoint would
filter a second time, and with ``read_parquet`` a small list of segments became one block, so that nothing came back
before the end. Staging in the actor makes each result safe as soon as it is there.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from uuid import uuid4

import pyarrow as pa

from halsted_ray.compute.pools import Pools
from halsted_ray.compute.priority import reporting_pauses
from halsted_ray.compute.progress import QUIET, RunObserver
from halsted_ray.compute.resources import DEFAULT_REQUEST, ResourceRequest
from halsted_ray.compute.run_cluster import RunCluster
from halsted_ray.embedding.batching import EncodingSummary
from halsted_ray.embedding.brought_windows import store_windows
from halsted_ray.embedding.decode_stage import DecodeOptions, DecodeStage
from halsted_ray.embedding.embed_stage import prepare_torch
from halsted_ray.embedding.run_start import RunStart
from halsted_ray.embedding.stage_schemas import segments_table
from halsted_ray.embedding.streaming import Stage, stream
from halsted_ray.mapping.mapping_recipe import read_recipe
from halsted_ray.mapping.outcomes import OutcomeTally, SegmentOutcome, read_outcomes
from halsted_ray.mapping.run_plan import RunPlan, check_request, plan_work
from halsted_ray.mapping.tag_stage import TagOptions, TagStage
from halsted_ray.mapping.vector_stage import SEGMENTS_AT_ONCE, VectorStage
from halsted_ray.mapping.wave_publisher import WavePublisher
from halsted_ray.mapping.work_list import WAVE_SEGMENTS, OpenWaves, PendingVideo, Waiting
from halsted_ray.maps.reading import read_videos
from halsted_ray.maps.run_profile import RunProfile, write_profile
from halsted_ray.maps.status import VideoStatus, status_of
from halsted_ray.model.brought import read_brought
from halsted_ray.model.shipped import SHIPPED
from halsted_ray.records import Segment, Video, WindowSpec
from halsted_ray.storage.lease import Lease
from halsted_ray.storage.locations import absolute_location
from halsted_ray.storage.vectors import VectorStore
from halsted_ray.video.archive import SETTLE_S, Skipped, list_archive, skipped_of
from halsted_ray.video.cases import group_cases
from halsted_ray.video.decoder_tally import DecoderTally
from halsted_ray.video.limits import DEFAULT_LIMITS, VideoLimits
from halsted_ray.video.presence import LEAST_PRESENT

TAGGED_LOCALLY_AT_MOST = 3000
"""Up to this number, segments with stored vectors are tagged in this process, on all of its cores: some 5 core-ms each
with the shipped model, 250 with the paper's decoder, while a cluster takes 10 s to start and to load the model."""


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    run_id: str
    recipe: str
    """Digest of the ``MappingRecipe``."""
    videos: list[VideoStatus]
    """The videos of this archive, as ``maps.status.status_of`` gives them."""
    segments: int
    segments_before: int
    """Finished by earlier runs."""
    segments_decoded: int
    segments_from_vectors: int
    segments_failed: int
    video_s: float
    """Video-seconds that this run mapped."""
    wall_s: float
    timeline_version: int | None
    stages: dict[str, dict[str, float]]
    """``wall_s`` and ``cpu_s``: stage → seconds over all actors (``profiling.STAGES``)."""
    start_s: dict[str, float] = field(default_factory=dict)
    """Step of the start → seconds from the call to its end: ``listed``, ``model read``, ``planned``, ``cluster``,
    ``encoder loaded``, ``first vectors``, ``first segment``; those that the run came to."""
    encoding: EncodingSummary = field(default_factory=EncodingSummary)
    """What the encoders did."""
    decoders: DecoderTally = field(default_factory=DecoderTally)
    """Who decoded the segments, and why not NVDEC."""
    skipped: list[Skipped] = field(default_factory=list)
    """The files of this archive that are not videos or were left for the next run, with the reason."""

    @property
    def exit_code(self) -> int:
        """0 where every video is mapped whole, else 3."""
        return 0 if all(video["status"] == "mapped" for video in self.videos) else 3


def map_archive(
    archive: str,
    out: str,
    model: str = "phantom",
    task: str | Sequence[str] | None = None,
    instruction: str | None = None,
    *,
    encoder: str | None = None,
    embeddings: str | None = None,
    precision: str | None = None,
    segment_s: float = 60.0,
    fidelity: str = "reference",
    least_present: float = LEAST_PRESENT,
    eye: str = "left",
    retry_failed: bool = False,
    settle_s: float = SETTLE_S,
    case_by: str | None = None,
    windows: WindowSpec | None = None,
    refine: str = "",
    without: Collection[str] = (),
    limits: VideoLimits = DEFAULT_LIMITS,
    resources: ResourceRequest = DEFAULT_REQUEST,
    observer: RunObserver = QUIET,
) -> Summary:
    """Maps the videos at ``archive`` to ``out`` with the model at ``model``: what is new or unfinished.

    >>> from halsted_ray import map_archive
    >>> summary = map_archive("archive", "maps")
    >>> len(summary.videos), summary.exit_code
    (6, 0)

    ``task``: names of tasks, or None or 'all' for all of them; or an ``instruction`` in words. ``encoder``: where the
    model's encoder lies (default: where the model says). ``embeddings``: where vectors are kept (default
    ``<out>/embeddings``). ``precision``: in which the encoder runs, ``fp32``, ``bf16``, ``fp8`` or ``int8`` (default:
    that of the stored vectors, else bf16 on GPUs and fp32 on CPUs). ``segment_s`` and ``resources`` decide how fast
    the run is. ``least_present``: a window is asked where at least this share of its time has a picture, and its other
    frames are taken from their neighbours.
    ``retry_failed`` tries again what failed for good: files that could not be probed, and segments. A file that is new
    or has changed is always tried. ``settle_s``: files that changed within the last minute are looked at twice, so many
    seconds apart, and left for the next run where they changed in between; 0 looks once. ``case_by``: the rule by
    which videos are chapters of one case (``video.cases``); None: the rule of the run before, if any. ``windows``:
    every window of these lengths is asked the tasks and nothing else (self-labelling), instead of the model's windows
    by the workflow. ``refine``: ``viterbi`` or ``tcn`` refines the tags over each whole video with what the
    model has learned for that (``refining``), '' leaves the answers of the windows. ``without``: ids of videos to leave
    alone. ``limits``: a longer video is not mapped, and stands in the result with the reason. ``eye``: which picture of
    a stereo pair is read, ``left`` or ``right``. ``observer`` is told how the run goes.

    A bad video does not end the run: it stands in ``Summary.videos`` with a reason. Raises UsageError (model, task,
    archive, output, resources), and OutputError where another run is mapping to ``out``.
    """
    start = RunStart()
    archive, out = check_request(archive, out, fidelity, least_present, eye)
    embeddings = embeddings or f"{out}/embeddings"
    if model in SHIPPED:
        observer.on_message(f"model {model!r}: small, trained on synthetic video; it knows nothing of real surgery")
    else:
        model = absolute_location(model)
    observer.on_phase("planning")
    # Before the model is read: meanwhile it shows which files are still being written.
    listing = list_archive(archive, outside=out)
    for message in listing.messages():
        observer.on_message(message)
    start.reached("listed")
    if case_by is not None:
        case_by = absolute_location(case_by) if case_by.lower().endswith(".csv") else case_by
        group_cases(listing.videos, case_by, listing.uri)  # a rule that can't be used is refused before any work
    source = read_recipe(
        model, encoder, task, instruction, fidelity, windows, least_present, eye, embeddings, precision, refine
    )
    start.reached("model read")
    plan = RunPlan.of(out, embeddings, source, segment_s, windows)
    known = read_videos(out)  # before anything is written: perhaps no table can lie at ``out``

    with ExitStack() as stack:
        lease = stack.enter_context(Lease(out, plan.run.run_id, observer.on_message))
        entries, work_list, changing = plan_work(
            plan, listing, known, retry_failed, without, settle_s, case_by, observer, limits
        )
        staging, tagging, decoding = plan.open_staging(), plan.tag_options(), plan.decode_options(resources, entries)
        if read_brought(source.encoder) is not None:
            for _ in store_windows(work_list.all_waiting, source.encoder, tagging.open_vectors(), plan.recipe.spec):
                lease.check()
        start.reached("planned")
        vectors = tagging.open_vectors()
        publisher = stack.enter_context(
            WavePublisher(out, staging, plan.provenance, vectors, plan.timeline_of(vectors))
        )
        cluster = stack.enter_context(RunCluster(resources, observer))
        open_waves = OpenWaves(work_list, WAVE_SEGMENTS)

        def publish_finished(outcome: SegmentOutcome) -> None:
            if "first segment" not in start.steps_s:
                start.reached("first segment")
                observer.on_phase("mapping")
            if wave := open_waves.finish(outcome.video_id):
                lease.check()
                publisher.start(wave)

        tally = OutcomeTally(work_list.total_s, work_list.total_s - work_list.waiting_s, observer, publish_finished)
        observer.on_phase("starting")
        decoded = finish_segments(work_list.all_waiting, tagging, decoding, cluster, tally)
        lease.check()
        observer.on_phase("publishing")
        for wave in open_waves.rest():
            publisher.start(wave)
        publisher.wait()
        staging.drop([])
        wall_s, stages = time.time() - start.began_at, tally.profile.asdict()
        start.add(cluster.reached_at, list(tally.encoding.values()))
        encoding = EncodingSummary.of(list(tally.encoding.values()))
        if work_list.waiting:
            write_profile(
                out,
                RunProfile(
                    plan.run.run_id,
                    work_list.waiting,
                    work_list.waiting_s,
                    wall_s,
                    stages,
                    start.steps_s,
                    asdict(encoding),
                ),
            )

    mapped_ids = {entry.video.video_id for entry in entries}
    return Summary(
        run_id=plan.run.run_id,
        recipe=plan.run.recipe,
        videos=[video for video in status_of(out) if video["video_id"] in mapped_ids],
        skipped=skipped_of(listing, changing),
        segments=work_list.segments,
        segments_before=work_list.segments - work_list.waiting,
        segments_decoded=decoded,
        segments_from_vectors=work_list.waiting - decoded,
        segments_failed=tally.failed,
        video_s=work_list.waiting_s,
        wall_s=wall_s,
        timeline_version=publisher.version,
        stages=stages,
        start_s=start.steps_s,
        encoding=encoding,
        decoders=tally.decoders,
    )


def finish_segments(
    segments: Waiting, tagging: TagOptions, decoding: DecodeOptions, cluster: RunCluster, tally: OutcomeTally
) -> int:
    """Finishes ``segments``, from stored vectors where these are enough; returns how many were decoded."""
    stored, to_decode = with_vectors(segments, tagging.open_vectors())
    needing_frames: list[SegmentOutcome] = []
    if stored and len(stored) <= TAGGED_LOCALLY_AT_MOST:
        needing_frames = tally.follow(len(stored), tag_locally(stored, tagging))
    elif stored:
        needing_frames = tally.follow(len(stored), on_cluster(stored, None, tagging, cluster, tally))
    if needing_frames:
        numbers_of: dict[str, list[int]] = defaultdict(list)
        for outcome in needing_frames:
            numbers_of[outcome.video_id].append(round(outcome.start_s / segments.cutter.segment_s))
        to_decode = Waiting(
            segments.cutter, sorted([*to_decode.pending, *stored.only(numbers_of).pending], key=_video_id)
        )
    if to_decode:
        tally.follow(len(to_decode), on_cluster(to_decode, decoding, tagging, cluster, tally))
    return len(to_decode)


def with_vectors(segments: Waiting, store: VectorStore) -> tuple[Waiting, Waiting]:
    """(the segments of which some windows have stored vectors, the others). Those vectors may be all that is needed, so
    worth a try."""
    spans_of = store.holds_many(of_video.video.video_id for of_video in segments.pending)

    def numbers_with_vectors(video: Video, waiting: Sequence[int]) -> list[int]:
        spans = spans_of[video.video_id]
        if not spans:
            return []
        of_video = segments.cutter.cut(video)
        return [
            number
            for number in waiting
            if any(a < of_video[number].stop_s and of_video[number].start_s < b for a, b in spans)
        ]

    return segments.split(numbers_with_vectors)


def on_cluster(
    segments: Waiting,
    decoding: DecodeOptions | None,
    tagging: TagOptions,
    cluster: RunCluster,
    tally: OutcomeTally,
) -> Generator[SegmentOutcome, None, None]:
    """Outcomes of ``segments`` from the actors of a cluster, which is connected to or started; without ``decoding``
    from stored vectors."""
    pools = cluster.size_pools(len(segments))
    tally.count_for_prometheus()
    if decoding is not None:
        decoding = replace(decoding, yields=cluster.yields, run=uuid4().hex, segments=len(segments))
    outcomes = stream_outcomes(segments, decoding, tagging, pools, cluster.resources.batch_segments)
    yield from reporting_pauses(outcomes, cluster.observer.on_wait) if cluster.yields and decoding else outcomes


def tag_locally(segments: Waiting, tagging: TagOptions) -> Generator[SegmentOutcome, None, None]:
    """Outcomes of ``segments`` from their stored vectors, in this process: a thread per core, each with batches of its
    own."""
    import torch

    cores = torch.get_num_threads()
    try:
        stage = VectorStage(tagging)
        at_once = max(1, min(SEGMENTS_AT_ONCE, math.ceil(len(segments) / cores)))
        with ThreadPoolExecutor(cores, "tag", prepare_torch, (tagging.device,)) as pool:
            under_way: deque[Future[pa.Table]] = deque()
            for batch in _batches(segments, at_once):
                under_way.append(pool.submit(stage, segments_table(batch)))
                if len(under_way) > cores:  # so that vectors of the whole run are not in memory at once
                    yield from read_outcomes(under_way.popleft().result())
            while under_way:
                yield from read_outcomes(under_way.popleft().result())
    finally:
        torch.set_num_threads(cores)


def _batches(segments: Iterable[Segment], size: int) -> Iterator[list[Segment]]:
    left = iter(segments)
    while batch := list(islice(left, size)):
        yield batch


def stream_outcomes(
    segments: Waiting,
    decoding: DecodeOptions | None,
    tagging: TagOptions,
    pools: Pools,
    batch_segments: int,
) -> Generator[SegmentOutcome, None, None]:
    """Outcomes of ``segments``, in the order in which they are finished; without ``decoding`` from stored vectors. This
    is the whole pipeline: segments ──► decode ──► tag ──► outcomes."""
    tagging = replace(tagging, device=pools.device, callers=pools.encoders.calls)
    if decoding is None:
        stages = [Stage(VectorStage, tagging, pools.for_vectors, SEGMENTS_AT_ONCE)]
    else:
        stages = [
            Stage(DecodeStage, decoding, pools.decoders),
            Stage(TagStage, tagging, pools.encoders, batch_segments),
        ]
    with closing(stream(segments, stages, pools.leave)) as tables:
        for table in tables:
            yield from read_outcomes(table)


def _video_id(of_video: PendingVideo) -> str:
    return of_video.video.video_id
