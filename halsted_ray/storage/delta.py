"""Delta tables at locations: where a table lies, with which credentials it is opened, and who may write to it now.

``deltalake`` has a storage layer of its own, which reads the ``AWS_*`` variables itself. The settings that only fsspec
knows (``FSSPEC_S3_ENDPOINT_URL``, ``~/.config/fsspec``) are passed on to it, so that one setting serves both.
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
from halsted_ray.storage.files import lies_at
from halsted_ray.storage.locations import filesystem, local_path
from halsted_ray.storage.retry import PATIENCE_S

OPTION_OF_FSSPEC = {
    "key": "AWS_ACCESS_KEY_ID",
    "secret": "AWS_SECRET_ACCESS_KEY",
    "token": "AWS_SESSION_TOKEN",
    "endpoint_url": "AWS_ENDPOINT_URL",
}
VARIABLE_OF_ARROW = {
    "access_key": "AWS_ACCESS_KEY_ID",
    "secret_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "endpoint_override": "AWS_ENDPOINT_URL",
    "tls_ca_file_path": "AWS_CA_BUNDLE",
}
MISREAD = re.compile(r"%[0-9A-Fa-f]{2}")
MISREAD_ON_DISK = re.compile(MISREAD.pattern + r"|[\[\]|^\\]")
"""Names that deltalake 1.6 misreads, on any store and on a disk. It decodes a path once more than it was encoded, so it
writes a table's files to one folder and looks for its log in another, or panics (brackets on a disk)."""
URL_SAFE = "/!$&'()*+,;=:@~"
S3_SCHEMES = ("s3", "s3a")
ARROW_ATTEMPTS = 8
"""How often Arrow's client tries a request; its pauses double from half a second, a minute in all."""
WAITING = {"max_retries": "1000", "retry_timeout": f"{PATIENCE_S:.0f}s", "backoff_config.max_backoff": "5s"}
"""deltalake's options that make it wait for a store as long as ``retry`` does; by itself it gives up after 2 to 4 s."""


def table_uri(root: str, *parts: str) -> str:
    """The table at ``root/parts…`` as deltalake wants it: an absolute local path, or a percent-encoded URL.

    Raises UsageError for a name that deltalake misreads as another name.
    """
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
            "misreads as another name; rename the folder, or give another place"
        )
    return path


def storage_options(uri: str) -> dict[str, str]:
    """deltalake's options for the table at ``uri``; empty for a local path. Sends no request."""
    if urlparse(uri).scheme not in S3_SCHEMES:
        return {}
    configured = dict(fsspec.config.conf.get("s3", {}))
    configured |= {key: value for key, value in configured.get("client_kwargs", {}).items() if key == "endpoint_url"}
    given = {
        OPTION_OF_FSSPEC[key]: str(value) for key, value in configured.items() if key in OPTION_OF_FSSPEC and value
    }
    options = WAITING | given
    endpoint = options.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint.startswith("http://"):
        options["AWS_ALLOW_HTTP"] = "true"
    return options


def told(error: Exception) -> str:
    """The first line of a storage error's message, without colours: deltalake's messages are trees of many lines."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split("\n")[0]


def is_table(uri: str) -> bool:
    """Whether a Delta table lies at ``uri`` (of ``table_uri``). Raises OSError where this can't be told."""
    path = local_path(uri)
    if path is not None and not lies_at(f"{path}/_delta_log"):
        return False  # deltalake says the same of a folder that this account may not read
    return DeltaTable.is_deltatable(uri, storage_options=storage_options(uri))


def open_table(uri: str, version: int | None = None) -> DeltaTable:
    """The Delta table at ``uri`` (of ``table_uri``), at its latest version or at ``version``.

    Raises deltalake's TableNotFoundError where there is none.
    """
    return DeltaTable(uri, version=version, storage_options=storage_options(uri))


def native_files(table: DeltaTable) -> pyarrow.fs.FileSystem | None:
    """Arrow's own file system of a table's folder, for ``to_pyarrow_table`` and ``to_pyarrow_dataset``.

    None for a table that lies neither on a disk nor on S3; then deltalake's file system is used. That is Python code,
    which Arrow's threads call. A thread that closes a file while the interpreter ends aborts the process, after all its
    work is done (1 of 40 readers on a busy machine).
    """
    parsed = urlparse(table.table_uri)
    if parsed.scheme == "file":
        return pyarrow.fs.SubTreeFileSystem(unquote(parsed.path), pyarrow.fs.LocalFileSystem())
    store = native_s3(table.table_uri)
    return store and pyarrow.fs.SubTreeFileSystem(parsed.netloc + unquote(parsed.path), store)


def native_s3(uri: str) -> pyarrow.fs.S3FileSystem | None:
    """Arrow's own client of S3, with the settings that all other clients have; None where ``uri`` is not on S3."""
    if urlparse(uri).scheme not in S3_SCHEMES:
        return None
    given = {**os.environ, **storage_options(uri)}
    wanted = {option: value for option, name in VARIABLE_OF_ARROW.items() if (value := given.get(name))}
    return pyarrow.fs.S3FileSystem(  # where no keys are given, it looks for them at the places where deltalake does
        **wanted, retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=ARROW_ATTEMPTS)
    )


CLAIM_EXPIRES_S = 120.0
"""A commit takes seconds, so a claim of this age belongs to a writer that died."""


@contextmanager
def sole_writer(root: str) -> Iterator[None]:
    """Keeps every other process out of a ``sole_writer`` of the same ``root`` while the ``with`` block runs.

    A local table needs no such help: Delta commits to it by a rename, which fails when the version exists already. On
    S3 Delta counts on a conditional PUT, and stores differ in whether they honour it (in 9 of 12 races through
    JuiceFS's gateway both writers succeeded). So on a remote store each writer first writes a claim of its own and then
    lists all claims. Of two writers, at least one sees the other's claim. The writer with the smallest claim waits
    until the others are gone; each other writer gives up with CommitFailedError.
    """
    if local_path(root) is not None:
        yield
        return
    fs, path = filesystem(root)
    folder = f"{path.rstrip('/')}/_claims"
    own = f"{folder}/{uuid.uuid4().hex}"
    fs.pipe_file(own, b"the claim of a writer; old claims may be deleted")
    began_s = time.monotonic()
    try:
        while (others := _claims_beside(fs, folder, own)) and time.monotonic() - began_s < CLAIM_EXPIRES_S:
            if min(others) < own:
                raise CommitFailedError("another writer is at work here")
            time.sleep(0.1)
        yield
    finally:
        with suppress(OSError):  # the commit is done or failed already, and a claim that stays expires
            fs.rm_file(own)


def _claims_beside(fs: fsspec.AbstractFileSystem, folder: str, own: str) -> set[str]:
    """The claims of other writers that are at most ``CLAIM_EXPIRES_S`` older than ``own``.

    Ages are told by the store's clock, since this machine's clock may be wrong.
    """
    fs.invalidate_cache()
    others = {entry["name"] for entry in fs.ls(folder, detail=True) if entry["type"] == "file"} - {own}
    if not others:
        return others
    try:  # each store states the time under a name of its own, which fsspec knows
        own_at = fs.modified(own)
        return {claim for claim in others if (own_at - fs.modified(claim)).total_seconds() < CLAIM_EXPIRES_S}
    except (NotImplementedError, FileNotFoundError):  # a store without times, or a claim that has just gone
        return others
