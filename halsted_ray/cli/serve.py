"""``halsted serve``: runs the service on this machine, and what its operator does at the terminal."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from halsted_ray.cli.options import DONE, NOT_ALL, Commands, Parser, add_command, only_with, port, positive
from halsted_ray.model.shipped import SHIPPED

if TYPE_CHECKING:
    from halsted_ray.service.audit import AuditVerification
    from halsted_ray.service.settings import Settings

    SettingsDo = Callable[[argparse.Namespace, Settings], int]


def add_serve(commands: Commands) -> None:
    """``halsted serve`` and its actions."""
    purpose = "run the service, issue keys, verify its audit log, copy a site"
    serve = commands.add_parser("serve", help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
    actions = serve.add_subparsers(dest="action", required=True, metavar="ACTION")
    running = add_action(
        actions, "run", "run the service on this machine", run, "halsted serve run --model demo/model/model"
    )
    running.add_argument(
        "--model", metavar="REF", help="a folder, a URL or registry:halsted@champion (default: phantom, which ships)"
    )
    running.add_argument("--host", default="127.0.0.1", help="(default %(default)s: only this machine can connect)")
    running.add_argument("--port", type=port, default=8000, help="(default %(default)s)")
    issuing = add_action(
        actions,
        "key",
        "issue a key; adds the tenant and the user where they are new",
        new_key,
        "halsted serve key north ada surgeon --days 90",
    )
    issuing.add_argument("tenant", metavar="TENANT", help="the hospital or department, such as north")
    issuing.add_argument("user", metavar="USER", help="the name of the user")
    issuing.add_argument("role", metavar="ROLE", help="surgeon, reviewer, annotator, admin or auditor")
    issuing.add_argument("--days", type=positive, help="after so many days the key expires (default: never)")
    auditing = add_action(
        actions,
        "audit",
        "verify that the audit log is as it was written",
        check_audit,
        "halsted serve audit --state demo/serve",
        more="exit code: 0 as it was written, 3 an entry was changed or is missing, 2 wrong use",
    )
    for database_only in (issuing, auditing):
        only_with(
            database_only,
            "--state",
            when=lambda _: not os.environ.get("HALSTED_DATABASE"),
            needs="HALSTED_DATABASE unset: this variable names the database",
        )
    for name, what, do in (
        ("backup", "copy a site to a new folder, also while it runs (SQLite and a folder)", back_up),
        ("restore", "put a copy in the place of a new site", put_back),
    ):
        copying = add_action(actions, name, what, do, f"halsted serve {name} copies/monday --state demo/serve")
        copying.add_argument("folder", type=Path, metavar="FOLDER", help="the folder of the copy")
        only_with(
            copying,
            "--state",
            when=lambda _: not (os.environ.get("HALSTED_DATABASE") and os.environ.get("HALSTED_STORE")),
            needs="HALSTED_DATABASE or HALSTED_STORE unset: the site is what these variables name",
        )


def add_action(actions: Commands, name: str, purpose: str, do: SettingsDo, example: str, more: str = "") -> Parser:
    """An action on one site, whose settings are the environment's but for ``--state`` and ``--model``."""

    def with_settings(options: argparse.Namespace) -> int:
        from halsted_ray.service.settings import Settings

        given = {
            f"HALSTED_{option.upper()}": value if ":" in value or value in SHIPPED else str(Path(value).absolute())
            for option in ("state", "model")
            if (value := getattr(options, option, None))
        }
        return do(options, Settings.read({**os.environ, **given}))

    parser = add_command(actions, name, purpose, with_settings, example=example, more=more)
    parser.add_argument(
        "--state",
        default=os.environ.get("HALSTED_STATE") or "serve-state",
        metavar="DIR",
        help="the folder of the database and the store (default %(default)s)",
    )
    return parser


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Runs the service until it is stopped."""
    from halsted_ray.service.local_server import serve_until_stopped

    serve_until_stopped(settings, options.host, options.port, Path(options.state) / "key")
    return DONE


def new_key(options: argparse.Namespace, settings: Settings) -> int:
    """Prints a new key."""
    from halsted_ray.service.database import Database, database_exists
    from halsted_ray.service.users import issue_operator_key

    if not database_exists(settings.database):
        print(f"a new site at {settings.database}", file=sys.stderr)
    database = Database(settings.database)
    database.migrate()
    print(issue_operator_key(database, options.tenant, options.user, options.role, options.days))
    database.close()
    return DONE


def check_audit(_options: argparse.Namespace, settings: Settings) -> int:
    """Prints whether the audit log is as it was written."""
    from halsted_ray.service.backup import verify_site

    return print_verdict(verify_site(settings))


def back_up(options: argparse.Namespace, settings: Settings) -> int:
    """Copies the site and prints what the audit log of the copy says."""
    from halsted_ray.service.backup import backup

    return print_verdict(backup(settings, options.folder))


def put_back(options: argparse.Namespace, settings: Settings) -> int:
    """Puts a copy in place and prints what its audit log says."""
    from halsted_ray.service.backup import restore

    return print_verdict(restore(settings, options.folder))


def print_verdict(verdict: AuditVerification) -> int:
    """Prints what the verification of an audit log found, and returns the exit code."""
    print(f"audit log: {verdict.entries} entries, digest {verdict.digest}: {verdict.reason or 'all as written'}")
    return DONE if verdict.whole else NOT_ALL
