"""The memory that a process which trains may take."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

import numpy as np

STATUS = Path("/proc/self/status")

WAKING_UNITS = 512
"""Products of smaller matrices may do without the BLAS's buffer."""


def limit_memory(more_bytes: int) -> None:
    """Have an allocation fail that takes the process so much beyond what it has now.

    A MemoryError can be caught and the job be told; the kernel's OOM killer
    takes whom it likes. What counts is memory that can be written and is not
    shared, touched or not: a limit of all addresses would count those that
    libraries only reserve. Where there is no such limit, nothing is set.
    """
    _wake_libraries()
    with suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (data_bytes() + more_bytes, hard))


def _wake_libraries() -> None:
    """Let libraries take what each thread of them has for good: refused it, they end the process.

    OpenBLAS has a buffer for products, and NumPy one to write a number in.
    """
    for dtype in (np.float32, np.float64):
        square = np.ones((WAKING_UNITS, WAKING_UNITS), dtype)
        np.matmul(square, square)
        str(square[0, 0])


def data_bytes() -> int:
    """Return how much memory of its own the process has.

    Raises
    ------
    OSError, ValueError
        This system does not say.
    """
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    kibibytes, _ = fields.get("VmData", "").split()
    return int(kibibytes) * 1024
