"""Addresses that take one part of an upload by PUT without a key: each carries the time until which it holds, and a
signature by a secret of this service."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlencode

from halsted_ray.service.database import Database, now_s
from halsted_ray.service.tables import Secret


def signed_address(database: Database, base: str, upload_id: str, number: int, link_s: float) -> str:
    """The address of part ``number`` at the API whose address is ``base``, for ``link_s`` seconds from now on."""
    expires_s = int(now_s() + link_s)
    query = urlencode({"expires": expires_s, "signature": _signature(database, upload_id, number, expires_s)})
    return f"{base.rstrip('/')}/v1/uploads/{upload_id}/parts/{number}/signed?{query}"


def is_signed(database: Database, upload_id: str, number: int, expires_s: int, signature: str) -> bool:
    """Whether ``signed_address`` made the address of this part with ``expires_s``, and it still holds."""
    expected = _signature(database, upload_id, number, expires_s)
    return expires_s >= now_s() and hmac.compare_digest(expected.encode(), signature.encode())


def _signature(database: Database, upload_id: str, number: int, expires_s: int) -> str:
    with database.reading() as session:
        key = bytes.fromhex(session.get_one(Secret, "addresses").value)
    return hmac.new(key, f"{upload_id}/{number}/{expires_s}".encode(), hashlib.sha256).hexdigest()
