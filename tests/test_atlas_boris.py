"""Import of BORIS's exports of events, in the columns of its versions."""

import pytest
from annotations import write

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.formats import FORMATS, ImportSettings
from halsted_ray.atlas.imports import import_annotations
from halsted_ray.errors import AtlasError
from halsted_ray.taxonomy import load

HALSTED = load()
OLD = (
    "Observation id\tObservation date\tDescription\tMedia file\tTotal length\tFPS\tSubject\tBehavior\t"
    "Behavioral category\tModifiers\tBehavior type\tStart (s)\tStop (s)\tDuration (s)\tComment start\tComment stop\n"
)
NEW = (
    "Observation id,Observation date,Description,Observation type,Source,Time offset (s),Coding duration,"
    "Media duration (s),FPS (frame/s),Subject,Observation duration by subject by observation,Behavior,"
    "Behavioral category,Behavior type,Start (s),Stop (s),Duration (s),Media file name,Image index start,"
    "Image index stop,Image file path start,Image file path stop,Comment start,Comment stop\n"
)
TABULAR = """Observation id\tobs1\t\t\t\t\t\t\t
\t\t\t\t\t\t\t\t
Media file(s)\t\t\t\t\t\t\t\t
\t\t\t\t\t\t\t\t
Player #1\tD:\\OR 2\\one.mp4\t\t\t\t\t\t\t
\t\t\t\t\t\t\t\t
Observation date\t2016-11-27 01:57:26\t\t\t\t\t\t\t
Time offset (s)\t0.0\t\t\t\t\t\t\t
\t\t\t\t\t\t\t\t
Time\tMedia file path\tTotal length\tFPS\tSubject\tBehavior\tBehavioral category\tComment\tStatus
0.300\tD:\\OR 2\\one.mp4\t4.0\t25.0\tNo focal subject\tCold Cut\taction\t\tSTART
0.400\tD:\\OR 2\\one.mp4\t4.0\t25.0\tsurgeon 2\tCold Cut\taction\t\tSTART
0.900\tD:\\OR 2\\one.mp4\t4.0\t25.0\tNo focal subject\tHook\taction\t\tPOINT
1.750\tD:\\OR 2\\one.mp4\t4.0\t25.0\tNo focal subject\tCold Cut\taction\t\tSTOP
2.000\tD:\\OR 2\\one.mp4\t4.0\t25.0\tNo focal subject\tLeft\tarm\t\tSTOP
"""


def old(behavior, kind, start, stop, media="one.mp4", total="4.0", category="action", observation="obs1"):
    return (
        f"{observation}\t2024-05-02 09:10:11\t\t{media}\t{total}\t25.0\tNo focal subject\t{behavior}\t{category}\t\t"
        f"{kind}\t{start}\t{stop}\t\t\t\n"
    )


def new(
    behavior,
    start,
    stop,
    source="player #1:one.mp4",
    offset="0.0",
    lengths="4.000",
    kind="STATE",
    media="one.mp4",
    observation="obs1",
):
    return (
        f'{observation},2024-05-02 09:10:11,,Media file(s),"{source}",{offset},3.5,"{lengths}",25.000,No focal subject,'
        f"3.5,{behavior},action,{kind},{start},{stop},1,{media},25,50,NA,NA,,\n"
    )


def found_in(tmp_path, text, **options):
    settings = ImportSettings(HALSTED, **options)
    recordings = FORMATS["boris"].read(write(tmp_path / "events.tsv", text), settings)
    spans = [
        (recording.uri.rsplit("/", 1)[-1], round(clip.start_s, 3), round(clip.stop_s, 3), clip.tags)
        for recording in recordings
        for clip in recording.clips
    ]
    return spans, settings.left_out


def test_point_events_are_left_out_and_said(clips_csv, tmp_path):
    text = OLD + old("Cold Cut", "STATE", "1.000", "3.500") + old("Hook", "POINT", "2.000", "NA") + old(
        "Hook", "POINT", "2.000", "2.000"
    )  # fmt: skip
    done = import_annotations(str(tmp_path / "atlas"), write(tmp_path / "set/events.tsv", text), "boris")
    assert [(c.start_s, c.stop_s, c.tags) for c in read_atlas(str(tmp_path / "atlas")).clips] == [
        (1.0, 3.5, {"action": "Cold Cut"})
    ]
    assert done.counts == {"point-event": 2} and "events.tsv:3: got 'a point event'" in str(done.left_out[0])
    with pytest.raises(AtlasError, match=r"events.tsv:3: .*point event"):
        import_annotations(str(tmp_path / "b"), str(tmp_path / "set/events.tsv"), "boris", strict=True)


def test_tabular_events_are_paired_and_what_stays_open_is_said(tmp_path):
    spans, left_out = found_in(tmp_path, TABULAR)
    assert spans == [("one.mp4", 0.3, 1.75, {"action": "Cold Cut"})]
    assert sorted((left.code, left.text.split(":")[1]) for left in left_out) == [
        ("no-span", "12"), ("no-span", "15"), ("point-event", "13"),
    ]  # fmt: skip


def test_newer_columns_a_time_offset_and_a_queue_of_media(tmp_path):
    """The time of an observation runs over its media files, and begins at its time offset."""
    queue = {"source": "player #1:one.mp4;or/two.mp4|player #2:side.mp4", "lengths": "180.000;360.000|540.000"}
    text = NEW + "".join(
        [
            new("Hook", "1.0", "3.5"),
            new("Cold Cut", "14.0", "14.5", offset="10.0", observation="obs2"),
            new("Clip", "7", "8", **queue, observation="obs3"),
            new("Clip", "227.765", "253.490", **queue, media="two.mp4", observation="obs3"),
            new("Clip", "170", "190", **queue, observation="obs3"),
            new("Clip", "1", "2", source="player #1:one.mp4;two.mp4", lengths="NA", observation="obs4"),
        ]
    )
    spans, left_out = found_in(tmp_path, text)
    assert spans == [
        ("one.mp4", 1.0, 3.5, {"action": "Hook"}),
        ("one.mp4", 4.0, 4.5, {"action": "Cold Cut"}),
        ("one.mp4", 7.0, 8.0, {"action": "Clip"}),
        ("two.mp4", 47.765, 73.49, {"action": "Clip"}),
    ]
    assert [(left.code, left.text.split(":")[1]) for left in left_out] == [
        ("several-media", "6"),
        ("several-media", "7"),
    ]


def test_older_columns_do_not_tell_where_the_second_file_begins(tmp_path):
    text = OLD + old("Hook", "STATE", "1", "2", total="540") + old("Hook", "STATE", "227", "228", "two.mp4", "540")
    spans, left_out = found_in(tmp_path, text)
    assert spans == [] and [left.code for left in left_out] == ["several-media"] * 2


def test_an_observation_that_is_longer_than_its_video_is_left_out(clips_csv, tmp_path):
    text = (
        OLD
        + old("Hook", "STATE", "1", "2", total="540")
        + old("Clip", "STATE", "1", "2", observation="b", total="4.01")
    )
    text = text.replace("b\t2024", "b\t2024")
    file = write(tmp_path / "set/events.tsv", text.replace("one.mp4\t540", "nope/one.mp4\t540"))
    done = import_annotations(str(tmp_path / "atlas"), file, "boris")
    assert done.samples == 1 and done.counts == {"other-length": 1}


def test_clock_times_and_a_file_that_is_none(tmp_path):
    spans, _ = found_in(tmp_path, OLD + old("Hook", "STATE", "00:00:01.000", "00:01:02.500"))
    assert spans == [("one.mp4", 1.0, 62.5, {"action": "Hook"})]
    with pytest.raises(AtlasError, match="events.tsv:1: .*a header with Behavior"):
        found_in(tmp_path, "a\tb\n1\t2\n")
    (tmp_path / "events.tsv").write_bytes(b"PK\x03\x04 a workbook")
    with pytest.raises(AtlasError, match="save its sheet as CSV"):
        FORMATS["boris"].read(str(tmp_path / "events.tsv"), ImportSettings(HALSTED))
