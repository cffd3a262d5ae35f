"""Captions of an atlas: which rows are valid, the table's rows, and how captions are read, added and counted.

They lie in ``<archive>/atlas/captions``. A commit on ``samples`` names the version of this table that belongs to it, as
it does for the videos. So releases hold for captions too, and the split by video is that of the samples.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
from deltalake.exceptions import DeltaError

from halsted_ray.atlas.contents import ROUNDING_S, Atlas, Row
from halsted_ray.errors import AtlasError
from halsted_ray.records import CAPTION_SCHEMA, Caption, digest
from halsted_ray.storage.delta import native_files, open_table, table_uri, told

COARSE, MID, FINE, WHOLE = LEVELS = ("coarse", "mid", "fine", "video")
"""A phase or stretch of minutes, a step of several actions, one action, and the whole video."""
RAW, ENHANCED, TRANSCRIPT = KINDS = ("raw", "enhanced", "transcript")
LONGEST_TEXT = 1_000_000
"""Characters of one caption or transcript, at most: a transcript of ten hours has half of that."""
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""JSON may hold one, as \\ud83d; no table can."""
HOW_TO_CAPTION = "add some with `halsted atlas import ATLAS FILE --format captions`"


def read_captions(atlas: Atlas) -> tuple[Caption, ...]:
    """The captions of this version of the atlas, ordered by video and time; none where it has none.

    Raises AtlasError where the table can't be read.
    """
    rows = caption_table(atlas)
    if rows is None:
        return ()
    columns = [rows.column(name).to_pylist() for name in CAPTION_SCHEMA.names]
    return tuple(Caption(*values) for values in zip(*columns, strict=True))


def caption_table(atlas: Atlas) -> pa.Table | None:
    """The same as a table (CAPTION_SCHEMA); None where the atlas has no captions."""
    if atlas.captions_version is None:
        return None
    with _or_unreadable(atlas):
        table = open_table(table_uri(atlas.root, "atlas", "captions"), atlas.captions_version)
        return table.to_pyarrow_table(columns=CAPTION_SCHEMA.names, filesystem=native_files(table))


def caption_table_id(atlas: Atlas) -> str:
    """The id of the table of the captions: another one where a table was made anew in the same place.

    Raises AtlasError where it can't be read.
    """
    with _or_unreadable(atlas):
        return str(open_table(table_uri(atlas.root, "atlas", "captions")).metadata().id)


@contextmanager
def _or_unreadable(atlas: Atlas) -> Iterator[None]:
    """Raises AtlasError where the body can't read the table."""
    try:
        yield
    except (DeltaError, OSError, ValueError) as error:
        raise AtlasError(
            f"the captions of the atlas at {atlas.root!r} can't be read: {told(error)}; restore them from a backup or "
            "read another release"
        ) from error


def captions_for_training(
    atlas: Atlas, kinds: Iterable[str] = (RAW, ENHANCED), levels: Iterable[str] = (COARSE, MID, FINE)
) -> list[Caption]:
    """The captions that a model may learn from: of ``kinds`` and ``levels``, and kept by the filters of their source.

    Where a span has the same text raw and enhanced, it comes once. Raises AtlasError where there is none, with what to
    do.
    """
    kinds, levels = set(kinds), set(levels)
    every = read_captions(atlas)
    found: dict[tuple[object, ...], Caption] = {}
    for caption in every:
        if caption.kind in kinds and caption.level in levels and not caption.excluded:
            found.setdefault((caption.video_id, caption.start_s, caption.stop_s, caption.text), caption)
    if not found:
        had = f"{len(every):,} captions, none of which is of this kind and level" if every else "no captions"
        raise AtlasError(f"the atlas {atlas.name!r} has {had}; {HOW_TO_CAPTION}")
    return list(found.values())


def captions_digest(captions: Iterable[Caption]) -> str:
    """16 hex digits over rows of captions."""
    return digest([list(vars(caption).values()) for caption in captions])


def caption_rows(captions: Iterable[Caption]) -> list[Row]:
    """The rows of the table, each caption once, ordered by video, time, level, kind and text."""
    unique = sorted(set(captions), key=lambda c: (c.video_id, c.start_s, c.stop_s, c.level, c.kind, c.source, c.text))
    return [dict(vars(caption)) for caption in unique]


def check_captions(captions: Iterable[Caption], duration_s: Mapping[str, float]) -> None:
    """Raises AtlasError at the first caption that breaks the schema. ``duration_s``: video_id to the video's length."""
    for caption in captions:
        at = f"caption [{caption.start_s}, {caption.stop_s}) s of video {caption.video_id}"
        if caption.video_id not in duration_s:
            raise AtlasError(f"{at}: the atlas has no such video; add its row to videos")
        if not 0 <= caption.start_s < caption.stop_s <= duration_s[caption.video_id] + ROUNDING_S:
            raise AtlasError(f"{at}: expected 0 <= start < stop <= duration {duration_s[caption.video_id]} s")
        if problem := caption_problem(caption):
            raise AtlasError(f"{at}: {problem}")


def caption_problem(caption: Caption) -> str:
    """What is wrong with a caption beside its times and video; '' where nothing is."""
    if caption.level not in LEVELS:
        return f"level {caption.level!r}; expected one of {', '.join(LEVELS)}"
    if caption.kind not in KINDS:
        return f"kind {caption.kind!r}; expected one of {', '.join(KINDS)}"
    if not caption.text.strip():
        return "an empty text; expected a sentence"
    if LONE_SURROGATE.search(caption.text + caption.source + caption.excluded):
        return "a text with half a character (a lone surrogate); expected text that UTF-8 can write"
    if len(caption.text) > LONGEST_TEXT:
        return f"a text of {len(caption.text):,} characters; expected {LONGEST_TEXT:,} at most"
    return ""


def with_captions(known: Sequence[Caption], given: Iterable[Caption]) -> tuple[Caption, ...]:
    """``known`` with the captions ``given``; a caption that differs from a known one only in ``excluded`` replaces
    it."""
    found = {replace(caption, excluded=""): caption for caption in (*known, *given)}
    return tuple(Caption(**row) for row in caption_rows(found.values()))  # type: ignore[arg-type]


def captions_count(captions: Iterable[Caption]) -> dict[str, int]:
    """``level kind`` to the number of captions that the filters of their source keep, the coarsest level first."""
    counts = Counter((c.level, c.kind) for c in captions if not c.excluded)
    order = sorted(counts, key=lambda key: (LEVELS.index(key[0]), KINDS.index(key[1])))
    return {" ".join(key): counts[key] for key in order}
