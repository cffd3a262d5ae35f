"""``halsted serve``: runs the service on this machine, and what its operator does at the terminal."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from halsted_ray.cli.options import (
    DONE,
    NOT_ALL,
    Commands,
    Parser,
    add_command,
    only_with,
    port,
    positive,
    positive_int,
)
from halsted_ray.cli.text_tables import counted
from halsted_ray.errors import UsageError
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
    fronting = add_action(
        actions,
        "front",
        "run only the front, for a service on a cluster",
        run_front,
        "halsted serve front --host 0.0.0.0 --to halsted-serve-svc:8000",
        more="HALSTED_FRONT_SECRET must be what the service has (docs: settings).",
    )
    fronting.add_argument("--to", required=True, metavar="HOST:PORT", help="the address of Ray Serve's proxy")
    fronting.add_argument("--host", default="127.0.0.1", help="(default %(default)s: only this machine can connect)")
    fronting.add_argument("--port", type=port, default=8000, help="(default %(default)s)")
    fronting.add_argument(
        "--gateways", type=positive, default=1, help="so many replicas of Gateway share the requests (default 1)"
    )
    issuing = add_action(
        actions,
        "key",
        "issue, rotate or revoke a key; a new key adds a new tenant and user",
        change_key,
        "halsted serve key north ada surgeon --days 90",
        more="roles: surgeon, trainee, reviewer, annotator, admin, auditor, monitor",
    )
    issuing.add_argument(
        "words",
        nargs="+",
        metavar="TENANT USER ROLE",
        help="the hospital or department, the name of the user, the role; or: rotate KEY_ID (the key stays valid for "
        "a day beside the new one); or: revoke KEY_ID",
    )
    issuing.add_argument(
        "--days",
        type=positive,
        help="after so many days a new key expires, at most 366 (default: HALSTED_KEY_DAYS, 90)",
    )
    quota = add_action(
        actions,
        "quota",
        "set what the videos and open uploads of one tenant may have together",
        set_quota,
        "halsted serve quota north 500",
    )
    quota.add_argument("tenant", metavar="TENANT", help="the hospital or department, such as north")
    quota.add_argument(
        "gigabytes", metavar="GB", help="in 10^9 bytes, or 'default' for what HALSTED_QUOTA_GB says", type=_quota
    )
    auditing = add_action(
        actions,
        "audit",
        "verify that the audit log is as it was written",
        check_audit,
        "halsted serve audit --state demo/serve",
        more="exit code: 0 as it was written, 3 an entry was changed or is missing, 2 wrong use",
    )
    auditing.add_argument(
        "--against",
        metavar="PLACE",
        help="also compare with the digests that were exported there (HALSTED_AUDIT_TO, or a log server's file): this "
        "finds a tail that was cut off and a log that was written anew",
    )
    auditing.add_argument(
        "--last", type=positive_int, metavar="N", help="print the last N entries of all tenants, one JSON object a line"
    )
    for database_only in (issuing, quota, auditing):
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

    serve_until_stopped(settings, options.host, options.port)
    return DONE


def run_front(options: argparse.Namespace, settings: Settings) -> int:
    """Runs the front until it is stopped."""
    from halsted_ray.service.front import run_until_stopped

    run_until_stopped(settings, options.host, options.port, options.to, options.gateways)
    return DONE


def change_key(options: argparse.Namespace, settings: Settings) -> int:
    """Prints a new key, or that a key was revoked."""
    from halsted_ray.service import users
    from halsted_ray.service.database import Database, database_exists

    words = options.words
    changes_one = len(words) == 2 and words[0] in ("rotate", "revoke")
    if not changes_one and len(words) != 3:
        raise UsageError(f"key {' '.join(words)}: expected TENANT USER ROLE, rotate KEY_ID or revoke KEY_ID")
    if changes_one and options.days is not None:
        raise UsageError("--days is for a new key; a rotated key lasts as long as the key before it")
    if not database_exists(settings.database):
        if changes_one:
            raise UsageError(f"key {' '.join(words)}: there is no site at {settings.database}; check --state")
        print(f"a new site at {settings.database}", file=sys.stderr)
    database = Database(settings.database)
    database.migrate()
    try:
        if not changes_one:
            days = options.days or settings.key_days
            print(users.issue_operator_key(database, words[0], words[1], words[2], days))
        elif words[0] == "rotate":
            print(users.rotate_operator_key(database, words[1]))
        else:
            users.revoke_operator_key(database, words[1])
    finally:
        database.close()
    return DONE


def _quota(text: str) -> float | None:
    return None if text == "default" else positive(text)


def set_quota(options: argparse.Namespace, settings: Settings) -> int:
    """Sets the quota of a tenant."""
    from halsted_ray.service import audit
    from halsted_ray.service.database import Database, database_exists
    from halsted_ray.service.tables import Tenant

    if not database_exists(settings.database):
        raise UsageError(f"no database at {settings.database}; name the state folder of a site (--state)")
    database = Database(settings.database)
    database.migrate()
    try:
        with database.writing() as session:
            tenant = session.get(Tenant, options.tenant)
            if tenant is None:
                raise UsageError(f"no tenant {options.tenant!r}; `halsted serve key` adds one")
            tenant.quota_bytes = None if options.gigabytes is None else round(options.gigabytes * 10**9)
            audit.record(session, options.tenant, "operator", "tenant.quota", options.tenant, bytes=tenant.quota_bytes)
    finally:
        database.close()
    return DONE


def check_audit(options: argparse.Namespace, settings: Settings) -> int:
    """Prints whether the audit log is as it was written, also against what was exported, and its last entries."""
    from halsted_ray.service.backup import last_entries, verify_site

    verdict = verify_site(settings, options.against)
    for entry in last_entries(settings, options.last) if options.last else []:
        print(json.dumps(entry, ensure_ascii=False))
    return print_verdict(verdict)


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
    print(
        f"audit log: {counted(verdict.entries, 'entry', 'entries')}, digest {verdict.digest}: "
        f"{verdict.reason or 'all as written'}"
    )
    return DONE if verdict.whole else NOT_ALL
