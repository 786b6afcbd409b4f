"""Seals: the name of a stored file says what its bytes are, so that damage is noticed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from app.store.errors import CorruptFileError

SEALED = re.compile(r"-([0-9a-f]{64})\.")
"""The sha256 of a file's bytes, within its name."""


def sealed(stem: str, source: Path) -> str:
    """Return the name to store the file ``source`` under: what its bytes are is in it."""
    return f"{stem}-{_sha256(source)}{source.suffix}"


def check(file: Path, name: str) -> None:
    """Make sure that a file is what its name in the storage says, where it does.

    Raises
    ------
    CorruptFileError
        Its bytes are not those that were stored.
    """
    seal = SEALED.search(name)
    if seal is not None and _sha256(file) != seal[1]:
        raise CorruptFileError(name)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
