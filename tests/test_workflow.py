"""The multi-stage workflow: which windows are encoded and asked, and that a map does not show how it was cut."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import ModelError, TaxonomyError
from halsted_ray.mapping.workflow import LEAST_PROBABILITY, Workflow, wanted_tasks
from halsted_ray.maps.timeline import merge
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Segment, Video, WindowSpec
from halsted_ray.video.windows import frame_times_s, segments

SPEC = WindowSpec(coarse_s=10, fine_s=2.5)
SEGMENT = Segment("s", "v", "uri", 0.0, 20.0, 20.0)
SURE = 1 - LEAST_PROBABILITY / 2


class Scripted:
    """Encoder and model in one. A frame's first pixel is its second; ``suturing`` says how sure a window starting
    at a time is to be suturing, and ``unknown`` which (kind, second) is outside of what it has learned, so every answer
    is known."""

    frames, dim, image_size, fingerprint, ref = 16, 2, (1, 1), "scripted", "scripted"

    def __init__(self, suturing, taxonomy="halsted", phase="Driving", unknown=lambda kind, second: False):
        self.suturing, self.phase, self.unknown = suturing, phase, unknown
        self.taxonomy = taxonomies.load(taxonomy)
        self.config = SimpleNamespace(windows=SPEC)
        self.encoded: list[int] = []
        self.asked: list[tuple[str, int]] = []

    def check_encoder(self, encoder):
        assert encoder is self

    def encode_frames(self, images_NHWC, rows_NT):
        return self.encode(images_NHWC[rows_NT])

    def encode(self, clips_NTHWC):
        self.encoded.append(len(clips_NTHWC))
        first, last = clips_NTHWC[:, 0, 0, 0, 0], clips_NTHWC[:, -1, 0, 0, 0]
        return np.stack([first, last], 1).astype(np.float16)

    def is_unknown(self, embeddings_ND):
        return np.array(
            [self.unknown("coarse" if last - first > 2.5 else "fine", first) for first, last in embeddings_ND.tolist()]
        )

    def tag(self, embeddings_ND, task, *, unit, return_probabilities):
        assert unit == "grid", "a map asks windows of the grid"
        rows, shares = [], []
        self.asked.append((task, len(embeddings_ND)))
        for first, last in embeddings_ND.tolist():
            chances = {t.name: np.full(len(t.categories), 1 / len(t.categories)) for t in self.taxonomy.task(task).tags}
            if task == "macro":
                kind = "coarse" if last - first > 2.5 else "fine"
                chance = self.suturing(kind, first)
                chances["step"] = np.array([chance, 1 - chance])
            if task == "proficiency":
                categories = self.taxonomy.tag("phase").categories
                chances["phase"] = np.array([float(category == self.phase) for category in categories])
            best = {name: int(chance.argmax()) for name, chance in chances.items()}
            rows.append(
                {name: (self.taxonomy.tag(name).categories[n], float(chances[name][n])) for name, n in best.items()}
            )
            shares.append(chances)
        return rows, shares


def seconds_as_frames(segment: Segment) -> np.ndarray:
    return frame_times_s(segment, SPEC).astype(np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3)


def spans(result, task, tag):
    return [(t.start_s, t.stop_s) for t in result.tags if (t.task, t.tag) == (task, tag)]


def test_fine_tasks_are_asked_where_the_coarse_window_shows_their_step():
    desk = Scripted(lambda kind, second: SURE if second >= 10 else 1 - SURE)
    result = Workflow(desk, desk)(SEGMENT, seconds_as_frames(SEGMENT))
    assert spans(result, "macro", "procedure") == [(0, 10), (10, 20)]
    assert spans(result, "micro", "action") == [(0, 2.5), (2.5, 5), (5, 7.5), (7.5, 10)]
    assert spans(result, "proficiency", "phase") == [(10, 12.5), (12.5, 15), (15, 17.5), (17.5, 20)]
    assert desk.encoded == [2, 8], "one batch of coarse and one of fine windows"
    asked = [("macro", 2), ("macro", 8), ("micro", 4), ("proficiency", 4), ("context", 4)]
    assert desk.asked == asked, "one batch a task"


def test_only_what_is_asked_for_is_encoded():
    desk = Scripted(lambda kind, second: SURE if second >= 10 else 1 - SURE)
    result = Workflow(desk, desk, tasks=["proficiency"])(SEGMENT, seconds_as_frames(SEGMENT))
    assert {t.task for t in result.tags} == {"proficiency"}, "macro was needed and is not part of the answer"
    assert desk.encoded == [2, 4]


def test_a_window_that_holds_both_steps_is_decided_by_its_fine_windows():
    desk = Scripted(lambda kind, second: (0.5 if second < 10 else 1 - SURE) if kind == "coarse" else float(second < 5))
    result = Workflow(desk, desk)(SEGMENT, seconds_as_frames(SEGMENT))
    steps = [(t.start_s, t.stop_s, t.category) for t in result.tags if t.tag == "step"]
    assert steps == [(2.5 * n, 2.5 * n + 2.5, "Suturing" if n < 2 else "Dissection") for n in range(8)]
    assert spans(result, "macro", "procedure") == [(0, 10), (10, 20)], "only the step is refined"
    assert spans(result, "proficiency", "phase") == [(0, 2.5), (2.5, 5)]
    assert spans(result, "micro", "action") == [(5, 7.5), (7.5, 10), (10, 12.5), (12.5, 15), (15, 17.5), (17.5, 20)]


def test_a_sure_coarse_window_is_overruled_by_its_fine_windows():
    desk = Scripted(lambda kind, second: 1 - 1.5 * LEAST_PROBABILITY if kind == "coarse" else float(second < 5))
    result = Workflow(desk, desk)(SEGMENT, seconds_as_frames(SEGMENT))
    assert spans(result, "proficiency", "phase") == [(0, 2.5), (2.5, 5)]
    assert len(spans(result, "micro", "action")) == 6


@pytest.mark.parametrize("chance, opened", [(0.9 * LEAST_PROBABILITY, False), (1.1 * LEAST_PROBABILITY, True)])
def test_a_task_is_opened_by_probability_not_by_the_answer(chance, opened):
    desk = Scripted(lambda kind, second: chance if kind == "coarse" else 1.0)
    result = Workflow(desk, desk, tasks=["proficiency"])(SEGMENT, seconds_as_frames(SEGMENT))
    assert bool(result.tags) is opened


def test_context_is_asked_while_driving():
    for phase, asked in (("Driving", 8), ("Withdrawal", 0)):
        desk = Scripted(lambda kind, second: 1.0, phase=phase)
        result = Workflow(desk, desk, tasks=["context"])(SEGMENT, seconds_as_frames(SEGMENT))
        assert len(spans(result, "context", "direction")) == asked


def test_a_taxonomy_of_fine_tasks_alone_has_no_coarse_windows():
    desk = Scripted(None, taxonomy="sar_rarp50")
    result = Workflow(desk, desk)(SEGMENT, seconds_as_frames(SEGMENT))
    assert len(result.tags) == 8 and desk.encoded == [8]


def test_stored_vectors_are_used_and_only_missing_ones_made():
    desk = Scripted(lambda kind, second: SURE)
    workflow = Workflow(desk, desk)
    whole = workflow(SEGMENT, seconds_as_frames(SEGMENT))
    again = workflow(SEGMENT, None, whole.new_vectors)
    assert again.tags == whole.tags and not again.new_vectors and again.used_vectors == 10
    coarse = {key: vector for key, vector in whole.new_vectors.items() if key[0] == "coarse"}
    assert workflow(SEGMENT, None, coarse).needs_frames
    rest = workflow(SEGMENT, seconds_as_frames(SEGMENT), coarse)
    assert rest.tags == whole.tags and len(rest.new_vectors) == 8


def test_an_unknown_coarse_window_has_no_tags_and_is_not_opened():
    desk = Scripted(lambda kind, second: SURE, unknown=lambda kind, second: kind == "coarse" and second < 10)
    result = Workflow(desk, desk)(SEGMENT, seconds_as_frames(SEGMENT))
    assert min(tag.start_s for tag in result.tags) == 10.0
    assert desk.encoded == [2, 4], "its fine windows are not even encoded"
    assert set(result.unknown) == {(name, 0.0, 10.0) for name in ("macro", "micro", "proficiency", "context")}
    assert not result.unasked


def test_an_unknown_fine_window_gets_no_fine_tags_and_keeps_its_coarse_windows_step():
    desk = Scripted(lambda kind, second: SURE, unknown=lambda kind, second: kind == "fine" and second == 5)
    result = Workflow(desk, desk)(SEGMENT, seconds_as_frames(SEGMENT))
    assert (5, 7.5) in spans(result, "macro", "step"), "as where too few of its pictures are there"
    assert (5, 7.5) not in spans(result, "proficiency", "phase") and len(spans(result, "proficiency", "phase")) == 7
    assert [span for span in result.unknown if span[0] == "proficiency"] == [("proficiency", 5.0, 7.5)]
    assert not [span for span in result.unknown if span[0] == "macro"]
    assert ("context", 5.0, 7.5) in result.unknown, "a task that waits for another one does not know either"


def test_an_unknown_window_of_a_taxonomy_without_coarse_windows_has_no_tags():
    desk = Scripted(None, taxonomy="sar_rarp50", unknown=lambda kind, second: second >= 15)
    result = Workflow(desk, desk)(SEGMENT, seconds_as_frames(SEGMENT))
    assert len(result.tags) == 6
    assert [span[1:] for span in result.unknown] == [(15.0, 20.0)]


def test_windows_in_a_gap_are_left_out():
    desk = Scripted(lambda kind, second: SURE)
    result = Workflow(desk, desk)(SEGMENT, seconds_as_frames(SEGMENT), gaps=[(0.0, 10.0)])
    assert min(tag.start_s for tag in result.tags) == 10.0


def test_a_video_that_ends_within_a_window():
    segment = Segment("s", "v", "uri", 0.0, 13.2, 13.2)
    desk = Scripted(lambda kind, second: SURE)
    result = Workflow(desk, desk)(segment, seconds_as_frames(segment))
    assert spans(result, "macro", "procedure") == [(0, 10), (10, 13.2)]
    assert spans(result, "macro", "step")[-1] == (12.5, 13.2)
    assert spans(result, "proficiency", "phase")[-1] == (12.5, 13.2)


@pytest.fixture(scope="module")
def untrained():
    torch.set_num_threads(1)  # as the actors do; small work only waits for other threads
    encoder = Encoder.create("tiny", 0)
    model = Halsted.create(
        None,
        encoder.dim,
        encoder_ref=encoder.ref,
        encoder_fingerprint=encoder.fingerprint,
        heads=4,
        width=64,
        windows=SPEC,
    )
    return Workflow(model, encoder)


def test_rows_do_not_depend_on_segment_length(untrained):
    video = Video("v", "uri", 1, 33.3, 1, 1, 25.0, "h264")
    frames = np.random.default_rng(0).integers(0, 255, (220, 112, 112, 3), dtype=np.uint8)
    timelines = []
    for segment_s in (10, 20, 60):
        tags = []
        for segment in segments(video, SPEC, segment_s, "recipe"):
            rows = (frame_times_s(segment, SPEC) * 6.4).round().astype(int)
            tags += untrained(segment, frames[rows]).tags
        timelines.append(merge(tags))
    assert len(timelines[0]) >= 5
    assert timelines[0] == timelines[1] == timelines[2]


def test_another_encoder_is_refused(untrained):
    with pytest.raises(ModelError, match="fingerprint"):
        Workflow(untrained.model, Encoder.create("tiny", 1))


def test_tasks_by_name_and_by_instruction():
    taxonomy = taxonomies.load()
    assert (
        wanted_tasks(taxonomy, None, None)
        == wanted_tasks(taxonomy, "all", None)
        == ["macro", "micro", "proficiency", "context"]
    )
    assert wanted_tasks(taxonomy, ["context", "macro"], None) == ["macro", "context"]
    assert wanted_tasks(taxonomy, None, "Map  suturing activity") == ["proficiency"]
    with pytest.raises(TaxonomyError, match="micro"):
        wanted_tasks(taxonomy, "mirco", None)
    with pytest.raises(TaxonomyError, match="map suturing activity"):
        wanted_tasks(taxonomy, None, "map suturing")
