"""Ask how long a caller waits for a job: for its first epoch, and for an iris job to its end.

Each shape of the service is started with the defaults: embedded (one command,
SQLite, no broker) and production (API and worker on their own, PostgreSQL and
Redis). A job is followed by polling every few milliseconds, from the moment
that its POST is sent. ``python -m benchmarks.job_latency``
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests import servers
from tests.e2e.services import Caller, Command, workers
from tests.waiting import wait_until

JOBS = 10
POLL_SECONDS = 0.002
IRIS_JOB = {"target": "species", "seed": 7}
"""The defaults: two layers of 128 units, 100 epochs of 4 updates."""

Times = tuple[float, float, float]


@contextmanager
def embedded(environment: dict[str, str]) -> Iterator[None]:
    """Run the service as one command."""
    with _running([Command("serve", environment)]):
        yield


@contextmanager
def production(environment: dict[str, str]) -> Iterator[None]:
    """Run API and worker on their own, beside a PostgreSQL and a Redis."""
    with servers.postgres() as database, servers.redis_server() as broker:
        environment["CHAINRULE_DATABASE_URL"] = f"{database}postgres"
        environment["CHAINRULE_BROKER_URL"] = broker
        Command("migrate", environment).wait()
        with _running([Command(name, environment) for name in ("api", "worker")]):
            yield


@contextmanager
def _running(commands: list[Command]) -> Iterator[None]:
    with ExitStack() as stack:
        for command in commands:
            stack.callback(command.end)
        yield


def follow(caller: Caller, dataset: str) -> Times:
    """Submit a job; return the seconds until its answer, its first epoch and its end."""
    begun = time.perf_counter()
    job = caller.submit(dataset, **IRIS_JOB)
    answered = time.perf_counter()
    first = None
    while True:
        found = caller.job(job)
        now = time.perf_counter()
        if first is None and found["progress"]["epoch"] > 0:
            first = now
        if found["status"] == "succeeded":
            return answered - begun, (first or now) - begun, now - begun
        if found["status"] not in ("queued", "running"):
            raise SystemExit(f"the job is {found['status']}: {found['error']}")
        time.sleep(POLL_SECONDS)


def measure(shape: str) -> list[Times]:
    """Start a shape of the service; return the times of each job after a first that warms it up."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"CHAINRULE_HOME": folder, "CHAINRULE_PORT": str(servers.free_port())}
        url = f"http://127.0.0.1:{environment['CHAINRULE_PORT']}"
        with SHAPES[shape](environment), Caller(base_url=url, timeout=30) as caller:
            caller.wait_until_ready()
            wait_until(lambda: workers(Path(folder)))
            dataset = caller.upload()
            times = [follow(caller, dataset) for _ in range(JOBS + 1)]
    return times[1:]


SHAPES = {"embedded": embedded, "production": production}


def main() -> None:
    """Measure and print."""
    table = Table("shape", "POST answered", "first epoch seen", "model ready", title="milliseconds")
    for shape in SHAPES:
        columns = zip(*measure(shape), strict=True)
        table.add_row(shape, *(_summary(column) for column in columns))
    Console().print(table)
    print(f"medians of {JOBS} jobs, and the least and the most")


def _summary(seconds: tuple[float, ...]) -> str:
    median, least, most = (1000 * chosen(seconds) for chosen in (statistics.median, min, max))
    return f"{median:.0f} ({least:.0f}-{most:.0f})"


if __name__ == "__main__":
    main()
