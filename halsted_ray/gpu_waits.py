"""How a process waits for its GPU."""

from __future__ import annotations

import ctypes
from typing import Any

BLOCKING_SYNC = 4
"""CU_CTX_SCHED_BLOCKING_SYNC of CUDA's driver: a thread that waits for the GPU sleeps until it is woken."""


def sleep_while_waiting(driver: Any = None) -> bool:
    """Makes the threads of this process sleep while they wait for its first GPU; whether the driver agreed.

    By default CUDA lets them spin where there are as many cores as contexts, and each decoding process and each call
    of an encoding actor would keep a core busy that could decode. Sleeping takes a little longer per wait: others saw
    30% less CPU time for 0.5% more time (PyTorch's issue 28224); here it is unmeasured. To be called before torch first
    uses the GPU. ``driver``: libcuda, replaced in tests.
    """
    try:
        driver = driver or ctypes.CDLL("libcuda.so.1")
        device = ctypes.c_int()
        return (
            driver.cuInit(0) == 0
            and driver.cuDeviceGet(ctypes.byref(device), 0) == 0
            and driver.cuDevicePrimaryCtxSetFlags_v2(device, BLOCKING_SYNC) == 0
        )
    except (OSError, AttributeError):  # no driver, or one before CUDA 11
        return False
