"""Whether the packages of ``halsted-ray[dicom]`` are installed, and that they say nothing."""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec

from halsted_ray.errors import UsageError

PACKAGES = ("pydicom", "pynetdicom", "highdicom", "fhir")
QUIET = ("pydicom", "pynetdicom", "highdicom")
"""Packages whose warnings and logs repeat values of headers: names, dates, numbers of patients."""


def needs_dicom() -> None:
    """Raises UsageError where a package of the extra is missing. Switches off what ``QUIET`` would log and warn of.

    For the whole process, since ``warnings.catch_warnings`` in one thread gives another thread's warnings back.
    """
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise UsageError(
            f"this needs {', '.join(missing)}, and not all of them are installed: pip install 'halsted-ray[dicom]'"
        )
    for package in QUIET:
        logging.getLogger(package).setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", module=rf"{package}(\.|$)")
