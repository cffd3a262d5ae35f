"""The main job: an archive becomes maps. The only module that imports ray.data.

    list, identify, probe ──► segments ──► minus finished ──► nothing left: no Ray is started
    wave by wave, so that memory does not grow with the archive:
      ├─ vectors are stored ──► tag            (no decoding stage)
      └─ else, or too few   ──► decode ──► tag  (Ray Data: CPU actors → encoding actors)
    every finished segment is staged by the actor that tagged it ──► published with its wave

Resuming goes by the staged results: the manifest that Ray sees holds unfinished segments only. Ray Data's own
checkpoint would filter a second time, and with `read_parquet` a small manifest became one block, so that nothing came
back before the end; staging in the actor makes each result safe as soon as it is there.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
import warnings
from collections.abc import Collection, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

from halsted_ray import __version__
from halsted_ray.compute.cluster import connected, is_attached
from halsted_ray.compute.pools import Pools, size_pools
from halsted_ray.compute.priority import LowRun, Room, announced, pauses_told
from halsted_ray.compute.priority import room as room_on_cluster
from halsted_ray.compute.resources import DEFAULT_REQUEST, ResourceRequest
from halsted_ray.errors import ArchiveError, OutputError, UsageError
from halsted_ray.mapping.decode_stage import DecodeStage, YieldingDecodeStage, segments_table
from halsted_ray.mapping.inventory import copies_of, take_inventory, written_anew
from halsted_ray.mapping.mapping_recipe import read_recipe
from halsted_ray.mapping.progress import QUIET, Progress, Watch, amount
from halsted_ray.mapping.stage_counters import StageCounters
from halsted_ray.mapping.tag_stage import TagStage
from halsted_ray.mapping.work_list import build_work_list
from halsted_ray.maps import status
from halsted_ray.maps.publishing import publish, publish_videos
from halsted_ray.maps.reading import read_videos
from halsted_ray.maps.run_profile import RunProfile, write_profile
from halsted_ray.maps.staging import MappingRun, Staging
from halsted_ray.maps.table_schemas import Provenance
from halsted_ray.profiling import StageProfile
from halsted_ray.records import Segment, WindowSpec
from halsted_ray.storage.lease import Lease
from halsted_ray.storage.locations import absolute_location
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.video.archive import list_videos
from halsted_ray.video.readers import FIDELITIES

HERE_AT_MOST = 1000
"""Segments with stored vectors are tagged in this process up to here: 30 ms each, while a cluster takes 10 s to
start and to load the model."""
WAVE = 10_000
WAVE_A_CORE = 150
"""Segments given to Ray Data at once: bounds the driver's memory. A new wave costs one start of the actors, 10 s, so
a large cluster gets as much as keeps it busy for some 1,000 s."""
ACTORS_END_S = 3.0
DEADLINE_PER_VIDEO_S = 5.0
"""A decoder that takes five times as long as the video lasts hangs: 4K HEVC takes 2 on a slow core."""


@dataclass(frozen=True)
class Summary:
    """What a run did. ``videos``: as ``status.status_of`` gives them, those of this archive only."""

    run_id: str
    recipe: str
    videos: list[dict]
    segments: int
    segments_before: int
    """Finished by earlier runs."""
    segments_decoded: int
    segments_from_vectors: int
    segments_failed: int
    video_s: float
    wall_s: float
    timeline_version: int | None
    stages: dict[str, dict[str, float]]
    """``wall_s`` and ``cpu_s``: stage → seconds over all actors (``profiling.STAGES``)."""

    @property
    def exit_code(self) -> int:
        """0 where every video is mapped whole, else 3."""
        return 0 if all(video["status"] == "mapped" for video in self.videos) else 3


def map_archive(
    archive: str,
    out: str,
    model: str,
    task: str | Sequence[str] | None = None,
    instruction: str | None = None,
    *,
    encoder: str | None = None,
    embeddings: str | None = None,
    segment_s: float = 60.0,
    fidelity: str = "reference",
    retry_failed: bool = False,
    windows: WindowSpec | None = None,
    without: Collection[str] = (),
    workers: ResourceRequest = DEFAULT_REQUEST,
    watch: Watch = QUIET,
) -> Summary:
    """Maps the videos at ``archive`` to ``out`` with the model at ``model``: what is new or unfinished.

    ``task``: names, or None or 'all'; or an ``instruction`` in words. ``encoder``: where the model's encoder lies
    (default: as the model says). ``embeddings``: where vectors are kept (default ``<out>/embeddings``).
    ``segment_s`` and ``workers`` decide about speed. ``retry_failed`` tries again what failed for good: files that
    could not be probed, and segments. Where a file is new or was written anew, that is done without being asked for.
    ``windows``: every window of these lengths is asked the tasks and nothing else (self-labelling), instead of the
    model's windows by the workflow. ``without``: ids of videos to leave alone. ``watch`` is told how it goes.

    A bad video does not end the run: it stands in ``Summary.videos`` with a reason. Raises UsageError (model, task,
    archive, output, resources), OutputError too where another run is mapping to ``out``.
    """
    started_s = time.monotonic()
    out, archive, model = absolute_location(out), absolute_location(archive), absolute_location(model)
    if fidelity not in FIDELITIES:
        raise UsageError(f"unknown fidelity {fidelity!r}; expected one of {', '.join(FIDELITIES)}")
    if f"{archive.rstrip('/')}/".startswith(f"{out.rstrip('/')}/"):
        raise UsageError(
            f"the archive {archive!r} lies at or below {out!r}, where maps are to be written; expected a "
            "place of their own (--out), beside the archive or in a folder of it"
        )
    recipe, encoder, config, image_size = read_recipe(model, encoder, task, instruction, fidelity, windows)
    # Before anything is written: there may be no video, or no table can lie there.
    uris, known = list_videos(archive, outside=out, say=watch.say), read_videos(out)
    run = MappingRun(uuid.uuid4().hex[:12], recipe.digest, recipe.tasks, segment_s, int(time.time() * 1000))
    origin = Provenance(
        run.run_id,
        recipe.digest,
        recipe.tasks,
        config.name,
        config.version,
        config.atlas_release,
        recipe.taxonomy_digest,
        __version__,
    )

    with ExitStack() as stack:
        lease = stack.enter_context(Lease(out, run.run_id, watch.say))
        staging = Staging(out, recipe.digest)
        stopped = staging.run()
        run = replace(run, again=stopped.again if stopped else ())
        staging.begin(run)  # before hours of work: it says whether the place can be written
        try:
            inventory = take_inventory(uris, known, watch.say, retry_failed)
            entries = [entry for entry in inventory if entry.video.video_id not in without]
            if not entries:
                raise ArchiveError(
                    f"every video at {archive!r} is to be left alone: expected others (self-labelling "
                    "leaves annotated and judging videos alone); name another archive"
                )
            known_ids = {entry.video.video_id for entry in known.values()}
            again = set(run.again) | (written_anew(entries, known) & known_ids)
            if again != set(run.again):
                staging.begin(replace(run, again=tuple(sorted(again))))
            if retry_failed:
                again = {entry.video.video_id for entry in entries}
            staging.drop_failed(again)
            work = build_work_list(out, staging, entries, recipe.spec, segment_s, recipe.digest, again)
        except UsageError:
            staging.drop([])
            raise
        publish_videos(out, entries)
        watch.say(
            f"{len(entries)} files, {work.videos} videos to map, {amount(work.total_s / 3600)} video-hours, "
            f"{work.waiting} of {work.segments} segments to do"
        )

        place = (out, recipe.digest)
        store = (embeddings or f"{out}/embeddings", recipe.encoder_fingerprint, sampling_name(recipe.spec, fidelity))
        tagging = {
            "staging": place,
            "store": store,
            "model": model,
            "encoder": encoder,
            "model_digest": recipe.model_digest,
            "tasks": list(recipe.tasks),
            "run_id": run.run_id,
            "windows": windows,
        }
        decoding = {
            "staging": place,
            "spec": recipe.spec,
            "image_size": image_size,
            "fidelity": fidelity,
            "reader": workers.reader,
            "memory_mb": workers.decoder_memory_mb,
            "deadline_s": 60 + DEADLINE_PER_VIDEO_S * segment_s,
            "copies": copies_of(entries),
        }
        outcomes = _Outcomes(work.total_s, work.total_s - work.waiting_s, watch)
        decoded, versions = 0, []
        publisher = stack.enter_context(ThreadPoolExecutor(1, "publish"))
        publishing: Future | None = None
        cluster = _Cluster(stack, workers, watch)
        for wave in work.waves(lambda: cluster.wave):
            decoded += _map_wave(wave.waiting, tagging, decoding, cluster, outcomes)
            if publishing:
                versions.append(publishing.result())
            lease.check()
            # Beside the next wave: the cluster does not wait for it.
            publishing = publisher.submit(publish, out, staging, wave.planned, origin, run_goes_on=True)
        if publishing:
            versions.append(publishing.result())
        staging.drop([])
        wall_s, stages = time.monotonic() - started_s, outcomes.spent.asdict()
        if work.waiting:
            write_profile(out, RunProfile(run.run_id, work.waiting, work.waiting_s, wall_s, stages))
    here = {entry.video.video_id for entry in entries}
    return Summary(
        run_id=run.run_id,
        recipe=recipe.digest,
        videos=[video for video in status.status_of(out) if video["video_id"] in here],
        segments=work.segments,
        segments_before=work.segments - work.waiting,
        segments_decoded=decoded,
        segments_from_vectors=work.waiting - decoded,
        segments_failed=outcomes.failed,
        video_s=work.waiting_s,
        wall_s=wall_s,
        stages=stages,
        timeline_version=max((version for version in versions if version is not None), default=None),
    )


def _map_wave(waiting: list[Segment], tagging: dict, decoding: dict, cluster: _Cluster, outcomes: _Outcomes) -> int:
    """Finishes the segments ``waiting``, from stored vectors where there are enough; gives how many were decoded."""
    stored = with_vectors(waiting, VectorStore(*tagging["store"]))
    fresh = [segment for segment in waiting if segment not in stored]
    if stored and len(stored) <= HERE_AT_MOST:
        fresh += outcomes.follow(stored, _tag_here(list(stored), tagging))
        stored = {}
    if stored or fresh:
        pools, batch_segments = cluster.pools(len(stored) + len(fresh)), cluster.workers.batch_segments
        outcomes.counters = outcomes.counters or StageCounters()
        fresh += outcomes.follow(stored, _stream(list(stored), None, tagging, pools, batch_segments))
        decoded = _stream(fresh, decoding, tagging, pools, batch_segments, cluster.yielding)
        outcomes.follow(fresh, _telling_of_pauses(decoded, cluster.watch) if cluster.yielding else decoded)
    return len(fresh)


def _telling_of_pauses(outcomes: Generator[dict], watch: Watch) -> Generator[dict]:
    """``outcomes``; ``watch`` is told while none come because the run pauses."""
    with closing(outcomes), pauses_told(watch.wait) as check:
        for outcome in outcomes:
            check()
            yield outcome
    check()


def with_vectors(segments: Iterable[Segment], store: VectorStore) -> dict[Segment, None]:
    """Those of ``segments`` of which some windows have vectors: perhaps all that is needed, so worth a try."""
    segments = list(segments)
    video_ids = list(dict.fromkeys(segment.video_id for segment in segments))
    with ThreadPoolExecutor(16) as pool:  # a listing a video, 30 ms each on S3
        held = dict(zip(video_ids, pool.map(store.holds, video_ids), strict=True))
    return {
        segment: None
        for segment in segments
        if any(start_s < segment.stop_s and segment.start_s < stop_s for start_s, stop_s in held[segment.video_id])
    }


def _tag_here(segments: list[Segment], tagging: dict) -> Generator[dict]:
    """Outcomes of ``segments`` from their stored vectors, in this process and on one core."""
    import torch

    threads = torch.get_num_threads()
    try:
        tagger = TagStage(**tagging)
        for segment in segments:
            yield from tagger(segments_table([segment])).to_pylist()
    finally:
        torch.set_num_threads(threads)


def _stream(
    segments: list[Segment],
    decoding: dict | None,
    tagging: dict,
    pools: Pools,
    batch_segments: int,
    yielding: bool = False,
) -> Generator[dict]:
    """Outcomes of ``segments`` in the order in which they are finished; without ``decoding`` from stored vectors.
    ``yielding``: pauses while a run of priority high is at work on the cluster."""
    import ray.data

    gpu = {"num_gpus": pools.tagger_gpus} if pools.tagger_gpus else {}
    if not segments:
        return
    # A block a segment: the unit that Ray hands to an actor, tries again after a fault, and gives back.
    rows = ray.data.from_arrow([segments_table([segment]) for segment in segments])
    if decoding is not None:
        rows = rows.map_batches(
            YieldingDecodeStage if yielding else DecodeStage,
            fn_constructor_kwargs=decoding,
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=pools.decoder_cpus,
            compute=ray.data.ActorPoolStrategy(size=pools.decoders, max_tasks_in_flight_per_actor=2),
        )
    rows = rows.map_batches(
        TagStage,
        fn_constructor_kwargs={**tagging, "device": "cuda" if gpu else "cpu"},
        batch_size=batch_segments,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=pools.tagger_cpus,
        **gpu,
        compute=ray.data.ActorPoolStrategy(size=pools.taggers, max_tasks_in_flight_per_actor=2),
    )
    for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from batch.to_pylist()


class _Cluster:
    """Where a run's actors live: connected to when it is first needed, until ``stack`` is left, and looked at again
    before each wave, since machines come and go."""

    def __init__(self, stack: ExitStack, workers: ResourceRequest, watch: Watch):
        self.stack, self.workers, self.watch = stack, workers, watch
        self.room: Room | None = None
        self.shared = False
        self.low: LowRun | None = None

    @property
    def yielding(self) -> bool:
        return self.shared and self.workers.priority != "high"

    @property
    def wave(self) -> int:
        return max(WAVE, WAVE_A_CORE * self.room.cores) if self.room else WAVE

    def pools(self, segments: int) -> Pools:
        workers = self.workers

        def sized(room: Room) -> Pools:
            return size_pools(
                room.cpus, room.gpus, room.cores, segments, workers.decoders, workers.taggers, room.gpu_share
            )

        if self.room is None:
            self.shared = is_attached()
            cpus, gpus, cores = self.stack.enter_context(connected(workers.wait_for, self.watch.say, self.watch.wait))
            self.stack.enter_context(_quiet_ray_data())
            self.room = Room(cpus, int(gpus), cores)
            if self.shared:
                self.stack.enter_context(announced(workers.priority))
            if self.shared and workers.priority == "low":
                self.low = self.stack.enter_context(LowRun())
        elif self.shared:
            time.sleep(ACTORS_END_S)  # else what the wave before held would not count as free
        if self.low is not None:
            self.room, pools = self.low.claim(sized, self.watch.wait)
        else:
            if self.shared:
                self.room = room_on_cluster(workers.priority, self.watch.wait)
            pools = sized(self.room)
        self.watch.say(f"pools: {pools}")
        return pools


class _quiet_ray_data:
    """Ray Data without its bars, log lines and warnings on the terminal: our progress stands there."""

    def __enter__(self) -> None:
        import ray.data

        self.logger = logging.getLogger("ray.data")
        self.level = self.logger.level
        self.context = ray.data.DataContext.get_current()
        self.bars = self.context.enable_progress_bars
        self.context.enable_progress_bars = False
        self.logger.setLevel(logging.ERROR)
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.filterwarnings("ignore", module=r"ray\.data")

    def __exit__(self, *exc) -> None:
        self.caught.__exit__(*exc)
        self.logger.setLevel(self.level)
        self.context.enable_progress_bars = self.bars


class _Outcomes:
    """Adds up outcomes as they come, and tells who watches."""

    def __init__(self, total_s: float, begun_s: float, watch: Watch):
        self.total_s, self.begun_s, self.done_s = total_s, begun_s, begun_s
        self.watch = watch
        self.failed = 0
        self.spent = StageProfile()
        self.counters: StageCounters | None = None
        self.started_s = time.monotonic()

    def follow(self, segments: Iterable[Segment], outcomes: Generator[dict]) -> list[Segment]:
        """Follows ``outcomes`` to their end; gives the segments that need frames. Raises OutputError when a worker
        can't store any more."""
        by_id = {segment.segment_id: segment for segment in segments}
        needing_frames = []
        for outcome in outcomes:
            segment = by_id.pop(outcome["segment_id"])
            if outcome["state"] == "fatal":
                outcomes.close()  # else Ray ends it later, and logs it after our message
                raise OutputError(outcome["message"])
            spent = StageProfile(**json.loads(outcome["profile"]))
            self.spent.merge(spent)
            if outcome["state"] == "frames":
                needing_frames.append(segment)
                continue
            self.failed += outcome["state"] != "done"
            self.done_s += _length_s([segment])
            if self.counters:
                self.counters.count(_length_s([segment]), outcome["state"], spent)
            self.watch.progress(
                Progress(self.done_s, self.total_s, self.begun_s, self.failed, time.monotonic() - self.started_s)
            )
        assert not by_id, f"{len(by_id)} segments came back without an outcome: {sorted(by_id)[:5]}"
        return needing_frames


def _length_s(segments: Iterable[Segment]) -> float:
    return sum(segment.stop_s - segment.start_s for segment in segments)
