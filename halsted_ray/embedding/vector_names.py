"""Which vectors a run reads and makes: those of one encoder in one precision."""

from __future__ import annotations

import logging

from halsted_ray.compute.devices import gpus_at_hand
from halsted_ray.model.encoder_identity import EncoderIdentity
from halsted_ray.storage.vectors import VectorStore, stored_precisions

log = logging.getLogger(__name__)


def open_vectors(location: str, identity: EncoderIdentity, sampling: str, precision: str | None = None) -> VectorStore:
    """The store of the vectors of an encoder at ``location``, in the precision of ``run_precision``."""
    return VectorStore(location, identity.vectors_name(run_precision(location, identity, precision)), sampling)


def run_precision(location: str, identity: EncoderIdentity, precision: str | None = None) -> str:
    """The precision that an encoder runs in: ``precision``, else that of the vectors that lie at ``location``, else
    what suits the device at hand.

    Vectors of two precisions are never mixed. An archive that was encoded on GPUs in bf16 would be decoded and encoded
    once more by a run on a CPU in fp32; so what is stored decides, and a log line says so. Raises ModelError for a
    precision that can't be had.
    """
    device = "cuda" if gpus_at_hand() else "cpu"
    if precision is not None:
        return identity.precision(device, precision)
    suits, stored = identity.precision(device), stored_precisions(location, identity.fingerprint)
    if not stored or suits in stored:
        return suits
    log.info("the stored vectors are of precision %s, so the encoder runs in it, and not in %s", stored[0], suits)
    return identity.precision(device, stored[0])
