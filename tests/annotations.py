"""Annotations as files, and what an atlas made of them."""

from pathlib import Path

CSV = (
    "video,start_s,stop_s,task,tag,category\n"
    "one.mp4,0,1.5,micro,action,cold cut\none.mp4,0,1.5,micro,instrument,scissors\n"
    "one.mp4,2,3,context,anatomy,Bladder-Urethra\n"
)


def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
    return str(path)


def spans(atlas, task, tag=None):
    found = [clip for clip in atlas.clips if clip.task == task]
    return [(clip.start_s, clip.stop_s, clip.tags[tag] if tag else clip.tags) for clip in found]
