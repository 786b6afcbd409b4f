"""The service in its two shapes, each started once and shared by the tests that use it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from tests import canaries, servers
from tests.e2e.services import BRISK, END_SECONDS, Caller, Command, alive, workers
from tests.waiting import wait_until

DATABASE = "end_to_end"

GUARDED = {
    "CHAINRULE_API_KEYS": json.dumps(canaries.GUARDED_KEYS),
    "CHAINRULE_FAILED_LOGINS_PER_MINUTE": "60000",
    "CHAINRULE_UPLOAD_LIMIT_BYTES": str(16 << 20),
    "CHAINRULE_UNPACKED_LIMIT_BYTES": str(64 << 20),
    "CHAINRULE_BODY_LIMIT_BYTES": str(4 << 20),
}
"""Settings of a service that is sent what is bad: the limits so low that they are soon over."""


@dataclass
class Service:
    """A running service, and what can be done to its worker.

    Parameters
    ----------
    environment : dict of str to str
    commands : list of Command
    has_launcher : bool
        Whether a launcher replaces a worker that ended.
    database_url : str
    broker : redis.Redis or None
    """

    environment: dict[str, str]
    commands: list[Command]
    has_launcher: bool
    database_url: str
    broker: redis.Redis | None = None

    def __post_init__(self) -> None:
        self.home = Path(self.environment["CHAINRULE_HOME"])
        self.caller = Caller(base_url=self.commands[0].url, timeout=30)

    def kill_worker(self) -> None:
        """Kill the worker and its children at one blow, and see another in its place."""
        [worker] = workers(self.home)
        family = [worker, *worker.children(recursive=True)]
        for process in family:
            process.kill()
        self._replace(worker)

    def end_worker(self) -> None:
        """Ask the worker to end, and see another in its place."""
        [worker] = workers(self.home)
        worker.terminate()
        self._replace(worker)

    def _replace(self, worker: psutil.Process) -> None:
        wait_until(lambda: worker not in workers(self.home), END_SECONDS)
        if not self.has_launcher:
            self.commands.append(Command("worker", self.environment))
        wait_until(lambda: workers(self.home))


@contextmanager
def _running(service: Service) -> Iterator[Service]:
    try:
        service.caller.wait_until_ready()
        wait_until(lambda: workers(service.home))
        yield service
    finally:
        service.caller.close()
        for command in reversed(service.commands):
            command.end()
        assert alive(service.home) == []
        canaries.search(service.home, service.environment)


def _environment(home: Path) -> dict[str, str]:
    return {"CHAINRULE_HOME": str(home), "CHAINRULE_PORT": str(servers.free_port())}


@contextmanager
def run_embedded(home: Path, **changes: str) -> Iterator[Service]:
    """Run one command, with SQLite and no broker, and other settings where given."""
    environment = {**BRISK, **_environment(home), **changes}
    url = f"sqlite:///{environment['CHAINRULE_HOME']}/chainrule.db"
    with _running(Service(environment, [Command("serve", environment)], True, url)) as service:
        yield service


@contextmanager
def run_production(
    home: Path, postgres_server: str, s3_server: str, name: str, **changes: str
) -> Iterator[Service]:
    """Run API and worker on their own, with a database and a bucket of that name, and Redis."""
    with psycopg.connect(f"{postgres_server}postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    bucket = name.replace("_", "-")
    with servers.redis_server() as broker_url, redis.Redis.from_url(broker_url) as broker:
        environment = {
            **BRISK,
            **_environment(home),
            **servers.s3_bucket(s3_server, bucket),
            "CHAINRULE_DATABASE_URL": servers.migrated(f"{postgres_server}{name}"),
            "CHAINRULE_API_KEYS": canaries.API_KEYS,
            "CHAINRULE_BROKER_URL": broker_url,
            "CHAINRULE_STORAGE_URL": f"s3://{bucket}/datasets",
            **changes,
        }
        commands = [Command(name, environment) for name in ("api", "worker")]
        url = environment["CHAINRULE_DATABASE_URL"]
        with _running(Service(environment, commands, False, url, broker)) as service:
            yield service


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One command, SQLite, and no broker."""
    with run_embedded(tmp_path_factory.mktemp("embedded")) as service:
        yield service


@pytest.fixture(scope="session")
def production(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str, s3_server: str
) -> Iterator[Service]:
    """API and worker on their own, with PostgreSQL, Redis and S3."""
    home = tmp_path_factory.mktemp("production")
    with run_production(home, postgres_server, s3_server, DATABASE) as service:
        yield service


@pytest.fixture(params=["embedded", "production"])
def service(request: pytest.FixtureRequest) -> Service:
    """The service: the test runs once on each shape."""
    found: Service = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session", params=["embedded", "production"])
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service of its own for those who send what is bad: with keys, and with low limits."""
    home = tmp_path_factory.mktemp("guarded")
    if request.param == "embedded":
        running = run_embedded(home, **GUARDED)
    else:
        servers = [request.getfixturevalue(f"{name}_server") for name in ("postgres", "s3")]
        running = run_production(home, *servers, "guarded", **GUARDED)
    with running as service:
        yield service


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Start commands with the default settings and one home; no process of theirs may survive."""
    started: list[Command] = []
    environment = _environment(tmp_path)

    def run(name: str, **changes: str) -> Command:
        started.append(Command(name, {**environment, **changes}))
        return started[-1]

    yield run
    for command in started:
        command.end()
    wait_until(lambda: not alive(tmp_path), END_SECONDS)
    canaries.search(tmp_path, environment)
