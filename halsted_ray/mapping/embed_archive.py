"""An archive becomes vectors: every window of its grid is decoded, encoded and stored, so that later mappings decode
nothing.

    list, identify, probe ──► spans of all videos ──► minus stored ──► decode ──► encode ──► store of vectors, packed
"""

from __future__ import annotations

import time

from halsted_ray.compute.progress import QUIET, RunObserver, amount
from halsted_ray.compute.resources import DEFAULT_REQUEST, ResourceRequest
from halsted_ray.compute.run_cluster import RunCluster
from halsted_ray.embedding.embed import embed_segments
from halsted_ray.embedding.embed_run import (
    WHOLE_WINDOWS,
    EmbeddingSummary,
    EmbeddingTally,
    UnreadFile,
    look_for_missing,
)
from halsted_ray.embedding.run_start import RunStart
from halsted_ray.embedding.segments import WINDOW_KINDS, GridSpans, UnstoredSegments
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.errors import UsageError
from halsted_ray.mapping.inventory import copies_of
from halsted_ray.mapping.kept_inventory import KeptInventory
from halsted_ray.mapping.mapping_recipe import absolute_encoder, read_recipe
from halsted_ray.mapping.run_plan import check_reading, settled_inventory
from halsted_ray.maps.packet_indexes import PacketIndexes
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.model.encoder_identity import EncoderIdentity, encoder_identity
from halsted_ray.model.shipped import SHIPPED
from halsted_ray.records import WindowSpec
from halsted_ray.storage.files import require_writable
from halsted_ray.storage.locations import absolute_location
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.video.archive import SETTLE_S, list_archive


def embed_archive(
    archive: str,
    embeddings: str,
    encoder: str | None = None,
    *,
    model: str | None = None,
    windows: str = "all",
    every_s: float | None = None,
    precision: str | None = None,
    fidelity: str = "reference",
    eye: str = "left",
    retry_failed: bool = False,
    settle_s: float = SETTLE_S,
    resources: ResourceRequest = DEFAULT_REQUEST,
    observer: RunObserver = QUIET,
) -> EmbeddingSummary:
    """Gives the windows of all videos at ``archive`` their vectors, and keeps these at ``embeddings``.

    >>> from halsted_ray import embed_archive
    >>> summary = embed_archive("archive", "vectors", "tiny", windows="coarse")
    >>> summary.videos, summary.windows_made, summary.exit_code
    (6, 6, 0)

    ``encoder``: reference of an encoder, as ``Encoder.load`` takes it; or ``model``: place of a model, whose encoder
    and lengths of windows are taken. ``windows``: ``all`` windows of the grid, or the ``coarse`` ones. ``every_s``: one
    vector per so many seconds instead, of coarse windows of this length. ``precision``, ``fidelity``, ``eye``,
    ``retry_failed``, ``settle_s``, ``resources`` and ``observer`` are those of ``map_archive``.

    Windows whose vectors are stored are not made again, so the same call goes on after a kill. A bad video does not end
    the run: it stands in the summary with a reason. Raises UsageError (a model or encoder that can't be used, archive,
    resources), OutputError where ``embeddings`` can't be written.
    """
    start = RunStart()
    check_reading(fidelity, eye)
    archive, embeddings = _places(archive, embeddings)
    _check_windows(encoder, model, windows, every_s)
    listing = list_archive(archive, outside=embeddings)  # before the encoder is read: meanwhile files are written to
    for message in listing.messages():
        observer.on_message(message)
    start.reached("listed")
    identity, spec = encoder_and_windows(encoder, model, fidelity, eye)
    if every_s is not None:
        spec, windows = identity.windows(regular_windows(every_s)), "coarse"
    start.reached("encoder known")
    require_writable(embeddings)  # before hours of decoding and encoding

    kept = KeptInventory(embeddings, listing.uri)
    entries, _ = settled_inventory(listing, kept.read(), PacketIndexes(kept.folder), retry_failed, settle_s, observer)
    kept.write(entries)
    unread = [UnreadFile(entry.video.video_id, entry.code, entry.reason) for entry in entries if _is_unread(entry)]
    videos = sorted((entry.video for entry in entries if entry.is_mapped), key=lambda video: video.video_id)
    grid, sampling = GridSpans(spec, WINDOW_KINDS[windows]), sampling_name(spec, fidelity, eye)
    wanted = sum(map(grid.windows, videos))
    total_s = sum(video.duration_s for video in videos)
    observer.on_message(
        f"{len(entries):,} files, {len(videos):,} videos to embed, {amount(total_s / 3600)} video-hours, "
        f"{wanted:,} windows"
    )
    store = open_vectors(embeddings, identity, sampling, precision)
    segments, stored_s = look_for_missing(UnstoredSegments(videos, grid, store))
    start.reached("planned")
    tally = EmbeddingTally(total_s, stored_s, observer)
    with RunCluster(resources, observer) as cluster:
        if len(segments):
            rows = embed_segments(
                segments,
                grid.span_s,
                identity,
                store,
                spec,
                cluster,
                fidelity,
                eye,
                copies_of(entries),
                WHOLE_WINDOWS,
                kept.folder,
            )
            tally.follow(len(segments), rows)
        store.pack(video.video_id for video in videos)
        start.add(cluster.reached_at, list(tally.encoding.values()))
    return tally.summary(len(videos), wanted, time.time() - start.began_at, start.steps_s, unread)


def encoder_and_windows(
    encoder: str | None, model: str | None, fidelity: str = "reference", eye: str = "left"
) -> tuple[EncoderIdentity, WindowSpec]:
    """The encoder, and the lengths of windows: those of the model at ``model``, or the defaults beside ``encoder``.

    Raises ModelError.
    """
    if model is None:
        assert encoder is not None, "one of both is given"
        identity = encoder_identity(absolute_encoder(encoder))
        return identity, identity.windows()
    place = model if model in SHIPPED else absolute_location(model)
    source = read_recipe(place, None, None, None, fidelity, eye=eye)
    return encoder_identity(source.encoder), source.recipe.spec


def regular_windows(every_s: float) -> WindowSpec:
    """Windows of ``every_s``, one after another. Raises UsageError for a length that is no multiple of 1/32 s."""
    try:
        return WindowSpec(every_s, every_s)
    except ValueError:
        nearest_s = max(1, round(every_s * 32)) / 32
        raise UsageError(
            f"--every {every_s:g}: expected seconds that are a multiple of 1/32, so that the edges of windows are "
            f"exact; give for example {nearest_s:g}"
        ) from None


def _places(archive: str, embeddings: str) -> tuple[str, str]:
    """Both as absolute locations. Raises UsageError where vectors would lie in the archive's own folder or above it."""
    archive, embeddings = absolute_location(archive), absolute_location(embeddings)
    if f"{archive.rstrip('/')}/".startswith(f"{embeddings.rstrip('/')}/"):
        raise UsageError(
            f"the archive {archive!r} lies at or below {embeddings!r}, where vectors are to be kept; expected a place "
            "of their own (--embeddings), beside the archive or in a folder of it"
        )
    return archive, embeddings


def _check_windows(encoder: str | None, model: str | None, windows: str, every_s: float | None) -> None:
    if (encoder is None) == (model is None):
        raise UsageError("got both an encoder and a model, or neither; expected one of them")
    if windows not in WINDOW_KINDS:
        raise UsageError(f"unknown windows {windows!r}; expected one of {', '.join(WINDOW_KINDS)}")
    if every_s is not None and (model is not None or windows != "all"):
        raise UsageError("every_s gives windows of its own lengths; leave out the model and the choice of windows")


def _is_unread(entry: ArchiveFile) -> bool:
    return bool(entry.code) and not entry.copy_of
