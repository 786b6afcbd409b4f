"""The service in its two shapes, each started once and shared by the tests that use it."""

from __future__ import annotations

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


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One command, SQLite, and no broker."""
    environment = {**BRISK, **_environment(tmp_path_factory.mktemp("embedded"))}
    url = f"sqlite:///{environment['CHAINRULE_HOME']}/chainrule.db"
    with _running(Service(environment, [Command("serve", environment)], True, url)) as service:
        yield service


@pytest.fixture(scope="session")
def production(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str, s3_server: str
) -> Iterator[Service]:
    """API and worker on their own, with PostgreSQL, Redis and S3."""
    with psycopg.connect(f"{postgres_server}postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}")
    with servers.redis_server() as broker_url, redis.Redis.from_url(broker_url) as broker:
        environment = {
            **BRISK,
            **_environment(tmp_path_factory.mktemp("production")),
            **servers.s3_bucket(s3_server, "end-to-end"),
            "CHAINRULE_DATABASE_URL": f"{postgres_server}{DATABASE}",
            "CHAINRULE_API_KEYS": canaries.API_KEYS,
            "CHAINRULE_BROKER_URL": broker_url,
            "CHAINRULE_STORAGE_URL": "s3://end-to-end/datasets",
        }
        assert Command("migrate", environment).wait() == 0
        commands = [Command(name, environment) for name in ("api", "worker")]
        url = environment["CHAINRULE_DATABASE_URL"]
        with _running(Service(environment, commands, False, url, broker)) as service:
            yield service


@pytest.fixture(params=["embedded", "production"])
def service(request: pytest.FixtureRequest) -> Service:
    """The service: the test runs once on each shape."""
    found: Service = request.getfixturevalue(request.param)
    return found


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
