"""The frame features that SAIS reads: of which encoder, and of which frames of a window.

Legend: W windows, G grids of frames, T time steps of a window, D width of a step's vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halsted_ray.embedding.embed import EmbedProgress, embed
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.errors import UsageError
from halsted_ray.model.encoder import STEPS
from halsted_ray.model.encoder_identity import EncoderIdentity, encoder_identity
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import Video, Window, WindowSpec
from halsted_ray.storage.vectors import WindowKey, sampling_name
from halsted_ray.training.atlas_samples import FIDELITY
from halsted_ray.training.samples import LabelledWindow, build_samples

GRIDS_S = (0.0, 0.1, 0.2)
"""By how much each grid of frames is shifted. SAIS states 0, 3 and 6 frames; these are the seconds at 30 frames per
second, so that a video of another rate is shifted by the same time."""
Vectors = Mapping[str, Mapping[WindowKey, np.ndarray]]
"""video_id → window → its vectors by time step, flattened [T * D]."""


@dataclass(frozen=True)
class SaisFeatures:
    """``grids``: the vectors of each grid of frames, under the keys of the windows as they are. ``width``: D."""

    grids: tuple[Vectors, ...]
    width: int

    def of(self, labelled: Mapping[str, Sequence[LabelledWindow]], vocabulary: Vocabulary, grids: int) -> np.ndarray:
        """The first ``grids`` grids of the windows of ``labelled`` [W, G, T, D], in the order of ``build_samples``."""
        rows = [build_samples(labelled, vectors, vocabulary).embeddings_WD for vectors in self.grids[:grids]]
        return np.stack([of_grid.reshape(len(of_grid), -1, self.width) for of_grid in rows], 1)


def sais_encoder_identity(ref: str, frames: int) -> EncoderIdentity:
    """The encoder that gives SAIS a vector per frame. ``frames``: of a window.

    Raises UsageError where it gives fewer vectors than frames, ModelError where there is none at ``ref``.
    """
    found = encoder_identity(ref if ref.endswith(STEPS) else ref + STEPS)
    if found.steps != frames:
        raise UsageError(
            f"--sais-encoder {ref!r} gives {found.steps} vectors per window of {frames} frames; SAIS reads one vector "
            "per frame: name a self-supervised ViT for pictures (DINO), or leave the option out for the SAIS head on "
            "the model's vectors"
        )
    return found


def sais_features(
    videos: Sequence[Video],
    windows: Mapping[str, Sequence[Window]],
    tested: Mapping[str, Sequence[Window]],
    encoder: EncoderIdentity,
    given: str | None,
    embeddings: str,
    spec: WindowSpec,
    on_embed: EmbedProgress | None = None,
) -> SaisFeatures:
    """The features of ``windows`` (video_id → windows). Those that the stores at ``embeddings`` lack are made.

    ``given``: the ViT; None takes the time steps of ``encoder``, the model's own, and one grid. With a ViT the windows
    in ``tested`` are encoded three times, once per grid. Raises as ``embed`` and ``sais_encoder_identity``.
    """
    used = encoder if given is None else sais_encoder_identity(given, spec.frames)
    shifts_s = GRIDS_S[:1] if given is None else GRIDS_S
    shifted = {
        shift_s: {
            video.video_id: {
                window: shifted_window(window, shift_s, video.duration_s) for window in tested[video.video_id]
            }
            for video in videos
        }
        for shift_s in shifts_s[1:]
    }
    wanted = {
        video_id: list(
            dict.fromkeys([*of_video, *(moved for found in shifted.values() for moved in found[video_id].values())])
        )
        for video_id, of_video in windows.items()
    }
    store = open_vectors(embeddings, used, f"{sampling_name(spec, FIDELITY)}-steps")
    vectors = embed(videos, wanted, used.ref, store, spec, fidelity=FIDELITY, steps=True, progress=on_embed)
    grids: list[Vectors] = [vectors]
    for found in shifted.values():
        grids.append(
            {
                # Where the moved window has no picture, the window as it is stands in for it.
                video_id: {
                    **of_video,
                    **{
                        key_of(window): of_video[key_of(moved)]
                        for window, moved in found[video_id].items()
                        if key_of(moved) in of_video
                    },
                }
                for video_id, of_video in vectors.items()
            }
        )
    return SaisFeatures(tuple(grids), used.width)


def shifted_window(window: Window, shift_s: float, duration_s: float) -> Window:
    """``window`` later by ``shift_s``, or by as much as the video's length allows."""
    shift_s = min(shift_s, max(0.0, duration_s - window.stop_s))
    return Window(window.kind, round(window.start_s + shift_s, 6), round(window.stop_s + shift_s, 6))


def key_of(window: Window) -> WindowKey:
    """The window's key in a store of vectors."""
    return window.kind, window.start_s, window.stop_s
