"""The fingerprint of a worker: everything beside spec and data that the bits of a training hang on.

Two workers of one fingerprint go on with each other's trainings to the same
bits. Another thread count or kernel set of the BLAS, or another SIMD level of
NumPy, adds the same numbers up in another order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from app.config import VERSION


def fingerprint() -> dict[str, Any]:
    """Return the fingerprint of this process."""
    blas = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return {
        "chainrule": VERSION,
        "numpy": np.__version__,
        "blas": [_words(library) for library in blas],
        "blas_threads": max((library["num_threads"] for library in blas), default=1),
        "simd": np.show_config(mode="dicts")["SIMD Extensions"]["found"],
    }


def _words(library: dict[str, Any]) -> str:
    """Name a BLAS: which one, its version, and the kernels that it chose for this processor."""
    parts = (library.get(name) for name in ("internal_api", "version", "architecture"))
    return " ".join(str(part) for part in parts if part)
