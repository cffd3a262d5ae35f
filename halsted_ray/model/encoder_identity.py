"""Which encoder lies at a place, from a small file beside its weights: a run is planned without reading gigabytes.

The file (``identity_file``) is made once, on first use or by ``halsted encoder add``, from the weights themselves.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

from halsted_ray.errors import ModelError
from halsted_ray.model.brought import BROUGHT, BroughtVectors, read_brought
from halsted_ray.model.checkpoint import locate
from halsted_ray.model.encoder import PRESETS, STEPS, Encoder
from halsted_ray.model.encoders.families import SETTINGS_FILE, VIDEOMAE
from halsted_ray.model.identity_file import IDENTITY_FILE as IDENTITY_FILE
from halsted_ray.model.identity_file import (
    digest_weights,
    read_identity_file,
    remove_identity_file,
    write_identity_file,
)
from halsted_ray.model.precision import choose_precision, require_unquantised
from halsted_ray.records import FRAMES_PER_WINDOW, WindowSpec
from halsted_ray.storage.vectors import encoder_name


@dataclass(frozen=True)
class EncoderIdentity:
    """What an encoder is, as ``Encoder`` says it: its reference, fingerprint, and the sizes of what it takes and gives.

    ``image_size``: (height, width) in pixels. ``dim``: width of a window's vector, ``steps * width``. ``kept_in``: the
    precision of its weights on disk (``precision.KEPT_PRECISIONS``).
    """

    ref: str
    fingerprint: str
    image_size: tuple[int, int]
    frames: int
    width: int
    steps: int
    dim: int
    size_name: str
    kept_in: str = "fp32"
    family: str = VIDEOMAE
    """As ``Encoder.family``."""

    @classmethod
    def of(cls, encoder: Encoder) -> EncoderIdentity:
        """The identity of a loaded encoder."""
        return cls(**{field.name: getattr(encoder, field.name) for field in fields(cls)})

    def windows(self, spec: WindowSpec | None = None) -> WindowSpec:
        """How time is cut for this encoder: the lengths of ``spec`` (default the paper's), with its own frames."""
        return replace(spec or WindowSpec(), frames=self.frames)

    def precision(self, device: str, wanted: str | None = None) -> str:
        """The precision that ``Encoder.load`` runs it in on ``device`` where it is asked for ``wanted``.

        Raises ModelError as ``choose_precision``.
        """
        if self.family == BROUGHT:
            if wanted not in (None, "fp32"):
                raise ModelError(f"precision {wanted} was asked of vectors that were brought; leave it out")
            return "fp32"
        chosen = choose_precision(device, wanted, self.kept_in)
        if self.family != VIDEOMAE:
            require_unquantised(self.family, chosen)
        return chosen

    def vectors_name(self, precision: str) -> str:
        """The name under which its vectors of ``precision`` are stored (``storage.vectors.encoder_name``)."""
        return encoder_name(self.fingerprint, precision)


def encoder_identity(ref: str) -> EncoderIdentity:
    """The identity of the encoder at ``ref`` (as ``Encoder.load`` takes it), without reading its weights where the file
    beside them holds.

    Else the weights are read, twice for the first time (for their fingerprint and for their digests), and the file is
    written where the place can be written. Raises ModelError as ``Encoder.load``.
    """
    place = ref.removesuffix(STEPS)
    if _is_made_here(place):
        return EncoderIdentity.of(Encoder.load(ref))
    kept = read_identity_file(place)
    if kept is None and (brought := read_brought(place)):
        return _identity_of_brought(ref, brought)
    stated = _stated(kept.identities.get(ref.removeprefix(place)), ref) if kept else None
    if stated is None:
        stated = EncoderIdentity.of(Encoder.load(ref))
        identities = {**(kept.identities if kept else {}), ref.removeprefix(place): asdict(stated)}
        write_identity_file(place, identities, digest_weights(place))
    return stated


def _identity_of_brought(ref: str, brought: BroughtVectors) -> EncoderIdentity:
    """The identity of brought vectors, which take no frames. Raises ModelError where steps are asked of them."""
    if ref.endswith(STEPS):
        raise ModelError(f"encoder {ref!r}: brought vectors have one vector per window; leave out {STEPS}")
    fingerprint, dim = brought.fingerprint, brought.dim
    return EncoderIdentity(ref, fingerprint, (0, 0), FRAMES_PER_WINDOW, dim, 1, dim, "", family=BROUGHT)


def identify_encoder(ref: str) -> EncoderIdentity:
    """Reads the weights at ``ref`` and writes the file beside them, unless it states exactly these weights already.

    A file that states other weights is removed. Raises ModelError as ``Encoder.load``, OutputError where the file can't
    be removed.
    """
    place = ref.removesuffix(STEPS)
    if not _is_made_here(place) and (kept := read_identity_file(place)):
        stated = _stated(kept.identities.get(ref.removeprefix(place)), ref)
        if stated and kept.digests and kept.digests == digest_weights(place):
            return stated
        remove_identity_file(place)
    return encoder_identity(ref)


def keep_encoder(ref: str, folder: str, precision: str) -> EncoderIdentity:
    """Writes the encoder at ``ref`` to a folder (or fsspec URL) of its own, with its weights in ``precision``.

    ``precision``: ``fp32`` or ``bf16``, in which the file has half the size and is loaded without a conversion. The
    folder's identity file states the fingerprint of ``ref``, so the vectors of both have the same names: run in bf16,
    or in fp8, both give the same vectors bit for bit. Raises ModelError where ``ref`` is no encoder or itself kept in
    bf16, or where the folder holds an encoder; OutputError where it can't be written.
    """
    place = ref.removesuffix(STEPS)
    fs, path = locate(folder, "encoder")
    if fs.exists(f"{path}/config.json") or fs.exists(f"{path}/{SETTINGS_FILE}"):
        raise ModelError(f"{folder!r} already holds an encoder; name a new folder")
    source = Encoder.load(place)
    if source.kept_in != "fp32":
        raise ModelError(f"encoder {ref!r} is itself kept in {source.kept_in}; give the weights that it was made from")
    found = {"": EncoderIdentity.of(source), STEPS: EncoderIdentity.of(Encoder.load(place + STEPS))}
    source.save(folder, precision)
    identities = {suffix: asdict(replace(one, ref=folder + suffix, kept_in=precision)) for suffix, one in found.items()}
    write_identity_file(folder, identities, digest_weights(folder))
    return replace(found[""], ref=folder, kept_in=precision)


def _is_made_here(place: str) -> bool:
    """Whether the encoder ships with the package, or is made from a seed."""
    return place in PRESETS or place.startswith("random:")


def _stated(identity: object, ref: str) -> EncoderIdentity | None:
    """The identity that a file states, under the reference that it was asked by; None where fields are missing."""
    if not isinstance(identity, dict):
        return None
    known = {
        name: value for name, value in identity.items() if name in {field.name for field in fields(EncoderIdentity)}
    }
    try:
        return EncoderIdentity(**{**known, "ref": ref, "image_size": tuple(known["image_size"])})
    except (TypeError, KeyError):
        return None
