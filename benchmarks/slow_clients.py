"""Ask how long others wait while many clients send slowly: half a body, half a head, or nothing.

The service is started with its defaults, one process of 16 threads. So many
connections each send the beginning of a request and then keep silent; beside
them one client asks for the list of jobs again and again, each time over a
connection of its own. ``python -m benchmarks.slow_clients``
"""

from __future__ import annotations

import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from tests import servers
from tests.e2e.services import Caller, Command, alive

REQUESTS = 200
CLIENTS = (0, 12, 64, 256)
BEGINNINGS = {
    "half a body": (
        b"POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: text/csv\r\nContent-Length: 100000\r\n\r\na,b\n"
    ),
    "half a head": b"GET /v1/jobs HTTP/1.1\r\nHost: local",
    "nothing": b"",
}


@contextmanager
def slow(url: httpx.URL, clients: int, beginning: bytes) -> Iterator[None]:
    """Have clients that have sent the beginning of a request, and no more."""
    with ExitStack() as stack:
        for _ in range(clients):
            connection = socket.create_connection((url.host, url.port))
            stack.enter_context(closing(connection)).sendall(beginning)
        yield


def waits(url: httpx.URL) -> list[float]:
    """Return the milliseconds that each request of a good client takes."""
    found = []
    for _ in range(REQUESTS):
        begun = time.perf_counter()
        with closing(HTTPConnection(url.host, url.port, timeout=30)) as connection:
            connection.request("GET", "/v1/jobs")
            answer = connection.getresponse()
            answer.read()
        found.append(1000 * (time.perf_counter() - begun))
        if answer.status != 200:
            raise SystemExit(f"answered {answer.status}")
    return sorted(found)


def memory_mib(home: Path) -> float:
    """Return what the processes that serve HTTP have in memory."""
    serving = (p for p in alive(home) if _serves(p))
    return sum(process.memory_info().rss for process in serving) / 2**20


def _serves(process: psutil.Process) -> bool:
    return any("granian" in word for word in process.cmdline())


def main() -> None:
    """Print a row for each number of slow clients and each way to be slow."""
    table = Table("slow clients", "each sent", "median ms", "99th percentile ms", "memory MiB")
    with tempfile.TemporaryDirectory() as folder:
        environment = {"CHAINRULE_HOME": folder, "CHAINRULE_PORT": str(servers.free_port())}
        command = Command("serve", environment)
        try:
            url = httpx.URL(command.url)
            with Caller(base_url=url, timeout=30) as caller:
                caller.wait_until_ready()
            waits(url)
            for beginning, sent in BEGINNINGS.items():
                for clients in CLIENTS:
                    with slow(url, clients, sent):
                        found = waits(url)
                        figures = (statistics.median(found), found[int(0.99 * REQUESTS)])
                        shown = [f"{figure:.1f}" for figure in (*figures, memory_mib(Path(folder)))]
                    table.add_row(str(clients), beginning, *shown)
        finally:
            command.end()
    Console().print(table)


if __name__ == "__main__":
    main()
