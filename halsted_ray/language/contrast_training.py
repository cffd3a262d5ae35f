"""A whole training run of video and text, from an atlas with captions to a model in a folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from halsted_ray.atlas import Atlas, read_atlas
from halsted_ray.atlas.captions import captions_digest, captions_for_training
from halsted_ray.atlas.split import split_of
from halsted_ray.compute.cluster import connected
from halsted_ray.compute.devices import WorkerRequest, cluster_gpus
from halsted_ray.embedding.embed import EmbedProgress
from halsted_ray.errors import AtlasError
from halsted_ray.language.captioned_clips import CaptionedClips, load_captioned_clips
from halsted_ray.language.contrast_model import VideoTextConfig
from halsted_ray.language.contrast_recipe import ContrastRecipe
from halsted_ray.language.contrast_trainer import RECALL, contrast_trainer, new_model
from halsted_ray.language.text_encoder import TextEncoder, load_text_encoder
from halsted_ray.model.encoder_identity import EncoderIdentity, encoder_identity
from halsted_ray.records import Caption, WindowSpec, digest
from halsted_ray.storage.files import require_writable
from halsted_ray.storage.locations import absolute_location
from halsted_ray.training import loop
from halsted_ray.training.epoch_record import EpochRecord
from halsted_ray.training.run_record import finished_run, sole_run, write_run
from halsted_ray.training.train import TrainingPlan, cores_of_worker, require_validation

PARTS = ("train", "validation")


@dataclass(frozen=True)
class ContrastSummary:
    """What a run made, and from what. ``recall_at_5`` is text to clip on the validation captions, at the epoch that was
    kept; ``chance`` what a random order of the same clips reaches."""

    model: str
    model_version: str
    atlas_release: str
    atlas_version: int
    videos: dict[str, int]
    captions: dict[str, int]
    """Part of the split → number of captions."""
    parameters: int
    epochs: int
    best_epoch: int
    """The epoch that was kept, counted from 0."""
    recall_at_5: float
    chance: float
    temperature: float
    embed_s: float
    train_s: float
    workers: int = 1
    device: str = "cpu"
    curve: list[EpochRecord] = field(default_factory=list)

    def verdict(self) -> str:
        """Says in words where nothing was learned; empty where the model is better than chance."""
        if self.recall_at_5 > 2 * self.chance:
            return ""
        return (
            f"sentences find their clips no better than by chance (recall@5 {self.recall_at_5:.3f}, chance "
            f"{self.chance:.3f}); don't use the model: add captions, or train longer (--set epochs=N)"
        )


def train_contrast(
    atlas: str,
    out: str,
    recipe: ContrastRecipe | None = None,
    *,
    encoder: str = "tiny",
    text_encoder: str | None = None,
    spec: WindowSpec | None = None,
    release: str | None = None,
    embeddings: str | None = None,
    workers: int | None = None,
    gpus: int | None = None,
    on_start: Callable[[TrainingPlan], None] = lambda plan: None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_restored: Callable[[EpochRecord], None] | None = None,
    on_embed: EmbedProgress | None = None,
) -> ContrastSummary:
    """Trains a model of video and text on the captions of the atlas at ``atlas``; leaves it in ``<out>/model``.

    Both encoders stay frozen: ``encoder`` gives the vectors of windows, which are kept in ``embeddings`` (default
    ``<atlas>/embeddings``) and used where they are there; ``text_encoder`` is a folder, None the default. The other
    arguments are those of ``training.train.train``. The same call goes on with a run that was killed, and answers at
    once when the run is finished.

    Raises AtlasError (no captions, none in a part of the split), ModelError, OutputError (``out`` holds another run),
    ResourceError, TrainingError, UsageError.
    """
    recipe = recipe or ContrastRecipe()
    request = WorkerRequest(workers, gpus)
    source = read_atlas(atlas, release)
    captions = captions_for_training(source, recipe.kinds, recipe.levels)
    split = split_of(source)
    require_validation(source, split)
    of_part = {part: captions_of_part(source, captions, split, part) for part in PARTS}
    texts, frozen = load_text_encoder(text_encoder), encoder_identity(encoder)
    spec = frozen.windows(spec)
    run_id = digest(
        {**asdict(recipe), "levels": list(recipe.levels), "kinds": list(recipe.kinds)},
        source.content_digest,
        captions_digest(captions),
        frozen.fingerprint,
        texts.fingerprint,
        asdict(spec),
        split,
    )
    root = absolute_location(out)
    taxonomy, model_folder = source.load_taxonomy(), f"{root}/model"
    on_start(
        TrainingPlan(run_id, source, split, taxonomy, recipe, spec, encoder, frozen.fingerprint, workers, model_folder)
    )
    if done := finished_run(out, run_id, ContrastSummary):
        return done
    require_writable(out)
    with sole_run(out) as lease:
        started_s = time.monotonic()
        vectors = embeddings or f"{atlas.rstrip('/')}/embeddings"
        clips = load_parts(source, of_part, frozen, texts, spec, vectors, on_embed)
        config = VideoTextConfig(
            encoder_ref=encoder,
            encoder_fingerprint=frozen.fingerprint,
            encoder_dim=frozen.dim,
            text_ref=text_encoder or "",
            text_fingerprint=texts.fingerprint,
            text_width=texts.width,
            dim=recipe.dim,
            hidden=recipe.hidden,
            dropout=recipe.dropout,
            version=run_id,
            atlas_release=source.name,
            atlas_version=source.version,
            windows=spec,
            learned_from={part: list(own.video_ids) for part, own in clips.items()},
        )
        embed_s, started_s = time.monotonic() - started_s, time.monotonic()
        paths = {part: f"{root}/samples/{run_id}-{part}.safetensors" for part in PARTS}
        for part, path in paths.items():
            clips[part].save(path)
        with connected() as (_, free_gpus, cores):
            workers, use_gpu = request.on(cluster_gpus(), free_gpus)
            fitted = loop.fit_module(
                contrast_trainer,
                {**paths, "model": config, "recipe": recipe},
                name=run_id,
                storage=f"{root}/checkpoints",
                workers=workers,
                cores=cores_of_worker(cores, workers),
                use_gpu=use_gpu,
                on_epoch=on_epoch,
                on_restored=on_restored,
            )
        lease.check()
        return keep_run(out, config, recipe, clips, fitted, (embed_s, started_s), workers, "cuda" if use_gpu else "cpu")


def captions_of_part(source: Atlas, captions: list[Caption], split: dict[str, str], part: str) -> list[Caption]:
    """The captions of the videos of one part. Raises AtlasError where there is none."""
    own = [caption for caption in captions if split.get(caption.video_id) == part]
    if not own:
        raise AtlasError(
            f"the atlas {source.name!r} has no captions in its {part!r} part ({len(captions):,} in all); give its "
            "split a captioned video there"
        )
    return own


def load_parts(
    source: Atlas,
    of_part: dict[str, list[Caption]],
    frozen: EncoderIdentity,
    texts: TextEncoder,
    spec: WindowSpec,
    embeddings: str,
    on_embed: EmbedProgress | None,
) -> dict[str, CaptionedClips]:
    """Part of the split → its captions with their vectors."""
    return {
        part: load_captioned_clips(source, own, frozen, texts, spec, embeddings, on_embed)
        for part, own in of_part.items()
    }


def keep_run(
    out: str,
    config: VideoTextConfig,
    recipe: ContrastRecipe,
    clips: dict[str, CaptionedClips],
    fitted: loop.FitResult,
    times_s: tuple[float, float],
    workers: int,
    device: str,
) -> ContrastSummary:
    """Saves the model and the run's record; returns the summary. ``times_s``: seconds of embedding, start of
    training."""
    root = absolute_location(out)
    model = new_model(config, clips["train"], recipe.seed)
    model.load_state_dict(fitted.tensors)
    best_epoch = fitted.progress.best_epoch
    assert best_epoch is not None, "the last epoch is always validated, and the first validation always kept"
    figures = fitted.progress.curve[best_epoch]["accuracy_of_task"]
    summary = ContrastSummary(
        model=f"{out.rstrip('/')}/model",
        model_version=config.version,
        atlas_release=config.atlas_release,
        atlas_version=config.atlas_version or 0,
        videos={part: len(own.video_ids) for part, own in clips.items()},
        captions={part: len(own) for part, own in clips.items()},
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        epochs=recipe.epochs,
        best_epoch=best_epoch,
        recall_at_5=figures[RECALL] or 0.0,
        chance=figures["chance"] or 0.0,
        temperature=model.temperature,
        embed_s=times_s[0],
        train_s=time.monotonic() - times_s[1],
        workers=workers,
        device=device,
        curve=fitted.progress.curve,
    )
    model.save(f"{root}/model")
    write_run(out, config.version, recipe=asdict(recipe), summary=asdict(summary))
    return summary
