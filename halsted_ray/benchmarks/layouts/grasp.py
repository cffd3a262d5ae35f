"""GraSP: phases, steps and instruments of single pictures."""

from __future__ import annotations

from typing import Any

from halsted_ray.atlas.formats import grasp
from halsted_ray.benchmarks.data_set import DataSet, Layout, Rows


def categories_of(data: DataSet) -> list[dict[str, Any]]:
    """The categories of the first part that is there. Any: whatever the file holds."""
    found = next(grasp.parts_of(data, data.target), None)
    return grasp.categories_of(found[2], data.target, found[1]) if found else []


def label_names(data: DataSet) -> list[str]:
    """Names of the categories in the order of their ids."""
    return [str(one["name"]) for one in categories_of(data)]


def label_descriptions(data: DataSet) -> dict[str, str]:
    """``LPIL`` → Left pelvic isolated lymphadenectomy: the names are too short to be sentences."""
    return {str(one["name"]): str(one["description"]) for one in categories_of(data) if one.get("description")}


def judged_frames(data: DataSet, name: str, file: str) -> Rows:
    """The annotated pictures of one case."""
    return [(float(number), labels) for number, labels in grasp.labels_of_pictures(data, data.target, name, file)]


LAYOUT = Layout(
    grasp.EXPECTED,
    lambda data: grasp.case_files(data, data.target),
    judged_frames,
    (grasp.PICTURES,),
    label_names,
    is_numbered=True,
    part_of=lambda data, name: grasp.part_of(data, data.target, name),
    descriptions=label_descriptions,
    pictures_per_s=grasp.pictures_per_s,
)
