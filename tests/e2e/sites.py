"""A service whose every process and every server may come to harm."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import select

from app import launcher
from app.config import Settings
from app.store.database import Database, database_clock
from app.store.lifecycle import LIVE
from app.store.tables import Checkpoint, Job
from tests import canaries, servers
from tests.e2e.services import BRISK, END_SECONDS, Caller, Command, alive
from tests.waiting import wait_until
from tests.worker.work import expire

TURNS = {**BRISK, "CHAINRULE_BACKOFF_SECONDS": "0.1"}


def start_api(environment: dict[str, str]) -> Command:
    """Start an API: what `app.cli api` becomes, as `Worker` is what `app.cli worker` becomes.

    The command line takes a second to load, and these are started a hundred times.
    """
    settings = Settings(port=int(environment["CHAINRULE_PORT"]))
    return Command("api", environment, command=launcher.api_command(settings))


class Worker(Command):
    """A worker, with the processes that train for it."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        super().__init__("worker", environment, folder, launcher.worker_command())

    @property
    def family(self) -> list[psutil.Process]:
        """The worker's processes; none once it has ended."""
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def tell_all(self, number: signal.Signals) -> None:
        """Send a signal to the worker and all who train for it."""
        for process in self.family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        """Kill it with all its processes, in whatever state they are."""
        family = self.family
        self.tell_all(signal.SIGKILL)
        self.process.wait(END_SECONDS)
        psutil.wait_procs(family, END_SECONDS)


@dataclass
class Site:
    """An API, and whatever workers and servers there are.

    Parameters
    ----------
    environment : dict of str to str
    database : Server or None
        PostgreSQL; None for SQLite.
    broker : Server or None
        Redis; None where workers look by themselves.
    """

    environment: dict[str, str]
    database: servers.Server | None = None
    broker: servers.Server | None = None
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home = Path(self.environment["CHAINRULE_HOME"])
        self.url = self.environment["CHAINRULE_DATABASE_URL"]
        self.start_api()
        self.caller = Caller(base_url=self.api.url, timeout=30)

    def start_api(self) -> None:
        self.api = start_api(self.environment)

    @contextmanager
    def another_api(self, **changes: str) -> Iterator[Caller]:
        """Run an API beside the other; give who calls it."""
        port = {"CHAINRULE_PORT": str(servers.free_port())}
        api = start_api({**self.environment, **port, **changes})
        try:
            with Caller(base_url=api.url, timeout=30) as caller:
                caller.wait_until_ready()
                yield caller
        finally:
            api.end()

    def start_worker(self, **changes: str) -> Worker:
        """Start another worker, and wait until it takes jobs."""
        [worker] = self.start_workers(1, **changes)
        return worker

    def start_workers(self, number: int, **changes: str) -> list[Worker]:
        """Start some workers at once, and wait until they take jobs."""
        started = [Worker({**self.environment, **changes}, self.home) for _ in range(number)]
        self.workers += started
        for worker in started:
            worker.wait_for_output("ready.")
        return started

    def kill_everything(self) -> None:
        """Kill every process at once: those of the service, and the servers."""
        for process in alive(self.home):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for server in filter(None, (self.database, self.broker)):
            server.kill()
        self.api.process.wait()
        for worker in self.workers:
            worker.process.wait()
        self.workers.clear()

    def start_everything(self, **changes: str) -> None:
        """Start the servers, an API, and a worker."""
        for server in filter(None, (self.database, self.broker)):
            server.start()
            server.wait_until_it_answers()
        self.start_api()
        self.start_worker(**changes)
        self.caller.wait_until_ready()

    def freeze(self, *processes: psutil.Process) -> None:
        """Stop processes at a moment when none of them has SQLite's file locked."""
        while True:
            for process in processes:
                process.suspend()
            if self.database is not None or self._can_write():
                return
            for process in processes:
                process.resume()

    def _can_write(self) -> bool:
        file = self.url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(file, timeout=1, isolation_level=None)) as connection:
            try:
                connection.executescript("BEGIN IMMEDIATE; ROLLBACK")
            except sqlite3.OperationalError:
                return False
            return True

    @contextmanager
    def open(self) -> Iterator[Database]:
        """Look into the database past the service."""
        database = Database(self.url)
        try:
            yield database
        finally:
            database.dispose()

    def row(self, job: str) -> Job:
        """Return a job as the database has it."""
        with self.open() as database, database.reading() as session:
            return session.get_one(Job, job)

    def checkpoint(self, job: str) -> str | None:
        """Return the id of the state that a job would go on from, if it has one."""
        with self.open() as database, database.reading() as session:
            saved = session.get(Checkpoint, job)
            return saved.artifact_id if saved is not None else None

    def trainer(self, job: str) -> psutil.Process:
        """Wait until somebody trains a job; return the process."""
        name = wait_until(lambda: self.row(job).lease_owner)
        return psutil.Process(int(name.rsplit(":", 1)[-1]))

    def looks(self, database: Database, job: str) -> dict[str, Any]:
        """Return what a job says of itself at one moment, and how long its lease still holds."""
        columns = (Job.status, Job.attempt, Job.epoch, Job.lease_expires - database_clock())
        with database.reading() as session:
            values = session.execute(select(*columns).where(Job.id == job)).one()
        return dict(zip(("status", "attempt", "epoch", "lease"), values, strict=True))

    def clear(self) -> None:
        """Kill the workers, and end every job, without waiting until the leases run out."""
        for worker in self.workers:
            worker.kill()
        self.workers.clear()
        with self.open() as database:
            expire(database)
        wait_until(lambda: not self._cancel_all())

    def _cancel_all(self) -> list[str]:
        with self.open() as database, database.reading() as session:
            live = list(session.scalars(select(Job.id).where(Job.status.in_(LIVE))))
        for job in live:
            self.caller.post(f"/v1/jobs/{job}/cancel")
        return live

    def end(self) -> None:
        self.clear()
        self.caller.close()
        self.api.end()
        assert alive(self.home) == []
        canaries.search(self.home, self.environment)


@contextmanager
def site(home: Path, *, production: bool) -> Iterator[Site]:
    """Run a site with no worker yet: SQLite and no broker, or PostgreSQL and Redis."""
    with ExitStack() as stack:
        environment = {
            **TURNS,
            "CHAINRULE_HOME": str(home),
            "CHAINRULE_PORT": str(servers.free_port()),
            "CHAINRULE_DATABASE_URL": f"sqlite:///{home}/chainrule.db",
        }
        database = broker = None
        if production:
            database = stack.enter_context(servers.postgres_process())
            broker = stack.enter_context(servers.redis_process())
            environment["CHAINRULE_DATABASE_URL"] = f"{database.url}postgres"
            environment["CHAINRULE_BROKER_URL"] = broker.url
            environment["CHAINRULE_API_KEYS"] = canaries.API_KEYS
        servers.migrated(environment["CHAINRULE_DATABASE_URL"])
        found = Site(environment, database, broker)
        try:
            found.caller.wait_until_ready()
            yield found
        finally:
            found.end()
