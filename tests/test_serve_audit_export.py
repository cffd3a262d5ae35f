"""The digest of the audit log at a place outside: a bucket with object lock, a log server by TCP and by TLS. Each has a
real server on the other side, and each shows a tail that was cut off."""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
import socket
import socketserver
import sqlite3
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import locked_bucket
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from serving import new_key, open_service, shared_model

from halsted_ray.cli import main
from halsted_ray.errors import OutputError, UsageError
from halsted_ray.service import audit_export, audit_places
from halsted_ray.service.components import ServiceComponents


@pytest.fixture
def service(tmp_path) -> ServiceComponents:
    return open_service(tmp_path, shared_model())


@pytest.fixture
def bucket(monkeypatch) -> Iterator[locked_bucket.LockedBucket]:
    import s3fs

    with locked_bucket.running() as (found, address):
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield found
        s3fs.S3FileSystem.clear_instance_cache()


def cut_tail(folder: Path, count: int = 1) -> None:
    """Removes the last entries past the triggers, as somebody with the database file can, so that the log verifies."""
    with closing(sqlite3.connect(folder / "halsted.db")) as database:
        database.execute("DROP TRIGGER IF EXISTS audit_no_delete")
        database.execute("DELETE FROM audit WHERE seq > (SELECT max(seq) FROM audit) - ?", (count,))
        database.execute(
            "UPDATE heads SET seq = (SELECT max(seq) FROM audit), "
            "digest = (SELECT digest FROM audit ORDER BY seq DESC LIMIT 1) WHERE name = 'audit'"
        )
        database.commit()


def verify(folder: Path, place: str) -> int:
    """The exit code of the command: 0 where all is as written."""
    return main(["serve", "audit", "--state", str(folder), "--against", place])


PLACE = f"s3://{locked_bucket.BUCKET}/halsted"


def test_digests_in_a_bucket_with_object_lock_show_a_cut_tail(service, bucket, tmp_path, capsys):
    for user in ("ada", "bob", "eve"):
        new_key(service, user=user)
        assert audit_export.export(service.database, PLACE) is not None
    assert audit_export.export(service.database, PLACE) is None, "nothing new"
    assert len(bucket.versions) == 3 and all(len(versions) == 1 for versions in bucket.versions.values())
    assert verify(tmp_path, PLACE) == 0
    cut_tail(tmp_path)
    assert main(["serve", "audit", "--state", str(tmp_path)]) == 0, "the log alone can't tell"
    assert verify(tmp_path, PLACE) == 3 and "its tail was cut off" in capsys.readouterr().out


def test_an_object_that_is_hidden_by_a_delete_marker_still_shows_the_cut_tail(service, bucket, tmp_path, capsys):
    """Object lock keeps versions. Whoever may delete still hides the newest object, and then its entries."""
    for user in ("ada", "bob"):
        new_key(service, user=user)
        audit_export.export(service.database, PLACE)
    fs, _ = audit_places.filesystem(PLACE)
    newest = max(bucket.versions)
    fs.rm_file(f"{locked_bucket.BUCKET}/{newest}")
    assert bucket.newest(newest) is None, "whoever lists the bucket does not see it any more"
    cut_tail(tmp_path, 2)
    assert verify(tmp_path, PLACE) == 3 and "its tail was cut off" in capsys.readouterr().out
    with pytest.raises(PermissionError):
        fs.call_s3("delete_object", Bucket=locked_bucket.BUCKET, Key=newest, VersionId=bucket.versions[newest][0][0])
    assert bucket.refused == 1, "the version itself can't be deleted"


def test_a_version_that_is_laid_over_a_digest_is_found(service, bucket, tmp_path, capsys):
    new_key(service)
    found = audit_export.export(service.database, PLACE)
    (name,) = bucket.versions
    bucket.add(name, json.dumps({"seq": found.seq, "digest": "0" * 64, "at_s": found.at_s}).encode())
    assert verify(tmp_path, PLACE) == 3 and "two digests of entry" in capsys.readouterr().out


def test_a_store_that_keeps_no_versions_is_read_as_it_is(service, s3_server, tmp_path, capsys):
    place = f"{s3_server.bucket}/audit-of-{tmp_path.name}"
    new_key(service)
    audit_export.export(service.database, place)
    assert verify(tmp_path, place) == 0
    cut_tail(tmp_path)
    assert verify(tmp_path, place) == 3 and "its tail was cut off" in capsys.readouterr().out


@dataclass
class LogServer:
    """A log server that keeps every message as one line of a file. ``framing``: how messages are told apart."""

    port: int
    file: Path
    framing: list[str] = field(default_factory=list)


@contextmanager
def log_server(file: Path, secret: ssl.SSLContext | None = None) -> Iterator[LogServer]:
    """A log server by TCP; with ``secret`` by TLS."""
    kept = LogServer(0, file)
    file.touch()

    class Messages(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            text = self.rfile.read()
            while text:
                if counted := re.match(rb"(\d+) (?=<)", text):  # RFC 5425 and 6587: octet counting
                    end = counted.end() + int(counted[1])
                    message, text = text[counted.end() : end], text[end:]
                    kept.framing.append("counted")
                else:
                    message, _, text = text.partition(b"\n")
                    kept.framing.append("line feed")
                with open(file, "ab") as out:
                    out.write(b"Nov 27 09:00:00 site " + message + b"\n")

    class Server(socketserver.ThreadingTCPServer):
        def get_request(self):
            connection, address = super().get_request()
            return (secret.wrap_socket(connection, server_side=True) if secret else connection), address

        def handle_error(self, *_arguments) -> None:
            """A client that does not trust the certificate ends the connection."""

    with Server(("127.0.0.1", 0), Messages) as server:
        kept.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield kept
        server.shutdown()


def wait_for_lines(server: LogServer, count: int) -> None:
    until_s = time.monotonic() + 120
    while server.file.read_text().count("halsted-audit") < count:
        assert time.monotonic() < until_s, f"the log server got no line {count}"
        time.sleep(0.05)


def certificate(folder: Path, host: str) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate of its own for ``host``, and the file with that certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "log server of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "log-server.pem", folder / "log-server.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private.write_bytes(key.private_bytes(*plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_lines_at_a_log_server_by_tcp_and_by_tls_show_a_cut_tail(service, tmp_path, capsys, monkeypatch, kind):
    secret, authority = certificate(tmp_path, "127.0.0.1") if kind == "tls" else (None, None)
    with log_server(tmp_path / "site.log", secret) as server:
        place = f"syslog+{kind}://127.0.0.1:{server.port}"
        if authority:
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        for count, user in enumerate(("ada", "bob"), start=1):
            new_key(service, user=user)
            audit_export.export(service.database, place)
            wait_for_lines(server, count)
    assert set(server.framing) == {"counted" if kind == "tls" else "line feed"} and len(server.framing) == 2
    lines = server.file.read_text().splitlines()
    assert len(lines) == 2 and all("<109>1 - - halsted - audit - halsted-audit seq=" in line for line in lines)
    assert verify(tmp_path, str(server.file)) == 0
    cut_tail(tmp_path)
    assert verify(tmp_path, str(server.file)) == 3 and "its tail was cut off" in capsys.readouterr().out


def test_a_log_server_whose_certificate_nobody_vouches_for_gets_nothing(service, tmp_path):
    secret, _ = certificate(tmp_path, "127.0.0.1")
    new_key(service)
    with log_server(tmp_path / "site.log", secret) as server:
        with pytest.raises(OutputError, match="certificate verify failed"):
            audit_export.export(service.database, f"syslog+tls://127.0.0.1:{server.port}")
    assert (tmp_path / "site.log").read_text() == ""
    with log_server(tmp_path / "site.log") as server:
        assert audit_export.export(service.database, f"syslog+tcp://127.0.0.1:{server.port}"), "it is tried again"
        wait_for_lines(server, 1)


def test_a_place_that_does_not_answer_keeps_nobody_from_writing(service, monkeypatch):
    """The digest is sent while no transaction is open."""
    monkeypatch.setattr(audit_places, "TIMEOUT_S", 20.0)
    new_key(service)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections and says nothing
        place = f"syslog+tls://127.0.0.1:{silent.getsockname()[1]}"
        sending = threading.Thread(
            target=lambda: pytest.raises(OutputError, audit_export.export, service.database, place)
        )
        sending.start()
        connection, _ = silent.accept()
        began_s = time.monotonic()
        new_key(service, user="bob")
        assert time.monotonic() - began_s < 10 and sending.is_alive()
        connection.close()
        sending.join()


@pytest.mark.parametrize("place", ["syslog+tls://:1", "syslog+tcp://host:none", "syslog://"])
def test_a_place_without_a_host_is_refused(service, place):
    new_key(service)
    with pytest.raises(UsageError, match=r"expected syslog(\+tcp|\+tls)?://host:port"):
        audit_export.export(service.database, place)
