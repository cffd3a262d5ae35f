"""Phantoms whose camera leaves the body: when, how it looks, and what the annotations say of it."""

import cv2
import numpy as np
import pytest

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.phantom_archive import PhantomVideo, write_archive
from halsted_ray.phantom.disturbed import DISTURBANCES
from halsted_ray.phantom.interruptions import (
    OUTSIDE_SHARE,
    InterruptedView,
    Interruption,
    inside_clips,
    make_interruptions,
    outside_spans,
)
from halsted_ray.phantom.natural_tissue import natural_tissue
from halsted_ray.phantom.render import Renderer
from halsted_ray.phantom.room import SCENES
from halsted_ray.phantom.script import make_script
from halsted_ray.records import Clip

pytestmark = pytest.mark.quick
GREEN = np.full((36, 64, 3), (0, 200, 0), np.uint8)


@pytest.mark.parametrize("name", [*SCENES, *DISTURBANCES])
def test_a_scene_is_drawn_from_its_seed_and_time_alone(name):
    make = (SCENES | DISTURBANCES)[name]
    inside = natural_tissue(np.random.default_rng(4), 96, 54)
    first, again = (make(np.random.default_rng(8), 96, 54) for _ in range(2))
    image = first(inside, 1.5, 0.4)
    first(inside, 9.0, 0.9)
    assert image.shape == (54, 96, 3) and image.dtype == np.uint8
    assert np.array_equal(image, again(inside, 1.5, 0.4))
    assert not np.array_equal(image, inside)
    other = make(np.random.default_rng(9), 96, 54)(inside, 1.5, 0.4)
    assert not np.array_equal(image, other)


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_looks_alike_at_any_resolution(name):
    small, large = (SCENES[name](np.random.default_rng(2), 96 * k, 54 * k) for k in (1, 4))
    inside = natural_tissue(np.random.default_rng(4), 96, 54)
    shown = large(cv2.resize(inside, (384, 216)), 0.5, 0.5)
    scaled = cv2.resize(shown, (96, 54), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(scaled - small(inside, 0.5, 0.5)).mean() < 12


def test_only_the_trocar_shows_the_body():
    for name, make in SCENES.items():
        scene = make(np.random.default_rng(3), 64, 36)
        is_same = np.array_equal(scene(GREEN, 1.0, 0.5), scene(np.zeros_like(GREEN), 1.0, 0.5))
        assert is_same == (name != "trocar")


@pytest.mark.parametrize("seed", range(40))
def test_interruptions_are_in_order_within_the_video_and_mostly_inside(seed):
    found = make_interruptions(seed, 120.0)
    assert found == make_interruptions(seed, 120.0)
    assert found[0].start_s >= 0 and found[-1].stop_s <= 120.0
    for before, after in zip(found, found[1:], strict=False):
        assert before.stop_s <= after.start_s + 1e-9 and before.start_s < before.stop_s
    spans = outside_spans(found)
    assert all(stop_s - start_s >= 0.5 - 1e-9 for start_s, stop_s in spans)
    assert 0 < sum(stop_s - start_s for start_s, stop_s in spans) <= 0.4 * 120


def test_every_scene_and_every_disturbance_comes_up_at_both_kinds_of_edge():
    pieces = [piece for seed in range(150) for piece in make_interruptions(seed, 180.0)]
    assert {piece.scene for piece in pieces} == set(SCENES) | set(DISTURBANCES)
    assert {piece.fade_in_s > 0 for piece in pieces if piece.outside} == {False, True}
    lengths = [
        stop_s - start_s for seed in range(50) for start_s, stop_s in outside_spans(make_interruptions(seed, 180.0))
    ]
    assert min(lengths) < 1 and max(lengths) > 8


def test_a_frame_is_outside_from_a_fifth_of_the_outside_picture_on():
    piece = Interruption(10.0, 12.0, "drapes", 1, fade_in_s=0.5, fade_out_s=0.5)
    assert piece.weight(9.89) == 0 and piece.weight(11.0) == 1 and piece.weight(12.11) == 0
    assert piece.weight(10.0) == pytest.approx(OUTSIDE_SHARE) == pytest.approx(piece.weight(12.0))
    cut = Interruption(10.0, 12.0, "drapes", 1)
    assert [cut.weight(t_s) for t_s in (9.999, 10.0, 11.999, 12.0)] == [0, 1, 1, 0]


def test_an_interruption_is_seen_from_its_first_frame_to_its_last_and_never_beside_it():
    view = InterruptedView([Interruption(1.0, 2.0, "gauze", 5), Interruption(2.0, 3.0, "face", 6)], 1, 64, 36)
    changed = [not np.array_equal(view.over(GREEN, n / 25), GREEN) for n in range(100)]
    assert changed == [25 <= n < 75 for n in range(100)]


def test_a_script_without_interruptions_looks_as_ever():
    script = make_script(3, 20.0)
    usual, interrupted = (
        Renderer(script, 64, 36),
        Renderer(script, 64, 36, interruptions=[Interruption(5.0, 6.0, "face", 5)]),
    )
    assert np.array_equal(usual.frame(4.9), interrupted.frame(4.9))
    assert not np.array_equal(usual.frame(5.5), interrupted.frame(5.5))


def test_clips_end_where_the_camera_leaves_and_begin_where_it_is_back():
    clip = Clip("v", 1.0, 9.0, "micro", {"action": "Clip"})
    outside = [
        Interruption(0.0, 2.0, "face", 1),
        Interruption(4.0, 4.5, "gauze", 1),
        Interruption(4.7, 6.0, "drapes", 1),
    ]
    pieces = [(piece.start_s, piece.stop_s) for piece in inside_clips([clip], outside)]
    assert pieces == [(2.0, 4.0), (6.0, 9.0)]  # 0.2 s between two spans is too short to be annotated
    assert inside_clips([clip], [Interruption(0.0, 20.0, "face", 1)]) == []
    assert inside_clips([clip], [Interruption(3.0, 4.0, "smoke", 1)]) == [clip]


def test_an_archive_says_to_the_frame_when_the_camera_is_outside(tmp_path):
    root = str(tmp_path / "archive")
    options = {"videos": 2, "minutes": 0.5, "seed": 5, "width": 64, "height": 36, "fps": 10}
    atlas = write_archive(root, **options, out_of_body=True)
    labels = read_atlas(f"{root}/out_of_body")
    assert labels.taxonomy == "out_of_body" and labels.split == atlas.split
    assert {video.uri for video in labels.videos} == {video.uri for video in atlas.videos}
    for video in atlas.videos:
        clips = [clip for clip in labels.clips if clip.video_id == video.video_id]
        assert clips[0].start_s == 0 and clips[-1].stop_s == pytest.approx(video.duration_s)
        assert all(a.stop_s == b.start_s for a, b in zip(clips, clips[1:], strict=False))
        outside = [(clip.start_s, clip.stop_s) for clip in clips if clip.tags["view"] == "Out of body"]
        assert outside
        for clip in atlas.clips:
            if clip.video_id == video.video_id:
                assert all(clip.stop_s <= start_s or clip.start_s >= stop_s for start_s, stop_s in outside)


def test_names_of_videos_without_such_scenes_stay():
    usual = PhantomVideo(1, 60.0, "Prostatectomy", 640, 360, 25)
    assert "out_of_body" not in usual.deciding and usual.interruptions() == ()
    assert PhantomVideo(1, 60.0, "Prostatectomy", 640, 360, 25, out_of_body=True).name != usual.name
