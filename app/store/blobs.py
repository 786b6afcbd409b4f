"""Where dataset files live: a folder, or whatever fsspec reaches, such as ``s3://bucket/prefix``."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from app.config import Settings
from app.store.cache import Cache, Source
from app.store.seals import check as check_seal

INCOMING = ".incoming-"
"""How the name of a copy begins that is under way, or broke off."""


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
    cache : Cache, optional
        Keeps copies on this host of what is stored elsewhere; without one nothing is kept.
    """

    def __init__(self, url: str, cache: Cache | None = None) -> None:
        self._files, self._root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        self._cache = cache
        self._is_local = isinstance(self._files, LocalFileSystem)
        if self._is_local:
            Path(self._root).mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the storage that the operator has set."""
        folder, limit = settings.cache_folder, settings.cache_limit_bytes
        return cls(settings.resolved_storage_url, Cache(folder, limit, settings.uploads_folder))

    def put(self, source: Path, name: str, *, move: bool = False) -> None:
        """Store a copy of the file ``source``, or itself, if that may be gone and spares a copy."""
        if not self._is_local:
            self._files.put_file(str(source), self._path(name))
        elif not (move and _moved(source, Path(self._root) / name)):
            _copy_atomically(source, Path(self._root) / name)

    @contextmanager
    def local(self, name: str, *, check: bool = False) -> Iterator[Path]:
        """Give a path to read the file from, to be mapped into memory at will, for a while.

        Parameters
        ----------
        name : str
        check : bool
            Whether to go through all of the file first; what comes from elsewhere always is.

        Raises
        ------
        FileNotFoundError
            There is no such file; of a folder the reader is told so when it opens the path.
        CorruptFileError
            It is damaged.
        """
        if self._is_local:
            if check:
                check_seal(Path(self._root) / name, name)
            yield Path(self._root) / name
            return
        source = Source(name, lambda: self._size(name), lambda path: self._fetch(name, path))
        with ExitStack() as stack:
            cache = self._cache
            if cache is None:
                cache = Cache(
                    folder := Path(stack.enter_context(tempfile.TemporaryDirectory())), 0, folder
                )
            yield stack.enter_context(cache.file(source))

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self._files.exists(self._path(name)))

    def delete(self, name: str) -> bool:
        """Delete the file, and its copy here; False if it is not there, where the storage tells."""
        if self._cache is not None:
            self._cache.forget(name)
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

    def _size(self, name: str) -> int:
        return int(self._files.info(self._path(name), refresh=True)["size"])

    def _fetch(self, name: str, target: Path) -> None:
        self._files.get_file(self._path(name), str(target))


def _moved(source: Path, target: Path) -> bool:
    """Move a file, once it has reached the disk; False if the target is on another one."""
    with source.open("rb") as content:
        os.fsync(content.fileno())
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


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
