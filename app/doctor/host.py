"""The machine and the process: settings, Python and its BLAS, memory, disk, and the port."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
from rich.filesize import decimal
from threadpoolctl import threadpool_info

from app import launcher, redaction
from app.config import VERSION, Settings, blas_variables, unknown_variables
from app.doctor.checks import Finding, State, ok
from app.store.cache import Cache

ASK_SECONDS = 2.0
VALUE_BYTES, OFFSET_BYTES = 8, 4
"""Of a number in a kept table; of a string, beside its text."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""How much memory this container may take, where there is a limit."""


def settings_set(settings: Settings) -> Iterator[Finding]:
    """Show what is set, and name what looks like a setting and is none."""
    fact = ", ".join(_shown(settings)) or "all as by default"
    unknown = unknown_variables()
    if unknown:
        advice = f"there is no such setting as {', '.join(unknown)}; see docs/configuration.md"
        yield Finding("settings", State.WARNING, fact, advice)
    else:
        yield ok("settings", fact)


def _shown(settings: Settings) -> Iterator[str]:
    """Yield the settings that were set, as ``NAME=value``, with secrets left out."""
    redact = redaction.of(settings)
    for name in sorted(settings.model_fields_set):
        value = redact(str(getattr(settings, name)))
        if name == "api_keys":
            value = f"({len(settings.api_keys)} owners)"
        yield f"CHAINRULE_{name.upper()}={value}"


def python(settings: Settings) -> Iterator[Finding]:
    """Name what computes, and a wish for threads that is not heard."""
    blas = [_words(library) for library in threadpool_info() if library["user_api"] == "blas"]
    threads = f"{settings.blas_threads} threads" if settings.blas_threads > 1 else "1 thread"
    engine = f"NumPy {np.__version__}, {', '.join(blas) or 'no known BLAS'} with {threads}"
    fact = f"Chainrule {VERSION}, Python {platform.python_version()}, {engine}"
    unheard = {name: n for name, n in blas_variables().items() if n != str(settings.blas_threads)}
    if unheard:
        said = ", ".join(f"{name}={value}" for name, value in unheard.items())
        advice = f"{said} is overruled; set CHAINRULE_BLAS_THREADS, or unset it"
        yield Finding("python", State.WARNING, fact, advice)
    else:
        yield ok("python", fact)


def _words(library: dict[str, str]) -> str:
    parts = (library.get(name) for name in ("internal_api", "version", "architecture"))
    return " ".join(str(part) for part in parts if part)


def memory(settings: Settings) -> Iterator[Finding]:
    """Compare what all jobs of a worker may take with what there is."""
    limit = memory_bytes()
    needed = settings.job_memory_bytes * settings.worker_concurrency
    together = f"jobs at once: {settings.worker_concurrency}, together up to {decimal(needed)}"
    fact = f"{decimal(limit)}; {together}"
    if needed > limit:
        advice = "lower CHAINRULE_JOB_MEMORY_BYTES or CHAINRULE_WORKER_CONCURRENCY"
        yield Finding("memory", State.WARNING, fact, f"{advice}, where a worker runs here")
    else:
        yield ok("memory", fact)


def memory_bytes() -> int:
    """Return the memory of this machine, or of this container where it is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError, ValueError):  # no container, or "max"
        limits.append(int(CGROUP_LIMIT.read_text()))
    return min(limits)


def disk(settings: Settings) -> Iterator[Finding]:
    """Look whether there is room for the largest upload, for its table, and for copies from S3."""
    yield _disk("disk", settings.home, settings, _scratch_bytes(settings))
    if "://" in settings.resolved_storage_url:
        yield from _copies(settings)
    else:
        folder = Path(settings.resolved_storage_url)
        yield _disk("storage disk", folder, settings, _table_bytes(settings))


def _table_bytes(settings: Settings) -> int:
    """Return what the largest table takes: each value, and the text of columns that are text."""
    return VALUE_BYTES * _cells(settings) + _text_bytes(settings)


def _scratch_bytes(settings: Settings) -> int:
    """Return what the largest upload takes while it is read.

    The body as it comes in and the file in it, that unpacked, its cells as
    strings between the two readings, and the table.
    """
    strings = OFFSET_BYTES * _cells(settings) + _text_bytes(settings)
    received = 2 * settings.upload_limit_bytes + settings.unpacked_limit_bytes
    return received + strings + _table_bytes(settings)


def _text_bytes(settings: Settings) -> int:
    return max(settings.upload_limit_bytes, settings.unpacked_limit_bytes)


def _cells(settings: Settings) -> int:
    return min(settings.cell_limit, _text_bytes(settings))


def _disk(name: str, place: Path, settings: Settings, room: int) -> Finding:
    folder = _first_that_exists(place.resolve())
    free = shutil.disk_usage(folder).free
    fact = f"{decimal(free)} free at {folder}"
    if not os.access(folder, os.W_OK):
        advice = f"let user {os.getuid()} write there, or name another folder in the settings"
        return Finding(name, State.WRONG, f"{folder} cannot be written", advice)
    if free < settings.upload_limit_bytes:
        return Finding(name, State.WRONG, fact, "make room; `chainrule prune` may help")
    if free < room:
        advice = (
            f"the largest upload may take {decimal(room)} there; make room, or lower its limits"
        )
        return Finding(name, State.WARNING, fact, advice)
    return ok(name, fact)


def _copies(settings: Settings) -> Iterator[Finding]:
    """Look whether the copies of what is in S3 may grow to their limit."""
    folder, limit = settings.cache_folder, settings.cache_limit_bytes
    taken = Cache(folder, limit, settings.uploads_folder).taken_bytes()
    free = shutil.disk_usage(_first_that_exists(folder.resolve())).free
    fact = f"{decimal(taken)} of {decimal(limit)} taken by copies of datasets in {folder}"
    if limit - taken > free:
        advice = f"only {decimal(free)} are free; lower CHAINRULE_CACHE_LIMIT_BYTES, or make room"
        yield Finding("copies", State.WARNING, fact, advice)
    else:
        yield ok("copies", fact)


def _first_that_exists(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def port(settings: Settings) -> Iterator[Finding]:
    """Look who listens where the API is to listen."""
    where = f"{settings.host}:{settings.port}"
    if launcher.is_free(settings.host, settings.port):
        yield ok("port", f"{where} is free")
    elif _is_ours(settings):
        yield ok("port", f"{where}: Chainrule answers")
    else:
        advice = "end what listens there, or set CHAINRULE_PORT"
        yield Finding("port", State.WARNING, f"{where} is taken by another service", advice)


def _is_ours(settings: Settings) -> bool:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{settings.port}/healthz/live"
    try:
        with httpx.Client(trust_env=False, timeout=ASK_SECONDS) as client:
            return bool(client.get(url).json() == {"status": "ok"})
    except (httpx.HTTPError, ValueError):
        return False
