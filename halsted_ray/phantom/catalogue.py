"""What exists in the phantom and what goes together: procedures, actions, instruments, anatomy.

The names are the names of the paper's Table 3 (pairs are joined by an en dash). The combinations are our own. They are
plausible, and wide enough that every category occurs about as often as the others of its tag.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPECIALTY_OF = {
    "Gastric Bypass": "Bariatric",
    "Atrial Closure": "Cardiac",
    "IMA Harvest": "Cardiac",
    "Mitral Stitching": "Cardiac",
    "Right Colectomy": "Colorectal",
    "Total Mesorectal Excision": "Colorectal",
    "Laparoscopic Cholecystectomy": "General",
    "Laparoscopic Hernia": "General",
    "Endometriosis": "Gynecology",
    "Hysterectomy": "Gynecology",
    "Myomectomy": "Gynecology",
    "Pancreaticoduodenectomy": "Hepatobiliary",
    "Right Middle Lobectomy": "Thoracic",
    "Right Upper Lobectomy": "Thoracic",
    "Segmentectomy": "Thoracic",
    "Prostatectomy": "Urology",
}
PROCEDURES = tuple(SPECIALTY_OF)
STEPS = ("Suturing", "Dissection")
ACTIONS = (
    "Assistant",
    "Cold Cut",
    "Cautery",
    "Extraction",
    "Fluorescence",
    "Hot Cut",
    "Hook",
    "Idle",
    "Clip",
    "Camera Move",
    "Mesh",
    "Push/Peel",
    "Retraction",
    "Spread",
    "Sponge",
    "Stapler",
    "Tube",
    "Tug",
    "Other",
)
ARMS = ("Left", "Right", "Both")
PHASES = ("Needle Handling", "Driving", "Withdrawal")
PROFICIENCIES = ("Low", "High")
EXTENTS = ("Single", "Double", "Surface")
DIRECTIONS = ("In", "Out", "Both")

INSTRUMENTS = (
    "Bipolar Dissector",
    "Bipolar Forceps",
    "Bipolar Forceps–Cautery Hook",
    "Bipolar Forceps–Monopolar Scissors",
    "Bipolar Forceps–Vessel Sealer",
    "Bipolar Grasper",
    "Bipolar Grasper–Monopolar Scissors",
    "Cadiere Forceps",
    "Cadiere Forceps–Bipolar Grasper",
    "Cautery Spatula",
    "Cautery Hook",
    "Clip Applier",
    "Clipper",
    "Fenestrated Forceps",
    "Fenestrated Grasper",
    "Fenestrated Grasper–Bipolar Grasper",
    "Grasper",
    "Hook Monopolar",
    "Maryland Grasper",
    "Monopolar Scissors",
    "Needle Driver",
    "Prograsp Forceps",
    "Scissors",
    "Shears",
    "Stapler",
    "Suction",
    "Vessel Sealer",
)

_HOLDING = (
    "Bipolar Forceps",
    "Bipolar Grasper",
    "Cadiere Forceps",
    "Cadiere Forceps–Bipolar Grasper",
    "Fenestrated Forceps",
    "Fenestrated Grasper",
    "Fenestrated Grasper–Bipolar Grasper",
    "Grasper",
    "Maryland Grasper",
    "Needle Driver",
    "Prograsp Forceps",
)
_CUTTING = (
    "Bipolar Forceps–Monopolar Scissors",
    "Bipolar Grasper–Monopolar Scissors",
    "Monopolar Scissors",
    "Scissors",
    "Shears",
)
_BURNING = ("Bipolar Forceps–Cautery Hook", "Cautery Hook", "Cautery Spatula", "Hook Monopolar")
_SEALING = ("Bipolar Dissector", "Bipolar Forceps", "Bipolar Grasper", "Bipolar Forceps–Vessel Sealer", "Vessel Sealer")
INSTRUMENTS_OF_ACTION = {
    "Cold Cut": _CUTTING,
    "Hot Cut": _BURNING + _SEALING[3:] + ("Bipolar Forceps–Monopolar Scissors", "Monopolar Scissors", "Shears"),
    "Cautery": _BURNING + _SEALING,
    "Hook": _BURNING + ("Maryland Grasper", "Bipolar Dissector"),
    "Extraction": _HOLDING,
    "Clip": ("Clip Applier", "Clipper"),
    "Mesh": _HOLDING,
    "Push/Peel": _HOLDING + ("Suction", "Cautery Spatula", "Shears"),
    "Retraction": _HOLDING + ("Suction",),
    "Spread": (
        "Bipolar Dissector",
        "Maryland Grasper",
        "Scissors",
        "Monopolar Scissors",
        "Bipolar Forceps",
        "Bipolar Grasper–Monopolar Scissors",
        "Vessel Sealer",
    ),
    "Sponge": _HOLDING + ("Suction",),
    "Stapler": ("Stapler", "Cadiere Forceps", "Fenestrated Grasper", "Fenestrated Grasper–Bipolar Grasper"),
    "Tube": _HOLDING + ("Suction", "Clip Applier"),
    "Tug": _HOLDING,
} | {action: INSTRUMENTS for action in ("Assistant", "Fluorescence", "Idle", "Camera Move", "Other")}

ANATOMY = (
    "Bile Duct",
    "Bile Duct–Small Intestine",
    "Bladder",
    "Bladder–Urethra",
    "Colon",
    "Left Atrium",
    "Mitral Annulus",
    "Pancreas",
    "Pancreas–Small Intestine",
    "Peritoneum",
    "Small Intestine",
    "Small Intestine–Bile Duct",
    "Small Intestine–Stomach",
    "Stomach",
    "Stomach–Small Intestine",
    "Urethra",
    "Uterus",
    "Vagina",
)
# The paper's lobectomies and IMA harvests hold no suturing; here the lining of the chest (Peritoneum) is closed.
ANATOMY_OF_PROCEDURE = {
    "Gastric Bypass": ("Stomach", "Small Intestine", "Stomach–Small Intestine", "Small Intestine–Stomach"),
    "Atrial Closure": ("Left Atrium",),
    "IMA Harvest": ("Peritoneum", "Left Atrium"),
    "Mitral Stitching": ("Mitral Annulus", "Left Atrium"),
    "Right Colectomy": ("Colon", "Small Intestine"),
    "Total Mesorectal Excision": ("Colon", "Peritoneum"),
    "Laparoscopic Cholecystectomy": ("Bile Duct", "Peritoneum"),
    "Laparoscopic Hernia": ("Peritoneum",),
    "Endometriosis": ("Peritoneum", "Bladder", "Uterus", "Colon"),
    "Hysterectomy": ("Vagina", "Uterus", "Bladder"),
    "Myomectomy": ("Uterus",),
    "Pancreaticoduodenectomy": (
        "Pancreas",
        "Pancreas–Small Intestine",
        "Bile Duct–Small Intestine",
        "Small Intestine–Bile Duct",
        "Small Intestine–Stomach",
        "Bile Duct",
    ),
    "Right Middle Lobectomy": ("Peritoneum",),
    "Right Upper Lobectomy": ("Peritoneum",),
    "Segmentectomy": ("Peritoneum",),
    "Prostatectomy": ("Bladder–Urethra", "Bladder", "Urethra", "Peritoneum"),
}


def _balanced_weights() -> dict[str, NDArray[np.float64]]:
    """action → the chance of each instrument, such that all actions and all instruments are equally frequent.

    Computed by iterative proportional fitting (Sinkhorn) over the combinations that are possible.
    """
    table = np.array([[name in INSTRUMENTS_OF_ACTION[action] for name in INSTRUMENTS] for action in ACTIONS], float)
    for _ in range(300):
        table *= (1 / len(INSTRUMENTS)) / table.sum(axis=0)
        table *= (1 / len(ACTIONS)) / table.sum(axis=1, keepdims=True)
    return {action: row / row.sum() for action, row in zip(ACTIONS, table, strict=True)}


INSTRUMENT_CHANCE = _balanced_weights()
"""action → float64 [27], the chance of each of ``INSTRUMENTS``."""
