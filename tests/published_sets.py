"""Miniature copies of published data sets, in their own layouts: a few seconds of drawn video, or a few pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import small_video

SIZE = (64, 96)
GRASP_1FPS = tuple(f"{k:05d}" for k in range(8))


def write(path: Path, text: str) -> None:
    """Writes a text file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def pictures(folder: Path, names: Sequence[str], looks: Sequence[int]) -> None:
    """Writes one plain picture per name, whose colour ``looks`` decides."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, look in zip(names, looks, strict=True):
        colour = np.random.default_rng(look).integers(0, 256, 3, np.uint8)
        image = av.VideoFrame.from_ndarray(np.full((*SIZE, 3), colour, np.uint8), format="rgb24")
        codec = "png" if name.endswith(".png") else "mjpeg"
        with av.open(str(folder / name), "w", format="image2") as container:
            stream = container.add_stream(codec, rate=1)
            stream.width, stream.height = SIZE[1], SIZE[0]
            stream.pix_fmt = "rgb24" if codec == "png" else "yuvj420p"
            container.mux(stream.encode(image.reformat(format=stream.pix_fmt)))
            container.mux(stream.encode(None))


def cholec80(folder: Path, numbers: Sequence[int], seconds: int = 6, with_videos: bool = True) -> None:
    """The first half of a video is Preparation with a grasper, the second GallbladderDissection with both tools."""
    for number in numbers:
        name = f"video{number:02d}"
        phases = ["Preparation" if f < seconds * 25 // 2 else "GallbladderDissection" for f in range(seconds * 25)]
        rows = "".join(f"{frame}\t{phase}\n" for frame, phase in enumerate(phases))
        write(folder / f"phase_annotations/{name}-phase.txt", f"Frame\tPhase\n{rows}")
        tools = "Frame\tGrasper\tBipolar\tHook\tScissors\tClipper\tIrrigator\tSpecimenBag\n" + "".join(
            f"{s * 25}\t1\t0\t{int(s >= seconds / 2)}\t0\t0\t0\t0\n" for s in range(seconds)
        )
        write(folder / f"tool_annotations/{name}-tool.txt", tools)
        if with_videos:
            small_video.write(folder / f"videos/{name}.mp4", seconds, look=number)


def autolaparo(folder: Path, numbers: Sequence[int], phases: Sequence[int] = (1, 1, 2, 2, 2, 7)) -> None:
    """A row per second; the videos are as long."""
    for number in numbers:
        rows = "".join(f"{frame}\t{phase}\n" for frame, phase in enumerate(phases, 1))
        write(folder / f"labels/label_{number:02d}.txt", f"frame\tphase\n{rows}")
        small_video.write(folder / f"videos/{number:02d}.mp4", len(phases), look=number)


def multibypass140(folder: Path, names: Sequence[str]) -> None:
    """Six seconds: preparation, gastric_pouch_creation; the camera is outside meanwhile."""
    for name in names:
        centre = "bern" if name.startswith("B") else "strasbourg"
        phases = [
            {"start": 0, "end": 2500, "label_name": "preparation", "label_id": 0},
            {"start": 2500, "end": 6000, "label_name": "gastric_pouch_creation", "label_id": 1},
            {"start": 1000, "end": 4500, "label_name": "out_of_body", "label_id": 12},
        ]
        steps = [
            {"start": 0, "end": 4000, "label_name": "s1_cavity_exploration", "label_id": 1},
            {"start": 4000, "end": 6000, "label_name": "s2_trocar_placement", "label_id": 2},
        ]
        write(folder / f"labels/{centre}/labels_by70/{name}.mp4.json", json.dumps({"phases": phases, "steps": steps}))
        pictures(folder / f"frames/{name}", [f"{name}_{k:08d}.jpg" for k in range(1, 7)], [1, 1, 1, 2, 2, 2])


def grasp(folder: Path, train: Sequence[str], test: Sequence[str], numbers: Sequence[str] = GRASP_1FPS) -> None:
    """Eight pictures a case: four of phase 0, four of phase 1; every second one but the first has an instrument named.
    ``numbers``: the names of the pictures."""
    kinds = {
        "phases_categories": [
            {"id": 0, "name": "Idle", "description": "Idle"},
            {"id": 1, "name": "LPIL", "description": "Left pelvic isolated lymphadenectomy"},
        ],
        "steps_categories": [
            {"id": 0, "name": "Idle"},
            {"id": 1, "name": "Id_Illiac_Vein_Artery"},
            {"id": 2, "name": "Dissection_Illiac_Lymph_Nodes"},
        ],
    }
    tools = [{"id": 1, "name": "Bipolar Forceps"}, {"id": 2, "name": "Prograsp Forceps"}]
    for part, cases in (("train", train), ("test", test)):
        images = [
            {"id": 10 * n + k, "file_name": f"{case}/{number}.jpg", "video_name": case, "frame_num": int(number)}
            for n, case in enumerate(cases)
            for k, number in enumerate(numbers)
        ]
        long = [
            {"image_id": one["id"], "phases": int(one["id"] % 10 >= 4), "steps": one["id"] % 10 % 3} for one in images
        ]
        said = {"images": images, "annotations": long, **kinds}
        write(folder / f"annotations/grasp_long-term_{part}.json", json.dumps(said))
        keyed = [one for one in images if one["id"] % 10 % 2 == 0]
        short = [
            {"image_name": one["file_name"], "category_id": 1 + int(one["id"] % 10 >= 4)}
            for one in keyed
            if one["id"] % 10 != 0
        ]
        said = {"images": keyed, "annotations": short, "categories": tools}
        write(folder / f"annotations/grasp_short-term_{part}.json", json.dumps(said))
        for case in cases:
            pictures(folder / f"frames/{case}", [f"{number}.jpg" for number in numbers], [3] * 4 + [4] * 4)


def sar_rarp50(folder: Path, places: Sequence[str], seconds: int = 2) -> None:
    """First Other, then Tying a knot; ``places`` such as test/video_41."""
    for number, place in enumerate(places):
        rows = "".join(f"{f},{0 if f < seconds * 30 else 5}\n" for f in range(0, seconds * 60, 6))
        write(folder / place / "action_discrete.txt", rows)
        small_video.write(folder / place / "video_left.avi", seconds, fps=60, look=number)


TRIPLETS = {"0": "grasper,grasp,gallbladder", "1": "hook,dissect,gallbladder", "2": "grasper,null_verb,null_target"}


def cholect50(folder: Path, numbers: Sequence[int], frames: int = 6) -> None:
    """Frames 0 to 2 show triplet 0, 3 and 4 the triplets 0 and 1, frame 5 none."""
    of_frame = {0: [0], 1: [0], 2: [0], 3: [0, 1], 4: [0, 1]}
    for number in numbers:
        own = {str(frame): [[triplet, *[-1] * 14] for triplet in of_frame.get(frame, [-1])] for frame in range(frames)}
        said = {
            "video": number,
            "fps": 1,
            "num_frames": frames,
            "categories": {"triplet": TRIPLETS},
            "annotations": own,
        }
        write(folder / f"labels/VID{number:02d}.json", json.dumps(said))
        names = [f"{k:06d}.png" for k in range(frames)]
        pictures(folder / f"videos/VID{number:02d}", names, [number * 10 + (k >= 3) for k in range(frames)])
