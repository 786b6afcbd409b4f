"""Ask what it costs to train with the rows on disk, at a quarter of the memory that they take.

Either training runs in processes of its own, in turn: in memory without a limit, on disk under
`RLIMIT_DATA`, and once more with the file of rows dropped from the kernel's cache before every
epoch, so that all of it is read from the disk. Seconds are those of a median epoch in the best
of the rounds, by the wall's clock and of the process's own time; memory is the most that was
resident beside what an idle worker has.

``python -m benchmarks.out_of_core [MEGABYTES [ROUNDS]]``
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from app.config import child_environment
from engine.data.disk import DiskExamples
from engine.data.formats.ingestion import ingest
from engine.data.formats.stored import StoredRows, read_table
from engine.fitting import Fitting, fit, fit_from_disk
from engine.footprint import place_rows
from engine.resolution import resolve
from engine.spec import PARAMETER_BUDGET, ResolvedSpec, TrainingSpec
from worker.memory import limit_memory

MB = 10**6
COLUMNS, ROWS_AT_ONCE = 100, 20_000
EPOCHS = 3
CASES: dict[str, dict[str, Any]] = {
    "as usual: 128-128, batches of 32": {},
    "hardly a network: 8, batches of 1024": {
        "network": {"layers": [{"type": "dense", "units": 8}]},
        "training": {"batch_size": 1024},
    },
}
PLACES = {"memory": "in memory", "disk": "on disk", "cold": "on disk, not in the kernel's cache"}


def write(file: Path, rows: int) -> None:
    """Write numbers and two classes as they are kept."""
    rng = np.random.default_rng(1)
    weights, writer = rng.normal(size=COLUMNS), None
    with pa.OSFile(str(file), "wb") as out:
        for _ in range(0, rows, ROWS_AT_ONCE):
            x = rng.normal(size=(ROWS_AT_ONCE, COLUMNS))
            y = (x @ weights + 5 * np.sin(3 * x[:, 0]) > 0).astype(np.int64)
            columns = {f"x{n}": np.ascontiguousarray(x[:, n]) for n in range(COLUMNS)}
            batch = pa.record_batch({**columns, "y": y})
            writer = writer or pa.ipc.new_file(out, batch.schema)
            writer.write_batch(batch)
        if writer is not None:
            writer.close()


def resident(what: str) -> int:
    """Return what the kernel says of this process's memory, in bytes."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[what].split()[0]) * 1024


def begin(file: Path, settings: ResolvedSpec) -> Fitting:
    """Prepare as a worker does."""
    if settings.training.rows == "disk":
        return fit_from_disk(StoredRows(file), settings, file.parent)
    return fit(read_table(file, settings.column_names), settings)


def drop(fitting: Fitting) -> None:
    """Let the kernel forget the rows that are on disk."""
    examples = fitting.prepared.data.training
    if isinstance(examples, DiskExamples):
        handle = examples.file._file.fileno()  # noqa: SLF001 - a test of the disk, not of the engine
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def train(file: Path, settings: ResolvedSpec, limit_bytes: int | None, place: str) -> None:
    """Train, and print what it took."""
    threadpool_limits(1, user_api="blas")
    if limit_bytes is not None:
        limit_memory(limit_bytes)
    before, start = resident("VmRSS"), time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that from here on
    try:
        fitting = begin(file, settings)
    except MemoryError:
        print(json.dumps({"refused": True}))
        return
    took: dict[str, Any] = {"prepared": time.perf_counter() - start}
    epochs, reports = [], fitting.run()
    for _ in range(EPOCHS):
        if place == "cold":
            drop(fitting)
        wall, cpu = time.perf_counter(), time.process_time()
        point = next(report.point for report in reports if report.point is not None)
        epochs.append((time.perf_counter() - wall, time.process_time() - cpu))
        took["loss"] = point.validation_loss
    took["epoch"], took["cpu"] = map(statistics.median, zip(*epochs, strict=True))
    print(json.dumps({**took, "memory": resident("VmHWM") - before}))


def asked(place: str, file: Path, settings: ResolvedSpec, limit: int | None) -> dict[str, Any]:
    """Train in a process of its own; return what it took."""
    known = [str(file), settings.model_dump_json(), str(limit or ""), place]
    ran = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "benchmarks.out_of_core", "--child", *known],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def main(megabytes: int = 400, rounds: int = 3) -> None:
    """Measure and print."""
    rows = megabytes * MB // (8 * COLUMNS) // ROWS_AT_ONCE * ROWS_AT_ONCE
    console, home = Console(), Path("var")
    home.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as folder:
        few, file = Path(folder) / "few.arrow", Path(folder) / "kept.arrow"
        write(few, ROWS_AT_ONCE)
        write(file, rows)
        columns = ingest(few, "arrow", Path(folder) / "again.arrow").columns
        limit = file.stat().st_size // 4
        console.print(
            f"{rows:,} rows of {COLUMNS} numbers, {file.stat().st_size / MB:,.0f} MB; "
            f"limit {limit / MB:,.0f} MB; {rounds} rounds of {EPOCHS} epochs"
        )
        table = Table(
            "case",
            "rows",
            "prepared, s",
            "epoch, s",
            "ratio",
            "CPU, s",
            "ratio",
            "memory, MB",
            "loss",
        )
        for name, spec in CASES.items():
            training = {**spec.get("training", {}), "epochs": EPOCHS}
            wanted = TrainingSpec.model_validate({**spec, "target": "y", "training": training})
            settings = resolve(wanted, columns, rows, PARAMETER_BUDGET)
            chosen = place_rows(settings, columns, rows, limit)
            in_memory = asked("memory", file, settings, limit)
            if chosen.training.rows != "disk" or in_memory != {"refused": True}:
                raise SystemExit(f"{name}: the limit does not keep the rows out of memory")
            took: dict[str, list[dict[str, Any]]] = {place: [] for place in PLACES}
            for _ in range(rounds):
                for place in PLACES:
                    limited = (settings, None) if place == "memory" else (chosen, limit)
                    took[place].append(asked(place, file, *limited))
            for place, said in PLACES.items():
                least = {
                    key: min(each[key] for each in took[place])
                    for key in ("prepared", "epoch", "cpu")
                }
                ratios = [
                    least[key] / min(each[key] for each in took["memory"])
                    for key in ("epoch", "cpu")
                ]
                memory = max(each["memory"] for each in took[place]) / MB
                table.add_row(
                    name,
                    said,
                    f"{least['prepared']:.1f}",
                    f"{least['epoch']:.2f}",
                    f"{ratios[0]:.2f}",
                    f"{least['cpu']:.2f}",
                    f"{ratios[1]:.2f}",
                    f"{memory:.0f}",
                    f"{took[place][0]['loss']:.3f}",
                )
    console.print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, kept, decided, most, where = sys.argv
        limit_bytes = int(most) if most else None
        train(Path(kept), ResolvedSpec.model_validate_json(decided), limit_bytes, where)
    else:
        main(*map(int, sys.argv[1:]))
