"""``halsted serve`` and ``python -m serve``: the HTTP service on this machine, and what its operator does."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from halsted_ray.cli.options import DONE, NOT_ALL, WRONG_USE, Commands, Parser, add_command, only_with, port, positive
from halsted_ray.errors import HalstedError
from halsted_ray.model.shipped import SHIPPED

if TYPE_CHECKING:
    from halsted_ray.service.audit import AuditVerification
    from halsted_ray.service.settings import Settings

ROLES = ("surgeon", "reviewer", "annotator", "admin", "auditor")
"""Of a key; ``users.PERMISSIONS`` says what each role may do. Repeated here, so that --help needs no database."""
EXIT_CODES = "exit code: 0 done, 2 wrong use, 3 the audit log is not what was written"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command of ``python -m serve`` and returns the exit code."""
    parser = Parser(prog="python -m serve", description="The same commands as `halsted serve`.", epilog=EXIT_CODES)
    add_actions(parser.add_subparsers(dest="action", required=True, metavar="ACTION"), "python -m serve")
    options = parser.parse_args(arguments)
    try:
        code: int = options.do(options)
        return code
    except HalstedError as error:
        print(f"serve: {error}", file=sys.stderr)
        return WRONG_USE


def add_serve(commands: Commands) -> None:
    """``halsted serve ACTION``."""
    purpose = "the HTTP service and the page for surgeons: run, key, audit, backup, restore"
    serve = commands.add_parser(
        "serve", help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.", epilog=EXIT_CODES
    )
    add_actions(serve.add_subparsers(dest="action", required=True, metavar="ACTION"), "halsted serve")


def settings_of(options: argparse.Namespace) -> Settings:
    """The site's settings: the environment, and what the options say instead."""
    from halsted_ray.service.settings import Settings

    given = {
        f"HALSTED_{name.upper()}": value if ":" in value or value in SHIPPED else str(Path(value).absolute())
        for name in ("state", "model")
        if (value := getattr(options, name, None))
    }
    return Settings.read({**os.environ, **given})


def run(options: argparse.Namespace) -> int:
    """``run``: the service until it is stopped."""
    from halsted_ray.service import local_server

    local_server.serve_until_stopped(settings_of(options), options.host, options.port, Path(options.state) / "key")
    return DONE


def new_key(options: argparse.Namespace) -> int:
    """``key``: prints a new key."""
    from halsted_ray.service import users
    from halsted_ray.service.database import Database, database_exists

    settings = settings_of(options)
    if not database_exists(settings.database):
        print(f"a new site at {settings.database}", file=sys.stderr)
    database = Database(settings.database)
    database.migrate()
    print(users.issue_operator_key(database, options.tenant, options.user, options.role, options.days))
    database.close()
    return DONE


def check_audit(options: argparse.Namespace) -> int:
    """``audit``: prints whether the audit log is as it was written."""
    from halsted_ray.service.backup import verify_site

    return _print_verdict(verify_site(settings_of(options)))


def back_up(options: argparse.Namespace) -> int:
    """``backup``: copies the site and prints what the audit log of the copy says."""
    from halsted_ray.service.backup import backup

    return _print_verdict(backup(settings_of(options), options.folder))


def put_back(options: argparse.Namespace) -> int:
    """``restore``: puts a copy in the place of a new site and prints what its audit log says."""
    from halsted_ray.service.backup import restore

    return _print_verdict(restore(settings_of(options), options.folder))


def _print_verdict(verdict: AuditVerification) -> int:
    print(f"audit log: {verdict.entries} entries, digest {verdict.digest}: {verdict.reason or 'all as written'}")
    return DONE if verdict.whole else NOT_ALL


def add_actions(actions: Commands, program: str) -> None:
    """``run``, ``key``, ``audit``, ``backup`` and ``restore``."""

    def action(name: str, purpose: str, do: Callable[[argparse.Namespace], int], example: str) -> Parser:
        added = add_command(actions, name, purpose, do, example=f"{program} {example}", more=EXIT_CODES)
        added.add_argument(
            "--state",
            default=os.environ.get("HALSTED_STATE") or "serve-state",
            metavar="DIR",
            help="the folder of the database and the store (default %(default)s)",
        )
        return added

    running = action("run", "run the service on this machine, until Ctrl-C", run, "run --state demo/serve")
    running.add_argument(
        "--model", metavar="REF", help="a folder, a URL or registry:halsted@champion (default: phantom, which ships)"
    )
    running.add_argument("--host", default="127.0.0.1", help="(default %(default)s: only this machine can connect)")
    running.add_argument("--port", type=port, default=8000, help="(default %(default)s)")
    issuing = action("key", "issue a key; a new tenant or user is added", new_key, "key clinic ada surgeon")
    issuing.add_argument("tenant", help="the hospital or department, such as north")
    issuing.add_argument("user", help="the name of the user")
    issuing.add_argument("role", choices=ROLES)
    issuing.add_argument("--days", type=positive, help="after so many days the key expires (default: never)")
    auditing = action("audit", "check that the audit log is as it was written", check_audit, "audit --state demo/serve")
    for database_only in (issuing, auditing):
        only_with(
            database_only,
            "--state",
            when=lambda _: not os.environ.get("HALSTED_DATABASE"),
            needs="HALSTED_DATABASE unset: the database is the one that this variable names",
        )
    for copying in (
        action("backup", "copy the site to a new folder, also while it runs", back_up, "backup demo/backup"),
        action("restore", "put a copy in the place of a new site", put_back, "restore demo/backup --state new-site"),
    ):
        copying.add_argument("folder", type=Path, help="the folder of the copy")
        only_with(
            copying,
            "--state",
            when=lambda _: not (os.environ.get("HALSTED_DATABASE") and os.environ.get("HALSTED_STORE")),
            needs="HALSTED_DATABASE or HALSTED_STORE unset: the site is what these variables name",
        )
