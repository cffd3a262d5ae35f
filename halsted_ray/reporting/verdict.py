"""The verdict at the top of a page: what came out, in a few plain sentences."""

from __future__ import annotations

from typing import Any

from halsted_ray.evaluation.predictions import MODEL, REFERENCE
from halsted_ray.reporting.html_page import percent
from halsted_ray.reporting.report_data import JsonObject


def map_verdict(figures: JsonObject) -> list[str]:
    """Returns the verdict of a mapping run. ``figures``: of ``summary.summarise``."""
    videos = figures["videos"]
    total, done = videos["total"], videos["mapped"] + videos["partial"]
    said = [f"{done:,} of {total:,} video{'s' * (total != 1)} mapped" + certainty_words(figures["confidence"]) + "."]
    left = [
        f"{videos[status]:,} {words}"
        for status, words in (("partial", "with gaps"), ("failed", "failed"), ("pending", "pending"))
        if videos[status]
    ]
    if left:
        said.append(f"Look at these first: {', '.join(left)}.")
    if accuracy := figures["accuracy"]:
        of_tag = {tag: entry["accuracy"] for tag, entry in accuracy["tags"].items() if entry["accuracy"] is not None}
        if of_tag:
            best, worst = max(of_tag, key=of_tag.__getitem__), min(of_tag, key=of_tag.__getitem__)
            said.append(
                f"Against the truth, {best} is right most often ({percent(of_tag[best])} of windows)"
                + (f" and {worst} least often ({percent(of_tag[worst])})." if worst != best else ".")
            )
    else:
        said.append("No truth was given, so confidence is the model's own opinion and not a measured accuracy.")
    return said


def certainty_words(confidence: JsonObject) -> str:
    """``; surest on step Dissection (97.0%), least sure on step Suturing (71.2%)``; '' without any step."""
    if not confidence:
        return ""
    surest, least = max(confidence, key=confidence.__getitem__), min(confidence, key=confidence.__getitem__)
    said = f"; surest on step {surest} (mean confidence {percent(confidence[surest])})"
    return said if surest == least else f"{said}, least sure on step {least} ({percent(confidence[least])})"


def kept_method(figures: dict[str, Any]) -> str:
    """Returns the method whose figures are the headline of an evaluation: the model that is kept."""
    comparison = figures.get("comparison")
    return REFERENCE if comparison and comparison["keep"] == REFERENCE else MODEL


def evaluation_verdict(figures: dict[str, Any]) -> list[str]:
    """Returns the verdict of an evaluation: which model is kept and how good it is."""
    kept, comparison = kept_method(figures), figures.get("comparison")
    said = []
    name = "The model"
    if comparison:
        gain, name = comparison["gain"], comparison["keep"]
        rejected = comparison["after"] if kept == REFERENCE else REFERENCE
        said.append(f"{name} is kept, {rejected} is not.")
        if gain["value"] is not None:
            between = "" if gain["low"] is None else f" (95%: {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
            said.append(
                f"On {comparison['task']}, {comparison['after']} gains {100 * gain['value']:+.1f} points over "
                f"{REFERENCE}{between}{'; that is not surely above zero' if kept == REFERENCE else ''}."
            )
    for block, what in ((figures["clips"], "annotated clips"), (figures, "windows of a map")):
        tags = {
            tag: entry["accuracy"]["value"]
            for tag, entry in block["methods"].get(kept, {"tags": {}})["tags"].items()
            if entry["accuracy"]["value"] is not None
        }
        if tags:
            best, worst = max(tags, key=tags.__getitem__), min(tags, key=tags.__getitem__)
            said.append(
                f"{name} is right on {percent(block['methods'][kept]['mean']['value'])} of {what}, a mean over tags: "
                f"best on {best} ({percent(tags[best])}), worst on {worst} ({percent(tags[worst])})."
            )
    return said or ["Nothing was measured: no video of the test part has annotated clips."]
