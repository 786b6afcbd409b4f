"""The storage: whether a file can be written, read back, and deleted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from app.config import Settings
from app.doctor.checks import Finding, State, ok
from app.store.blobs import Storage
from app.store.tables import new_id

CONTENT = b"Can this be read back?"


def look(settings: Settings) -> Iterator[Finding]:
    """Write a small file, read it back, and delete it."""
    url = settings.resolved_storage_url
    if "://" not in url and not Path(url).exists():
        yield ok("storage", f"{url} is not there yet; the service makes it")
        return
    storage, name = Storage(url), new_id("probe")
    with tempfile.NamedTemporaryFile() as source:
        source.write(CONTENT)
        source.flush()
        storage.put(Path(source.name), name)
    try:
        with storage.local(name) as file:
            same = file.read_bytes() == CONTENT
    finally:
        storage.delete(name)
    where = f"{urlsplit(url).scheme}" if "://" in url else url
    if same:
        yield ok("storage", f"{where}: a file was written, read back and deleted")
    else:
        fact, advice = f"{where}: another file is read than was written", "see the storage's log"
        yield Finding("storage", State.WRONG, fact, advice)
