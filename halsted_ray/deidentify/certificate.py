"""The certificate of one clean video: what was found and removed, by what, and the digests before and after, signed.

It never holds what was found: no word of a tag, no letter of a text, no name of a file. The signature is Ed25519 (RFC
8032) over the certificate without its field ``signature``, as JSON with sorted keys and no spaces. A site has one key.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from halsted_ray.errors import UsageError

if TYPE_CHECKING:
    from halsted_ray.records import JsonObject

CODES = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113102": "Clean Recognizable Visual Features Option",
}
"""DICOM PS3.16, CID 7050: the methods of de-identification that a certificate may name (coding scheme DCM)."""
READ_BYTES = 1 << 20


def site_key(path: Path) -> Ed25519PrivateKey:
    """The site's key in the PEM file at ``path``, which is made where there is none, for its owner alone. Raises
    UsageError."""
    try:
        if not path.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(pem)
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"the site's key {str(path)!r}: expected an Ed25519 key in PEM without password, got {type(error).__name__}"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"the site's key {str(path)!r}: expected an Ed25519 key, got another kind")
    return key


def signed(certificate: JsonObject, key: Ed25519PrivateKey) -> JsonObject:
    """The certificate with its signature and the public key."""
    body = {name: value for name, value in certificate.items() if name != "signature"}
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return body | {
        "signature": {
            "algorithm": "Ed25519",
            "public_key": base64.b64encode(public).decode(),
            "value": base64.b64encode(key.sign(_bytes_of(body))).decode(),
        }
    }


def verify(certificate: JsonObject, file: Path, public_key: str | None = None) -> None:
    """Checks the signature and that ``file`` is the clean video. ``public_key`` (base64): whose signature it must be;
    None takes the key that stands in the certificate, which shows only that nothing was changed since.

    Raises UsageError with what is wrong.
    """
    try:
        signature = certificate["signature"]
        body = {name: value for name, value in certificate.items() if name != "signature"}
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(signature["public_key"]))
        if public_key is not None and public_key != signature["public_key"]:
            raise UsageError("the certificate is signed by another key than the one given; ask the site for its key")
        key.verify(base64.b64decode(signature["value"]), _bytes_of(body))
        expected = body["after"]["sha256"]
    except InvalidSignature:
        raise UsageError("the certificate was changed after it was signed; ask the site for the original") from None
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError("expected a certificate of `halsted deidentify`, got another file") from None
    found = sha256_of(file)
    if found != expected:
        raise UsageError(
            f"the file is not the one of this certificate: expected SHA-256 {expected}, got {found}; the file was "
            "changed or exchanged, or belongs to another certificate"
        )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _bytes_of(body: JsonObject) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
