"""Times as people and programs write them: seconds, clock times, and time codes that count frames.

12.5   12,5            seconds, with a decimal point or comma
02:33.5                minutes and seconds
1:02:33.5              hours, minutes and seconds, with a decimal point or comma
00:00:05:12            the same and frames (SMPTE ST 12-1); needs the frame rate
00:00:05;12            the same in drop-frame count, at 29.97 and 59.94 frames per second
"""

from __future__ import annotations

import re

from halsted_ray.atlas.formats.recording import ImportSettings, format_error, parse_number

CLOCK = re.compile(r"(?:(\d{1,9}):)?(\d{1,9}):(\d{1,2}(?:[.,]\d+)?)")
TIME_CODE = re.compile(r"(\d{1,9}):(\d{1,2}):(\d{1,2})([:;])(\d{1,3})")
FORMS = "seconds (12.5) or a clock time (1:02:33.5)"


def parse_time(
    value: object, file: str, line: int | str, what: str, settings: ImportSettings, decimal_comma: bool = False
) -> float:
    """Returns ``value`` in seconds. Raises AtlasError that calls it ``what``, and for a time code without a rate.

    ``decimal_comma``: as ``parse_number`` has it.
    """
    if not isinstance(value, str) or ":" not in value:
        return parse_number(value, file, line, what, decimal_comma)
    text = value.strip()
    if found := TIME_CODE.fullmatch(text):
        if not isinstance(settings.fps, float | int):
            expected = f"the frame rate of this time code with --fps (a number), or {what} as {FORMS}"
            raise format_error(file, line, text, expected, "no-frame-rate")
        return time_code_s(found, float(settings.fps), file, line, what)
    clock = CLOCK.fullmatch(text)
    if not clock or (clock[1] and int(clock[2]) > 59) or float(clock[3].replace(",", ".")) >= 60:
        raise format_error(file, line, value, f"{what} as {FORMS}")
    return int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3].replace(",", "."))


def time_code_s(found: re.Match[str], fps: float, file: str, line: int | str, what: str) -> float:
    """Returns the seconds of a time code. Raises AtlasError for one that does not exist at ``fps`` frames per second.

    A time code counts whole frames: at 29.97 frames per second its second has 30 frames and lasts 1.001 s.
    """
    hours, minutes, seconds, frame = (int(found[n]) for n in (1, 2, 3, 5))
    per_s = round(fps)
    if minutes > 59 or seconds > 59 or frame >= per_s:
        raise format_error(
            file, line, found[0], f"{what} as a time code with minutes and seconds below 60 and frames below {per_s}"
        )
    frames = (hours * 3600 + minutes * 60 + seconds) * per_s + frame
    if found[4] == ";":
        if per_s % 30 or abs(fps - per_s) < 0.01:
            raise format_error(
                file, line, found[0], f"no drop-frame time code at {fps:g} frames per second: a colon before the frames"
            )
        passed = hours * 60 + minutes
        frames -= per_s // 15 * (passed - passed // 10)  # two numbers (of 30) are left out per minute, but each tenth
    return frames / fps
