"""Predictions judged in the words of another taxonomy: truth and answer are both read there, by stated relations.

A window counts where its true category has a counterpart; an answer without one is wrong there. Categories that are one
category in the other taxonomy are not held apart, so the figures differ from those of the taxonomy itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from halsted_ray.evaluation.json_values import without_nan
from halsted_ray.evaluation.left_out import macro_f1
from halsted_ray.evaluation.predictions import NO_CATEGORY, TagPredictions, of_unit
from halsted_ray.records import JsonObject
from halsted_ray.taxonomy import Taxonomy, load
from halsted_ray.taxonomy.relations import load_relations, relations_between


def vocabulary_figures(predictions: Sequence[TagPredictions], taxonomy: Taxonomy, vocabulary: str) -> JsonObject:
    """``vocabulary``: its name; ``methods``: method → ``tag → other tag`` → accuracy, ``f1`` (macro), how many answers
    ``n``, and how many have a truth ``without`` a counterpart, over all folds, as JSON values.

    ``vocabulary``: the name of a taxonomy with shipped relations to ``taxonomy``, or a YAML file of relations. Raises
    TaxonomyError.
    """
    if vocabulary.endswith((".yaml", ".yml")):
        relations = load_relations(vocabulary, (taxonomy,))
    else:
        relations = relations_between(taxonomy, load(vocabulary))
    reading = relations.reading(taxonomy)
    other = relations.second if relations.first.digest == taxonomy.digest else relations.first
    pooled: dict[str, dict[str, list[tuple[np.ndarray, np.ndarray]]]] = {}
    for entry in of_unit(predictions, "clips") or of_unit(predictions, "grid"):
        if (entry.chosen_N == NO_CATEGORY).all():
            continue
        tag = taxonomy.tag(entry.targets.tag)
        targets = sorted({name for category in tag.categories for name in reading.get((tag.name, category), {})})
        for target in targets:
            index = {name: k for k, name in enumerate(other.tag(target).categories)}
            place_K = np.array(
                [index.get(reading.get((tag.name, category), {}).get(target, ""), -1) for category in tag.categories]
                + [-1]  # NO_CATEGORY, which is -1, points here
            )
            both = (place_K[entry.targets.truth_N], place_K[entry.chosen_N])
            pooled.setdefault(entry.method, {}).setdefault(f"{tag.name} → {target}", []).append(both)
    methods: JsonObject = {}
    for method, of_method in pooled.items():
        for name, parts in of_method.items():
            truth_N, chosen_N = (np.concatenate(part) for part in zip(*parts, strict=True))
            kept_N = truth_N >= 0
            methods.setdefault(method, {})[name] = {
                "accuracy": float((truth_N == chosen_N)[kept_N].mean()) if kept_N.any() else float("nan"),
                "f1": macro_f1(truth_N[kept_N], chosen_N[kept_N]),
                "n": int(kept_N.sum()),
                "without": int((~kept_N).sum()),
            }
    found: JsonObject = without_nan({"vocabulary": other.name, "methods": methods})
    return found
