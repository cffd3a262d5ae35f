"""How sure a map's figures are (spans, intervals) and how good they could be (oracle, a second person)."""

import json
import math

import numpy as np
import pytest

from halsted_ray import taxonomy as taxonomies
from halsted_ray.evaluation import map_certainty as certainty
from halsted_ray.evaluation.map_accuracy import LabelledSpan, score_timeline
from halsted_ray.evaluation.map_certainty import count_spans, map_certainty, moved_lane, oracle_lane, span_accuracy
from halsted_ray.evaluation.metrics import Span
from halsted_ray.records import Clip

HALSTED = taxonomies.load()
ACTION = HALSTED.tag("action")


def rows_of(clips, wrong=()):
    found = []
    for clip in clips:
        for tag, category in clip.tags.items():
            shown = "Hook" if (clip.video_id, clip.start_s) in wrong else category
            found.append(
                {
                    "video_id": clip.video_id,
                    "start_s": clip.start_s,
                    "stop_s": clip.stop_s,
                    "tag": tag,
                    "category": shown,
                    "confidence": 0.9,
                    "source": "ai",
                }
            )
    return found


def clips_of(videos, seed=0):
    rng = np.random.default_rng(seed)
    clips = []
    for v in range(videos):
        edges = np.concatenate([[0], np.cumsum(rng.uniform(6, 20, 6))])
        for k, (start_s, stop_s) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            name = ("Tug", "Clip", "Spread")[(k + v) % 3]
            clips.append(Clip(f"v{v}", float(start_s), float(stop_s), "micro", {"action": name}))
    return clips


def figures_of(rows, clips):
    return map_certainty(rows, clips, HALSTED, score_timeline(rows, clips, HALSTED))


def test_a_span_is_right_where_most_of_it_shows_its_category():
    truth = [Span("Tug", 0, 10), Span("Clip", 10, 20), Span("Hook", 20, 30)]
    shown = [LabelledSpan("Tug", 0, 5.5), LabelledSpan("Hook", 5.5, 14), LabelledSpan("Clip", 14, 18)]
    count = count_spans(shown, truth, ACTION)
    assert (count.right, count.total) == (1, 3), "4 of 10 s are no most; nothing is shown for the third"
    unknown = [LabelledSpan("unknown", 0, 9), LabelledSpan("Tug", 9, 10)]
    assert count_spans(unknown, truth[:1], ACTION).right == 0, "a row that names no category counts as nothing"


def test_the_standard_error_of_spans_is_binomial():
    found = span_accuracy([certainty.SpanCount(8, 10), certainty.SpanCount(10, 10)])
    assert found["accuracy"] == 0.9 and found["total"] == 20
    assert found["standard_error"] == pytest.approx(math.sqrt(0.9 * 0.1 / 20))
    assert found["interval"] == [0.8, 1.0]
    assert math.isnan(span_accuracy([])["standard_error"])


def test_the_interval_by_window_is_drawn_over_videos():
    clips = clips_of(8)
    figures = figures_of(rows_of(clips, wrong={(c.video_id, c.start_s) for c in clips if c.video_id == "v0"}), clips)
    low, high = figures["tags"]["action"]["interval"]
    accuracy = score_timeline(rows_of(clips), clips, HALSTED)["tags"]["action"]["accuracy"]
    assert accuracy == 1 and low < 0.9 < high <= 1
    assert figures["tags"]["action"]["spans"]["right"] == 7 * 6
    one = figures_of(rows_of(clips[:6]), clips[:6])["tags"]["action"]
    assert one["interval"] == [None, None], "one video says nothing about others"
    json.dumps(figures, allow_nan=False)


def test_the_oracle_is_right_by_window_and_still_misses_short_spans():
    clips = [
        Clip("v0", 0.0, 10.0, "micro", {"action": "Tug"}),
        Clip("v0", 10.0, 11.0, "micro", {"action": "Clip"}),
        Clip("v0", 11.0, 20.0, "micro", {"action": "Spread"}),
    ]
    oracle = figures_of(rows_of(clips), clips)["tags"]["action"]["oracle"]
    assert oracle["accuracy"] == 1
    assert oracle["f1_10"] == pytest.approx(2 * 2 / (2 + 3)), "2 of 3 spans, since no window is mostly the second"
    lane = oracle_lane([LabelledSpan("Tug", 0, 6)], ACTION, 2.5, 7.0)
    assert [(span.start, span.stop) for span in lane] == [(0, 2.5), (2.5, 5.0), (5.0, 7.0)]


def test_moved_edges_stay_shared_and_inside_the_video():
    lane = [LabelledSpan("Tug", 0, 5), LabelledSpan("Clip", 5, 12), LabelledSpan("Tug", 14, 20)]
    for seed in range(20):
        moved = moved_lane(lane, np.random.default_rng(seed), 20.0)
        assert moved[0].start == 0 and moved[-1].stop == 20
        assert moved[0].stop == moved[1].start != 5
        assert all(0 <= span.start < span.stop <= 20 for span in moved)


def test_a_second_person_scores_below_one_and_above_a_careless_one(monkeypatch):
    clips = clips_of(6)
    usual = figures_of(rows_of(clips), clips)["tags"]["action"]["second_person"]
    assert 0.85 < usual["accuracy"] < 1 and usual["f1_10"] > usual["f1_50"] - 1e-9
    assert usual == figures_of(rows_of(clips), clips)["tags"]["action"]["second_person"], "drawn the same each time"
    monkeypatch.setattr(certainty, "EDGE_DEVIATION_S", 4.0)
    careless = figures_of(rows_of(clips), clips)["tags"]["action"]["second_person"]
    assert careless["accuracy"] < usual["accuracy"]
    monkeypatch.setattr(certainty, "EDGE_DEVIATION_S", 0.0)
    exact = figures_of(rows_of(clips), clips)["tags"]["action"]["second_person"]
    assert exact == dict.fromkeys(certainty.CEILING_FIGURES, 1.0)
