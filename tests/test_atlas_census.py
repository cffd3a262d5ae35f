"""The census counts like the paper's Table 2, and tells what differs between two releases."""

from collections import Counter
from dataclasses import replace

import pytest

from halsted_ray.atlas import read_atlas, write_atlas
from halsted_ray.atlas.census import census, census_of_counts, difference
from halsted_ray.records import Clip, Video

TASKS = ("macro", "micro", "proficiency", "context")
TABLE_2 = {
    # procedure: specialty, videos, T1, T2, T3, T4, total, % manual (arXiv 2603.22583, Table 2)
    "Gastric Bypass": ("Bariatric", 5, 303, 0, 303, 152, 758, 100.0),
    "Atrial Closure": ("Cardiac", 6, 219, 0, 219, 73, 511, 100.0),
    "IMA Harvest": ("Cardiac", 2, 370, 370, 0, 0, 740, 100.0),
    "Mitral Stitching": ("Cardiac", 6, 89, 0, 89, 30, 208, 100.0),
    "Right Colectomy": ("Colorectal", 7, 386, 0, 386, 181, 953, 100.0),
    "Total Mesorectal Excision": ("Colorectal", 13, 18153, 18153, 0, 0, 36306, 2.3),
    "Laparoscopic Cholecystectomy": ("General", 20, 12950, 12950, 0, 0, 25900, 2.5),
    "Laparoscopic Hernia": ("General", 23, 23238, 23035, 203, 68, 46544, 3.8),
    "Endometriosis": ("Gynecology", 15, 35428, 35428, 0, 0, 70856, 1.4),
    "Hysterectomy": ("Gynecology", 8, 2404, 2171, 233, 115, 4923, 21.3),
    "Myomectomy": ("Gynecology", 7, 388, 0, 388, 195, 971, 100.0),
    "Pancreaticoduodenectomy": ("Hepatobiliary", 5, 7824, 7507, 317, 163, 15811, 18.8),
    "Right Middle Lobectomy": ("Thoracic", 4, 2151, 2151, 0, 0, 4302, 58.5),
    "Right Upper Lobectomy": ("Thoracic", 9, 4490, 4490, 0, 0, 8980, 5.1),
    "Segmentectomy": ("Thoracic", 17, 12371, 12371, 0, 0, 24742, 6.1),
    "Prostatectomy": ("Urology", 469, 208525, 205046, 1497, 695, 415763, 36.6),
}
WHOLE = (616, 329289, 323672, 3635, 1672, 658268, 25.7)


def test_the_papers_table_2():
    """The table's counts give its sums and shares.

    The manual samples of a row are its printed share of its total, taken from the tasks in order. The paper prints
    shares with one digit, so shares agree to .05.
    """
    counts, videos = Counter(), {}
    for procedure, (specialty, seen, *samples, total, share) in TABLE_2.items():
        videos[specialty, procedure] = seen
        manual = round(total * share / 100)
        for task, number in zip(TASKS, samples, strict=True):
            by_hand = min(number, manual)
            manual -= by_hand
            counts[specialty, procedure, task, "manual"] += by_hand
            counts[specialty, procedure, task, "ai"] += number - by_hand
    found = census_of_counts(counts, videos, sum(videos.values()), TASKS)
    assert [row.procedure for row in found.rows] == [
        name for _, name in sorted((row[0], name) for name, row in TABLE_2.items())
    ]
    for row in found.rows:
        specialty, seen, *samples, total, share = TABLE_2[row.procedure]
        assert (row.specialty, row.videos, row.total) == (specialty, seen, total)
        assert [row.samples.get(task, 0) for task in TASKS] == samples
        assert 100 * row.manual_share == pytest.approx(share, abs=0.05)
    whole = found.whole
    assert (whole.videos, *(whole.samples[task] for task in TASKS), whole.total) == WHOLE[:-1]
    assert 100 * whole.manual_share == pytest.approx(WHOLE[-1], abs=0.05)


def video(name):
    return Video(name * 16, f"/a/{name}.mp4", 1, 60.0, 64, 64, 25.0, "h264")


SUTURING = {"specialty": "Urology", "procedure": "Prostatectomy", "step": "Suturing"}
FIRST = [
    Clip("a" * 16, 0.0, 30.0, "macro", SUTURING),
    Clip("a" * 16, 2.0, 4.0, "micro", {"action": "Cautery", "arm": "Left"}),
    Clip("b" * 16, 0.0, 30.0, "macro", {"specialty": "Gynecology", "procedure": "Myomectomy", "step": "Suturing"}),
]


@pytest.fixture
def two_releases(tmp_path):
    root = str(tmp_path)
    write_atlas(root, [video("a"), video("b"), video("d")], FIRST, "v1")
    second = [
        FIRST[0],
        replace(FIRST[1], tags={"action": "Spread", "arm": "Left"}),
        Clip("c" * 16, 0.0, 1.0, "micro", {"action": "Spread"}, "ai", confidence=0.9),
        Clip("c" * 16, 1.0, 2.0, "micro", {"action": "Spread"}, "ai", confidence=0.9),
    ]
    write_atlas(root, [video("a"), video("c"), video("d")], second, "v2")
    return read_atlas(root, "v1"), read_atlas(root, "v2")


def test_census_of_an_atlas(two_releases):
    first, second = map(census, two_releases)
    assert [(row.procedure, row.videos, row.samples) for row in first.rows] == [
        ("Myomectomy", 1, {"macro": 1}),
        ("Prostatectomy", 1, {"macro": 1, "micro": 1}),
    ]
    assert (first.whole.videos, first.whole.total, first.whole.manual_share) == (3, 3, 1.0)
    assert (second.whole.samples, second.whole.manual_share) == ({"macro": 1, "micro": 3}, 0.5)
    assert {row.procedure: row.videos for row in second.rows} == {"": 1, "Prostatectomy": 1}


def test_what_a_release_added_and_removed(two_releases):
    found = difference(*two_releases)
    assert (found.added, found.removed, found.unchanged) == (3, 2, 1)
    assert (found.videos_added, found.videos_removed) == (("c" * 16,), ("b" * 16,))
    assert found.by["procedure"] == {"(none)": (0, 2), "Myomectomy": (1, 0), "Prostatectomy": (1, 1)}
    assert found.by["task"] == {"macro": (1, 0), "micro": (1, 3)}
    assert found.by["source"] == {"ai": (0, 2), "manual": (2, 1)}
    assert found.by["tag"]["action=Spread"] == (0, 3) and found.by["tag"]["action=Cautery"] == (1, 0)
    assert found.by["tag"]["arm=Left"] == (1, 1) and found.by["tag"]["procedure=Myomectomy"] == (1, 0)


def test_a_release_does_not_differ_from_itself(two_releases):
    found = difference(two_releases[1], two_releases[1])
    assert (found.added, found.removed, found.unchanged) == (0, 0, 4)
    assert not any(found.by.values())


def test_a_new_confidence_is_no_change(two_releases):
    _, second = two_releases
    surer = replace(second, clips=tuple(replace(clip, confidence=0.5) for clip in second.clips))
    assert difference(second, surer).added == 0
