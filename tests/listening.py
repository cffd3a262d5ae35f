"""The sockets on which a process and all that it has started listen, as Linux lists them."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path


def family(pid: int) -> Iterator[int]:
    """``pid`` and all processes that it has started, and those of these."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def listening(pid: int) -> dict[tuple[str, int], str]:
    """(address, port) → the command of the process, of the TCP sockets that listen and the UDP sockets without a
    peer."""
    addresses = {}
    for kind, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            (
                _,
                local,
                _,
                found,
                *_,
            ) = fields = line.split()
            if found == state:
                addresses[f"socket:[{fields[9]}]"] = _address(*local.split(":"))
    of_process = {}
    for one in family(pid):
        command = Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:80]
        for handle in Path(f"/proc/{one}/fd").iterdir():
            try:
                name = os.readlink(handle)
            except OSError:
                continue
            if name in addresses:
                of_process[addresses[name]] = command
    return of_process


def beyond_loopback(pid: int) -> dict[tuple[str, int], str]:
    """Those of ``listening`` that another machine could reach."""
    return {place: who for place, who in listening(pid).items() if not _is_loopback(place[0])}


def _address(address: str, port: str) -> tuple[str, int]:
    data = bytes.fromhex(address)
    words = b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))
    return str(ipaddress.ip_address(words)), int(port, 16)


def _is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return ((found.version == 6 and found.ipv4_mapped) or found).is_loopback
