"""How long a search of captions and transcripts takes, on a drawn atlas of the size of SurgLaVi.

    python benchmarks/caption_search.py --at drawn-captions

6,812 videos of 951 s (1,800 h), 113,000 captions, each raw and enhanced, and 3,148 transcripts of 150 words a minute
without times. Words are drawn by Zipf's law from 20,000 made-up ones, so only the time and the size mean something. A
row per question: how many of its words are rare (the 5,000th of all) or common (the first).
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Sequence
from pathlib import Path

from halsted_ray.atlas import read_atlas
from halsted_ray.atlas.atlas_table import write_atlas
from halsted_ray.cli.text_tables import table
from halsted_ray.language.caption_search import search_captions
from halsted_ray.records import Caption, Clip, Video

VIDEOS, CAPTIONS, TRANSCRIPTS = 6812, 113_000, 3148
DURATION_S, WORDS_A_MINUTE, WORDS = 951.0, 150, 20_000


def drawn_atlas(at: str, vocabulary: Sequence[str], rng: random.Random) -> int:
    """Writes the atlas, and returns how many characters its texts have."""
    weights = list(itertools.accumulate(1 / rank for rank in range(1, WORDS + 1)))

    def words(count: int) -> str:
        return " ".join(rng.choices(vocabulary, cum_weights=weights, k=count))

    videos = [Video(f"{n:016x}", f"v/{n}.mp4", 1, DURATION_S, 64, 48, 25.0, "h264") for n in range(VIDEOS)]
    captions = []
    for n in range(CAPTIONS):
        start_s = round(rng.uniform(0, DURATION_S - 30), 2)
        span = (videos[n % VIDEOS].video_id, start_s, start_s + 20.0, ("coarse", "mid", "fine")[n % 3])
        captions += [Caption(*span, words(18)), Caption(*span, words(18), "enhanced")]
    for video in videos[:TRANSCRIPTS]:
        sentences = (f"{words(15)}." for _ in range(int(DURATION_S / 60 * WORDS_A_MINUTE / 15)))
        captions.append(Caption(video.video_id, 0.0, DURATION_S, "video", " ".join(sentences), "transcript"))
    clips = [Clip(video.video_id, 0.0, 5.0, "micro", {"action": "Clip"}, annotator="drawn") for video in videos]
    write_atlas(at, videos, clips, "drawn-1", captions=captions)
    return sum(len(caption.text) for caption in captions)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", required=True, help="folder for the drawn atlas; it must not exist")
    at = Path(parser.parse_args().at)
    at.mkdir()
    rng = random.Random(7)
    letters = "aeioubcdfglmnprst"
    vocabulary = ["".join(rng.choices(letters, k=rng.randint(4, 10))) for _ in range(WORDS)]
    characters = drawn_atlas(str(at), vocabulary, rng)
    atlas = read_atlas(str(at))
    questions = {
        "the first one, which makes the index": vocabulary[4999],
        "1 rare word": vocabulary[4999],
        "3 rare words": " ".join(vocabulary[4999:5002]),
        "1 rare word, 2 common ones": " ".join([vocabulary[4999], *vocabulary[:2]]),
    }
    rows = []
    for name, question in questions.items():
        begun_s, cpu_s = time.monotonic(), time.process_time()
        found = len(search_captions(atlas, question))
        rows.append((name, f"{time.monotonic() - begun_s:.2f}", f"{time.process_time() - cpu_s:.2f}", found))
    print(table(("question", "s", "CPU s", "found"), rows, right=(1, 2, 3)))
    size = sum(file.stat().st_size for file in (at / "atlas" / ".words").iterdir())
    print(f"{characters / 1e6:.0f} million characters; the index has {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
