"""How much planted text is found: in single looks at pictures, and in whole videos that are cleaned.

    python -m benchmarks.deidentify [--pictures 220] [--videos 30] [--blank 60] [--workers 2] [--out FILE.json]

A picture has up to ten lines of text (``planted_text``) in many fonts, sizes, colours and contrasts, in the field of an
endoscope or beside it. A line counts as found where the boxes that were read as text in this one look cover 95% of its
letters' pixels. A video shows a line in many frames, so this is the recall of a single look. The bar is held against
the lines that a person reads without effort: letters from ``READABLE_PX`` pixels on, whose contrast is
``READABLE_GREY`` grey levels or more. ``false_per_picture``: boxes that were read as text in pictures without any.

A video of ``--videos`` has three lines that come and go over a moving picture. It goes through ``clean_file``, and a
line counts as found where 95% of the pixels around and in it are black in every frame that shows it. ``--out`` keeps
what is already in the file and not measured again.

Intervals are exact (Clopper and Pearson, 95%) and take lines as independent. CPU seconds are of one look at 1280 × 720.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.out_of_body import exact_interval
from benchmarks.planted_text import background, overlays, planted_picture
from halsted_ray.deidentify.clean import CleaningOptions, clean_file
from halsted_ray.deidentify.spans import Box
from halsted_ray.deidentify.text import TextReader

READABLE_PX, READABLE_GREY = 12, 40.0
LINES_A_PICTURE, LINES_A_VIDEO = 10, 3
COVERED = 0.95
SIZES, CONTRASTS = (8, 10, 12, 16, 24, 49), (0.0, 20.0, 40.0, 70.0, 256.0)
VIDEO_WIDTH, VIDEO_HEIGHT, VIDEO_S, FPS = 640, 360, 4, 25
BLACK_LUMA = 40
"""A decoded pixel that was made black is darker; the codec lets its surroundings ring into it."""
Row = dict[str, Any]

_reader: TextReader | None = None


def reader() -> TextReader:
    """One reader per process."""
    global _reader
    if _reader is None:
        cv2.setNumThreads(1)
        _reader = TextReader()
    return _reader


def look(seed: int) -> list[Row]:
    """What one look at one picture finds of each of its lines."""
    image_HWC, lines = planted_picture(np.random.default_rng([seed, 91]), LINES_A_PICTURE)
    read = reader()
    started_s = time.process_time()
    texts = [text for text in read.find(image_HWC) if text.is_read]
    cost_s = time.process_time() - started_s
    covered_HW = np.zeros(image_HWC.shape[:2], bool)
    for text in texts:
        covered_HW[within(text.box)] = True
    return [
        {
            "picture": seed,
            "font": line.font,
            "style": line.style,
            "letters_px": line.letters_px,
            "contrast": line.contrast,
            "in_field": line.in_field,
            "found": bool(covered_HW[line.ink].mean() >= COVERED),
            "cost_s": cost_s,
        }
        for line in lines
    ]


def within(box: Box) -> tuple[slice, slice]:
    """The rows and columns of a box."""
    return np.s_[box.y : box.y + box.height, box.x : box.x + box.width]


def look_at_blank(seed: int) -> int:
    """How many boxes are read as text in a picture without any."""
    image_HWC, _ = background(np.random.default_rng([seed, 93]))
    return sum(text.is_read for text in reader().find(np.ascontiguousarray(image_HWC[:, :, ::-1])))


def clean_video(seed: int) -> list[Row]:
    """What cleaning a whole video makes of each of its lines."""
    rng = np.random.default_rng([seed, 97])
    wide_HWC, _ = background(rng, VIDEO_HEIGHT, 2 * VIDEO_WIDTH)
    field_HW = background(rng, VIDEO_HEIGHT, VIDEO_WIDTH)[1]
    placed = overlays(rng, LINES_A_VIDEO, VIDEO_HEIGHT, VIDEO_WIDTH, READABLE_PX, 30)
    spans = []
    for number in range(len(placed)):  # the first stands throughout
        start_s = float(rng.uniform(0, VIDEO_S - 1)) if number else 0.0
        spans.append((start_s, min(float(VIDEO_S), start_s + float(rng.uniform(1, 3))) if number else float(VIDEO_S)))
    contrasts: list[list[float]] = [[] for _ in placed]
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in.mp4"), Path(folder, "out.mp4")
        with av.open(str(source), "w") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"g": "50", "preset": "veryfast", "crf": "23"})
            stream.width, stream.height, stream.pix_fmt = VIDEO_WIDTH, VIDEO_HEIGHT, "yuv420p"
            for n in range(VIDEO_S * FPS):
                left = round(0.5 * VIDEO_WIDTH * (1 + np.sin(n / 40)))
                image_HWC = np.ascontiguousarray(wide_HWC[:, left : left + VIDEO_WIDTH] * field_HW[:, :, None])
                for number, (overlay, (start_s, stop_s)) in enumerate(zip(placed, spans, strict=True)):
                    if start_s <= n / FPS < stop_s:
                        overlay.put(image_HWC)
                        contrasts[number].append(overlay.line(image_HWC, field_HW).contrast)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HWC, format="rgb24")))
            container.mux(stream.encode(None))
        started_s = time.monotonic()
        clean_file(source, out, CleaningOptions(text=True, spans=False))
        wall_s = time.monotonic() - started_s
        shown, leaked = [0] * len(placed), [0] * len(placed)
        with av.open(str(out)) as container:
            for n, frame in enumerate(container.decode(video=0)):
                luma_HW = frame.to_ndarray(format="gray")
                for number, (overlay, (start_s, stop_s)) in enumerate(zip(placed, spans, strict=True)):
                    if start_s <= n / FPS < stop_s:
                        shown[number] += 1
                        rows, columns = overlay.ink_HW.shape
                        line_HW = luma_HW[overlay.y : overlay.y + rows, overlay.x : overlay.x + columns]
                        leaked[number] += bool((line_HW < BLACK_LUMA).mean() < COVERED)
    return [
        {
            "video": seed,
            "font": overlay.font,
            "style": overlay.style,
            "letters_px": overlay.letters_px,
            "contrast": float(np.mean(contrasts[number])),
            "in_field": bool(field_HW[overlay.y, overlay.x]),
            "frames": shown[number],
            "frames_leaked": leaked[number],
            "found": leaked[number] == 0,
            "wall_s": wall_s,
        }
        for number, overlay in enumerate(placed)
    ]


def recall(rows: Sequence[Row]) -> Row:
    """The share of found lines, with its interval."""
    found = sum(row["found"] for row in rows)
    return {
        "lines": len(rows),
        "found": found,
        "recall": round(found / len(rows), 4) if rows else None,
        "interval": exact_interval(found, len(rows)) if rows else None,
    }


def is_readable(row: Row) -> bool:
    """Whether a person reads the line without effort."""
    return bool(row["letters_px"] >= READABLE_PX and row["contrast"] >= READABLE_GREY)


def summary(rows: Sequence[Row]) -> Row:
    """Recall of the readable lines, of all, and by size and contrast, place, style and font."""
    good = [row for row in rows if is_readable(row)]
    return {
        "readable": recall(good),
        "all": recall(rows),
        "readable_by": {
            name: {str(value): recall([row for row in good if row[name] == value]) for value in _values(good, name)}
            for name in ("in_field", "style", "font")
        },
        "by_size_and_contrast": [
            {"letters_px": [low_px, high_px - 1], "contrast": [low, high]}
            | recall([row for row in rows if low_px <= row["letters_px"] < high_px and low <= row["contrast"] < high])
            for low_px, high_px in zip(SIZES, SIZES[1:], strict=False)
            for low, high in zip(CONTRASTS, CONTRASTS[1:], strict=False)
        ],
        "missed_readable": [
            {name: row[name] for name in ("font", "style", "letters_px", "in_field")}
            | {"contrast": round(row["contrast"], 1)}
            for row in good
            if not row["found"]
        ],
    }


def _values(rows: Sequence[Row], name: str) -> list[Any]:
    return sorted({row[name] for row in rows})


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=220)
    parser.add_argument("--videos", type=int, default=30)
    parser.add_argument("--blank", type=int, default=60)
    parser.add_argument("--seed", type=int, default=900_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out")
    given = parser.parse_args()
    result: Row = {"seed": given.seed, "readable": {"from_px": READABLE_PX, "from_grey_levels": READABLE_GREY}}
    with ProcessPoolExecutor(given.workers, get_context("spawn")) as pool:
        if given.pictures:
            seeds = range(given.seed, given.seed + given.pictures)
            rows = [row for found in pool.map(look, seeds) for row in found]
            costs = {row["picture"]: row["cost_s"] for row in rows}
            result["single_looks"] = {
                "pictures": given.pictures,
                "cpu_s_per_look_median": round(float(np.median(list(costs.values()))), 2),
                **summary(rows),
            }
        if given.blank:
            false = list(pool.map(look_at_blank, range(given.seed, given.seed + given.blank)))
            result["blank"] = {"pictures": given.blank, "false_per_picture": sum(false) / given.blank}
        if given.videos:
            rows = [
                row for found in pool.map(clean_video, range(given.seed, given.seed + given.videos)) for row in found
            ]
            result["videos"] = {
                "videos": given.videos,
                "frames": sum(row["frames"] for row in rows),
                "frames_leaked": sum(row["frames_leaked"] for row in rows),
                **summary(rows),
            }
    print(json.dumps(result, indent=1))
    if given.out:
        if Path(given.out).exists():
            result = json.loads(Path(given.out).read_text(encoding="utf-8")) | result
        Path(given.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
