"""Rare categories become conditions, conditions become videos, and videos become samples with the source ``synthetic``.

The same atlas and arguments give the same files. A video's name is computed from its condition, so a second run makes
only the videos that are missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from halsted_ray.atlas.atlas_table import read_atlas
from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats import jsonl
from halsted_ray.atlas.formats.recording import write_text
from halsted_ray.atlas.rendered_videos import refuse_other_videos, rendered_video, rendering_folder
from halsted_ray.errors import UsageError
from halsted_ray.phantom import catalogue
from halsted_ray.phantom.write import write_frames
from halsted_ray.records import SYNTHETIC, Clip, Video, digest
from halsted_ray.storage.files import require_writable
from halsted_ray.synthesis import phantom_generator
from halsted_ray.synthesis.condition import Condition, Example, Generator, wandering_path
from halsted_ray.synthesis.generators import PHANTOM, load_generator
from halsted_ray.synthesis.rarest import samples_by_category, training_clips

SYNTHESIS_VERSION = 1
"""Goes up by one when the same condition gives other pictures, so that old files are not mistaken for new files."""
SHORTEST_S, LONGEST_S = 6.0, 12.0
"""How long a clip is."""
ANNOTATIONS = "samples.jsonl"
CONDITIONS = "conditions.json"


@dataclass(frozen=True)
class Synthesis:
    """What was made. ``training``: category of the tag → its samples in the training part, the rarest first.
    ``clips``: one per video, each the whole of it."""

    tag: str
    training: Mapping[str, int]
    videos: tuple[Video, ...]
    clips: tuple[Clip, ...]
    annotations: str
    """Where the samples are written; `halsted atlas import` reads them (``--format jsonl``)."""

    @property
    def drawn(self) -> dict[str, int]:
        """Category → number of clips that were made of it."""
        made = [clip.tags[self.tag] for clip in self.clips]
        return {name: made.count(name) for name in self.training if name in made}


def synthesize(
    atlas: str,
    out: str,
    *,
    release: str | None = None,
    tag: str = "action",
    rarest: int = 3,
    per_category: int = 8,
    seed: int = 0,
    generator: str = PHANTOM,
    width: int = 640,
    height: int = 360,
    fps: float = 25,
    progress: Callable[[int, int], None] | None = None,
) -> Synthesis:
    """Makes ``per_category`` clips of each of the ``rarest`` categories of ``tag`` in the atlas at ``atlas``.

    They go to ``<out>/videos``, their samples to ``<out>/samples.jsonl``, and what each was made from to
    ``<out>/conditions.json``. ``release``: as of ``read_atlas``. ``generator``: ``phantom``, or
    ``package.module:function`` of an installed package (``condition.Generator``). ``progress`` is called with (clips
    made, all clips).

    Only the training part is looked at. Raises AtlasError where there is none, TaxonomyError for an unknown tag,
    UsageError for a category that the phantom can't draw and for a generator that breaks its promise, OutputError.
    """
    made_by = load_generator(generator, (atlas, out))
    source = read_atlas(atlas, release)
    wanted = conditions_like_rare(
        source,
        tag,
        rarest,
        per_category,
        seed,
        is_phantom=generator == PHANTOM,
        width=width,
        height=height,
        fps=fps,
    )
    require_writable(out)
    return write_clips(source, tag, wanted, out, made_by, generator, progress)


def conditions_like_rare(
    source: Atlas,
    tag: str,
    rarest: int,
    per_category: int,
    seed: int,
    *,
    is_phantom: bool = True,
    width: int = 640,
    height: int = 360,
    fps: float = 25,
) -> list[Condition]:
    """The conditions of ``per_category`` clips of each of the ``rarest`` categories of ``tag``.

    The phantom's clips show tags that go together in its catalogue; those of another generator have the tags of a
    training sample of the category. The scenes take turns through the procedures of the training part. Raises
    AtlasError, TaxonomyError, UsageError.
    """
    if rarest < 1 or per_category < 1 or seed < 0:
        raise UsageError(
            f"rarest={rarest}, per_category={per_category}, seed={seed}: expected 1 or more, seed 0 or more"
        )
    if width % 2 or height % 2 or min(width, height) < 2 or fps <= 0:
        raise UsageError(f"width={width}, height={height}, fps={fps}: expected even sides and a rate above 0")
    task = source.load_taxonomy().task_of_tag(tag).name
    rare = list(samples_by_category(source, tag))[:rarest]
    undrawn = [name for name in rare if is_phantom and not phantom_generator.can_draw(task, tag, name)]
    if undrawn:
        raise UsageError(
            f"the phantom can't draw {', '.join(undrawn)} of the tag {tag!r} (taxonomy {source.taxonomy!r}); it "
            "draws actions and phases of Halsted's own taxonomy: name another --tag, or a generator of your own "
            "(--generator package.module:function)"
        )
    learned = training_clips(source, tag)
    procedures = tuple(sorted({clip.procedure for clip in learned if clip.procedure}))
    uri_of = {video.video_id: video.uri for video in source.videos}
    found = []
    for category in rare:
        examples = [clip for clip in learned if clip.tags[tag] == category]
        for number in range(per_category):
            own_seed = int(digest("synthetic", seed, tag, category, number), 16) % 2**31
            rng = np.random.default_rng(own_seed)
            duration_s = round(float(rng.uniform(SHORTEST_S, LONGEST_S)), 2)
            like = examples[int(rng.integers(len(examples)))] if examples else None
            if is_phantom:
                tags = phantom_generator.drawn_tags(task, tag, category, rng)
                homes = phantom_generator.fitting_procedures(tags, procedures)
                procedure = homes[number % len(homes)]
                event = phantom_generator.event_of(tags, task, procedure, duration_s, own_seed)
                path = phantom_generator.drawn_path(event, rng)
            else:
                tags = dict(like.tags) if like else {tag: category}
                procedure = procedures[number % len(procedures)] if procedures else ""
                path = wandering_path(rng, duration_s)
            found.append(
                Condition(
                    tag,
                    category,
                    task,
                    tuple(sorted(tags.items())),
                    procedure,
                    int(rng.integers(2**31)),
                    path,
                    duration_s,
                    width,
                    height,
                    float(fps),
                    own_seed,
                    Example(like.video_id, uri_of[like.video_id], like.start_s, like.stop_s) if like else None,
                )
            )
    return found


def write_clips(
    source: Atlas,
    tag: str,
    conditions: Sequence[Condition],
    out: str,
    generator: Generator,
    named: str = PHANTOM,
    progress: Callable[[int, int], None] | None = None,
) -> Synthesis:
    """Writes a video of each condition, and the samples; see ``synthesize``. ``named``: the generator's name, which
    becomes the annotator."""
    names = [video_name(condition, named) for condition in conditions]
    refuse_other_videos(out, set(names))
    videos, clips = [], []
    with rendering_folder(out) as folder:
        for name, condition in zip(names, conditions, strict=True):
            video = write_clip(out, name, condition, generator, folder, named)
            videos.append(video)
            specialty = catalogue.SPECIALTY_OF.get(condition.procedure, "")
            clips.append(
                Clip(
                    video.video_id,
                    0.0,
                    min(condition.duration_s, video.duration_s),
                    condition.task,
                    dict(condition.tags),
                    SYNTHETIC,
                    named,
                    specialty=specialty,
                    procedure=condition.procedure,
                )
            )
            if progress:
                progress(len(videos), len(conditions))
    made = replace(source, root=out, release="", split={}, videos=tuple(videos), clips=tuple(clips))
    (written,) = jsonl.write(made, out)
    stated = {"generator": named, "atlas": source.name, "version": source.version, "clips": {}}
    stated["clips"] = {
        video.video_id: {**told(condition), "file": f"videos/{name}"}
        for name, video, condition in zip(names, videos, conditions, strict=True)
    }
    write_text(out, CONDITIONS, json.dumps(stated, ensure_ascii=False, indent=1))
    return Synthesis(tag, samples_by_category(source, tag), tuple(videos), tuple(clips), written)


def told(condition: Condition) -> dict[str, object]:
    """A condition as JSON values, without the uri of its example, which can contain a patient's name."""
    values = asdict(condition)
    if condition.example:
        del values["example"]["uri"]
    return values


def video_name(condition: Condition, named: str) -> str:
    """The file name of a clip, computed from everything that decides its pixels, and from its generator."""
    return f"{digest(SYNTHESIS_VERSION, named, told(condition))}.mp4"


def write_clip(out: str, name: str, condition: Condition, generator: Generator, folder: str, named: str) -> Video:
    """One file, unless it is there already; what it is, by its own bytes. Raises UsageError, OutputError."""

    def write(path: str) -> None:
        images = checked(condition, generator, named)
        write_frames(path, images, condition.width, condition.height, condition.rate)

    return rendered_video(out, name, folder, write)


def checked(condition: Condition, generator: Generator, named: str) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames that ``generator`` makes of ``condition``. Raises UsageError where it fails or breaks its
    promise."""
    at = f"generator {named!r}, category {condition.category!r}, seed {condition.seed}"
    shape = (condition.height, condition.width, 3)
    expected = f"expected {condition.frames} frames, each uint8 {list(shape)} RGB"
    count = 0
    try:
        for made in generator(condition):
            image = np.asarray(made)
            if image.shape != shape or image.dtype != np.uint8:
                raise UsageError(f"{at}: got a frame {image.dtype} {list(image.shape)}; {expected}")
            count += 1
            if count > condition.frames:
                break
            yield image
    except UsageError:
        raise
    except Exception as error:  # a user's own code may raise anything
        raise UsageError(f"{at}: it failed with {type(error).__name__}: {error}") from error
    if count != condition.frames:
        got = "more frames" if count > condition.frames else f"{count} frames"
        raise UsageError(f"{at}: got {got}; {expected}")
