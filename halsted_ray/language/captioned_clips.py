"""Captions with the vectors of their windows and of their texts: what training and evaluation start from.

Legend: C captions, W windows, T different texts, D width of a window's vector.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors.numpy

from halsted_ray.atlas import Atlas
from halsted_ray.atlas.captions import LEVELS
from halsted_ray.embedding.embed import EmbedProgress, embed
from halsted_ray.embedding.segments import window_key
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.errors import AtlasError
from halsted_ray.language.text_encoder import TextEncoder
from halsted_ray.model.encoder_identity import EncoderIdentity
from halsted_ray.records import Caption, Window, WindowSpec
from halsted_ray.storage.files import read_file, write_atomically
from halsted_ray.storage.locations import filesystem
from halsted_ray.storage.vectors import WindowKey, sampling_name
from halsted_ray.training.atlas_samples import FIDELITY

LEAST_SHARE = 0.5
"""A window belongs to a span that covers at least this share of it."""
Vectors = Mapping[str, Mapping[WindowKey, np.ndarray]]
"""video_id → (kind, start_s, stop_s) → float16 [D]."""


@dataclass(frozen=True)
class CaptionedClips:
    """Captions in arrays, in the order of videos and times.

    ``vectors_WD``: float16, the windows of one caption after another, so that a window of several captions stands
    several times. ``first_C`` and ``count_C``: the caption's windows are ``vectors_WD[first : first + count]``.
    ``text_C``: row of ``texts_TW`` (float32, unit length). ``video_C``: number in ``video_ids``. ``level_C``: number in
    ``captions.LEVELS``.
    """

    vectors_WD: np.ndarray
    first_C: np.ndarray
    count_C: np.ndarray
    start_C: np.ndarray
    stop_C: np.ndarray
    text_C: np.ndarray
    video_C: np.ndarray
    level_C: np.ndarray
    texts_TW: np.ndarray
    texts: tuple[str, ...]
    video_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.text_C)

    def windows(self, caption: int, most: int | None = None) -> np.ndarray:
        """float16 [W, D]: the windows of one caption; with ``most`` so many of them, spread evenly."""
        first, count = int(self.first_C[caption]), int(self.count_C[caption])
        own_WD = self.vectors_WD[first : first + count]
        return own_WD if most is None or count <= most else own_WD[np.linspace(0, count - 1, most).round().astype(int)]

    def not_negative(self, rows: np.ndarray) -> np.ndarray:
        """bool [N, N]: which pairs of ``rows`` may not count as negatives for each other: those with the same text, and
        those of one video whose spans overlap, since a caption of a step is true of the actions in it."""
        text_N, video_N, start_N, stop_N = (a[rows] for a in (self.text_C, self.video_C, self.start_C, self.stop_C))
        same_text_NN = text_N[:, None] == text_N[None]
        overlap_NN = (start_N[:, None] < stop_N[None]) & (start_N[None] < stop_N[:, None])
        found_NN: np.ndarray = same_text_NN | ((video_N[:, None] == video_N[None]) & overlap_NN)
        np.fill_diagonal(found_NN, False)
        return found_NN

    def save(self, location: str) -> None:
        """Writes all arrays to a safetensors file. Raises OutputError."""
        arrays = {name: np.ascontiguousarray(value) for name, value in vars(self).items() if name[-1].isupper()}
        named = {"texts": json.dumps(self.texts), "video_ids": json.dumps(self.video_ids)}
        fs, path = filesystem(location)
        write_atomically(fs, path, safetensors.numpy.save(arrays, metadata=named))

    @classmethod
    def load(cls, location: str) -> CaptionedClips:
        """Reads what ``save`` wrote. Raises FileNotFoundError, StorageUnavailable."""
        fs, path = filesystem(location)
        data = read_file(fs, path)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        texts, video_ids = (tuple(json.loads(header[name])) for name in ("texts", "video_ids"))
        return cls(**safetensors.numpy.load(data), texts=texts, video_ids=video_ids)


def load_captioned_clips(
    atlas: Atlas,
    captions: Sequence[Caption],
    encoder: EncoderIdentity,
    texts: TextEncoder,
    spec: WindowSpec,
    embeddings: str,
    progress: EmbedProgress | None = None,
) -> CaptionedClips:
    """``captions`` with the vectors of the fine windows of their spans, and of their texts.

    A window that has no vector at ``embeddings`` yet is decoded and encoded, as for training. A caption none of whose
    windows has a picture is left out. Raises AtlasError where none is left, or a video can't be decoded.
    """
    duration_s = {video.video_id: video.duration_s for video in atlas.videos}
    windows = [windows_of_span(c.start_s, c.stop_s, duration_s[c.video_id], spec) for c in captions]
    wanted: dict[str, dict[Window, None]] = {}
    for caption, own in zip(captions, windows, strict=True):
        wanted.setdefault(caption.video_id, {}).update(dict.fromkeys(own))
    videos = [video for video in atlas.videos if video.video_id in wanted]
    store = open_vectors(embeddings, encoder, sampling_name(spec, FIDELITY))
    listed = {video_id: list(own) for video_id, own in wanted.items()}
    vectors = embed(videos, listed, encoder.ref, store, spec, fidelity=FIDELITY, progress=progress)
    return captioned_clips(captions, windows, vectors, texts)


def captioned_clips(
    captions: Sequence[Caption], windows: Sequence[Sequence[Window]], vectors: Vectors, texts: TextEncoder
) -> CaptionedClips:
    """The arrays of ``captions`` with their ``windows``. Raises AtlasError where no caption has a vector."""
    order = sorted(range(len(captions)), key=lambda n: (captions[n].video_id, captions[n].start_s, n))
    kept, first_C, count_C = [], [], []
    vectors_W: list[np.ndarray] = []
    for n in order:
        own = vectors.get(captions[n].video_id, {})
        found = [own[window_key(window)] for window in windows[n] if window_key(window) in own]
        if found:
            kept.append(captions[n])
            first_C.append(len(vectors_W))
            count_C.append(len(found))
            vectors_W += found
    if not kept:
        raise AtlasError("no caption has a vector: none of its windows has a picture; check the captions' times")
    unique = list(dict.fromkeys(caption.text for caption in kept))
    row_of_text = {text: row for row, text in enumerate(unique)}
    video_ids = sorted({caption.video_id for caption in kept})
    number_of = {video_id: number for number, video_id in enumerate(video_ids)}
    return CaptionedClips(
        np.stack(vectors_W).astype(np.float16),
        np.array(first_C),
        np.array(count_C),
        np.array([caption.start_s for caption in kept]),
        np.array([caption.stop_s for caption in kept]),
        np.array([row_of_text[caption.text] for caption in kept]),
        np.array([number_of[caption.video_id] for caption in kept]),
        np.array([LEVELS.index(caption.level) for caption in kept]),
        texts.encode(unique),
        tuple(unique),
        tuple(video_ids),
    )


def windows_of_span(start_s: float, stop_s: float, duration_s: float, spec: WindowSpec) -> list[Window]:
    """The fine windows of the grid that the span ``[start_s, stop_s)`` covers by ``LEAST_SHARE`` or more, in order of
    time; of a shorter span the one window that it covers most."""
    first, last = int(start_s // spec.fine_s), int(np.ceil(stop_s / spec.fine_s))
    cells = [
        Window("fine", k * spec.fine_s, min((k + 1) * spec.fine_s, duration_s))
        for k in range(first, max(last, first + 1))
        if k * spec.fine_s < duration_s
    ]
    covered = [min(stop_s, cell.stop_s) - max(start_s, cell.start_s) for cell in cells]
    found = [c for c, own in zip(cells, covered, strict=True) if own >= LEAST_SHARE * (c.stop_s - c.start_s)]
    return found or [cells[int(np.argmax(covered))]]
