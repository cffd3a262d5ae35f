"""How long each video of an embedded archive is outside of the body, from its stored vectors: no video is opened.

files that were embedded ──► their vectors ──► scores of the head ──► spans ──► at wish, edges from frames
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from halsted_ray.deidentify.out_of_body import OUT_OF_BODY, PAD_S
from halsted_ray.deidentify.out_of_body_head import OutOfBodyHead, Source
from halsted_ray.deidentify.out_of_body_net import OutOfBodyDetector
from halsted_ray.deidentify.out_of_body_vectors import NO_VECTOR, refined, spans_in_vectors, widened
from halsted_ray.deidentify.spans import Span
from halsted_ray.errors import UsageError, VideoError
from halsted_ray.mapping.kept_inventory import kept_files
from halsted_ray.maps.reading import read_videos
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.records import WindowSpec
from halsted_ray.storage.delta import is_table, table_uri
from halsted_ray.storage.locations import absolute_location
from halsted_ray.storage.vector_files import VideoVectors
from halsted_ray.storage.vectors import VectorStore, spec_in, stores_at
from halsted_ray.video.decode_process import DecodeProcess


@dataclass(frozen=True)
class VideoOutside:
    """What is known of one video. ``duration_s``: its length, where ``is_whole``; else the end of its last vector, as
    nothing says how long the video is. ``edges``: ``windows``, or ``frames`` where they were refined. ``reason``: why
    the video was not judged, or its edges not refined; '' where all was done."""

    video_id: str
    duration_s: float
    is_whole: bool
    spans: tuple[Span, ...]
    edges: str = "windows"
    reason: str = ""

    @property
    def outside_s(self) -> float:
        """Seconds of the spans outside, as they are listed."""
        return sum(span.stop_s - span.start_s for span in self.spans if OUT_OF_BODY in span.reason)

    @property
    def unjudged_s(self) -> float:
        """Seconds of the spans that nobody has judged. One that touches a span outside may be counted with that."""
        return sum(span.stop_s - span.start_s for span in self.spans if span.reason == NO_VECTOR)

    @property
    def is_judged(self) -> bool:
        """Whether every second of the video was judged, and its edges refined where that was asked."""
        return self.is_whole and not self.reason and not any(NO_VECTOR in span.reason for span in self.spans)


def outside_of_archive(
    vectors: str,
    head: OutOfBodyHead,
    *,
    pad_s: float = PAD_S,
    frames: bool = False,
    detector: OutOfBodyDetector | None = None,
) -> Iterator[VideoOutside]:
    """The spans outside of the body of every video whose vectors lie at ``vectors``, by video id.

    ``vectors``: a store that ``halsted embed`` wrote, or the maps of ``halsted map``. Files that were listed there and
    have no vectors come too, as a span without vectors. ``frames``: open each video that has a span outside, and judge
    the frames around its edges by ``detector`` (``refined``). A video that can't be opened keeps the edges of its
    windows, and the reason says so. Costs the reading of the vectors: 4 MB per hour at D = 1408.

    Raises UsageError where there are no vectors of the head's encoder and windows; StorageUnavailable.
    """
    place = absolute_location(vectors).rstrip("/")
    store = fitting_store(place, head.source)
    files = files_at(place)
    stored = {file.video_id for file in store.files()}
    with ExitStack() as opened:
        decoder = opened.enter_context(DecodeProcess()) if frames else None
        for found in store.read_videos(sorted(stored)):
            file = files.get(found.video_id)
            one = _judged(head, found.video_id, file, found, 0.0 if frames else pad_s)
            yield _refined(one, file, head, detector, decoder, pad_s) if decoder else one
        for video_id in sorted(files.keys() - stored):
            yield _judged(head, video_id, files[video_id], None, pad_s)


def fitting_store(place: str, source: Source) -> VectorStore:
    """The store at ``place``, or below it at ``embeddings``, with vectors of ``source``: of several precisions the one
    with the most videos. Raises UsageError where there is none, StorageUnavailable."""
    stores = [store for at in (place, f"{place}/embeddings") for store in stores_at(at)]
    fitting = [
        store
        for store in stores
        if store.encoder.partition("-")[0] == source.fingerprint and store.sampling == source.sampling
    ]
    if fitting:
        return max(fitting, key=lambda store: (len({file.video_id for file in store.files()}), store.encoder))
    there = ", ".join(f"{store.encoder} {store.sampling}" for store in stores) or "no vectors"
    raise UsageError(
        f"the head is for vectors of the encoder {source.fingerprint} and the sampling {source.sampling}, and "
        f"{place!r} holds {there}; embed the archive with that encoder and these windows, or train a head on the "
        "vectors that are there"
    )


def the_store(vectors: str, encoder: str | None = None, spec: WindowSpec | None = None) -> tuple[VectorStore, Source]:
    """The store at ``vectors`` to train a head on, and what its vectors are: of the ``encoder`` (a reference) and the
    lengths of ``spec``, where these are given. Raises UsageError where none or several fit; ModelError."""
    place = absolute_location(vectors).rstrip("/")
    fingerprint = encoder_identity(encoder).fingerprint if encoder is not None else None
    found: dict[Source, VectorStore] = {}
    names = []
    for store in (store for at in (place, f"{place}/embeddings") for store in stores_at(at)):
        names.append(f"{store.encoder} {store.sampling}")
        held, own = spec_in(store.sampling), store.encoder.partition("-")[0]
        lengths = (held.coarse_s, held.fine_s) if held else None
        wanted = (spec.coarse_s, spec.fine_s) if spec else lengths
        if held is not None and fingerprint in (None, own) and lengths == wanted:
            kind = "coarse" if held.coarse_s == held.fine_s else "fine"
            found[Source(own, store.sampling, kind, held.fine_s)] = store
    if len(found) == 1:
        source, store = next(iter(found.items()))
        return store, source
    raise UsageError(
        f"{vectors!r} holds {len(found)} fitting sets of vectors (encoder and sampling: {', '.join(names) or 'none'}), "
        "expected one; name the encoder with --encoder and the windows with --every"
    )


def files_at(place: str) -> dict[str, ArchiveFile]:
    """video_id → file, of all files that were embedded into the store at ``place`` or mapped to it; copies left out."""
    found = kept_files(place) + kept_files(f"{place}/embeddings")
    for out in (place, place.removesuffix("/embeddings")):
        if not found and is_table(table_uri(out, "videos")):
            found = list(read_videos(out).values())
    return {file.video.video_id: file for file in found if not file.copy_of and not file.gone}


def _judged(
    head: OutOfBodyHead, video_id: str, file: ArchiveFile | None, found: VideoVectors | None, pad_s: float
) -> VideoOutside:
    if file is not None and file.code:
        return VideoOutside(video_id, file.video.duration_s, False, (), reason=f"not readable when listed: {file.code}")
    ends_s = float(found.stop_s_N.max()) if found is not None else 0.0
    duration_s = file.video.duration_s if file is not None else ends_s
    spans = spans_in_vectors(head, found, duration_s, pad_s)
    return VideoOutside(video_id, duration_s, file is not None, tuple(spans))


def _refined(
    one: VideoOutside,
    file: ArchiveFile | None,
    head: OutOfBodyHead,
    detector: OutOfBodyDetector | None,
    decoder: DecodeProcess,
    pad_s: float,
) -> VideoOutside:
    """``one``, whose spans were not widened, with edges from frames where there are any; widened in any case."""
    if not any(OUT_OF_BODY in span.reason for span in one.spans):
        return one
    why = "nothing says where the video lies"
    if file is not None:
        try:
            spans = refined(
                one.spans, file.video.uri, head.source.window_s, detector=detector, decoder=decoder, pad_s=pad_s
            )
            return replace(one, spans=tuple(spans), edges="frames")
        except VideoError as error:
            why = str(error)
    return replace(
        one,
        spans=tuple(widened(one.spans, pad_s, one.duration_s)),
        reason=f"edges stay those of the windows: {why}",
    )
