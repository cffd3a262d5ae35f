"""Draws a condition with the phantom's renderer: one event in one scene, with the tip on the condition's way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from halsted_ray.phantom import catalogue, motion
from halsted_ray.phantom.motion import TipPath
from halsted_ray.phantom.render import Renderer
from halsted_ray.phantom.script import Event, Script
from halsted_ray.phantom.tissue import WIDTH
from halsted_ray.synthesis.condition import PATH_POINTS_PER_S, Condition, as_path

DRAWN: dict[str, tuple[str, ...]] = {
    "action": catalogue.ACTIONS,
    "arm": catalogue.ARMS,
    "instrument": catalogue.INSTRUMENTS,
    "phase": catalogue.PHASES,
    "proficiency": catalogue.PROFICIENCIES,
    "anatomy": catalogue.ANATOMY,
    "extent": catalogue.EXTENTS,
    "direction": catalogue.DIRECTIONS,
}
"""Tag → the categories of it that can be drawn: those of one action or one phase of a stitch."""
TAGS_OF_TASK = {
    "micro": ("action", "arm", "instrument"),
    "proficiency": ("phase", "proficiency"),
    "context": ("anatomy", "extent", "direction"),
}
MARGIN = 0.06
"""Nearer to the edge of the picture, in heights, a tip is not led."""


def can_draw(task: str, tag: str, category: str) -> bool:
    """Whether the renderer can show ``category`` of ``tag``."""
    return tag in TAGS_OF_TASK.get(task, ()) and category in DRAWN[tag]


def drawn_tags(task: str, tag: str, category: str, rng: np.random.Generator) -> dict[str, str]:
    """What a clip of ``category`` shows: every tag of ``task``, drawn such that they go together
    (``phantom.catalogue``)."""
    tags = {name: str(rng.choice(DRAWN[name])) for name in TAGS_OF_TASK[task]}
    tags[tag] = category
    if tag == "instrument":
        tags["action"] = str(
            rng.choice([a for a, names in catalogue.INSTRUMENTS_OF_ACTION.items() if category in names])
        )
    elif task == "micro":
        chances = catalogue.INSTRUMENT_CHANCE[tags["action"]]
        tags["instrument"] = str(rng.choice(catalogue.INSTRUMENTS, p=chances))
    return tags


def fitting_procedures(tags: dict[str, str], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the procedures ``wanted`` that can be drawn with these tags; all that can, where none of them does."""
    fitting = [
        name
        for name in catalogue.PROCEDURES
        if "anatomy" not in tags or tags["anatomy"] in catalogue.ANATOMY_OF_PROCEDURE[name]
    ]
    return tuple(name for name in fitting if name in wanted) or tuple(fitting)


def event_of(tags: dict[str, str], task: str, procedure: str, duration_s: float, seed: int) -> Event:
    """The one event that a clip shows. What the tags leave open of a stitch is drawn by ``seed``."""
    if task == "micro":
        return Event(0.0, duration_s, "Dissection", tags["action"], tags, {}, seed)
    rng = np.random.default_rng([seed, 71])
    stitch = {
        "proficiency": str(rng.choice(catalogue.PROFICIENCIES)),
        "anatomy": str(rng.choice(catalogue.ANATOMY_OF_PROCEDURE[procedure])),
        "extent": str(rng.choice(catalogue.EXTENTS)),
        "direction": str(rng.choice(catalogue.DIRECTIONS)),
    }
    stitch |= {name: value for name, value in tags.items() if name in stitch}
    return Event(0.0, duration_s, "Suturing", tags.get("phase", "Driving"), tags, stitch, seed)


def drawn_path(event: Event, rng: np.random.Generator) -> TipPath:
    """A way of the tip for ``event``: the motion of its action, turned, stretched and moved a little, inside of the
    picture. A stitch is at its wound, so the needle's way is stretched alone."""
    times_s = np.linspace(
        event.start_s, event.stop_s, max(2, round((event.stop_s - event.start_s) * PATH_POINTS_PER_S))
    )
    inner_s = np.clip(times_s, event.start_s + motion.ENTRY_S, event.stop_s - motion.ENTRY_S)
    lead = motion.traits_of(event).lead
    own_P2 = np.array([next(hand.tip for hand in motion.hands(event, t) if hand.side == lead) for t in inner_s])
    is_free = event.step == "Dissection"
    angle = rng.uniform(-0.3, 0.3) * is_free
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = own_P2.mean(axis=0)
    stretch = rng.uniform(0.85, 1.2) if is_free else rng.uniform(0.95, 1.05)
    moved_P2 = (own_P2 - centre) @ turn.T * stretch + centre + rng.uniform(-0.08, 0.08, 2) * is_free
    return as_path(np.clip(moved_P2, MARGIN, [WIDTH - MARGIN, 1 - MARGIN]))


def draw(condition: Condition) -> Iterator[NDArray[np.uint8]]:
    """The frames of ``condition`` (``condition.Generator``), about 3 ms each at 640×360."""
    event = event_of(dict(condition.tags), condition.task, condition.procedure, condition.duration_s, condition.seed)
    script = Script(condition.scene, condition.duration_s, condition.procedure, (event,))
    renderer = Renderer(script, condition.width, condition.height, tip_path=condition.tip_path)
    for n in range(condition.frames):
        yield renderer.frame(float(n / condition.rate))
