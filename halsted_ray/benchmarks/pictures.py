"""Vectors of videos that are published as folders of pictures.

The windows are those of the grid, as of a video that shows each picture until the next one: at one picture per second a
window of 2.5 s holds three, the first at its start, and the encoder's 16 times fall onto them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import av
import numpy as np

from halsted_ray.benchmarks.data_set import Media
from halsted_ray.compute.devices import gpus_at_hand
from halsted_ray.embedding.segments import window_key
from halsted_ray.errors import ModelError, VideoError
from halsted_ray.model.encoder import Encoder
from halsted_ray.records import Window, WindowSpec, digest
from halsted_ray.storage.locations import filesystem
from halsted_ray.storage.vectors import VectorStore, WindowKey, precision_in
from halsted_ray.video.of_pictures import decode_picture
from halsted_ray.video.pictures import SCALING
from halsted_ray.video.windows import window_times_s

log = logging.getLogger(__name__)

WINDOWS_AT_ONCE = 64
"""So many are encoded and stored together: 200 pictures at model size, 30 MB at 224×224."""
FIRST_BYTES = 65_536


def folder_id(media: Media) -> str:
    """The id of a folder of pictures: over their names and the first bytes of the first, the middle and the last."""
    fs, path = filesystem(media.uri)
    some = [media.pictures[k] for k in (0, len(media.pictures) // 2, -1)]
    heads = [fs.cat_file(f"{path}/{name}", start=0, end=FIRST_BYTES).hex() for name in some]
    return digest(media.pictures, heads, media.per_s)


def picture_vectors(
    media: Media,
    windows: Sequence[Window],
    encoder: Encoder,
    store: VectorStore,
    spec: WindowSpec,
    on_windows: Callable[[int], None] = lambda count: None,
) -> dict[WindowKey, np.ndarray]:
    """float16 [D] of each of ``windows``; stored, and taken from the store where they are there.

    A window one of whose pictures can't be decoded is left out, and a warning names the picture. Raises OutputError.
    """
    video_id = folder_id(media)
    found = store.get(video_id, 0.0, float("inf"))
    missing = [window for window in windows if window_key(window) not in found]
    on_windows(len(windows) - len(missing))
    for first in range(0, len(missing), WINDOWS_AT_ONCE):
        batch = missing[first : first + WINDOWS_AT_ONCE]
        new = encode_pictures(media, batch, encoder, spec)
        if new:
            store.put(video_id, batch[0].start_s, batch[-1].stop_s, new)
        found |= new
        on_windows(len(batch))
    return found


def encode_pictures(
    media: Media, windows: Sequence[Window], encoder: Encoder, spec: WindowSpec
) -> dict[WindowKey, np.ndarray]:
    """The vectors of those of ``windows`` whose pictures can all be decoded."""
    places_NT = np.stack(
        [
            np.minimum((window_times_s(w, media.length_s, spec) * media.per_s).astype(int), len(media.pictures) - 1)
            for w in windows
        ]
    )
    decoded: dict[int, np.ndarray] = {}
    for place in np.unique(places_NT).tolist():
        try:
            decoded[place] = read_picture(f"{media.uri}/{media.pictures[place]}", encoder.image_size)
        except (VideoError, OSError, av.FFmpegError, ValueError) as error:
            log.warning("picture %s of a benchmark can't be decoded: %s", media.pictures[place], error)
    kept = [n for n, places_T in enumerate(places_NT) if all(place in decoded for place in places_T.tolist())]
    if not kept:
        return {}
    order = sorted(decoded)
    images_FHWC = np.stack([decoded[place] for place in order])
    vectors_ND = encoder.encode_frames(images_FHWC, np.searchsorted(order, places_NT[kept]))
    return {window_key(windows[n]): vector_D for n, vector_D in zip(kept, vectors_ND, strict=True)}


def read_picture(uri: str, size: tuple[int, int]) -> np.ndarray:
    """uint8 [height, width, 3] in RGB, scaled as frames of a video are. Raises VideoError, OSError, av.FFmpegError."""
    frame = decode_picture(uri)
    scaled = frame.reformat(width=size[1], height=size[0], format="rgb24", interpolation=SCALING, threads=1)
    image_HWC: np.ndarray = scaled.to_ndarray()
    return image_HWC


def load_encoder(ref: str, fingerprint: str, store: VectorStore) -> Encoder:
    """The encoder of a store's vectors, on a GPU where there is one. Raises ModelError where another one lies there."""
    encoder = Encoder.load(ref, device="cuda" if gpus_at_hand() else "cpu", precision=precision_in(store.encoder))
    if encoder.fingerprint != fingerprint:
        raise ModelError(f"the encoder at {ref!r} has changed; don't change it during a run")
    return encoder
