"""``halsted embed ATLAS``: afterwards training, evaluation and promotion decode nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import small_video

from halsted_ray.atlas import read_atlas, write_atlas
from halsted_ray.cli import main
from halsted_ray.embedding import embed
from halsted_ray.errors import AtlasError
from halsted_ray.evaluation.dataset import prepare_data
from halsted_ray.evaluation.evaluation_plan import EvaluationPlan
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Video, WindowSpec
from halsted_ray.registry.held_out import HeldOutBenchmark
from halsted_ray.storage.locations import filesystem
from halsted_ray.training.atlas_samples import load_samples
from halsted_ray.training.embed_atlas import embed_atlas
from halsted_ray.training.recipe import BEST, PAPER
from halsted_ray.video.identity import video_id

ENCODER = "random:tiny:0"
SPEC = WindowSpec(5, 2.5)
DURATION_S = 12.0
OPERATION = {"specialty": "Urology", "procedure": "Prostatectomy"}


@pytest.fixture(scope="module")
def atlas(tmp_path_factory) -> str:
    """Four videos: one per part of the split, and one without annotations."""
    root = tmp_path_factory.mktemp("atlas")
    videos, clips, split = [], [], {}
    for look, part in enumerate(("train", "validation", "test", "train")):
        path = Path(small_video.write(root / "videos" / f"{look}.mp4", DURATION_S, fps=10, look=look))
        name = video_id(*filesystem(path))
        videos.append(Video(name, str(path), path.stat().st_size, DURATION_S, 96, 64, 10.0, "mpeg4"))
        split[name] = part
        if look < 3:
            clips += [
                Clip(name, 0.0, 5.5, "macro", OPERATION | {"step": "Suturing"}),
                Clip(name, 5.5, DURATION_S, "macro", OPERATION | {"step": "Dissection"}),
                Clip(name, 6.0, 9.0, "micro", {"action": "Tug", "arm": "Left", "instrument": "Shears"}),
            ]
    write_atlas(str(root), videos, clips, "small", split=split)
    return str(root)


@pytest.fixture(params=[PAPER, BEST], ids=["paper", "best"])
def recipe(request):
    return request.param


def test_training_evaluation_and_promotion_decode_nothing_afterwards(atlas, recipe, tmp_path, monkeypatch):
    place = str(tmp_path)
    summary = embed_atlas(atlas, ENCODER, recipe, spec=SPEC, embeddings=place)
    assert summary.exit_code == 0 and summary.videos == 3
    clips, grid, shifted = 3, 3 + 5, 2 + 4  # coarse and fine windows of 12 s; those that begin 1.25 s later, whole
    assert summary.windows_made == summary.windows == 3 * (clips + grid + shifted * (recipe is BEST))

    monkeypatch.setattr(embed, "embed_segments", lambda *_, **__: pytest.fail("decoded for nothing"))
    source, identity = read_atlas(atlas), encoder_identity(ENCODER)
    taxonomy = source.load_taxonomy()
    model = Halsted.create(
        taxonomy,
        identity.dim,
        encoder_ref=ENCODER,
        encoder_fingerprint=identity.fingerprint,
        heads=4,
        width=64,
        windows=SPEC,
    )
    samples = load_samples(
        source, source.split, taxonomy, recipe, SPEC, identity, place, parts=("train", "validation", "test")
    )
    assert all(len(of_part) for of_part in samples.values())
    data = prepare_data(
        source,
        taxonomy,
        recipe,
        EvaluationPlan(baselines=()),
        identity,
        model.config,
        place,
        [video.video_id for video in source.videos],
        None,
    )
    assert len(data.training) and len(data.testing)
    held_out = HeldOutBenchmark.of(source, SPEC, place)
    assert held_out.measure(model, None).predictions

    again = embed_atlas(atlas, ENCODER, recipe, spec=SPEC, embeddings=place)
    assert (again.windows_made, again.windows_before) == (0, summary.windows)


def test_the_command_takes_a_place_with_an_atlas_for_an_atlas(atlas, capsys):
    assert main(["embed", atlas, "--encoder", ENCODER, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["videos"], told["windows"], told["windows_made"]) == (3, 3 * (3 + 1 + 5), 3 * (3 + 1 + 5))
    assert (Path(atlas) / "embeddings" / encoder_identity(ENCODER).fingerprint).is_dir(), "where training looks"
    assert main(["embed", atlas, "--encoder", ENCODER]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["3 videos; 27 windows: 27 stored before, 0 made", "nothing was left to do"]


def test_a_video_that_is_gone_is_told_by_id_and_the_others_are_done(atlas, tmp_path, capsys):
    source = read_atlas(atlas)
    videos = [replace(source.videos[0], uri=str(tmp_path / "Jane Doe.mp4")), *source.videos[1:]]
    write_atlas(str(tmp_path), videos, list(source.clips), "gone", split=dict(source.split))
    assert main(["embed", str(tmp_path), "--encoder", ENCODER]) == 3
    shown = capsys.readouterr()
    gone = videos[0].video_id
    lacking = 9 if any(clip.video_id == gone for clip in source.clips) else 0
    assert lacking and f"{gone} {lacking} windows without a vector: " in shown.out
    assert "3 videos; 27 windows: 0 stored before, 18 made" in shown.out and "Doe" not in shown.out + shown.err
    with pytest.raises(AtlasError, match=f"video {gone}.*restore the file"):
        load_samples(
            read_atlas(str(tmp_path)),
            {video.video_id: "train" for video in videos},
            source.load_taxonomy(),
            PAPER,
            WindowSpec(),
            encoder_identity(ENCODER),
            f"{tmp_path}/embeddings",
            parts=("train",),
        )


@pytest.mark.parametrize(
    "words, said",
    [
        (["--every", "15"], "--every is for an archive"),
        (["--retry-failed"], "--retry-failed is for an archive"),
        (["--recipe", "thesis"], "expected one of paper, demo"),
        (["--set", "layer=3"], "expected NAME=VALUE"),
        (["--release", "smal"], "did you mean 'small'"),
    ],
)
def test_wrong_use_is_one_message_and_code_2(atlas, capsys, words, said):
    assert main(["embed", atlas, "--encoder", ENCODER, *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("halsted embed: ") and said in shown.err
    assert shown.err.count("\n") == 1
