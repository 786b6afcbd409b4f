"""What tests share: databases and servers, real ones, started when a test first asks for them."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
import redis

from app.store.database import Database
from tests import servers
from worker.lease import Lease

TEMPLATE = "migrated"
_numbers = count()


def pytest_addoption(parser: pytest.Parser) -> None:
    words = "try every point of a fault and race often, where a sample is tried otherwise"
    parser.addoption("--thorough", action="store_true", help=words)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--thorough"):
        rare = [item for item in items if _is_rare(item)]
        config.hook.pytest_deselected(items=rare)
        items[:] = [item for item in items if item not in rare]
    if (worker := getattr(config, "workerinput", None)) is not None:
        items[:] = _dealt(items, worker["workercount"])


def _dealt(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Have each worker, which gets as many tests as any, begin with its share of the long ones.

    Those who are done take short ones from the others, so that all end at about the same time.
    """
    long: dict[Path, list[pytest.Item]] = {}
    short: list[pytest.Item] = []
    for item in items:
        is_long = item.get_closest_marker("e2e") is not None
        (long.setdefault(item.path, []) if is_long else short).append(item)
    dealt: list[pytest.Item] = []
    for worker in range(workers):
        own = [item for module in list(long.values())[worker::workers] for item in module]
        room = max(0, -(-len(items) // workers) - len(own))
        dealt += own + short[:room]
        del short[:room]
    return dealt + short


def _is_rare(item: pytest.Item) -> bool:
    """Whether a test is marked ``rare``, or ``rare("embedded")`` and of that shape."""
    mark = item.get_closest_marker("rare")
    if mark is None or not mark.args:
        return mark is not None
    return bool({*mark.args} & {*item.callspec.params.values()})


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether to take the time for every point of a fault and for many races."""
    return bool(pytestconfig.getoption("--thorough"))


@pytest.fixture
def own_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """Let the test set the process's logs up; they are put back after it."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    for holder, hook in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(holder, hook, getattr(holder, hook))
    yield root
    logging.captureWarnings(capture=False)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server, up to the name of a database."""
    with servers.postgres() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """The name of a migrated database to copy."""
    _execute(postgres_server, f"CREATE DATABASE {TEMPLATE}")
    servers.migrated(postgres_server + TEMPLATE)
    return TEMPLATE


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """A migrated PostgreSQL database of the test's own."""
    yield from _postgres_database(postgres_server, postgres_template)


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """A PostgreSQL database without tables."""
    yield from _postgres_database(postgres_server, "template1")


def _postgres_database(server: str, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server + name
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(server: str, statement: str) -> None:
    with psycopg.connect(server + "postgres", autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    servers.migrated(f"sqlite:///{file}")
    return file


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated SQLite database of the test's own."""
    file = shutil.copy(sqlite_template, tmp_path / "chainrule.db")
    return f"sqlite:///{file}"


@pytest.fixture
def empty_sqlite_url(tmp_path: Path) -> str:
    """A SQLite database without tables."""
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database: the test runs once on each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """A database without tables: the test runs once on each kind."""
    url: str = request.getfixturevalue(f"empty_{request.param}_url")
    return url


@pytest.fixture
def connect() -> Iterator[Callable[[str], Database]]:
    """Open databases that are closed after the test, each like a process of its own."""
    opened: list[Database] = []

    def open_one(url: str) -> Database:
        opened.append(Database(url))
        return opened[-1]

    yield open_one
    for thread in threading.enumerate():
        if isinstance(thread, Lease):  # what it holds would be closed by nobody
            thread.join()
    for database in opened:
        database.dispose()


@pytest.fixture
def database(database_url: str, connect: Callable[[str], Database]) -> Database:
    """A migrated database, open."""
    return connect(database_url)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of a Redis server."""
    with servers.redis_server() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of a Redis server that holds nothing."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The endpoint of an S3 server."""
    with servers.s3() as url:
        yield url
