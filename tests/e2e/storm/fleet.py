"""The service in its two shapes, with somebody who starts again what was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from tests import canaries, servers
from tests.e2e.services import BRISK, WORKER, Caller, Command, alive
from tests.lines import Line, line
from tests.servers import Server
from tests.waiting import wait_until

SETTINGS = {
    **BRISK,
    "CHAINRULE_MAX_ATTEMPTS": "100",
    "CHAINRULE_BACKOFF_SECONDS": "0.2",
    "CHAINRULE_API_WORKERS": "2",
}
"""Brisk, and with more attempts than a storm has kills for one job."""

DISK_BYTES = 128 * 2**20
DATABASE = "storm"
RESTART_SECONDS = 0.5
STOP_SECONDS = 30.0


class Fleet:
    """A running service and what it stands on.

    Parameters
    ----------
    shape : str
    environment : dict of str to str
    logs : Path
        The folder for what the commands print.
    commands : sequence of str
        What is run, and run again when it ends.
    has_small_disk : bool
        Whether the home is on a disk of its own that can be filled.
    postgres, redis : Server or None
    lines : dict of str to Line
        By the name of the server to which the service has one.
    """

    def __init__(
        self,
        shape: str,
        environment: dict[str, str],
        logs: Path,
        commands: list[str],
        *,
        has_small_disk: bool,
        postgres: Server | None = None,
        redis: Server | None = None,
        lines: dict[str, Line] | None = None,
    ) -> None:
        self.shape, self.environment, self.logs = shape, environment, logs
        self.home = Path(environment["CHAINRULE_HOME"])
        self.has_small_disk = has_small_disk
        self.postgres, self.redis, self.lines = postgres, redis, lines or {}
        self.database_url = f"sqlite:///{self.home}/chainrule.db"
        if postgres is not None:
            self.database_url = f"{postgres.url}{DATABASE}"
        self._commands = [self._command(name) for name in commands]
        self._names = commands
        self._restart_at: dict[int, float] = {}
        self.url = self._commands[0].url

    def _command(self, name: str) -> Command:
        return Command(name, self.environment, self.logs)

    def caller(self, timeout: float = 10) -> Caller:
        """Return a caller of the service."""
        return Caller(base_url=self.url, timeout=timeout)

    def look_after(self) -> None:
        """Start again what has ended, as the runtime of containers would.

        With a command all that it started in its container ends as well.
        """
        for place, command in enumerate(self._commands):
            if command.process.poll() is None:
                continue
            if place not in self._restart_at:
                with suppress(ProcessLookupError):
                    os.killpg(command.process.pid, signal.SIGKILL)
                self._restart_at[place] = time.monotonic() + RESTART_SECONDS
            elif time.monotonic() >= self._restart_at[place]:
                del self._restart_at[place]
                self._commands[place] = self._command(self._names[place])

    def launchers(self) -> list[psutil.Process]:
        """Return the processes that keep API and worker running on one machine."""
        return self._having("serve")

    def servers_of_http(self) -> list[psutil.Process]:
        """Return all processes of the API, but for one that is only starting."""
        parents = [each for each in self._having("granian") if _children(each)]
        return [process for parent in parents for process in family(parent)]

    def workers(self) -> list[psutil.Process]:
        """Return the workers that have children to train; one that is only starting has none."""
        return [worker for worker in self._having(WORKER) if _children(worker)]

    def trainers(self) -> list[psutil.Process]:
        """Return the workers' children that train."""
        children = [child for worker in self.workers() for child in _children(worker)]
        return [child for child in children if not _is_tracker(child)]

    def everything(self) -> list[psutil.Process]:
        """Return every process of the service."""
        return alive(self.home)

    def _having(self, argument: str) -> list[psutil.Process]:
        found = []
        for process in alive(self.home):
            with suppress(psutil.Error):
                if argument in process.cmdline():
                    found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def wait_until_up(self) -> None:
        """Wait until the API is ready and a worker is there."""
        with self.caller() as caller:
            caller.wait_until_ready()
        wait_until(self.workers)

    def end(self) -> list[str]:
        """Ask everything to end; return what did not, which is killed."""
        for command in self._commands:
            with suppress(ProcessLookupError):
                command.tell(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for command in self._commands:
            with suppress(subprocess.TimeoutExpired):
                command.wait(max(0.0, deadline - time.monotonic()))
        while (left := alive(self.home)) and time.monotonic() < deadline:
            time.sleep(0.05)  # between two looks
        named = [f"{process.pid} {' '.join(process.cmdline()[:5])}" for process in left]
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return named


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all below it; nobody, if it has ended."""
    return [process, *_children(process)]


def _is_tracker(process: psutil.Process) -> bool:
    """Whether it only cleans up after a pool whose parent was killed."""
    with suppress(psutil.Error):
        return "semaphore_tracker" in " ".join(process.cmdline())
    return True


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


@contextmanager
def embedded(folder: Path) -> Iterator[Fleet]:
    """Run one command with SQLite, all that it keeps on a small disk."""
    with _small_disk(folder / "home") as small:
        environment = {
            **_environment(folder),
            "CHAINRULE_WORKER_CONCURRENCY": "2",
        }
        with _running(Fleet("embedded", environment, folder, ["serve"], has_small_disk=small)) as f:
            yield f


@contextmanager
def production(folder: Path) -> Iterator[Fleet]:
    """Run an API and two workers on PostgreSQL, Redis and S3; uploads come in on a small disk."""
    with ExitStack() as stack:
        small = stack.enter_context(_small_disk(folder / "home"))
        postgres = stack.enter_context(servers.postgres_process())
        redis = stack.enter_context(servers.redis_process())
        s3 = stack.enter_context(servers.s3())
        to_postgres, postgres_url = stack.enter_context(line(postgres.url))
        to_redis, redis_url = stack.enter_context(line(redis.url))
        with psycopg.connect(f"{postgres.url}postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        environment = {
            **_environment(folder),
            "CHAINRULE_API_KEYS": canaries.API_KEYS,
            **servers.s3_bucket(s3, "storm"),
            "CHAINRULE_DATABASE_URL": f"{postgres_url}{DATABASE}",
            "CHAINRULE_BROKER_URL": redis_url,
            "CHAINRULE_STORAGE_URL": "s3://storm/datasets",
        }
        assert Command("migrate", environment, folder).wait() == 0
        names = ["api", "worker", "worker"]
        fleet = Fleet(
            "production",
            environment,
            folder,
            names,
            has_small_disk=small,
            postgres=postgres,
            redis=redis,
            lines={"PostgreSQL": to_postgres, "Redis": to_redis},
        )
        yield stack.enter_context(_running(fleet))


SHAPES = {"embedded": embedded, "production": production}


def _environment(folder: Path) -> dict[str, str]:
    (folder / "tmp").mkdir()
    return {
        **SETTINGS,
        "CHAINRULE_HOME": str(folder / "home"),
        "CHAINRULE_PORT": str(servers.free_port()),
        "TMPDIR": str(folder / "tmp"),
    }


@contextmanager
def _running(fleet: Fleet) -> Iterator[Fleet]:
    try:
        fleet.wait_until_up()
        yield fleet
        canaries.search(fleet.logs, fleet.environment)
    finally:
        fleet.end()


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """Make a folder, on a disk of its own where this user may mount one; say whether it is."""
    folder.mkdir()
    options = f"size={DISK_BYTES}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "storm", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
