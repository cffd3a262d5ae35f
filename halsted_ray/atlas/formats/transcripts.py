"""What was said in a video, with times where the text has them: SubRip, WebVTT, or the JSON of Whisper.

{"segments": [{"start": 0.0, "end": 4.2, "text": "…"}]}        of openai-whisper and WhisperX
{"chunks": [{"timestamp": [0.0, 4.2], "text": "…"}]}           of transformers
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

from halsted_ray.atlas.captions import LONE_SURROGATE
from halsted_ray.atlas.formats.recording import ImportSettings, format_error, json_of, parse_number, text_lines
from halsted_ray.atlas.formats.subtitles import PER_S, TIMES, cues_of

Said = tuple[float, float, str]
"""(start_s, stop_s, text); ``stop_s`` is infinite where nobody wrote when it ends."""


def said_at(text: str, file: str, where: str, settings: ImportSettings) -> list[Said] | None:
    """What was said when, in order; None where ``text`` has no times. A part without a right span is left out.

    ``file``, ``where``: for messages. Raises AtlasError in strict imports.
    """
    text = text.removeprefix("\ufeff")
    is_vtt = text.startswith("WEBVTT")  # whose cues come without tags and escapes
    if any(TIMES.fullmatch(line) for line in text_lines(text)):
        parts: Iterator[tuple[Any, Any, str | None]] = (
            (cue.start / PER_S, cue.stop / PER_S, " ".join(cue.lines if is_vtt else map(plain, cue.lines)))
            for cue in cues_of(text, file, settings)
        )
    elif (segments := _segments(text)) is not None:
        parts = iter(segments)
    else:
        return None
    found = []
    for number, (start, stop, words) in enumerate(parts, 1):
        with settings.or_left_out():
            at = f"{where}, part {number}"
            if words is None:
                raise format_error(file, at, words, "an object with start, end and text")
            if not (said := " ".join(words.split())):
                continue
            if LONE_SURROGATE.search(said):
                raise format_error(file, at, said[:40], "text that UTF-8 can write", "no-caption")
            start_s = parse_number(start, file, at, "start")
            stop_s = float("inf") if stop is None else parse_number(stop, file, at, "end")
            if not 0 <= start_s < stop_s:
                raise format_error(file, at, (start_s, stop_s), "0 <= start < end, in seconds", "no-span")
            found.append((start_s, stop_s, said))
    return found


def whole_text(text: str, file: str, where: str) -> str:
    """The words of a transcript without times: the text itself, or that of a Whisper JSON without parts.

    Raises AtlasError for subtitles or JSON that could not be read, which nobody said.
    """
    text = text.removeprefix("\ufeff").strip()
    words: object = text
    if text.startswith("{"):
        try:
            read = json_of(text)
        except ValueError:
            read = None
        words = read.get("text") if isinstance(read, dict) else None
    if not isinstance(words, str) or "-->" in words or LONE_SURROGATE.search(words):
        expected = "words, or subtitles or Whisper's JSON whose times can be read"
        raise format_error(file, where, text[:40], expected, "no-caption")
    return words.strip()


def plain(line: str) -> str:
    """A line of SubRip without its tags, places (``{\\an8}``) and escapes."""
    return html.unescape(re.sub(r"</?[a-zA-Z][^>]*>|\{\\[^}]*\}", "", line))


def _segments(text: str) -> list[tuple[Any, Any, str | None]] | None:
    """(start, end, text) of the parts of a Whisper JSON, text None for a part that is none; None for another text."""
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        return None
    try:
        read = json_of(text)
    except ValueError:
        return None
    if not isinstance(read, dict):
        return None
    found: list[tuple[Any, Any, str | None]] = []
    parts = read.get("segments") or read.get("chunks")
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict):
            found.append((None, None, None))
            continue
        span = part.get("timestamp")
        if not (isinstance(span, list) and len(span) == 2):
            span = [part.get("start"), part.get("end")]
        found.append((span[0], span[1], str(part.get("text") or "")))
    return found if any(words is not None for _, _, words in found) else None
