"""Server-Sent Events as a client reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """What a stream told."""

    name: str
    id: str
    data: dict[str, Any]


def events(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events of a stream; comments, empty lines and `retry` are none."""
    fields: dict[str, str] = {}
    for line in lines:
        if line == "" and "event" in fields:
            yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
        if line == "":
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


def epochs(told: Iterable[Event]) -> list[int]:
    """Return the epochs of the points that were told, in order."""
    return [event.data["epoch"] for event in told if event.name == "point"]
