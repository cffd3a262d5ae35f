"""Which source video the name of a clip's file names, for data sets that publish each clip as a file."""

from __future__ import annotations

import posixpath
import re

CLIP_NAME = re.compile(
    r"(?P<source>.+?)[ _.-]+(?:(?P<word>clip|seg|segment|sample)[ _.-]*)?\d+(?:\.\d+)?s?"
    r"(?:[ _.-]+(?:to[ _.-]+)?\d+(?:\.\d+)?s?)?",
    re.IGNORECASE,
)
"""The name of a clip's file: its source, and then the clip's number or its times."""


def source_of_clip_file(uri: str) -> str:
    """Returns the source that the name of a clip's file names; '' where it names none.

    ``v1_0007.mp4`` and ``Xy3k_12.5_14.0.mp4`` name one. ``video_07.mp4`` names none: its number tells videos apart.
    """
    folder, name = posixpath.split(uri)
    found = CLIP_NAME.fullmatch(posixpath.splitext(name)[0])
    if not found or not (found["word"] or re.search(r"\d", found["source"])):
        return ""
    return f"{folder}/{found['source'].lower()}"
