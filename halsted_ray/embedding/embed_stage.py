"""Frames of windows become vectors, which are stored: the encoding stage, on a GPU where there is one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import torch

from halsted_ray.compute.resources import ActorResources
from halsted_ray.embedding.batching import BatchedEncoder, WindowEncoder
from halsted_ray.embedding.segments import wanted_windows, window_key
from halsted_ray.embedding.stage_schemas import (
    DECODED_SCHEMA,
    EMBEDDED_SCHEMA,
    decoded_by_of,
    frames_of,
    gaps_of,
    profile_of,
    segment_of,
)
from halsted_ray.errors import ModelError, OutputError, StorageUnavailable
from halsted_ray.gpu_waits import sleep_while_waiting
from halsted_ray.model.encoder import Encoder
from halsted_ray.profiling import THREAD_PROFILE, ActorTimer
from halsted_ray.records import Segment, Window, WindowSpec
from halsted_ray.storage.vectors import VectorStore, WindowKey, precision_in
from halsted_ray.video.presence import LEAST_PRESENT, is_asked, missing_s, stand_ins
from halsted_ray.video.windows import frame_rows, frame_times_s, has_picture


def encode_windows(
    encoder: WindowEncoder,
    segment: Segment,
    images_NHWC: np.ndarray,
    windows: Sequence[Window],
    spec: WindowSpec,
    present_T: np.ndarray | None = None,
) -> np.ndarray:
    """Vectors of ``windows``, float16 [N, D]; row n depends on window n alone.

    ``images_NHWC``: uint8, the frames of ``segment`` at ``video.windows.frame_times_s(segment, spec)``. ``present_T``:
    bool, which of them have a picture (None: all); the others are replaced as ``video.presence`` says.
    """
    rows_NT = frame_rows(windows, segment, spec)
    if present_T is not None and not present_T.all():
        rows_NT = np.stack([rows_T[stand_ins(present_T[rows_T])] for rows_T in rows_NT])
    return encoder.encode_frames(images_NHWC, rows_NT)


class EncodingActor:
    """The encoder of an actor, shared by its calls: what ``EmbedStage`` and ``mapping.TagStage`` have in common.

    ``callers``: how many calls can be under way at once (``BatchedEncoder``).
    """

    def __init__(self, encoder: Encoder, callers: int):
        self.encoder = BatchedEncoder(encoder, callers)
        self.name = uuid.uuid4().hex

    def figures(self) -> dict[str, object]:
        """What the encoder has done until now, as ``stage_schemas.ENCODING_TYPE``."""
        return {"actor": self.name, **asdict(self.encoder.figures)}


def prepare_torch(device: str) -> None:
    """One thread per actor on a CPU, since there is an actor per core; on a GPU waiting costs no core. To be called
    before anything is loaded."""
    if device == "cpu":
        torch.set_num_threads(1)
    else:
        sleep_while_waiting()


@dataclass(frozen=True)
class EmbedOptions:
    """What the encoding actors of a run need to know."""

    encoder: str
    """Reference of the encoder, as ``Encoder.load`` takes it."""
    encoder_fingerprint: str
    """The fingerprint that the driver expects at that place."""
    vectors_name: str
    """``storage.vectors.encoder_name``, under which the vectors are stored. It says the precision too."""
    spec: WindowSpec
    vectors: str
    """Location of the vector store."""
    sampling: str
    """Name of ``storage.vectors.sampling_name``: how the frames of a window were picked."""
    least_present: float = LEAST_PRESENT
    """Share of a window's time that must have a picture (``video.presence``)."""
    device: str = "cpu"
    callers: int = 1
    """How many calls an actor gets at once."""

    def open_vectors(self) -> VectorStore:
        """The store of vectors that fit the encoder and the frames of this run."""
        return VectorStore(self.vectors, self.vectors_name, self.sampling)


class EmbedStage:
    """Table of decoded segments in, one row per segment with what became of its windows out: whole windows are stored.
    A callable for Ray Data that knows nothing of Ray; many calls may be under way at once.

    ``load`` makes the encoder; tests replace it. Raises ModelError where the encoder at ``EmbedOptions.encoder`` is not
    the expected one.
    """

    input_schema = DECODED_SCHEMA
    output_schema = EMBEDDED_SCHEMA
    resources = ActorResources(cpus=1.0, gpus=1.0, memory_mb=440)

    def __init__(self, options: EmbedOptions, load: Callable[..., Encoder] = Encoder.load):
        prepare_torch(options.device)
        encoder = load(options.encoder, device=options.device, precision=precision_in(options.vectors_name))
        if encoder.fingerprint != options.encoder_fingerprint:
            raise ModelError(
                f"the encoder at {options.encoder!r} on this machine is not the one that the run was started with; "
                "put it at a location that all machines share, and don't change it during a run"
            )
        self.options, self.actor = options, EncodingActor(encoder, options.callers)
        self.store, self.timer = options.open_vectors(), ActorTimer()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows of DECODED_SCHEMA in, rows of EMBEDDED_SCHEMA out, in the same order."""
        rows = []
        for number in range(len(table)):
            row = table.slice(number, 1)
            segment, profile = segment_of(row), profile_of(row)
            found: dict[str, object] = {"stored": 0, "mended": [], "left_out": [], "fatal": None}
            with self.timer:
                try:
                    found |= self._embed(segment, row)
                except (ModelError, OutputError, StorageUnavailable) as error:
                    found["fatal"] = str(error)
            profile.merge(self.timer.spent)
            rows.append(
                {
                    "segment_id": segment.segment_id,
                    "video_id": segment.video_id,
                    "start_s": segment.start_s,
                    "stop_s": segment.stop_s,
                    "gaps": [asdict(gap) for gap in gaps_of(row)],
                    "profile": profile.rows(),
                    "decoded_by": decoded_by_of(row),
                    "encoding": self.actor.figures(),
                    **found,
                }
            )
        return pa.Table.from_pylist(rows, schema=EMBEDDED_SCHEMA)

    def _embed(self, segment: Segment, row: pa.Table) -> dict[str, object]:
        """What EMBEDDED_SCHEMA says of the windows of one segment, which is stored."""
        images_NHWC, spec = frames_of(row, self.actor.encoder.image_size), self.options.spec
        gaps = [(gap.start_s, gap.stop_s) for gap in gaps_of(row)]
        present_T = has_picture(frame_times_s(segment, spec), gaps)
        if images_NHWC is None:
            present_T[:] = False
        whole, mended, left_out = [], [], []
        wanted = wanted_windows(segment, spec)
        for window, of_window_T in zip(wanted, present_T[frame_rows(wanted, segment, spec)], strict=True):
            if missing_s(window, gaps) == 0 and of_window_T.all():
                whole.append(window)
            elif is_asked(window, gaps, of_window_T, self.options.least_present):
                mended.append(window)
            else:
                left_out.append(window)
        vectors: dict[WindowKey, np.ndarray] = {}
        if images_NHWC is not None and (whole or mended):
            windows = [*whole, *mended]
            rows_ND = encode_windows(self.actor.encoder, segment, images_NHWC, windows, spec, present_T)
            vectors = dict(zip(map(window_key, windows), rows_ND, strict=True))
        with THREAD_PROFILE.stage("write"):
            to_store = {window_key(window): vectors[window_key(window)] for window in whole}
            self.store.put(segment.video_id, segment.start_s, segment.stop_s, to_store)
        return {
            "stored": len(whole),
            "mended": [{**vars(window), "vector": vectors[window_key(window)]} for window in mended],
            "left_out": [vars(window) for window in left_out],
        }
