"""One benchmark, from a folder as it is published to our row: videos, vectors, scores, figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halsted_ray import taxonomy
from halsted_ray.benchmarks.benchmark import Benchmark, read_sentences
from halsted_ray.benchmarks.data_set import DataSet, LabelledVideo
from halsted_ray.benchmarks.figures import Figures, figures_of
from halsted_ray.benchmarks.labelled import JudgedFrames, judged_frames, look_at
from halsted_ray.benchmarks.leaks import Leak, find_leak, require_no_leak, shared_recordings, taught_videos
from halsted_ray.benchmarks.parts import parts_of
from halsted_ray.benchmarks.published_files import annotation_files, find_media, labels_of, layout_of, read_video
from halsted_ray.embedding.embed import EmbedProgress
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.language.contrast_model import VideoTextModel
from halsted_ray.language.few_shot import linear_probe
from halsted_ray.language.prompts import LabelPrompts
from halsted_ray.language.text_encoder import load_text_encoder
from halsted_ray.model.encoder_identity import encoder_identity
from halsted_ray.records import WindowSpec

ZERO_SHOT, LINEAR = PROBES = ("zero-shot", "linear")


@dataclass(frozen=True)
class Choices:
    """What a person chose for a run.

    ``model``: of video and text; None: the encoder's own vectors, for the linear probe alone. ``encoder``: where the
    encoder lies, '' for the model's own. ``named``: part → file with the names of its videos. ``labels``: a file of
    sentences. ``atlases``: that hold the videos that the model learned from. ``embeddings``: where vectors are kept, ''
    for ``FOLDER/embeddings``.
    """

    model: VideoTextModel | None = None
    encoder: str = ""
    probe: str = ZERO_SHOT
    text_encoder: str = ""
    videos: str = ""
    named: Mapping[str, str] | None = None
    labels: str = ""
    atlases: Sequence[str] = ()
    allow_leak: bool = False
    embeddings: str = ""


@dataclass(frozen=True)
class BenchmarkRun:
    """What a run found. ``missing``: video of a part that is needed → why it was not judged or learned from.
    ``differs``: sentences on what is not as published."""

    benchmark: Benchmark
    probe: str
    model: str
    figures: Figures
    labels: tuple[str, ...]
    videos: int
    of_videos: int
    frames: int
    left_out: int
    missing: Mapping[str, str]
    leak: Leak
    differs: tuple[str, ...]


def run_benchmark(
    benchmark: Benchmark, folder: str, choices: Choices, on_embed: EmbedProgress | None = None
) -> BenchmarkRun:
    """Judges a model on the videos of the test part that are in ``folder``, by the benchmark's metric.

    Raises AtlasError for a folder of another layout, without a video of the split, or with annotations that can't be
    read; UsageError for a split that must be named, a leak, or choices that do not fit; ModelError.
    """
    model = choices.model
    if model is None and (choices.probe == ZERO_SHOT or not choices.encoder):
        raise UsageError(
            "name a model of video and text with --model; an --encoder alone can be judged with --probe linear"
        )
    identity = encoder_identity(choices.encoder or (model.config.encoder_ref if model else ""))
    if model is not None:
        model.check(identity.fingerprint)
    spec = model.config.windows if model is not None else identity.windows()
    data = DataSet(folder, benchmark.target, benchmark.within, videos=choices.videos)
    files = annotation_files(data, benchmark.layout)
    parts = parts_of(benchmark, data, files, choices.named or {})
    needed = PARTS_OF_PROBE[choices.probe]
    if "test" not in parts:
        raise AtlasError(
            f"{data.folder}: its files name no test video of {benchmark.name}; fetch those of its test part"
        )
    if choices.probe == LINEAR and "train" not in parts:
        raise UsageError("the linear probe needs videos to learn from; name them with --train FILE")
    labels = tuple(benchmark.labels) or tuple(labels_of(data, benchmark.layout))
    if len(labels) < 2:
        raise AtlasError(f"{data.folder}: its files name {len(labels)} labels; expected two or more to choose from")
    if choices.labels:
        sentences = read_sentences(choices.labels, labels)
    else:
        sentences = dict(benchmark.labels) or own_names(labels, layout_of(benchmark.layout).descriptions(data))

    missing: dict[str, str] = {}
    labelled: dict[str, list[LabelledVideo]] = {}
    for part in needed:
        labelled[part] = []
        for name in parts.get(part, ()):
            media = find_media(data, benchmark.layout, name)
            if name not in files or media is None:
                missing[name] = "no annotations" if name not in files else "no video or pictures"
            else:
                labelled[part].append(read_video(data, benchmark.layout, name, files[name], media, labels))
    looked = look_at([video for own in labelled.values() for video in own])
    missing |= looked.unreadable
    labelled = {part: [v for v in own if v.name not in looked.unreadable] for part, own in labelled.items()}
    for part in needed:
        if parts.get(part) and not labelled[part]:
            raise AtlasError(
                f"{data.folder}: none of the {len(parts[part])} videos of the {part} part is here, such as "
                f"{parts[part][0]!r} ({missing[parts[part][0]]}); name the folder of the data set, and the place of "
                "its videos with --videos"
            )
    test_ids = {v.name: looked.videos[v.name].video_id if v.name in looked.videos else "" for v in labelled["test"]}
    learned = model.config.learned_from if model is not None else None
    version = model.config.atlas_version if model is not None else None
    leak = find_leak(benchmark, test_ids, learned, taught_videos(choices.atlases, version))
    if not choices.allow_leak:
        require_no_leak(benchmark, leak)

    embeddings = choices.embeddings or f"{data.folder}/embeddings"
    judged = {
        part: judged_frames(own, looked, labels, identity, spec, embeddings, on_embed)
        for part, own in labelled.items()
        if own
    }
    test = judged["test"]
    if choices.probe == LINEAR:
        scores_NK = linear_scores(judged, model, benchmark.is_multi_label)
    else:
        assert model is not None
        texts = load_text_encoder(choices.text_encoder or model.config.text_ref or None)
        prompts = LabelPrompts("", "", benchmark.sentences(sentences), benchmark.is_multi_label)
        clips_MD = model.embed_clips([vector_D[None] for vector_D in test.vectors_MD])
        scores_NK = (clips_MD @ prompts.vectors(model, texts).T)[test.window_N]
    return BenchmarkRun(
        benchmark,
        choices.probe,
        f"{model.config.name} {model.config.version}" if model is not None else f"encoder {identity.ref}",
        figures_of(scores_NK, test, benchmark.metric, benchmark.segments, list(labels)),
        labels,
        len(test.videos),
        len(parts["test"]),
        len(test.truth_NK),
        test.left_out,
        missing,
        leak,
        differences(benchmark, choices, labels, spec, labelled["test"], test),
    )


PARTS_OF_PROBE = {ZERO_SHOT: ("test",), LINEAR: ("train", "validation", "test")}
"""Probe → the parts whose videos it needs; a split may be without a validation part."""


def own_names(labels: Sequence[str], descriptions: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Each label's description as its sentence, else the label itself without the joints of names and the numbers of
    steps (``s18_gastrojejunal_stapling``); in small letters."""
    said = {label: descriptions.get(label, re.sub(r"^s\d+_", "", label)) for label in labels}
    return {label: (text.replace("_", " ").replace(", ", " ").lower(),) for label, text in said.items()}


def unlike_vocabulary(benchmark: Benchmark, labels: Sequence[str]) -> list[str]:
    """A sentence where the data set's files name labels that its taxonomy does not have."""
    if not benchmark.vocabulary:
        return []
    name, tag = benchmark.vocabulary.split("/")
    unlike = [label for label in labels if label not in taxonomy.load(name).tag(tag).categories]
    are = "1 label is" if len(unlike) == 1 else f"{len(unlike)} labels are"
    return [f"{are} not in the taxonomy {name!r}, such as {unlike[0]!r}."] if unlike else []


def linear_scores(judged: Mapping[str, JudgedFrames], model: VideoTextModel | None, is_multi_label: bool) -> np.ndarray:
    """Scores [N, K] of the test frames, of a logistic regression on the train frames. The validation frames choose the
    penalty, where the split has some."""
    mean_D = judged["train"].vectors_MD.mean(0, dtype=np.float64)
    deviation_D = np.maximum(judged["train"].vectors_MD.std(0, dtype=np.float64), 1e-6)

    def vectors(frames: JudgedFrames) -> np.ndarray:
        if model is not None:
            own_MD = model.embed_clips([vector_D[None] for vector_D in frames.vectors_MD])
        else:  # numbers as of vectors of length 1, as the probe expects them
            own_MD = ((frames.vectors_MD - mean_D) / deviation_D / np.sqrt(len(mean_D))).astype(np.float32)
        return own_MD[frames.window_N]

    train, test, validation = judged["train"], judged["test"], judged.get("validation")
    chosen = None if validation is None else (vectors(validation), validation.truth_NK)
    learn = linear_probe(vectors(test), chosen, is_multi_label)
    return learn(vectors(train), train.truth_NK, 0)


def differences(
    benchmark: Benchmark,
    choices: Choices,
    labels: Sequence[str],
    spec: WindowSpec,
    labelled: Sequence[LabelledVideo],
    test: JudgedFrames,
) -> tuple[str, ...]:
    """Sentences on what is not as published."""
    said = list(benchmark.protocol)
    if choices.named:
        said.append("The split is the one that was named with --test, not one that is known here.")
    if choices.probe == LINEAR:
        said.append(
            "The published rows saw no label of this data set (zero-shot); this row's classifier saw the train part."
        )
    if choices.labels:
        said.append("The sentences of the labels are your own.")
    said += unlike_vocabulary(benchmark, labels)
    said.append(f"A frame has the answer of the {spec.fine_s:g}-second window of the grid that holds it.")
    for per_s in sorted({video.media.per_s for video in labelled if video.media.pictures}):
        said.append(
            f"Pictures at {per_s:g} per second: each of the {spec.frames} times of a window has the last one before it."
        )
    return (*said, *shared_recordings(benchmark, test.videos))
