"""Finding the outside of the body from stored vectors: nothing is decoded, and what has no vector is said."""

import json

import numpy as np
import pytest

from halsted_ray.atlas.phantom_archive import write_archive
from halsted_ray.cli import main
from halsted_ray.deidentify.out_of_body import OUT_OF_BODY
from halsted_ray.deidentify.out_of_body_head import HeadNet, OutOfBodyHead, Source, load_head, save_head
from halsted_ray.deidentify.out_of_body_head_training import Timeline as TrainingTimeline
from halsted_ray.deidentify.out_of_body_head_training import (
    fit_head,
    source_of,
    thresholds_for,
    train_on_vectors,
)
from halsted_ray.deidentify.out_of_body_net import SHIPPED, SearchSettings, load_detector
from halsted_ray.deidentify.out_of_body_vectors import NO_VECTOR, at_samples, refined, spans_in_vectors
from halsted_ray.deidentify.out_of_body_windows import JudgedWindows, drawn_windows, outside_share
from halsted_ray.deidentify.spans import Span
from halsted_ray.embedding.vector_names import open_vectors
from halsted_ray.errors import ModelError, TrainingError, UsageError
from halsted_ray.mapping.embed_archive import embed_archive
from halsted_ray.mapping.kept_inventory import KeptInventory
from halsted_ray.mapping.out_of_body_archive import outside_of_archive, the_store
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.phantom.interruptions import Interruption
from halsted_ray.phantom.script import make_script
from halsted_ray.phantom.write import write_video
from halsted_ray.records import Video, WindowSpec
from halsted_ray.storage.vectors import VectorStore, sampling_name, spec_in

SPEC = WindowSpec(0.5, 0.5)
SOURCE = source_of("f" * 16, SPEC)
DIM = 6


def vectors_of(outside_N, seed=0):
    """float16 [N, DIM]: the third number says whether the window is outside, the others are noise."""
    vectors_ND = np.random.default_rng(seed).normal(0, 1, (len(outside_N), DIM))
    vectors_ND[:, 2] = 5 + 6 * np.asarray(outside_N, float) + vectors_ND[:, 2] * 0.1
    return vectors_ND.astype(np.float16)


@pytest.fixture(scope="module")
def head():
    outside_N = np.random.default_rng(1).random(2000) < 0.3
    net = fit_head(vectors_of(outside_N), outside_N.astype(float), epochs=20)
    return OutOfBodyHead(net, SOURCE, SearchSettings(0.45, "numbers", 0.25))


def stored(tmp_path, videos, *, source=SOURCE, left_out=()):
    """A store with vectors of ``videos``: video_id → whether each window of 0.5 s is outside. ``left_out``: starts of
    windows that have no vector."""
    store = VectorStore(str(tmp_path), source.fingerprint, source.sampling)
    for video_id, outside in videos.items():
        rows = vectors_of(outside)
        keys = [("coarse", 0.5 * n, 0.5 * n + 0.5) for n in range(len(outside))]
        kept = {key: row for key, row in zip(keys, rows, strict=True) if key[1] not in left_out}
        store.put(video_id, 0.0, 0.5 * len(outside), kept)
    return store


def listed(tmp_path, *entries):
    KeptInventory(str(tmp_path), "archive").write(entries)


def file_of(video_id, duration_s, code=""):
    video = Video(video_id, f"/nowhere/{video_id}.mp4", 1, duration_s, 64, 64, 25.0, "h264")
    return ArchiveFile(video, "stamp", code, code)


def spans(found):
    return [(span.start_s, span.stop_s, span.reason) for span in found]


def video_vectors(tmp_path, outside, **options):
    return next(stored(tmp_path, {"v": outside}, **options).read_videos())


def test_spans_have_the_edges_of_windows_and_are_widened(tmp_path, head):
    outside = np.zeros(40, bool)
    outside[10:14] = outside[30:31] = True
    found = video_vectors(tmp_path, outside)
    bare = spans_in_vectors(head, found, 20.0, pad_s=0.0)
    assert spans(bare) == [(5.0, 7.0, OUT_OF_BODY), (15.0, 15.5, OUT_OF_BODY)]
    wide = spans_in_vectors(head, found, 20.0)
    assert spans(wide) == [(4.5, 7.5, OUT_OF_BODY), (14.5, 16.0, OUT_OF_BODY)]
    with pytest.raises(ValueError, match="pad_s=-1"):
        spans_in_vectors(head, found, 20.0, pad_s=-1)


def test_time_without_vectors_is_listed_and_never_counts_as_inside(tmp_path, head):
    outside = np.zeros(40, bool)
    outside[20:24] = True
    found = video_vectors(tmp_path, outside, left_out={2.0, 2.5, 11.0})
    said = spans_in_vectors(head, found, 22.25, pad_s=0.0)  # the video goes on for 2.25 s after its last vector
    assert spans(said) == [
        (2.0, 3.0, NO_VECTOR),
        (10.0, 12.0, f"{OUT_OF_BODY}; {NO_VECTOR}"),
        (20.0, 22.25, NO_VECTOR),
    ]
    assert spans(spans_in_vectors(head, None, 7.0)) == [(0.0, 7.0, NO_VECTOR)]


def test_a_window_without_a_vector_makes_no_span_outside(tmp_path, head):
    equal = OutOfBodyHead(head.net, head.source, SearchSettings(0.3, "", 0.3))
    found = video_vectors(tmp_path, np.zeros(10, bool), left_out={2.0})
    assert spans(spans_in_vectors(equal, found, 5.0)) == [(2.0, 2.5, NO_VECTOR)]


def test_windows_of_another_kind_are_not_judged(tmp_path, head):
    store = stored(tmp_path, {"v": np.zeros(10, bool)})
    store.put("v", 0.0, 5.0, {("clip", 1.0, 2.0): vectors_of([True])[0]})
    assert spans_in_vectors(head, next(store.read_videos()), 5.0) == []


def test_a_head_is_written_and_read_whole_and_other_files_are_refused(tmp_path, head):
    place = str(tmp_path / "head.safetensors")
    save_head(head, place)
    read = load_head(place)
    assert (read.source, read.settings) == (head.source, head.settings)
    vectors_ND = vectors_of([True, False, True])
    assert np.array_equal(read.scores(vectors_ND), head.scores(vectors_ND))
    (tmp_path / "bad").write_bytes(b"x" * 40)
    for ref in (str(tmp_path / "bad"), str(tmp_path / "none"), SHIPPED):
        with pytest.raises(ModelError, match="out-of-body train --vectors"):
            load_head(ref)
    with pytest.raises(ModelError, match="kind 'out_of_body_head'"):
        load_detector(place)
    with pytest.raises(ModelError, match="width 6"):
        head.scores(np.zeros((3, 7), np.float16))
    with pytest.raises(ModelError, match="windows of the kind"):
        Source("f", "s", "clip", 1.0)


def test_vectors_of_another_encoder_or_other_windows_are_refused(tmp_path, head):
    stored(tmp_path / "encoder", {"v": [False]}, source=source_of("e" * 16, SPEC))
    stored(tmp_path / "windows", {"v": [False]}, source=source_of("f" * 16, WindowSpec(1.0, 1.0)))
    for place, there in (("encoder", "e" * 16), ("windows", "reference-1-1"), ("nothing", "no vectors")):
        with pytest.raises(UsageError, match=there):
            list(outside_of_archive(str(tmp_path / place), head))
    stored(tmp_path / "bf16", {"v": [False, True]}, source=source_of("f" * 16 + "-bf16", SPEC))
    assert len(list(outside_of_archive(str(tmp_path / "bf16"), head))) == 1  # the same encoder in another precision


def test_every_listed_file_is_in_the_list_and_what_is_not_judged_is_said(tmp_path, head, capsys):
    outside = np.zeros(20, bool)
    outside[4:8] = True
    stored(tmp_path, {"a": outside, "b": np.zeros(20, bool), "d": outside})
    listed(tmp_path, file_of("a", 10.0), file_of("b", 30.0), file_of("c", 6.0), file_of("e", 0.0, "no-video"))
    found = {one.video_id: one for one in outside_of_archive(str(tmp_path), head, pad_s=0.0)}
    assert sorted(found) == ["a", "b", "c", "d", "e"]
    assert found["a"].is_judged and found["a"].outside_s == 2.0
    assert not found["b"].is_judged and found["b"].unjudged_s == 20.0
    assert spans(found["c"].spans) == [(0.0, 6.0, NO_VECTOR)]
    assert not found["d"].is_whole and found["d"].outside_s == 2.0  # no list says how long it is
    assert "no-video" in found["e"].reason and not found["e"].is_judged
    save_head(head, str(tmp_path / "head"))
    words = ["out-of-body", "find", "--vectors", str(tmp_path), "--head", str(tmp_path / "head"), "--pad", "0"]
    assert main(words) == 3
    said = capsys.readouterr().out
    assert "a: 2.0 s of 10.0 s outside\n" in said and "d: 2.0 s of 10.0 s outside, end unknown" in said
    assert "5 videos" in said and "4 videos not judged whole" in said and "nowhere" not in said
    assert main([*words, "--json"]) == 3
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["video_id"]: row["unjudged_s"] for row in rows}["b"] == 20.0


def test_options_that_do_not_fit_are_refused(tmp_path, capsys):
    for words in (
        ["find"],
        ["find", "v.mp4", "--vectors", "place"],
        ["find", "--vectors", str(tmp_path)],
        ["find", "v.mp4", "--head", "h"],
        ["find", "v.mp4", "--frames"],
        ["train", "--out", "o", "--vectors", "place"],
        ["train", "--out", "o", "--every", "0.5"],
    ):
        try:
            code = main(["out-of-body", *words])
        except SystemExit as ended:
            code = ended.code
        assert code == 2, words
    assert "--head" in capsys.readouterr().err


def test_shares_of_windows_outside():
    starts = np.arange(4) * 0.5
    assert outside_share(starts, starts + 0.5, [(0.25, 1.0), (1.75, 9.0)]).tolist() == [0.5, 1.0, 0.0, 0.5]


def test_a_window_counts_for_the_samples_in_it():
    scores = at_samples(np.array([0.0, 1.0]), np.array([0.5, 1.5]), np.array([0.3, 0.9]), 2.0)
    assert scores.tolist() == [0.3] * 4 + [0.0] * 4 + [0.9] * 4 + [0.0] * 4
    assert at_samples(np.zeros(0), np.zeros(0), np.zeros(0), 1.0).tolist() == [0.0] * 8


def test_fitting_needs_both_kinds_and_gives_the_same_for_the_same_seed():
    outside_N = np.arange(300) % 3 == 0
    with pytest.raises(TrainingError, match="both kinds"):
        fit_head(vectors_of(outside_N), np.zeros(300))
    first, again = (fit_head(vectors_of(outside_N), outside_N.astype(float), epochs=2, seed=4) for _ in range(2))
    for name, tensor in first.state_dict().items():
        assert tensor.equal(again.state_dict()[name]), name


def test_thresholds_follow_the_rules_of_the_frames(head):
    outside_N = np.repeat([False, True, False], [20, 6, 20])
    starts = np.arange(len(outside_N)) * 0.5
    cells = JudgedWindows(starts, starts + 0.5, vectors_of(outside_N), outside_N.astype(float))
    chosen = thresholds_for(head.net, SOURCE, [TrainingTimeline(cells, [(10.0, 13.0)], 23.0)])
    assert chosen.recall == chosen.precision == 1.0 and 0.1 <= chosen.edge_threshold <= chosen.threshold <= 0.5
    silent = thresholds_for(HeadNet(DIM).eval(), SOURCE, [TrainingTimeline(cells, [(10.0, 13.0)], 23.0)])
    assert silent.precision < 0.5  # a head that knows nothing takes all


def test_the_sampling_of_a_store_states_its_windows():
    for spec in (SPEC, WindowSpec(), WindowSpec(30.0, 2.5, 8)):
        assert spec_in(sampling_name(spec, "keyframes", "right")) == spec
    assert spec_in("anything") is None
    assert source_of("f", WindowSpec()).kind == "fine" and source_of("f", WindowSpec()).window_s == 2.5
    assert SOURCE.kind == "coarse"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "case.mp4"
    pieces = (Interruption(4.1, 6.3, "operating room", 3),)
    write_video(path, make_script(8_100_000, 18.0), 320, 180, interruptions=pieces, duration_s=9.0)
    return str(path)


def test_edges_are_refined_to_the_frame_where_the_video_can_be_read(video):
    coarse = [Span(4.0, 6.5, OUT_OF_BODY, 0.9), Span(8.0, 8.5, NO_VECTOR, 1.0)]
    (outside, lacking) = refined(coarse, video, 0.5, pad_s=0.0)
    assert outside.start_s == pytest.approx(4.1, abs=0.041) and outside.stop_s == pytest.approx(6.3, abs=0.041)
    assert lacking == coarse[1]
    wide = refined(coarse[:1], video, 0.5)[0]
    assert (wide.start_s, wide.stop_s) == pytest.approx((outside.start_s - 0.5, outside.stop_s + 0.5))


def test_a_detector_that_sees_nothing_takes_nothing_away(video):
    inside = [Span(1.0, 2.0, OUT_OF_BODY, 0.9)]
    assert refined(inside, video, 0.5, pad_s=0.0) == inside
    mixed = [Span(4.0, 6.5, f"{OUT_OF_BODY}; {NO_VECTOR}", 1.0)]
    assert refined(mixed, video, 0.5, pad_s=0.0) == mixed  # nobody has looked at a part of it


def test_a_video_that_cannot_be_opened_keeps_the_edges_of_its_windows(tmp_path, head):
    outside = np.zeros(20, bool)
    outside[4:8] = True
    stored(tmp_path, {"a": outside})
    listed(tmp_path, file_of("a", 10.0))
    (one,) = outside_of_archive(str(tmp_path), head, frames=True)
    assert spans(one.spans) == [(1.5, 4.5, OUT_OF_BODY)] and one.edges == "windows"
    assert "edges stay" in one.reason and not one.is_judged


def test_drawn_windows_depend_on_their_seed_and_are_those_of_the_grid():
    first = drawn_windows("tiny", SPEC, "coarse", 3, 6.0)
    again = drawn_windows("tiny", SPEC, "coarse", 3, 6.0)
    assert np.array_equal(first.vectors_ND, again.vectors_ND) and np.array_equal(first.share_N, again.share_N)
    assert first.start_s_N.tolist() == [0.5 * n for n in range(12)] and first.vectors_ND.shape == (12, 192)
    some = drawn_windows("tiny", SPEC, "coarse", 3, 6.0, some=True)
    assert 0 < len(some) < len(first) and set(some.start_s_N) <= set(first.start_s_N)


def test_an_embedded_archive_is_judged_by_what_its_labels_taught(tmp_path, capsys):
    root, vectors, out = str(tmp_path / "archive"), str(tmp_path / "vectors"), str(tmp_path / "head.safetensors")
    options = {"videos": 3, "minutes": 0.4, "width": 128, "height": 72, "fps": 12, "validation": 0.34}
    atlas = write_archive(root, **options, seed=1, out_of_body=True)
    assert embed_archive(f"{root}/videos", vectors, "tiny", every_s=0.5).exit_code == 0
    words = ["out-of-body", "train", "--atlas", f"{root}/out_of_body", "--vectors", vectors, "--out", out]
    assert main(words) == 0
    assert "2 annotated videos" in capsys.readouterr().out
    identity = encoder_identity("tiny")
    assert load_head(out).source == source_of(identity.fingerprint, identity.windows(SPEC))
    assert main(["out-of-body", "find", "--vectors", vectors, "--head", out, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["video_id"] for row in found} == {video.video_id for video in atlas.videos}
    assert all(row["duration_s"] == pytest.approx(24, abs=0.1) and row["spans"] for row in found)

    store, source = the_store(vectors, "tiny", SPEC)
    with pytest.raises(UsageError, match="drawn for"):  # phantoms of other windows
        train_on_vectors(
            out, store=store, source=source, atlas=f"{root}/out_of_body", encoder="tiny", spec=WindowSpec(1, 1), drawn=1
        )
    both = train_on_vectors(
        out, store=store, source=source, atlas=f"{root}/out_of_body", encoder="tiny", spec=SPEC, drawn=1, epochs=2
    )
    assert both.videos == 2 and both.windows > 2 * 48
    empty = open_vectors(str(tmp_path / "none"), identity, source.sampling)
    with pytest.raises(UsageError, match="has vectors of the encoder"):
        train_on_vectors(out, store=empty, source=source, atlas=f"{root}/out_of_body")
