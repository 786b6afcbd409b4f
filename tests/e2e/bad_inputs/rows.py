"""What a row of the tables is: one bad input, and how it is to be answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.e2e.conftest import GUARDED
from tests.e2e.services import Caller

USED_KEY = "bad-inputs"
"""An Idempotency-Key that came with a job of Ada's."""

DATASETS = "/v1/datasets"

JSON = {"Content-Type": "application/json"}

CSV, JSON_ARRAY, NDJSON = "text/csv", "application/json", "application/x-ndjson"
NPZ, ZIP = "application/x-npz", "application/zip"
PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.file"

UNPACKED_LIMIT_BYTES, CELL_LIMIT = (
    int(GUARDED[f"CHAINRULE_{name}"]) for name in ("UNPACKED_LIMIT_BYTES", "CELL_LIMIT")
)
UNPACKED, CELLS = f"{UNPACKED_LIMIT_BYTES:,}", f"{CELL_LIMIT:,}"


@dataclass(frozen=True)
class World:
    """A service with keys, and what is in it.

    Parameters
    ----------
    ada, bob, stranger : Caller
        Two owners, and somebody without a key.
    dataset, job, model : str
        Ada's: a table of flowers, a job that succeeded on it, and its model.
    paused, failed : str
        Ada's jobs that are put aside, and that diverged.
    forecaster : str
        Ada's model of a series.
    theirs : dict of str to str
        Bob's, by kind.
    """

    ada: Caller
    bob: Caller
    stranger: Caller
    dataset: str
    job: str
    model: str
    paused: str
    failed: str
    forecaster: str
    theirs: dict[str, str] = field(default_factory=dict)

    def spec(self, **changes: Any) -> dict[str, Any]:
        """Return a spec that would train, but for the changes."""
        return {"dataset": self.dataset, "target": "species", **changes}


Send = Callable[[World], httpx.Response]


@dataclass(frozen=True)
class Row:
    """One bad input.

    Parameters
    ----------
    item : int
        Its place in the list of what can be wrong.
    name : str
    send : callable
        Sends it to a world; returns the answer.
    status : int
    says : str
        Part of `detail`, or, where the answer is no problem, of its body.
    pointer : str or None
        The place in the body or the query that the answer names.
    """

    item: int
    name: str
    send: Send
    status: int
    says: str = ""
    pointer: str | None = None


def posted(item: int, name: str, body: bytes, status: int, says: str, **headers: str) -> Row:
    """Post bytes as a job."""
    sent = {**JSON, **_named(headers)}
    return Row(
        item, name, lambda w: w.ada.post("/v1/jobs", content=body, headers=sent), status, says
    )


def got(item: int, name: str, path: str, status: int, says: str = "", **headers: str) -> Row:
    """Get an address, in which names of the world stand in braces."""
    sent = _named(headers)
    return Row(item, name, lambda w: w.ada.get(path.format(**vars(w)), headers=sent), status, says)


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def spec(
    item: int, name: str, pointer: str | None, says: str, status: int = 422, /, **changes: Any
) -> Row:
    """Post a spec that would train, but for the changes."""

    def send(w: World) -> httpx.Response:
        return w.ada.post("/v1/jobs", json=w.spec(**changes))

    return Row(item, name, send, status, says, pointer)


def predicted(item: int, name: str, instances: Any, pointer: str, says: str) -> Row:
    """Have instances predicted by the model of flowers."""

    def send(w: World) -> httpx.Response:
        return w.ada.post(f"/v1/models/{w.model}/predict", json={"instances": instances})

    return Row(item, name, send, 422, says, pointer)


def uploaded(
    item: int,
    name: str,
    body: bytes | Callable[[], bytes],
    says: str,
    kind: str = CSV,
    status: int = 422,
    **headers: str,
) -> Row:
    """Upload bytes, which are made only now where they are many."""
    sent = {"Content-Type": kind, **_named(headers)}

    def send(w: World) -> httpx.Response:
        content = body if isinstance(body, bytes) else body()
        return w.ada.post(DATASETS, content=content, headers=sent)

    return Row(item, name, send, status, says)
