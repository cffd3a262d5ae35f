"""How an atlas changes: one commit per change, releases that never change, and two writers at the same time."""

import multiprocessing
import os
import time
from dataclasses import replace

import pytest

from halsted_ray.atlas import add_ai_samples, add_samples, commits, read_atlas, release, write_atlas
from halsted_ray.atlas.commits import Change, history
from halsted_ray.errors import AtlasError, HalstedError, OutputError, UsageError
from halsted_ray.records import Clip, Video
from halsted_ray.storage.delta import open_table, table_uri
from halsted_ray.taxonomy import from_dict, load

PROCEDURES = ("Prostatectomy", "Hysterectomy", "Myomectomy", "Endometriosis", "Segmentectomy")
BY_ANNA = Change("anna", "case list 7", "first hour")


def video(n, root="/archive"):
    return Video(f"{n:016x}", f"{root}/videos/{n}.mp4", 1000 + n, 60.0, 640, 360, 25.0, "h264")


def steps(n, source="manual"):
    tags = {"procedure": PROCEDURES[n % len(PROCEDURES)], "step": "Dissection"}
    return [
        Clip(f"{n:016x}", 0.0, 30.0, "macro", tags, source),
        Clip(f"{n:016x}", 2.0, 4.5, "micro", {"action": "Cautery", "arm": "Left"}, source),
    ]


def grow(root, numbers):
    return add_samples(root, [clip for n in numbers for clip in steps(n)], BY_ANNA, videos=[video(n) for n in numbers])


@pytest.fixture
def root(tmp_path):
    """Ten annotated videos, no release."""
    grow(str(tmp_path), range(10))
    return str(tmp_path)


def test_a_commit_says_who_from_what_and_why(root):
    (first,) = history(root)
    assert (first.version, first.action, first.who, first.source, first.why) == (
        0,
        "import",
        "anna",
        "case list 7",
        "first hour",
    )
    assert (first.added, first.removed, first.release) == (20, 0, "")
    raw = open_table(table_uri(root, "atlas", "samples")).history()[0]  # what any Delta reader sees
    assert raw["who"] == "anna" and raw["source"] == "case list 7" and raw["why"] == "first hour"


def test_without_a_release_the_head_is_read_and_with_one_the_latest(root):
    assert read_atlas(root).name == "version 0"
    release(root, "hsa-v1", why="the paper's first")
    grow(root, [10, 11])
    pinned, head = read_atlas(root), read_atlas(root, "head")
    assert (pinned.name, pinned.version, len(pinned.videos)) == ("hsa-v1", 1, 10)
    assert (head.name, head.version, len(head.videos)) == ("version 2", 2, 12)
    assert read_atlas(root, version=1) == pinned == read_atlas(root, "hsa-v1")
    assert history(root)[1].why == "the paper's first"


def test_a_release_freezes_taxonomy_and_split(root):
    first = release(root, "hsa-v1", validation=0.2, test=0.1)
    assert sorted(first.split.values()) == ["test"] + ["train"] * 7 + ["validation"] * 2
    assert first.taxonomy_digest == load().digest and first.load_taxonomy().to_dict() == load().to_dict()
    grow(root, range(10, 20))
    second = release(root, "hsa-v2", validation=0.2, test=0.1)
    assert {name: second.split[name] for name in first.split} == first.split
    assert sorted(second.split.values()) == ["test"] * 2 + ["train"] * 14 + ["validation"] * 4
    assert read_atlas(root, "hsa-v1") == first


def test_a_release_keeps_no_copy_of_the_rows(root):
    files = len(open_table(table_uri(root, "atlas", "samples")).file_uris())
    release(root, "hsa-v1")
    table = open_table(table_uri(root, "atlas", "samples"))
    assert len(table.file_uris()) == files and table.history(1)[0]["operationMetrics"]["num_added_files"] == 0


def test_history_is_never_cleaned_up(root):
    settings = open_table(table_uri(root, "atlas", "samples")).metadata().configuration
    assert settings["delta.enableExpiredLogCleanup"] == "false"
    assert settings["delta.deletedFileRetentionDuration"] == "interval 36500 days"


def test_an_unknown_release_is_answered_with_the_nearest_name(root):
    with pytest.raises(AtlasError, match="no release 'hsa-v1'; it has none yet.*halsted atlas release"):
        read_atlas(root, "hsa-v1")
    release(root, "hsa-v1")
    with pytest.raises(AtlasError, match="no release 'hsa-v2'; did you mean 'hsa-v1'"):
        read_atlas(root, "hsa-v2")
    with pytest.raises(AtlasError, match="expected only one of them"):
        read_atlas(root, "hsa-v1", 0)


@pytest.mark.parametrize("name", ["", "1", "head", "v 1", "v/1", "-v"])
def test_ambiguous_release_names_are_refused(root, name):
    with pytest.raises(AtlasError, match="release name"):
        release(root, name)
    assert len(history(root)) == 1


def test_a_release_never_changes(root):
    release(root, "hsa-v1")
    with pytest.raises(OutputError, match="has a release 'hsa-v1', version 1.*another name"):
        release(root, "hsa-v1")
    with pytest.raises(OutputError, match="release 'hsa-v1' with other rows"):
        write_atlas(root, [video(1)], steps(1), "hsa-v1")
    assert len(history(root)) == 2


def test_a_video_never_changes_its_part(root):
    first = release(root, "hsa-v1")
    judged = next(name for name, part in first.split.items() if part == "validation")
    with pytest.raises(AtlasError, match=f"{judged} is in the part 'validation' .*'train' is asked for"):
        release(root, "hsa-v2", split={judged: "train"})
    with pytest.raises(AtlasError, match="a part never changes"):
        add_samples(root, steps(3), BY_ANNA, split={judged: "train"})


def test_a_split_names_known_parts(root):
    with pytest.raises(AtlasError, match="unknown part .*trial"):
        release(root, "hsa-v1", split={f"{3:016x}": "trial"})
    assert len(history(root)) == 1


def test_a_given_split_is_kept_and_the_other_videos_are_drawn(root):
    official = {f"{n:016x}": "test" for n in (2, 5)}
    made = release(root, "hsa-v1", split=official, test=0.2, validation=0.1)
    assert {name for name, part in made.split.items() if part == "test"} == set(official)
    assert list(made.split.values()).count("validation") == 1


def test_too_few_videos_for_a_split(tmp_path):
    grow(str(tmp_path), [0])
    with pytest.raises(UsageError, match="1 videos can't be split"):
        release(str(tmp_path), "v1")
    assert release(str(tmp_path), "v1", validation=0.0).split == {f"{0:016x}": "train"}


def test_samples_of_a_model_are_added_in_one_commit(root):
    release(root, "hsa-v1")
    said = [replace(clip, confidence=0.93) for n in (20, 21) for clip in steps(n)]
    version = add_ai_samples(root, said, videos=[video(20), video(21)], model_version="7", why="round 1", who="nightly")
    head = read_atlas(root, "head")
    new = [clip for clip in head.clips if clip.source == "ai"]
    assert version == head.version == 2 and len(new) == 4
    assert {(clip.annotator, clip.confidence) for clip in new} == {("7", 0.93)}
    assert history(root)[-1].source == "model 7" and history(root)[-1].who == "nightly"
    # a video that only a model labelled judges nobody
    add_samples(root, steps(30), BY_ANNA, videos=[video(30)])
    second = release(root, "hsa-v2", validation=0.5)
    assert {second.split[f"{n:016x}"] for n in (20, 21)} == {"train"}
    assert second.split[f"{30:016x}"] == "validation"
    with pytest.raises(AtlasError, match="without a model version"):
        add_ai_samples(root, said, model_version="", why="")


def test_a_model_never_replaces_a_persons_sample_and_a_person_replaces_a_models(root):
    by_hand = steps(3)[1]
    assert add_ai_samples(root, [replace(by_hand, tags={"action": "Spread"})], model_version="7", why="") == 0
    later = Clip(f"{3:016x}", 10.0, 12.0, "micro", {"action": "Spread"})
    add_ai_samples(root, [later], model_version="7", why="")
    add_ai_samples(root, [replace(later, tags={"action": "Cautery"})], model_version="8", why="")
    add_samples(root, [replace(later, tags={"action": "Hook"}, annotator="ben")], BY_ANNA)
    found = {clip.start_s: clip for clip in read_atlas(root).clips if clip.task == "micro" and clip.video_id[-1] == "3"}
    assert (found[2.0].tags["action"], found[2.0].source) == ("Cautery", "manual")
    assert (found[10.0].tags, found[10.0].source, found[10.0].annotator) == ({"action": "Hook"}, "manual", "ben")
    assert found[10.0].procedure == "Endometriosis"


def test_samples_of_an_earlier_model_can_be_dropped(root):
    old = [Clip(f"{3:016x}", s, s + 1.0, "micro", {"action": "Spread"}) for s in (10.0, 20.0)]
    add_ai_samples(root, old, model_version="7", why="")
    add_ai_samples(root, [replace(old[0], stop_s=11.5)], model_version="8", why="", replace_earlier=True)
    assert [(clip.start_s, clip.annotator) for clip in read_atlas(root).clips if clip.source == "ai"] == [(10.0, "8")]


def test_the_same_samples_again_commit_nothing(root):
    assert grow(root, range(10)) == 0 and len(history(root)) == 1


def test_samples_of_another_taxonomy_need_an_atlas_of_their_own(root):
    with pytest.raises(AtlasError, match="taxonomy 'halsted' .* 'sar_rarp50' .*an atlas of their own"):
        add_samples(
            root, [Clip(f"{3:016x}", 0.0, 1.0, "action", {"action": "Other"})], BY_ANNA, taxonomy=load("sar_rarp50")
        )


def test_an_atlas_reads_back_with_the_taxonomy_it_was_written_in(tmp_path):
    own = load("sar_rarp50").to_dict() | {"name": "hospital"}
    own["tasks"][0]["tags"][0]["categories"].append("Cleaning the lens")
    clip = Clip(f"{0:016x}", 0.0, 1.0, "action", {"action": "Cleaning the lens"})
    write_atlas(str(tmp_path), [video(0)], [clip], "v1", taxonomy=from_dict(own))
    assert read_atlas(str(tmp_path)).load_taxonomy().tag("action").categories[-1] == "Cleaning the lens"


def test_a_commit_of_another_program_keeps_the_state(root):
    release(root, "hsa-v1")
    before = read_atlas(root)
    open_table(table_uri(root, "atlas", "samples")).alter.set_table_properties({"delta.appendOnly": "false"})
    assert len(history(root)) == 3 and read_atlas(root) == before
    assert read_atlas(root, "head").clips == before.clips
    grow(root, [10])
    assert len(read_atlas(root, "head").videos) == 11


def test_a_table_of_another_program_is_refused(tmp_path):
    from deltalake import write_deltalake

    write_deltalake(table_uri(str(tmp_path), "atlas", "samples"), open_rows())
    with pytest.raises(AtlasError, match="not written by this program"):
        read_atlas(str(tmp_path))


def open_rows():
    import pyarrow as pa

    return pa.table({"n": [1]})


def test_removed_files_are_reported(root):
    for path in open_table(table_uri(root, "atlas", "samples")).file_uris():
        os.unlink(path)
    with pytest.raises(AtlasError, match="version 0 .*can't be read.*vacuum"):
        read_atlas(root)


ROUNDS = 3


def race(root, kind, number, gate, outcomes):
    """One of two writers, in a process of its own.

    Both have read the same version before either writes, and the time between the last look at the log and the write
    is made longer.
    """

    def together(*arguments, check=commits.check_contents):
        check(*arguments)
        gate.wait(timeout=60)

    def slowly(*arguments, commit_rows=commits.commit_rows):
        time.sleep(0.3)
        return commit_rows(*arguments)

    commits.check_contents, commits.commit_rows = together, slowly
    for turn in range(ROUNDS):
        try:
            if kind == "release":
                release(root, f"w{number}-{turn}")
            else:
                grow(root, [100 + 10 * turn + number])
            outcomes.put((turn, number, "won"))
        except HalstedError as error:
            outcomes.put((turn, number, f"{type(error).__name__}: {error}"))
        gate.wait(timeout=60)


def two_at_once(root, kinds):
    """Returns turn -> {writer: outcome}."""
    context = multiprocessing.get_context("spawn")
    gate, outcomes = context.Barrier(2), context.Queue()
    writers = [context.Process(target=race, args=(root, kind, n, gate, outcomes)) for n, kind in enumerate(kinds)]
    for writer in writers:
        writer.start()
    found = {}
    for _ in range(2 * ROUNDS):
        turn, number, outcome = outcomes.get(timeout=100)
        found.setdefault(turn, {})[number] = outcome
    for writer in writers:
        writer.join()
    return found


def check_race(root, kinds):
    before = len(history(root))
    for turn, outcome in two_at_once(root, kinds).items():
        winners = [number for number, text in outcome.items() if text == "won"]
        assert len(winners) == 1, outcome
        (loser,) = set(outcome) - set(winners)
        assert "OutputError: the atlas" in outcome[loser] and "another writer" in outcome[loser], outcome
        commit = history(root)[before + turn]
        assert commit.release == (f"w{winners[0]}-{turn}" if kinds[winners[0]] == "release" else "")
        if commit.release:  # whole: its rows, its videos, its split
            made = read_atlas(root, commit.release)
            assert set(made.split) == {video.video_id for video in made.videos} == {c.video_id for c in made.clips}
    assert len(history(root)) == before + ROUNDS


@pytest.mark.parametrize("kinds", [("release", "release"), ("import", "release")])
def test_of_two_writers_at_once_one_wins(root, kinds):
    check_race(root, kinds)


@pytest.mark.parametrize("before_call", [1, 2])
def test_of_two_who_make_an_atlas_at_once_one_wins(tmp_path, monkeypatch, before_call):
    """The other writer commits before this writer's videos are written, or before its samples are written."""
    calls = []

    def commit_rows(*arguments, original=commits.commit_rows):
        calls.append(arguments)
        if len(calls) == before_call:
            monkeypatch.setattr(commits, "commit_rows", original)
            grow(str(tmp_path), [1, 2])
        return original(*arguments)

    monkeypatch.setattr(commits, "commit_rows", commit_rows)
    with pytest.raises(OutputError, match="another writer"):
        grow(str(tmp_path), [3])
    atlas = read_atlas(str(tmp_path))
    assert [video.video_id[-1] for video in atlas.videos] == ["1", "2"] and len(atlas.clips) == 4
    assert len(history(str(tmp_path))) == 1


def test_of_two_writers_on_s3_one_wins(s3_server):
    root = f"{s3_server.bucket}/race"
    grow(root, range(4))
    check_race(root, ("release", "release"))


def test_an_atlas_on_s3(s3_server):
    root = f"{s3_server.bucket}/atlas-of-ten"
    grow(root, range(10))
    made = release(root, "hsa-v1")
    grow(root, [10])
    assert read_atlas(root) == made == read_atlas(root, version=1)
    assert made.videos[0].uri == "/archive/videos/0.mp4"
    with pytest.raises(AtlasError, match="did you mean 'hsa-v1'"):
        read_atlas(root, "hsav1")
