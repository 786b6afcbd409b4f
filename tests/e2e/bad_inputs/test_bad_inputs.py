"""Every bad input is answered with what is wrong and where, and leaves nothing behind.

The rows are in http.py, uploads.py, binaries.py, specs.py, lifecycle.py and series.py beside this;
docs/bad-inputs.md shows them with what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import func, select

from app.store.database import Database
from app.store.tables import ArtifactChunk, Dataset, IdempotencyKey, Job, TrainedModel
from tests.canaries import GUARDED_KEYS
from tests.e2e.bad_inputs import binaries, http, lifecycle, series, specs, uploads
from tests.e2e.bad_inputs.rows import USED_KEY, Row, World
from tests.e2e.conftest import Service
from tests.e2e.services import Caller, alive

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.parametrize(
        "guarded",
        ["embedded", pytest.param("production", marks=pytest.mark.rare)],
        indirect=True,
    ),
]
"""Every row on one shape; on the other as well with --thorough."""

ROWS = sorted(
    [row for part in (http, uploads, binaries, specs, lifecycle, series) for row in part.ROWS],
    key=lambda row: row.item,
)

PEAK_BYTES = 384 << 20
"""What the processes that serve HTTP may take for one request, above what they take at rest."""

LIVING = {"target": "species", "training": {"epochs": 1_000_000}}
DIVERGING = {
    "target": "sepal_length",
    "features": ["sepal_width", "petal_length"],
    "optimizer": {"type": "sgd", "learning_rate": 1e6},
    "loss": "squared_error",
    "training": {"epochs": 10},
}


def fill(service: Service) -> Iterator[World]:
    """Fill a service with what the rows ask for."""
    url = service.commands[0].url
    callers = [Caller(base_url=url, timeout=60, key=GUARDED_KEYS[name]) for name in ("ada", "bob")]
    stranger = Caller(base_url=url, timeout=60, key=None)
    found = [trained(caller) for caller in callers]
    ada = callers[0]
    failed = ada.submit(found[0]["dataset"], **DIVERGING)
    assert ada.wait_for(failed, "failed", "succeeded")["status"] == "failed"
    body = {"dataset": found[0]["dataset"], **LIVING}
    paused = ada.post("/v1/jobs", json=body, headers={"Idempotency-Key": USED_KEY}).json()["id"]
    ada.post(f"/v1/jobs/{paused}/pause")
    ada.wait_for(paused, "paused")
    yield World(
        *callers,
        stranger,
        **found[0],
        paused=paused,
        failed=failed,
        forecaster=series.forecaster(ada),
        theirs=found[1],
    )
    for caller in (*callers, stranger):
        caller.close()


def trained(caller: Caller) -> dict[str, str]:
    """Train a model of flowers."""
    dataset = caller.upload()
    job = caller.submit(dataset, target="species", training={"epochs": 3})
    model = caller.wait_for(job, "succeeded", "failed")["model"]
    return {"dataset": dataset, "job": job, "model": model}


class Store:
    """What a service has stored, and what its processes that serve HTTP have in memory."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._database = Database(service.database_url)
        root = psutil.Process(service.commands[0].process.pid)
        self._servers = [p for p in alive(service.home) if "granian" in p.cmdline()] or [root]
        self.forget_peak()
        self.rest = self.peak()

    def close(self) -> None:
        self._database.dispose()

    def counts(self) -> dict[str, int]:
        """Count what Ada and Bob have, and all files."""
        found = {"files": self._files(), "uploads": len([*self._uploads().iterdir()])}
        with self._database.reading() as session:
            for table in (Dataset, Job, TrainedModel, IdempotencyKey):
                mine = select(func.count()).where(table.owner.in_(["ada", "bob"]))
                found[table.__tablename__] = session.scalar(mine.select_from(table)) or 0
            every = select(func.count()).select_from(ArtifactChunk)
            found["artifact_chunks"] = session.scalar(every) or 0
        return found

    def _uploads(self) -> Path:
        return self._service.home / "uploads"

    def _files(self) -> int:
        environment = self._service.environment
        if "CHAINRULE_STORAGE_URL" not in environment:
            return len([*(self._service.home / "datasets").iterdir()])
        bucket = environment["CHAINRULE_STORAGE_URL"].split("/")[2]
        listed = httpx.get(f"{environment['AWS_ENDPOINT_URL']}/{bucket}?list-type=2")
        return listed.raise_for_status().text.count("<Key>")

    def forget_peak(self) -> None:
        """Begin to measure: the peak becomes what is in memory now."""
        for process in self._servers:
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """Return the bytes that were in memory at the most since then."""
        return sum(self._peak(process) for process in self._servers)

    def _peak(self, process: psutil.Process) -> int:
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        [line] = [line for line in status if line.startswith("VmHWM:")]
        return int(line.split()[1]) << 10


@pytest.fixture(scope="session")
def world(guarded: Service) -> Iterator[World]:
    yield from fill(guarded)


@pytest.fixture(scope="session")
def store(guarded: Service, world: World) -> Iterator[Store]:  # noqa: ARG001 - measured when full
    with closing(Store(guarded)) as store:
        yield store


def name(row: Row) -> str:
    return f"{row.item:03} {row.name}".replace("\0", "NUL")


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_what_is_bad_is_refused_with_its_place_and_leaves_nothing(
    row, world, store, record_property
):
    before = store.counts()
    store.forget_peak()
    answer = row.send(world)
    peak = store.peak() - store.rest
    record_property("row", name(row))
    record_property("peak_bytes", peak)
    assert answer.status_code == row.status, answer.text
    if row.status >= 400:
        check(row, answer)
    else:
        assert row.says in answer.text
    assert store.counts() == before
    assert world.ada.get("/v1/jobs?limit=1").status_code == 200
    assert peak < PEAK_BYTES


def check(row: Row, answer: httpx.Response) -> None:
    """Hold an answer against what a problem is."""
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer.text
    problem = answer.json()
    assert set(problem) >= {"type", "title", "status", "detail", "request_id"}
    assert (problem["type"], problem["status"]) == ("about:blank", row.status)
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert problem["title"].endswith(".")
    assert "Traceback" not in answer.text
    assert row.says in problem["detail"]
    if row.pointer is not None:
        assert row.pointer in [error["pointer"] for error in problem["errors"]]
    for status, header in ((401, "WWW-Authenticate"), (405, "Allow")):
        assert row.status != status or header in answer.headers
