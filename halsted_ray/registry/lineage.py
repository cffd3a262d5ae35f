"""Lineage: from a row of a map back to its mapping run and commit, model version, training run and atlas release."""

from __future__ import annotations

import json
from operator import itemgetter

import pyarrow as pa
from deltalake.exceptions import DeltaError

from halsted_ray.atlas.commits import history
from halsted_ray.errors import AtlasError, UsageError
from halsted_ray.maps.reading import read_timeline
from halsted_ray.model.checkpoint import JsonObject
from halsted_ray.records import TIMELINE_ORDER
from halsted_ray.registry.model_registry import Registry, Version
from halsted_ray.registry.promotion import EXPERIMENT
from halsted_ray.registry.references import MODEL
from halsted_ray.storage.delta import native_files, open_table, table_uri

FORMS = (
    "the number, counted from 0, of its row in the timeline.csv that `halsted export --format csv` writes, or "
    "VIDEO:SECONDS[:TAG] (3f2a:75.5:action)"
)


def lineage(registry: Registry, out: str, row: str) -> JsonObject:
    """Returns what made a row of the maps at ``out``, as JSON values. ``row``: see ``FORMS``.

    The keys: ``row``; ``commit`` of the timeline; ``version`` of the registry; ``training``: its MLflow run; ``atlas``:
    the release and its commit; ``verdicts`` of the gate. A value that is not known is None. Raises UsageError where
    there is no such row, RegistryError where the registry can't be reached.
    """
    timeline = read_timeline(out)
    found = find_row(timeline, row)
    known: JsonObject = {
        "row": found,
        "commit": commit_of(out, found),
        "version": None,
        "training": None,
        "atlas": None,
        "verdicts": [],
    }
    version = registry.made_by(found["model_version"])
    if version:
        known["version"] = {
            "number": version.number,
            "aliases": version.aliases,
            "run_id": version.run_id,
            **version.tags,
        }
        known["training"], known["atlas"] = training_of(registry, version)
        known["verdicts"] = verdicts_on(registry, version)
    return known


def find_row(timeline: pa.Table, wanted: str) -> JsonObject:
    """Returns the row of ``timeline`` (in the order of ``read_timeline``) that ``wanted`` names (``FORMS``). Raises
    UsageError with the rows that would fit."""
    rows: list[JsonObject] = timeline.to_pylist()
    if wanted.isdigit():
        if int(wanted) >= len(rows):
            raise UsageError(f"there is no row {wanted}: the maps have {len(rows)} rows, counted from 0")
        return rows[int(wanted)]
    video, *place = wanted.split(":")
    try:
        at_s, tag = float(place[0]), place[1] if len(place) > 1 else None
    except (IndexError, ValueError):
        raise UsageError(f"--row {wanted!r}: expected {FORMS}") from None
    fitting = [
        row
        for row in rows
        if row["video_id"].startswith(video) and row["start_s"] <= at_s < row["stop_s"] and tag in (None, row["tag"])
    ]
    if len(fitting) == 1 or (fitting and tag is None and len({row["model_version"] for row in fitting}) == 1):
        return fitting[0]
    choice = ", ".join(f"{row['video_id']}:{at_s:g}:{row['tag']}" for row in fitting[:8])
    raise UsageError(
        f"--row {wanted!r}: {'several rows fit: ' + choice if fitting else 'no row is there'}; expected {FORMS}"
    )


def commit_of(out: str, row: JsonObject) -> JsonObject:
    """Returns the commit of the timeline that wrote the present rows of the row's video and task.

    A commit names its model and tasks, but not its videos, so versions are compared from the newest backwards. Where a
    version was vacuumed away, the search ends at the oldest version that can still be read.
    """
    uri = table_uri(out, "timeline")
    newest = open_table(uri)
    by_version = {commit["version"]: commit for commit in newest.history()}
    current = rows_at(uri, newest.version(), row)
    made = newest.version()
    while made > 0:
        metadata = by_version.get(made, {})
        asked = metadata.get("tasks", "").split(",")
        if metadata.get("model_version") == row["model_version"] and row["task"] in asked:
            try:
                if rows_at(uri, made - 1, row) != current:
                    break
            except (DeltaError, OSError):
                break
        made -= 1
    metadata = by_version.get(made, {})
    names = ("timestamp", "run_id", "recipe", "code_version", "model_version", "tasks")
    return {"table_version": made} | {name: metadata.get(name) for name in names}


def rows_at(uri: str, version: int, row: JsonObject) -> list[JsonObject]:
    """Returns the rows of the row's video and task in one version of the timeline, ordered by time and tag.

    Without the uri: a commit that follows a moved file did not make the row.
    """
    filters = [("video_id", "=", row["video_id"]), ("task", "=", row["task"])]
    table = open_table(uri, version)
    rows = table.to_pyarrow_table(filters=filters, filesystem=native_files(table)).drop_columns(["uri"]).to_pylist()
    return sorted(rows, key=itemgetter(*TIMELINE_ORDER))


def training_of(registry: Registry, version: Version) -> tuple[JsonObject, JsonObject | None]:
    """Returns (training run, atlas with the commit of its release) of a version; None for an unknown atlas."""
    with registry.clear_errors():
        run = registry.client.get_run(version.run_id)
    training = {
        "run_id": run.info.run_id,
        "started_ms": run.info.start_time,
        "ended_ms": run.info.end_time,
        "code_version": run.data.tags.get("code_version"),
        "git_commit": run.data.tags.get("mlflow.source.git.commit"),
        "recipe": dict(sorted(run.data.params.items())),
    }
    datasets = run.inputs.dataset_inputs if run.inputs else []
    if not datasets:
        return training, None
    dataset = datasets[0].dataset
    source = json.loads(dataset.source)
    atlas: JsonObject = {
        "release": dataset.name,
        "content_digest": dataset.digest,
        "table": source["path"],
        # MLflow leaves version 0 out.
        "table_version": source.get("delta_table_version", 0),
        "commit": None,
    }
    try:
        commit = next(
            c for c in history(source["path"].removesuffix("/atlas/samples")) if c.version == atlas["table_version"]
        )
        # The commit also holds the whole taxonomy and split, which nobody needs here.
        names = ("action", "who", "source", "why", "added", "removed", "code_version")
        atlas["commit"] = {name: getattr(commit, name) for name in names} | {"at": commit.at.isoformat()}
    except (AtlasError, StopIteration):
        pass  # the atlas was moved or can't be reached from here; its version and digest are known all the same
    return training, atlas


def verdicts_on(registry: Registry, version: Version) -> list[JsonObject]:
    """Returns the gate's verdicts on a version, the newest first."""
    with registry.clear_errors():
        experiment = registry.client.get_experiment_by_name(EXPERIMENT)
        runs = (
            registry.client.search_runs([experiment.experiment_id], f"tags.candidate = '{version.number}'")
            if experiment
            else []
        )
    return [
        {
            "run_id": run.info.run_id,
            "when_ms": run.info.start_time,
            **{name: run.data.tags.get(name, "") for name in ("verdict", "champion", "alias", "atlas_release")},
        }
        for run in runs
        # A verdict from before there were several registered models is one on the first of them.
        if run.data.tags.get("registered_model", MODEL) == version.name
    ]
