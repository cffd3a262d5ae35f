"""Finds the generator that a user names, and nothing that anybody else named."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Sequence
from typing import cast

from halsted_ray.errors import UsageError
from halsted_ray.storage.locations import local_path
from halsted_ray.synthesis.condition import Generator
from halsted_ray.synthesis.phantom_generator import draw

PHANTOM = "phantom"
NAMED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def load_generator(name: str, data_folders: Sequence[str] = ()) -> Generator:
    """Returns the generator ``phantom``, or the function that ``package.module:function`` names.

    The package must be importable, as an installed one is; a path is no name. A package that lies in one of
    ``data_folders`` is not imported, since whoever may write data must not decide what runs. Raises UsageError.
    """
    if name == PHANTOM:
        return draw
    if not NAMED.fullmatch(name):
        raise UsageError(f"generator {name!r}; expected phantom, or package.module:function of an installed package")
    module_name, _, function = name.partition(":")
    package = module_name.partition(".")[0]
    spec = importlib.util.find_spec(package)  # of the first name alone: this runs no code
    if spec is None:
        raise UsageError(f"generator {name!r}: there is no package {package!r} here; install it beside halsted-ray")
    places = [spec.origin or "", *(spec.submodule_search_locations or ())]
    for folder in data_folders:
        root = local_path(folder)
        if root is not None and any(place and is_below(place, root) for place in places):
            raise UsageError(
                f"generator {name!r}: the package {package!r} lies in {folder!r}, among data; code from there is not "
                "run: install the package, and start from another folder"
            )
    try:
        found = getattr(importlib.import_module(module_name), function, None)
    except ImportError as error:
        raise UsageError(f"generator {name!r} can't be imported: {error}; install what it needs") from error
    if not callable(found):
        raise UsageError(f"generator {name!r}: the module {module_name!r} has no function {function!r}")
    return cast(Generator, found)


def is_below(place: str, root: str) -> bool:
    """Whether the file or folder ``place`` lies in the folder ``root``, links followed."""
    place, root = os.path.realpath(place), os.path.realpath(root)
    return place == root or place.startswith(root.rstrip(os.sep) + os.sep)
