"""``python -m serve``: the service on this machine, and what its operator does at the terminal.

    run                   everything on embedded defaults (`make serve`); prints the address and a key
    key TENANT USER ROLE  a new key; adds the tenant and the user where they are new
    audit                 is the audit log what was written?
    backup FOLDER         copies a site, also while it runs (SQLite and a folder)
    restore FOLDER        puts the copy in the place of a site that is new

Exit codes: 0 done, 2 wrong use, 3 the audit log is broken.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from halsted_ray.cli.options import Parser, only_with, port, positive
from halsted_ray.errors import HalstedError, UsageError
from halsted_ray.service import audit, users
from halsted_ray.service.backup import backup, restore
from halsted_ray.service.database import Database, is_there
from halsted_ray.service.served_model import source_of
from halsted_ray.service.settings import Settings

TENANT, USER = "demo", "demo"
"""Whom the key of ``run`` is for."""
LEAST_CPUS = 8
"""Logical ones: replicas that mostly wait hold some, and every job's actors need one each."""
PORT_WAIT_S = 10.0
"""0.2 s was seen where four busy processes shared each core."""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    given = {
        f"HALSTED_{name.upper()}": value if ":" in value else str(Path(value).absolute())
        for name in ("state", "model")
        if (value := getattr(options, name, None))
    }
    try:
        return options.do(options, Settings.read({**os.environ, **given}))
    except HalstedError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace, settings: Settings) -> int:
    claim = require_free(options.host, options.port)
    release = source_of(settings.model)()  # before anything is started: it says what to do where there is none
    database = Database(settings.database)
    database.migrate()
    key = _own_key(database, Path(options.state) / "key")
    database.close()
    # The replicas are other processes and read the same variables.
    os.environ |= {
        "HALSTED_DATABASE": settings.database,
        "HALSTED_STORE": settings.store,
        "HALSTED_MODEL": settings.model,
    }
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("HF_HUB_OFFLINE", "1"),
        ("DO_NOT_TRACK", "1"),
        ("RAY_worker_niceness", "0"),
    ):  # else the replicas wait for whatever else the machine does
        os.environ.setdefault(name, value)
    import ray
    from ray import serve

    from halsted_ray.service.deployments import app

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    ray.init(
        address="local",
        _node_ip_address="127.0.0.1",
        num_cpus=max(LEAST_CPUS, (os.cpu_count() or 1) + 6),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    serve.start(
        http_options={"host": options.host, "port": options.port}, logging_config={"enable_access_log": False}
    )  # as in config.yaml: its lines hold whole paths
    serve.run(app, name="halsted", route_prefix="/")
    address = f"http://{options.host}:{options.port}"
    print(
        f"serving {release.name} version {release.version}\naddress: {address}  (documentation: {address}/docs)\n"
        f"user:    {USER}\nkey:     {key}",
        flush=True,
    )
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    stop.wait()
    serve.shutdown()
    ray.shutdown()
    claim.close()
    return 0


def require_free(host: str, port: int) -> socket.socket:
    """The claim on ``port``, which the caller keeps for as long as the service lives. Raises UsageError where the port
    is served, or another service has claimed it and starts.

    Serve's proxies share a port, so a second service would get every other request; and half a minute lies between this
    look at the port and the moment in which Serve binds it. A service that was killed holds its port until its last
    thread has ended: for that it waits.
    """
    until_s = time.monotonic() + PORT_WAIT_S
    claim = socket.socket(socket.AF_UNIX)
    while error := _claim_error(claim, port) or _bind_error(host, port):
        if error.errno != errno.EADDRINUSE or time.monotonic() > until_s:
            claim.close()
            raise UsageError(
                f"can't serve at {host}:{port}: {error}; end what serves there, or name another --port or --host"
            )
        time.sleep(0.1)
    return claim


def _claim_error(claim: socket.socket, port: int) -> OSError | None:
    """Binds ``claim`` to a name that stands for ``port``, unless it is bound already.

    The name is an abstract one, in no folder: like a port, it belongs to whoever comes first, of any user, within one
    network namespace, and the kernel frees it at once when its process ends, however that ends. The processes that Ray
    starts don't inherit it.
    """
    try:
        if not claim.getsockname():
            claim.bind(f"\0halsted-service-{port}")
    except OSError as error:
        return error
    return None


def _bind_error(host: str, port: int) -> OSError | None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(found[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[4])
    except OSError as error:
        return error
    return None


def new_key(options: argparse.Namespace, settings: Settings) -> int:
    if not is_there(settings.database):
        print(f"a new site at {settings.database}", file=sys.stderr)
    database = Database(settings.database)
    database.migrate()
    with database.writing() as session:
        users.add_tenant(session, options.tenant)
        print(
            users.issue_key(session, users.add_user(session, options.tenant, options.user, options.role), options.days)
        )
    return 0


def check_audit(_options: argparse.Namespace, settings: Settings) -> int:
    if not is_there(settings.database):
        raise UsageError(f"no database at {settings.database}; name the state folder of a site (--state)")
    with Database(settings.database).writing() as session:
        return _say(audit.verify(session))


def copy_site(options: argparse.Namespace, settings: Settings) -> int:
    return _say(options.copy(settings, options.folder))


def _say(verdict: audit.AuditVerification) -> int:
    print(f"audit log: {verdict.entries} entries, digest {verdict.digest}: {verdict.reason or 'all as written'}")
    return 0 if verdict.whole else 3


def _own_key(database: Database, file: Path) -> str:
    """The key in ``file`` while it holds, else a new one, readable by its owner only."""
    known = file.read_text().strip() if file.is_file() else ""
    with database.writing() as session:
        if known and users.authenticate(session, known):
            return known
        users.add_tenant(session, TENANT)
        key = users.issue_key(session, users.add_user(session, TENANT, USER, "admin"))
    file.touch(mode=0o600)
    file.write_text(key + "\n")
    return key


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def command(name: str, do, what: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=what)
        added.set_defaults(do=do)
        added.add_argument(
            "--state",
            default=os.environ.get("HALSTED_STATE") or "serve-state",
            help="the folder of database and store (default %(default)s)",
        )
        return added

    running = command("run", run, "serve on this machine")
    running.add_argument("--model", help="a folder, a URL or registry:halsted@champion (default demo/model/model)")
    running.add_argument("--host", default="127.0.0.1", help="(default %(default)s: this machine only)")
    running.add_argument("--port", type=port, default=8000)
    issuing = command("key", new_key, "issue a key")
    for name in ("tenant", "user"):
        issuing.add_argument(name)
    issuing.add_argument("role", choices=users.MAY)
    issuing.add_argument("--days", type=positive, help="until it expires (default: never)")
    auditing = command("audit", check_audit, "verify the audit log")
    for database_only in (issuing, auditing):
        only_with(
            database_only,
            "--state",
            when=lambda _: not os.environ.get("HALSTED_DATABASE"),
            needs="HALSTED_DATABASE unset: the database is the one that this variable names",
        )
    for name, copy, what in (("backup", backup, "copy the site"), ("restore", restore, "put a copy in place")):
        copying = command(name, copy_site, what)
        copying.set_defaults(copy=copy)
        copying.add_argument("folder", type=Path)
        only_with(
            copying,
            "--state",
            when=lambda _: not (os.environ.get("HALSTED_DATABASE") and os.environ.get("HALSTED_STORE")),
            needs="HALSTED_DATABASE or HALSTED_STORE unset: the site is what these variables name",
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
