"""The annotations of published data sets, from their own layouts: which frames are judged, and what is true of them.

    cholec80        phase_annotations/videoNN-phase.txt, tool_annotations/videoNN-tool.txt    videos/videoNN.mp4
    autolaparo      labels/label_NN.txt                                                       videos/NN.mp4
    multibypass140  labels/{bern,strasbourg}/labels_by70/{BBP,SBP}NN.mp4.json                 videos, frames: see below
    grasp           annotations/grasp_{long,short}-term_{train,test}.json                     frames/CASENNN/: see below
    sar-rarp50      {train1,train2,test}/video_NN[_n]/action_{continues,discrete}.txt         …/video_left.avi
    cholect50       labels/VIDNN.json                                                         videos/VIDNN/%06d.png

Where a data set has videos, a folder ``frames/NAME`` with one picture per second is taken in their place. GraSP is
published twice: GraSP_1fps with pictures of five digits, GraSP_30fps with thirty per second and nine digits.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from halsted_ray import taxonomy
from halsted_ray.atlas.formats import cholec80, sar_rarp50
from halsted_ray.atlas.formats.recording import (
    ImportSettings,
    format_error,
    is_file,
    json_of,
    matching_files,
    numbered_lines,
    parse_index,
    parse_number,
    read_text,
)
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.storage.files import list_folder
from halsted_ray.storage.locations import absolute_location, filesystem

PICTURE_ENDS = (".png", ".jpg", ".jpeg")
VIDEO_ENDS = (".mp4", ".avi", ".mkv", ".mov")
PICTURES_PER_S = 1.0
"""Of a folder of pictures, but for GraSP_30fps."""
LONGEST_MS = 48 * 3_600_000
"""Of an operation. A longer one is a slip of the pen, and each of its seconds would be a row."""
GRASP_30FPS_DIGITS = 9
"""Of the names in GraSP_30fps. Its numbers count the frames of the recording, at 45 or at 30 per second, so that the
place among the pictures gives the time, and the number does not (BCV-Uniandes/GraSP, tapis/datasets/grasp.py)."""
BASE_PHASES = 12
"""MultiBypass140's phases 0 to 11; 12 (out of body) and 13 (severity) lie over them."""

Rows = Sequence[tuple[float, tuple[str, ...]]]
"""(seconds from the start, or the picture's number; the labels that are true), in order."""


@dataclass(frozen=True)
class Media:
    """What is seen: a video file, or a folder with ``pictures`` (names in order), ``per_s`` of them per second."""

    uri: str
    pictures: tuple[str, ...] = ()
    per_s: float = PICTURES_PER_S

    @property
    def length_s(self) -> float:
        """Of a folder of pictures."""
        return len(self.pictures) / self.per_s

    def place_of(self) -> dict[int, int]:
        """Number in a picture's name → its place in ``pictures``."""
        return {picture_number(name): k for k, name in enumerate(self.pictures)}


@dataclass(frozen=True)
class LabelledVideo:
    """One video with its judged frames. ``times_s``: seconds from its start. ``truth``: the labels of each frame.
    ``unseen``: labelled frames without a picture."""

    name: str
    media: Media
    times_s: tuple[float, ...]
    truth: tuple[tuple[str, ...], ...]
    unseen: int = 0


@dataclass
class DataSet:
    """A data set that lies at ``folder``. ``target`` and ``within`` as of ``Benchmark``. ``videos``: where its videos
    or pictures are, '' for the places of the layout."""

    folder: str
    target: str
    within: str = ""
    videos: str = ""
    _read: dict[str, Any] = field(default_factory=dict)
    _listed: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = absolute_location(self.folder)
        self.videos = absolute_location(self.videos) if self.videos else ""

    def files(self, pattern: str) -> list[str]:
        """The files that fit a pattern below the folder, listed once."""
        if pattern not in self._listed:
            self._listed[pattern] = matching_files(self.folder, pattern)
        return self._listed[pattern]

    def json(self, file: str) -> Any:
        """The value of a JSON file, read once. Raises AtlasError. Any: whatever the file holds."""
        if file not in self._read:
            try:
                self._read[file] = json_of(read_text(file))
            except ValueError as error:
                if isinstance(error, AtlasError):
                    raise
                raise AtlasError(f"{file}: not JSON ({error}); fetch the file again") from error
        return self._read[file]


@dataclass(frozen=True)
class Layout:
    """How a data set is published. ``annotations``: name of a video → its annotation file. ``rows``: the judged frames
    of one video. ``labels``: those that the data set's files name. ``places``: where a video or its folder of pictures
    may be. ``is_numbered``: rows give the number of a picture, not a time. ``part_of``: the part of a video that the
    data set's files say, '' for none. ``descriptions``: label → what the files say of it, of those that they describe.
    ``pictures_per_s``: of a folder, by the name of its first picture."""

    expected: str
    annotations: Callable[[DataSet], dict[str, str]]
    rows: Callable[[DataSet, str, str], Rows]
    places: tuple[str, ...]
    labels: Callable[[DataSet], list[str]] | None = None
    is_numbered: bool = False
    part_of: Callable[[DataSet, str], str] = lambda data, name: ""
    descriptions: Callable[[DataSet], dict[str, str]] = lambda data: {}
    pictures_per_s: Callable[[str], float] = lambda picture: PICTURES_PER_S


def annotation_files(data: DataSet, layout: str) -> dict[str, str]:
    """Name of each annotated video → its annotation file. Raises AtlasError where the folder has another layout."""
    found = LAYOUTS[layout].annotations(data)
    if not found:
        raise AtlasError(f"{data.folder}: no {layout} here; expected {LAYOUTS[layout].expected}")
    return found


def labels_of(data: DataSet, layout: str) -> list[str]:
    """The labels that the data set's files name. Raises AtlasError."""
    read = LAYOUTS[layout].labels
    assert read is not None, f"{layout} names no labels; its benchmark's file must"
    return read(data)


def find_media(data: DataSet, layout: str, name: str) -> Media | None:
    """The video file or the folder of pictures of one video; None where there is none."""
    own = [place.format(name=name) for place in LAYOUTS[layout].places]
    places = [f"{data.folder}/{place}" for place in own]
    if data.videos:
        inside = [place.removeprefix("videos/").removeprefix("frames/") for place in own]
        places = [f"{data.videos}/{place}" for place in inside]
    for place in places:
        if place.endswith((".mp4", ".avi")):
            if found := place if is_file(place) else other_container(place):
                return Media(found)
        elif pictures := [file for file in names_in(place) if file.lower().endswith(PICTURE_ENDS)]:
            pictures.sort(key=lambda file: (picture_number(file), file))
            return Media(place, tuple(pictures), LAYOUTS[layout].pictures_per_s(pictures[0]))
    return None


def picture_number(name: str) -> int:
    """12 of ``img12.jpg``, ``BBP01_00000012.jpg`` and ``000012.png``; −1 where a name has no number."""
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else -1


def names_in(folder: str) -> list[str]:
    """The names of what lies in a folder; none where it is not there."""
    fs, path = filesystem(folder)
    return [posixpath.basename(found.rstrip("/")) for found in list_folder(fs, path)]


def other_container(place: str) -> str:
    """The same video with another extension, as people re-encode them; '' where there is none."""
    folder, name = posixpath.split(place)
    stem = name.rpartition(".")[0]
    found = sorted(own for own in names_in(folder) if own.lower().startswith(f"{stem}.".lower()))
    videos = [own for own in found if own.lower().endswith(VIDEO_ENDS)]
    return f"{folder}/{videos[0]}" if videos else ""


def read_video(data: DataSet, layout: str, name: str, file: str, media: Media, labels: Sequence[str]) -> LabelledVideo:
    """The judged frames of one video. Raises AtlasError, with file and line, for annotations that can't be read or name
    a label that is not among ``labels``."""
    rows = LAYOUTS[layout].rows(data, name, file)
    known = set(labels)
    for at, own in rows:
        if wrong := [label for label in own if label not in known]:
            raise AtlasError(f"{file}, at {at:g}: got {wrong[0]!r}; expected a label of {', '.join(labels[:8])}…")
    if not rows:
        raise AtlasError(f"{file}: no labelled frame of {name!r}; fetch the file again")
    if not LAYOUTS[layout].is_numbered:
        return LabelledVideo(name, media, tuple(at for at, _ in rows), tuple(own for _, own in rows))
    place_of = media.place_of()
    seen = [(place_of[int(number)], own) for number, own in rows if int(number) in place_of]
    times_s = tuple(place / media.per_s for place, _ in seen)
    return LabelledVideo(name, media, times_s, tuple(own for _, own in seen), len(rows) - len(seen))


def cholec80_files(data: DataSet) -> dict[str, str]:
    """videoNN → its file of phases or tools."""
    kind = {"phase": "phase", "tool": "tool"}[data.target]
    files = data.files(f"{kind}_annotations/video*-{kind}.txt")
    return {posixpath.basename(file).removesuffix(f"-{kind}.txt"): file for file in files}


def cholec80_rows(data: DataSet, name: str, file: str) -> Rows:
    """One frame per second."""
    if data.target == "tool":
        tools = {tool.lower(): tool for tool in cholec80.TOOLS}
        return [
            (frame / cholec80.FRAMES_PER_S, tuple(tools[tool] for tool, there in pairs if there == "Present"))
            for frame, pairs in cholec80.read_tools(file)
        ]
    settings = ImportSettings(taxonomy.load("cholec80"))
    return [
        (frame / cholec80.FRAMES_PER_S, (phase,))
        for frame, phase in cholec80.read_phases(file, settings)
        if frame % cholec80.TOOL_STEP_FRAMES == 0
    ]


def autolaparo_files(data: DataSet) -> dict[str, str]:
    """NN → labels/label_NN.txt."""
    files = data.files("labels/label_*.txt")
    return {posixpath.basename(file).removeprefix("label_").removesuffix(".txt"): file for file in files}


def autolaparo_rows(data: DataSet, name: str, file: str) -> Rows:
    """Row n of the table is second n: whatever its frames are counted in, they rise by the same step."""
    lines = numbered_lines(file)
    number, header = next(lines, (1, ""))
    if [word.lower() for word in header.split()] != ["frame", "phase"]:
        raise format_error(file, number, header, "the header 'frame phase', separated by a tab")
    phases = taxonomy.load("autolaparo").tag("phase").categories
    rows: list[tuple[float, tuple[str, ...]]] = []
    frames: list[int] = []
    for number, text in lines:
        fields = text.split()
        if len(fields) != 2:
            raise format_error(file, number, text, "two numbers, the frame and the phase")
        frames.append(parse_index(fields[0], file, number, "the frame"))
        phase = parse_index(fields[1], file, number, "the phase")
        if not 1 <= phase <= len(phases):
            raise format_error(file, number, phase, f"a phase of 1 to {len(phases)}")
        if len(frames) > 1 and frames[-1] - frames[-2] != max(1, frames[1] - frames[0]):
            raise format_error(file, number, frames[-1], "frames that rise by equal steps: there is a row per second")
        rows.append((float(len(rows)), (phases[phase - 1],)))
    return rows


def multibypass_files(data: DataSet) -> dict[str, str]:
    """BBPNN or SBPNN → its JSON file."""
    files = data.files(f"labels/{data.within or '*'}/labels_by70/*.json")
    return {posixpath.basename(file).split(".")[0]: file for file in files}


def multibypass_spans(data: DataSet, file: str) -> list[tuple[float, float, int, str]]:
    """(start_s, stop_s, number of the label, its name) of one video, without what lies over the phases."""
    said = data.json(file)
    spans = said.get(data.target) if isinstance(said, dict) else None
    if not isinstance(spans, list):
        raise format_error(file, f"{data.target}", spans, "a list of spans with start, end, label_name and label_id")
    found = []
    for k, span in enumerate(spans):
        place = f"{data.target}[{k}]"
        if not isinstance(span, dict) or not {"start", "end", "label_name", "label_id"} <= set(span):
            raise format_error(file, place, span, "start, end, label_name and label_id")
        start_ms, stop_ms = (parse_number(span[key], file, place, key) for key in ("start", "end"))
        number = int(parse_number(span["label_id"], file, place, "label_id"))
        if not 0 <= start_ms <= stop_ms <= LONGEST_MS:
            expected = f"milliseconds, the start before the end, {LONGEST_MS:,} at most"
            raise format_error(file, place, f"{start_ms:g} to {stop_ms:g}", expected)
        if data.target != "phases" or number < BASE_PHASES:
            found.append((start_ms / 1000, stop_ms / 1000, number, str(span["label_name"])))
    return sorted(found)


def multibypass_rows(data: DataSet, name: str, file: str) -> Rows:
    """Each full second, by the span that holds it."""
    rows: list[tuple[float, tuple[str, ...]]] = []
    spans, k = multibypass_spans(data, file), 0
    for second in range(int(max((stop_s for _, stop_s, _, _ in spans), default=0.0)) + 1):
        while k < len(spans) and spans[k][1] <= second:
            k += 1
        if k < len(spans) and spans[k][0] <= second:
            rows.append((float(second), (spans[k][3],)))
    return rows


def multibypass_labels(data: DataSet) -> list[str]:
    """Names of the phases or steps in the order of their numbers. A label that no video has is not among them."""
    names: dict[int, str] = {}
    for file in multibypass_files(data).values():
        for _, _, number, name in multibypass_spans(data, file):
            if names.setdefault(number, name) != name:
                raise format_error(file, data.target, name, f"{names[number]!r} as the name of {number}, as elsewhere")
    return [names[number] for number in sorted(names)]


def grasp_json(data: DataSet, part: str) -> tuple[str, Any] | None:
    """(file, its value) of the annotations of one part; None where the file is missing. Raises AtlasError."""
    term = "short" if data.target == "instruments" else "long"
    file = f"{data.folder}/annotations/grasp_{term}-term_{part}.json"
    if not is_file(file):
        return None
    said = data.json(file)
    if not isinstance(said, dict) or not all(isinstance(said.get(key), list) for key in ("images", "annotations")):
        raise format_error(file, 1, type(said).__name__, "an object with the lists images and annotations")
    return file, said


def grasp_parts(data: DataSet) -> Iterator[tuple[str, str, Any]]:
    """(part, file, value) of the parts that are there."""
    for part in ("train", "test"):
        if found := grasp_json(data, part):
            yield part, *found


def grasp_files(data: DataSet) -> dict[str, str]:
    """CASENNN → the file of its part."""
    return {name: file for _, file, said in grasp_parts(data) for name in grasp_rows_of(data, file, said)}


def grasp_part_of(data: DataSet, name: str) -> str:
    """train or test, by the file that names the case."""
    return next((part for part, file, said in grasp_parts(data) if name in grasp_rows_of(data, file, said)), "")


def grasp_kinds(data: DataSet) -> list[dict[str, Any]]:
    """The categories in the order of their ids, each with id and name. Any: whatever the file holds."""
    for _, file, said in grasp_parts(data):
        key = grasp_categories(data)
        own = said.get(key)
        if not isinstance(own, list) or not all(
            isinstance(one, dict) and isinstance(one.get("id"), int) and "name" in one for one in own
        ):
            raise format_error(file, key, own, "a list of categories with id and name")
        return sorted(own, key=lambda one: int(one["id"]))
    return []


def grasp_labels(data: DataSet) -> list[str]:
    """Names of the categories in the order of their ids."""
    return [str(one["name"]) for one in grasp_kinds(data)]


def grasp_descriptions(data: DataSet) -> dict[str, str]:
    """``LPIL`` → Left pelvic isolated lymphadenectomy: the names are too short to be sentences."""
    return {str(one["name"]): str(one["description"]) for one in grasp_kinds(data) if one.get("description")}


def grasp_pictures_per_s(picture: str) -> float:
    """30 for ``000000012.jpg``, whose numbers may count at another rate; 1 for ``00012.jpg``."""
    return 30.0 if len(picture.rpartition(".")[0]) == GRASP_30FPS_DIGITS else PICTURES_PER_S


def grasp_categories(data: DataSet) -> str:
    """The key of the categories of the target."""
    return "categories" if data.target == "instruments" else f"{data.target}_categories"


def grasp_rows_of(data: DataSet, file: str, said: Any) -> Mapping[str, list[tuple[int, str, int]]]:
    """Case → (number of the picture, its name, category id; −1 for none) of all annotations of one file, kept."""
    if (kept := data._read.get(f"rows of {file}")) is not None:
        return dict(kept)
    found: dict[str, list[tuple[int, str, int]]] = {}
    key = "category_id" if data.target == "instruments" else data.target
    if data.target == "instruments":  # a picture without an instrument counts too
        for k, image in enumerate(said["images"]):
            name = str(image.get("file_name")) if isinstance(image, dict) else ""
            case, number = grasp_picture(name, file, f"images[{k}]")
            found.setdefault(case, []).append((number, name, -1))
    images = [one for one in said["images"] if isinstance(one, dict) and isinstance(one.get("id"), int)]
    name_of = {one["id"]: one.get("file_name") for one in images}
    for k, one in enumerate(said["annotations"]):
        picture = one.get("image_name", name_of.get(one.get("image_id"))) if isinstance(one, dict) else None
        if picture is None or not isinstance(one.get(key), int):
            expected = f"image_name, or the image_id of one of images, and {key} as a whole number"
            raise format_error(file, f"annotations[{k}]", one, expected)
        case, number = grasp_picture(str(picture), file, f"annotations[{k}]")
        found.setdefault(case, []).append((number, str(picture), one[key]))
    data._read[f"rows of {file}"] = found
    return found


def grasp_picture(name: str, file: str, place: str) -> tuple[str, int]:
    """(CASE041, 12) of ``CASE041/000000012.jpg``."""
    matched = re.fullmatch(r"(CASE\d+)/(\d+)\.\w+", name)
    if not matched:
        raise format_error(file, place, name, "a picture such as CASE041/000000012.jpg")
    return matched[1], int(matched[2])


def grasp_rows(data: DataSet, name: str, file: str) -> Rows:
    """The annotated pictures of one case."""
    said = data.json(file)
    key = grasp_categories(data)
    names = {int(one["id"]): str(one["name"]) for one in said.get(key, [])}
    found: dict[int, set[str]] = {}
    for number, picture, category in grasp_rows_of(data, file, said)[name]:
        own = found.setdefault(number, set())
        if category >= 0 or data.target != "instruments":
            if category not in names:
                raise format_error(file, picture, category, f"an id of {key}")
            own.add(names[category])
    return [(float(number), tuple(sorted(own))) for number, own in sorted(found.items())]


def sar_files(data: DataSet) -> dict[str, str]:
    """test/video_41 → its file of actions."""
    found: dict[str, str] = {}
    for name in ("action_continues.txt", "action_discrete.txt"):  # the second one is what the challenge judges
        for file in data.files(f"*/video_*/{name}"):
            found["/".join(posixpath.dirname(file).rsplit("/", 2)[1:])] = file
    return found


def sar_rows(data: DataSet, name: str, file: str) -> Rows:
    """Ten frames per second."""
    classes = taxonomy.load("sar_rarp50").tag("action").categories
    read = sar_rarp50.read_discrete if file.endswith("discrete.txt") else sar_rarp50.read_continuous
    step = sar_rarp50.STEP_FRAMES
    return [
        (frame / sar_rarp50.FRAMES_PER_S, (classes[label],))
        for first, stop, label in read(file, len(classes))
        for frame in range(-(-first // step) * step, stop, step)
    ]


def sar_part_of(data: DataSet, name: str) -> str:
    """train or test, by the folder."""
    return "test" if name.startswith("test/") else "train" if name.startswith("train") else ""


def cholect50_files(data: DataSet) -> dict[str, str]:
    """VIDNN → labels/VIDNN.json."""
    return {posixpath.basename(file).removesuffix(".json"): file for file in data.files("labels/VID*.json")}


def cholect50_names(data: DataSet, file: str) -> dict[int, str]:
    """Number → name of the triplets. Raises AtlasError."""
    said = data.json(file)
    own = said.get("categories", {}).get("triplet") if isinstance(said, dict) else None
    if not isinstance(own, dict) or not own or not all(str(key).isdecimal() for key in own):
        raise format_error(file, "categories.triplet", own, "number to 'instrument,verb,target'")
    return {int(number): ", ".join(part.strip() for part in str(name).split(",")) for number, name in own.items()}


def cholect50_labels(data: DataSet) -> list[str]:
    """The triplets in the order of their numbers."""
    names = cholect50_names(data, next(iter(cholect50_files(data).values())))
    return [names[number] for number in sorted(names)]


def cholect50_rows(data: DataSet, name: str, file: str) -> Rows:
    """Every annotated frame; one without a triplet has no label."""
    names, said = cholect50_names(data, file), data.json(file)
    frames = said.get("annotations")
    if not isinstance(frames, dict):
        raise format_error(file, "annotations", type(frames).__name__, "frame to its rows of 15 numbers")
    rows = []
    for frame, vectors in frames.items():
        number, found = parse_index(str(frame), file, 1, "the frame"), set[str]()
        for vector in vectors if isinstance(vectors, list) else [None]:
            if not isinstance(vector, list) or len(vector) != 15 or not isinstance(vector[0], int):
                raise format_error(file, f"annotations[{frame!r}]", vector, "15 numbers, the first the triplet or -1")
            if vector[0] >= 0:
                if vector[0] not in names:
                    raise format_error(file, f"annotations[{frame!r}]", vector[0], "a number of categories.triplet")
                found.add(names[vector[0]])
        rows.append((float(number), tuple(sorted(found))))
    return sorted(rows)


LAYOUTS: Mapping[str, Layout] = {
    "cholec80": Layout(
        "files such as phase_annotations/video41-phase.txt and tool_annotations/video41-tool.txt, with videos beside",
        cholec80_files,
        cholec80_rows,
        ("videos/{name}.mp4", "frames/{name}"),
    ),
    "autolaparo": Layout(
        "files such as labels/label_15.txt, with videos/15.mp4 beside: name the folder of task 1",
        autolaparo_files,
        autolaparo_rows,
        ("videos/{name}.mp4", "frames/{name}"),
    ),
    "multibypass140": Layout(
        "files such as labels/bern/labels_by70/BBP01.mp4.json; name the place of videos or frames with --videos",
        multibypass_files,
        multibypass_rows,
        ("videos/{name}.mp4", "frames/{name}"),
        multibypass_labels,
    ),
    "grasp": Layout(
        "files such as annotations/grasp_long-term_test.json, with frames/CASE041/ beside",
        grasp_files,
        grasp_rows,
        ("frames/{name}",),
        grasp_labels,
        True,
        grasp_part_of,
        grasp_descriptions,
        grasp_pictures_per_s,
    ),
    "sar-rarp50": Layout(
        "files such as test/video_41/action_discrete.txt, with video_left.avi beside",
        sar_files,
        sar_rows,
        ("{name}/video_left.avi",),
        part_of=sar_part_of,
    ),
    "cholect50": Layout(
        "files such as labels/VID06.json, with videos/VID06/ beside",
        cholect50_files,
        cholect50_rows,
        ("videos/{name}",),
        cholect50_labels,
        True,
    ),
}


def layout_of(name: str) -> Layout:
    """The layout of this name. Raises UsageError."""
    if name not in LAYOUTS:
        raise UsageError(f"no layout {name!r}; expected one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]
