"""Logs: one JSON object a line, with the ids of the request and the job at hand."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from pythonjsonlogger.orjson import OrjsonFormatter

_context: ContextVar[dict[str, str | None]] = ContextVar("log_context", default={})  # noqa: B039 - replaced, never mutated


def configure(role: str, level: str, style: Literal["json", "console"]) -> None:
    """Send the process's logs to standard error.

    Parameters
    ----------
    role : str
        What the process is, ``api`` or ``worker``; a field of every line.
    level : str
    style : "json" or "console"
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_context)
    handler.setFormatter(_json(role) if style == "json" else _console())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("botocore", "s3fs", "fsspec", "alembic.runtime.plugins"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _json(role: str) -> logging.Formatter:
    return OrjsonFormatter(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        static_fields={"role": role},
        timestamp="time",
    )


def _console() -> logging.Formatter:
    return logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


def _add_context(record: logging.LogRecord) -> bool:
    for name, value in _context.get().items():
        setattr(record, name, value)
    return True


def bind(**ids: str | None) -> None:
    """Add ids to every line that this request or job logs from now on."""
    _context.set({**_context.get(), **ids})


def forget() -> None:
    """Drop the ids that were bound; a server's thread serves many requests."""
    _context.set({})


@contextmanager
def bound(**ids: str | None) -> Iterator[None]:
    """Bind ids for the length of a ``with`` block."""
    token = _context.set({**_context.get(), **ids})
    try:
        yield
    finally:
        _context.reset(token)
