"""What was said in a video, with times where the text has them: SubRip, WebVTT, or the JSON of Whisper.

{"segments": [{"start": 0.0, "end": 4.2, "text": "…"}]}        of openai-whisper and WhisperX
{"chunks": [{"timestamp": [0.0, 4.2], "text": "…"}]}           of transformers
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from halsted_ray.atlas.formats.recording import ImportSettings, format_error, json_of, parse_number, text_lines
from halsted_ray.atlas.formats.subtitles import PER_S, TIMES, cues_of

Said = tuple[float, float, str]
"""(start_s, stop_s, text); ``stop_s`` is infinite where nobody wrote when it ends."""


def said_at(text: str, file: str, where: str, settings: ImportSettings) -> list[Said] | None:
    """What was said when, in order; None where ``text`` has no times. A part without a right span is left out.

    ``file``, ``where``: for messages. Raises AtlasError in strict imports.
    """
    if any(TIMES.fullmatch(line) for line in text_lines(text)):
        parts: Iterator[tuple[Any, Any, str]] = (
            (cue.start / PER_S, cue.stop / PER_S, " ".join(cue.lines)) for cue in cues_of(text, file, settings)
        )
    elif (segments := _segments(text)) is not None:
        parts = iter(segments)
    else:
        return None
    found = []
    for number, (start, stop, words) in enumerate(parts, 1):
        if not (said := " ".join(words.split())):
            continue
        with settings.or_left_out():
            at = f"{where}, part {number}"
            start_s = parse_number(start, file, at, "start")
            stop_s = float("inf") if stop is None else parse_number(stop, file, at, "end")
            if not 0 <= start_s < stop_s:
                raise format_error(file, at, (start_s, stop_s), "0 <= start < end, in seconds", "no-span")
            found.append((start_s, stop_s, said))
    return found


def _segments(text: str) -> list[tuple[Any, Any, str]] | None:
    """(start, end, text) of the parts of a Whisper JSON; None for another text."""
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        return None
    try:
        read = json_of(text)
    except ValueError:
        return None
    if not isinstance(read, dict):
        return None
    found: list[tuple[Any, Any, str]] = []
    parts = read.get("segments") or read.get("chunks")
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict):
            return None
        span = part.get("timestamp")
        if not (isinstance(span, list) and len(span) == 2):
            span = [part.get("start"), part.get("end")]
        found.append((span[0], span[1], str(part.get("text") or "")))
    return found or None
