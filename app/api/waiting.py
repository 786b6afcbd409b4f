"""When a request that is held open looks again."""

from __future__ import annotations

import time
from collections.abc import Iterator

from app.api.services import Services

LOOK_SECONDS = 0.1


def looks(services: Services, seconds: float) -> Iterator[bool]:
    """Come back again and again, the first time at once, until the time is up.

    Parameters
    ----------
    services : Services
        With the database in which something may change meanwhile.
    seconds : float
        How long to go on; the last time is not before, unless the process is asked to end.

    Yields
    ------
    bool
        Whether anything may have changed since the time before.
    """
    until, seen = time.monotonic() + seconds, None
    while True:
        now = services.database.changed()
        yield now is None or now != seen
        seen = now
        if time.monotonic() >= until or services.ending():
            return
        time.sleep(LOOK_SECONDS)
