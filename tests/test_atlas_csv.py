"""Import of the atlas's own CSV and JSON lines when a person wrote them."""

from pathlib import Path

import pytest
from annotations import CSV, write

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.imports import import_annotations
from halsted_ray.errors import AtlasError


def test_a_csv_made_by_hand(clips_csv, tmp_path):
    import_annotations(str(tmp_path / "atlas"), clips_csv, "csv", annotator="ben")
    assert [
        (clip.start_s, clip.stop_s, clip.tags, clip.annotator) for clip in read_atlas(str(tmp_path / "atlas")).clips
    ] == [
        (0.0, 1.5, {"action": "Cold Cut", "instrument": "Scissors"}, "ben"),
        (2.0, 3.0, {"anatomy": "Bladder–Urethra"}, "ben"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("start_s", "start", r"clips.csv:1: .*expected a header with start_s too"),
        ("video,", "clip,", r":1: .*expected a column video_id"),
        ("cold cut", "cold cutt", r":2: .*did you mean 'Cold Cut'"),
        ("0,1.5,micro,instrument", "0,1.5,mikro,instrument", r":3: .*did you mean 'micro'"),
        ("2,3,context", "3,2,context", r":4: got \(3.0, 2.0\); expected 0 <= start_s < stop_s"),
        ("2,3,context", "two,3,context", r":4: got 'two'; expected start_s as a number"),
        ("instrument,scissors", "action,Hook", r":3: .*expected one action per sample; it is 'Cold Cut' above"),
        ("micro,action,cold cut", 'micro,action,"cold cut', r"expected RFC 4180|expected 6 fields"),
        ("micro,action,cold cut", "micro,action", r":2: .*expected 6 fields"),
    ],
)
def test_a_wrong_csv(clips_csv, tmp_path, old, new, message):
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), write(clips_csv, CSV.replace(old, new)), "csv")


def test_text_that_is_not_utf8(clips_csv, tmp_path):
    Path(clips_csv).write_bytes(CSV.replace("Bladder-Urethra", "Mül").encode("latin-1"))
    with pytest.raises(AtlasError, match=r"clips.csv:4: not UTF-8"):
        import_annotations(str(tmp_path / "atlas"), clips_csv, "csv")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r":2: .*one JSON object per line"),
        ("[]", r":2: .*an object whose tags are an object"),
        ('{"video": "one.mp4", "tags": {"action": "Hook"}}', r":2: .*the keys start_s, stop_s, task too"),
        ('{"video": "one.mp4", "start_s": 0, "stop_s": 1, "task": "micro", "tags": {"action": "Nap"}}', r":2: .*'Nap'"),
        ('{"video": "one.mp4", "start_s": 0, "stop_s": 1, "task": "micro", "tags": {}}', r":2: .*at least one tag"),
        (
            '{"vidio": "x", "start_s": 0, "stop_s": 1, "task": "micro", "tags": {"action": "Hook"}}',
            r":2: got \['vidio'\]",
        ),
    ],
)
def test_wrong_json_lines(clips_csv, tmp_path, line, message):
    good = '{"video": "one.mp4", "start_s": 0, "stop_s": 1, "task": "micro", "tags": {"action": "hook"}}'
    file = write(tmp_path / "set/clips.jsonl", f"{good}\n{line}\n")
    with pytest.raises(AtlasError, match=message):
        import_annotations(str(tmp_path / "atlas"), file, "jsonl")
