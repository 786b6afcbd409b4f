"""Whether this process was asked to end, for those who would keep it waiting."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

REQUESTS = (signal.SIGINT, signal.SIGTERM)


class Ending:
    """Hears the signals that ask a process to end, beside whoever handles them.

    A server that is to end waits for every open request and tells none of them.
    """

    def __init__(self) -> None:
        self._has_come = False

    def listen(self) -> None:
        """Listen from now on; for the main thread, once the server has set its handlers."""
        for number in REQUESTS:
            self._listen(number, signal.getsignal(number))

    def _listen(self, number: signal.Signals, handler: Any) -> None:
        def hear(number: int, frame: FrameType | None) -> None:
            self._has_come = True
            if callable(handler):
                handler(number, frame)

        signal.signal(number, hear)

    def __call__(self) -> bool:
        """Whether one has come."""
        return self._has_come
