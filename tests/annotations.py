"""Test data: annotation files. Also a short view of the clips in an atlas."""

from pathlib import Path

from halsted_ray.atlas import Atlas

CSV = (
    "video,start_s,stop_s,task,tag,category\n"
    "one.mp4,0,1.5,micro,action,cold cut\none.mp4,0,1.5,micro,instrument,scissors\n"
    "one.mp4,2,3,context,anatomy,Bladder-Urethra\n"
)


def write(path: str | Path, text: str) -> str:
    """Writes a text file and its folders; returns its path."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
    return str(path)


def spans(atlas: Atlas, task: str, tag: str | None = None) -> list[tuple[float, float, object]]:
    """Returns (start_s, stop_s, category of ``tag``) of the task's clips; all tags where ``tag`` is None."""
    found = [clip for clip in atlas.clips if clip.task == task]
    return [(clip.start_s, clip.stop_s, clip.tags[tag] if tag else clip.tags) for clip in found]
