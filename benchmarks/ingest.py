"""Ask how long a large CSV file takes from the first byte sent to the dataset, and what memory.

A file of numbers, whole numbers, categories, flags and dates is sent to an API
process of its own; the most memory that it had meanwhile is read from the
system's books, beside what it had before. ``python -m benchmarks.ingest [MEGABYTES …]``

``python -m benchmarks.ingest columns`` reads a file of 50 MB without any server, one column at a
time and two, in turn.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv
from rich.console import Console
from rich.table import Table

from engine.data.formats import ingestion
from tests import servers
from tests.e2e.services import Caller, Command

MB = 10**6
ROWS_AT_ONCE = 100_000
LOOK_SECONDS = 0.05
LIMIT_BYTES = 4 * 10**9
ROUNDS = 3
COLOURS = np.array(["red", "green", "blue"])


def write(file: Path, size: int) -> None:
    """Write a CSV file of at least ``size`` bytes."""
    rng = np.random.default_rng(1)
    with file.open("wb") as out:
        while out.tell() < size:
            first = out.tell() == 0
            columns = {
                **{f"x{i}": rng.normal(size=ROWS_AT_ONCE).round(4) for i in range(7)},
                **{f"n{i}": rng.integers(0, 1000, ROWS_AT_ONCE) for i in range(4)},
                "colour": COLOURS[rng.integers(0, 3, ROWS_AT_ONCE)],
                "flag": rng.random(ROWS_AT_ONCE) < 0.5,
                "day": np.datetime64("2020-01-01") + rng.integers(0, 1500, ROWS_AT_ONCE),
            }
            header = pa.csv.WriteOptions(include_header=first, quoting_style="none")
            pa.csv.write_csv(pa.table(columns), out, header)


class Watch(threading.Thread):
    """Looks again and again how much memory a process has."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._process, self._over = process, threading.Event()
        self.most = self.at_rest = self._resident()

    def _family(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    def _resident(self) -> int:
        return sum(process.memory_info().rss for process in self._family())

    def spent(self) -> float:
        """Return the CPU seconds so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self._family())

    def run(self) -> None:
        """Look until told to end."""
        while not self._over.wait(LOOK_SECONDS):
            self.most = max(self.most, self._resident())

    def end(self) -> int:
        """Return how many bytes more there were than at rest."""
        self._over.set()
        self.join()
        return self.most - self.at_rest


def measure(size: int) -> tuple[int, int, float, float, int]:
    """Send a file; return its bytes, rows, seconds, CPU seconds, and the memory it took."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "large.csv"
        write(file, size)
        environment = {
            "CHAINRULE_HOME": folder,
            "CHAINRULE_PORT": str(servers.free_port()),
            "CHAINRULE_UPLOAD_LIMIT_BYTES": str(LIMIT_BYTES),
            "CHAINRULE_BODY_SECONDS": "3600",
        }
        Command("migrate", environment).wait(60)
        api = Command("api", environment)
        try:
            with Caller(base_url=api.url, timeout=3600) as caller, file.open("rb") as body:
                caller.wait_until_ready()
                watch = Watch(psutil.Process(api.process.pid))
                spent = watch.spent()
                watch.start()
                begun = time.perf_counter()
                answer = caller.post(
                    "/v1/datasets", content=body, headers={"Content-Type": "text/csv"}
                )
                seconds = time.perf_counter() - begun
                answer.raise_for_status()
                spent = watch.spent() - spent
                return file.stat().st_size, answer.json()["rows"], seconds, spent, watch.end()
        finally:
            api.end()


def compare() -> None:
    """Read a file with one and two columns at a time, in turn; print medians and their ratio."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "large.csv"
        write(file, 50 * MB)
        for _ in range(ROUNDS):
            for columns, taken in seconds.items():
                ingestion.COLUMNS_AT_ONCE = columns
                begun = time.perf_counter()
                ingestion.ingest(file, "csv", Path(folder) / "table.arrow")
                taken.append(time.perf_counter() - begun)
    one, two = (statistics.median(taken) for taken in seconds.values())
    Console().print(f"one at a time {one:.1f} s, two {two:.1f} s: {one / two:.2f}")


def main(sizes: list[int]) -> None:
    """Measure and print."""
    table = Table("file, MB", "rows", "seconds", "CPU seconds", "memory, MB more than at rest")
    for megabytes in sizes:
        size, rows, seconds, spent, memory = measure(megabytes * MB)
        figures = f"{seconds:.1f}", f"{spent:.1f}", f"{memory / MB:.0f}"
        table.add_row(f"{size / MB:.0f}", f"{rows:,}", *figures)
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:] == ["columns"]:
        compare()
        sys.exit()
    main([int(size) for size in sys.argv[1:]] or [100, 1000])
