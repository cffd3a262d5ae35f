"""Test data: an atlas whose stored vectors tell their tags, and models that have learned them or not. Has no videos."""

from collections.abc import Sequence

import numpy as np
import torch

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas import read_atlas, write_atlas
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.halsted import Halsted
from halsted_ray.records import Clip, Video, WindowSpec
from halsted_ray.storage.vectors import VectorStore, sampling_name
from halsted_ray.training.atlas_samples import JUDGED, labelled_windows

ENCODER = "random:tiny:0"
SPEC = WindowSpec(coarse_s=5.0, fine_s=2.5)
HALSTED = taxonomies.load()
OPERATIONS = (("Urology", "Prostatectomy"), ("Gynecology", "Hysterectomy"))
PARTS = ("train", "validation", "test", "test", "test")
ACTIONS = ("Tug", "Hook", "Retraction")
Key = tuple[str, float, float]
"""A window: (kind, start_s, stop_s)."""
Answers = dict[str, dict[str, str]]
"""Task to tag to category."""


def write_archive(root: str) -> None:
    """Writes an atlas of five videos of 20 s without files, and stores their vectors.

    One video is for training, one for validation, three are for testing.
    """
    videos, clips, split = [], [], {}
    for number, part in enumerate(PARTS):
        video_id = f"{number:x}" * 16
        specialty, procedure = OPERATIONS[number % 2]
        videos.append(Video(video_id, f"{root}/{number}.mp4", 1, 20.0, 112, 112, 10.0, "h264"))
        split[video_id] = part
        operation = {"specialty": specialty, "procedure": procedure}
        clips += [
            Clip(video_id, 0.0, 10.0, "macro", operation | {"step": "Suturing"}),
            Clip(video_id, 10.0, 20.0, "macro", operation | {"step": "Dissection"}),
        ]
        clips += [
            Clip(video_id, 10.0 + 2.5 * n, 12.5 + 2.5 * n, "micro", {"action": ACTIONS[(n + number) % 3]})
            for n in range(4)
        ]
    write_atlas(root, videos, clips, "hsa-v1", split=split, reason="first annotated videos")
    encoder = Encoder.load(ENCODER)
    store = VectorStore(f"{root}/embeddings", encoder.fingerprint, sampling_name(SPEC, "reference"))
    for video_id in split:
        store.put(video_id, 0.0, 120.0, {key: vector for key, (vector, _) in windows_of(root, video_id).items()})


def windows_of(root: str, video_id: str) -> dict[Key, tuple[np.ndarray, Answers]]:
    """Returns the vector (float16 [192]) and the answers of each labelled window of a video."""
    atlas = read_atlas(root)
    labelled = labelled_windows(atlas, atlas.split[video_id], atlas.split, HALSTED, JUDGED, SPEC)[video_id]
    answers: dict[Key, Answers] = {}
    for sample in labelled:
        window = sample.window
        answers.setdefault((window.kind, window.start_s, window.stop_s), {})[sample.task] = dict(sample.tags)
    return {key: (vector_of(video_id, key, tasks), tasks) for key, tasks in answers.items()}


def vector_of(video_id: str, key: Key, tasks: Answers) -> np.ndarray:
    """Returns the sum of one direction per (tag, category) of the answers, with some noise."""
    rng = np.random.default_rng(int(video_id[0], 16) * 1000 + int(key[1] * 10) + (key[0] == "fine"))
    parts = [category for tags in tasks.values() for category in tags.items()]
    directions = [np.random.default_rng(sum(map(ord, tag + name))).normal(size=192) for tag, name in parts]
    return (np.sum(directions, 0) + 0.1 * rng.normal(size=192)).astype(np.float16)


def make_model(
    root: str,
    folder: str,
    version: str,
    steps: int,
    width: int = 32,
    more: Sequence[tuple[np.ndarray, str, dict[str, str]]] = (),
) -> Halsted:
    """Trains a model for ``steps`` steps on all windows of the atlas, saves it to ``folder`` and returns it.

    After 0 steps it knows nothing, after 60 nearly everything. ``more``: further (vector, task, tags) to learn.
    """
    encoder, atlas = Encoder.load(ENCODER), read_atlas(root)
    model = Halsted.create(
        HALSTED,
        encoder.dim,
        encoder_ref=ENCODER,
        encoder_fingerprint=encoder.fingerprint,
        layers=1,
        heads=2,
        width=width,
        version=version,
        atlas_release=atlas.release,
        atlas_version=atlas.version,
        windows=SPEC,
        dropout=0.0,
        seed=len(version),
    )
    rows = [
        (vector, task, tags)
        for video_id in atlas.split
        for vector, tasks in windows_of(root, video_id).values()
        for task, tags in tasks.items()
    ]
    rows += more
    vectors = torch.from_numpy(np.stack([vector for vector, _, _ in rows])).float()
    model.decoder.fit_features(vectors)
    targets = model.targets([task for _, task, _ in rows], [tags for _, _, tags in rows])
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(vectors, *targets).backward()
        optimizer.step()
    model.save(folder)
    return model
