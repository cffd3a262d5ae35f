"""What holds for all formats: a wrong folder, a second import, and export followed by import."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import small_video
from annotations import CSV, spans, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.atlas.contents import check_contents, complete_clips
from halsted_ray.atlas.formats import FORMATS, ImportSettings
from halsted_ray.atlas.imports import export_atlas, import_annotations
from halsted_ray.atlas.verify import verify
from halsted_ray.errors import AtlasError, OutputError, UsageError
from halsted_ray.records import Clip, Video
from halsted_ray.taxonomy import from_dict, load

HALSTED = load()


@pytest.mark.parametrize(
    "format", ["sar-rarp50", "cholec80", "cholect50", "autolaparo", "multibypass140", "grasp", "hsa-27k"]
)
def test_a_folder_without_the_data_set_is_refused(tmp_path, format):
    with pytest.raises(AtlasError, match="name the folder"):
        import_annotations(str(tmp_path / "atlas"), str(tmp_path), format)


@pytest.mark.parametrize("format", ["label-studio", "elan", "cvat", "via", "csv", "jsonl"])
def test_exports_name_videos_by_id_unless_files_are_asked_for(clips_csv, tmp_path, format):
    root = str(tmp_path / "atlas")
    import_annotations(root, clips_csv, "csv")
    atlas = read_atlas(root)
    for with_files in (False, True):
        written = export_atlas(atlas, str(tmp_path / f"{with_files}"), format, with_files)
        assert ("one.mp4" in Path(written[0]).read_text()) is with_files
        assert atlas.videos[0].video_id in written[0] + Path(written[0]).read_text()


CATEGORIES = (
    'a, "b"; c',
    "Ä—é \N{COMBINING DIAERESIS}",
    "step: x & y; z",
    "手術",
    "x\u2028y\x85z",
    "=1+1",
    "\\u0001 \\n",
    "{'a'}",
    "#2 (ai)",
    "a@b",
)
ODD = from_dict(
    {
        "name": "odd",
        "tasks": [
            {"name": "one", "title": "", "instruction": "map one", "window": "fine",
             "tags": [{"name": "étape 1", "categories": list(CATEGORIES)}, {"name": "b&c", "categories": ["x", "y"]}]},
            {"name": "two", "title": "", "instruction": "map two", "window": "fine",
             "tags": [{"name": "second", "categories": list(CATEGORIES)}]},
        ],
    },
    "odd.yaml",
)  # fmt: skip


def samples(taxonomy):
    """Samples of two videos at 25 and 29.97 frames per second; each at least a frame long, one per span. Annotators and
    captions hold any Unicode, control characters too."""
    task = st.sampled_from(taxonomy.tasks)

    def tags(task):
        chosen = st.lists(st.sampled_from(task.tags), min_size=1, unique=True)
        return chosen.flatmap(
            lambda some: st.fixed_dictionaries({tag.name: st.sampled_from(tag.categories) for tag in some})
        )

    odd = st.sampled_from(["\u2028", "\x85", "\0", "\r\n", "\\u0001", "\ufffe", " ", "\ufeff", "<&>", "__undefined__"])
    names = st.lists(odd | st.text(st.characters(exclude_categories=("Cs",)), max_size=6), max_size=3).map("".join)
    clip = task.flatmap(
        lambda task: st.builds(
            lambda video, start, length, tags, source, annotator, confidence, caption: Clip(
                video, start, start + length, task.name, tags, source, annotator, confidence, caption=caption
            ),
            st.sampled_from(["a" * 16, "b" * 16]),
            st.floats(0, 7000),
            st.floats(0.05, 60),
            tags(task),
            st.sampled_from(["manual", "ai"]),
            names,
            st.floats(0, 1),
            names,
        )
    )
    return st.lists(clip, max_size=8, unique_by=lambda clip: (clip.video_id, clip.task, round(clip.start_s)))


def in_memory(clips, taxonomy=HALSTED):
    """An atlas of two videos, as it is read from its tables."""
    videos = (
        Video("a" * 16, "/x/a.mp4", 1, 7300.0, 8, 8, 25.0, "h264"),
        Video("b" * 16, "/x/b.mp4", 1, 7300.0, 8, 8, 30000 / 1001, "h264"),
    )
    terms = json.dumps(taxonomy.to_dict())
    check_contents(videos, clips, taxonomy, {})
    complete = tuple(complete_clips(clips))
    return Atlas("/x", "v1", 0, taxonomy.name, taxonomy.digest, terms, {}, videos, complete)


def sorted_clips(recordings):
    clips = [
        replace(
            clip,
            video_id=recording.video_id,
            start_s=clip.start_s / recording.rate,
            stop_s=clip.stop_s / recording.rate,
        )
        for recording in recordings
        for clip in recording.clips
    ]
    return sorted(clips, key=lambda clip: (clip.video_id, clip.start_s, clip.stop_s, clip.task))


PRECISE = ("csv", "jsonl", "via")
"""Formats that keep times as they are. The others count frames, or milliseconds."""


WRITTEN = [name for name, format in FORMATS.items() if format.write and name != "captions"]
"""Captions hold no clip: test_captions.py is about them."""


@pytest.mark.parametrize("format", WRITTEN)
@pytest.mark.parametrize("taxonomy", [HALSTED, ODD], ids=["halsted", "odd"])
@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_export_comes_back_equal(tmp_path_factory, format, taxonomy, data):
    """Within one frame; names, captions and categories with any Unicode."""
    place = tmp_path_factory.mktemp("trip")
    atlas = in_memory(data.draw(samples(taxonomy)), taxonomy)
    other = ("label-studio.xml", "sharegpt.json")  # the settings of the tool, and the same clips in another form
    files = [file for file in export_atlas(atlas, str(place / "out"), format) if not file.endswith(other)]
    options = ImportSettings(taxonomy)
    back = sorted_clips([recording for file in files for recording in FORMATS[format].read(file, options)])
    assert (options.left_out, options.notes) == ([], [])
    if format in PRECISE:
        assert [plain(clip) for clip in back] == [plain(clip) for clip in atlas.clips]
        return
    fps = {video.video_id: video.fps for video in atlas.videos}
    assert len(back) == len(atlas.clips)
    for clip in back:
        near = [
            plain(other)
            for other in atlas.clips
            if other.video_id == clip.video_id
            and abs(other.start_s - clip.start_s) <= 1 / fps[clip.video_id]
            and abs(other.stop_s - clip.stop_s) <= 1 / fps[clip.video_id]
        ]
        assert any(replace(plain(clip), start_s=other.start_s, stop_s=other.stop_s) == other for other in near), clip


def plain(clip):
    """The clip without the operation, which some formats hold once per video, and its tags in order."""
    return replace(clip, tags=dict(sorted(clip.tags.items())), specialty="", procedure="")


def test_csv_is_rfc_4180(tmp_path):
    odd = Clip("a" * 16, 3700.5, 3701.25, "context", {"anatomy": "Bladder–Urethra"}, caption='says "here", and\nleaves')
    (file,) = export_atlas(in_memory([odd]), str(tmp_path), "csv")
    with open(file, newline="", encoding="utf-8") as text:
        (row,) = csv.DictReader(text)
    assert row["caption"] == odd.caption and row["category"] == "Bladder–Urethra"
    assert sorted_clips(FORMATS["csv"].read(file, ImportSettings(HALSTED)))[0].caption == odd.caption


def test_an_unknown_format_is_answered_with_the_nearest_name(clips_csv, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'cholec80'"):
        import_annotations(str(tmp_path), clips_csv, "cholec-80")
    import_annotations(str(tmp_path / "atlas"), clips_csv, "csv")
    with pytest.raises(UsageError, match="one of label-studio, elan, cvat, via, vtt, srt, csv, jsonl"):
        export_atlas(read_atlas(str(tmp_path / "atlas")), str(tmp_path), "eaf")


def test_an_atlas_that_can_not_be_written_is_said_before_any_video_is_looked_at(clips_csv, monkeypatch):
    monkeypatch.setattr("halsted_ray.atlas.imports.identify_videos", lambda *_: pytest.fail("it began"))
    with pytest.raises(OutputError, match="/proc/self.*name a folder that can be written"):
        import_annotations("/proc/self", clips_csv, "csv")  # nobody, root neither, can write there


def test_importing_again_commits_nothing(clips_csv, tmp_path):
    root = str(tmp_path / "atlas")
    assert [import_annotations(root, clips_csv, "csv").version for _ in range(2)] == [0, 0]


def test_a_data_set_that_was_moved_is_imported_again(clips_csv, tmp_path):
    root, moved = str(tmp_path / "atlas"), tmp_path / "moved"
    import_annotations(root, clips_csv, "csv")
    shutil.move(tmp_path / "set", moved)
    import_annotations(root, str(moved / "clips.csv"), "csv")
    atlas = read_atlas(root)
    assert [video.uri for video in atlas.videos] == [str(moved / "one.mp4")] and len(atlas.clips) == 2
    assert verify(atlas) == []


def test_a_corrected_boundary_replaces_the_old_one(clips_csv, tmp_path):
    root = str(tmp_path / "atlas")
    import_annotations(root, clips_csv, "csv")
    import_annotations(root, write(clips_csv, CSV.replace("0,1.5", "0,1.75")), "csv", replace_earlier=True)
    assert spans(read_atlas(root), "micro", "action") == [(0.0, 1.75, "Cold Cut")]


@pytest.mark.parametrize("with_files", [False, True])
@pytest.mark.parametrize("format", WRITTEN)
def test_what_was_exported_comes_back_as_the_same_clips(tmp_path, format, with_files):
    """Also where the file is named by a path that a URL would write in another way."""
    small_video.write(tmp_path / "data/or 2/a%20b #1?.mp4", 4)
    rows = CSV.replace("one.mp4", "or 2/a%20b #1?.mp4").replace("0,1.5", "0.123,1.507")
    root = str(tmp_path / "atlas")
    import_annotations(root, write(tmp_path / "data/clips.csv", rows), "csv", annotator="ben")
    before = read_atlas(root)
    files = export_atlas(before, str(tmp_path / "out"), format, with_files)
    assert import_annotations(root, files[0], format).version == before.version
    other = str(tmp_path / "other")
    assert import_annotations(other, files[0], format, videos=str(tmp_path / "data")).left_out == ()
    assert [clip.tags for clip in read_atlas(other).clips] == [clip.tags for clip in before.clips]
