"""Promotion: compares a candidate with the champion on the same frozen videos, keeps the verdict, and moves aliases.

Also the rollback to the champion before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from mlflow.entities import Metric

from halsted_ray.atlas import read_atlas
from halsted_ray.errors import RegistryError
from halsted_ray.evaluation.migration import Migration
from halsted_ray.evaluation.model_comparison import compare_models
from halsted_ray.evaluation.predictions import MODEL
from halsted_ray.evaluation.scoring import score_predictions
from halsted_ray.model.checkpoint import JsonObject
from halsted_ray.model.halsted import Halsted
from halsted_ray.registry.gate import Verdict, apply_gate, common_tags, read_thresholds
from halsted_ray.registry.held_out import HeldOutBenchmark, HeldOutResult
from halsted_ray.registry.model_registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, Version, names_version
from halsted_ray.registry.references import MODEL as MODEL_NAME
from halsted_ray.registry.references import registered_name
from halsted_ray.registry.tracking import code_version, learned_videos, register

EXPERIMENT = "halsted-promotion"


@dataclass(frozen=True)
class Promotion:
    """The result of ``promote``.

    ``alias``: the alias that the candidate has now, '' where it did not pass. ``run_id``: the MLflow run that keeps the
    verdict.
    """

    verdict: Verdict
    candidate: Version
    champion: Version | None
    """At the time of the comparison."""
    run_id: str
    alias: str


def promote(
    registry: Registry,
    candidate: str,
    atlas: str,
    *,
    deploy: bool = False,
    release: str | None = None,
    gate: str | None = None,
    migration: str | None = None,
    embeddings: str | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> Promotion:
    """Compares ``candidate`` with the champion and gives it an alias if it passes the gate.

    Both models tag the frozen test videos of the atlas at ``atlas`` (``release``: default the latest). A candidate that
    passes becomes ``challenger``. With ``deploy`` it becomes ``champion``, and the champion before it becomes
    ``previous_champion``. The verdict is kept as an MLflow run, whether it passed or not.

    ``candidate``: a version's reference, or a model's folder, which is registered first. ``gate``: a file of
    thresholds, default the shipped one. ``migration``: a file that maps the champion's taxonomy to the atlas's.
    ``embeddings``: where vectors are kept. ``progress``: as in ``training.embed.embed``.

    Raises AtlasError, TaxonomyError and RegistryError (the registry is down, or somebody else changed the aliases
    meanwhile; then this call has changed none).
    """
    thresholds = read_thresholds(gate)
    bridge = Migration.read(migration) if migration else None
    source = read_atlas(atlas, release)
    name = registered_name(source.taxonomy)
    before = {alias: registry.aliased(alias, name) for alias in (CHAMPION, CHALLENGER)}
    champion = before[CHAMPION]
    if bridge and (champion is None or champion.tags.get("taxonomy_digest") == source.taxonomy_digest):
        raise RegistryError(
            "a migration needs a champion of another taxonomy, and "
            + (f"version {champion.number} has the taxonomy of {source.name!r}" if champion else "there is no champion")
            + "; leave --migration out"
        )
    version = registry.find(candidate, name) if names_version(candidate) else register(registry, candidate)
    if version.name != name:
        raise RegistryError(
            f"version {version.number} of {version.name!r} can't become a model of the taxonomy {source.taxonomy!r} of "
            f"the atlas {source.name!r}: that taxonomy has a registered model of its own, {name!r}; name an atlas of "
            "the candidate's taxonomy, or the folder of a model that answers in the atlas's"
        )
    if champion and champion.number == version.number:
        raise RegistryError(f"version {version.number} is the champion already; name another version")

    model = Halsted.load(registry.folder(version))
    benchmark = HeldOutBenchmark.of(source, model.config.windows, embeddings)
    ours = benchmark.measure(model, learned_videos(registry, version, model.config), None, progress)
    theirs = None
    if champion:
        in_use = Halsted.load(registry.folder(champion))
        theirs = benchmark.measure(in_use, learned_videos(registry, champion, in_use.config), bridge, progress)
    verdict = apply_gate(ours, theirs, benchmark.taxonomy, benchmark.operations, thresholds)
    run_id = record(
        registry,
        verdict,
        version,
        champion,
        benchmark,
        ours,
        theirs,
        {
            "atlas_release": source.name,
            "atlas_version": str(source.version),
            "atlas_content_digest": source.content_digest,
            "migration": bridge.reason if bridge else "",
        },
    )
    alias = give_alias(registry, version, before, deploy, run_id) if verdict.passed else ""
    return Promotion(verdict, version, champion, run_id, alias)


def give_alias(
    registry: Registry, version: Version, before: dict[str, Version | None], deploy: bool, run_id: str
) -> str:
    """Makes ``version`` challenger, or champion with ``deploy``; returns the alias.

    ``before``: champion and challenger as they were when the comparison began. ``run_id``: the run that keeps the
    verdict. Raises RegistryError where an alias has moved since; then nothing is changed.
    """
    champion, challenger = before[CHAMPION], before[CHALLENGER]
    alias = CHAMPION if deploy else CHALLENGER
    with registry.locked(f"promotion of version {version.number}"):
        require_unchanged(registry, before, version.name)
        moves: dict[str, int | None] = {CHALLENGER: version.number}
        if deploy:
            # previous_champion moves first: if this process dies then, the alias that is in use has not changed.
            moves = {PREVIOUS: champion.number} if champion else {}
            moves[CHAMPION] = version.number
            if challenger and challenger.number == version.number:
                moves[CHALLENGER] = None
        registry.move(moves, version.name)
    with registry.clear_errors():
        registry.client.set_tag(run_id, "alias", alias)
    return alias


def require_unchanged(registry: Registry, before: dict[str, Version | None], name: str) -> None:
    """Raises RegistryError where an alias has moved since ``before`` (alias to version) was read."""
    for alias, then in before.items():
        now = registry.aliased(alias, name)
        if (now and now.number) != (then and then.number):
            raise RegistryError(
                f"{alias} is version {now and now.number} now, and was {then and then.number} when this promotion "
                "began: another one was quicker; nothing was changed, so give the same command again to compare "
                f"with the new {alias}"
            )


def record(
    registry: Registry,
    verdict: Verdict,
    candidate: Version,
    champion: Version | None,
    benchmark: HeldOutBenchmark,
    ours: HeldOutResult,
    theirs: HeldOutResult | None,
    facts: dict[str, str],
) -> str:
    """Keeps a verdict as an MLflow run; returns the run's id.

    The run has ``facts`` and the versions as tags, the figures of both models and their difference, and the table of
    checks. ``ours`` and ``theirs``: the results of candidate and champion.
    """
    found: JsonObject = {}
    metrics: dict[str, float] = {}
    for side, prefix, shown in (("candidate", "", ours), ("champion", "champion_", theirs)):
        if shown:
            found[side] = score_predictions(shown.predictions, benchmark.taxonomy, benchmark.operations)
            own = found[side]["methods"][MODEL]
            metrics |= {f"{prefix}accuracy/{tag}": of_tag["accuracy"]["value"] for tag, of_tag in own["tags"].items()}
            metrics |= {f"{prefix}task_accuracy/{task}": of["value"] for task, of in own["tasks"].items()}
    if theirs:
        compared = common_tags(theirs.predictions, ours.predictions)
        found["difference"] = compare_models(*compared, benchmark.taxonomy, benchmark.operations)
    return keep_verdict(registry, verdict, candidate, champion, facts, metrics, found)


def keep_verdict(
    registry: Registry,
    verdict: Verdict,
    candidate: Version,
    champion: Version | None,
    facts: dict[str, str],
    metrics: dict[str, float],
    figures: JsonObject,
) -> str:
    """Keeps a verdict as an MLflow run with ``facts`` as tags, ``metrics``, and ``figures`` as a file.

    Returns the run's id.
    """
    experiment = registry.experiment(EXPERIMENT)
    word = "passed" if verdict.passed else "refused"
    now_ms = int(time.time() * 1000)
    with registry.clear_errors():
        run = registry.client.create_run(
            experiment,
            run_name=f"version-{candidate.number}-{word}",
            tags=facts
            | {
                "verdict": word,
                "registered_model": candidate.name,
                "candidate": str(candidate.number),
                "champion": str(champion.number) if champion else "",
                "candidate_model_version": candidate.tags.get("model_version", ""),
                "code_version": code_version(),
            },
        )
        run_id = run.info.run_id
        registry.client.log_batch(run_id, metrics=[Metric(n, v, now_ms, 0) for n, v in metrics.items()])
        checks = [asdict(check) for check in verdict.checks]
        registry.client.log_table(run_id, {name: [c[name] for c in checks] for name in checks[0]}, "verdict.json")
        registry.client.log_dict(run_id, figures, "figures.json")
        registry.client.set_terminated(run_id, "FINISHED")
    return run_id


def rollback(registry: Registry, reason: str = "", name: str = MODEL_NAME) -> tuple[Version, Version]:
    """Swaps ``champion`` and ``previous_champion`` of the registered model ``name``; returns (champion now, champion
    before).

    A second rollback undoes the first. The rollback and its ``reason`` are kept as an MLflow run. Raises RegistryError
    where there is no previous champion.
    """
    with registry.locked("rollback"):
        champion, previous = registry.aliased(CHAMPION, name), registry.aliased(PREVIOUS, name)
        if previous is None or champion is None:
            raise RegistryError(
                "there is no previous champion to go back to; `halsted registry list` shows all versions and aliases"
            )
        registry.move({CHAMPION: previous.number, PREVIOUS: champion.number}, name)
    experiment = registry.experiment(EXPERIMENT)
    with registry.clear_errors():
        run = registry.client.create_run(
            experiment,
            run_name=f"rollback-to-{previous.number}",
            tags={
                "verdict": "rollback",
                "registered_model": name,
                "candidate": str(previous.number),
                "champion": str(champion.number),
                "reason": reason,
                "code_version": code_version(),
            },
        )
        registry.client.set_terminated(run.info.run_id, "FINISHED")
    return registry.find(str(previous.number), name), champion


def as_json(promotion: Promotion) -> str:
    """Returns the result of a promotion as JSON text."""
    return json.dumps(asdict(promotion) | {"passed": promotion.verdict.passed}, indent=1)
