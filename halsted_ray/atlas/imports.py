"""Imports annotations of any format into an atlas in one commit, and exports an atlas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from halsted_ray import taxonomy as taxonomies
from halsted_ray.atlas.atlas_table import add_samples, merged_split, read_head, sample_key
from halsted_ray.atlas.commits import Change, current_user
from halsted_ray.atlas.contents import Atlas
from halsted_ray.atlas.formats import FORMATS, ImportSettings, LeftOut, Recording
from halsted_ray.atlas.groups import group_id
from halsted_ray.errors import AtlasError, StorageUnavailable, UsageError, VideoError
from halsted_ray.records import Caption, Clip, Video
from halsted_ray.storage.files import require_writable
from halsted_ray.storage.locations import filesystem
from halsted_ray.storage.retry import PATIENCE_S, with_retries
from halsted_ray.taxonomy.names import nearest
from halsted_ray.video.archive import list_videos
from halsted_ray.video.cases import CHAPTERS, group_cases
from halsted_ray.video.identity import file_info, video_id
from halsted_ray.video.probers import Probers

OVERHANG_S = 1.0
"""An annotation may end this much after its video, since containers and tables count the last frames differently; it is
cut at the video's end. An annotation that ends later belongs to another video, or counts in another unit."""
MUCH_LONGER = 1.1
"""A video that lasts so many times its annotation may play at another rate than its labels count in."""


@dataclass(frozen=True)
class Imported:
    """What ``import_annotations`` did.

    ``version``: the atlas's version with these samples. ``taxonomy``: its name. ``videos``, ``samples`` and
    ``captions``: how many were imported. ``left_out``: what was not imported, each with the place of its annotation and
    the reason. ``notes``: what a person should know although nothing was left out.
    """

    version: int
    taxonomy: str
    videos: int
    samples: int
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...] = ()
    captions: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many rows, regions or samples were left out for each reason, the commonest reason first."""
        counted: Counter[str] = Counter()
        for left in self.left_out:
            counted[left.code] += left.samples
        return dict(counted.most_common())


def import_annotations(
    location: str,
    source: str,
    format: str,
    *,
    videos: str = "",
    taxonomy: str = "",
    mapping: str = "",
    annotator: str = "",
    said_by: str = "",
    fps: float | Literal["video"] | None = None,
    strict: bool = False,
    who: str | None = None,
    why: str = "",
    replace_earlier: bool = False,
    group_by: str = CHAPTERS,
    fold: int | None = None,
    make_videos: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Adds the annotations at ``source`` to the atlas of the archive at ``location``.

    ``source``: a file or folder. ``format``: one of ``FORMATS``. ``videos``: where the videos are, '' for the place
    that the format names; they stay where they are, and the atlas refers to them. ``taxonomy``: a name or file, '' for
    the format's own. ``mapping``: a file that says what each column means (``hsa-27k``). ``annotator``: for annotations
    that name none. ``said_by``: one of ``SOURCES`` instead of what the file says, such as for a map that a person
    corrected. ``fps``: frames per second that frame numbers count in, ``video`` for the rate of each video; None where
    the file must say it. ``strict``: nothing is imported where anything would be left out. ``who`` and ``why``: for the
    history. ``replace_earlier`` first drops what persons said of the same videos and tasks. ``group_by``: a rule
    (``video.cases``) by which files are chapters of one operation, for videos of which the annotation does not say what
    they were cut from; such videos become one group. ``fold``: which fold of a data set gives the parts of its videos
    (``multibypass140``). ``make_videos``: where a data set is published as pictures (``cholect50``, ``grasp``), whether
    each folder becomes a video file, in ``videos`` or beside. ``progress`` is called with (videos read, all videos).

    A row that breaks its format is left out, and the rest is taken. Raises UsageError for an unknown format. Raises
    AtlasError for a file that breaks its format as a whole (with file, line, got, expected), where nothing can be
    imported, where anything would be left out and ``strict`` is set, and as ``add_samples`` does.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; {nearest(format, FORMATS)}")
    base = read_head(location)
    own = taxonomy or FORMATS[format].taxonomy
    terms = base.load_taxonomy() if base and not own else taxonomies.load(own or "halsted")
    settings = ImportSettings(terms, videos, annotator, mapping, fps, strict, fold, make_videos)
    recordings = [found for found in FORMATS[format].read(source, settings) if found.clips or found.captions]
    require_writable(location)  # before every video is looked at
    known = {video.video_id: video for video in (base.videos if base else ())}
    identified = identify_videos(recordings, known, videos, progress)

    existing: dict[tuple[str, str], list[Clip]] = {}
    for clip in base.clips if base else ():
        existing.setdefault((clip.video_id, clip.task), []).append(clip)
    rows: dict[str, Video] = {}
    clips: list[Clip] = []
    captions: list[Caption] = []
    left_out = settings.left_out
    split: dict[str, str] = {}
    base_split = base.split if base else {}  # a release may have carved validation videos out of the training part
    for recording, video in zip(recordings, identified, strict=True):
        if problem := video_problem(recording, video):
            left_out.append(problem)
            continue
        assert isinstance(video, Video)
        settings.notes.extend(length_notes(recording, video))
        taken, problems = clips_in_seconds(recording, video, existing)
        own_captions, outside = captions_in_video(recording, video)
        left_out += problems + outside
        if not taken and not own_captions:
            continue
        captions += own_captions
        known_group = rows[video.video_id].group if video.video_id in rows else ""
        own_group = group_id(recording.group)
        if known_group and own_group and known_group != own_group:
            settings.notes.append(
                f"{recording.origin}: video {video.video_id} is said to be of two groups (source video, operation or "
                "patient); it stays with the first. Other videos of the second may come into another part: "
                "correct the group and import again"
            )
        rows[video.video_id] = replace(video, group=known_group or own_group)
        clips += [as_said_by(clip, said_by, annotator) for clip in taken]
        if recording.part and not (recording.part == "train" and base_split.get(video.video_id) == "validation"):
            split = merged_split(split, {video.video_id: recording.part})
    clips, contradictions = one_per_span(clips)
    left_out += contradictions
    if not (clips or captions) or (strict and left_out):
        why_not = "nothing to import" if not clips else "nothing was imported (--strict)"
        notes = "".join(f"; {note}" for note in settings.notes)
        raise AtlasError(f"{source}: {why_not}; {first_problems(left_out)}{notes}")
    rows = with_chapters(rows, group_by, location)
    change = Change(who or current_user(), f"{format} {source}", why)
    version = add_samples(
        location,
        clips,
        change,
        videos=list(rows.values()),
        taxonomy=terms,
        split=split,
        replace_source="manual" if replace_earlier else None,
        captions=captions,
    )
    found = tuple(left_out), tuple(settings.notes)
    return Imported(version, terms.name, len(rows), len(clips), *found, captions=len(captions))


def with_chapters(rows: dict[str, Video], group_by: str, location: str) -> dict[str, Video]:
    """Returns the videos (by video_id) with a group for those that have none and that ``group_by`` puts together.

    Raises UsageError for a rule that can't be used.
    """
    alone = {video.uri: video.video_id for video in rows.values() if not video.group}
    found = dict(rows)
    for case, uris in group_cases(alone, group_by, location, strict=False).items():
        for uri in uris if len(uris) > 1 else ():
            found[alone[uri]] = replace(rows[alone[uri]], group=group_id(f"case {case}"))
    return found


def first_problems(left_out: Sequence[LeftOut]) -> str:
    """Returns the first of the problems in words, and the first one of each other reason."""
    if not left_out:
        return "expected at least one sample, got none"
    of_reason = {left.code: left.text for left in reversed(left_out)}
    first = of_reason.pop(left_out[0].code)
    others = "".join(f"; for another reason: {text}" for text in reversed(list(of_reason.values())))
    return f"the first of {len(left_out)} problems: {first}{others}"


def video_problem(recording: Recording, video: Video | VideoError) -> LeftOut | None:
    """Returns why all samples of a recording are left out; None where its video was found and can be its own."""
    samples = len(recording.clips) or len(recording.captions)
    if isinstance(video, VideoError):
        reason = f"their video is not at the expected place (--videos) or can't be read: {video}"
        return LeftOut("no-video", f"{recording.origin}: {samples} samples left out, because {reason}", samples)
    if recording.length_s is not None and recording.length_s > 1.01 * video.duration_s + OVERHANG_S:
        reason = (
            f"the annotation is of {recording.length_s:g} s and video {video.video_id} ends at {video.duration_s:g} s; "
            "check that they belong together, that the video plays at the rate that its labels count in, and that the "
            "annotation is of this file alone"
        )
        return LeftOut("other-length", f"{recording.origin}: {samples} samples left out, because {reason}", samples)
    return None


def length_notes(recording: Recording, video: Video) -> list[str]:
    """Returns a sentence where the video goes on long after its annotation."""
    length_s = recording.length_s
    if not recording.clips or not length_s or video.duration_s <= MUCH_LONGER * length_s + OVERHANG_S:
        return []
    return [
        f"{recording.origin}: the annotation is of {length_s:g} s and video {video.video_id} lasts "
        f"{video.duration_s:g} s; check that it plays at the rate that its labels count in"
    ]


def as_said_by(clip: Clip, source: str, annotator: str) -> Clip:
    """Returns the clip as of ``source``; '' leaves it. ``annotator``: who says so where the source changes."""
    if source in ("", clip.source):
        return clip
    return replace(clip, source=source, annotator=annotator, confidence=clip.confidence if source == "ai" else 1.0)


def one_per_span(clips: Sequence[Clip]) -> tuple[list[Clip], list[LeftOut]]:
    """Returns the clips such that each span has one sample per task and source, and what that leaves out.

    An atlas holds one sample per span and task. Tags of the same person or model come together. Where two annotators
    disagree, the first one's sample is taken and the other one is left out; where they agree, one sample is enough.
    """
    taken: dict[tuple[object, ...], Clip] = {}
    left_out = []
    for clip in clips:
        key = (*sample_key(clip), clip.source)
        first = taken.setdefault(key, clip)
        if first is clip:
            continue
        differing = sorted(tag for tag in set(clip.tags) & set(first.tags) if clip.tags[tag] != first.tags[tag])
        agrees = clip.tags == first.tags or (clip.annotator == first.annotator and not differing)
        if agrees and clip.caption == first.caption:
            confidence = min(first.confidence, clip.confidence)
            taken[key] = replace(first, tags={**first.tags, **clip.tags}, confidence=confidence)
            continue
        text = (
            f"video {clip.video_id}: {clip.task} sample [{clip.start_s:g}, {clip.stop_s:g}) s of annotator "
            f"{clip.annotator!r} left out, because annotator {first.annotator!r} says something else of the same span"
            f"{f' ({differing[0]})' if differing else ''}; import one annotator's file at a time, or let them agree"
        )
        left_out.append(LeftOut("contradiction", text))
    return list(taken.values()), left_out


def clips_in_seconds(
    recording: Recording, video: Video, existing: dict[tuple[str, str], list[Clip]]
) -> tuple[list[Clip], list[LeftOut]]:
    """Returns the recording's clips in seconds of ``video``, and the clips that are outside the video.

    ``existing``: (video_id, task) to the clips that the atlas has. A clip in whole frames that is the rounding of an
    existing clip gets the exact times of the existing clip, so that an exported clip comes back from a review as the
    same clip. Raises AtlasError where the times are frames and the frame rate is unknown.
    """
    rate = recording.rate or video.fps
    if not rate:
        text = (
            f"{recording.origin}: {len(recording.clips)} samples left out, because their times are frames, and video "
            f"{video.video_id} declares no frame rate; give it with --fps"
        )
        return [], [LeftOut("no-frame-rate", text, len(recording.clips))]
    exact: dict[tuple[str, float, float], tuple[float, float]] = {}
    if rate != 1.0:
        for task in {clip.task for clip in recording.clips}:
            for clip in existing.get((video.video_id, task), ()):
                exact[(task, *in_frames(clip, rate))] = (clip.start_s, clip.stop_s)
    taken, problems = [], []
    for number, clip in enumerate(recording.clips):
        start_s, stop_s = clip.start_s / rate, clip.stop_s / rate
        if stop_s == float("inf"):
            stop_s = video.duration_s
        if start_s >= video.duration_s or stop_s > video.duration_s + OVERHANG_S:
            text = (
                f"{recording.origin_of(number)}: {clip.task} sample [{start_s:g}, {stop_s:g}) s left out, because "
                f"video {video.video_id} ends at {video.duration_s:g} s; check that both belong together"
            )
            problems.append(LeftOut("outside-video", text))
            continue
        start_s, stop_s = exact.get((clip.task, clip.start_s, clip.stop_s), (start_s, min(stop_s, video.duration_s)))
        taken.append(replace(clip, video_id=video.video_id, start_s=start_s, stop_s=stop_s))
    return taken, problems


def captions_in_video(recording: Recording, video: Video) -> tuple[list[Caption], list[LeftOut]]:
    """Returns the recording's captions with their video, cut at its end, and those that are outside of it."""
    taken, problems = [], []
    for caption in recording.captions:
        stop_s = video.duration_s if caption.stop_s == float("inf") else caption.stop_s
        if caption.start_s >= video.duration_s or stop_s > video.duration_s + OVERHANG_S:
            text = (
                f"{recording.origin}: {caption.level} caption [{caption.start_s:g}, {stop_s:g}) s left out, because "
                f"video {video.video_id} ends at {video.duration_s:g} s; check that both belong together"
            )
            problems.append(LeftOut("outside-video", text))
            continue
        taken.append(replace(caption, video_id=video.video_id, stop_s=min(stop_s, video.duration_s)))
    return taken, problems


def in_frames(clip: Clip, rate: float) -> tuple[int, int]:
    """Returns [first, stop) in whole frames, at least one frame, as ``formats.label_studio`` writes a clip."""
    first = round(clip.start_s * rate)
    return first, max(first + 1, round(clip.stop_s * rate))


def identify_videos(
    recordings: Sequence[Recording],
    known: dict[str, Video],
    folder: str,
    progress: Callable[[int, int], None] | None = None,
) -> list[Video | VideoError]:
    """Returns the video of each recording, or the reason why there is none.

    ``known``: the atlas's videos by video_id. ``folder``: searched for videos that a recording names by video_id and
    that are not known. Videos are probed in parallel, in separate processes, since a broken file can crash a decoder.
    """
    wanted = {recording.video_id for recording in recordings if not recording.uri}
    named = {name: known[name] for name in wanted & set(known)}
    uris = [recording.uri for recording in recordings if recording.uri]
    if wanted - set(named) and folder:
        uris += list_videos(folder)
    uris = list(dict.fromkeys(uris))
    found: dict[str, Video | VideoError] = {}
    with Probers(len(uris)) as probers:
        for uri, video in zip(uris, probers.each(lambda uri: identify_video(uri, probers), uris), strict=True):
            found[uri] = video
            if progress:
                progress(len(found), len(uris))
    for video in found.values():
        if isinstance(video, Video):
            named.setdefault(video.video_id, video)
    missing = StorageUnavailable(
        "there is no video with this video_id; expected it in the atlas, or in the folder that --videos names"
    )
    return [found[r.uri] if r.uri else named.get(r.video_id, missing) for r in recordings]


def identify_video(uri: str, probers: Probers) -> Video | VideoError:
    """Returns the video at ``uri`` with its video_id and properties, or the reason why it can't be read."""
    try:
        fs, path = filesystem(uri)
        size_bytes = file_info(fs, path)["size"]
        name = with_retries(lambda: video_id(fs, path), "its first, last and middle bytes", PATIENCE_S)
        facts, _ = probers.probe_and_index(uri)
    except VideoError as error:
        return error
    return Video(name, uri, size_bytes, facts.duration_s, facts.width, facts.height, facts.fps, facts.codec)


def export_atlas(atlas: Atlas, to: str, format: str, with_files: bool = False) -> list[str]:
    """Writes ``atlas`` into the folder ``to`` in one of ``FORMATS``; returns the written files.

    ``with_files`` adds the videos' uris, which can contain a patient's name; subtitles have no place for them. Raises
    UsageError for a format that can't be written, OutputError where ``to`` can't be written.
    """
    writers = {name: kind.write for name, kind in FORMATS.items() if kind.write}
    if format not in writers:
        raise UsageError(f"unknown export format {format!r}; expected one of {', '.join(writers)}")
    return writers[format](atlas, to, with_files)
