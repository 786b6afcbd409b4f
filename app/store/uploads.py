"""Uploads while they come in: each in a folder of its own, locked as long as somebody writes it.

The lock ends with the process that holds it, so a folder without one is what
a crash left behind.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@contextmanager
def folder(parent: Path) -> Iterator[Path]:
    """Make a folder for an upload, locked, and remove it at the end."""
    with tempfile.TemporaryDirectory(dir=parent) as name, _locked(Path(name)):
        yield Path(name)


class HashedFile(io.BufferedWriter):
    """A file that is hashed while it is written.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self.path, self.bytes, self._hash = path, 0, hashlib.sha256()

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of the data."""
        self._hash.update(data)
        written = super().write(data)
        self.bytes += written
        return written

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hexadecimal."""
        return self._hash.hexdigest()


def left_behind(parent: Path, older_than_seconds: float) -> list[tuple[Path, int]]:
    """Return the folders that nobody writes any more, each with its bytes.

    One is made a moment before it is locked; that is what the age is for.
    """
    before = time.time() - older_than_seconds
    found = []
    for path in parent.iterdir() if parent.is_dir() else ():
        with suppress(OSError):  # an upload that has ended meanwhile, or is being written
            if path.is_dir() and path.stat().st_mtime < before:
                with _locked(path):
                    found.append((path, sum(f.stat().st_size for f in path.rglob("*"))))
    return found


def remove(path: Path) -> bool:
    """Delete a folder that was left behind; False where another process did."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder's lock; raises ``BlockingIOError`` while another does."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
