"""A process that is killed in the midst of one request to the API."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from sqlalchemy import event

from app.config import Settings
from app.factory import create_app
from tests.app.api.callers import KEYS, Caller, parts


def ask(home: Path, url: str, at: int, method: str, path: str, request: dict[str, Any]) -> None:
    """Answer a request, but be killed before the statement, commit or answer numbered ``at``."""
    app = create_app(Settings(home=home, database_url=url, api_keys=KEYS))
    writer = parts(app).database.writer
    count = -1

    def step(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    for word in ("before_cursor_execute", "commit"):
        event.listen(writer, word, step)
    Caller(app, KEYS["ada"]).call(method, path, **request)
    step()
    parts(app).database.dispose()
