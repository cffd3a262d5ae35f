"""Where the tenants' bytes lie: ``<root>/<tenant>/…``, in a folder or in an object store that speaks S3.

A *place* is a path within one tenant's storage. Uploads come in parts of 5 MiB, only the last part may be shorter:
that is the least size that S3 takes and the largest that the API takes. A folder keeps the parts of an upload in one
file at their offsets, so that completing the upload copies nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from halsted_ray.errors import OutputError, UsageError

PART_BYTES = 5 * 1024 * 1024
REMOVAL_ATTEMPTS = 10
"""How often to try to remove a folder while another replica removes files from it at the same time."""
MAX_PARTS = 10_000
"""S3's limit, so a video has at most 48.8 GiB."""


class StoreFull(OutputError):
    """The store has no room left."""


class UploadEnded(OutputError):
    """The store takes no more parts of this upload: they were joined, or the store has dropped them."""

    def __init__(self) -> None:
        super().__init__("this upload takes no more parts; complete it, or begin another one if that is refused")


def open_store(root: str) -> ObjectStore:
    """The store at ``root``: a folder or s3://bucket/prefix. Raises UsageError for any other URL."""
    if root.startswith("s3://"):
        return S3Store(root)
    if "://" in root:
        raise UsageError(f"store {root!r}: expected a folder or s3://bucket/prefix; set HALSTED_STORE")
    return FolderStore(root)


class ObjectStore(ABC):
    """The files of all tenants. ``root`` has no slash at its end.

    An upload is begun, its parts are put, and it is completed or aborted. ``ref`` is what ``begin_upload`` gave.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    def location(self, tenant_id: str, place: str) -> str:
        """The path or URL of a place, as ``halsted_ray`` opens it."""
        return f"{self.root}/{tenant_id}/{place}"

    def resolve(self, tenant_id: str, uri: str) -> str:
        """The location that a caller's ``uri`` means: a path within the tenant's storage, or a whole URL inside it.

        Raises UsageError for everything else: other schemes, other tenants, ``..``, fsspec's ``::`` chains.
        """
        refusal = UsageError("uri: expected a path inside your own storage, such as inbox/clip.mp4")
        own = f"{self.root}/{tenant_id}/"
        path = uri[len(own) :] if uri.startswith(own) else uri
        if not path or any(mark in path for mark in (":", "\\", "\0", "%", "?", "#", "*", "[")):
            raise refusal
        if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
            raise refusal
        return self._inside(tenant_id, str(PurePosixPath(path)), refusal)

    @abstractmethod
    def begin_upload(self, tenant_id: str, place: str) -> str:
        """Begins an upload to ``place`` and returns the store's own id of it, empty if it needs none. Raises
        StoreFull, OutputError."""

    @abstractmethod
    def put_part(self, tenant_id: str, place: str, ref: str, number: int, data: bytes) -> str:
        """Writes part ``number`` (from 1) and returns its ETag. Raises StoreFull, UploadEnded, OutputError."""

    @abstractmethod
    def presign_part(self, tenant_id: str, place: str, ref: str, number: int, link_s: float) -> str | None:
        """A URL of the store that takes part ``number`` by PUT for ``link_s`` seconds; None where the store has no
        such URLs."""

    @abstractmethod
    def list_parts(self, tenant_id: str, place: str, ref: str) -> dict[int, tuple[int, str]]:
        """Number → (size in bytes, ETag) of the parts that clients put straight to the store and that wait to be
        joined; empty once they were joined. Raises OutputError where the store does not say."""

    @abstractmethod
    def complete_upload(self, tenant_id: str, place: str, ref: str, etags: Mapping[int, str], size_bytes: int) -> None:
        """Joins the parts to one file at ``place``. May be repeated: a file that is there is kept as it is.

        Raises UploadEnded where neither the file nor its parts are there, StoreFull, OutputError.
        """

    @abstractmethod
    def abort_upload(self, tenant_id: str, place: str, ref: str) -> None:
        """Drops the parts, and the file where they were joined already. May be repeated. Raises OutputError."""

    @abstractmethod
    def remove(self, tenant_id: str, place: str) -> None:
        """Removes a file, or a folder with everything in it. Nothing there is fine. Raises OutputError."""

    @abstractmethod
    def check(self) -> None:
        """Raises OutputError where the store does not answer or can't be written."""

    @abstractmethod
    def _inside(self, tenant_id: str, path: str, refusal: UsageError) -> str:
        """The location of ``path``, which has no step upwards. Raises ``refusal`` where it leads out all the same."""


class FolderStore(ObjectStore):
    """A folder on disks that all replicas share."""

    def begin_upload(self, tenant_id: str, place: str) -> str:
        """Makes the folder of the upload."""
        path = Path(self.location(tenant_id, place))
        _writing(lambda: path.parent.mkdir(parents=True, exist_ok=True))
        return ""

    def put_part(self, tenant_id: str, place: str, _ref: str, number: int, data: bytes) -> str:
        """Writes the part at its offset in the unfinished file. The ETag is made from the part's SHA-256."""
        whole, unfinished = Path(self.location(tenant_id, place)), self._unfinished(tenant_id, place)
        if not whole.exists():
            _writing(lambda: self._write(unfinished, data, (number - 1) * PART_BYTES))
        if whole.exists():  # also where the parts were joined while this part was written
            unfinished.unlink(missing_ok=True)
            raise UploadEnded
        return f'"{hashlib.sha256(data).hexdigest()[:32]}"'

    def presign_part(self, _tenant_id: str, _place: str, _ref: str, _number: int, _link_s: float) -> None:
        """None: a folder has no URLs."""

    def list_parts(self, _tenant_id: str, _place: str, _ref: str) -> dict[int, tuple[int, str]]:
        """Nothing: all parts of a folder came through the API, and the database knows them."""
        return {}

    def complete_upload(
        self, tenant_id: str, place: str, _ref: str, _etags: Mapping[int, str], size_bytes: int
    ) -> None:
        """Gives the unfinished file its name. May be repeated. Raises StoreFull, OutputError."""
        whole, unfinished = Path(self.location(tenant_id, place)), self._unfinished(tenant_id, place)
        if whole.exists():
            return

        def close() -> None:
            with open(unfinished, "r+b") as file:
                file.truncate(size_bytes)
                os.fsync(file.fileno())
            os.replace(unfinished, whole)

        _writing(close)

    def abort_upload(self, tenant_id: str, place: str, _ref: str) -> None:
        """Removes the folder of the upload. May be repeated. Raises OutputError."""
        self.remove(tenant_id, str(PurePosixPath(place).parent))

    def remove(self, tenant_id: str, place: str) -> None:
        """Removes a file, or a folder with everything in it. Nothing there is fine. Raises OutputError."""
        path = Path(self.location(tenant_id, place))

        def clear() -> None:
            for _ in range(REMOVAL_ATTEMPTS):
                if not os.path.lexists(path):
                    return
                with contextlib.suppress(FileNotFoundError):  # another replica removes the same folder
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

        _writing(clear)

    def check(self) -> None:
        """Makes the root if it is new. Raises OutputError where nothing can be written there."""
        _writing(lambda: Path(self.root).mkdir(mode=0o700, parents=True, exist_ok=True))
        if not os.access(self.root, os.W_OK):
            raise OutputError("the store can't be written")

    def _inside(self, tenant_id: str, path: str, refusal: UsageError) -> str:
        """A link inside the tenant's storage could lead out of it."""
        own = Path(self.root, tenant_id).resolve()
        found = (own / path).resolve()
        if not found.is_relative_to(own) or not found.is_file():
            raise refusal
        return str(found)

    def _unfinished(self, tenant_id: str, place: str) -> Path:
        return Path(self.location(tenant_id, place) + ".part")

    def _write(self, path: Path, data: bytes, offset: int) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(handle, view, offset)
                view, offset = view[written:], offset + written
        finally:
            os.close(handle)


class S3Store(ObjectStore):
    """An object store that speaks S3, with its own multipart uploads. Clients may put parts straight to it."""

    def __init__(self, root: str) -> None:
        import s3fs

        super().__init__(root)
        self.fs = s3fs.S3FileSystem(use_listings_cache=False)

    def begin_upload(self, tenant_id: str, place: str) -> str:
        """Begins a multipart upload and returns its id."""
        upload_id: str = self._call("create_multipart_upload", tenant_id, place)["UploadId"]
        return upload_id

    def put_part(self, tenant_id: str, place: str, ref: str, number: int, data: bytes) -> str:
        """Sends the part to the object store and returns the store's ETag of it."""
        etag: str = self._call("upload_part", tenant_id, place, UploadId=ref, PartNumber=number, Body=data)["ETag"]
        return etag

    def presign_part(self, tenant_id: str, place: str, ref: str, number: int, link_s: float) -> str:
        """A URL of the object store that takes part ``number`` by PUT for ``link_s`` seconds."""
        from fsspec.asyn import sync

        self.fs.connect()
        bucket, key = self._key(tenant_id, place)
        parameters = {"Bucket": bucket, "Key": key, "UploadId": ref, "PartNumber": number}
        url: str = sync(
            self.fs.loop, self.fs.s3.generate_presigned_url, "upload_part", Params=parameters, ExpiresIn=int(link_s)
        )
        return url

    def list_parts(self, tenant_id: str, place: str, ref: str) -> dict[int, tuple[int, str]]:
        """Number → (size in bytes, ETag) of all parts that wait in the object store, whoever put them there."""
        found: dict[int, tuple[int, str]] = {}
        marker = 0
        while True:
            try:
                page = self._call("list_parts", tenant_id, place, UploadId=ref, PartNumberMarker=marker)
            except UploadEnded:
                return {}
            found |= {part["PartNumber"]: (part["Size"], part["ETag"]) for part in page.get("Parts", [])}
            if not page.get("IsTruncated"):
                return found
            marker = page["NextPartNumberMarker"]

    def complete_upload(self, tenant_id: str, place: str, ref: str, etags: Mapping[int, str], _size_bytes: int) -> None:
        """Has the object store join the parts. May be repeated: an object that is there is kept as it is."""
        if self._is_there(tenant_id, place):
            return
        parts = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
        try:
            self._call("complete_multipart_upload", tenant_id, place, UploadId=ref, MultipartUpload={"Parts": parts})
        except OutputError:
            # The store can have joined them although its answer was lost, or another replica joined them.
            if not self._is_there(tenant_id, place):
                raise

    def abort_upload(self, tenant_id: str, place: str, ref: str) -> None:
        """Drops the parts, and the object where they were joined already. May be repeated. Raises OutputError."""
        with contextlib.suppress(UploadEnded):
            self._call("abort_multipart_upload", tenant_id, place, UploadId=ref)
        self.remove(tenant_id, place)

    def remove(self, tenant_id: str, place: str) -> None:
        """Removes an object, or all objects below a folder. Nothing there is fine. Raises OutputError."""
        bucket, key = self._key(tenant_id, place)
        try:
            # One request per file: many S3-compatible stores refuse the bulk request without an MD5, which clients
            # no longer send.
            for path in self.fs.find(f"{bucket}/{key}"):
                with contextlib.suppress(FileNotFoundError):  # another replica removes the same files
                    self.fs.rm_file(path)
        except Exception as error:
            raise OutputError(f"the object store did not remove a file: {type(error).__name__}") from None

    def check(self) -> None:
        """Raises OutputError where the bucket can't be listed."""
        try:
            self.fs.ls(self.root.removeprefix("s3://").split("/")[0])
        except Exception as error:
            raise OutputError(f"the store does not answer: {type(error).__name__}") from None

    def _inside(self, tenant_id: str, path: str, _refusal: UsageError) -> str:
        return self.location(tenant_id, path)

    def _is_there(self, tenant_id: str, place: str) -> bool:
        """Whether an object lies at ``place``. Raises OutputError where the store does not say."""
        bucket, key = self._key(tenant_id, place)
        try:
            return bool(self.fs.exists(f"{bucket}/{key}"))
        except Exception as error:
            raise OutputError(f"the object store does not answer: {type(error).__name__}") from None

    def _key(self, tenant_id: str, place: str) -> tuple[str, str]:
        bucket, _, key = self.location(tenant_id, place).removeprefix("s3://").partition("/")
        return bucket, key

    def _call(self, method: str, tenant_id: str, place: str, **parameters: Any) -> Any:
        """The object store's answer to a method of S3. Raises UploadEnded, StoreFull, OutputError."""
        bucket, key = self._key(tenant_id, place)
        try:
            return self.fs.call_s3(method, Bucket=bucket, Key=key, **parameters)
        except Exception as error:
            answer = getattr(error.__cause__, "response", {})  # botocore's error, below the one that s3fs makes of it
            if answer.get("Error", {}).get("Code") == "NoSuchUpload":
                raise UploadEnded from None
            is_full = "XMinioStorageFull" in str(error) or "InsufficientStorage" in str(error)
            raise (StoreFull if is_full else OutputError)(
                f"the object store refused {method}: {type(error).__name__}"
            ) from None


def _writing(write: Callable[[], None]) -> None:
    """Runs ``write``. Raises StoreFull where the disk is full, OutputError for any other error of the system."""
    try:
        write()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull("the store is full; nothing of this was kept, make room and send it again") from None
        raise OutputError(f"the store can't be written: {os.strerror(error.errno or 0)}") from None
