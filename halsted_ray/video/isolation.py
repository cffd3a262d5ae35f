"""What the decoding process gives up before it reads a byte of a video: memory, writing files, network, programs."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct

# The numbers that Linux gives to prctl's options, to a filter's answers, and to the instructions of a filter.
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
RETURN_ALLOW, RETURN_ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06

SYSTEM_CALLS = {
    "x86_64": (
        0xC000003E,
        {
            "socket": 41,
            "connect": 42,
            "socketpair": 53,
            "execve": 59,
            "ptrace": 101,
            "process_vm_writev": 311,
            "execveat": 322,
            "io_uring_setup": 425,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "ptrace": 117,
            "socket": 198,
            "socketpair": 199,
            "connect": 203,
            "execve": 221,
            "process_vm_writev": 271,
            "execveat": 281,
            "io_uring_setup": 425,
        },
    ),
}
"""Machine → (the kernel's number for its architecture, the numbers of the calls that are refused).

io_uring opens sockets past any filter. ptrace and process_vm_writev reach into processes that have no filter."""

X32_BIT = 0x40000000
"""x86-64 has every call a second time with this bit set, for 32-bit pointers."""


DEVICE_MEMORY_MB = 2048
"""What the driver and torch may take of the host's memory beside, while a GPU decodes (unmeasured)."""


def limit_resources(memory_mb: int, on_device: bool = False, writes_bytes: int = 0) -> None:
    """Allows this process ``memory_mb`` beyond the memory that is mapped already, no core dump, and no writing of
    files; with ``writes_bytes`` files of at most this size.

    With ``on_device`` the limit holds for the memory of its own that it can write to. A driver of GPUs reserves
    addresses for the memory of all devices, so that no limit of addresses would leave any.
    """
    with open("/proc/self/statm") as file:
        mapped, *_, data, _dirty = (int(pages) * resource.getpagesize() for pages in file.read().split())
    if on_device:
        kind, limit = resource.RLIMIT_DATA, data + (memory_mb + DEVICE_MEMORY_MB) * 1024 * 1024
    else:
        kind, limit = resource.RLIMIT_AS, mapped + memory_mb * 1024 * 1024
    resource.setrlimit(kind, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (writes_bytes, writes_bytes))


def limit_cpu(cpu_s: float) -> None:
    """Allows this process ``cpu_s`` more seconds of CPU.

    A decoder in an endless loop then ends even where its parent is gone and can't kill it.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + cpu_s) + 1, hard))


def deny_network_and_programs() -> str | None:
    """Keeps this process from opening sockets and starting programs, from now on and for good (a seccomp filter).

    Returns None where that worked, else why the kernel refused. It needs no privilege, but some sandboxes do not offer
    it.
    """
    if platform.machine() not in SYSTEM_CALLS:
        return f"no filter is written for {platform.machine()}"
    architecture, refused = SYSTEM_CALLS[platform.machine()]
    # The filter reads the call's number at byte 0 of seccomp_data, and the architecture at byte 4.
    program = [
        (LOAD, 0, 0, 4),
        (JUMP_IF_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, RETURN_ERRNO | errno.EPERM),
        (LOAD, 0, 0, 0),
        (JUMP_IF_AT_LEAST, 0, 1, X32_BIT),
        (RETURN, 0, 0, RETURN_ERRNO | errno.EPERM),
    ]
    for number in refused.values():
        program += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, RETURN_ERRNO | errno.EPERM)]
    program.append((RETURN, 0, 0, RETURN_ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    # struct sock_fprog: a 16-bit count, padding, a pointer to the instructions.
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)):
        arguments = [value if isinstance(value, ctypes.Array) else ctypes.c_ulong(value) for value in call[1:]]
        if libc.prctl(call[0], *arguments) != 0:
            return os.strerror(ctypes.get_errno())
    return None
