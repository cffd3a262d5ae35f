"""Single clips for training, drawn without a file: every category of a tag comes equally often."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from halsted_ray.phantom import catalogue, tissue
from halsted_ray.phantom.render import Renderer
from halsted_ray.phantom.script import Deck, Event, Script, dissection, suturing
from halsted_ray.records import FRAMES_PER_WINDOW

ClipTags = dict[str, str | float]
"""Tag → category, and "step_share", the share of the clip in Suturing (0 … 1)."""

VARIANTS = 24
"""How many looks the tissue of a procedure has in training clips; each takes 10 ms once per process, and 70 kB."""
LEAST_SHARE = 0.7
"""A fine window is labelled with a tag only where the tag holds for this share of the window."""
_COARSE_S = 10.0
_PROCEDURES_OF_ANATOMY = {
    anatomy: tuple(p for p, anatomies in catalogue.ANATOMY_OF_PROCEDURE.items() if anatomy in anatomies)
    for anatomy in catalogue.ANATOMY
}


def random_clip(
    rng: np.random.Generator,
    size: int = 112,
    window_s: float | None = None,
    frames: int = FRAMES_PER_WINDOW,
    name: str | None = None,
) -> tuple[NDArray[np.uint8], ClipTags]:
    """One random clip (uint8 [frames, size, size, 3] RGB, the wide picture squeezed), and the tags that hold in it.

    Frames are ``window_s / frames`` apart. Where ``window_s`` is not given, it is 2.5 s, and 30 s for 15% of the clips.
    A window shorter than 10 s is labelled with every tag that holds for 70% of it. A longer window is labelled with
    specialty, procedure, and the step of its larger part. ``step_share`` is always given. ``name`` asks for one action
    or phase of suturing (in short windows only). Takes about 8 ms at 112 pixels. Raises ValueError for another name.
    """
    if window_s is None:
        window_s = 30.0 if rng.random() < 0.15 else 2.5
    coarse = window_s >= _COARSE_S
    if name is not None and (coarse or name not in catalogue.ACTIONS + catalogue.PHASES):
        raise ValueError(f"name={name!r} for {window_s} s: expected an action or phase, and less than {_COARSE_S} s")
    if coarse:
        script = _coarse_script(rng, window_s)
        start_s = float(rng.uniform(0, script.duration_s - window_s))
    else:
        script, focus = _fine_script(rng, name)
        edge = (1 - LEAST_SHARE) * window_s * 0.95
        start_s = float(rng.uniform(focus.start_s - edge, focus.stop_s + edge - window_s))
        start_s = min(max(start_s, 0.0), script.duration_s - window_s)
    # A video shows each frame up to one frame period late, and frame rates and the fast way of decoding differ.
    period_s = (1 / 25, 1 / 30, 1 / 50, 1 / 60)[rng.integers(4)]
    times = start_s + np.arange(frames) * (window_s / frames)
    times = np.maximum(np.floor(times / period_s) * period_s, 0.0)
    renderer = Renderer(script, size, size, variant=int(rng.integers(VARIANTS)), pictures=_picture)
    images = np.stack([renderer.frame(float(t_s)) for t_s in times])
    return images, _tags(script, start_s, start_s + window_s, coarse)


def _fine_script(rng: np.random.Generator, name: str | None) -> tuple[Script, Event]:
    """(a short script, the event in it that the clip shows): every action or phase equally often; 2 clips of 5 show
    suturing."""
    lead_s = float(rng.uniform(15, 30))
    if (name in catalogue.ACTIONS) if name else (rng.random() < 0.6):
        deck = Deck(rng, catalogue.PROCEDURES[rng.integers(len(catalogue.PROCEDURES))])
        action = name or catalogue.ACTIONS[rng.integers(len(catalogue.ACTIONS))]
        events = dissection(deck, 0.0, lead_s + 15, first=action)
        focus = events[0]
        if rng.random() < 0.5 and len(events) > 1:
            # A clip may begin before the action as well as end after it.
            events = dissection(deck, -lead_s, 0.0) + events
    else:
        anatomy = catalogue.ANATOMY[rng.integers(len(catalogue.ANATOMY))]
        homes = _PROCEDURES_OF_ANATOMY[anatomy]
        deck = Deck(rng, homes[rng.integers(len(homes))])
        events = suturing(deck, -lead_s, 30.0, {"anatomy": anatomy})
        # Half of the suturing is driving, since only driving carries three more tags.
        phase = name or catalogue.PHASES[rng.choice(3, p=(0.25, 0.5, 0.25))]
        same = [event for event in events if event.name == phase]
        focus = same[rng.integers(len(same))]
    origin_s = events[0].start_s
    shifted = {event: _later(event, -origin_s) for event in events}
    script = Script(deck.seed(), events[-1].stop_s - origin_s, deck.procedure, tuple(shifted.values()))
    return script, shifted[focus]


def _coarse_script(rng: np.random.Generator, window_s: float) -> Script:
    """A script of one step, or in a third of the clips of both."""
    deck = Deck(rng, catalogue.PROCEDURES[rng.integers(len(catalogue.PROCEDURES))])
    before, after = (dissection, suturing) if rng.random() < 0.5 else (suturing, dissection)
    events = before(deck, 0.0, window_s * 1.5)
    if rng.random() < 0.33:
        events += after(deck, window_s * 1.5, window_s * 2.5)
    return Script(deck.seed(), events[-1].stop_s, deck.procedure, tuple(events))


def _later(event: Event, by_s: float) -> Event:
    """The same event ``by_s`` later."""
    return Event(
        event.start_s + by_s, event.stop_s + by_s, event.step, event.name, event.tags, event.stitch, event.seed
    )


def _tags(script: Script, start_s: float, stop_s: float, coarse: bool) -> ClipTags:
    """The tags that hold in the window ``[start_s, stop_s)``."""
    shares: dict[tuple[str, str], float] = {}
    for event in script.events:
        share = (min(event.stop_s, stop_s) - max(event.start_s, start_s)) / (stop_s - start_s)
        if share > 0:
            for pair in {**event.tags, "step": event.step}.items():
                shares[pair] = shares.get(pair, 0.0) + share
    least = 0.5 if coarse else LEAST_SHARE
    tags: ClipTags = {"specialty": script.specialty, "procedure": script.procedure}
    tags |= {
        tag: category for (tag, category), share in shares.items() if share >= least and (tag == "step" or not coarse)
    }
    tags["step_share"] = shares.get(("step", "Suturing"), 0.0)
    return tags


@lru_cache(maxsize=2000)
def _picture(procedure: str, variant: int, anatomy: str | None, sx: float, sy: float) -> NDArray[np.uint8]:
    """Tissue drawn at twice the size and averaged, as a video that is scaled down shows it."""
    large = tissue.picture(procedure, variant, anatomy, 2 * sx, 2 * sy)
    size = round((tissue.WIDTH + 2 * tissue.MARGIN_X) * sx), round((1 + 2 * tissue.MARGIN_Y) * sy)
    return cv2.resize(large, size, interpolation=cv2.INTER_AREA)
