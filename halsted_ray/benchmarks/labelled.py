"""The labelled frames of a benchmark's videos, each with the vector of the window that holds it.

Legend: N frames, M windows, K labels, D width of a window's vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halsted_ray.atlas.formats.recording import Recording
from halsted_ray.atlas.imports import identify_videos
from halsted_ray.benchmarks.data_set import LabelledVideo
from halsted_ray.benchmarks.pictures import load_encoder, picture_vectors
from halsted_ray.embedding.embed import EmbedProgress, embed
from halsted_ray.embedding.segments import window_key
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.errors import AtlasError, VideoError
from halsted_ray.model.encoder_identity import EncoderIdentity
from halsted_ray.records import Video, Window, WindowSpec
from halsted_ray.storage.vectors import WindowKey, sampling_name
from halsted_ray.training.atlas_samples import FIDELITY


@dataclass(frozen=True)
class JudgedFrames:
    """``vectors_MD``: float16, of the windows. ``window_N``: the window of each frame. ``truth_NK``: bool. ``video_N``:
    number in ``videos``, whose frames follow each other in time. ``left_out``: labelled frames without a vector."""

    vectors_MD: np.ndarray
    window_N: np.ndarray
    truth_NK: np.ndarray
    video_N: np.ndarray
    videos: tuple[str, ...]
    left_out: int


@dataclass(frozen=True)
class Looked:
    """What was found of the media of some videos. ``videos``: name → the video file. ``unreadable``: name → reason."""

    videos: Mapping[str, Video]
    unreadable: Mapping[str, str]


def look_at(labelled: Sequence[LabelledVideo]) -> Looked:
    """Probes the video files; folders of pictures need no probe."""
    files = [own for own in labelled if not own.media.pictures]
    found = identify_videos([Recording((), own.name, own.media.uri) for own in files], {}, "")
    pairs = [(own.name, video) for own, video in zip(files, found, strict=True)]
    return Looked(
        {name: video for name, video in pairs if isinstance(video, Video)},
        {name: f"{video.code}: {video}" for name, video in pairs if isinstance(video, VideoError)},
    )


def judged_frames(
    labelled: Sequence[LabelledVideo],
    looked: Looked,
    labels: Sequence[str],
    identity: EncoderIdentity,
    spec: WindowSpec,
    embeddings: str,
    progress: EmbedProgress | None = None,
) -> JudgedFrames:
    """The frames of ``labelled`` with the vectors of the fine windows that hold them, from ``embeddings``; those that
    are missing are decoded and encoded. Raises AtlasError where no frame has a vector."""
    length_s = {
        own.name: own.media.length_s if own.media.pictures else looked.videos[own.name].duration_s for own in labelled
    }
    windows = {own.name: windows_of(own.times_s, length_s[own.name], spec) for own in labelled}
    held = {
        **file_vectors(labelled, looked, windows, identity, spec, embeddings, progress),
        **folder_vectors(labelled, windows, identity, spec, embeddings, progress),
    }
    place_of = {label: k for k, label in enumerate(labels)}
    vectors: list[np.ndarray] = []
    window_N, video_N, truth, left_out = [], [], [], 0
    for number, own in enumerate(labelled):
        row_of: dict[WindowKey, int] = {}
        for window in windows[own.name]:
            if (key := window_key(window)) in held[own.name]:
                row_of[key] = len(vectors)
                vectors.append(held[own.name][key])
        left_out += own.unseen
        for at_s, names in zip(own.times_s, own.truth, strict=True):
            key = window_key(window_at(at_s, length_s[own.name], spec))
            if at_s >= length_s[own.name] or key not in row_of:
                left_out += 1
                continue
            window_N.append(row_of[key])
            video_N.append(number)
            truth.append([place_of[name] for name in names])
    if not truth:
        raise AtlasError(
            f"none of {left_out:,} labelled frames has a picture; check that videos and labels belong together"
        )
    truth_NK = np.zeros((len(truth), len(labels)), bool)
    for n, places in enumerate(truth):
        truth_NK[n, places] = True
    return JudgedFrames(
        np.stack(vectors), np.array(window_N), truth_NK, np.array(video_N), tuple(v.name for v in labelled), left_out
    )


def window_at(at_s: float, length_s: float, spec: WindowSpec) -> Window:
    """The fine window of the grid that holds a time."""
    start_s = at_s // spec.fine_s * spec.fine_s
    return Window("fine", start_s, min(start_s + spec.fine_s, length_s))


def windows_of(times_s: Sequence[float], length_s: float, spec: WindowSpec) -> list[Window]:
    """The fine windows that hold ``times_s``, each once, in order. Times past the end have none."""
    found = dict.fromkeys(window_at(at_s, length_s, spec) for at_s in sorted(times_s) if at_s < length_s)
    return list(found)


def file_vectors(
    labelled: Sequence[LabelledVideo],
    looked: Looked,
    windows: Mapping[str, list[Window]],
    identity: EncoderIdentity,
    spec: WindowSpec,
    embeddings: str,
    progress: EmbedProgress | None,
) -> dict[str, Mapping[WindowKey, np.ndarray]]:
    """Name → vectors, of the videos that are files. Two files of one content have the vectors of both."""
    names = [own.name for own in labelled if not own.media.pictures]
    if not names:
        return {}
    wanted: dict[str, dict[Window, None]] = {}
    for name in names:
        wanted.setdefault(looked.videos[name].video_id, {}).update(dict.fromkeys(windows[name]))
    videos = {looked.videos[name].video_id: looked.videos[name] for name in names}
    store = open_vectors(embeddings, identity, sampling_name(spec, FIDELITY))
    listed = {video_id: list(own) for video_id, own in wanted.items()}
    found = embed(list(videos.values()), listed, identity.ref, store, spec, fidelity=FIDELITY, progress=progress)
    return {name: found[looked.videos[name].video_id] for name in names}


def folder_vectors(
    labelled: Sequence[LabelledVideo],
    windows: Mapping[str, list[Window]],
    identity: EncoderIdentity,
    spec: WindowSpec,
    embeddings: str,
    progress: EmbedProgress | None,
) -> dict[str, Mapping[WindowKey, np.ndarray]]:
    """Name → vectors, of the videos that are folders of pictures."""
    folders = [own for own in labelled if own.media.pictures]
    if not folders:
        return {}
    store = open_vectors(embeddings, identity, sampling_name(spec, "pictures"))
    encoder = load_encoder(identity.ref, identity.fingerprint, store)
    done, every = 0, sum(len(windows[own.name]) for own in folders)

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress and more:
            progress(done * spec.fine_s, every * spec.fine_s)

    return {own.name: picture_vectors(own.media, windows[own.name], encoder, store, spec, count) for own in folders}
