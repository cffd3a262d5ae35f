"""GraSP: phases, steps and instruments of single pictures.

    annotations/grasp_{long,short}-term_{train,test}.json    frames/CASENNN/

It is published twice: GraSP_1fps with pictures of five digits, GraSP_30fps with thirty per second and nine digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from halsted_ray.atlas.formats.recording import (
    format_error,
    is_file,
)
from halsted_ray.benchmarks.data_set import PICTURES_PER_S, DataSet, Layout, Rows

GRASP_30FPS_DIGITS = 9
"""Of the names in GraSP_30fps. Its numbers count the frames of the recording, at 45 or at 30 per second, so that the
place among the pictures gives the time, and the number does not (BCV-Uniandes/GraSP, tapis/datasets/grasp.py)."""


def part_json(data: DataSet, part: str) -> tuple[str, Any] | None:
    """(file, its value) of the annotations of one part; None where the file is missing. Raises AtlasError."""
    term = "short" if data.target == "instruments" else "long"
    file = f"{data.folder}/annotations/grasp_{term}-term_{part}.json"
    if not is_file(file):
        return None
    said = data.json(file)
    if not isinstance(said, dict) or not all(isinstance(said.get(key), list) for key in ("images", "annotations")):
        raise format_error(file, 1, type(said).__name__, "an object with the lists images and annotations")
    return file, said


def parts_of(data: DataSet) -> Iterator[tuple[str, str, Any]]:
    """(part, file, value) of the parts that are there."""
    for part in ("train", "test"):
        if found := part_json(data, part):
            yield part, *found


def files_by_video(data: DataSet) -> dict[str, str]:
    """CASENNN → the file of its part."""
    return {name: file for _, file, said in parts_of(data) for name in rows_of(data, file, said)}


def part_of(data: DataSet, name: str) -> str:
    """train or test, by the file that names the case."""
    return next((part for part, file, said in parts_of(data) if name in rows_of(data, file, said)), "")


def categories_of(data: DataSet) -> list[dict[str, Any]]:
    """The categories in the order of their ids, each with id and name. Any: whatever the file holds."""
    for _, file, said in parts_of(data):
        key = category_key(data)
        own = said.get(key)
        if not isinstance(own, list) or not all(
            isinstance(one, dict) and isinstance(one.get("id"), int) and "name" in one for one in own
        ):
            raise format_error(file, key, own, "a list of categories with id and name")
        return sorted(own, key=lambda one: int(one["id"]))
    return []


def label_names(data: DataSet) -> list[str]:
    """Names of the categories in the order of their ids."""
    return [str(one["name"]) for one in categories_of(data)]


def label_descriptions(data: DataSet) -> dict[str, str]:
    """``LPIL`` → Left pelvic isolated lymphadenectomy: the names are too short to be sentences."""
    return {str(one["name"]): str(one["description"]) for one in categories_of(data) if one.get("description")}


def pictures_per_s(picture: str) -> float:
    """30 for ``000000012.jpg``, whose numbers may count at another rate; 1 for ``00012.jpg``."""
    return 30.0 if len(picture.rpartition(".")[0]) == GRASP_30FPS_DIGITS else PICTURES_PER_S


def category_key(data: DataSet) -> str:
    """The key of the categories of the target."""
    return "categories" if data.target == "instruments" else f"{data.target}_categories"


def rows_of(data: DataSet, file: str, said: Any) -> Mapping[str, list[tuple[int, str, int]]]:
    """Case → (number of the picture, its name, category id; −1 for none) of all annotations of one file, kept."""
    found: dict[str, list[tuple[int, str, int]]] = data.once(f"rows of {file}", lambda: read_rows(data, file, said))
    return found


def read_rows(data: DataSet, file: str, said: Any) -> dict[str, list[tuple[int, str, int]]]:
    """As ``rows_of``. Raises AtlasError."""
    found: dict[str, list[tuple[int, str, int]]] = {}
    key = "category_id" if data.target == "instruments" else data.target
    if data.target == "instruments":  # a picture without an instrument counts too
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
    matched = re.fullmatch(r"(CASE\d+)/(\d+)\.\w+", name)
    if not matched:
        raise format_error(file, place, name, "a picture such as CASE041/000000012.jpg")
    return matched[1], int(matched[2])


def judged_frames(data: DataSet, name: str, file: str) -> Rows:
    """The annotated pictures of one case."""
    said = data.json(file)
    key = category_key(data)
    names = {int(one["id"]): str(one["name"]) for one in said.get(key, [])}
    found: dict[int, set[str]] = {}
    for number, picture, category in rows_of(data, file, said)[name]:
        own = found.setdefault(number, set())
        if category >= 0 or data.target != "instruments":
            if category not in names:
                raise format_error(file, picture, category, f"an id of {key}")
            own.add(names[category])
    return [(float(number), tuple(sorted(own))) for number, own in sorted(found.items())]


LAYOUT = Layout(
    "files such as annotations/grasp_long-term_test.json, with frames/CASE041/ beside",
    files_by_video,
    judged_frames,
    ("frames/{name}",),
    label_names,
    is_numbered=True,
    part_of=part_of,
    descriptions=label_descriptions,
    pictures_per_s=pictures_per_s,
)
