"""Mapping again from stored vectors: many segments at once, with the rows that one at a time gives."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from halsted_ray.embedding.stage_schemas import segments_table
from halsted_ray.mapping.outcomes import read_outcomes
from halsted_ray.mapping.pipeline import tag_locally
from halsted_ray.mapping.tag_stage import TagOptions, TagStage
from halsted_ray.mapping.vector_stage import VectorStage
from halsted_ray.mapping.work_list import Cutter, PendingVideo, Waiting
from halsted_ray.mapping.workflow import Workflow
from halsted_ray.maps.staging import Staging
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.encoder_identity import EncoderIdentity, encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.profiling import StageProfile
from halsted_ray.records import Segment, Video, WindowSpec
from halsted_ray.storage.vectors import sampling_name
from halsted_ray.video.windows import windows_of

SPEC = WindowSpec()
RECIPE = "recipe"
SEGMENT_S = 30.0
VIDEOS = [Video(f"{n:x}" * 16, f"/archive/{n}.mp4", 1, 95.0 + 7 * n, 64, 48, 25.0, "h264") for n in range(3)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The machine's other tests want the other cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def knows_everything():
    """The vectors below are drawn and lie near no video, so the model would call all of them unknown."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Halsted, "is_unknown", lambda self, embeddings_ND: np.zeros(len(embeddings_ND), bool))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with vectors of three videos, drawn as those of the shipped model's training are spread, so that it
    gives all kinds of answers."""
    folder = tmp_path_factory.mktemp("remap")
    model = Halsted.load("phantom")
    own = options(folder, folder)
    whitening_DD = model.decoder.feature_whitening_DD
    spread_DD = torch.diag(model.decoder.feature_scale_D) if whitening_DD is None else whitening_DD
    colouring_DD = np.linalg.inv(spread_DD.double().numpy())
    generator = np.random.default_rng(0)
    for segment in all_segments():
        coarse, fine_of = windows_of(segment, SPEC)
        keys = [(w.kind, w.start_s, w.stop_s) for w in coarse + [w for fine in fine_of.values() for w in fine]]
        drawn_ND = generator.normal(size=(len(keys), len(colouring_DD))) @ colouring_DD
        rows_ND = (drawn_ND + model.decoder.feature_mean.numpy()).astype(np.float16)
        vectors = dict(zip(keys, rows_ND, strict=True))
        own.open_vectors().put(segment.video_id, segment.start_s, segment.stop_s, vectors)
    return folder


@pytest.fixture(scope="module")
def workflow(place) -> Workflow:
    model = Halsted.load("phantom")
    return Workflow(model, EncoderIdentity.of(Encoder.load(model.config.encoder_ref)))


def waiting() -> Waiting:
    cutter = Cutter(SPEC, SEGMENT_S, RECIPE)
    return Waiting(cutter, [PendingVideo(video, range(len(cutter.cut(video)))) for video in VIDEOS])


def all_segments() -> list[Segment]:
    return list(waiting())


def options(place: Path, out: Path) -> TagOptions:
    model = Halsted.load("phantom")
    return TagOptions(
        out=str(out),
        recipe=RECIPE,
        run_id="run",
        vectors=str(place / "embeddings"),
        encoder_fingerprint=model.config.encoder_fingerprint,
        sampling=sampling_name(SPEC, "reference"),
        model="phantom",
        encoder=model.config.encoder_ref,
        model_digest=model.digest,
        precision="fp32",
        tasks=("macro", "micro", "proficiency", "context"),
    )


def stored_of(place: Path, segment: Segment) -> dict:
    return options(place, place).open_vectors().get(segment.video_id, segment.start_s, segment.stop_s)


def staged(out: Path) -> list[dict]:
    """What was staged, less who did it and how long it took."""
    results = [result for video in VIDEOS for result in Staging(str(out), RECIPE).read(video.video_id)]
    return [{**asdict(result), "seconds": {}, "run_id": ""} for result in results]


@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_a_segment_s_rows_do_not_depend_on_the_segments_beside_it(data, place, workflow, alone):
    """To the last bit before rounding would hide it: the probabilities decide which windows are opened."""
    chosen = data.draw(st.lists(st.sampled_from(all_segments()), min_size=2, unique=True))
    together = workflow.map_many(chosen, [stored_of(place, segment) for segment in chosen])
    assert together == [alone[segment] for segment in chosen]


@pytest.fixture(scope="module")
def alone(place, workflow) -> dict:
    """The predictions of every segment, mapped by itself. All tasks have answers among them."""
    found = {segment: workflow(segment, None, stored_of(place, segment)) for segment in all_segments()}
    assert len({tag.task for predictions in found.values() for tag in predictions.tags}) == 4
    return found


def test_one_mapping_of_vectors_serves_all_segments_of_a_video(place, workflow, alone):
    segments = [segment for segment in all_segments() if segment.video_id == VIDEOS[0].video_id]
    whole = options(place, place).open_vectors().get(VIDEOS[0].video_id, 0.0, VIDEOS[0].duration_s)
    assert workflow.map_many(segments, [whole] * len(segments)) == [alone[segment] for segment in segments]


def test_segments_without_enough_vectors_need_frames_and_hold_up_no_others(place, workflow, alone):
    segments = all_segments()[:4]
    vectors = [stored_of(place, segment) for segment in segments]
    coarse = {key: vector for key, vector in vectors[1].items() if key[0] == "coarse"}
    found = workflow.map_many(segments, [vectors[0], coarse, {}, vectors[3]])
    assert [predictions.needs_frames for predictions in found] == [False, True, True, False]
    assert found[0] == alone[segments[0]] and found[3] == alone[segments[3]] and not found[1].tags
    assert workflow.map_many([], []) == []


def test_many_segments_ask_the_model_once_per_step(place, workflow, monkeypatch):
    calls, tag = [], Halsted.tag
    monkeypatch.setattr(
        Halsted,
        "tag",
        lambda self, rows_ND, *args, **named: calls.append(len(rows_ND)) or tag(self, rows_ND, *args, **named),
    )
    segments = all_segments()
    workflow.map_many(segments, [stored_of(place, segment) for segment in segments])
    assert 2 < len(calls) <= 5 and max(calls) > 64, calls


def test_stages_for_vectors_and_for_frames_give_the_same_rows(place, tmp_path):
    table = segments_table(all_segments())
    outs = [tmp_path / name for name in ("one by one", "together")]
    stages = [kind(options(place, out)) for kind, out in zip((TagStage, VectorStage), outs, strict=True)]
    tables = [stage(table) for stage in stages]
    assert tables[0].drop_columns(["profile", "encoding"]).equals(tables[1].drop_columns(["profile", "encoding"]))
    assert tables[1].schema.equals(VectorStage.output_schema) and table.schema.equals(VectorStage.input_schema)
    assert staged(outs[0]) == staged(outs[1]) and len(staged(outs[0])) == len(table)
    spent = StageProfile()
    for outcome in read_outcomes(tables[1]):
        spent.merge(outcome.profile)
    assert spent.wall_s["generate"] > 0 and spent.wall_s["read"] > 0, "what a batch took is counted once"
    again = VectorStage(replace(options(place, outs[1]), run_id="another"))
    assert again(table)["state"].to_pylist() == ["done"] * len(table)
    assert {result.run_id for result in Staging(str(outs[1]), RECIPE).read(VIDEOS[0].video_id)} == {"run"}


def test_vectors_are_tagged_without_the_weights_of_the_encoder(place, tmp_path, monkeypatch):
    """A giant's are 4 GB. Its identity lies in a small file beside them."""
    Encoder.load("tiny").save(str(tmp_path / "encoder"))
    encoder_identity(str(tmp_path / "encoder"))
    monkeypatch.setattr(Encoder, "load", lambda *_, **__: pytest.fail("the weights were read"))
    stage = VectorStage(replace(options(place, tmp_path / "out"), encoder=str(tmp_path / "encoder")))
    assert set(stage(segments_table(all_segments()[:2]))["state"].to_pylist()) == {"done"}


def test_a_place_that_can_t_be_written_ends_the_run(place, tmp_path):
    stage = VectorStage(options(place, tmp_path / "out"))
    (tmp_path / "out").write_text("a file where a folder belongs")
    (first, *_) = read_outcomes(stage(segments_table(all_segments()[:2])))
    assert first.state == "fatal" and "can't be stored or read" in first.message


def test_threads_of_this_process_give_every_segment_once(place, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        outcomes = list(tag_locally(waiting(), options(place, tmp_path)))
        assert torch.get_num_threads() == 3, "the caller's setting comes back"
    finally:
        torch.set_num_threads(before)
    assert [outcome.segment_id for outcome in outcomes] == [segment.segment_id for segment in all_segments()]
    VectorStage(options(place, tmp_path / "alone"))(segments_table(all_segments()))
    assert staged(tmp_path) == staged(tmp_path / "alone")


KILLED = """
import os, pickle, signal, sys
import numpy as np
from halsted_ray.embedding.stage_schemas import segments_table
from halsted_ray.mapping.vector_stage import VectorStage
from halsted_ray.maps.staging import Staging
from halsted_ray.model.halsted import Halsted
Halsted.is_unknown = lambda self, embeddings_ND: np.zeros(len(embeddings_ND), bool)
options, segments, left = pickle.load(open(sys.argv[1], "rb"))
write = Staging.write
def until_killed(self, result):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(self, result)
Staging.write = until_killed
VectorStage(options)(segments_table(segments))
"""


def test_a_batch_that_is_killed_while_it_is_staged_is_finished_exactly_once(place, tmp_path):
    own, segments = options(place, tmp_path / "out"), all_segments()[:7]
    (tmp_path / "work").write_bytes(pickle.dumps((own, segments, 3)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "work")], env=environment, timeout=120)
    assert done.returncode == -signal.SIGKILL
    staging = Staging(str(tmp_path / "out"), RECIPE)
    assert sum(map(len, staging.states().values())) == 3
    assert VectorStage(replace(own, run_id="second"))(segments_table(segments))["state"].to_pylist() == ["done"] * 7
    results = [result for video in VIDEOS for result in staging.read(video.video_id)]
    assert Counter(result.run_id for result in results) == {"run": 3, "second": 4}
    VectorStage(options(place, tmp_path / "whole"))(segments_table(segments))
    assert staged(tmp_path / "out") == staged(tmp_path / "whole")
