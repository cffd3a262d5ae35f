"""Which files of an archive are left out for their names, and the words for it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from halsted_ray.storage.tree import SNAPSHOT

RECYCLED = "in a recycle bin"
OF_THE_DRIVE = "in a folder of the drive's own"
APPLE_DOUBLE = "an AppleDouble file, which holds no video"
BEING_WRITTEN = "still being written, left for the next run"
HIDDEN = "hidden"
OF_A_TABLE = "of a Delta table"
OF_THE_MAPS = "of the maps"
PROXY = "a recorder's small copy of a video"
NO_VIDEO = "not a video"
DICOM = "DICOM without a video"
NOT_LOOKED_AT = "without a video's name, and not looked at"

FOLDERS = (
    (
        re.compile(r"\$recycle\.bin|recycle[rd]|recycler|#recycle|@recycle|\.trash.*|network trash folder", re.I),
        RECYCLED,
    ),
    (
        re.compile(r"[.~#]snapshots?|@gmt-.*|\.zfs|@recently-snapshot|\.ckpt|~snapshot", re.I),
        SNAPSHOT,
    ),
    (
        re.compile(
            r"system volume information|lost\+found|found\.\d{3}|\$extend|@eadir|@tmp|@sharebin|\.spotlight-v100"
            r"|\.fseventsd|\.documentrevisions-v100",
            re.I,
        ),
        OF_THE_DRIVE,
    ),
    (re.compile(r"\..*"), HIDDEN),
)
"""Names of folders, and why their files are left out: the bins and snapshots of Windows, macOS, Linux, and of network
drives (Synology, QNAP, NetApp, ZFS)."""

BEING_WRITTEN_NAMES = re.compile(
    r".*\.(part|partial|filepart|crdownload|download|opdownload|tmp|temp|inprogress|incomplete|!ut|aria2)"
    r"|\..+\.[A-Za-z0-9]{6}"  # rsync: .case 7.mp4.Ab3xYz
    r"|\.goutputstream-\w+|\.part-\w+|~\$.*",
    re.I,
)
"""What browsers, rsync, WinSCP, Nextcloud and the like call a file until it is whole."""


def folder_reason(name: str) -> str:
    """Why the files in a folder of this name are left out, '' where they are not."""
    return next((reason for names, reason in FOLDERS if names.fullmatch(name)), "")


def name_reason(parts: Sequence[str]) -> str:
    """Why a file is left out for its name or for the name of a folder, '' where it is not.

    ``parts``: the names of the folders below the archive, then the file's own name.
    """
    *folders, name = parts
    for folder in folders:
        if reason := folder_reason(folder):
            return reason
    if name.startswith("._"):
        return APPLE_DOUBLE
    if BEING_WRITTEN_NAMES.fullmatch(name):
        return BEING_WRITTEN
    return HIDDEN if name.startswith(".") else ""
