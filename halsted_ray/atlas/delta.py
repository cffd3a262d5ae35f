"""Where a Delta table lies, and with which credentials: the same fsspec locations as everything else here.

`deltalake` has its own storage layer and reads `AWS_*` variables itself. What fsspec was told by its own
configuration (`FSSPEC_S3_ENDPOINT_URL`, `~/.config/fsspec`) is passed on, so that one setting serves both.
"""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
from deltalake import DeltaTable

S3_OPTIONS = {
    "key": "AWS_ACCESS_KEY_ID",
    "secret": "AWS_SECRET_ACCESS_KEY",
    "token": "AWS_SESSION_TOKEN",
    "endpoint_url": "AWS_ENDPOINT_URL",
}


def table_uri(root: str, *parts: str) -> str:
    """The table at ``root/parts…`` as deltalake wants it: an absolute local path, or a URL."""
    if root.startswith("file://"):
        root = root[len("file://"):]
    if "://" not in root:
        return str(Path(root).absolute().joinpath(*parts))
    return "/".join([root.rstrip("/"), *parts])


def storage_options(uri: str) -> dict[str, str]:
    """deltalake's options for ``uri``; empty for a local path. Costs nothing, asks nobody."""
    if not uri.startswith(("s3://", "s3a://")):
        return {}
    configured = dict(fsspec.config.conf.get("s3", {}))
    configured |= {key: value for key, value in configured.get("client_kwargs", {}).items() if key == "endpoint_url"}
    options = {S3_OPTIONS[key]: str(value) for key, value in configured.items() if key in S3_OPTIONS and value}
    endpoint = options.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint.startswith("http://"):
        options["AWS_ALLOW_HTTP"] = "true"
    return options


def is_table(uri: str) -> bool:
    return DeltaTable.is_deltatable(uri, storage_options=storage_options(uri))


def open_table(uri: str, version: int | None = None) -> DeltaTable:
    return DeltaTable(uri, version=version, storage_options=storage_options(uri))
