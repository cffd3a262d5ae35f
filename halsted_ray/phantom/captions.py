"""What a synthetic video shows, in sentences on three levels, in several wordings, from its script.

    coarse    a stretch of one step, with the operation
    mid       two actions that follow each other, or one stitch
    fine      one action with arm and instrument, or one phase of a stitch

A caption's wording is drawn by the seed of its event, so the same script gives the same captions. The sentences are
templates: real narration is richer, and wrong at times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from halsted_ray.phantom import catalogue
from halsted_ray.phantom.script import Event, Script
from halsted_ray.records import Caption

SOURCE = "phantom"
VERB = {
    "Assistant": ("the assistant helps", "an assistant works in the field"),
    "Cold Cut": ("tissue is cut without energy", "a cold cut divides the tissue"),
    "Cautery": ("a vessel is coagulated", "bleeding is stopped by cautery"),
    "Extraction": ("a specimen is extracted", "tissue is taken out of the body"),
    "Fluorescence": ("perfusion is checked with fluorescence", "the green fluorescence view is switched on"),
    "Hot Cut": ("tissue is cut with energy", "a hot cut divides the tissue"),
    "Hook": ("tissue is hooked and lifted", "a strand is lifted with a hook"),
    "Idle": ("nothing happens", "the instruments rest"),
    "Clip": ("a clip is placed", "a vessel is clipped"),
    "Camera Move": ("the camera moves", "the view is adjusted"),
    "Mesh": ("a mesh is placed", "the mesh is spread out"),
    "Push/Peel": ("tissue is pushed and peeled", "a layer is peeled off bluntly"),
    "Retraction": ("tissue is retracted", "the organ is held aside"),
    "Spread": ("tissue is spread apart", "a plane is opened by spreading"),
    "Sponge": ("a sponge dabs the field", "blood is soaked up with a sponge"),
    "Stapler": ("a stapler is fired", "the tissue is stapled and divided"),
    "Tube": ("a tube is handled", "a drain is placed"),
    "Tug": ("tissue is tugged", "the surgeon pulls at the tissue"),
    "Other": ("something else happens", "an action that has no name"),
}
"""Action to two ways to say it."""
PHASE = {
    "Needle Handling": ("the needle is picked up and positioned", "the needle is prepared"),
    "Driving": ("the needle is driven through the {anatomy}", "a stitch goes into the {anatomy}"),
    "Withdrawal": ("the needle is withdrawn", "the thread is pulled through"),
}
ARM = {"Left": "with the left arm", "Right": "with the right arm", "Both": "with both arms"}
DIRECTION = {"In": "from outside to inside", "Out": "from inside to outside", "Both": "through both edges at once"}
EXTENT = {"Single": "single", "Double": "double", "Surface": "superficial"}
SKILL = {"Low": ("hesitantly", "with several corrections"), "High": ("smoothly", "in one confident motion")}
COARSE = (
    "{step} during a {procedure}",
    "{procedure}, an operation of {specialty} surgery: {step}",
    "The surgeon is busy with {step} in this {procedure}",
)
FINE = (
    "{what} {arm}, using the {instrument}",
    "Using the {instrument}, {what} {arm}",
    "{what}; the instrument is the {instrument}",
)
FINE_STITCH = ("{what} {how}", "{how}, {what}", "During suturing {what}")
MID = ("First {one}, then {two}", "{one}, followed by this: {two}", "{one} before {two}")
MID_STITCH = (
    "A {extent} stitch in the {anatomy}, {direction}",
    "The {anatomy} is sutured with a {extent} stitch {direction}",
    "One {extent} suture of the {anatomy}, {how}",
)


def captions_of(script: Script, video_id: str) -> list[Caption]:
    """The captions of the whole script, level by level, each level in order of time."""
    return [
        *(_caption(video_id, start_s, stop_s, "coarse", text) for start_s, stop_s, text in _coarse(script)),
        *(_caption(video_id, start_s, stop_s, "mid", text) for start_s, stop_s, text in _mid(script.events)),
        *(
            _caption(video_id, event.start_s, event.stop_s, "fine", fine_text(event, _rng(event, 0)))
            for event in script.events
        ),
    ]


def fine_text(event: Event, rng: np.random.Generator) -> str:
    """One event as a sentence, in a wording that ``rng`` draws."""
    if event.step == "Suturing":
        how = _drawn(rng, SKILL[event.stitch["proficiency"]])
        return _sentence(_drawn(rng, FINE_STITCH).format(what=_what(event, rng), how=how))
    return _sentence(
        _drawn(rng, FINE).format(
            what=_what(event, rng), arm=ARM[event.tags["arm"]], instrument=_instrument(event.tags["instrument"])
        )
    )


def _coarse(script: Script) -> list[tuple[float, float, str]]:
    found = []
    for start_s, stop_s, step in script.steps:
        rng = _rng(script.event_at(start_s), 2)
        words = {"step": step.lower(), "procedure": script.procedure.lower(), "specialty": script.specialty.lower()}
        found.append((start_s, stop_s, _sentence(_drawn(rng, COARSE).format(**words))))
    return found


def _mid(events: Sequence[Event]) -> list[tuple[float, float, str]]:
    found, at = [], 0
    while at < len(events):
        first, rng = events[at], _rng(events[at], 1)
        size = len(catalogue.PHASES) if first.step == "Suturing" else 2
        group = [event for event in events[at : at + size] if event.step == first.step]
        at += len(group)
        if first.step == "Suturing":
            text = _drawn(rng, MID_STITCH).format(**_stitch_words(first.stitch, rng))
        elif len(group) == 2:
            text = _drawn(rng, MID).format(one=_what(group[0], rng), two=_what(group[1], rng))
        else:
            continue  # the last action of a stretch stands alone, and has its fine caption
        found.append((first.start_s, group[-1].stop_s, _sentence(text)))
    return found


def _stitch_words(stitch: Mapping[str, str], rng: np.random.Generator) -> dict[str, str]:
    return {
        "anatomy": _anatomy(stitch["anatomy"]),
        "extent": EXTENT[stitch["extent"]],
        "direction": DIRECTION[stitch["direction"]],
        "how": _drawn(rng, SKILL[stitch["proficiency"]]),
    }


def _what(event: Event, rng: np.random.Generator) -> str:
    if event.step == "Suturing":
        return _drawn(rng, PHASE[event.name]).format(anatomy=_anatomy(event.stitch["anatomy"]))
    return _drawn(rng, VERB[event.name])


def _anatomy(name: str) -> str:
    return name.lower().replace("–", " and the ")


def _instrument(name: str) -> str:
    return name.lower().replace("–", " with the ")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _drawn(rng: np.random.Generator, wordings: Sequence[str]) -> str:
    return wordings[int(rng.integers(len(wordings)))]


def _rng(event: Event, level: int) -> np.random.Generator:
    return np.random.default_rng([event.seed, 29, level])


def _caption(video_id: str, start_s: float, stop_s: float, level: str, text: str) -> Caption:
    return Caption(video_id, start_s, stop_s, level, text, source=SOURCE)
