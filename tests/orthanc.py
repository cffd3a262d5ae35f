"""A real Orthanc of our own: a DICOM archive with REST and DICOMweb, on free ports, in a temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

TITLE = "ORTHANC"
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass
class Orthanc:
    """``log``: what it printed so far lies there."""

    http_port: int
    dicom_port: int
    log: Path

    def get(self, path: str, accept: str = "*/*") -> bytes:
        return self._ask(path, None, accept)

    def ask(self, path: str, body: object = None) -> object:
        """What a GET (a POST of ``body``, as JSON) of ``path`` answers, as JSON."""
        return json.loads(self._ask(path, None if body is None else json.dumps(body).encode()))

    def upload(self, data: bytes) -> str:
        """Stores a DICOM file; Orthanc's id of the instance."""
        answer = json.loads(self._ask("/instances", data))
        return str(answer["ID"])

    def instance_of(self, uid: str) -> str:
        """Orthanc's id of the instance that is stored under a SOP Instance UID."""
        (found,) = json.loads(self._ask("/tools/lookup", uid.encode()))
        return str(found["ID"])

    def _ask(self, path: str, body: bytes | None, accept: str = "*/*") -> bytes:
        url = f"http://127.0.0.1:{self.http_port}{path}"
        request = urllib.request.Request(url, data=body, headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.code} {error.read()[:2000].decode(errors='replace')}") from error


def orthanc_program() -> str | None:
    """Where Orthanc lies; installs Debian's packages where this process is root and can."""
    if shutil.which("Orthanc") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"capture_output": True, "timeout": 300, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        with no_daemons():
            for words in (["update"], ["install", "-y", "--no-install-recommends", "orthanc", "orthanc-dicomweb"]):
                subprocess.run(["apt-get", "-q", *words], check=False, **quiet)
    return shutil.which("Orthanc")


@contextmanager
def no_daemons() -> Iterator[None]:
    """Debian's package starts its own server when it is installed. Where nobody has a rule for that, ours says no."""
    rule = Path("/usr/sbin/policy-rc.d")
    if rule.exists():
        yield
        return
    rule.write_text("#!/bin/sh\nexit 101\n")
    rule.chmod(0o755)
    try:
        yield
    finally:
        rule.unlink()


@contextmanager
def running(program: str, peers: Mapping[str, int] | None = None) -> Iterator[Orthanc]:
    """Orthanc until the end of the block. ``peers``: AE title → port on this machine that it may send to and that may
    ask it for instances; its ports take nothing from another machine."""
    folder = Path(tempfile.mkdtemp(prefix="orthanc-"))
    http_port, dicom_port = free_ports(2)
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "TemporaryDirectory": str(folder),
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": dicom_port,
        "DicomAet": TITLE,
        "DicomAlwaysAllowStore": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": {
            title: {"AET": title, "Host": "127.0.0.1", "Port": port, "AllowGet": True, "AllowMove": True}
            for title, port in (peers or {}).items()
        },
        "SynchronousCMove": True,
        "SyncStorageArea": False,
        "StableAge": 1,
        "Plugins": [str(DICOMWEB)] if DICOMWEB.is_file() else [],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    log = folder / "log"
    until_s = time.monotonic() + 120
    with open(log, "wb") as out:
        started = subprocess.Popen([program, "orthanc.json"], cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    server = Orthanc(http_port, dicom_port, log)
    try:
        while True:
            try:
                server.ask("/system")
                break
            except (urllib.error.URLError, ConnectionError) as error:
                text = log.read_text(errors="replace")
                if time.monotonic() > until_s or (started.poll() is not None and "already in use" not in text):
                    raise RuntimeError(f"Orthanc did not start: {text[-2000:]}") from error
                if started.poll() is not None:  # another test took a port after it was found free
                    http_port, dicom_port = free_ports(2)
                    settings |= {"HttpPort": http_port, "DicomPort": dicom_port}
                    (folder / "orthanc.json").write_text(json.dumps(settings))
                    with open(log, "wb") as out:
                        started = subprocess.Popen(
                            [program, "orthanc.json"], cwd=folder, stdout=out, stderr=subprocess.STDOUT
                        )
                    server = Orthanc(http_port, dicom_port, log)
                time.sleep(0.1)
        yield server
    finally:
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens at, each another."""
    with ExitStack() as open_now:
        found = [open_now.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in found]
