"""A host's copies of files that are stored elsewhere: bounded in bytes, shared by its processes.

A copy lies in the folder under the file's name; one that is fetched lies beside it as
``.incoming-<bytes>-<name>``. Whoever reads a copy holds a shared lock on it; whoever fetches or
removes one holds an exclusive lock, so that of many who ask for a file one fetches it and the
others wait. A lock ends with its process: an incoming file without one is what a crash left.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.store import uploads
from app.store.errors import CorruptFileError
from app.store.seals import SEALED, check

INCOMING = ".incoming-"


@dataclass(frozen=True)
class Source:
    """A file that is stored elsewhere.

    Parameters
    ----------
    name : str
    size : callable
        Asks for its bytes.
    fetch : callable
        Writes it to a path.
    """

    name: str
    size: Callable[[], int]
    fetch: Callable[[Path], None]


class Cache:
    """Copies of files, those that were read last.

    Parameters
    ----------
    folder : Path
        On a disk of this host.
    limit_bytes : int
        What all copies may take together. A file that is larger, or finds no room beside those
        that are being read, is fetched for one reader and not kept.
    scratch : Path
        Where such a file lies meanwhile.
    """

    def __init__(self, folder: Path, limit_bytes: int, scratch: Path) -> None:
        self._folder, self._limit, self._scratch = folder, limit_bytes, scratch

    @contextmanager
    def file(self, source: Source) -> Iterator[Path]:
        """Give a path to read the file from, to be mapped into memory at will, for a while.

        Raises
        ------
        CorruptFileError
            The file itself is damaged. A copy that is damaged is fetched again.
        """
        handle = self._copy(source)
        if handle is None:
            self._scratch.mkdir(parents=True, exist_ok=True)
            with uploads.folder(self._scratch) as folder:
                source.fetch(folder / "file")
                check(folder / "file", source.name)
                yield folder / "file"
            return
        try:
            yield self._folder / source.name
        finally:
            os.close(handle)

    def forget(self, name: str) -> None:
        """Remove the copy of a file that is gone; one that is being read is left to age."""
        _remove(self._folder / name)

    def taken_bytes(self) -> int:
        """Return what the copies take, with all that comes in."""
        return sum(copy.bytes for copy in self._copies()) if self._folder.is_dir() else 0

    def _copy(self, source: Source) -> int | None:
        """Return a handle whose lock keeps the copy; None if the file is not to be kept."""
        if not self._limit or SEALED.search(source.name) is None:
            return None
        self._folder.mkdir(parents=True, exist_ok=True)
        while (handle := self._opened(source.name)) is None:
            size = source.size()
            if size > self._limit or not self._fetched(source, size):
                return None
        return handle

    def _opened(self, name: str) -> int | None:
        """Open a copy that is there and sound, as read now; remove one that is damaged."""
        path = self._folder / name
        handle = _locked(path, fcntl.LOCK_SH)
        if handle is None:
            return None
        try:
            check(path, name)
            os.utime(handle, ns=(time.time_ns(), os.fstat(handle).st_mtime_ns))
        except CorruptFileError:
            fcntl.flock(handle, fcntl.LOCK_EX)  # once the others have seen it, too
            if _is_at(handle, path):
                path.unlink()
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        return handle

    def _fetched(self, source: Source, size: int) -> bool:
        """Fetch a file, or wait until another has; False if there is no room for it."""
        path = self._folder / source.name
        incoming = path.with_name(f"{INCOMING}{size}-{source.name}")
        handle = _locked(incoming, fcntl.LOCK_EX, os.O_CREAT)
        if handle is None:  # it was renamed, so it is whole, or removed
            return True
        try:
            if not path.exists() and self._has_room():
                source.fetch(incoming)
                check(incoming, source.name)
                incoming.rename(path)
            return path.exists()
        finally:
            if _is_at(handle, incoming):
                incoming.unlink()
            os.close(handle)

    def _has_room(self) -> bool:
        """Remove what was not read for longest until the rest fits, with all that comes in."""
        copies = sorted(self._copies(), key=lambda copy: copy.read_at)
        total = sum(copy.bytes for copy in copies)
        for copy in copies:
            if (total > self._limit or copy.is_incoming) and _remove(copy.path):
                total -= copy.bytes
        return total <= self._limit

    def _copies(self) -> Iterator[_Copy]:
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # removed, or renamed, meanwhile
                found = path.stat()
                is_incoming = path.name.startswith(INCOMING)
                size = int(path.name.split("-")[1]) if is_incoming else found.st_size
                yield _Copy(path, size, found.st_atime_ns, is_incoming)


@dataclass(frozen=True)
class _Copy:
    path: Path
    bytes: int
    read_at: int
    is_incoming: bool


def _remove(path: Path) -> bool:
    """Remove a file that nobody holds a lock on; False if somebody does, or it is gone."""
    try:
        handle = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if handle is None:
        return False
    path.unlink()
    os.close(handle)
    return True


def _locked(path: Path, operation: int, flags: int = 0) -> int | None:
    """Open a file and lock it; None if it is not there, or no longer once it is locked."""
    try:
        handle = os.open(path, os.O_RDWR | flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, operation)
        if _is_at(handle, path):
            return handle
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _is_at(handle: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False
