"""Clock times and time codes in annotations."""

import pytest

from halsted_ray.atlas.formats.clock_times import parse_time
from halsted_ray.atlas.formats.recording import ImportSettings
from halsted_ray.errors import AtlasError
from halsted_ray.taxonomy import load

HALSTED = load()


def seconds(text, fps=None, decimal_comma=False):
    return parse_time(text, "sheet.csv", 7, "start_s", ImportSettings(HALSTED, fps=fps), decimal_comma)


@pytest.mark.parametrize(
    ("text", "time_s"),
    [
        ("12.5", 12.5), ("12,5", 12.5), (12.5, 12.5), (" 7 ", 7.0), ("0,125", 0.125), ("1e2", 100.0),
        ("1:02:33.5", 3753.5), ("1:02:33,500", 3753.5), ("00:00:05", 5.0), ("02:33.5", 153.5), ("75:30", 4530.0),
        ("100:00:00", 360000.0),
    ],
)  # fmt: skip
def test_a_time(text, time_s):
    assert seconds(text) == time_s


def test_thousands_are_not_taken_for_decimals():
    with pytest.raises(AtlasError, match="sheet.csv:7: got '1,500'; expected start_s .* can't be misread"):
        seconds("1,500")
    assert seconds("1,500", decimal_comma=True) == 1.5


@pytest.mark.parametrize(
    ("text", "fps", "frame"),
    [
        ("00:00:05:12", 25.0, 137),
        ("01:00:00:00", 30000 / 1001, 108000),
        ("00:01:00;02", 30000 / 1001, 1800),  # drop-frame: the numbers 0 and 1 are left out in each minute
        ("00:10:00;00", 30000 / 1001, 17982),
        ("01:00:00;00", 60000 / 1001, 215784),
    ],
)
def test_a_time_code_counts_frames(text, fps, frame):
    assert seconds(text, fps) == pytest.approx(frame / fps)


@pytest.mark.parametrize(
    ("text", "fps", "message"),
    [
        ("00:00:05:12", None, "--fps"),
        ("00:00:05:12", "video", "--fps"),
        ("00:00:05:25", 25.0, "frames below 25"),
        ("00:00:05;12", 25.0, "no drop-frame"),
        ("1:75:00", None, "clock time"),
        ("1:02:75", None, "clock time"),
        ("5 min", None, "start_s as a number"),
        ("1:2:3:4:5", None, "clock time"),
        ("-1:00", None, "clock time"),
        ("inf", None, "start_s as a number"),
        ("nan", None, "start_s as a number"),
        (None, None, "start_s as a number"),
        (True, None, "start_s as a number"),
    ],
)
def test_no_time(text, fps, message):
    with pytest.raises(AtlasError, match=message):
        seconds(text, fps)


def test_an_underscore_is_no_digit():
    """Python reads 1_5 as 15."""
    with pytest.raises(AtlasError, match="start as a number"):
        parse_time("1_5", "a.csv", 2, "start", ImportSettings(load()))
