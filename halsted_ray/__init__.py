"""Halsted on Ray: temporal maps of surgical video archives. Research software, not a medical device.

    from halsted_ray import map_archive, open_maps

    map_archive("archive", "maps")              # what happened when, in every video
    maps = open_maps("maps")
    maps.timeline.to_pandas()                   # one row per interval
    maps.plot(maps.video_ids[0]).show()         # one video's timeline

The other names of this face: ``embed_archive`` for the vectors of all windows, ``embeddings`` to read them as arrays,
``similar`` for the windows that are nearest to one, ``train`` a model on annotated clips,
``evaluate`` it beside baselines, ``self_label`` an archive with it, ``report`` the figures of a map, ``open_atlas`` for
the annotated clips, ``load_model`` for the model.
Everything else lives in the rooms of the package, such as ``halsted_ray.video``; ``docs/`` says which holds what.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# The threads of torch's CPU kernels sleep while they wait for each other. By default they spin, which holds up slower
# threads where other processes need the cores, too (docs/decisions/threads-wait-asleep.md). It is set here because
# OpenMP reads it when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if TYPE_CHECKING:
    from halsted_ray.atlas import read_atlas as open_atlas
    from halsted_ray.embedding.look_up import embeddings, similar
    from halsted_ray.evaluation.model_card import train
    from halsted_ray.evaluation.run_evaluation import evaluate
    from halsted_ray.mapping.embed_archive import embed_archive
    from halsted_ray.mapping.pipeline import map_archive
    from halsted_ray.registry.loading import load_model
    from halsted_ray.reporting.mapped_archive import open_maps
    from halsted_ray.reporting.summary import report
    from halsted_ray.selflabel.self_label import self_label

__version__ = "0.1.0"
__all__ = [
    "embed_archive",
    "embeddings",
    "evaluate",
    "load_model",
    "map_archive",
    "open_atlas",
    "open_maps",
    "report",
    "self_label",
    "similar",
    "train",
]

_PLACES = {
    "embed_archive": ("mapping.embed_archive", "embed_archive"),
    "embeddings": ("embedding.look_up", "embeddings"),
    "evaluate": ("evaluation.run_evaluation", "evaluate"),
    "load_model": ("registry.loading", "load_model"),
    "map_archive": ("mapping.pipeline", "map_archive"),
    "open_atlas": ("atlas", "read_atlas"),
    "open_maps": ("reporting.mapped_archive", "open_maps"),
    "report": ("reporting.summary", "report"),
    "self_label": ("selflabel.self_label", "self_label"),
    "similar": ("embedding.look_up", "similar"),
    "train": ("evaluation.model_card", "train"),
}


def __getattr__(name: str) -> Any:
    # Imported on first use: torch and Ray take seconds, and the decoding process wants neither.
    if name not in _PLACES:
        raise AttributeError(f"module 'halsted_ray' has no attribute {name!r}; expected one of {', '.join(__all__)}")
    module, attribute = _PLACES[name]
    return getattr(import_module(f"halsted_ray.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
