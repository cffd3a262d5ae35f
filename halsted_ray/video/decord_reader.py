"""Frames by decord: local files only, there for comparison and for random clips of short files.

Opening walks every packet of the file, times are float32, and nothing is skipped, so ``reference`` gives the exact
frame here. It knows no edit lists: a file that has one is refused rather than read at shifted times.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from halsted_ray.errors import UnreadableVideo
from halsted_ray.video.container import VideoFile
from halsted_ray.video.frames import display_size

BATCH = 32
"""Frames asked for at once: decord reads ahead without a bound in larger batches."""


def decode_rows(
    path: str, times_s: np.ndarray, size: tuple[int, int] | None, fidelity: str
) -> Iterator[tuple[np.ndarray, float]]:
    """(uint8 [H, W, 3], pts_s) for each of ``times_s``; see ``readers.read_frames``."""
    import decord

    with VideoFile(path) as video:  # the same door as everywhere: allow-list, limits, messages
        stream = video.stream
        if size is None:
            size = display_size(stream.width, stream.height, stream.sample_aspect_ratio, video.rotation_deg)
        # decord counts from where the container says that the stream starts, and turns the picture upright itself.
        origin_s = float((video.origin - (stream.start_time or 0)) * video.time_base)
    height, width = size
    try:
        reader = decord.VideoReader(path, ctx=decord.cpu(0), width=width, height=height, num_threads=1)
    except (decord.DECORDError, RuntimeError) as error:
        # The message holds the path, which may be a patient's name.
        raise UnreadableVideo(f"decord could not open it ({type(error).__name__}); use the reader 'pyav'") from None
    starts_s = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0].astype(np.float64)
    rounding_s = 2 * float(np.spacing(np.float32(starts_s[-1])))
    if abs(starts_s[0] - origin_s) > max(rounding_s, 1e-3):
        raise UnreadableVideo(
            f"expected the first frame at {origin_s:.3f} s, decord has {starts_s[0]:.3f} s: the file has an edit list "
            "or hidden first frames; use the reader 'pyav'"
        )
    starts_s -= starts_s[0]
    shown = np.searchsorted(starts_s, times_s + max(rounding_s, 1e-6), side="right") - 1
    if fidelity == "keyframes":
        keys = np.sort(reader.get_key_indices())
        shown = keys[np.searchsorted(keys, shown, side="right") - 1]
    for first in range(0, len(shown), BATCH):
        rows = shown[first : first + BATCH]
        for row, image_HWC in zip(rows, reader.get_batch(rows).asnumpy(), strict=True):
            yield image_HWC, float(starts_s[row])
