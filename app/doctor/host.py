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

ASK_SECONDS = 2.0
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
    """Look whether the largest upload has room, where it comes in and where it is kept."""
    folders = {"disk": settings.home}
    if "://" not in settings.resolved_storage_url:
        folders["storage disk"] = Path(settings.resolved_storage_url)
    for name, folder in folders.items():
        yield _disk(name, _first_that_exists(folder.resolve()), settings)


def _first_that_exists(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _disk(name: str, folder: Path, settings: Settings) -> Finding:
    free = shutil.disk_usage(folder).free
    room = settings.upload_limit_bytes + 2 * settings.unpacked_limit_bytes
    fact = f"{decimal(free)} free at {folder}"
    if not os.access(folder, os.W_OK):
        advice = f"let user {os.getuid()} write there, or name another folder in the settings"
        return Finding(name, State.WRONG, f"{folder} cannot be written", advice)
    if free < settings.upload_limit_bytes:
        return Finding(name, State.WRONG, fact, "make room; `chainrule prune` may help")
    if free < room:
        advice = f"the largest upload may take {decimal(room)} while it is read; make room"
        return Finding(name, State.WARNING, fact, advice)
    return ok(name, fact)


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
