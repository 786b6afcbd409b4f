"""Where dataset files live: a folder, or whatever fsspec reaches, such as ``s3://bucket/prefix``."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from app.store.errors import CorruptFileError

SEALED = re.compile(r"-([0-9a-f]{64})\.")
"""The sha256 of a file's bytes, within its name."""

INCOMING = ".incoming-"
"""How the name of a copy begins that is under way, or broke off."""


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


@dataclass(frozen=True)
class StoredFile:
    """A file of the storage.

    Parameters
    ----------
    name : str
    bytes : int
    modified : float
        When it was written, in seconds since 1970, by the storage's clock.
    """

    name: str
    bytes: int
    modified: float


class Storage:
    """Files by name; a file never changes under its name, and is never seen half written.

    Parameters
    ----------
    url : str
        A folder, or a URL that fsspec knows.
    """

    def __init__(self, url: str) -> None:
        self._files, self._root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        self._is_local = isinstance(self._files, LocalFileSystem)
        if self._is_local:
            Path(self._root).mkdir(parents=True, exist_ok=True)

    def put(self, source: Path, name: str) -> None:
        """Store a copy of the file ``source``."""
        if self._is_local:
            _copy_atomically(source, Path(self._root) / name)
        else:
            self._files.put_file(str(source), self._path(name))

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """Give a path to read the file from, to be mapped into memory at will, for a while."""
        if self._is_local:
            yield Path(self._root) / name
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            self._files.get_file(self._path(name), str(path))
            yield path

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self._files.exists(self._path(name)))

    def delete(self, name: str) -> bool:
        """Delete the file; False if it is not there, where the storage tells."""
        try:
            self._files.rm_file(self._path(name))
        except FileNotFoundError:
            return False
        return True

    def files(self) -> list[StoredFile]:
        """List what is there, also what a copy that broke off left."""
        try:
            found = self._files.ls(self._root, detail=True, refresh=True)
        except FileNotFoundError:  # S3 has no empty folders
            return []
        return [_described(each) for each in found if each["type"] == "file"]

    def ping(self) -> None:
        """Raise what the storage raises when it cannot be reached."""
        if self._is_local:
            self._files.info(self._root)
        else:
            self._files.info(self._root.split("/")[0])

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _copy_atomically(source: Path, target: Path) -> None:
    """Copy beside the target, reach the disk, then rename: there is the whole file or none."""
    handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=INCOMING)
    try:
        with os.fdopen(handle, "wb") as out, source.open("rb") as content:
            shutil.copyfileobj(content, out, 2**20)
            out.flush()
            os.fsync(out.fileno())
        Path(scratch).replace(target)
    except BaseException:
        Path(scratch).unlink()
        raise


def _described(found: dict[str, Any]) -> StoredFile:
    """Describe a file in the one way, for a folder says ``mtime`` and S3 ``LastModified``."""
    modified = found["mtime"] if "mtime" in found else found["LastModified"].timestamp()
    return StoredFile(found["name"].rsplit("/", 1)[-1], int(found["size"]), float(modified))
