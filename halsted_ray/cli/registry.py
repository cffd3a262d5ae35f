"""``halsted registry`` and ``halsted lineage``: their options, and what they print."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict

from halsted_ray.cli.options import DONE, NOT_ALL, Commands, Do, Parser, add_command, add_group, only_with
from halsted_ray.cli.text_tables import table

REGISTRY_HELP = "MLflow URI of the registry (default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db)"
MODEL_HELP = "folder or URL of a model, or registry:halsted@champion, or registry:halsted/7"


def in_registry(ref: str | None) -> bool:
    """Whether a model's reference names a version of the registry, and not a folder; its form is not checked here."""
    return ref is not None and ref.startswith(("registry:", "models:/"))


def registry_needs_version(parser: argparse.ArgumentParser) -> None:
    """Refuses --registry beside a --model that is a folder or URL: it would have no effect."""
    only_with(
        parser,
        "--registry",
        when=lambda given: in_registry(given.model),
        needs="a model of the registry, such as --model registry:halsted@champion",
    )


def add_registry(commands: Commands) -> None:
    """``halsted registry ACTION``."""
    purpose = "list trained models, and replace the model in use"
    actions = add_group(commands, "registry", purpose, example="halsted registry list")
    listing = action(actions, "list", "list all versions, newest first", list_versions, "halsted registry list")
    listing.add_argument("--json", action="store_true", help="print everything as JSON")
    show = action(
        actions,
        "show",
        "show one version: its training run, its atlas and where its files are",
        show_version,
        "halsted registry show champion",
    )
    show.add_argument("version", metavar="VERSION", help="a number, an alias, or registry:halsted@ALIAS")
    show.add_argument("--json", action="store_true", help="print everything as JSON")
    promote = action(
        actions,
        "promote",
        "test a version on the atlas's test videos; if it passes the gate, promote it",
        promote_version,
        "halsted registry promote 7 --atlas hospital --release hospital-v1 --deploy",
    )
    promote.add_argument("candidate", metavar="CANDIDATE", help="a number, registry:halsted@challenger, or a folder")
    promote.add_argument(
        "--atlas", required=True, metavar="DIR", help="the archive that holds atlas/; its release needs test videos"
    )
    promote.add_argument("--release", metavar="NAME", help="release of the atlas (default: the latest)")
    promote.add_argument(
        "--deploy", action="store_true", help="a version that passes becomes champion, not only challenger"
    )
    promote.add_argument(
        "--gate", metavar="FILE", help="YAML file of the gate's thresholds (default: the file that ships)"
    )
    promote.add_argument(
        "--migration", metavar="FILE", help="YAML file that maps the champion's taxonomy to the atlas's"
    )
    promote.add_argument("--embeddings", metavar="DIR", help="where embeddings are kept (default: ATLAS/embeddings)")
    promote.add_argument("--json", action="store_true", help="print the verdict as JSON")
    rollback = action(
        actions,
        "rollback",
        "make the previous champion the champion again",
        roll_back,
        "halsted registry rollback --reason 'worse on the robot'",
    )
    rollback.add_argument(
        "--model", default="halsted", metavar="NAME", help="registered model (default halsted; halsted-TAXONOMY)"
    )
    rollback.add_argument("--reason", default="", metavar="TEXT", help="the reason, kept with the rollback")


def action(commands: Commands, name: str, purpose: str, do: Do, example: str) -> Parser:
    """A command that reads or changes the registry."""
    parser = add_command(commands, name, purpose, do, example=example)
    parser.add_argument("--registry", metavar="URI", help=REGISTRY_HELP)
    return parser


def list_versions(options: argparse.Namespace) -> int:
    """Prints one line per version."""
    from halsted_ray.registry.model_registry import Registry, without_password

    opened = Registry(options.registry, make=False)
    versions = opened.versions()
    if options.json:
        print(json.dumps([asdict(version) for version in versions], indent=1))
        return DONE
    rows = [
        (
            version.number,
            version.tags.get("model_version", ""),
            version.tags.get("atlas_release", ""),
            version.name,
            day(version.created_ms),
            ", ".join(version.aliases),
        )
        for version in versions
    ]
    print(
        f"registry {without_password(opened.uri)}"
        + ("" if rows else ": no version yet; `halsted train --registry URI` adds one")
    )
    if rows:
        print(table(("version", "model", "atlas", "name", "made", "alias"), rows, right=(0,)))
    return DONE


def day(ms: int) -> str:
    """Milliseconds since 1970 as a date and time of this machine."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ms / 1000))


def show_version(options: argparse.Namespace) -> int:
    """Prints all that the registry knows of one version, one line per fact."""
    from halsted_ray.registry.model_registry import Registry

    opened = Registry(options.registry, make=False)
    version = opened.find(options.version)
    known = asdict(version) | {"folder": opened.folder(version)}
    if options.json:
        print(json.dumps(known, indent=1))
        return DONE
    rows = [
        ("registered model", version.name),
        ("version", version.number),
        ("alias", ", ".join(version.aliases) or "–"),
        ("made", day(version.created_ms)),
        ("run", version.run_id),
        *sorted(version.tags.items()),
        ("folder", known["folder"]),
    ]
    print("\n".join(f"{name:<20} {value}" for name, value in rows))
    return DONE


def promote_version(options: argparse.Namespace) -> int:
    """Runs the gate and prints each of its checks; exit code 3 where it refuses the version."""
    from halsted_ray.errors import UsageError
    from halsted_ray.registry import promotion
    from halsted_ray.registry.language_promotion import is_language_model, promote_language
    from halsted_ray.registry.model_registry import Registry, names_version

    opened = Registry(options.registry, make=not names_version(options.candidate))
    named = ("deploy", "gate", "embeddings", "release")
    given = {name: getattr(options, name) for name in named}
    if is_language_model(options.candidate):
        if options.migration:
            raise UsageError("a model of video and text has no taxonomy to migrate; leave --migration out")
        outcome = promote_language(opened, options.candidate, options.atlas, **given)
    else:
        outcome = promotion.promote(opened, options.candidate, options.atlas, migration=options.migration, **given)
    passed = outcome.verdict.passed
    if options.json:
        print(promotion.as_json(outcome))
        return DONE if passed else NOT_ALL
    rows = [
        (
            check.name,
            "–" if check.measured is None else f"{check.measured:.3f}",
            f"{check.bound:g}",
            "passed" if check.passed else "refused",
            check.said,
        )
        for check in outcome.verdict.checks
    ]
    print(table(("check", "measured", "bound", "verdict", "meaning"), rows, right=(1, 2)))
    champion = f"champion {outcome.champion.number}" if outcome.champion else "no champion"
    print(
        f"\nversion {outcome.candidate.number} against {champion}: "
        + (f"passed, it is {outcome.alias} now" if passed else "refused, nothing was changed")
        + f"; run {outcome.run_id}"
    )
    if not passed:
        print("\n".join(f"{check.name}: {check.reason}" for check in outcome.verdict.checks if not check.passed))
    return DONE if passed else NOT_ALL


def roll_back(options: argparse.Namespace) -> int:
    """Swaps the champion and the previous champion, and prints both."""
    from halsted_ray.registry.model_registry import Registry
    from halsted_ray.registry.promotion import rollback

    now, before = rollback(Registry(options.registry, make=False), options.reason, options.model)
    print(f"version {now.number} is champion again; version {before.number} is previous_champion")
    return DONE


def add_lineage(commands: Commands) -> None:
    """``halsted lineage``."""
    purpose = "trace a row of a map back to its model, training run and atlas"
    lineage = action(commands, "lineage", purpose, show_lineage, "halsted lineage demo/maps --row 3f2a:75.5:action")
    lineage.add_argument("out", metavar="OUT", help="the OUT of `halsted map`")
    lineage.add_argument(
        "--row",
        required=True,
        metavar="ROW",
        help="number of the row in the exported timeline.csv, from 0; or VIDEO:SECONDS[:TAG]",
    )
    lineage.add_argument("--json", action="store_true", help="print everything as JSON")


def show_lineage(options: argparse.Namespace) -> int:
    """Prints the row, and what made it: the map's commit, the model, its verdicts, its training run and atlas."""
    from halsted_ray.registry.lineage import lineage
    from halsted_ray.registry.model_registry import Registry

    known = lineage(Registry(options.registry, make=False), options.out, options.row)
    if options.json:
        print(json.dumps(known, indent=1))
        return DONE
    row, commit, version, training, atlas = (known[name] for name in ("row", "commit", "version", "training", "atlas"))
    print(
        f"row       {row['video_id']} [{row['start_s']:g}, {row['stop_s']:g}) s  {row['tag']} {row['category']} "
        f"({row['confidence']:.2f})"
    )
    print(
        f"mapped    commit {commit['table_version']} of the timeline, {day(commit['timestamp'])}, run "
        f"{commit['run_id']}, code {commit['code_version']}"
    )
    if not version:
        print(
            f"model     {row['model']} {row['model_version']}, atlas {row['atlas_release']}; it is not in the registry"
        )
        return DONE
    print(
        f"model     version {version['number']} {' '.join('@' + alias for alias in version['aliases'])}\n"
        f"          model {version['model_version']}, encoder {version['encoder_fingerprint']}, taxonomy "
        f"{version['taxonomy_digest']}"
    )
    for verdict in known["verdicts"]:
        print(
            f"verdict   {verdict['verdict']} on {day(verdict['when_ms'])}, atlas {verdict['atlas_release']}, run "
            f"{verdict['run_id']}"
        )
    print(f"training  run {training['run_id']}, {day(training['started_ms'])}, code {training['code_version']}")
    if atlas:
        print(f"atlas     {atlas['release']}, version {atlas['table_version']} of {atlas['table']}")
        commit = atlas["commit"]
        print(
            f"          {commit['action']} by {commit['who']}, {commit['at'][:16]}, from {commit['source']}: "
            f"{commit['why'] or 'no reason given'}"
            if commit
            else "          the table of the atlas can't be read from here"
        )
    return DONE
