import json

import pyarrow as pa
import pytest

from halsted_ray import taxonomy as taxonomies
from halsted_ray.evaluation.map_accuracy import LabelledSpan, covering, joined, score_timeline
from halsted_ray.maps.table_schemas import TIMELINE_SCHEMA
from halsted_ray.records import Clip

HALSTED = taxonomies.load()
VIDEO = "a" * 16


def row(start_s, stop_s, tag, category, confidence=0.9, video_id=VIDEO, source="ai"):
    task = "" if source == "gap" else HALSTED.task_of_tag(tag).name
    return {
        "video_id": video_id,
        "uri": "x.mp4",
        "start_s": start_s,
        "stop_s": stop_s,
        "task": task,
        "tag": tag,
        "category": category,
        "confidence": confidence,
        "source": source,
        "model": "m",
        "model_version": "1",
        "atlas_release": "v1",
        "taxonomy_digest": HALSTED.digest,
    }


def step(start_s, stop_s, category, video_id=VIDEO):
    return Clip(video_id, start_s, stop_s, "macro", {"step": category})


def test_the_truth_itself_is_perfect():
    clips = [
        step(0.0, 20.0, "Suturing"),
        step(20.0, 40.0, "Dissection"),
        Clip(VIDEO, 20.0, 40.0, "micro", {"action": "Tug", "arm": "Left", "instrument": "Shears"}),
    ]
    rows = [row(clip.start_s, clip.stop_s, tag, category) for clip in clips for tag, category in clip.tags.items()]
    figures = score_timeline(pa.Table.from_pylist(rows, schema=TIMELINE_SCHEMA), clips, HALSTED)
    assert set(figures["tags"]) == {"step", "action", "arm", "instrument"}
    for tag in figures["tags"].values():
        assert tag["accuracy"] == tag["f1_10"] == tag["f1_50"] == tag["edit"] == 1
        assert tag["unpredicted"] == tag["only_predicted"] == tag["in_gap"] == 0
    assert figures["tags"]["step"]["windows"] == 16 and figures["tags"]["action"]["windows"] == 8
    assert figures["tags"]["step"]["chance"] == 0.5 and figures["tags"]["action"]["chance"] == pytest.approx(1 / 19)
    assert figures["tags"]["step"]["majority"] == 0.5
    assert figures["tags"]["step"]["calibration_error"] == pytest.approx(0.1)
    assert figures["tags"]["step"]["task"] == "macro"
    json.dumps(figures, allow_nan=False)


def test_a_window_belongs_to_what_covers_most_of_it():
    names = ("A", "B")
    lane = [LabelledSpan("A", 0.0, 3.7), LabelledSpan("B", 3.7, 6.0)]
    assert covering(lane, names, 2.5, 10.0)[0].tolist() == [0, 1, -1, -1]
    # exactly half: a category wins over nothing; a short last window is judged by its own length
    assert covering([LabelledSpan("B", 1.25, 2.5)], names, 2.5, 2.5)[0].tolist() == [1]
    assert covering([LabelledSpan("B", 1.3, 2.5)], names, 2.5, 2.5)[0].tolist() == [-1]
    assert covering([LabelledSpan("A", 5.0, 5.6)], names, 2.5, 5.6)[0].tolist() == [-1, -1, 0]
    assert covering([], names, 2.5, 5.0)[0].tolist() == [-1, -1]
    assert covering([], names, 2.5, 0.0)[0].tolist() == []


def test_half_open_edges_do_not_leak():
    lane = [LabelledSpan("A", 0.0, 2.5), LabelledSpan("B", 2.5, 5.0)]
    index, confidence = covering(lane, ("A", "B"), 2.5, 5.0)
    assert index.tolist() == [0, 1] and confidence.tolist() == [1.0, 1.0]


def test_what_is_missing_counts_as_wrong_and_gaps_are_counted():
    clips = [step(0.0, 40.0, "Suturing")]
    rows = [
        row(0.0, 10.0, "step", "Suturing"),
        row(10.0, 20.0, "step", "Dissection"),
        row(20.0, 30.0, "gap", "corrupt", source="gap"),
    ]
    figures = score_timeline(rows, clips, HALSTED)["tags"]["step"]
    assert figures["windows"] == 16 and figures["right"] == 4 and figures["accuracy"] == 0.25
    assert figures["unpredicted"] == 8 and figures["in_gap"] == 4
    assert figures["confusion"]["counts"][HALSTED.tag("step").categories.index("Suturing")] == [4, 4, 8]
    assert figures["matches_10"] == {"true_positives": 1, "false_positives": 1, "false_negatives": 0}


def test_predictions_where_the_truth_is_silent():
    clips = [step(0.0, 10.0, "Suturing")]
    rows = [row(0.0, 30.0, "step", "Suturing"), row(10.0, 20.0, "action", "Tug")]
    figures = score_timeline(rows, clips, HALSTED)["tags"]
    assert figures["step"]["windows"] == 4 and figures["step"]["only_predicted"] == 8
    assert figures["action"]["windows"] == 0 and figures["action"]["accuracy"] is None
    assert figures["action"]["f1_10"] == 0 and figures["action"]["only_predicted"] == 4


def test_only_videos_of_both_sides_are_compared():
    clips = [step(0.0, 10.0, "Suturing"), step(0.0, 10.0, "Suturing", "b" * 16)]
    rows = [row(0.0, 10.0, "step", "Suturing"), row(0.0, 10.0, "step", "Suturing", video_id="c" * 16)]
    figures = score_timeline(rows, clips, HALSTED)
    assert (figures["compared"], figures["without_truth"], figures["not_mapped"]) == (1, 1, 1)
    assert figures["videos"] == {VIDEO: {"step": {"accuracy": 1.0, "windows": 4, "f1_10": 1.0}}}


def test_a_video_that_failed_whole_counts_as_wrong():
    rows = [row(0.0, 10.0, "gap", "unreadable", source="gap")]
    figures = score_timeline(rows, [step(0.0, 10.0, "Suturing")], HALSTED)["tags"]["step"]
    assert figures["accuracy"] == 0 and figures["in_gap"] == 4 and figures["f1_10"] == 0 and figures["edit"] == 0


def test_durations_cut_the_last_window():
    rows, clips = [row(0.0, 6.0, "step", "Suturing")], [step(0.0, 6.0, "Suturing")]
    assert score_timeline(rows, clips, HALSTED)["tags"]["step"]["windows"] == 3
    assert score_timeline(rows, clips, HALSTED, durations_s={VIDEO: 5.0})["tags"]["step"]["windows"] == 2


def test_touching_spans_of_one_category_are_one():
    lane = [
        LabelledSpan("A", 0.0, 2.5),
        LabelledSpan("A", 2.5, 5.0),
        LabelledSpan("B", 5.0, 6.0),
        LabelledSpan("A", 7.0, 8.0),
        LabelledSpan("A", 8.5, 9.0),
    ]
    assert [(s.label, s.start, s.stop) for s in joined(lane)] == [
        ("A", 0.0, 5.0),
        ("B", 5.0, 6.0),
        ("A", 7.0, 8.0),
        ("A", 8.5, 9.0),
    ]


def test_a_category_that_the_taxonomy_lacks_is_named():
    with pytest.raises(ValueError, match="tag 'step'.*'Sewing'"):
        score_timeline([row(0.0, 5.0, "step", "Sewing")], [step(0.0, 5.0, "Suturing")], HALSTED)


def test_edges_are_told_by_their_error_and_lost_edges_are_counted():
    from halsted_ray.evaluation.map_accuracy import edge_errors_s, span_figures
    from halsted_ray.evaluation.metrics import Span

    truth = [Span("a", 0, 10), Span("b", 10, 20), Span("a", 20, 30)]
    found = [Span("a", 0, 10.4), Span("b", 10.4, 27), Span("a", 27, 30)]
    assert edge_errors_s(found, truth) == pytest.approx([0.4])  # the second edge is 7 s away: another edge
    figures = span_figures([(found, truth)])
    assert (figures["edges"], figures["edges_found"]) == (2, 1)
    assert figures["edge_error_s"] == pytest.approx(0.4)


def test_a_tag_where_the_truth_has_something_else_is_a_false_alarm():
    from halsted_ray.evaluation.map_accuracy import LabelledSpan, count_windows

    tag = HALSTED.tag("action")
    found, sewing = [LabelledSpan("Hook", 0, 20)], [LabelledSpan("Suturing", 10, 20)]
    counts = count_windows(found, [LabelledSpan("Hook", 0, 5)], [], tag, 2.5, 20.0, sewing)
    assert (counts.only_predicted, counts.false_alarms) == (6, 4)  # from 5 to 10 s nothing is annotated
