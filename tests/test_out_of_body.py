"""Finding when the camera is outside of the body: in phantoms of unseen seeds, to the frame, and from labels."""

import json

import numpy as np
import pytest
import torch

from halsted_ray.atlas.phantom_archive import write_archive
from halsted_ray.cli import main
from halsted_ray.deidentify.out_of_body import (
    DAMAGED,
    PAD_S,
    find_out_of_body,
    merged,
    outside_runs,
    outside_scores,
    padded,
    smoothed,
)
from halsted_ray.deidentify.out_of_body_net import (
    SIZE,
    OutOfBodyDetector,
    OutOfBodyNet,
    SearchSettings,
    load_detector,
    save_detector,
    shipped_bytes,
)
from halsted_ray.deidentify.out_of_body_samples import drawn_frames
from halsted_ray.deidentify.out_of_body_thresholds import by_second, choose_thresholds, flagged
from halsted_ray.deidentify.out_of_body_training import fit, is_outside, train_out_of_body
from halsted_ray.deidentify.spans import Span
from halsted_ray.errors import AtlasError, ModelError, TrainingError, UnreadableVideo
from halsted_ray.phantom.interruptions import Interruption
from halsted_ray.phantom.script import make_script
from halsted_ray.phantom.write import write_video

LENGTH_S = 11.0
OUTSIDE = (Interruption(3.0, 3.52, "operating room", 3), Interruption(6.0, 9.0, "drapes", 4))
SMOKE = Interruption(2.0, 4.0, "smoke", 5)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Two threads that share these few numbers wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "case.mp4"
    write_video(path, make_script(8_100_000, 18.0), 320, 180, interruptions=OUTSIDE, duration_s=LENGTH_S)
    return str(path)


@pytest.fixture(scope="module")
def bare(video):
    """The spans of the video, without a pad."""
    return find_out_of_body(video, pad_s=0.0)


def test_smoke_inside_the_body_is_not_blacked_out(tmp_path):
    path = tmp_path / "smoke.mp4"
    write_video(path, make_script(8_100_000, 18.0), 320, 180, interruptions=[SMOKE], duration_s=6.0)
    assert find_out_of_body(str(path)) == []


def test_every_span_of_half_a_second_is_found_to_the_frame(bare):
    assert [span.reason for span in bare] == ["out-of-body", "out-of-body"]
    for span, piece in zip(bare, OUTSIDE, strict=True):
        assert span.start_s == pytest.approx(piece.start_s, abs=0.041)
        assert span.stop_s == pytest.approx(piece.stop_s, abs=0.041)
        assert 0.1 < span.score <= 1


def test_spans_are_widened_by_the_pad_and_stay_in_the_video(video, bare):
    wide = find_out_of_body(video, pad_s=1.0)
    assert [(span.start_s - 1, span.stop_s + 1) for span in bare] == [(span.start_s, span.stop_s) for span in wide]
    whole = find_out_of_body(video, pad_s=100.0)
    assert [(span.start_s, span.stop_s) for span in whole] == [(0.0, pytest.approx(LENGTH_S))]


def test_scores_tell_the_outside_from_the_inside(video):
    times_s, scores = outside_scores(video)
    assert len(times_s) == len(scores) == LENGTH_S * 8
    outside = is_outside(times_s, [(piece.start_s, piece.stop_s) for piece in OUTSIDE])
    assert scores[outside].min() > scores[~outside].max()


def test_what_is_no_video_is_refused_and_wrong_arguments_too(tmp_path, video):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UnreadableVideo):
        find_out_of_body(str(tmp_path / "text.mp4"))
    with pytest.raises(ValueError, match="pad_s=-1"):
        find_out_of_body(video, pad_s=-1)
    with pytest.raises(ValueError, match="rate_hz=0"):
        find_out_of_body(video, rate_hz=0)


def test_one_frame_alone_neither_makes_nor_breaks_a_span():
    scores = np.array([0, 0.9, 0, 0, 0.9, 0.9, 0, 0.9, 0.9, 0.0])
    assert outside_runs(smoothed(scores), 0.5) == [(4, 9)]
    assert outside_runs(np.array([0.9, 0.9]), 0.5) == [(0, 2)] and outside_runs(np.zeros(3), 0.5) == []


def test_a_span_needs_one_high_score_and_goes_on_while_scores_are_not_low():
    scores = np.array([0, 0.2, 0.3, 0.7, 0.2, 0.05, 0.3, 0.4, 0.3, 0.05, 0.6])
    assert outside_runs(scores, 0.5, 0.1) == [(1, 5), (10, 11)]  # smoke at 6 to 8 never gets a high score
    assert flagged(scores, 0.5, 0.1).tolist() == [False, *[True] * 4, *[False] * 5, True]


def test_spans_close_to_each_other_are_one():
    spans = [Span(5.0, 6.0, "a", 0.5), Span(1.0, 2.0, "a", 0.7), Span(2.5, 3.0, "a", 0.9), Span(5.5, 5.6, DAMAGED, 1.0)]
    assert merged(spans, 1.0) == [Span(1.0, 3.0, "a", 0.9), Span(5.0, 6.0, f"a; {DAMAGED}", 1.0)]
    assert padded([Span(0.5, 1.0, "a", 0.5), Span(2.0, 2.5, "a", 0.6)], 1.0, 3.0) == [Span(0.0, 3.0, "a", 0.6)]


def test_the_shipped_detector_is_small_and_tells_drawn_frames_apart():
    assert len(shipped_bytes()) < 3_000_000
    frames, outside = drawn_frames(9_000_001, 120)
    detector = load_detector()
    scores = detector.scores(frames)
    assert scores[outside].mean() > 0.85 and scores[~outside].mean() < 0.15
    assert (scores[outside][:, None] > scores[~outside][None]).mean() > 0.97  # the area under the ROC curve


def test_drawn_frames_depend_on_their_seed_alone():
    first, again, other = drawn_frames(3, 6), drawn_frames(3, 6), drawn_frames(4, 6)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0]) and first[0].shape == (6, SIZE, SIZE, 3)


def test_a_detector_is_written_and_read_whole_and_other_files_are_refused(tmp_path):
    frames = drawn_frames(5, 8)[0]
    made = OutOfBodyDetector(OutOfBodyNet().eval(), SearchSettings(0.25, "nothing"))
    save_detector(made, str(tmp_path / "d.safetensors"))
    read = load_detector(str(tmp_path / "d.safetensors"))
    assert read.settings == made.settings
    assert np.abs(read.scores(frames) - made.scores(frames)).max() < 5e-3
    (tmp_path / "bad").write_bytes(b"x" * 40)
    for ref in (str(tmp_path / "bad"), str(tmp_path / "none")):
        with pytest.raises(ModelError, match="phantom"):
            load_detector(ref)
    with pytest.raises(ModelError, match="threshold=1"):
        SearchSettings(1)


def test_a_second_has_what_half_of_its_frames_reach():
    scores = np.concatenate([[0.9] * 4 + [0.0] * 4, [0.9] * 3 + [0.0] * 5, [0.8] * 5])
    assert by_second(scores).tolist() == [0.9, 0.0]  # what is left of the last second is no second


def test_a_span_must_have_three_fifths_of_the_lowest_peak_of_a_validation_span():
    scores, outside = np.repeat([0.05, 0.95, 0.05, 0.7], [16, 16, 16, 4]), np.repeat([False, True] * 2, [16, 16, 16, 4])
    smoke = np.repeat([0.3, 0.41], 8), np.zeros(16, bool)
    chosen = choose_thresholds([smoke, (scores, outside)])
    assert chosen.threshold == 0.42 and chosen.recall == chosen.precision == 1.0  # the short span has the lowest peak
    assert choose_thresholds([(np.zeros(16), np.ones(16, bool))]).threshold == 0.1
    assert choose_thresholds([(np.ones(16), np.ones(16, bool))]).threshold == 0.5
    with pytest.raises(TrainingError, match="no validation frame"):
        choose_thresholds([smoke])


def test_a_span_goes_so_far_that_nothing_of_the_outside_stays_visible_once_it_is_widened():
    outside = np.repeat([False, True, False], [16, 32, 16])
    reach = round(PAD_S * 8)
    faint = np.repeat([0.0, 0.25, 0.9, 0.0], [16, reach, 32 - reach, 16])  # hidden by the widening
    assert choose_thresholds([(faint, outside)]).edge_threshold == 0.5
    fainter = np.repeat([0.0, 0.25, 0.9, 0.0], [16, reach + 1, 31 - reach, 16])  # one frame more than it hides
    assert choose_thresholds([(fainter, outside)]).edge_threshold == pytest.approx(0.25)
    assert choose_thresholds([(np.where(fainter == 0.25, 0.01, fainter), outside)]).edge_threshold == 0.1


def test_training_needs_both_kinds_and_gives_the_same_for_the_same_seed():
    frames, outside = drawn_frames(6, 64)
    with pytest.raises(TrainingError, match="both kinds"):
        fit(frames[outside], outside[outside])
    first, again = fit(frames, outside, epochs=1, seed=2), fit(frames, outside, epochs=1, seed=2)
    for name, tensor in first.state_dict().items():
        assert tensor.equal(again.state_dict()[name]), name


def test_a_detector_learns_from_imported_labels_and_the_command_uses_it(tmp_path, capsys):
    root, out = str(tmp_path / "archive"), str(tmp_path / "own.safetensors")
    options = {"videos": 3, "minutes": 0.4, "width": 128, "height": 72, "fps": 12, "validation": 0.34}
    atlas = write_archive(root, **options, seed=1, out_of_body=True)
    with pytest.raises(AtlasError, match="no clip of the task 'out_of_body'"):
        train_out_of_body(out, atlas=root, drawn=0)
    done = train_out_of_body(out, atlas=f"{root}/out_of_body", drawn=0, epochs=18)
    assert done.videos == 2 and done.recall > 0.5 and done.frames > 100
    assert main(["out-of-body", "find", atlas.videos[0].uri, "--detector", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spans"]
    (tmp_path / "bad.mp4").write_text("")
    assert main(["out-of-body", "find", str(tmp_path / "bad.mp4")]) == 3
