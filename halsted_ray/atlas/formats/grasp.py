"""Reads GraSP (BCV-Uniandes/GraSP; Ayobi et al., arXiv 2401.11174): phases, steps and tools of 13 prostatectomies.

    ROOT/annotations/grasp_long-term_{train,test}.json      phases and steps
    ROOT/annotations/grasp_short-term_{train,test}.json     instruments in some of the pictures
    ROOT/frames/CASENNN/                                    GraSP_1fps: names of five digits; GraSP_30fps: of nine

The numbers of GraSP_30fps count the frames of the recording, at 45 or at 30 per second: the place among the pictures
gives the time, and the number does not (README.md, and grasp.py and surgical_dataset_helper.py in TAPIS/tapis there).
The data set is published as pictures, and an atlas refers to video files: CASENNN.mp4 of the pictures in the order of
their numbers, at 1 or at 30 per second. A picture's labels hold until the next picture, one second at most. What each
instrument does, and where it is in the picture, has no place in an atlas; such labels are counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from halsted_ray.atlas.formats.labelled_spans import meaning
from halsted_ray.atlas.formats.published_set import (
    PublishedSet,
    VideosOfPictures,
    clip_of,
    label_spans,
    picture_number,
    require_files,
    tools_there,
)
from halsted_ray.atlas.formats.recording import ImportSettings, Recording, format_error, is_file
from halsted_ray.errors import AtlasError
from halsted_ray.records import Clip

OPERATION = ("Urology", "Prostatectomy")
PICTURES = "frames/{name}"
EXPECTED = (
    "files such as annotations/grasp_long-term_test.json, with frames/CASE041/ beside: name the folder that holds "
    "annotations"
)
DIGITS_OF_30FPS = 9
INSTRUMENTS = "instruments"
TASKS = {"phases": "phase", "steps": "step", INSTRUMENTS: "tools"}
"""What is labelled → task of the taxonomy."""
HOLDS_S = 1.0
"""How long a picture's labels hold at most."""
Row = tuple[int, str, int]
"""(number of the picture, its name, category id; −1 for none)"""


def pictures_per_s(picture: str) -> float:
    """30 for ``000000012.jpg``, whose numbers may count at another rate; 1 for ``00012.jpg``."""
    return 30.0 if len(picture.rpartition(".")[0]) == DIGITS_OF_30FPS else 1.0


def part_json(data: PublishedSet, target: str, part: str) -> tuple[str, Any] | None:
    """(file, its value) of the annotations of one part; None where the file is missing. Raises AtlasError."""
    term = "short" if target == INSTRUMENTS else "long"
    file = f"{data.folder}/annotations/grasp_{term}-term_{part}.json"
    if not is_file(file):
        return None
    said = data.json(file)
    if not isinstance(said, dict) or not all(isinstance(said.get(key), list) for key in ("images", "annotations")):
        raise format_error(file, 1, type(said).__name__, "an object with the lists images and annotations")
    return file, said


def parts_of(data: PublishedSet, target: str) -> Iterator[tuple[str, str, Any]]:
    """(part, file, value) of the parts that are there."""
    for part in ("train", "test"):
        if found := part_json(data, target, part):
            yield part, *found


def case_files(data: PublishedSet, target: str) -> dict[str, str]:
    """CASENNN → the file of its part."""
    return {name: file for _, file, said in parts_of(data, target) for name in rows_of(data, target, file, said)}


def part_of(data: PublishedSet, target: str, name: str) -> str:
    """train or test, by the file that names the case."""
    return next((part for part, file, said in parts_of(data, target) if name in rows_of(data, target, file, said)), "")


def category_key(target: str) -> str:
    """The key of the categories of the target."""
    return "categories" if target == INSTRUMENTS else f"{target}_categories"


def categories_of(said: Any, target: str, file: str) -> list[dict[str, Any]]:
    """The categories in the order of their ids, each with id and name. Any: whatever the file holds."""
    own = said.get(category_key(target))
    if not isinstance(own, list) or not all(
        isinstance(one, dict) and isinstance(one.get("id"), int) and "name" in one for one in own
    ):
        raise format_error(file, category_key(target), own, "a list of categories with id and name")
    return sorted(own, key=lambda one: int(one["id"]))


def rows_of(data: PublishedSet, target: str, file: str, said: Any) -> Mapping[str, list[Row]]:
    """Case → the rows of all annotations of one file, kept. Raises AtlasError."""
    found: dict[str, list[Row]] = data.once(f"{target} of {file}", lambda: read_rows(target, file, said))
    return found


def read_rows(target: str, file: str, said: Any) -> dict[str, list[Row]]:
    """As ``rows_of``. Raises AtlasError."""
    found: dict[str, list[Row]] = {}
    key = "category_id" if target == INSTRUMENTS else target
    if target == INSTRUMENTS:  # a picture without an instrument counts too
        for k, image in enumerate(said["images"]):
            name = str(image.get("file_name")) if isinstance(image, dict) else ""
            case, number = picture_of(name, file, f"images[{k}]")
            found.setdefault(case, []).append((number, name, -1))
    images = [one for one in said["images"] if isinstance(one, dict) and isinstance(one.get("id"), int)]
    name_of = {one["id"]: one.get("file_name") for one in images}
    for k, one in enumerate(said["annotations"]):
        picture = one.get("image_name") if isinstance(one, dict) else None
        if picture is None and isinstance(one, dict) and isinstance(one.get("image_id"), int):
            picture = name_of.get(one["image_id"])
        if picture is None or not isinstance(one.get(key), int):
            expected = f"image_name, or the image_id of one of images, and {key} as a whole number"
            raise format_error(file, f"annotations[{k}]", one, expected)
        case, number = picture_of(str(picture), file, f"annotations[{k}]")
        found.setdefault(case, []).append((number, str(picture), one[key]))
    return found


def picture_of(name: str, file: str, place: str) -> tuple[str, int]:
    """(CASE041, 12) of ``CASE041/000000012.jpg``."""
    matched = re.fullmatch(r"(CASE\d+)/(\d{1,12})\.\w+", name)
    if not matched:
        raise format_error(file, place, name, "a picture such as CASE041/000000012.jpg")
    return matched[1], int(matched[2])


def labels_of_pictures(data: PublishedSet, target: str, name: str, file: str) -> list[tuple[int, tuple[str, ...]]]:
    """(number of the picture, its labels) of the annotated pictures of one case, in order. Raises AtlasError."""
    said = data.json(file)
    names = {int(one["id"]): str(one["name"]) for one in categories_of(said, target, file)}
    found: dict[int, set[str]] = {}
    for number, picture, category in rows_of(data, target, file, said)[name]:
        own = found.setdefault(number, set())
        if category >= 0 or target != INSTRUMENTS:
            if category not in names:
                raise format_error(file, picture, category, f"an id of {category_key(target)}", "unknown-label")
            own.add(names[category])
    return [(number, tuple(sorted(own))) for number, own in sorted(found.items())]


def read(source: str, settings: ImportSettings) -> list[Recording]:
    """Reads the data set in the folder ``source``; one Recording per case. Raises AtlasError with the place."""
    data = PublishedSet(source, videos=settings.videos)
    files = {target: case_files(data, target) for target in TASKS}
    cases = sorted({name for own in files.values() for name in own})
    require_files(cases, source, "grasp", EXPECTED)
    videos, recordings = VideosOfPictures(data, settings), []
    for name in cases:
        parts = {part_of(data, target, name) for target in TASKS} - {""}
        if len(parts) > 1:
            raise AtlasError(f"{source}: {name} is in the train files and in the test files; fetch them again")
        clips: list[Clip] = []
        length_s = 0.0
        for target, own in files.items():
            if name not in own:
                continue
            with settings.or_left_out():  # a case's labels of one kind as a whole: each holds until the next one
                rows = timed_labels(data, target, name, own[name], settings)
                clips += clips_of_rows(rows, target, own[name], settings)
                length_s = max([length_s, *(at_s for at_s, _ in rows)])
        pictures = PICTURES.format(name=name)
        uri = videos.video([f"videos/{name}.mp4", f"{pictures}.mp4"], pictures, pictures_per_s)
        at = f"{next(own[name] for own in files.values() if name in own)}, {name}"
        recordings.append(Recording(tuple(clips), at, uri, part=parts.pop(), length_s=length_s, group=f"grasp {name}"))
    settings.notes.extend([*without_place(data), *videos.notes()])
    return recordings


def timed_labels(
    data: PublishedSet, target: str, name: str, file: str, settings: ImportSettings
) -> list[tuple[float, tuple[str, ...]]]:
    """(seconds from the start, labels) of the annotated pictures of one case, in order. Raises AtlasError.

    A label of GraSP_30fps whose picture is not there has no time, and is left out.
    """
    rows = labels_of_pictures(data, target, name, file)
    digits = {len(picture) for _, picture, _ in rows_of(data, target, file, data.json(file))[name]}
    picture = next(picture for _, picture, _ in rows_of(data, target, file, data.json(file))[name])
    per_s = pictures_per_s(picture.rpartition("/")[2])
    if len(digits) > 1:
        raise format_error(file, name, picture, "pictures of one release, GraSP_1fps or GraSP_30fps")
    if per_s == 1:
        return [(float(number), labels) for number, labels in rows]
    place = PICTURES.format(name=name)
    place_of = {picture_number(found): k for k, found in enumerate(data.pictures(place))}
    if not place_of:
        expected = f"the pictures of GraSP_30fps in {place}: its numbers do not tell the time, a picture's place does"
        raise format_error(file, name, picture, expected, "no-picture")
    if missing := sum(number not in place_of for number, _ in rows):
        with settings.or_left_out(missing):
            raise format_error(file, name, f"{missing} labels of pictures that are not there", place, "no-picture")
    return [(place_of[number] / per_s, labels) for number, labels in rows if number in place_of]


def clips_of_rows(
    rows: Sequence[tuple[float, Collection[str]]], target: str, file: str, settings: ImportSettings
) -> list[Clip]:
    """The samples of one kind of one case. Raises AtlasError for a label outside of the taxonomy."""
    task = TASKS[target]
    if target == INSTRUMENTS:
        return [
            clip_of((start_s, stop_s), task, dict(tags), settings, OPERATION)
            for start_s, stop_s, tags in label_spans(
                [(at, [tools_there(own, file, settings)]) for at, own in rows], HOLDS_S
            )
        ]
    clips = []
    for start_s, stop_s, label in label_spans(rows, HOLDS_S):
        said = meaning(task, label, file, f"{task} at {start_s:g} s", settings.taxonomy)
        clips.append(clip_of((start_s, stop_s), said.task, {said.tag: said.category}, settings, OPERATION))
    return clips


def without_place(data: PublishedSet) -> list[str]:
    """A sentence on the labels that an atlas has no place for, where there are any."""
    annotated = [one for _, _, said in parts_of(data, INSTRUMENTS) for one in said["annotations"]]
    actions = sum(len(one["actions"]) for one in annotated if isinstance(one.get("actions"), list))
    places = sum(bool(one.get("bbox") or one.get("segmentation")) for one in annotated)
    if not actions and not places:
        return []
    return [
        f"{data.folder}: {actions} actions and {places} places of single instruments are not taken: an atlas has no "
        "box or outline, and at one moment one sample per task"
    ]
