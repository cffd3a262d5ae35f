"""The report: its figures add up, the page loads nothing from outside, and failures are visible."""

import re
from dataclasses import replace

import pytest

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import UsageError
from halsted_ray.maps.run_profile import RunProfile
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA
from halsted_ray.profiling import STAGES, StageProfile
from halsted_ray.records import Clip, WindowSpec
from halsted_ray.reporting.lanes import colour, timeline
from halsted_ray.reporting.map_page import map_page, stage_bars
from halsted_ray.reporting.report_data import ReportData, find_video
from halsted_ray.reporting.summary import covered_s, summarise
from halsted_ray.reporting.terminal import clock, draw, letters_of, rows_table

WHOLE, PARTIAL, FAILED = "aa" * 8, "ab" * 8, "f0" * 8


def row(video_id, start_s, stop_s, task, tag, category, confidence=0.9, source="ai"):
    values = (
        video_id,
        "file:///archive/Jane Doe.mp4",
        start_s,
        stop_s,
        task,
        tag,
        category,
        confidence,
        source,
        "demo/model",
        "v1",
        "phantom-1",
        "d" * 16,
        *(None, None, None),
    )
    return dict(zip(TIMELINE_SCHEMA.names, values, strict=True))


@pytest.fixture
def data():
    videos = [
        {"video_id": WHOLE, "status": "mapped", "reason": "", "duration_s": 60.0, "uri": "/archive/Jane Doe.mp4"},
        {"video_id": PARTIAL, "status": "partial", "reason": "1 of 2 segments: corrupt", "duration_s": 120, "uri": "b"},
        {"video_id": FAILED, "status": "failed", "reason": "no container </script>", "duration_s": None, "uri": "c"},
    ]
    for video, missing_s in zip(videos, (0.0, 60.0, None), strict=True):
        video |= {"missing_s": missing_s, "unknown_s": 0.0}
    rows = [
        row(WHOLE, 0, 30, "macro", "step", "Suturing"),
        row(WHOLE, 30, 60, "macro", "step", "Dissection"),
        row(WHOLE, 0, 60, "macro", "procedure", "Prostatectomy"),
        row(WHOLE, 30, 40, "micro", "action", "Push/Peel"),
        row(WHOLE, 40, 60, "micro", "action", "Hot Cut", 0.5),
        row(PARTIAL, 0, 60, "macro", "step", "Suturing"),
        row(PARTIAL, 60, 120, "macro", "gap", "corrupt", 0.0, "gap"),
        row(PARTIAL, 60, 120, "micro", "gap", "corrupt", 0.0, "gap"),
    ]
    truth = [
        Clip(WHOLE, 0, 30, "macro", {"step": "Suturing"}),
        Clip(WHOLE, 30, 60, "macro", {"step": "Dissection"}),
        Clip(WHOLE, 30, 50, "micro", {"action": "Push/Peel"}),
        Clip(PARTIAL, 0, 120, "macro", {"step": "Suturing"}),
    ]
    return ReportData(videos, rows, truth, taxonomies.load(), WindowSpec())


def test_times_add_up_to_the_videos(data):
    found = summarise(data)
    assert found["videos"] == {
        "total": 3,
        "mapped": 1,
        "partial": 1,
        "failed": 1,
        "pending": 0,
        "video_s": 180.0,
        "gap_s": 60.0,
        "missing_s": 60.0,
        "unknown_s": 0.0,
    }
    assert found["steps_s"] == {"Suturing": 90, "not mapped": 60, "Dissection": 30}
    assert [entry["video_id"] for entry in found["failures"]] == [PARTIAL, FAILED]
    for entry in found["per_video"].values():
        assert sum(entry["steps_s"].values()) == pytest.approx(entry["duration_s"])


def test_gaps_count_as_wrong(data):
    step = summarise(data)["accuracy"]["tags"]["step"]
    assert (step["windows"], step["right"], step["in_gap"]) == (72, 48, 24)


def test_without_truth_there_is_no_accuracy(data):
    without = ReportData(data.videos, data.rows, None, data.taxonomy, data.spec)
    assert summarise(without)["accuracy"] is None
    assert "Agreement" not in map_page(without, summarise(without))


def test_the_page_needs_nothing_from_outside(data):
    html = map_page(data, summarise(data))
    own = html.replace('"http://www.w3.org/2000/svg"', "")  # the name of SVG's elements, which nothing loads
    assert not re.search(r"""src\s*=|href\s*=\s*["'](?!#)|https?://|@import|url\((?!#)""", own)
    assert "default-src 'none'" in own
    assert own.count("<script") == own.count("</script>") == 3, "the page's own script, and the data of two timelines"
    assert "Research software, not a medical device" in own


def test_the_profile_is_drawn(data):
    assert summarise(data)["profile"] is None and "Where the time went" not in map_page(data, summarise(data))
    run = RunProfile("run", 3, 180.0, 20.0, StageProfile({"decode": 12.0, "wait": 3.0}, {"decode": 11.0}).asdict())
    timed = replace(data, profile=run)
    found = summarise(timed)
    assert found["profile"]["stages"]["wall_s"]["decode"] == 12.0
    html = map_page(timed, found)
    assert 'id="profile"' in html and "3 segments (3:00 of video) in 0:20" in html
    bars = stage_bars(found["profile"]["stages"])
    rows = dict(re.findall(r'<th scope="row"[^>]*>(\w+)</th>(.*?)</tr>', bars))
    assert list(rows) == list(STAGES)
    assert '<td class="n">3.0 s</td>' in rows["wait"] and '<td class="n">11.0 s</td>' in rows["decode"]
    assert "width:91.7%" in rows["decode"], "11 of 12 s"


def test_the_page_shows_ids_reasons_and_gaps_but_no_file_name(data):
    html = map_page(data, summarise(data))
    assert all(video_id in html for video_id in (WHOLE, PARTIAL, FAILED))
    assert "no container &lt;/script&gt;" in html and "not mapped" in html
    assert "Jane Doe" not in html


def test_the_page_has_the_stitches_of_each_video_with_totals_and_no_empty_column(data):
    suturing = [("Needle Handling", 0, 5), ("Driving", 5, 15), ("Withdrawal", 15, 20)]
    data.rows[:] += [row(WHOLE, *span, "proficiency", "phase", phase) for phase, *span in suturing]
    data.rows[:] += [row(WHOLE, 0, 20, "proficiency", "proficiency", "High", 0.8)]
    figures = summarise(data)
    assert figures["stitches"]["totals"]["count"] == 1
    assert figures["stitches"]["per_video"][WHOLE] == {"count": 1, "why_none": ""}
    html = map_page(data, figures)
    part = html[html.index("<h2>Stitches</h2>") : html.index("<h2>Which categories")]
    assert "<td>High .80</td>" in part and "median driving" in part and "high proficiency of 1 (95%: 20.7%–100" in part
    assert "The suturing tasks were not asked in 1 of 2 videos" in part
    assert "<th>target</th>" not in part and "<td>–</td>" not in part


@pytest.mark.parametrize(("asked", "said"), [(("proficiency",), "No suturing found"), ((), "suturing tasks were not")])
def test_the_page_says_that_no_suturing_was_found_or_asked(data, asked, said):
    without = replace(data, asked={WHOLE: asked, PARTIAL: asked})
    html = map_page(without, summarise(without))
    part = html[html.index("<h2>Stitches</h2>") :]
    assert said in part[:300] and "in 2 of 2 videos" in part[:300]


def test_what_only_a_fine_task_lost_is_no_loss_of_the_steps(data):
    """A damaged second: the macro task loses this second, the fine task its window."""
    data.rows[:] = [
        row(PARTIAL, 0, 11, "macro", "step", "Suturing"),
        row(PARTIAL, 11, 12, "macro", "gap", "corrupt", 0.0, "gap"),
        row(PARTIAL, 12, 120, "macro", "step", "Suturing"),
        row(PARTIAL, 0, 10, "proficiency", "phase", "Driving"),
        row(PARTIAL, 10, 12.5, "proficiency", "gap", "corrupt", 0.0, "gap"),
    ]
    entry = summarise(data)["per_video"][PARTIAL]
    assert entry["steps_s"] == {"Suturing": 119, "not mapped": 1} and entry["gap_s"] == 2.5
    drawn = timeline({"video_id": PARTIAL, "duration_s": 120}, data.rows, None, taxonomies.load())
    assert [(gap.start_s, gap.stop_s) for gap in drawn.gaps] == [(10, 12.5)]
    of_lane = {lane.tag: [(gap.start_s, gap.stop_s) for gap in lane.gaps] for lane in drawn.lanes}
    assert of_lane == {"step": [(11, 12)], "phase": [(10, 12.5)]}


def test_a_gap_is_counted_once_for_all_tasks():
    assert covered_s([(0, 60), (0, 60), (30, 90), (100, 110)]) == 100


def test_a_category_has_one_colour_and_colours_differ_within_a_tag():
    taxonomy = taxonomies.load()
    for tag in taxonomy.tags:
        assert len({colour(tag.name, category, taxonomy) for category in tag.categories}) == len(tag.categories)


def test_the_drawing_is_to_scale_and_80_columns_wide(data):
    drawn = timeline(data.videos[0], data.rows_of(WHOLE), None, data.taxonomy)
    text = draw(drawn)
    assert max(len(line) for line in text.splitlines()) <= 80
    step = next(line for line in text.splitlines() if line.startswith("step"))[12:]
    assert step == "S" * 34 + "D" * 34
    action = next(line for line in text.splitlines() if line.startswith("action"))[12:]
    assert action == "·" * 34 + "P" * 11 + "H" * 23
    assert "S Suturing 0:30, D Dissection 0:30" in text


def test_gaps_are_drawn_and_named(data):
    drawn = timeline(data.videos[1], data.rows_of(PARTIAL), data.truth_of(PARTIAL), data.taxonomy)
    lines = draw(drawn).splitlines()
    assert next(line for line in lines if line.startswith("step "))[12:] == "S" * 34 + "░" * 34
    assert "not mapped: 1:00–2:00 corrupt" in lines[-1]
    assert "not mapped" in rows_table(drawn)


def test_rows_that_are_left_out_are_counted(data):
    drawn = timeline(data.videos[0], data.rows_of(WHOLE), None, data.taxonomy)
    assert rows_table(drawn, limit=2).splitlines()[-1] == "… and 3 more rows; --rows 0 shows all rows"
    assert len(rows_table(drawn).splitlines()) == 6


def test_each_category_has_its_own_letter():
    names = taxonomies.load().tag("instrument").categories
    letters = letters_of(names)
    assert len(set(letters.values())) == len(names)


def test_clock():
    assert [clock(0), clock(59.6), clock(3599.4), clock(36_000)] == ["0:00", "1:00", "59:59", "10:00:00"]
    assert clock(3725.25, 1) in ("1:02:05.2", "1:02:05.3")


def test_a_video_is_found_by_id_beginning_or_file_name(data):
    assert data.find(WHOLE)["video_id"] == WHOLE
    assert data.find("f0")["video_id"] == FAILED
    assert data.find("Jane Doe.mp4")["video_id"] == WHOLE
    with pytest.raises(UsageError, match=f"several videos fit 'a'; expected one of {WHOLE}, {PARTIAL}"):
        data.find("a")
    with pytest.raises(UsageError, match="no video has the id or file name 'x'"):
        data.find("x")


def test_a_name_that_a_file_has_goes_before_one_that_is_the_code_of_another():
    uris = {"00": "/a/M%FCller.mp4", "11": "file+percent:///a/M%FCller.mp4"}
    videos = [{"video_id": video_id, "uri": uri} for video_id, uri in uris.items()]
    assert find_video(videos, "M%FCller.mp4")["video_id"] == "00"
    assert find_video(videos, "M\udcfcller.mp4")["video_id"] == find_video(videos, r"M\xfcller.mp4")["video_id"] == "11"
