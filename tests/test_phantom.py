"""The phantom: what a script promises, and how it looks."""

from __future__ import annotations

import doctest

import cv2
import numpy as np
import pytest

from halsted_ray import phantom, taxonomy
from halsted_ray.phantom import catalogue, motion
from halsted_ray.phantom.render import Renderer
from halsted_ray.phantom.script import make_script
from halsted_ray.phantom.training_clips import random_clip


def event_of(name: str, seed: int = 0, **wanted: str):
    """Some event of ``name`` whose stitch or tags agree with ``wanted``, and its script."""
    for k in range(1000):
        script = make_script(1000 * seed + k, 180)
        for event in script.events:
            if event.name == name and wanted.items() <= {**event.tags, **event.stitch}.items():
                return script, event
    raise AssertionError((name, wanted))


def test_names_are_those_of_the_taxonomy():
    found = {
        "specialty": set(catalogue.SPECIALTY_OF.values()),
        "procedure": set(catalogue.PROCEDURES),
        "step": set(catalogue.STEPS),
        "action": set(catalogue.ACTIONS),
        "arm": set(catalogue.ARMS),
        "instrument": set(catalogue.INSTRUMENTS),
        "phase": set(catalogue.PHASES),
        "proficiency": set(catalogue.PROFICIENCIES),
        "anatomy": set(catalogue.ANATOMY),
        "extent": set(catalogue.EXTENTS),
        "direction": set(catalogue.DIRECTIONS),
    }
    expected = {tag.name: set(tag.categories) for task in taxonomy.load("halsted").tasks for tag in task.tags}
    assert found == expected
    assert sum(map(len, found.values())) == 104


def test_every_category_is_reachable():
    seen: dict[str, set[str]] = {}
    for seed in range(8):
        for procedure in catalogue.PROCEDURES:
            script = make_script(seed, 600, procedure)
            for clip in script.clips("v"):
                for tag, category in clip.tags.items():
                    seen.setdefault(tag, set()).add(category)
    assert sum(map(len, seen.values())) == 104


def test_actions_and_instruments_come_out_even():
    share = np.zeros(len(catalogue.INSTRUMENTS))
    for action in catalogue.ACTIONS:
        chance = catalogue.INSTRUMENT_CHANCE[action]
        assert chance.sum() == pytest.approx(1)
        possible = [name in catalogue.INSTRUMENTS_OF_ACTION[action] for name in catalogue.INSTRUMENTS]
        assert not chance[~np.array(possible)].any()
        share += chance / len(catalogue.ACTIONS)
    assert share.min() > 0.8 / 27 and share.max() < 1.2 / 27
    actions = [event.name for seed in range(30) for event in make_script(seed, 600).events if not event.stitch]
    counts = np.array([actions.count(action) for action in catalogue.ACTIONS])
    assert counts.min() > 0.8 * counts.mean() and counts.max() < 1.2 * counts.mean()


@pytest.mark.parametrize("duration_s", [5, 119.5, 120, 181.3, 600, 7200])
def test_truth_covers_the_video_without_overlap(duration_s):
    script = make_script(5, duration_s)
    assert script.events[0].start_s == 0 and script.events[-1].stop_s == duration_s
    for before, after in zip(script.events[:-1], script.events[1:], strict=True):
        assert before.start_s < before.stop_s == after.start_s
        assert before.name != after.name
    lanes: dict[str, list] = {}
    for clip in script.clips("v"):
        lanes.setdefault(clip.task, []).append(clip)
    for clips in lanes.values():
        assert all(a.stop_s <= b.start_s for a, b in zip(clips[:-1], clips[1:], strict=True))
    assert sum(c.stop_s - c.start_s for c in lanes["macro"]) == pytest.approx(duration_s)
    both = lanes.get("micro", []) + lanes.get("proficiency", [])
    assert sum(c.stop_s - c.start_s for c in both) == pytest.approx(duration_s)
    if duration_s >= 120:
        assert {step for _, _, step in script.steps} == set(catalogue.STEPS)


def test_tags_at_agrees_with_the_clips():
    script = make_script(9, 200)
    for t_s in np.arange(0.05, 200, 1.7):
        at = script.tags_at(t_s)
        told: dict[str, str] = {}
        for clip in script.clips("v"):
            if clip.start_s <= t_s < clip.stop_s:
                told |= clip.tags
        assert at == told


def test_script_is_a_function_of_its_arguments():
    def facts(script):
        return [(e.start_s, e.stop_s, e.name, e.tags, e.stitch, e.seed) for e in script.events]

    assert facts(make_script(3, 300)) == facts(make_script(3, 300))
    assert facts(make_script(3, 300)) != facts(make_script(4, 300))
    assert make_script(3, 300, "Myomectomy").specialty == "Gynecology"
    with pytest.raises(ValueError, match="unknown procedure 'Appendectomy'; expected one of Gastric Bypass"):
        make_script(3, 300, "Appendectomy")
    with pytest.raises(ValueError, match="duration_s=0"):
        make_script(3, 0)
    with pytest.raises(ValueError, match="pace=0"):
        make_script(3, 60, pace=0)


def test_pace_makes_events_shorter_and_leaves_steps_as_long():
    usual, fast = make_script(3, 600, "Myomectomy"), make_script(3, 600, "Myomectomy", pace=2)
    assert 1.8 < len(fast.events) / len(usual.events) < 2.2
    assert fast.steps[0][1] == usual.steps[0][1], "the first step ends where it ended"
    assert fast.events[-1].stop_s == 600


def test_a_shifted_camera_shows_the_same_scene_otherwise_and_always_the_same():
    script = make_script(2, 60)
    plain, shifted = Renderer(script, 160, 90), Renderer(script, 160, 90, shifted=True)
    times = [1.0, 30.2, 31.0]
    pictures = {t: shifted.frame(t) for t in times}
    again = Renderer(script, 160, 90, shifted=True)
    for t in reversed(times):
        assert np.array_equal(again.frame(t), pictures[t])
    seen, drawn = pictures[1.0].astype(float), plain.frame(1.0).astype(float)
    assert abs(seen - drawn).mean() > 15
    assert seen[:4, :4].mean() < 40, "the corner lies outside of the round picture"
    middle = np.s_[25:65, 40:120]
    smooth = [cv2.GaussianBlur(image[middle].mean(2), (0, 0), 3).ravel() for image in (seen, drawn)]
    assert np.corrcoef(*smooth)[0, 1] > 0.8


def test_frame_depends_on_the_time_alone():
    script = make_script(2, 180)
    times = [3.0, 170.2, 91.7, 3.04]
    one, other = Renderer(script, 160, 90), Renderer(script, 160, 90)
    forward = {t: one.frame(t) for t in times}
    for t in reversed(times):
        assert np.array_equal(other.frame(t), forward[t])
    assert not np.array_equal(forward[3.0], forward[3.04])
    assert forward[3.0].shape == (90, 160, 3) and forward[3.0].dtype == np.uint8


def test_small_pictures_look_as_large_ones_scaled_down():
    """Encoders learn from clips drawn small and read videos drawn large."""
    script = make_script(6, 180)
    large, small = Renderer(script, 640, 360), Renderer(script, 112, 112)
    for t_s in (4.0, 66.6, 120.5, 177.0):
        scaled = cv2.resize(large.frame(t_s), (112, 112), interpolation=cv2.INTER_AREA).astype(float)
        drawn = small.frame(t_s).astype(float)
        assert abs(scaled - drawn).mean() < 6
        assert np.corrcoef(scaled.ravel(), drawn.ravel())[0, 1] > 0.97


def told_direction(event, start_s, count, window_s=2.5):
    v = np.diff([motion.stroke(event, start_s + k * window_s / count) for k in range(count)])
    ratio = np.log(v[v > 0].mean() / -v[v < 0].mean())
    return "Both" if abs(ratio) < 0.45 else "In" if ratio < 0 else "Out"


def test_direction_is_known_from_motion_in_any_window():
    """The oracle: In drives inward slowly and comes back fast, Out the reverse, Both at one pace."""
    right, seen, total = 0, 0, 0
    for direction in catalogue.DIRECTIONS:
        for seed in range(12):
            _, event = event_of("Driving", seed, direction=direction)
            for start_s in np.linspace(event.start_s, event.stop_s - 2.5, 7):
                right += told_direction(event, start_s, 200) == direction
                seen += told_direction(event, start_s, 16) == direction
                total += 1
    assert right == total
    assert seen > 0.97 * total  # from the 16 frames of a window


def test_strokes_of_all_directions_pass_the_same_places():
    places = {}
    for direction in catalogue.DIRECTIONS:
        _, event = event_of("Driving", 3, direction=direction, proficiency="High")
        traits = motion.traits_of(event)
        times = (np.arange(4000) / 4000 * 8 - traits.phase) * traits.period_s
        places[direction] = np.sort([motion.stroke(event, t) for t in times])
    assert abs(places["In"] - places["Out"]).max() < 0.01
    assert abs(places["In"] - places["Both"]).max() < 0.01


def test_low_proficiency_is_unsteady_in_any_window():
    for proficiency, low, high in (("Low", 0.03, 1.0), ("High", 0.0, 0.006)):
        for phase in catalogue.PHASES:
            _, event = event_of(phase, 2, proficiency=proficiency)
            for start_s in np.linspace(event.start_s, event.stop_s - 2.5, 4):
                y = [motion.tremor(event, start_s + k * 2.5 / 16, 1)[1] for k in range(16)]
                assert low <= np.ptp(y) / (16 / 9) <= high


@pytest.mark.parametrize("arm", catalogue.ARMS)
def test_the_working_arm_moves_and_the_other_rests(arm):
    script, event = event_of("Push/Peel", 1, arm=arm)
    middle = (event.start_s + event.stop_s) / 2
    moved = {-1: 0.0, 1: 0.0}
    for t_s in np.arange(middle - 1.25, middle + 1.25, 0.1):
        for hand, before in zip(motion.hands(event, t_s), motion.hands(event, t_s - 0.1), strict=True):
            moved[hand.side] += np.hypot(hand.tip[0] - before.tip[0], hand.tip[1] - before.tip[1])
    assert (moved[-1] > 0.3) == (arm in ("Left", "Both"))
    assert (moved[1] > 0.3) == (arm in ("Right", "Both"))


def test_pairs_show_both_instruments_in_the_printed_order():
    _, event = event_of("Retraction", 0, instrument="Cadiere Forceps–Bipolar Grasper")
    names = {hand.side: hand.name for hand in motion.hands(event, event.start_s + 2)}
    assert names == {-1: "Cadiere Forceps", 1: "Bipolar Grasper"}


def test_random_clip_is_reproducible_and_labelled():
    for seed in range(25):
        frames, tags = random_clip(np.random.default_rng(seed), 56, 2.5)
        again, same = random_clip(np.random.default_rng(seed), 56, 2.5)
        assert np.array_equal(frames, again) and tags == same
        assert frames.shape == (16, 56, 56, 3) and frames.dtype == np.uint8
        assert {"specialty", "procedure", "step", "step_share"} <= tags.keys()
        assert ("action" in tags) <= (tags["step"] == "Dissection")
        assert ("direction" in tags) <= (tags.get("phase") == "Driving")


def test_random_clip_of_a_coarse_window_has_macro_tags_only():
    shares = []
    for seed in range(30):
        frames, tags = random_clip(np.random.default_rng(seed), 32, 30.0, frames=4)
        assert tags.keys() == {"specialty", "procedure", "step", "step_share"} and len(frames) == 4
        assert tags["step"] == ("Suturing" if tags["step_share"] > 0.5 else "Dissection")
        shares.append(tags["step_share"])
    assert 0.0 in shares and max(shares) > 0.99 and any(0.1 < share < 0.9 for share in shares)
    with pytest.raises(ValueError, match="name='Hook' for 30.0 s"):
        random_clip(np.random.default_rng(0), 32, 30.0, name="Hook")


def test_the_example_in_the_docstring_is_true():
    found = doctest.testmod(phantom)
    assert found.attempted and not found.failed
