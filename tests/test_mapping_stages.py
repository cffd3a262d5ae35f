"""The stages of a mapping run one by one, without Ray: decoding with its faults, tagging, staging, pools."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from halsted_ray.compute.cluster import connected
from halsted_ray.compute.pools import size_pools
from halsted_ray.compute.progress import Progress
from halsted_ray.embedding.decode_stage import DecodeOptions, DecodeStage
from halsted_ray.embedding.embed import read_embedded
from halsted_ray.embedding.embed_stage import EmbedOptions, EmbedStage
from halsted_ray.embedding.stage_schemas import segments_table
from halsted_ray.errors import (
    DecoderKilled,
    ModelError,
    ResourceError,
    StorageUnavailable,
    UnreadableVideo,
    VideoError,
)
from halsted_ray.mapping.outcomes import read_outcomes
from halsted_ray.mapping.tag_stage import TagOptions, TagStage
from halsted_ray.maps.packet_indexes import PacketIndexes
from halsted_ray.maps.staging import MappingRun, SegmentResult, Staging, stagings
from halsted_ray.maps.timeline import Gap, Unasked
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.planning.rates import Rates
from halsted_ray.profiling import STAGES
from halsted_ray.records import Prediction, Segment, Window, WindowSpec
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.video.decoder_tally import DecoderTally
from halsted_ray.video.frames import Missing, collect
from halsted_ray.video.windows import frame_times_s, has_picture

SPEC = WindowSpec(coarse_s=10, fine_s=2.5)
SEGMENT = Segment("segment", "video", "/archive/Jane Doe.mp4", 0.0, 30.0, 100.0)


class FakeDecoder:
    """Raises ``faults`` one after another, then gives frames; ``damaged`` spans have no picture."""

    def __init__(self, faults=(), damaged=()):
        self.faults, self.damaged, self.calls, self.asked_s = list(faults), damaged, 0, []

    def __call__(self, memory_mb):
        return self

    def read_frames(self, uri, times_s, size, fidelity, reader, eye, deadline_s, packet_index=b""):
        self.calls += 1
        if self.faults:
            raise self.faults.pop(0)
        self.asked_s += times_s.tolist()
        picture_HWC = np.ones((*size, 3), np.uint8)
        rows = [
            next((Missing(a, b, "corrupt", f"no picture in [{a}, {b}) s") for a, b in self.damaged if a <= t < b), None)
            or (picture_HWC, t)
            for t in times_s
        ]
        return collect(rows, times_s, size)


def decoding(tmp_path, decoder, recipe="recipe", **changes) -> DecodeStage:
    options = DecodeOptions(str(tmp_path), recipe, SPEC, (112, 112), deadline_s=10.0, retry_pause_s=0.0, **changes)
    return DecodeStage(options, process=decoder)


def test_frames_travel_to_tagging_whole(tmp_path):
    table = decoding(tmp_path, FakeDecoder())(segments_table([SEGMENT]))
    frames = np.frombuffer(table["frames"][0].as_buffer(), np.uint8)
    assert len(frames) == 192 * 112 * 112 * 3 and frames.all()
    assert table["gaps"][0].as_py() == []


@pytest.mark.parametrize("copy, code", [(UnreadableVideo("gone"), "corrupt"), (StorageUnavailable("away"), "storage")])
def test_a_copy_stands_in_where_the_video_is_damaged(tmp_path, copy, code):
    class Files(FakeDecoder):
        def read_frames(self, uri, times_s, *rest, **named):
            self.damaged = {SEGMENT.uri: [(12, 13), (15, 17)], "/a": [(16, 23)], "/b": [(15, 16)]}[uri]
            if isinstance(self.away, VideoError) and uri == "/a":
                raise self.away
            return super().read_frames(uri, times_s, *rest, **named)

        away = None

    for copies, gaps in (([], [(12, 13), (15, 17)]), (["/a"], [(16, 17)]), (["/a", "/b"], []), (["/b", "/a"], [])):
        decoder = Files()
        images, found = decoding(tmp_path, decoder, copies={"video": copies, "another": ["/b"]}).decode(SEGMENT)
        assert [(gap.start_s, gap.stop_s) for gap in found] == gaps
        assert images.reshape(192, -1).any(1).tolist() == has_picture(frame_times_s(SEGMENT, SPEC), gaps).tolist()
    assert len(decoder.asked_s) < 193 + 2 * 20, "a copy is asked for missing frames alone"
    decoder = Files()
    decoder.away = copy
    found = decoding(tmp_path, decoder, copies={"video": ["/a"]}).decode(SEGMENT)[1]
    assert [gap.code for gap in found] == [code] * 2, "one that can't be fetched now may be whole"


@pytest.mark.parametrize("first", ["/other", "/a"])
def test_a_file_of_the_same_id_that_shows_other_pictures_is_told_apart_when_it_is_read(tmp_path, first):
    class Files(FakeDecoder):
        def read_frames(self, uri, times_s, *rest, **named):
            self.damaged = {SEGMENT.uri: [(12, 13), (15, 17)], "/a": [(16, 23)], "/other": []}[uri]
            found = super().read_frames(uri, times_s, *rest, **named)
            return replace(found, images_NHWC=found.images_NHWC * 100) if uri == "/other" else found

    copies = [first, *({"/other", "/a"} - {first})]
    images, gaps = decoding(tmp_path, Files(), copies={"video": copies}).decode(SEGMENT)
    assert images.max() == 1, "nothing of the other recording is mixed in"
    assert [(gap.start_s, gap.stop_s, gap.code) for gap in gaps] == [(16, 17, "corrupt")]
    assert all("another file of this id shows other pictures" in gap.reason for gap in gaps)
    assert "/other" not in gaps[0].reason


def test_each_file_of_a_video_is_read_by_its_own_packet_index(tmp_path):
    class Files(FakeDecoder):
        def read_frames(self, uri, times_s, *rest, packet_index, **named):
            given[uri] = packet_index
            self.damaged = [(12, 13)]
            return super().read_frames(uri, times_s, *rest, **named)

    given = {}
    for uri in (SEGMENT.uri, "/a"):
        PacketIndexes(str(tmp_path)).put("video", uri, uri.encode())
    decoding(tmp_path, Files(), copies={"video": ["/a", "/b"]}).decode(SEGMENT)
    assert given == {SEGMENT.uri: SEGMENT.uri.encode(), "/a": b"/a", "/b": b""}


def test_a_decoder_that_dies_once_is_tried_again(tmp_path):
    stage = decoding(tmp_path, FakeDecoder([DecoderKilled("died")]))
    images, gaps = stage.decode(SEGMENT)
    assert images is not None and not gaps


def test_a_segment_that_kills_its_decoder_twice_is_a_gap_with_the_reason(tmp_path):
    decoder = FakeDecoder([DecoderKilled("hung", hung=True), DecoderKilled("hung", hung=True)])
    images, gaps = decoding(tmp_path, decoder).decode(SEGMENT)
    assert images is None and gaps == [Gap(0.0, 30.0, "decoder-hung", "hung")]
    assert decoder.calls == 2


def test_storage_is_waited_for(tmp_path):
    outage = [StorageUnavailable("away")] * 2
    images, gaps = decoding(tmp_path, FakeDecoder(outage)).decode(SEGMENT)
    assert images is not None and not gaps
    images, gaps = decoding(tmp_path, FakeDecoder([StorageUnavailable("away")] * 3)).decode(SEGMENT)
    assert images is None and gaps[0].code == "storage"


def test_corrupt_input_is_not_tried_again(tmp_path):
    decoder = FakeDecoder([UnreadableVideo("no codec")])
    assert decoding(tmp_path, decoder).decode(SEGMENT)[1][0].code == "unreadable"
    assert decoder.calls == 1


def test_damage_costs_its_own_time_alone_and_is_decoded_once(tmp_path):
    decoder = FakeDecoder(damaged=[(12.01, 13.02)])
    images, gaps = decoding(tmp_path, decoder).decode(SEGMENT)
    assert [(gap.start_s, gap.stop_s, gap.code) for gap in gaps] == [(12.01, 13.02, "corrupt")]
    present = has_picture(frame_times_s(SEGMENT, SPEC), [(12.01, 13.02)])
    assert 0 < (~present).sum() < 8 and images[present].all() and not images[~present].any()
    assert decoder.calls == 1 and len(images) == 192
    over_the_edge = FakeDecoder(damaged=[(28.0, 999.0)])
    assert [gap.stop_s for gap in decoding(tmp_path, over_the_edge).decode(SEGMENT)[1]] == [30.0], "of this segment"
    nothing = decoding(tmp_path, FakeDecoder(damaged=[(0.0, 30.0)])).decode(SEGMENT)
    assert nothing[0] is None and len(nothing[1]) == 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.set_num_threads(1)
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
    folder = str(tmp_path_factory.mktemp("model"))
    model.save(folder)
    return TagOptions(
        out="",
        recipe="recipe",
        run_id="run",
        vectors="",
        encoder_fingerprint=encoder.fingerprint,
        precision="fp32",
        sampling=sampling_name(SPEC, "reference"),
        model=folder,
        encoder=encoder.ref,
        model_digest=model.digest,
        tasks=("macro",),
    )


def tagging(tmp_path, model, **changes) -> TagStage:
    return TagStage(replace(model, **{"out": str(tmp_path), "vectors": str(tmp_path / "embeddings"), **changes}))


def test_a_finished_segment_is_staged_and_not_done_again(tmp_path, model):
    decoder = FakeDecoder(damaged=[(12.0, 13.0), (20.0, 23.0)])
    rows = decoding(tmp_path, decoder)(segments_table([SEGMENT]))
    calls = decoder.calls
    assert tagging(tmp_path, model)(rows)["state"].to_pylist() == ["part"]
    (result,) = Staging(str(tmp_path), "recipe").read("video")
    assert {(tag.start_s, tag.stop_s) for tag in result.tags} == {(0, 10), (10, 20)}
    assert result.unasked == [Unasked("macro", 20, 30, "corrupt")]
    assert result.run_id == "run" and result.new_vectors == 2 and result.seconds["encode"] > 0

    rows = decoding(tmp_path, decoder)(segments_table([SEGMENT]))
    assert decoder.calls == calls
    assert tagging(tmp_path, model, run_id="other")(rows)["state"].to_pylist() == ["part"]
    assert Staging(str(tmp_path), "recipe").read("video")[0].run_id == "run"


def test_stored_vectors_need_no_frames(tmp_path, model):
    rows = decoding(tmp_path, FakeDecoder())(segments_table([SEGMENT]))
    bare = segments_table([SEGMENT])
    assert tagging(tmp_path, model)(bare)["state"].to_pylist() == ["frames"]
    tagging(tmp_path, model)(rows)
    second = tagging(tmp_path, model, recipe="another recipe")
    assert second(bare)["state"].to_pylist() == ["done"]
    first, again = (Staging(str(tmp_path), recipe).read("video")[0] for recipe in ("recipe", "another recipe"))
    assert again.tags == first.tags and again.used_vectors == 3 and again.new_vectors == 0


def test_a_vector_of_remaining_frames_is_not_kept(tmp_path, model):
    """A whole copy that comes later is mapped by its own frames, and no gap is forgotten where vectors are stored."""
    # From 12.0 on no frame of the coarse window [10, 20) is missing: they lie 0.625 s apart.
    for damage, recipe in (((12.0, 13.0), "some"), ((12.51, 13.12), "between")):
        rows = decoding(tmp_path, FakeDecoder(damaged=[damage]), recipe)(segments_table([SEGMENT]))
        place = {"vectors": str(tmp_path / recipe)}
        tagger = tagging(tmp_path, model, recipe=recipe, **place)
        assert tagger(rows)["state"].to_pylist() == ["part"]
        stored = tagger.store.get("video", 0.0, 30.0)
        assert set(stored) == {("coarse", 0.0, 10.0), ("coarse", 20.0, 30.0)}
        later = tagging(tmp_path, model, recipe=f"{recipe} later", **place)
        assert later(segments_table([SEGMENT]))["state"].to_pylist() == ["frames"], "the damage is found again"
    whole = decoding(tmp_path, FakeDecoder(), "some later")(segments_table([SEGMENT]))
    later = tagging(tmp_path, model, recipe="some later", vectors=str(tmp_path / "some"))
    assert later(whole)["state"].to_pylist() == ["done"]
    (result,) = Staging(str(tmp_path), "some later").read("video")
    assert (result.new_vectors, result.used_vectors) == (1, 2)
    rows = decoding(tmp_path, FakeDecoder(damaged=[(12.0, 13.0)]), "again")(segments_table([SEGMENT]))
    again = tagging(tmp_path, model, recipe="again", vectors=str(tmp_path / "some"))
    assert again(rows)["state"].to_pylist() == ["part"]
    assert Staging(str(tmp_path), "again").read("video")[0].used_vectors == 3, "a vector of all frames is better"


def embedding(tmp_path, model, place="embedded", **changes) -> EmbedStage:
    sampling = sampling_name(SPEC, "reference")
    options = EmbedOptions(
        model.encoder,
        model.encoder_fingerprint,
        model.encoder_fingerprint,
        SPEC,
        str(tmp_path / place),
        sampling,
        **changes,
    )
    return EmbedStage(options)


def test_embedding_gives_the_vectors_that_tagging_stores(tmp_path, model):
    rows = decoding(tmp_path, FakeDecoder(damaged=[(12.0, 13.0)]))(segments_table([SEGMENT]))
    stage = embedding(tmp_path, model)
    (found,) = read_embedded(stage(rows))
    embedded = stage.store.get("video", 0.0, 30.0)
    assert [key for key in embedded if key[0] == "coarse"] == [("coarse", 0.0, 10.0), ("coarse", 20.0, 30.0)]
    assert len(embedded) == found.stored == 2 + 10, "none that touches the gap"
    assert (
        set(found.mended) == {("coarse", 10.0, 20.0), ("fine", 10.0, 12.5), ("fine", 12.5, 15.0)} and not found.left_out
    )
    tagger = tagging(tmp_path, model)
    tagger(rows)
    stored = tagger.store.get("video", 0.0, 30.0)
    assert stored
    for key, vector in stored.items():
        assert np.array_equal(embedded[key], vector)
    nothing = decoding(tmp_path, FakeDecoder(damaged=[(0.0, 30.0)]), recipe="another")(segments_table([SEGMENT]))
    (found,) = read_embedded(stage(nothing))
    assert (found.stored, found.mended, len(found.left_out)) == (0, {}, 3 + 12) and found.gaps


def test_windows_of_any_length_are_embedded_as_the_grid_is(tmp_path, model):
    """A segment with windows of its own: its frames are those of the windows alone, and a grid window among them gets
    the vector that mapping gives it."""

    class Counting(FakeDecoder):
        def read_frames(self, uri, times_s, size, *rest, **named):
            self.asked_s += times_s.tolist()
            rows = [(np.full((*size, 3), int(time_s * 6.4) % 256, np.uint8), float(time_s)) for time_s in times_s]
            return collect(rows, times_s, size)

    windows = (Window("clip", 3.0, 4.3), Window("fine", 5.0, 7.5), Window("clip", 90.0, 100.0))
    own = Segment("own", "video", SEGMENT.uri, 3.0, 100.0, 100.0, windows)
    decoder = Counting()
    stage = embedding(tmp_path, model)
    (found,) = read_embedded(stage(decoding(tmp_path, decoder)(segments_table([own]))))
    assert found.stored == 3 and len(decoder.asked_s) == 3 * 16
    grid = embedding(tmp_path, model, "grid")
    grid(decoding(tmp_path, Counting(), "another")(segments_table([SEGMENT])))
    key = ("fine", 5.0, 7.5)
    assert np.array_equal(stage.store.get("video", 0, 100)[key], grid.store.get("video", 0, 30)[key])


def test_an_encoder_that_was_changed_during_a_run_is_refused(tmp_path, model):
    with pytest.raises(ModelError, match="not the one that the run was started with"):
        embedding(tmp_path, replace(model, encoder_fingerprint="0" * 16))


def test_a_stage_states_what_it_takes_and_gives(tmp_path, model):
    decoder = decoding(tmp_path, FakeDecoder())
    embedder, tagger = embedding(tmp_path, model), tagging(tmp_path, model)
    segments = segments_table([SEGMENT])
    decoded = decoder(segments)
    assert segments.schema.equals(DecodeStage.input_schema) and decoded.schema.equals(DecodeStage.output_schema)
    for stage in (embedder, tagger):
        assert decoded.schema.equals(stage.input_schema) and stage(decoded).schema.equals(stage.output_schema)
    rates = Rates.load()
    assert DecodeStage.resources.memory_mb == rates.memory_mb["decoder"], "as plans are made with"
    assert TagStage.resources.memory_mb == EmbedStage.resources.memory_mb == rates.memory_mb["tagger"]


def test_who_decoded_is_told_once_per_segment(tmp_path, model):
    stage = decoding(tmp_path, FakeDecoder())
    rows = stage(segments_table([SEGMENT]))
    stage.decoders.add("cpu", "codec mpeg4")
    again = stage(segments_table([replace(SEGMENT, segment_id="another")]))
    told = [row["decoded_by"][0].as_py() for row in (rows, again)]
    assert told[0] == [{"decoder": "cpu", "reason": "", "requests": 1}] and len(told[1]) == 2
    outcomes = [*read_outcomes(tagging(tmp_path, model)(rows)), *read_outcomes(tagging(tmp_path, model)(again))]
    tally = DecoderTally()
    for outcome in outcomes:
        tally.add_rows(outcome.decoded_by)
    assert tally.sentence() == "NVDEC decoded 0 segments, the CPU 3 (1: codec mpeg4)" and tally.has_nvdec


def test_gaps_and_profile_travel_as_typed_columns(tmp_path, model):
    rows = decoding(tmp_path, FakeDecoder(damaged=[(12.0, 13.0)]))(segments_table([SEGMENT]))
    (gap,) = rows["gaps"][0].as_py()
    assert (gap["start_s"], gap["stop_s"], gap["code"]) == (12.0, 13.0, "corrupt")
    assert {row["stage"] for row in rows["profile"][0].as_py()} <= set(STAGES)
    (outcome,) = read_outcomes(tagging(tmp_path, model)(rows))
    assert outcome.state == "part" and outcome.profile.wall_s["encode"] > 0 < outcome.profile.wall_s["wait"]


def test_a_place_that_can_no_longer_be_written_ends_the_run(tmp_path, model):
    (tmp_path / "file").write_text("")
    tagger = tagging(tmp_path, model, vectors=str(tmp_path / "file"))
    rows = decoding(tmp_path, FakeDecoder())(segments_table([SEGMENT]))
    (outcome,) = tagger(rows).to_pylist()
    assert outcome["state"] == "fatal" and "can't write" in outcome["message"]


def test_staged_results_come_back_as_they_were(tmp_path):
    staging = Staging(str(tmp_path), "recipe")
    staging.begin(MappingRun("run", "recipe", ("macro",), 60.0, 1))
    result = SegmentResult(
        SEGMENT,
        [Prediction(0.0, 2.5, "context", "anatomy", "Bladder–Urethra", 0.1234)],
        [Gap(10.0, 20.0, "corrupt", "why")],
        "run",
        3,
        4,
        {"decode": 0.1},
        unasked=[Unasked("context", 20.0, 22.5, "corrupt")],
    )
    staging.write(result)
    assert staging.read("video") == [replace(result, segment=replace(SEGMENT, uri=""))], "no file name is staged"
    assert staging.states() == {"video": {"segment": "part"}}
    assert [found.run().run_id for found in stagings(str(tmp_path))] == ["run"]
    staging.drop(["video"])
    assert list(stagings(str(tmp_path))) == []


@pytest.mark.parametrize(
    "cpus, gpus, cores, segments, expected",
    [
        (4, 0, 2, 100, (2, 1, 0.66)),  # a laptop of two cores, Ray told of four
        (10, 0, 8, 100, (7, 1, 1.0)),
        (4, 0, 2, 1, (1, 1, 1.0)),
        (18, 1, 16, 100, (15, 1, 1.0)),
        (66, 4, 64, 1000, (60, 4, 1.0)),
        (66, 4, 64, 2, (2, 2, 1.0)),
    ],
)
def test_pools_leave_two_cpus_free(cpus, gpus, cores, segments, expected):
    pools = size_pools(cpus, gpus, cores, segments)
    decoders, encoders = pools.decoders, pools.encoders
    assert (decoders.actors, encoders.actors, decoders.cpus) == expected
    assert decoders.actors * decoders.cpus + encoders.actors * encoders.cpus <= cpus - 2
    assert encoders.gpus == (1.0 if gpus else 0.0)
    for pool, stage in ((decoders, DecodeStage), (encoders, TagStage)):
        assert pool.cpus <= stage.resources.cpus and pool.gpus <= stage.resources.gpus, "no more than an actor can use"


@pytest.mark.parametrize("cpus, decoders", [(2, None), (1, None), (4, 30)])
def test_a_cluster_that_is_too_small_is_refused(cpus, decoders):
    with pytest.raises(ResourceError, match="free logical CPUs.*--num-cpus=4"):
        size_pools(cpus, 0, max(1, cpus - 2), 100, decoders=decoders)


def test_progress_counts_video_seconds():
    progress = Progress(done_s=5400, total_s=7200, begun_s=3600, failed_segments=2, elapsed_s=600)
    assert progress.rate == 3.0 and progress.eta_s == 600
    assert str(progress) == "1.50 of 2.00 video-hours, 3.0 per hour, 0:10:00 to go, 2 segments failed"
    assert str(Progress(6, 12, 0, 0, 3)) == "0.0017 of 0.0033 video-hours, 2.0 per hour, 0:00:03 to go"
    assert len(str(Progress(49_000 * 3600, 50_000 * 3600, 0, 12, 3600 * 999))) <= 80


def test_a_cluster_that_does_not_answer_is_named_at_once(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ResourceError, match="no Ray cluster answers at RAY_ADDRESS='127.0.0.1:1'.*unset RAY_ADDRESS"):
        with connected():
            pass


def test_sessions_of_nvdec_get_actors_of_their_own():
    pools = size_pools(18, 1, 16, 1000, nvdec_sessions=7)
    assert pools.decoders.actors == 15 + 7 and pools.encoders.actors == 1 and pools.encoders.calls == 8
    assert pools.decoders.actors * pools.decoders.cpus + pools.encoders.cpus <= 16


def test_small_encoders_share_a_gpu():
    pools = size_pools(18, 2, 16, 1000, per_gpu=3)
    assert pools.encoders.actors == 6 and pools.encoders.gpus == 0.33 and pools.device == "cuda"
