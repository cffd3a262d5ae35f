"""An atlas becomes vectors, so that training, evaluation and promotion decode nothing."""

from __future__ import annotations

import time

from halsted_ray.atlas import read_atlas
from halsted_ray.compute.progress import QUIET, RunObserver, amount
from halsted_ray.compute.resources import DEFAULT_REQUEST, ResourceRequest
from halsted_ray.compute.run_cluster import RunCluster
from halsted_ray.embedding.embed import embed_segments, missing_segments
from halsted_ray.embedding.embed_run import WHOLE_WINDOWS, EmbeddingSummary, EmbeddingTally, video_s
from halsted_ray.embedding.run_start import RunStart
from halsted_ray.embedding.segments import ListedSegments
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.records import WindowSpec
from halsted_ray.storage.files import require_writable
from halsted_ray.storage.locations import absolute_location
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.training.atlas_samples import FIDELITY, learned_and_judged_windows
from halsted_ray.training.recipe import PAPER, Recipe


def embed_atlas(
    atlas: str,
    encoder: str,
    recipe: Recipe = PAPER,
    *,
    spec: WindowSpec | None = None,
    release: str | None = None,
    embeddings: str | None = None,
    precision: str | None = None,
    resources: ResourceRequest = DEFAULT_REQUEST,
    observer: RunObserver = QUIET,
) -> EmbeddingSummary:
    """Gives the annotated windows of the atlas at ``atlas`` their vectors, in all parts of its split.

    ``encoder``: reference of an encoder, as ``Encoder.load`` takes it. These are the windows that ``recipe`` learns
    from and those that models are judged on (``learned_and_judged_windows``), of the lengths ``spec``. ``release``:
    default the latest. ``embeddings``: where vectors are kept (default ``<atlas>/embeddings``, as for ``train``).
    ``precision``: in which the encoder runs (default: as for ``train``).

    The same call goes on after a kill. A bad video does not end the run: it stands in the summary with a reason, and
    training on it is refused later. Raises AtlasError, ModelError, OutputError, ResourceError.
    """
    start = RunStart()
    source = read_atlas(atlas, release)
    start.reached("listed")
    identity = encoder_identity(encoder)
    spec = identity.windows(spec)
    windows = learned_and_judged_windows(source, source.load_taxonomy(), recipe, spec)
    start.reached("encoder known")
    place = absolute_location(embeddings or f"{atlas.rstrip('/')}/embeddings")
    require_writable(place)
    store = open_vectors(place, identity, sampling_name(spec, FIDELITY), precision)
    videos = [video for video in source.videos if windows[video.video_id]]
    wanted = sum(map(len, windows.values()))
    segments = ListedSegments(missing_segments(videos, windows, store))
    start.reached("planned")
    total_s = video_s(segments)
    observer.on_message(
        f"atlas {source.name}: {len(videos):,} annotated videos of {len(source.videos):,}, {wanted:,} windows; "
        f"{amount(total_s / 3600)} video-hours to do"
    )
    tally = EmbeddingTally(total_s, 0.0, observer)
    with RunCluster(resources, observer) as cluster:
        if segments:
            longest_s = max(segment.stop_s - segment.start_s for segment in segments)
            rows = embed_segments(
                segments, longest_s, identity, store, spec, cluster, FIDELITY, least_present=WHOLE_WINDOWS
            )
            tally.follow(len(segments), rows)
        store.pack(video.video_id for video in videos)
        start.add(cluster.reached_at, list(tally.encoding.values()))
    return tally.summary(len(videos), wanted, time.time() - start.began_at, start.steps_s)
