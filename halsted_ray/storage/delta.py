"""Where a Delta table lies, and with which credentials: the same fsspec locations as everything else here.

`deltalake` has its own storage layer and reads `AWS_*` variables itself. What fsspec was told by its own
configuration (`FSSPEC_S3_ENDPOINT_URL`, `~/.config/fsspec`) is passed on, so that one setting serves both.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlparse

import fsspec
import pyarrow.fs
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from halsted_ray.errors import UsageError
from halsted_ray.storage.locations import filesystem, local_path
from halsted_ray.storage.retry import PATIENCE_S

S3_OPTIONS = {
    "key": "AWS_ACCESS_KEY_ID",
    "secret": "AWS_SECRET_ACCESS_KEY",
    "token": "AWS_SESSION_TOKEN",
    "endpoint_url": "AWS_ENDPOINT_URL",
}
ARROW_OPTIONS = {
    "access_key": "AWS_ACCESS_KEY_ID",
    "secret_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "endpoint_override": "AWS_ENDPOINT_URL",
    "tls_ca_file_path": "AWS_CA_BUNDLE",
}
MISREAD = re.compile(r"%[0-9A-Fa-f]{2}")
MISREAD_ON_DISK = re.compile(MISREAD.pattern + r"|[\[\]|^\\]")
"""deltalake 1.6 decodes a path once more than it was encoded: it writes a table's files to one folder and looks for
its log in another, or panics (brackets on a disk)."""
URL_SAFE = "/!$&'()*+,;=:@~"
S3_SCHEMES = ("s3", "s3a")
ATTEMPTS = 8
"""Of Arrow's client, with pauses that double from half a second: a minute in all."""
WAITING = {"max_retries": "1000", "retry_timeout": f"{PATIENCE_S:.0f}s", "backoff_config.max_backoff": "5s"}
"""A store that is away is waited for as long as everywhere else; deltalake by itself gives up after 2 to 4 s."""


def table_uri(root: str, *parts: str) -> str:
    """The table at ``root/parts…`` as deltalake wants it: an absolute local path, or a URL with what a URL can't hold
    in per cent. Raises UsageError for a name that deltalake takes for another one."""
    path = local_path(root)
    if path is not None:
        path = str(Path(path).absolute().joinpath(*parts))
        misread = MISREAD_ON_DISK.search(path)
    else:
        scheme, _, rest = root.partition("://")
        path = f"{scheme}://{quote('/'.join([rest.rstrip('/'), *parts]), safe=URL_SAFE)}"
        misread = MISREAD.search(rest)
    if misread:
        raise UsageError(
            f"{root!r}: Delta tables can't lie under a name with {misread[0]!r}, which their library "
            "takes for another one; rename the folder, or give another place"
        )
    return path


def storage_options(uri: str) -> dict[str, str]:
    """deltalake's options for ``uri``; empty for a local path. Costs nothing, asks nobody."""
    if urlparse(uri).scheme not in S3_SCHEMES:
        return {}
    configured = dict(fsspec.config.conf.get("s3", {}))
    configured |= {key: value for key, value in configured.get("client_kwargs", {}).items() if key == "endpoint_url"}
    given = {S3_OPTIONS[key]: str(value) for key, value in configured.items() if key in S3_OPTIONS and value}
    options = WAITING | given
    endpoint = options.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint.startswith("http://"):
        options["AWS_ALLOW_HTTP"] = "true"
    return options


def told(error: Exception) -> str:
    """What a storage error says, on one line: the libraries draw trees, in colour."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split("\n")[0]


def is_table(uri: str) -> bool:
    return DeltaTable.is_deltatable(uri, storage_options=storage_options(uri))


def open_table(uri: str, version: int | None = None) -> DeltaTable:
    return DeltaTable(uri, version=version, storage_options=storage_options(uri))


def native_files(table: DeltaTable) -> pyarrow.fs.FileSystem | None:
    """What ``to_pyarrow_table`` and ``to_pyarrow_dataset`` of a table on a disk or on S3 are to read it by; None for
    others.

    By default Arrow's threads call deltalake's file system, which is Python: a thread that still lets go of a file
    when the interpreter ends aborts the process, with all its work done (1 of 40 readers on a busy machine).
    """
    parsed = urlparse(table.table_uri)
    if parsed.scheme == "file":
        return pyarrow.fs.SubTreeFileSystem(unquote(parsed.path), pyarrow.fs.LocalFileSystem())
    if parsed.scheme not in S3_SCHEMES:
        return None
    given = {**os.environ, **storage_options(table.table_uri)}
    wanted = {option: value for option, name in ARROW_OPTIONS.items() if (value := given.get(name))}
    store = pyarrow.fs.S3FileSystem(  # without keys it looks for them itself, where deltalake does too
        **wanted, retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS)
    )
    return pyarrow.fs.SubTreeFileSystem(parsed.netloc + unquote(parsed.path), store)


CLAIM_EXPIRES_S = 120.0
"""A commit takes seconds; a claim this old is of a writer that died."""


@contextmanager
def sole_writer(root: str) -> Iterator[None]:
    """While it lasts, no other process is inside a ``sole_writer`` of the same ``root``.

    Local tables need none: Delta commits there by a rename that fails when the version exists. S3 stores differ in
    whether they honour the conditional PUT that Delta counts on (of 12 races through JuiceFS's gateway both writers
    "won" 9), so on a remote store each writer first puts down a claim of its own and then lists the claims: of two,
    at least one sees the other. The smaller claim waits until the others are gone, the larger one gives up.
    Raises CommitFailedError for the one that gives up.
    """
    if local_path(root) is not None:
        yield
        return
    fs, path = filesystem(root)
    folder = f"{path.rstrip('/')}/_claims"
    own = f"{folder}/{uuid.uuid4().hex}"
    fs.pipe_file(own, b"a writer at work; old ones may be deleted")
    began_s = time.monotonic()
    try:
        while (others := _claims_beside(fs, folder, own)) and time.monotonic() - began_s < CLAIM_EXPIRES_S:
            if min(others) < own:
                raise CommitFailedError("another writer is at work here")
            time.sleep(0.1)
        yield
    finally:
        with suppress(OSError):  # the commit stands or fell without it, and the claim expires
            fs.rm_file(own)


def _claims_beside(fs, folder: str, own: str) -> set[str]:
    """Claims of others that are not much older than ``own``, by the store's clock: this machine's may be wrong."""
    fs.invalidate_cache()
    at = {entry["name"]: entry.get("LastModified") for entry in fs.ls(folder, detail=True) if entry["type"] == "file"}
    own_at = at.pop(own, None)
    return {
        name
        for name, put_at in at.items()
        if None in (put_at, own_at) or (own_at - put_at).total_seconds() < CLAIM_EXPIRES_S
    }
