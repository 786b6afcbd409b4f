"""Cleaning up: what nobody needs any more is deleted, beside a service that works."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from app.config import Settings
from app.store import datasets, predictions, retention, uploads
from app.store.blobs import INCOMING, Storage, StoredFile
from app.store.database import Database
from app.store.retention import Item, Kind
from app.store.tables import now

ORPHAN_SECONDS = 3600.0
"""What nobody refers to and is younger may be referred to in a moment: an upload is under way."""

_TABLE = r"table_[0-9a-f]{32}(-[0-9a-f]{64})?\.arrow"
OURS = re.compile(
    rf"{_TABLE}|{predictions.FILE.pattern}|{re.escape(INCOMING)}\w+|probe_[0-9a-f]{{32}}"
)
"""What the service itself puts into the storage. Whatever else lies there is not ours to delete."""

_DURATION = re.compile(r"([0-9]{1,5})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Swept:
    """What was deleted of one kind, or would be.

    Parameters
    ----------
    name : str
    count, bytes : int
    """

    name: str
    count: int
    bytes: int


def duration(text: str) -> timedelta:
    """Read a duration such as ``30d``, ``12h`` or ``2w``."""
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"expected a whole number of hours, days or weeks: 12h, 30d; got {text!r}")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def run(settings: Settings, older_than: timedelta | None, *, models: bool, dry_run: bool) -> int:
    """Delete what nobody needs any more; print what it was."""
    database = Database(settings.resolved_database_url)
    try:
        swept = list(sweep(settings, database, older_than, models=models, dry_run=dry_run))
    finally:
        database.dispose()
    _print(swept, "would be deleted" if dry_run else "deleted", older_than)
    return 0


def sweep(
    settings: Settings,
    database: Database,
    older_than: timedelta | None,
    *,
    models: bool,
    dry_run: bool,
) -> Iterator[Swept]:
    """Go through every kind; without ``older_than`` no job is touched."""
    hour_ago = now() - timedelta(seconds=ORPHAN_SECONDS)
    jobs = [] if older_than is None else [(now() - older_than)]
    kinds = [retention.ended_jobs(before, with_models=models) for before in jobs]
    kinds += [
        retention.expired_keys(settings.idempotency_hours),
        retention.old_usage(),
        retention.full_rates(),
        retention.orphaned_artifacts(hour_ago),
    ]
    for kind in kinds:
        yield _sweep_rows(database, kind, dry_run=dry_run)
    storage = Storage.of(settings)
    yield _sweep_files(database, storage, dry_run=dry_run)
    yield _sweep_uploads(settings, dry_run=dry_run)


def _sweep_rows(database: Database, kind: Kind, *, dry_run: bool) -> Swept:
    with database.reading() as session:
        found = kind.find(session)

    def remove(batch: Sequence[Item]) -> Sequence[Item]:
        with database.writing() as session:
            gone = set(kind.remove(session, [key for key, _ in batch]))
        return [item for item in batch if item[0] in gone]

    return _sweep(kind.name, found, remove, dry_run=dry_run)


def _sweep_files(database: Database, storage: Storage, *, dry_run: bool) -> Swept:
    """Delete files without a row.

    The files are listed before the rows are read: whatever got its row
    meanwhile is seen to have one.
    """
    old = [file for file in storage.files() if _is_old_and_ours(file)]

    def orphans(batch: Sequence[Item]) -> Sequence[Item]:
        with database.reading() as session:
            names = [name for name, _ in batch]
            known = datasets.referred(session, names) | predictions.referred(session, names)
        return [item for item in batch if item[0] not in known]

    def remove(batch: Sequence[Item]) -> Sequence[Item]:
        return [item for item in orphans(batch) if storage.delete(item[0])]

    listed = [(file.name, file.bytes) for file in old]
    found = [item for batch in retention.batches(listed) for item in orphans(batch)]
    return _sweep("files without a row", found, remove, dry_run=dry_run)


def _is_old_and_ours(file: StoredFile) -> bool:
    return bool(OURS.fullmatch(file.name)) and file.modified < time.time() - ORPHAN_SECONDS


def _sweep_uploads(settings: Settings, *, dry_run: bool) -> Swept:
    found = uploads.left_behind(settings.uploads_folder, ORPHAN_SECONDS)

    def remove(batch: Sequence[Item]) -> Sequence[Item]:
        return [item for item in batch if uploads.remove(item[0])]

    return _sweep("uploads that broke off", found, remove, dry_run=dry_run)


def _sweep(
    name: str,
    found: Sequence[Item],
    remove: Callable[[Sequence[Item]], Sequence[Item]],
    *,
    dry_run: bool,
) -> Swept:
    """Remove what was found, batch by batch, and rest after each as long as it took.

    Of those that wait for SQLite the one that asks most often gets its turn;
    a rest lets the service have it.
    """
    if dry_run:
        return _total(name, found)
    gone: list[Item] = []
    for batch in retention.batches(found):
        begin = time.monotonic()
        gone += remove(batch)
        time.sleep(time.monotonic() - begin)
    return _total(name, gone)


def _total(name: str, items: Sequence[Item]) -> Swept:
    return Swept(name, len(items), sum(size for _, size in items))


def _print(swept: Sequence[Swept], done: str, older_than: timedelta | None) -> None:
    table = Table("", done, "bytes", box=None, pad_edge=False)
    for each in swept:
        table.add_row(each.name, f"{each.count:,}", decimal(each.bytes))
    console = Console(highlight=False)
    console.print(table)
    if older_than is None:
        console.print("No job was looked at: give --older-than, or set CHAINRULE_RETENTION_DAYS.")
