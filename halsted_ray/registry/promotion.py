"""Who may become champion: both models on the same frozen videos, a verdict that is kept, and the way back."""

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
from halsted_ray.model.halsted import Halsted
from halsted_ray.registry.gate import Verdict, apply_gate, common, read_thresholds
from halsted_ray.registry.held_out import HeldOutBenchmark, HeldOutResult
from halsted_ray.registry.model_registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, Version, names_version
from halsted_ray.registry.tracking import code_version, learned_videos, register

EXPERIMENT = "halsted-promotion"


@dataclass(frozen=True)
class Promotion:
    """What a call came to. ``alias``: the one that the candidate now has, '' where it did not pass."""

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
    """Lets ``candidate`` (a version's reference, or a model's folder) pass the gate, or not.

    Both models answer the frozen test videos of the atlas at ``atlas`` (default: of its latest release). Passed:
    ``challenger``, or with ``deploy`` ``champion``, and the champion so far ``previous_champion``. The verdict, passed
    or not, is an MLflow run. Raises AtlasError, TaxonomyError, RegistryError (the registry is down, or somebody else
    changed the aliases meanwhile: then nothing was changed here).
    """
    thresholds = read_thresholds(gate)
    bridge = Migration.read(migration) if migration else None
    source = read_atlas(atlas, release)
    before = {alias: registry.aliased(alias) for alias in (CHAMPION, CHALLENGER)}
    champion = before[CHAMPION]
    if bridge and (champion is None or champion.tags.get("taxonomy_digest") == source.taxonomy_digest):
        raise RegistryError(
            "a migration needs a champion of another taxonomy, and "
            + (f"version {champion.number} has the taxonomy of {source.name!r}" if champion else "there is no champion")
            + "; leave --migration out"
        )
    entrant = registry.find(candidate) if names_version(candidate) else register(registry, candidate)
    if champion and champion.number == entrant.number:
        raise RegistryError(f"version {entrant.number} is the champion already; name another one")

    model = Halsted.load(registry.folder(entrant))
    bench = HeldOutBenchmark.of(source, model.config.windows, embeddings)
    ours = bench.examine(model, learned_videos(registry, entrant, model.config), None, progress)
    theirs = None
    if champion:
        in_use = Halsted.load(registry.folder(champion))
        theirs = bench.examine(in_use, learned_videos(registry, champion, in_use.config), bridge, progress)
    verdict = apply_gate(ours, theirs, bench.taxonomy, bench.operations, thresholds)
    run_id = record(
        registry,
        verdict,
        entrant,
        champion,
        bench,
        ours,
        theirs,
        {
            "atlas_release": source.name,
            "atlas_version": str(source.version),
            "atlas_content_digest": source.content_digest,
            "migration": bridge.reason if bridge else "",
        },
    )
    alias = ""
    if verdict.passed:
        alias = CHAMPION if deploy else CHALLENGER
        with registry.locked(f"promotion of version {entrant.number}"):
            unchanged(registry, before)
            moves = {CHALLENGER: entrant.number}
            if deploy:
                # The way back first: a process that dies here has changed nothing that anybody uses.
                moves = ({PREVIOUS: champion.number} if champion else {}) | {CHAMPION: entrant.number}
                if before[CHALLENGER] and before[CHALLENGER].number == entrant.number:
                    moves[CHALLENGER] = None
            registry.move(moves)
        with registry.spoken():
            registry.client.set_tag(run_id, "alias", alias)
    return Promotion(verdict, entrant, champion, run_id, alias)


def unchanged(registry: Registry, before: dict[str, Version | None]) -> None:
    """Raises RegistryError when an alias is another version's than when the comparison began."""
    for alias, then in before.items():
        now = registry.aliased(alias)
        if (now and now.number) != (then and then.number):
            raise RegistryError(
                f"{alias} is version {now and now.number} now, and was {then and then.number} when this promotion "
                "began: another one was quicker; nothing was changed, compare with the new one by the same command"
            )


def record(
    registry: Registry,
    verdict: Verdict,
    entrant: Version,
    champion: Version | None,
    bench: HeldOutBenchmark,
    ours: HeldOutResult,
    theirs: HeldOutResult | None,
    facts: dict[str, str],
) -> str:
    """The verdict as an MLflow run: tags, figures of both and their difference, and the table of checks."""
    experiment = registry.experiment(EXPERIMENT)
    said = "passed" if verdict.passed else "refused"
    now_ms = int(time.time() * 1000)
    found, metrics = {}, {}
    for side, prefix, shown in (("candidate", "", ours), ("champion", "champion_", theirs)):
        if shown:
            found[side] = score_predictions(shown.answers, bench.taxonomy, bench.operations)
            own = found[side]["methods"][MODEL]
            metrics |= {f"{prefix}accuracy/{tag}": of_tag["accuracy"]["value"] for tag, of_tag in own["tags"].items()}
            metrics |= {f"{prefix}task_accuracy/{task}": of["value"] for task, of in own["tasks"].items()}
    if theirs:
        known = common(theirs.answers, ours.answers)
        found["difference"] = compare_models(*known, bench.taxonomy, bench.operations)
    with registry.spoken():
        run = registry.client.create_run(
            experiment,
            run_name=f"version-{entrant.number}-{said}",
            tags=facts
            | {
                "verdict": said,
                "candidate": str(entrant.number),
                "champion": str(champion.number) if champion else "",
                "candidate_model_version": entrant.tags.get("model_version", ""),
                "code_version": code_version(),
            },
        )
        run_id = run.info.run_id
        registry.client.log_batch(run_id, metrics=[Metric(n, v, now_ms, 0) for n, v in metrics.items()])
        checks = [asdict(check) for check in verdict.checks]
        registry.client.log_table(run_id, {name: [c[name] for c in checks] for name in checks[0]}, "verdict.json")
        registry.client.log_dict(run_id, found, "figures.json")
        registry.client.set_terminated(run_id, "FINISHED")
    return run_id


def rollback(registry: Registry, reason: str = "") -> tuple[Version, Version]:
    """(champion now, champion before): the two aliases change places, so a second rollback undoes the first.

    Recorded as an MLflow run. Raises RegistryError where there is no way back.
    """
    with registry.locked("rollback"):
        champion, previous = registry.aliased(CHAMPION), registry.aliased(PREVIOUS)
        if previous is None or champion is None:
            raise RegistryError("there is no previous champion to go back to; `halsted registry list` shows what is")
        registry.move({CHAMPION: previous.number, PREVIOUS: champion.number})
    experiment = registry.experiment(EXPERIMENT)
    with registry.spoken():
        run = registry.client.create_run(
            experiment,
            run_name=f"rollback-to-{previous.number}",
            tags={
                "verdict": "rollback",
                "candidate": str(previous.number),
                "champion": str(champion.number),
                "reason": reason,
                "code_version": code_version(),
            },
        )
        registry.client.set_terminated(run.info.run_id, "FINISHED")
    return registry.find(str(previous.number)), champion


def as_json(promotion: Promotion) -> str:
    return json.dumps(asdict(promotion) | {"passed": promotion.verdict.passed}, indent=1)
