"""``python -m serve``: the service on this machine, and what its operator does at the terminal.

    run                   the service on embedded defaults (`make serve`); prints its address and a key
    key TENANT USER ROLE  a new key; adds the tenant and the user where they are new
    audit                 checks that the audit log is as it was written
    backup FOLDER         copies a site, also while it runs (SQLite and a folder)
    restore FOLDER        puts the copy in the place of a new site

Exit codes: 0 done, 2 wrong use, 3 the audit log is broken.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from halsted_ray.cli.options import Parser, only_with, port, positive
from halsted_ray.errors import HalstedError
from halsted_ray.service import local_server, users
from halsted_ray.service.audit import AuditVerification
from halsted_ray.service.backup import backup, restore, verify_site
from halsted_ray.service.database import Database, database_exists
from halsted_ray.service.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    options = _parser().parse_args(arguments)
    given = {
        f"HALSTED_{name.upper()}": value if ":" in value else str(Path(value).absolute())
        for name in ("state", "model")
        if (value := getattr(options, name, None))
    }
    try:
        code: int = options.do(options, Settings.read({**os.environ, **given}))
        return code
    except HalstedError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace, settings: Settings) -> int:
    """``run``: the service until it is stopped."""
    local_server.serve_until_stopped(settings, options.host, options.port, Path(options.state) / "key")
    return 0


def new_key(options: argparse.Namespace, settings: Settings) -> int:
    """``key``: prints a new key."""
    if not database_exists(settings.database):
        print(f"a new site at {settings.database}", file=sys.stderr)
    database = Database(settings.database)
    database.migrate()
    print(users.issue_operator_key(database, options.tenant, options.user, options.role, options.days))
    database.close()
    return 0


def check_audit(_options: argparse.Namespace, settings: Settings) -> int:
    """``audit``: prints whether the audit log is as it was written."""
    return _print_verdict(verify_site(settings))


def copy_site(options: argparse.Namespace, settings: Settings) -> int:
    """``backup`` and ``restore``: copies the site and prints what the audit log of the copy says."""
    return _print_verdict(options.copy(settings, options.folder))


def _print_verdict(verdict: AuditVerification) -> int:
    print(f"audit log: {verdict.entries} entries, digest {verdict.digest}: {verdict.reason or 'all as written'}")
    return 0 if verdict.whole else 3


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def command(name: str, do: Callable[[argparse.Namespace, Settings], int], help: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(name, help=help)
        added.set_defaults(do=do)
        added.add_argument(
            "--state",
            default=os.environ.get("HALSTED_STATE") or "serve-state",
            help="the folder of the database and the store (default %(default)s)",
        )
        return added

    running = command("run", run, "run the service on this machine")
    running.add_argument("--model", help="a folder, a URL or registry:halsted@champion (default demo/model/model)")
    running.add_argument("--host", default="127.0.0.1", help="(default %(default)s: only this machine can connect)")
    running.add_argument("--port", type=port, default=8000, help="(default %(default)s)")
    issuing = command("key", new_key, "issue a key")
    issuing.add_argument("tenant", help="the hospital or department, such as north")
    issuing.add_argument("user", help="the name of the user")
    issuing.add_argument("role", choices=users.PERMISSIONS)
    issuing.add_argument("--days", type=positive, help="after so many days the key expires (default: never)")
    auditing = command("audit", check_audit, "verify the audit log")
    for database_only in (issuing, auditing):
        only_with(
            database_only,
            "--state",
            when=lambda _: not os.environ.get("HALSTED_DATABASE"),
            needs="HALSTED_DATABASE unset: the database is the one that this variable names",
        )
    for name, copy, help in (
        ("backup", backup, "copy the site to a new folder"),
        ("restore", restore, "put a copy in the place of a new site"),
    ):
        copying = command(name, copy_site, help)
        copying.set_defaults(copy=copy)
        copying.add_argument("folder", type=Path, help="the folder of the copy")
        only_with(
            copying,
            "--state",
            when=lambda _: not (os.environ.get("HALSTED_DATABASE") and os.environ.get("HALSTED_STORE")),
            needs="HALSTED_DATABASE or HALSTED_STORE unset: the site is what these variables name",
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
