"""Renders a synthetic archive in parallel and writes its truth as an atlas.

The same arguments give the same files. A video's name is computed from everything that decides its pixels, so a second
run renders only the videos that are missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas.atlas_table import read_atlas, write_atlas
from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.rendered_videos import refuse_other_videos, rendered_video, rendering_folder
from halsted_ray.atlas.split import split_by_video
from halsted_ray.errors import OutputError, UsageError
from halsted_ray.phantom import catalogue
from halsted_ray.phantom.captions import captions_of
from halsted_ray.phantom.interruptions import Interruption, inside_clips, make_interruptions, outside_spans
from halsted_ray.phantom.script import STEPS, Script, make_script
from halsted_ray.phantom.write import write_video
from halsted_ray.processes import process_pool
from halsted_ray.records import Caption, Clip, Video, digest
from halsted_ray.storage.delta import is_table, table_uri

PHANTOM_VERSION = 1
"""Goes up by one when the phantom's pixels change, so that old files are not mistaken for new files."""
PLAIN, SHIFTED = DOMAINS = ("plain", "shifted")
"""How videos look: as the shipped encoder learned them, or through another camera with instruments of another make."""
OUT_OF_BODY = "out_of_body"
"""Folder below an archive, taxonomy and task of the labels that say when the camera is outside."""
CRF_OF_DOMAIN = {PLAIN: 23, SHIFTED: 34}
"""How strongly the video is compressed (x264's constant rate factor): shifted files are a quarter of the size."""


@dataclass(frozen=True)
class PhantomVideo:
    """Everything that decides the pixels of one file. ``seed``: of its script; ``pace``: as of ``make_script``;
    ``domain``: one of ``DOMAINS``; ``first_step``: the step that it begins with, '' where its seed draws it;
    ``out_of_body``: whether the camera leaves the body at times."""

    seed: int
    duration_s: float
    procedure: str
    width: int
    height: int
    fps: float
    version: int = PHANTOM_VERSION
    pace: float = 1.0
    domain: str = PLAIN
    first_step: str = ""
    out_of_body: bool = False

    @property
    def deciding(self) -> dict[str, object]:
        """What names are computed from. Pace, domain, first step and scenes outside of the body are left out where they
        are the usual ones: then names stay those of files that were written before there was a choice."""
        usual = {"pace": 1.0, "domain": PLAIN, "first_step": "", "out_of_body": False}
        return {name: value for name, value in asdict(self).items() if usual.get(name) != value}

    @property
    def name(self) -> str:
        """The file's name without its extension: 16 hex digits."""
        return digest(*self.deciding.values())

    def script(self) -> Script:
        """Returns what happens in the video, and when."""
        return make_script(self.seed, self.duration_s, self.procedure, self.pace, self.first_step or None)

    def interruptions(self) -> tuple[Interruption, ...]:
        """Returns when the camera is outside of the body or disturbed; never, without ``out_of_body``."""
        return make_interruptions(self.seed, self.duration_s) if self.out_of_body else ()


def write_archive(
    location: str,
    videos: int,
    minutes: float,
    seed: int,
    *,
    width: int = 640,
    height: int = 360,
    fps: float = 25,
    pace: float = 1.0,
    domain: str = PLAIN,
    suturing: float | None = None,
    out_of_body: bool = False,
    workers: int | None = None,
    procedures: tuple[str, ...] | None = None,
    validation: float = 0.2,
    test: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Atlas:
    """Writes phantoms to ``<location>/videos/<name>.mp4`` and their truth, with captions, to ``<location>/atlas``;
    returns the atlas.

    ``location``: any fsspec location. ``videos``: how many. ``minutes``: the length of each. The videos take turns
    through ``procedures`` (default: all, one of each specialty before the second of any specialty). ``pace``: how many
    times as many actions and stitches a minute holds (``make_script``). ``domain``: one of ``DOMAINS``. ``suturing``:
    share of the videos that begin with suturing, spread over the procedures (default: each video draws its first step);
    a video below two minutes has one step. ``out_of_body``: the camera leaves the body at times and is disturbed inside
    it; then a second atlas, ``<location>/out_of_body/atlas`` with the taxonomy ``out_of_body``, says when it is
    outside, and the first has no clip there. ``validation`` and ``test``: shares of the videos that are held out.
    ``progress`` is called with (videos done, all videos). Costs about ``minutes × fps / 150`` minutes of one core per
    video at 640×360; at 256×144 less than half of that.

    Raises OutputError where ``location`` holds another archive or can't be written, UsageError for bad arguments.
    """
    if videos < 1 or minutes <= 0 or seed < 0:
        raise UsageError(
            f"videos={videos}, minutes={minutes}, seed={seed}: expected 1 video or more, minutes above 0, and a seed "
            "of 0 or more"
        )
    if width % 2 or height % 2 or min(width, height) < 2 or fps <= 0:
        raise UsageError(f"width={width}, height={height}, fps={fps}: expected even sides and a rate above 0")
    if pace <= 0 or domain not in DOMAINS:
        raise UsageError(f"pace={pace}, domain={domain!r}: expected a pace above 0, and {' or '.join(DOMAINS)}")
    if suturing is not None and not 0 <= suturing <= 1:
        raise UsageError(f"suturing={suturing}: expected a share from 0 to 1")
    order = procedures or procedures_by_specialty()
    if unknown := sorted(set(order) - set(catalogue.PROCEDURES)):
        raise UsageError(f"unknown procedures {unknown}; expected some of {list(catalogue.PROCEDURES)}")
    wanted = []
    for i in range(videos):
        own_seed = int(digest("phantom", seed, i), 16) % 2**31
        wanted.append(
            PhantomVideo(
                own_seed,
                minutes * 60.0,
                order[i % len(order)],
                width,
                height,
                fps,
                pace=float(pace),
                domain=domain,
                first_step=first_step(i, len(order), suturing),
                out_of_body=out_of_body,
            )
        )
    release = f"phantom-{digest([video.deciding for video in wanted])[:8]}"
    refuse_other_archive(location, {f"{video.name}.mp4" for video in wanted}, release)

    found: dict[str, Video] = {}

    def done(video: PhantomVideo, row: Video) -> None:
        found[video.name] = row
        if progress:
            progress(len(found), videos)

    with rendering_folder(location) as folder:
        render_all(location, wanted, folder, min(videos, workers or os.cpu_count() or 1), done)
    rows = [found[video.name] for video in wanted]
    clips = [clip for video, row in zip(wanted, rows, strict=True) for clip in truth(video, row)]
    split = (
        split_by_video([row.video_id for row in rows], clips, validation=validation, test=test, seed=seed)
        if videos > 1
        else {}
    )
    write_atlas(
        location,
        rows,
        clips,
        release,
        split=split,
        annotator="phantom",
        captions=[caption for video, row in zip(wanted, rows, strict=True) for caption in sentences(video, row)],
        reason=json.dumps({"phantom": {"videos": videos, "minutes": minutes, "seed": seed}}),
    )
    if out_of_body:
        write_atlas(
            f"{location.rstrip('/')}/{OUT_OF_BODY}",
            rows,
            [clip for video, row in zip(wanted, rows, strict=True) for clip in views(video, row)],
            release,
            taxonomy=taxonomies.load(OUT_OF_BODY),
            split=split,
            annotator="phantom",
        )
    return read_atlas(location)


def first_step(number: int, procedures: int, suturing: float | None) -> str:
    """Returns the step that video ``number`` begins with, '' where its seed draws it. ``suturing``: share of the videos
    that begin with suturing. With every turn through the ``procedures`` the steps move on by one, so that no procedure
    always gets the same."""
    if suturing is None:
        return ""
    place = number + number // procedures
    is_suturing = int((place + 1) * suturing + 1e-9) > int(place * suturing + 1e-9)
    return STEPS[0] if is_suturing else STEPS[1]


def procedures_by_specialty() -> tuple[str, ...]:
    """Returns all procedures in an order that lets a few videos cover as many specialties as possible.

    One procedure of each specialty comes before the second procedure of any specialty.
    """
    rank: dict[str, int] = {}
    seen: dict[str, int] = {}
    for procedure, specialty in catalogue.SPECIALTY_OF.items():
        rank[procedure] = seen[specialty] = seen.get(specialty, -1) + 1
    return tuple(sorted(catalogue.PROCEDURES, key=lambda procedure: rank[procedure]))


def refuse_other_archive(location: str, names: set[str], release: str) -> None:
    """Raises OutputError where ``location`` holds an atlas or videos of another archive.

    ``names``: the file names of this archive's videos. ``release``: the name of its release.
    """
    if is_table(table_uri(location, "atlas", "samples")):
        written = read_atlas(location).release
        if written != release:
            raise OutputError(
                f"{location!r} holds the atlas {written!r}, expected no atlas or {release!r} (seed, number, length and "
                "picture size of the videos decide this name); name another folder"
            )
    refuse_other_videos(location, names)


def render_all(
    location: str, wanted: list[PhantomVideo], folder: str, workers: int, done: Callable[[PhantomVideo, Video], None]
) -> None:
    """Renders all videos in so many processes and calls ``done`` with each. A single worker is this process: another
    one would take a second to start."""
    if workers == 1:
        for video in wanted:
            done(video, render(location, video, folder))
        return
    with process_pool(workers) as pool:
        tasks = {pool.submit(render, location, video, folder): video for video in wanted}
        for task in as_completed(tasks):
            done(tasks[task], task.result())


def render(location: str, video: PhantomVideo, folder: str) -> Video:
    """One file, unless it is there already; see ``rendered_video``."""

    def write(path: str) -> None:
        write_video(
            path,
            video.script(),
            width=video.width,
            height=video.height,
            fps=video.fps,
            crf=CRF_OF_DOMAIN[video.domain],
            shifted=video.domain == SHIFTED,
            interruptions=video.interruptions(),
        )

    return rendered_video(location, f"{video.name}.mp4", folder, write)


def truth(video: PhantomVideo, row: Video) -> list[Clip]:
    """Returns the clips of the video's script, cut at the end of the file, which can be shorter than the script, and
    where the camera is outside of the body."""
    clips = inside_clips(video.script().clips(row.video_id), video.interruptions())
    return [replace(clip, stop_s=min(clip.stop_s, row.duration_s)) for clip in clips if clip.start_s < row.duration_s]


def sentences(video: PhantomVideo, row: Video) -> list[Caption]:
    """Returns the captions of the video's script, cut at the end of the file; none of a span in which the camera leaves
    the body."""
    outside = outside_spans(video.interruptions())
    return [
        replace(caption, stop_s=min(caption.stop_s, row.duration_s))
        for caption in captions_of(video.script(), row.video_id)
        if caption.start_s < row.duration_s
        and not any(start_s < caption.stop_s and caption.start_s < stop_s for start_s, stop_s in outside)
    ]


def views(video: PhantomVideo, row: Video) -> list[Clip]:
    """Returns the whole of a video as clips of the taxonomy ``out_of_body``, by turns inside and outside of the body,
    exact to the frame: frame n is outside where n / fps lies in a clip that is."""
    edges, clips = [edge for span in outside_spans(video.interruptions()) for edge in span], []
    cuts = [0.0, *(min(edge, row.duration_s) for edge in edges), row.duration_s]
    for number, (start_s, stop_s) in enumerate(zip(cuts, cuts[1:], strict=False)):
        if start_s < stop_s:
            view = "Out of body" if number % 2 else "In body"
            clips.append(Clip(row.video_id, start_s, stop_s, OUT_OF_BODY, {"view": view}))
    return clips
