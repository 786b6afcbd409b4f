"""A job that asks for more memory than there is fails alone, and its worker goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest

from tests import canaries, servers
from tests.e2e.services import Caller, Command, alive, workers
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e

TERMINAL = ("succeeded", "failed", "cancelled")
DATABASE = "memory"
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
        yield from running(environment, tmp_path)
        return
    server: str = request.getfixturevalue("postgres_server")
    with psycopg.connect(f"{server}postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}")
    with servers.redis_server() as broker_url:
        urls = {"DATABASE": f"{server}{DATABASE}", "BROKER": broker_url}
        environment |= {f"CHAINRULE_{name}_URL": url for name, url in urls.items()}
        yield from running(environment, tmp_path)


def running(environment: dict[str, str], home: Path) -> Iterator[Uneven]:
    limit = {"CHAINRULE_JOB_MEMORY_BYTES": str(WORKER_BYTES)}
    assert Command("migrate", environment).wait() == 0
    commands = [Command("api", environment), Command("worker", {**environment, **limit})]
    caller = Caller(base_url=commands[0].url, timeout=30)
    try:
        caller.wait_until_ready()
        wait_until(lambda: workers(home) and workers(home)[0].children())
        yield Uneven(home, caller)
    finally:
        caller.close()
        for command in reversed(commands):
            command.end()
        assert alive(home) == []
        canaries.search(home, environment)


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
