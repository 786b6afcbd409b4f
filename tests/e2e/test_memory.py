"""A job that asks for more memory than there is fails alone, and its worker goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests import canaries, servers
from tests.e2e.services import Caller, alive, workers
from tests.e2e.sites import Worker, start_api
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e

TERMINAL = ("succeeded", "failed", "cancelled")
WORKER_BYTES = 128 * 2**20
SMALL = {"target": "species", "training": {"epochs": 5}}
LARGE = {
    "target": "species",
    "network": {"layers": [{"type": "dense", "units": 4000}] * 2},
}
"""16 million weights, of 4 bytes, five times."""
TOO_LARGE = {**LARGE, "optimizer": {"type": "lbfgs", "history": 100}}


@dataclass
class Uneven:
    """A service whose API allows a job more memory than its worker has."""

    home: Path
    caller: Caller

    def processes(self) -> list[psutil.Process]:
        """Return the worker, and the one child that trains."""
        [worker] = workers(self.home)
        return [worker, *worker.children()]


@pytest.fixture(params=["embedded", "production"])
def uneven(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Uneven]:
    environment = {"CHAINRULE_HOME": str(tmp_path), "CHAINRULE_PORT": str(servers.free_port())}
    if request.param == "embedded":
        environment["CHAINRULE_DATABASE_URL"] = request.getfixturevalue("sqlite_url")
    else:
        environment["CHAINRULE_DATABASE_URL"] = request.getfixturevalue("postgres_url")
        environment["CHAINRULE_BROKER_URL"] = request.getfixturevalue("redis_url")
    limit = {"CHAINRULE_JOB_MEMORY_BYTES": str(WORKER_BYTES)}
    commands = [start_api(environment), Worker({**environment, **limit}, tmp_path)]
    caller = Caller(base_url=commands[0].url, timeout=30)
    try:
        caller.wait_until_ready()
        wait_until(lambda: workers(tmp_path) and workers(tmp_path)[0].children())
        yield Uneven(tmp_path, caller)
    finally:
        caller.close()
        for command in reversed(commands):
            command.end()
        assert alive(tmp_path) == []
        canaries.search(tmp_path, environment)


def test_a_job_that_is_too_large_is_refused_or_fails_alone_and_those_behind_it_succeed(uneven):
    caller = uneven.caller
    dataset = caller.upload()
    first = caller.submit(dataset, **SMALL)
    assert caller.wait_for(first, *TERMINAL)["status"] == "succeeded"
    before = uneven.processes()
    refused = caller.post("/v1/jobs", json={"dataset": dataset, **TOO_LARGE})
    assert refused.status_code == 422
    large = caller.submit(dataset, **LARGE)
    behind = [caller.submit(dataset, **SMALL) for _ in range(5)]
    failed = caller.wait_for(large, *TERMINAL)
    assert (failed["status"], failed["attempt"]) == ("failed", 1)
    assert failed["error"]["code"] == "out_of_memory"
    assert f"{WORKER_BYTES:,} bytes" in failed["error"]["detail"]
    for job in behind:
        found = caller.wait_for(job, *TERMINAL)
        assert (found["status"], found["attempt"]) == ("succeeded", 1)
    assert uneven.processes() == before  # psutil tells a process by its number and its beginning
