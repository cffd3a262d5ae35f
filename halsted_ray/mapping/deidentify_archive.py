"""An archive becomes a clean archive: each video is cleaned by an actor of Ray Data, certified, and listed for review.

    list, identify ──► minus finished ──► clean (``deidentify.clean``) ──► certificate, signed here ──► review

A row is one video. The name of a clean video is a keyed digest of its content, so that a second run finds what is done,
and nobody without the site's key can tell from the name which recording it was.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from halsted_ray.compute.progress import QUIET, RunObserver
from halsted_ray.compute.resources import DEFAULT_REQUEST, ResourceRequest
from halsted_ray.compute.run_cluster import RunCluster
from halsted_ray.deidentify.certificate import signed, site_key
from halsted_ray.deidentify.clean import CleaningOptions, clean_file
from halsted_ray.deidentify.review import link, write_certificate, write_index, write_items
from halsted_ray.embedding.segments import ListedSegments
from halsted_ray.embedding.streaming import Stage, stream
from halsted_ray.errors import DecoderKilled, OutputError, StorageUnavailable, UsageError, VideoError
from halsted_ray.records import Segment
from halsted_ray.storage.files import (
    REQUESTS_AT_ONCE,
    make_local_folder,
    read_head,
    read_json,
    require_writable,
    write_json,
)
from halsted_ray.storage.lease import Lease
from halsted_ray.storage.locations import absolute_location, filesystem, local_path
from halsted_ray.storage.private_lists import write_private_list
from halsted_ray.storage.retry import PATIENCE_S, with_retries
from halsted_ray.video.archive import EXTENSIONS, list_archive
from halsted_ray.video.file_head import HEAD_BYTES, is_dicom
from halsted_ray.video.identity import file_info, identify

OWN_NAME = re.compile(r"\.?[0-9a-f]{16}\.(mp4|part)")
"""The names of clean videos (``pseudonym``), and of those that are being written."""
FAILED = "failed.json"
RESULT_SCHEMA = pa.schema([(name, pa.string()) for name in ("video_id", "certificate", "code", "reason")])
"""``certificate``: JSON, not signed; null where the video could not be cleaned, for ``reason``."""


@dataclass(frozen=True)
class DeidentifyOptions:
    """What an actor is told. ``out``: the folder of the clean videos; ``review``: that of the review's pictures."""

    out: str
    review: str
    cleaning: CleaningOptions


@dataclass
class DeidentifySummary:
    """What a run did. ``failed``: id → (code, reason)."""

    videos: int
    before: int
    cleaned: int = 0
    with_findings: int = 0
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    failed_list: str | None = None
    """The file that says which files failed (CSV, mode 0600); None where none did."""

    @property
    def exit_code(self) -> int:
        """0 where every video has a clean copy, else 3."""
        return 3 if self.failed else 0


class DeidentifyStage:
    """Cleans one video per row."""

    def __init__(self, options: DeidentifyOptions):
        self.options = options

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows of SEGMENT_SCHEMA become rows of RESULT_SCHEMA."""
        rows = [self._clean(row["video_id"], row["uri"]) for row in table.to_pylist()]
        return pa.Table.from_pylist(rows, schema=RESULT_SCHEMA)

    def _clean(self, name: str, uri: str) -> dict[str, str | None]:
        out = Path(self.options.out) / "videos" / f"{name}.mp4"
        unfinished = out.with_name(f".{name}.part")
        try:
            with at_hand(uri) as source:
                unfinished.unlink(missing_ok=True)
                try:
                    cleaned = clean_file(source, unfinished, self.options.cleaning)
                except DecoderKilled:  # the first time can be the fault of the machine
                    unfinished.unlink(missing_ok=True)
                    cleaned = clean_file(source, unfinished, self.options.cleaning)
                if cleaned.spans or cleaned.masks:
                    write_items(Path(self.options.review) / name, source, cleaned.spans, cleaned.masks)
                os.replace(unfinished, out)
        except VideoError as error:
            unfinished.unlink(missing_ok=True)
            return {"video_id": name, "certificate": None, "code": error.code, "reason": str(error)}
        return {"video_id": name, "certificate": json.dumps(cleaned.certificate), "code": None, "reason": None}


def deidentify_archive(
    archive: str,
    out: str,
    *,
    review: str | None = None,
    key: str | None = None,
    options: CleaningOptions | None = None,
    retry_failed: bool = False,
    resources: ResourceRequest = DEFAULT_REQUEST,
    observer: RunObserver = QUIET,
) -> DeidentifySummary:
    """Writes a clean copy of each video at ``archive`` to ``out``/videos and its certificate to ``out``/certificates.

    ``out`` is a folder that all machines of the cluster share. ``review``: the folder of what a person looks through
    (default: ``out`` with ``-review`` at its end); ``key``: the file of the site's key (default: ``site-key.pem`` in
    the folder of the review). Both hold secrets and lie apart from ``out``. What is finished is not done again. A video
    that can't be read stands in the summary with a reason, and is tried again by ``retry_failed`` alone; which file it
    is says ``failed-files.csv`` in the folder of the review. Raises UsageError (an archive of DICOM files, ``out`` with
    videos that no such run wrote, key, a missing package), OutputError where another run is at work on ``out``.
    """
    archive, out = absolute_location(archive), absolute_location(out)
    if local_path(out) is None:
        raise UsageError(f"out {out!r}: expected a folder that all machines share; copy the clean videos on from there")
    review_folder = Path(review or f"{out.rstrip('/')}-review").absolute()
    if review_folder.is_relative_to(out):
        raise UsageError(
            f"review {str(review_folder)!r}: expected a folder outside of {out!r}: it holds patients' data"
        )
    listing = list_archive(archive, outside=out)
    for message in listing.messages():
        observer.on_message(message)
    _check_out(out)
    _check_not_dicom(listing.videos)
    require_writable(out)
    for folder in ("videos", "certificates"):
        make_local_folder(Path(out) / folder)
    make_local_folder(review_folder, 0o700)
    with Lease(out, secrets.token_hex(6), observer.on_message):
        return _clean_archive(
            listing.videos,
            DeidentifyOptions(out, str(review_folder), options or CleaningOptions()),
            site_key(Path(key) if key else review_folder / "site-key.pem"),
            retry_failed,
            resources,
            observer,
        )


def _clean_archive(
    videos: Sequence[str],
    options: DeidentifyOptions,
    key: Ed25519PrivateKey,
    retry_failed: bool,
    resources: ResourceRequest,
    observer: RunObserver,
) -> DeidentifySummary:
    """Cleans those of ``videos`` (uris) that have no clean copy yet."""
    out, review = Path(options.out), Path(options.review)
    before = _failed_before(review)
    uris, unread = _named(key, videos)
    finished = {path.stem for path in (out / "certificates").glob("*.json")}
    failed = ({} if retry_failed else {name: before[name] for name in uris if name in before}) | unread
    waiting = {name: uri for name, uri in uris.items() if name not in finished and name not in failed}
    summary = DeidentifySummary(len(uris), len(set(uris) & finished), failed=failed)
    observer.on_message(f"{len(uris):,} videos, {summary.before:,} clean before, {len(waiting):,} to clean")
    rows = ListedSegments(Segment(name, name, uri, 0.0, 0.0, 0.0) for name, uri in waiting.items())
    if rows:
        with RunCluster(resources, observer) as cluster:
            pools = cluster.size_pools(len(rows))
            for table in stream(rows, [Stage(DeidentifyStage, options, pools.decoders)], pools.leave):
                for row in table.to_pylist():
                    _take(row, waiting[row["video_id"]], out, review, key, summary)
    write_json(review / FAILED, summary.failed)
    failed_list = write_private_list(
        review / "failed-files.csv",
        ("id", "file", "code"),
        ((name, uris[name], code) for name, (code, _) in sorted(summary.failed.items())),
    )
    summary.failed_list = str(failed_list) if failed_list else None
    write_index(review)
    return summary


def _failed_before(review: Path) -> dict[str, tuple[str, str]]:
    """id → (code, reason) of the videos that the run before could not clean; empty where its list can't be read, so
    that they are tried again."""
    try:
        return {name: (code, reason) for name, (code, reason) in read_json(review / FAILED).items()}
    except (FileNotFoundError, ValueError):
        return {}


def _check_out(out: str) -> None:
    """Raises OutputError where ``out`` holds videos that no run of this command wrote: whoever takes the folder for a
    clean archive would pass on their names."""
    folder = Path(out)
    is_own = (folder / "certificates").is_dir()
    others = sum(
        path.suffix.lower() in EXTENSIONS
        and not (is_own and path.parent == folder / "videos" and OWN_NAME.fullmatch(path.name))
        for path in folder.rglob("*")
    )
    if others:
        raise OutputError(
            f"out {out!r}: expected a new folder, or one that this command has written, got "
            f"{others:,} other video file{'s' * (others > 1)} there; name another folder"
        )


def _check_not_dicom(uris: Sequence[str]) -> None:
    """Raises UsageError where all files are DICOM: each would fail, since a clean copy keeps no header."""
    if uris and all(map(_is_dicom, uris)):
        raise UsageError(
            "expected videos, got DICOM files; take their streams into an archive first: halsted dicom import SOURCE "
            "--out ARCHIVE --identities FILE, then deidentify ARCHIVE"
        )


def _is_dicom(uri: str) -> bool:
    fs, path = filesystem(uri)
    try:
        return is_dicom(read_head(fs, path, HEAD_BYTES))
    except (OSError, StorageUnavailable):  # the stage says why
        return False


def _take(
    row: dict[str, str], uri: str, out: Path, review: Path, key: Ed25519PrivateKey, summary: DeidentifySummary
) -> None:
    name = row["video_id"]
    if row["certificate"] is None:
        summary.failed[name] = (row["code"], row["reason"])
        return
    certificate = json.loads(row["certificate"])
    link(review, name, uri)
    write_certificate(out / "certificates" / f"{name}.json", signed(certificate, key))
    summary.cleaned += 1
    summary.with_findings += certificate["review"]["state"] == "open"
    summary.failed.pop(name, None)


def _named(key: Ed25519PrivateKey, uris: Sequence[str]) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """(the name of each clean copy → its file, name → (code, reason) of the files that can't be read now).

    A file that can't be read is named by its place, and is not cleaned: its copy would lie there a second time when the
    file can be read again.
    """

    def content(uri: str) -> str | VideoError:
        fs, path = filesystem(uri)
        try:
            file_info(fs, path)
            return with_retries(lambda: identify(fs, path)[0], "its first, last and middle bytes", PATIENCE_S)
        except VideoError as error:
            return error

    named: dict[str, str] = {}
    unread: dict[str, tuple[str, str]] = {}
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:  # each file is some requests
        for uri, found in zip(uris, pool.map(content, uris), strict=True):
            name = pseudonym(key, uri if isinstance(found, VideoError) else found)
            named[name] = uri
            if isinstance(found, VideoError):
                unread[name] = (found.code, str(found))
    return named, unread


def pseudonym(key: Ed25519PrivateKey, content: str) -> str:
    """The name of a clean copy: 16 hex digits, of the id of its source's ``content`` and the site's key."""
    secret = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return hmac.new(hashlib.sha256(b"halsted-pseudonym" + secret).digest(), content.encode(), "sha256").hexdigest()[:16]


@contextmanager
def at_hand(uri: str) -> Iterator[Path]:
    """The file as a local one: a remote file is copied to a folder that only this user can read, for as long as the
    block lasts. Raises StorageUnavailable."""
    path = local_path(uri)
    if path is not None:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="halsted-") as folder:
        copy = Path(folder) / "video"
        fs, remote = filesystem(uri)
        try:
            fs.get_file(remote, str(copy))
        except Exception as error:  # each store has errors of its own
            raise StorageUnavailable(f"the bytes can't be fetched now: {type(error).__name__}; run again") from None
        yield copy


def failures_by_code(summary: DeidentifySummary) -> dict[str, int]:
    """Code → how many videos failed with it."""
    return dict(Counter(code for code, _ in summary.failed.values()))
