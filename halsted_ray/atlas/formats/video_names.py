"""Which video an annotation means: programs write paths, URLs and names of their own, percent-encoded or not.

    /data/upload/3/9f3c2b1a-case1.mp4           Label Studio, uploaded: eight hex digits before the name
    /data/local-files/?d=or2/case%201.mp4       Label Studio, local files: a path below its document root
    /tasks/7/resolve/?fileuri=czM6Ly9…          Label Studio, cloud storage: the address in base64
    s3://bucket/or2/case1.mp4                   the address of an object, as it is
    https://host/or2/case%201.mp4?X-Amz-Date=…  a web address, percent-encoded, with a query
    file:///C:/Users/op/case1.mp4               ELAN, percent-encoded
    C:\\Users\\op\\case1.mp4                       BORIS and others on Windows

The video is looked for in the folder of the videos: at the longest end of that path that is there, else by its name in
all folders below (where nobody named the folder: beside the annotations), where letter case and a missing extension do
not count. A name that several files have is not guessed.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from collections import defaultdict
from functools import cached_property
from unicodedata import normalize
from urllib.parse import parse_qs, unquote, urlsplit

from halsted_ray.atlas.formats.labelled_spans import LabelledSpans, Operation
from halsted_ray.atlas.formats.recording import ImportSettings, Recording, format_error, is_file, matching_files, origin
from halsted_ray.errors import ArchiveError, AtlasError, UsageError
from halsted_ray.storage.locations import absolute_location, filesystem
from halsted_ray.video.archive import EXTENSIONS, list_videos

VIDEO_ID = re.compile(r"[0-9a-f]{16}")
Names = defaultdict[str, list[str]]
"""A form of a file name to the URIs of the videos that have it."""
UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")


class VideoNames:
    """Finds the videos that the annotations at ``source`` name. A folder is listed at most once."""

    def __init__(self, source: str, settings: ImportSettings):
        self.source = source
        self.folder = absolute_location(settings.videos or posixpath.dirname(absolute_location(source)) or "/")
        self.given = bool(settings.videos)
        self.found: dict[str, str] = {}

    def recording(
        self,
        reference: str,
        spans: LabelledSpans,
        where: int | str,
        rate: float | None = 1.0,
        operation: Operation = ("", ""),
    ) -> Recording:
        """Returns the Recording of ``spans``. ``where``: the reference's place in the file, for messages.
        ``operation``: the video's specialty and procedure, '' for those that are not known.

        Raises AtlasError (code ``no-video``) where no video is named, or where several files have the name.
        """
        of_video = origin(self.source, where)
        if not reference.strip():
            raise format_error(self.source, where, reference, "the name of a video", "no-video")
        if VIDEO_ID.fullmatch(reference.strip()):
            return spans.recording(of_video, operation, rate, video_id=reference.strip())
        if reference not in self.found:
            self.found[reference] = self.find(reference, where)
        return spans.recording(of_video, operation, rate, uri=self.found[reference])

    def find(self, reference: str, where: int | str) -> str:
        """Returns the URI of the file that ``reference`` means; the expected place where there is none."""
        path, is_upload = path_of(reference)
        if not self.given and not is_upload and ("://" in path or path.startswith("/")):
            if path.startswith(("http://", "https://")):
                expected = "a video that can be read here: name the folder that holds it with --videos"
                raise format_error(self.source, where, "a web address", expected, "no-video")
            if "://" in path or self.is_there(path):
                try:
                    filesystem(path)
                except UsageError:
                    kind = f"an address that begins with {path.split('://')[0]}://"
                    expected = "a path or s3://…: name the folder that holds the videos with --videos"
                    # Without its cause, which holds the name of the file: it can be a patient's.
                    raise format_error(self.source, where, kind, expected, "no-video") from None
                return path
        parts = [part for part in path.split("://")[-1].split("/") if part not in ("", ".", "..")] or [path]
        for n in (*range(min(len(parts), 6), 1, -1), 1):
            if self.is_there(found := posixpath.join(self.folder, *parts[-n:])):
                return found
        name = normalize("NFC", parts[-1])
        matches = self.named(name)
        if not matches and is_upload and (uploaded := UPLOADED.fullmatch(name)):
            name = uploaded[1]
            matches = self.named(name) or self.stored_as(name)
        if len(matches) > 1:
            expected = "a name that one file has, or a longer path"
            got = f"a name that {len(matches)} files below the folder of the videos have"
            raise format_error(self.source, where, got, expected, "no-video")
        return matches[0] if matches else posixpath.join(self.folder, name)

    def is_there(self, uri: str) -> bool:
        """Returns whether there is a file. A store that refuses is asked again when the video is identified."""
        try:
            return is_file(uri)
        except (OSError, ValueError):
            return False

    def named(self, name: str) -> list[str]:
        """Returns the videos of this name; else in another letter case; else with an extension that ``name`` lacks."""
        exact, folded, stems, _ = self.index
        return exact.get(name) or folded.get(name.casefold()) or stems.get(name.casefold()) or []

    def stored_as(self, name: str) -> list[str]:
        """Returns the videos that an upload to Label Studio stores as ``name`` (Django's ``get_valid_filename``)."""
        return self.index[3].get(name, [])

    @cached_property
    def index(self) -> tuple[Names, Names, Names, Names]:
        """The videos below the folder by name in Unicode's composed form: exact, in one letter case, the same without
        the extension, and as an upload stores it."""
        exact, folded, stems, stored = Names(list), Names(list), Names(list), Names(list)
        try:
            if self.given:
                found = list_videos(self.folder)
            else:  # nobody named the folder, and it may be a whole disk
                found = [uri for uri in matching_files(self.folder, "*") if uri.lower().endswith(EXTENSIONS)]
        except (ArchiveError, AtlasError):  # no video there; each recording says so with its own place
            found = []
        for uri in found:
            name = normalize("NFC", posixpath.basename(uri))
            exact[name].append(uri)
            folded[name.casefold()].append(uri)
            stems[posixpath.splitext(name)[0].casefold()].append(uri)
            stored[re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))].append(uri)
        return exact, folded, stems, stored


def path_of(reference: str) -> tuple[str, bool]:
    """Returns (path or address, whether it is an upload of Label Studio) of what an annotation program wrote."""
    text = reference.strip()
    if text.startswith("<") and (source := re.search(r"""\bsrc\s*=\s*["']([^"']+)""", text)):
        text = source[1]  # an older template of Label Studio has the player's HTML as its data
    parts = urlsplit(text) if text.startswith(("http://", "https://", "file:", "/")) else None
    if parts is None:
        return (text if "://" in text else text.replace("\\", "/")), False
    query = parse_qs(parts.query)
    if "fileuri" in query and "/tasks/" in parts.path:
        try:
            address = query["fileuri"][0].replace(" ", "+")
            return base64.b64decode(address + "=" * (-len(address) % 4)).decode(), False
        except (binascii.Error, UnicodeDecodeError):
            return text, False
    if "d" in query and "local-files" in parts.path:
        return query["d"][0].replace("\\", "/"), False
    if text.startswith("/") and not parts.path.startswith("/data/upload/"):
        return text, False  # a path on a disk: a percent sign or question mark is part of a name
    path = unquote(parts.path)
    if parts.scheme in ("http", "https") and "/data/upload/" not in path:
        return f"{parts.scheme}://{parts.netloc}{path}", False
    return path, "/data/upload/" in path


def is_video_name(text: object) -> bool:
    """Returns whether ``text`` ends as the name of a video does."""
    return isinstance(text, str) and path_of(text)[0].lower().endswith(EXTENSIONS)
