"""The main job: an archive becomes maps. The only module that imports ray.data.

    list, identify, probe ──► segments ──► minus finished ──► nothing left: no Ray is started
    wave by wave, so that memory does not grow with the archive:
      ├─ vectors are stored ──► tag            (no decoding stage)
      └─ else, or too few   ──► decode ──► tag  (Ray Data: CPU actors → encoding actors)
    every finished segment is staged by the actor that tagged it ──► published with its wave

A run resumes from the staged results: Ray sees only segments that are not finished. Ray Data's own checkpoint would
filter a second time, and with ``read_parquet`` a small list of segments became one block, so that nothing came back
before the end. Staging in the actor makes each result safe as soon as it is there.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from halsted_ray.compute.pools import ActorPool, Pools
from halsted_ray.compute.priority import pauses_reported
from halsted_ray.compute.resources import DEFAULT_REQUEST, ResourceRequest
from halsted_ray.mapping.decode_stage import DecodeOptions, DecodeStage
from halsted_ray.mapping.mapping_recipe import read_recipe
from halsted_ray.mapping.outcomes import OutcomeTally, SegmentOutcome, read_outcomes
from halsted_ray.mapping.progress import QUIET, RunObserver
from halsted_ray.mapping.run_cluster import RunCluster
from halsted_ray.mapping.run_plan import RunPlan, check_request, plan_work
from halsted_ray.mapping.stage_schemas import segments_table
from halsted_ray.mapping.tag_stage import TagOptions, TagStage
from halsted_ray.mapping.wave_publisher import WavePublisher
from halsted_ray.maps.reading import read_videos
from halsted_ray.maps.run_profile import RunProfile, write_profile
from halsted_ray.maps.status import VideoStatus, status_of
from halsted_ray.model.shipped import SHIPPED
from halsted_ray.records import Segment, WindowSpec
from halsted_ray.storage.lease import Lease
from halsted_ray.storage.locations import absolute_location
from halsted_ray.storage.vectors import VectorStore
from halsted_ray.video.archive import SETTLE_S, Skipped, list_archive, skipped_of
from halsted_ray.video.cases import group_cases
from halsted_ray.video.presence import LEAST_PRESENT

TAGGED_LOCALLY_AT_MOST = 1000
"""Up to this number, segments with stored vectors are tagged in this process: 30 ms each, while a cluster takes 10 s to
start and to load the model."""


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
    segment_s: float = 60.0,
    fidelity: str = "reference",
    least_present: float = LEAST_PRESENT,
    eye: str = "left",
    retry_failed: bool = False,
    settle_s: float = SETTLE_S,
    case_by: str | None = None,
    windows: WindowSpec | None = None,
    without: Collection[str] = (),
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
    ``<out>/embeddings``). ``segment_s`` and ``resources`` decide how fast the run is. ``least_present``: a window is
    asked where at least this share of its time has a picture, and its other frames are taken from their neighbours.
    ``retry_failed`` tries again what failed for good: files that could not be probed, and segments. A file that is new
    or has changed is always tried. ``settle_s``: files that changed within the last minute are looked at twice, so many
    seconds apart, and left for the next run where they changed in between; 0 looks once. ``case_by``: the rule by
    which videos are chapters of one case (``video.cases``); None: the rule of the run before, if any. ``windows``:
    every window of these lengths is asked the tasks and nothing else (self-labelling), instead of the model's windows
    by the workflow. ``without``: ids of videos to leave alone. ``eye``: which picture of a stereo pair is read,
    ``left`` or ``right``. ``observer`` is told how the run goes.

    A bad video does not end the run: it stands in ``Summary.videos`` with a reason. Raises UsageError (model, task,
    archive, output, resources), and OutputError where another run is mapping to ``out``.
    """
    started_s = time.monotonic()
    archive, out = check_request(archive, out, fidelity, least_present, eye)
    if model in SHIPPED:
        observer.on_message(f"model {model!r}: small, trained on synthetic video; it knows nothing of real surgery")
    else:
        model = absolute_location(model)
    # Before the model is read: meanwhile it shows which files are still being written.
    listing = list_archive(archive, outside=out)
    for message in listing.messages():
        observer.on_message(message)
    if case_by is not None:
        case_by = absolute_location(case_by) if case_by.lower().endswith(".csv") else case_by
        group_cases(listing.videos, case_by, listing.uri)  # a rule that can't be used is refused before any work
    source = read_recipe(model, encoder, task, instruction, fidelity, windows, least_present, eye)
    plan = RunPlan.of(out, embeddings, source, segment_s, windows)
    known = read_videos(out)  # before anything is written: perhaps no table can lie at ``out``

    with ExitStack() as stack:
        lease = stack.enter_context(Lease(out, plan.run.run_id, observer.on_message))
        entries, work_list, changing = plan_work(
            plan, listing, known, retry_failed, without, settle_s, case_by, observer
        )
        staging, tagging, decoding = plan.open_staging(), plan.tag_options(), plan.decode_options(resources, entries)
        tally = OutcomeTally(work_list.total_s, work_list.total_s - work_list.waiting_s, observer)
        publisher = stack.enter_context(WavePublisher(out, staging, plan.provenance))
        cluster = stack.enter_context(RunCluster(resources, observer))
        decoded = 0
        for wave in work_list.waves(lambda: cluster.wave_segments):
            decoded += finish_segments(wave.waiting, tagging, decoding, cluster, tally)
            publisher.wait()
            lease.check()
            publisher.start(wave)
        publisher.wait()
        staging.drop([])
        wall_s, stages = time.monotonic() - started_s, tally.profile.asdict()
        if work_list.waiting:
            write_profile(out, RunProfile(plan.run.run_id, work_list.waiting, work_list.waiting_s, wall_s, stages))

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
    )


def finish_segments(
    segments: list[Segment], tagging: TagOptions, decoding: DecodeOptions, cluster: RunCluster, tally: OutcomeTally
) -> int:
    """Finishes ``segments``, from stored vectors where these are enough; returns how many were decoded."""
    stored = segments_with_vectors(segments, tagging.open_vectors())
    are_stored = set(stored)
    to_decode = [segment for segment in segments if segment not in are_stored]
    if stored and len(stored) <= TAGGED_LOCALLY_AT_MOST:
        to_decode += tally.follow(stored, tag_locally(stored, tagging))
        stored = []
    if stored or to_decode:
        pools = cluster.size_pools(len(stored) + len(to_decode))
        batch_segments = cluster.resources.batch_segments
        decoding = replace(decoding, yields=cluster.yields, run=uuid4().hex, segments=len(to_decode))
        tally.count_for_prometheus()
        to_decode += tally.follow(stored, stream_outcomes(stored, None, tagging, pools, batch_segments))
        decoded = stream_outcomes(to_decode, decoding, tagging, pools, batch_segments)
        tally.follow(to_decode, reporting_pauses(decoded, cluster.observer) if cluster.yields else decoded)
    return len(to_decode)


def segments_with_vectors(segments: Sequence[Segment], store: VectorStore) -> list[Segment]:
    """The segments of which some windows have stored vectors. These may be all that is needed, so worth a try."""
    video_ids = list(dict.fromkeys(segment.video_id for segment in segments))
    with ThreadPoolExecutor(16) as pool:  # a listing per video, 30 ms each on S3
        spans_of = dict(zip(video_ids, pool.map(store.holds, video_ids), strict=True))
    return [
        segment
        for segment in segments
        if any(start_s < segment.stop_s and segment.start_s < stop_s for start_s, stop_s in spans_of[segment.video_id])
    ]


def tag_locally(segments: Sequence[Segment], tagging: TagOptions) -> Generator[SegmentOutcome, None, None]:
    """Outcomes of ``segments`` from their stored vectors, in this process and on one core."""
    import torch

    threads = torch.get_num_threads()
    try:
        stage = TagStage(tagging)
        for segment in segments:
            yield from read_outcomes(stage(segments_table([segment])))
    finally:
        torch.set_num_threads(threads)


def stream_outcomes(
    segments: Sequence[Segment],
    decoding: DecodeOptions | None,
    tagging: TagOptions,
    pools: Pools,
    batch_segments: int,
) -> Generator[SegmentOutcome, None, None]:
    """Outcomes of ``segments`` from Ray Data, in the order in which they are finished; without ``decoding`` from stored
    vectors. This is the whole pipeline: segments ──► decode ──► tag ──► outcomes."""
    import ray.data

    if not segments:
        return
    with _quiet_ray_data():
        # One block per segment: what Ray hands to an actor, tries again after a fault, and gives back.
        rows = ray.data.from_arrow([segments_table([segment]) for segment in segments])
        if decoding is not None:
            rows = rows.map_batches(
                DecodeStage, fn_constructor_args=(decoding,), batch_size=1, **_actors(pools.decoders)
            )
        tagging = replace(tagging, device="cuda" if pools.taggers.gpus else "cpu")
        rows = rows.map_batches(
            TagStage, fn_constructor_args=(tagging,), batch_size=batch_segments, **_actors(pools.taggers)
        )
        for table in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from read_outcomes(table)


def reporting_pauses(
    outcomes: Generator[SegmentOutcome, None, None], observer: RunObserver
) -> Generator[SegmentOutcome, None, None]:
    """``outcomes`` unchanged. ``observer.on_wait`` is called while none come because the run pauses for a run of
    priority high; an exception out of it is raised here, at the next outcome or at the end."""
    with closing(outcomes), pauses_reported(observer.on_wait) as check:
        for outcome in outcomes:
            check()
            yield outcome
    check()


def _actors(pool: ActorPool) -> dict[str, Any]:
    """How Ray Data runs a stage: on a fixed pool of actors, which get Arrow tables without a copy."""
    import ray.data

    return {
        "batch_format": "pyarrow",
        "zero_copy_batch": True,
        "num_cpus": pool.cpus,
        "num_gpus": pool.gpus or None,
        "compute": ray.data.ActorPoolStrategy(size=pool.actors, max_tasks_in_flight_per_actor=2),
    }


@contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Ray Data without its bars, log lines and warnings on the terminal, where our own progress stands."""
    import ray.data

    logger = logging.getLogger("ray.data")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"ray\.data")
        context = ray.data.DataContext.get_current()
        level, has_bars = logger.level, context.enable_progress_bars
        context.enable_progress_bars = False
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
            context.enable_progress_bars = has_bars
