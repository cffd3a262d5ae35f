"""Where the tenants' bytes lie: ``<root>/<tenant>/…``, in a folder or in an object store that speaks S3.

A *place* is a path within one tenant's storage. Uploads come in parts of 5 MiB, only the last part may be shorter:
that is the least size that S3 takes and the largest that the API takes. A folder keeps the parts of an upload in one
file at their offsets, so that completing the upload copies nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from halsted_ray.errors import OutputError, UsageError

PART_BYTES = 5 * 1024 * 1024
REMOVAL_ATTEMPTS = 10
"""How often to try to remove a folder while another replica removes files from it at the same time."""
MAX_PARTS = 10_000
"""S3's limit, so a video has at most 48.8 GiB."""


VIDEOS = "videos"
"""The folder of a tenant's storage in which each upload has a folder of its own."""


class StoreFull(OutputError):
    """The store has no room left."""


@dataclass(frozen=True)
class KeptUpload:
    """What the store keeps of one upload, whatever the database says. ``changed_s``: when it changed last, in seconds
    since 1970. ``ref``: the store's own id of parts that were not joined, '' for a folder or for files."""

    tenant_id: str
    upload_id: str
    changed_s: float
    ref: str
    is_whole: bool
    """Whether the parts were joined to a file."""


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

    writes_in_place = False
    """Whether a part that is sent again changes the bytes of the part before while it comes."""

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

    def place_of(self, tenant_id: str, location: str) -> str:
        """The place within the tenant's storage of a location that ``resolve`` gave."""
        return location.removeprefix(self.location(tenant_id, ""))

    @property
    @abstractmethod
    def free_bytes(self) -> int | None:
        """The room that the store has left; None where it does not say. Raises OutputError."""

    @abstractmethod
    def held(self, tenant_id: str, place: str) -> contextlib.AbstractContextManager[None]:
        """Within the block no other request, of any process, changes the parts of the upload to ``place``. Raises
        UploadEnded where the upload has ended, OutputError."""

    @abstractmethod
    def check_open(self, tenant_id: str, place: str) -> None:
        """Raises UploadEnded where the store knows that the parts of the upload to ``place`` were joined."""

    @abstractmethod
    def kept_uploads(self) -> Iterator[KeptUpload]:
        """Everything that the store keeps of the uploads of all tenants. Raises OutputError."""

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
    def drop_parts(self, tenant_id: str, place: str, ref: str) -> None:
        """Drops the parts that wait to be joined. May be repeated. Raises OutputError."""

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
    """A folder on disks that all replicas share. Its file system must know locks (``flock``), as SQLite's must."""

    writes_in_place = True

    @property
    def free_bytes(self) -> int | None:
        """What the disk has left for users that are not root."""
        place = Path(self.root)
        while not place.exists():
            place = place.parent
        try:
            disk = os.statvfs(place)
        except OSError as error:
            raise OutputError(f"the store does not say how much room it has: {os.strerror(error.errno or 0)}") from None
        return disk.f_bavail * disk.f_frsize

    @contextlib.contextmanager
    def held(self, tenant_id: str, place: str) -> Iterator[None]:
        """A lock on a file in the upload's folder. It ends with the process that holds it, however that ends."""
        try:
            handle = os.open(self.location(tenant_id, place) + ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # the folder is gone
            raise UploadEnded from None
        except OSError as error:
            raise _refusal(error) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def check_open(self, tenant_id: str, place: str) -> None:
        """The file is there as soon as the parts are joined."""
        if os.path.lexists(self.location(tenant_id, place)):
            raise UploadEnded

    def kept_uploads(self) -> Iterator[KeptUpload]:
        """A folder per upload, as ``begin_upload`` made it."""
        for folder in sorted(Path(self.root).glob(f"*/{VIDEOS}/*")):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # another replica removes it
                files = [file for file in folder.iterdir() if file.is_file()]
                changed_s = max(file.stat().st_mtime for file in [folder, *files])
                is_whole = any(file.suffix not in (".part", ".lock") for file in files)
                yield KeptUpload(folder.parts[-3], folder.name, changed_s, "", is_whole)

    def begin_upload(self, tenant_id: str, place: str) -> str:
        """Makes the folder of the upload."""
        path = Path(self.location(tenant_id, place))
        _writing(lambda: path.parent.mkdir(parents=True, exist_ok=True))
        return ""

    def put_part(self, tenant_id: str, place: str, _ref: str, number: int, data: bytes) -> str:
        """Writes the part at its offset in the unfinished file, and to the disk. The ETag is made from the part's
        SHA-256. The caller holds the upload (``held``)."""
        self.check_open(tenant_id, place)
        unfinished = self._unfinished(tenant_id, place)
        _writing(lambda: self._write(unfinished, data, (number - 1) * PART_BYTES))
        return f'"{hashlib.sha256(data).hexdigest()[:32]}"'

    def presign_part(self, _tenant_id: str, _place: str, _ref: str, _number: int, _link_s: float) -> None:
        """None: a folder has no URLs."""

    def list_parts(self, _tenant_id: str, _place: str, _ref: str) -> dict[int, tuple[int, str]]:
        """Nothing: all parts of a folder came through the API, and the database knows them."""
        return {}

    def complete_upload(
        self, tenant_id: str, place: str, _ref: str, _etags: Mapping[int, str], size_bytes: int
    ) -> None:
        """Gives the unfinished file its name. May be repeated. Raises StoreFull, OutputError. The caller holds the
        upload (``held``)."""
        whole, unfinished = Path(self.location(tenant_id, place)), self._unfinished(tenant_id, place)

        def close() -> None:
            with open(unfinished, "r+b") as file:
                file.truncate(size_bytes)
                os.fsync(file.fileno())
            os.replace(unfinished, whole)

        if not whole.exists():
            _writing(close)

    def drop_parts(self, tenant_id: str, place: str, _ref: str) -> None:
        """Removes the unfinished file."""
        _writing(lambda: self._unfinished(tenant_id, place).unlink(missing_ok=True))

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

    def place_of(self, tenant_id: str, location: str) -> str:
        """The root itself may be behind a link, and ``resolve`` follows links."""
        return Path(location).relative_to(Path(self.root, tenant_id).resolve()).as_posix()

    def _unfinished(self, tenant_id: str, place: str) -> Path:
        return Path(self.location(tenant_id, place) + ".part")

    def _write(self, path: Path, data: bytes, offset: int) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(handle, view, offset)
                view, offset = view[written:], offset + written
            os.fdatasync(handle)  # the database keeps the part's digest next, and must not know more than the disk
        finally:
            os.close(handle)


class S3Store(ObjectStore):
    """An object store that speaks S3, with its own multipart uploads. Clients may put parts straight to it."""

    def __init__(self, root: str) -> None:
        import s3fs

        super().__init__(root)
        self.fs = s3fs.S3FileSystem(use_listings_cache=False)

    @property
    def free_bytes(self) -> None:
        """None: S3 has no such number."""

    def held(self, _tenant_id: str, _place: str) -> contextlib.AbstractContextManager[None]:
        """Nothing to hold: the store joins the parts whose ETags it is given, and refuses any other."""
        return contextlib.nullcontext()

    def check_open(self, _tenant_id: str, _place: str) -> None:
        """Nothing: the store refuses a part of an upload that it has ended (``put_part``)."""

    def kept_uploads(self) -> Iterator[KeptUpload]:
        """The multipart uploads that were neither completed nor aborted, and the objects of all uploads."""
        bucket, _, prefix = self.root.removeprefix("s3://").partition("/")
        base = f"{prefix}/" if prefix else ""
        marks: dict[str, str] = {}
        while True:
            page = self._ask("list_multipart_uploads", Bucket=bucket, Prefix=base, **marks)
            for open_upload in page.get("Uploads") or []:
                if whose := _upload_of(open_upload["Key"].removeprefix(base)):
                    yield KeptUpload(*whose, open_upload["Initiated"].timestamp(), open_upload["UploadId"], False)
            if not page.get("IsTruncated"):
                break
            marks = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
        marks = {}
        while True:
            page = self._ask("list_objects_v2", Bucket=bucket, Prefix=base, **marks)
            for item in page.get("Contents") or []:
                if whose := _upload_of(item["Key"].removeprefix(base)):
                    yield KeptUpload(*whose, item["LastModified"].timestamp(), "", True)
            if not page.get("IsTruncated"):
                return
            marks = {"ContinuationToken": page["NextContinuationToken"]}

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

    def drop_parts(self, tenant_id: str, place: str, ref: str) -> None:
        """Has the object store abort its multipart upload; without ``ref`` there is none."""
        if ref:
            with contextlib.suppress(UploadEnded):
                self._call("abort_multipart_upload", tenant_id, place, UploadId=ref)

    def abort_upload(self, tenant_id: str, place: str, ref: str) -> None:
        """Drops the parts, and the object where they were joined already. May be repeated. Raises OutputError."""
        self.drop_parts(tenant_id, place, ref)
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
        return self._ask(method, Bucket=bucket, Key=key, **parameters)

    def _ask(self, method: str, **parameters: Any) -> Any:
        try:
            return self.fs.call_s3(method, **parameters)
        except Exception as error:
            answer = getattr(error.__cause__, "response", {})  # botocore's error, below the one that s3fs makes of it
            if answer.get("Error", {}).get("Code") == "NoSuchUpload":
                raise UploadEnded from None
            is_full = "XMinioStorageFull" in str(error) or "InsufficientStorage" in str(error)
            raise (StoreFull if is_full else OutputError)(
                f"the object store refused {method}: {type(error).__name__}"
            ) from None


def _upload_of(path: str) -> tuple[str, str] | None:
    """(tenant, upload) that a path below the root belongs to; None for a path of anything else."""
    parts = path.split("/")
    return (parts[0], parts[2]) if len(parts) > 3 and parts[1] == VIDEOS else None


def _writing(write: Callable[[], None]) -> None:
    """Runs ``write``. Raises StoreFull where the disk is full, OutputError for any other error of the system."""
    try:
        write()
    except OSError as error:
        raise _refusal(error) from None


def _refusal(error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull("the store is full; nothing of this was kept, make room and send it again")
    return OutputError(f"the store can't be written: {os.strerror(error.errno or 0)}")
