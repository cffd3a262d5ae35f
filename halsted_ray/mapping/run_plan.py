"""What a run is and what it has to do, settled before the first segment is decoded."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from halsted_ray import __version__
from halsted_ray.compute.progress import RunObserver, amount
from halsted_ray.compute.resources import ResourceRequest
from halsted_ray.embedding.decode_stage import DecodeOptions
from halsted_ray.errors import ArchiveError, UsageError
from halsted_ray.mapping.inventory import copies_of, new_or_changed, take_inventory
from halsted_ray.mapping.mapping_recipe import MappingRecipe, RecipeSource
from halsted_ray.mapping.tag_stage import TagOptions
from halsted_ray.mapping.whole_video import Refiner, WholeVideo
from halsted_ray.mapping.work_list import WorkList, build_work_list
from halsted_ray.maps.cases import publish_cases
from halsted_ray.maps.packet_indexes import PacketIndexes
from halsted_ray.maps.publishing import TimelineOf, publish_videos
from halsted_ray.maps.staging import MappingRun, Staging
from halsted_ray.maps.table_schemas import ArchiveFile, Provenance
from halsted_ray.model.model_file import read_stated_model
from halsted_ray.records import WindowSpec
from halsted_ray.storage.locations import absolute_location, local_path, local_uri, printable
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.video.archive import Listing
from halsted_ray.video.geometry import EYES
from halsted_ray.video.limits import DEFAULT_LIMITS, VideoLimits
from halsted_ray.video.readers import FIDELITIES

DEADLINE_START_S = 60.0
DEADLINE_PER_VIDEO_S = 5.0
"""A decoder that takes five times as long as the video lasts hangs: 4K HEVC takes 2 times as long on a slow core."""


@dataclass(frozen=True)
class RunPlan:
    """One run: its places, its model, and its name in tables."""

    out: str
    vectors: str
    """Location of the vector store."""
    source: RecipeSource
    run: MappingRun
    windows: WindowSpec | None
    """Every window of these lengths is asked the tasks, instead of the model's windows by the workflow."""

    @classmethod
    def of(cls, out: str, vectors: str, source: RecipeSource, segment_s: float, windows: WindowSpec | None) -> RunPlan:
        """A new run, which starts now."""
        recipe = source.recipe
        run = MappingRun(uuid.uuid4().hex[:12], recipe.digest, recipe.tasks, segment_s, int(time.time() * 1000))
        return cls(out, vectors, source, run, windows)

    @property
    def recipe(self) -> MappingRecipe:
        """What decides the rows of a segment."""
        return self.source.recipe

    @property
    def provenance(self) -> Provenance:
        """Where the rows of this run come from, for every row and every commit."""
        config = self.source.config
        return Provenance(
            self.run.run_id,
            self.run.recipe,
            self.recipe.tasks,
            config.name,
            config.version,
            config.atlas_release,
            self.recipe.taxonomy_digest,
            __version__,
            config.novelty["video_share"] if config.novelty else None,
        )

    def open_staging(self) -> Staging:
        """The place where the finished segments of this recipe wait to be published."""
        return Staging(self.out, self.run.recipe)

    def decode_options(self, resources: ResourceRequest, entries: Sequence[ArchiveFile]) -> DecodeOptions:
        """What the decoding actors need to know."""
        return DecodeOptions(
            out=self.out,
            recipe=self.run.recipe,
            spec=self.recipe.spec,
            image_size=self.source.image_size,
            fidelity=self.recipe.fidelity,
            eye=self.recipe.eye,
            reader=resources.reader,
            memory_mb=resources.decoder_memory_mb,
            deadline_s=DEADLINE_START_S + DEADLINE_PER_VIDEO_S * self.run.segment_s,
            copies=copies_of(entries),
        )

    def timeline_of(self, vectors: VectorStore) -> TimelineOf | None:
        """What makes the timeline of a whole video: None where every window is asked for itself (self-labelling).
        Loads the model where it refines."""
        if self.windows is not None:
            return None
        refine = self.source.refine
        taxonomy = read_stated_model(self.source.model).taxonomy
        return WholeVideo(
            taxonomy, self.recipe.tasks, vectors, Refiner.load(self.source.model, refine) if refine else None
        )

    def tag_options(self) -> TagOptions:
        """What the tagging actors need to know."""
        return TagOptions(
            out=self.out,
            recipe=self.run.recipe,
            run_id=self.run.run_id,
            vectors=self.vectors,
            encoder_fingerprint=self.recipe.encoder_fingerprint,
            precision=self.recipe.precision,
            sampling=sampling_name(self.recipe.spec, self.recipe.fidelity, self.recipe.eye),
            model=self.source.model,
            encoder=self.source.encoder,
            model_digest=self.recipe.model_digest,
            tasks=self.recipe.tasks,
            windows=self.windows,
            least_present=self.recipe.least_present,
        )


def check_request(archive: str, out: str, fidelity: str, least_present: float, eye: str = "left") -> tuple[str, str]:
    """(archive, out) as absolute locations. Raises UsageError for a fidelity or an eye that nobody knows, for a
    ``least_present`` that is no share, and for places where the maps would lie in the archive's own folder or above
    it."""
    archive, out = absolute_location(archive), absolute_location(out)
    if local_path(out) is not None and local_uri(out) != out:
        raise UsageError(
            f"the name of {printable(out)!r} is not UTF-8: expected a place for the maps whose name every machine can "
            "read; name another"
        )
    check_reading(fidelity, eye)
    if not 0 <= least_present <= 1:
        raise UsageError(
            f"least_present: expected a share from 0 to 1 of a window's time, got {least_present}; 0.75 is the default"
        )
    if f"{archive.rstrip('/')}/".startswith(f"{out.rstrip('/')}/"):
        raise UsageError(
            f"the archive {archive!r} lies at or below {out!r}, where maps are to be written; expected a "
            "place of their own (--out), beside the archive or in a folder of it"
        )
    return archive, out


def check_reading(fidelity: str, eye: str) -> None:
    """Raises UsageError for a fidelity or an eye that nobody knows."""
    if fidelity not in FIDELITIES:
        raise UsageError(f"unknown fidelity {fidelity!r}; expected one of {', '.join(FIDELITIES)}")
    if eye not in EYES:
        raise UsageError(f"unknown eye {eye!r}; expected one of {', '.join(EYES)}")


def settled_inventory(
    listing: Listing,
    known: Mapping[str, ArchiveFile],
    indexes: PacketIndexes,
    retry_failed: bool,
    settle_s: float,
    observer: RunObserver,
    limits: VideoLimits = DEFAULT_LIMITS,
) -> tuple[list[ArchiveFile], list[str]]:
    """(the files of an archive, uris of the files that are still being written and are left out).

    Reads every file that is not in ``known``; the packet indexes that this makes go to ``indexes``. ``settle_s``: as
    ``Listing.still_written`` takes it. ``limits``: a longer video gets an entry with the reason why it is not mapped.
    Raises ArchiveError where no file is left.
    """
    changing: list[str] = []

    def still_written(sizes: Mapping[str, int]) -> list[str]:
        changing.extend(listing.still_written(settle_s, sizes))
        return changing

    inventory = take_inventory(
        listing.videos, known, observer.on_message, retry_failed, still_written, indexes.put, limits
    )
    if changing:
        files = "1 file is" if len(changing) == 1 else f"{len(changing):,} files are"
        observer.on_message(f"{files} still being written and left for the next run")
    if not inventory:
        raise ArchiveError(
            "every video of the archive is still being written: expected at least one that has not changed for "
            f"{settle_s:g} s; give the same command again later, or switch this check off (--settle 0)"
        )
    return inventory, changing


def plan_work(
    plan: RunPlan,
    listing: Listing,
    known: Mapping[str, ArchiveFile],
    retry_failed: bool,
    without: Collection[str],
    settle_s: float,
    case_by: str | None,
    observer: RunObserver,
    limits: VideoLimits = DEFAULT_LIMITS,
) -> tuple[list[ArchiveFile], WorkList, list[str]]:
    """(files of the archive, what is left to do of them, uris of the files that are still being written); from now on
    the first two are seen at ``plan.out``.

    ``known``: the files that earlier runs published. ``without``: ids of videos to leave alone. ``settle_s``: as
    ``Listing.still_written`` takes it. ``case_by``: as ``publish_cases`` takes it. Takes the inventory of the archive,
    which reads every new file. Raises ArchiveError where no video is left, UsageError for a segment length that does
    not fit the model; then nothing stays staged.
    """
    staging, recipe = plan.open_staging(), plan.recipe
    stopped = staging.run()
    run = replace(plan.run, again=stopped.again if stopped else ())
    staging.begin(run)  # before hours of work, since this says whether the place can be written
    try:
        indexes = PacketIndexes(plan.out)
        inventory, changing = settled_inventory(listing, known, indexes, retry_failed, settle_s, observer, limits)
        entries = [entry for entry in inventory if entry.video.video_id not in without]
        if not entries:
            raise ArchiveError(
                "every video of the archive is to be left alone: expected at least one other video (self-labelling "
                "leaves alone the videos that are annotated or that judge models); name another archive"
            )
        known_ids = {entry.video.video_id for entry in known.values()}
        retried = set(run.again) | (new_or_changed(entries, known) & known_ids)
        if retried != set(run.again):  # kept, so that a run which is killed leaves it to the next one
            staging.begin(replace(run, again=tuple(sorted(retried))))
        if retry_failed:
            retried = {entry.video.video_id for entry in entries}
        staging.drop_failed(retried)
        work_list = build_work_list(
            plan.out, staging, entries, recipe.spec, plan.run.segment_s, plan.run.recipe, retried
        )
    except UsageError:
        staging.drop([])
        raise
    listed = set(listing.videos)
    publish_videos(plan.out, entries, lambda uri: uri not in listed and listing.holds(uri))
    cases = publish_cases(plan.out, listing.uri, case_by, observer.on_message)
    observer.on_message(
        f"{len(entries)} files, {work_list.videos} videos to map, {amount(work_list.total_s / 3600)} video-hours, "
        f"{work_list.waiting} of {work_list.segments} segments to do"
    )
    if cases:
        observer.on_message(f"{cases:,} case{'s' * (cases > 1)}")
    return entries, work_list, changing
