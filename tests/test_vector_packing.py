"""Packing the store of vectors: whatever is put, packed, killed and read at once, nothing is lost and nothing is seen
that was not put."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

import halsted_ray
from halsted_ray.errors import ModelError, OutputError, StorageUnavailable
from halsted_ray.reporting.mapped_archive import VectorTable
from halsted_ray.storage import vector_listing
from halsted_ray.storage import vectors as vectors_module
from halsted_ray.storage.files import list_folder, write_atomically
from halsted_ray.storage.vector_files import joined, stored_file
from halsted_ray.storage.vectors import VectorStore, stores_at

SPAN_FILES = Path(__file__).parent / "data" / "span_vectors"
"""A store that an earlier version wrote, which knew no packed files."""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(halsted_ray.__file__).parents[1])}


MINUTE_S = 60.0


def windows_of(start_s: float, value: float = 0.0, kind: str = "fine") -> dict:
    """Two windows of a span with their vectors."""
    return {
        (kind, start_s + at_s, start_s + at_s + 2.5): np.full(8, start_s + at_s + value, np.float16)
        for at_s in (0.0, 2.5)
    }


def fill(store: VectorStore, video_id: str, minutes: int = 3) -> dict:
    """Puts ``minutes`` spans; all of their vectors."""
    expected = {}
    for minute in range(minutes):
        found = windows_of(minute * MINUTE_S)
        store.put(video_id, minute * MINUTE_S, (minute + 1) * MINUTE_S, found)
        expected |= found
    return expected


def everything(store: VectorStore) -> dict[str, dict]:
    """video_id → WindowKey → vector as a list, by ``read_videos``."""
    return {
        video.video_id: {key: row.tolist() for key, row in zip(video.keys, video.vectors_ND, strict=True)}
        for video in store.read_videos()
    }


def as_lists(vectors: dict) -> dict:
    return {key: np.asarray(row, np.float16).tolist() for key, row in vectors.items()}


def names(store: VectorStore) -> list[str]:
    return sorted(os.path.relpath(path, store.root) for path in store.fs.find(store.root))


def test_a_packed_video_is_one_file_and_reads_as_before(tmp_path):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    expected = fill(store, "one") | {("coarse", 0.0, 30.0): np.ones(8, np.float16)}
    store.put("one", 0.0, 60.0, {("coarse", 0.0, 30.0): np.ones(8)})
    amount = store.pack()
    assert (amount.videos, amount.windows, amount.removed_files) == (1, 7, 4)
    (name,) = names(store)
    assert name.startswith("one_000001-000000000-000180000-1-7-") and not (Path(store.root) / "one").exists()
    for reader in (store, VectorStore(str(tmp_path), "encoder", "exact")):
        assert as_lists(reader.get("one", 0.0, 180.0)) == as_lists(expected)
        assert reader.get("one", 60.0, 62.5).keys() == {("fine", 60.0, 62.5)}
        assert reader.holds("one") == [(0.0, 180.0)] and reader.get("other", 0.0, 60.0) == {}
        assert all(row.dtype == np.float16 and row.flags.writeable for row in reader.get("one", 0.0, 60.0).values())
    assert store.pack().videos == 0 and names(store) == [name], "there is nothing left to do"


def test_later_windows_of_a_packed_video_are_merged_by_the_next_packing(tmp_path):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    expected = fill(store, "one")
    store.pack(["one"])
    for found in (windows_of(61.5, kind="clip"), windows_of(60.0, value=7)):
        store.put("one", 60.0, 120.0, found)
        expected |= found
        assert as_lists(store.get("one", 0.0, 180.0)) == as_lists(expected), "what was put last is read"
    store.pack(["one"])
    assert len(names(store)) == 1 and as_lists(store.get("one", 0.0, 180.0)) == as_lists(expected)
    assert everything(store) == {"one": as_lists(expected)}


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"),
            st.sampled_from("ab"),
            st.integers(0, 4),
            st.sampled_from(["fine", "clip"]),
            st.integers(0, 3),
        ),
        st.tuples(st.just("pack"), st.sampled_from(["a", "b", "ab"])),
        st.tuples(st.just("again"), st.integers(0, 20)),
        st.just(("reopen",)),
    ),
    max_size=20,
)


@pytest.mark.parametrize("kind", ["disk", "memory"])
@settings(max_examples=60)
@given(STEPS)
def test_any_order_of_puts_and_packs_reads_as_what_was_put_last(kind, steps):
    """Also where a packer that was killed left its files (``again``: a file that was removed is there again)."""
    location = tempfile.mkdtemp() if kind == "disk" else f"memory://{uuid.uuid4().hex}"
    try:
        store, expected, removed = VectorStore(location, "encoder", "exact"), {}, {}
        for step in steps:
            if step[0] == "put":
                _, video_id, minute, window, value = step
                found = windows_of(minute * MINUTE_S, value, window)
                store.put(video_id, minute * MINUTE_S, (minute + 1) * MINUTE_S, found)
                expected.setdefault(video_id, {}).update(as_lists(found))
                removed = {}
            elif step[0] == "pack":
                before = {path: store.fs.cat_file(path) for path in store.fs.find(store.root)}
                store.pack(list(step[1]))
                left = set(store.fs.find(store.root))
                removed = {path: data for path, data in before.items() if path not in left}
            elif step[0] == "again" and removed:
                path = sorted(removed)[step[1] % len(removed)]
                write_atomically(store.fs, path, removed.pop(path))
            elif step[0] == "reopen":
                store = VectorStore(location, "encoder", "exact")
            assert everything(store) == expected
            for video_id, of_video in expected.items():
                assert as_lists(store.get(video_id, 0.0, 300.0)) == of_video
                held = joined((key[1], key[2]) for key in of_video)
                for spans in (store.holds(video_id), store.holds_many([video_id, *map(str, range(9))])[video_id]):
                    assert all(any(start <= at < stop for start, stop in spans) for at, _ in held)
                    assert {int(s // MINUTE_S) for start, stop in spans for s in np.arange(start, stop, MINUTE_S)} == {
                        int(key[1] // MINUTE_S) for key in of_video
                    }, "and no minute is held of which nothing is stored"
        store.pack()
        assert everything(store) == expected and len(names(store)) == len(expected)
    finally:
        if kind == "disk":
            shutil.rmtree(location)


def test_a_packed_file_that_a_killed_packer_left_never_wins_over_its_successor(tmp_path):
    store, left = VectorStore(str(tmp_path), "encoder", "exact"), {}
    for value in range(12):
        expected = as_lists(windows_of(0.0, value))
        store.put("one", 0.0, 60.0, windows_of(0.0, value))
        store.pack()
        (newest,) = store.files()
        for path, data in left.items():
            Path(path).write_bytes(data)
        assert as_lists(store.get("one", 0.0, 60.0)) == expected and everything(store) == {"one": expected}
        store.pack()
        assert as_lists(store.get("one", 0.0, 60.0)) == expected
        (file,) = store.files()
        assert file == newest, "what is merged already is not written again"
        left[file.path] = Path(file.path).read_bytes()


PACKERS_THAT_DIE = """
import os, signal, sys, threading
from halsted_ray.storage.vectors import VectorStore

def pack(place, left):
    counting = threading.Lock()

    def dying(do):
        def step(*args, **kwargs):
            nonlocal left
            with counting:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return do(*args, **kwargs)
        return step

    store = VectorStore(place, "encoder", "exact")
    for name in ("replace", "remove", "unlink", "rmdir", "chmod", "fdopen", "fsync", "makedirs", "scandir"):
        setattr(os, name, dying(getattr(os, name)))
    store.pack()

for line in sys.stdin:
    place, left = line.split()
    child = os.fork()  # a process of its own that need not import anything
    if not child:
        pack(place, int(left))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_packer_that_is_killed_at_any_step_loses_nothing(tmp_path):
    """SIGKILL before each call that changes or lists a folder, until the packer lives to its end."""
    killed, places = 0, []
    with subprocess.Popen(
        [sys.executable, "-c", PACKERS_THAT_DIE],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as packers:
        for step in range(1, 100):
            place = tmp_path / str(step)
            store = VectorStore(str(place), "encoder", "exact")
            expected = {"one": as_lists(fill(store, "one", 2))}
            store.pack()
            more = windows_of(120.0, kind="clip")
            store.put("one", 120.0, 180.0, more)  # a packed file and a span file
            expected["one"] |= as_lists(more)
            expected["two"] = as_lists(fill(store, "two", 2))
            print(place, step, file=packers.stdin, flush=True)
            code = int(packers.stdout.readline())
            assert code in (0, -signal.SIGKILL)
            killed += code == -signal.SIGKILL
            places.append(len(names(store)))
            fresh = VectorStore(store.location, "encoder", "exact")
            assert everything(fresh) == everything(store) == expected
            fresh.pack()
            assert everything(fresh) == everything(store) == expected
            left = [name for name in names(store) if ".part-" not in name]
            assert len(left) == 2 and all(stored_file(name).is_packed for name in left)
            if code == 0:
                break
        packers.stdin.close()
    assert code == 0 and killed >= 12, f"the steps were counted: {killed}"
    assert len(set(places)) > 2, "the kills fell between writing and removing too"


def test_an_abandoned_part_of_a_file_is_cleared_away(tmp_path):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    expected = as_lists(fill(store, "one"))
    for age_s, name in ((0, ".part-young"), (2 * vectors_module.ABANDONED_S, ".part-old")):
        path = Path(store.root) / "one" / name
        path.write_bytes(b"torn")
        os.utime(path, (time.time() - age_s,) * 2)
    store.pack()
    assert [path.name for path in (Path(store.root) / "one").iterdir()] == [".part-young"]
    assert everything(store) == {"one": expected}
    (Path(store.root) / "one" / ".part-young").unlink()
    store.pack()
    assert not (Path(store.root) / "one").exists(), "an empty folder would cost every listing"


WRITER = """
import sys
import numpy as np
from halsted_ray.storage.vectors import VectorStore

location, kind, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = VectorStore(location, "encoder", "exact")
for minute in range(rounds):
    for video_id in ("a", "b"):
        start_s = 60.0 * minute
        store.put(video_id, start_s, start_s + 60, {(kind, start_s, start_s + 2.5): np.full(8, minute)})
        store.put(video_id, start_s, start_s + 60, {("both", start_s, start_s + 2.5): np.full(8, minute)})
    if minute % 3 == 2:
        store.pack()
store.pack()
"""


def two_writers(location: str, rounds: int) -> None:
    """A mapping and a training put and pack the same videos; a reader sees windows come and never go."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, location, kind, str(rounds)], env=environment())
        for kind in ("fine", "clip")
    ]
    store = VectorStore(location, "encoder", "exact")
    seen: dict[str, set] = {"a": set(), "b": set()}
    looks = 0
    while any(writer.poll() is None for writer in writers):
        for video_id, before in seen.items():
            found = store.get(video_id, 0.0, 60.0 * rounds)
            assert before <= found.keys(), f"lost {sorted(before - found.keys())}"
            assert all((row == key[1] // 60).all() for key, row in found.items())
            seen[video_id] = set(found)
        for video in store.read_videos():
            assert seen[video.video_id] <= set(video.keys)
            looks += 1
    assert [writer.returncode for writer in writers] == [0, 0]
    expected = {(kind, 60.0 * m, 60.0 * m + 2.5) for kind in ("fine", "clip", "both") for m in range(rounds)}
    store.pack()
    for video in store.read_videos():
        assert set(video.keys) == expected and len(video) == len(expected)
    assert len(names(store)) == 2 and looks > 2


def test_two_processes_that_write_and_pack_one_store_lose_nothing(tmp_path):
    two_writers(str(tmp_path), 60)


def test_two_processes_that_write_and_pack_one_store_on_s3_lose_nothing(s3_server):
    two_writers(f"{s3_server.bucket}/{uuid.uuid4().hex}", 9)


def test_a_store_of_an_earlier_version_is_read_and_packed(tmp_path):
    shutil.copytree(SPAN_FILES, tmp_path / "store")
    (store,) = stores_at(str(tmp_path / "store"))
    expected = {}
    for number, video_id in enumerate(("0123456789abcdef", "fedcba9876543210")):
        expected[video_id] = {
            key: [float(at + start_s + number + row) for at in range(8)]
            for start_s in (0.0, 60.0)
            for row, key in enumerate(
                [
                    ("coarse", start_s, start_s + 30),
                    ("fine", start_s, start_s + 2.5),
                    ("fine", start_s + 2.5, start_s + 5),
                ]
            )
        }
    expected["fedcba9876543210"]["clip", 3.2, 7.4] = [0.5] * 8
    assert everything(store) == expected and len(names(store)) == 5
    assert store.holds_many(expected) == {
        "0123456789abcdef": [(0.0, 60.0), (60.0, 120.0)],
        "fedcba9876543210": [(0.0, 60.0), (0.0, 60.0), (60.0, 120.0)],
    }
    store.pack()
    assert everything(VectorStore(store.location, "encoder", "reference-30-2.5-16-p2")) == expected
    assert len(names(store)) == 2 and not list(Path(store.root).rglob("*.parquet"))


def test_the_gaps_between_the_spans_of_a_packed_video_are_not_held(tmp_path, monkeypatch):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    for minute in (0, 1, 5):
        store.put("one", minute * MINUTE_S, (minute + 1) * MINUTE_S, windows_of(minute * MINUTE_S))
    store.pack()
    spans = [(0.0, 120.0), (300.0, 360.0)]
    assert store.holds("one") == spans == store.holds_many(["one"])["one"]
    monkeypatch.setattr(vectors_module, "HEAD_BYTES", 1000)  # too few for the spans of the next video
    for number in range(100):
        store.put(
            "two", 120.0 * number, 120.0 * number + 1, {("fine", 120.0 * number, 120.0 * number + 2.5): np.zeros(8)}
        )
    store.pack()
    assert store.holds("two") == [(120.0 * number, 120.0 * number + 1) for number in range(100)]


@pytest.fixture
def counted(monkeypatch):
    """Listings that a disk was asked for."""
    listings: list[str] = []
    whole = LocalFileSystem.ls

    def ls(self, path, *args, **kwargs):
        listings.append(path)
        return whole(self, path, *args, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "ls", ls)
    return listings


def settle(store: VectorStore) -> None:
    """Makes the store's folder look as if nothing had changed there for a while."""
    os.utime(store.root, ns=(time.time_ns() - 10**10,) * 2)


def test_listings_do_not_grow_with_videos_or_segments(tmp_path, counted):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    ids = [f"{number:016x}" for number in range(40)]
    for video_id in ids:
        fill(store, video_id, 4)
    counted.clear()
    assert all(len(spans) == 4 for spans in store.holds_many(ids).values())
    assert len(counted) == 40 + 2, "a video that is not packed costs a listing"
    counted.clear()
    store.pack()
    assert len(counted) <= 40 + 2, "packing costs no more: the root of a large store is not listed for each video"
    for reader in (store, VectorStore(str(tmp_path), "encoder", "exact")):
        for ask in (
            lambda reader=reader: reader.holds_many(ids),
            lambda reader=reader: list(reader.read_videos()),
            lambda reader=reader: list(reader.read_videos(ids)),
            lambda reader=reader: reader.pack(),
        ):
            counted.clear()
            ask()
            assert len(counted) == 1, counted
    settle(store)
    store.holds_many(ids)
    counted.clear()
    store.holds_many(ids)
    assert counted == [], "a folder that has not changed is not listed again"


@pytest.mark.parametrize("way", ["get", "holds", "holds_many", "read_videos"])
@pytest.mark.parametrize("moment", range(8))
def test_what_is_packed_before_during_or_between_listings_is_seen(tmp_path, monkeypatch, way, moment):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    ids = [f"{number:02}" for number in range(9)]
    for video_id in ids:
        fill(store, video_id, 2)
    moments = iter(range(1000))

    def pack_at_the_moment():
        if next(moments) == moment:
            with monkeypatch.context() as undisturbed:
                undisturbed.setattr(vector_listing, "list_folder", list_folder)
                VectorStore(str(tmp_path), "encoder", "exact").pack()

    def list_and_pack(fs, folder, deep=False):
        pack_at_the_moment()
        paths = list_folder(fs, folder, deep)
        pack_at_the_moment()
        return paths

    monkeypatch.setattr(vector_listing, "list_folder", list_and_pack)
    monkeypatch.setattr(vector_listing, "REQUESTS_AT_ONCE", 1)
    asked = {
        "get": lambda: len(store.get("03", 0.0, 120.0)) == 4,
        "holds": lambda: store.holds("03")[0][0] == 0.0,
        "holds_many": lambda: all(spans for spans in store.holds_many(ids).values()),
        "read_videos": lambda: [len(video) for video in store.read_videos()] == [4] * 9,
    }
    assert asked[way]()


def test_a_change_within_a_tick_of_the_clock_is_seen(tmp_path):
    """A file system tells time in ticks, so two changes may leave one time."""
    store, other = (VectorStore(str(tmp_path), "encoder", "exact") for _ in range(2))
    fill(store, "one")
    store.pack()
    assert store.holds_many(["one", "two"])["two"] == []
    changed_ns = os.stat(store.root).st_mtime_ns
    fill(other, "two")
    other.pack()
    os.utime(store.root, ns=(changed_ns, changed_ns))
    assert store.holds_many(["one", "two"])["two"] == [(0.0, 180.0)] and len(store.get("two", 0.0, 60.0)) == 2


def test_segments_of_one_packed_video_read_its_file_once(tmp_path, monkeypatch):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    expected = fill(store, "one", 10)
    store.pack()
    read, whole = [], LocalFileSystem.cat_file
    monkeypatch.setattr(LocalFileSystem, "cat_file", lambda *args, **kw: read.append(args[1]) or whole(*args, **kw))
    found = {}
    for minute in range(10):
        found |= store.get("one", minute * MINUTE_S, (minute + 1) * MINUTE_S)
    assert as_lists(found) == as_lists(expected) and len(read) == 1


def test_a_store_goes_to_other_processes(tmp_path):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    expected = fill(store, "one")
    store.pack()
    store.get("one", 0.0, 60.0)
    assert as_lists(pickle.loads(pickle.dumps(store)).get("one", 0.0, 180.0)) == as_lists(expected)


def test_packed_files_that_are_kept_in_memory_are_bounded(tmp_path, monkeypatch):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    for video_id in "abcd":
        fill(store, video_id, 2)
    store.pack()
    monkeypatch.setattr(vectors_module, "KEPT_BYTES", 2 * 4 * 8 * 2)
    for video_id in "abcdab":
        assert len(store.get(video_id, 0.0, 120.0)) == 4
        assert len(store._kept) <= 2


def test_whole_videos_are_read_in_order_without_a_copy(tmp_path):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    for number, video_id in enumerate("dbca"):
        fill(store, video_id, number + 1)
    store.pack(["d", "b", "c"])  # and "a" in span files
    assert [video.video_id for video in store.read_videos()] == ["a", "b", "c", "d"]
    wanted = ["c", "nothing", "a", "d", "c"]
    found = list(store.read_videos(wanted, readers=2))
    assert [(video.video_id, len(video)) for video in found] == [("c", 6), ("a", 8), ("d", 2)]
    for video in found:
        assert video.vectors_ND.shape == (len(video), 8) and video.vectors_ND.dtype == np.float16
        assert (np.diff(video.start_s_N) >= 0).all() and video.keys == sorted(video.keys, key=lambda key: key[1])
        assert video.vectors_ND[:, 0].tolist() == video.start_s_N.tolist()
    assert not found[0].vectors_ND.flags.owndata and not found[0].vectors_ND.flags.writeable, "it is the file's memory"


def test_reading_ahead_is_bounded_and_ends_with_its_reader(tmp_path, monkeypatch):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    for number in range(30):
        fill(store, f"{number:02}", 2)
    store.pack()
    monkeypatch.setattr(vectors_module, "AHEAD_WINDOWS", 12)  # 4 windows a video
    read, fetch = [], VectorStore._fetch
    monkeypatch.setattr(VectorStore, "_fetch", lambda self, file: read.append(file.video_id) or fetch(self, file))
    reading = store.read_videos(readers=8)
    for number in range(1, 4):
        next(reading)
        time.sleep(0.05)
        assert len(read) <= number + 3
    before = threading.active_count()
    reading.close()
    assert len(read) <= 6 and threading.active_count() < before, "its threads are gone"


def test_packed_vectors_of_another_place_are_refused(tmp_path):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    fill(store, "video")
    store.pack()
    (name,) = names(store)
    os.rename(tmp_path / "encoder", tmp_path / "other")
    with pytest.raises(ModelError, match="video video: the vectors in .* are of encoder encoder, expected other"):
        VectorStore(str(tmp_path), "other", "exact").get("video", 0.0, 60.0)
    os.rename(tmp_path / "other" / "exact", tmp_path / "other" / "reference")
    os.rename(tmp_path / "other", tmp_path / "encoder")
    with pytest.raises(ModelError, match="of sampling exact, expected reference"):
        list(VectorStore(str(tmp_path), "encoder", "reference").read_videos())
    os.rename(tmp_path / "encoder" / "reference", tmp_path / "encoder" / "exact")
    path = tmp_path / "encoder" / "exact" / name
    os.rename(path, path.with_name(name.replace("video", "another")))
    with pytest.raises(ModelError, match="of video_id video, expected another"):
        store.get("another", 0.0, 60.0)


def test_a_damaged_file_is_named_with_what_to_do(tmp_path):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    fill(store, "one")
    store.pack()
    path = Path(store.root) / names(store)[0]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ModelError, match=f"video one: '{path}' holds no vectors that can be read .*; delete this file"):
        list(store.read_videos())


def test_a_file_that_is_put_while_its_folder_is_removed_is_put(tmp_path, monkeypatch):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    make, failures = tempfile.mkstemp, [FileNotFoundError(2, "No such file or directory")] * 2

    def mkstemp(*args, **kwargs):
        if failures:
            raise failures.pop()
        return make(*args, **kwargs)

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    expected = fill(store, "one", 1)
    assert everything(store) == {"one": as_lists(expected)}
    failures += [FileNotFoundError(2, "No such file or directory")] * 99
    with pytest.raises(OutputError, match="No such file or directory"):
        fill(store, "one", 1)


def test_files_that_are_always_gone_end_in_words(tmp_path, monkeypatch):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    fill(store, "one")

    def gone(*_):
        raise FileNotFoundError

    monkeypatch.setattr(VectorStore, "_fetch", gone)
    monkeypatch.setattr(vectors_module, "PACKED_WITHIN_S", 0.1)
    with pytest.raises(StorageUnavailable, match="video one .* went on being replaced for 0.1 s .*; run again"):
        store.get("one", 0.0, 60.0)


def test_what_is_stored_of_a_video_is_removed_packed_or_not(tmp_path):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    for video_id in "abc":
        fill(store, video_id)
    store.pack(["a", "b"])
    store.put("a", 0.0, 60.0, windows_of(0.0, kind="clip"))
    store.remove(["a", "c", "nothing"])
    assert set(everything(store)) == {"b"} and len(names(store)) == 1
    assert [path.name.partition("_")[0] for path in Path(store.root).iterdir()] == ["b"]


def test_packed_and_loose_vectors_are_one_table(tmp_path):
    store = VectorStore(str(tmp_path), "encoder", "exact")
    expected = {video_id: fill(store, video_id) for video_id in "ab"}
    store.pack(["a"])
    table = VectorTable.at(str(tmp_path))
    rows = table.to_arrow().to_pylist()
    assert {(row["encoder"], row["sampling"]) for row in rows} == {("encoder", "exact")}
    for video_id, vectors in expected.items():
        found = {
            (row["kind"], row["start_s"], row["stop_s"]): row["vector"] for row in rows if row["video_id"] == video_id
        }
        assert found == as_lists(vectors)
    assert table.to_arrow(["start_s"], [("video_id", "=", "a")])["start_s"].to_pylist() == [
        0.0,
        2.5,
        60.0,
        62.5,
        120.0,
        122.5,
    ]


def test_a_store_that_is_away_is_waited_for_by_whoever_reads_whole_videos(s3_server):
    store = VectorStore(f"{s3_server.bucket}/{uuid.uuid4().hex}", "encoder", "exact")
    expected = {video_id: as_lists(fill(store, video_id, 1)) for video_id in "abcd"}
    store.pack("ab")
    reading = store.read_videos(readers=1)
    found = [next(reading)]
    s3_server.stop()
    back = threading.Timer(3.0, s3_server.start)
    back.start()
    try:
        found += reading
    finally:
        back.join()
    assert {
        video.video_id: as_lists(dict(zip(video.keys, video.vectors_ND, strict=True))) for video in found
    } == expected
    assert everything(store) == expected


def test_a_store_on_s3_is_packed_read_and_listed_once(s3_server, monkeypatch):
    place = f"{s3_server.bucket}/{uuid.uuid4().hex}"
    store = VectorStore(place, "encoder", "exact")
    ids = [f"{number:016x}" for number in range(12)]
    expected = {video_id: as_lists(fill(store, video_id, 3)) for video_id in ids}
    fill(VectorStore(place, "encoder", "other"), ids[0])
    assert everything(store) == expected
    store.pack()
    assert len(names(store)) == len(ids) and {found.root for found in stores_at(place)} > {store.root}
    fs = fsspec.filesystem("s3")
    listings, lsdir = [], type(fs)._lsdir
    monkeypatch.setattr(
        type(fs), "_lsdir", lambda self, path, *a, **kw: listings.append(path) or lsdir(self, path, *a, **kw)
    )
    assert store.holds_many(ids) == {video_id: [(0.0, 180.0)] for video_id in ids} and len(listings) == 1
    assert everything(store) == expected and len(listings) == 2
    assert as_lists(store.get(ids[3], 60.0, 120.0)).keys() == {("fine", 60.0, 62.5), ("fine", 62.5, 65.0)}
    assert len(listings) == 3, "one listing finds a video's files, packed or not"
    more = windows_of(0.0, kind="clip")
    VectorStore(place, "encoder", "exact").put(ids[3], 0.0, 60.0, more)
    assert as_lists(store.get(ids[3], 0.0, 180.0)) == expected[ids[3]] | as_lists(more), "another's windows are seen"
    store.pack()
    assert everything(store) == {**expected, ids[3]: expected[ids[3]] | as_lists(more)}
    store.remove(ids[:11])
    assert set(everything(store)) == {ids[11]} and len(stores_at(place)) == 2
