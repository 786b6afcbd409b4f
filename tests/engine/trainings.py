"""Trainings small and middling, and a process that runs them under limits of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from app.config import child_environment
from engine.checkpoint import dump_model
from engine.data.formats.ingestion import ingest
from engine.data.formats.stored import StoredRows, read_table
from engine.fitting import Fitting, fit, fit_from_disk
from engine.footprint import Footprint, footprint
from engine.resolution import resolve
from engine.spec import PARAMETER_BUDGET, ResolvedSpec, TrainingSpec
from worker.memory import limit_memory

ROOT = Path(__file__).parents[2]

FITS, OUT_OF_MEMORY = 0, 3
"""How a process ends that trained, or was refused memory."""

Arrays = dict[str, np.ndarray[Any, Any]]


def dense(*units: int, **options: Any) -> dict[str, Any]:
    """A network of dense layers."""
    return {"layers": [{"type": "dense", "units": count, **options} for count in units]}


def numbers(rows: int, columns: int, classes: int = 3) -> Callable[[], Arrays]:
    """Return what makes columns of numbers, and one of classes."""

    def make() -> Arrays:
        rng = np.random.default_rng(0)
        found = {f"x{n}": rng.normal(size=rows) for n in range(columns)}
        weights = rng.integers(4, size=rows)
        return {
            **found,
            "y": rng.integers(classes, size=rows),
            "z": rng.normal(size=rows),
            "w": weights,
        }

    return make


def categories(rows: int, levels: int) -> Callable[[], Arrays]:
    """Return what makes one column of many categories, and two to be predicted."""

    def make() -> Arrays:
        rng = np.random.default_rng(0)
        names = np.array([f"level {n}" for n in range(levels)])
        return {"x": names[rng.integers(levels, size=rows)], "y": names[rng.integers(4, size=rows)]}

    return make


def gaps(rows: int, columns: int) -> Callable[[], Arrays]:
    """Return what makes columns of numbers that lack every seventh, as does the target."""

    def make() -> Arrays:
        found = numbers(rows, columns)()
        for name in found:
            if name.startswith("x"):
                found[name][::7] = np.nan
        return found | {"z": np.where(np.arange(rows) % 7 == 1, np.nan, found["z"])}

    return make


def series(count: int, length: int) -> Callable[[], Arrays]:
    """Return what makes series of numbers, in no order, each with a class."""

    def make() -> Arrays:
        rng = np.random.default_rng(0)
        s, t = np.divmod(rng.permutation(count * length), length)
        x = rng.normal(size=(2, len(s)))
        return {"s": s, "t": t, "x0": x[0], "x1": x[1], "y": s % 3, "v": np.sin(t)}

    return make


def images(rows: int, side: int) -> Callable[[], Arrays]:
    """Return what makes images of bytes."""

    def make() -> Arrays:
        rng = np.random.default_rng(0)
        pixels = rng.integers(256, size=(rows, side, side), dtype=np.uint8)
        return {"x": pixels, "y": rng.integers(10, size=rows)}

    return make


CONVOLUTIONS = {
    "layers": [
        {"type": "conv2d", "filters": 16, "padding": 1},
        {"type": "max_pool2d"},
        {"type": "conv2d", "filters": 32, "padding": 1},
        {"type": "batch_norm"},
        {"type": "average_pool2d"},
        {"type": "dense", "units": 64},
    ]
}
RESIDUAL = {
    "layers": [
        {"type": "dense", "units": 512, "activation": "gelu"},
        {
            "type": "residual",
            "layers": [
                {"type": "layer_norm"},
                {"type": "dense", "units": 512, "activation": "mish"},
                {"type": "dropout", "rate": 0.2},
            ],
        },
    ]
}
EMBEDDED = {"layers": [{"type": "embedding", "dimensions": 64}, {"type": "dense", "units": 128}]}
SETTLING = {"layers": [{"type": "equilibrium", "units": 256, "max_iterations": 60}]}
READING = {
    "layers": [
        {"type": "gru", "units": 32, "bidirectional": True, "return_sequences": True},
        {"type": "lstm", "units": 32, "pooling": "max"},
    ]
}
WIDE = dense(2048, 2048)
ONCE = {"epochs": 1, "batch_size": 256}
FEW = {"epochs": 3}
FULL = {"epochs": 1, "batch_size": "full"}
ON_DISK = {**ONCE, "rows": "disk"}


@dataclass(frozen=True)
class Case:
    """A training: what makes its dataset, and what is asked for."""

    make: Callable[[], Arrays]
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> TrainingSpec:
        names = {"target": "y"} if "z" not in self.made else {"target": "y", "features": self._xs}
        return TrainingSpec.model_validate({**names, "training": ONCE, **self.asked})

    @cached_property
    def made(self) -> Arrays:
        return self.make()

    @property
    def _xs(self) -> list[str]:
        return [name for name in self.made if name.startswith("x")]


SMALL, TABLE = numbers(500, 4), numbers(200_000, 10)

CASES = {
    "small": Case(SMALL),
    "linear": Case(TABLE, {"network": dense()}),
    "table": Case(TABLE),
    "table, regression": Case(TABLE, {"target": ["z", "y"], "task": "regression"}),
    "table, quantiles": Case(
        TABLE, {"target": "z", "loss": {"type": "quantile", "quantiles": [0.1, 0.3, 0.5, 0.7, 0.9]}}
    ),
    "table, folds": Case(TABLE, {"validation": {"folds": 4}}),
    "table, weights": Case(TABLE, {"class_weights": "balanced", "sample_weight": "w"}),
    "float64": Case(SMALL, {"network": dense(1024, 1024), "precision": "float64"}),
    "table, full batch": Case(TABLE, {"training": FULL}),
    "table, regression, on disk": Case(
        TABLE, {"target": ["z", "y"], "task": "regression", "training": ON_DISK}
    ),
    "images, on disk": Case(images(20_000, 28), {"network": dense(64), "training": ON_DISK}),
    "many levels, on disk": Case(categories(100_000, 4000), {"training": ON_DISK}),
    "many columns": Case(numbers(4000, 1000)),
    "many classes": Case(numbers(50_000, 4, 200), {"network": dense(32)}),
    "one-hot": Case(categories(30_000, 400), {"network": dense(64)}),
    "embedding": Case(categories(100_000, 400), {"network": EMBEDDED}),
    "many levels": Case(categories(100_000, 4000)),
    "gaps": Case(gaps(100_000, 10), {"target": "z"}),
    "wide": Case(SMALL, {"network": WIDE}),
    "wide, orthogonal": Case(SMALL, {"network": dense(1024, 1024, initializer="orthogonal")}),
    "wide, sgd": Case(SMALL, {"network": WIDE, "optimizer": {"type": "sgd", "momentum": 0.0}}),
    "wide, averaged and decayed": Case(
        SMALL,
        {
            "network": WIDE,
            "optimizer": {"type": "adam", "weight_decay": 0.01, "l1": 0.01},
            "training": {**ONCE, "average_decay": 0.9},
        },
    ),
    "wide, lbfgs": Case(
        SMALL, {"network": dense(1024, 1024), "optimizer": {"type": "lbfgs"}, "training": FEW}
    ),
    "wide, rprop": Case(SMALL, {"network": WIDE, "optimizer": {"type": "rprop"}, "training": FEW}),
    "wide, folds": Case(SMALL, {"network": dense(1024, 1024), "validation": {"folds": 3}}),
    "stacked folds": Case(SMALL, {"network": dense(128), "validation": {"folds": 20}}),
    "residual": Case(
        numbers(20_000, 10), {"network": RESIDUAL, "training": {"epochs": 1, "batch_size": 8192}}
    ),
    "windows": Case(
        series(20, 5000),
        {
            "target": "v",
            "features": ["x0", "x1"],
            "sequence": {"order": "t", "group": "s", "window": 50, "horizon": 5},
        },
    ),
    "windows, full batch": Case(
        series(1, 5000),
        {
            "target": "v",
            "features": ["x0", "x1"],
            "sequence": {"order": "t", "group": "s", "window": 200},
            "training": FULL,
        },
    ),
    "windows, recursive": Case(
        series(20, 5000),
        {
            "target": "v",
            "features": ["v"],
            "sequence": {
                "order": "t",
                "group": "s",
                "window": 20,
                "horizon": 30,
                "strategy": "recursive",
            },
        },
    ),
    "whole series": Case(
        series(3000, 50),
        {"features": ["x0", "x1"], "sequence": {"order": "t", "group": "s", "mask": True}},
    ),
    "recurrent": Case(
        series(1000, 50),
        {
            "features": ["x0", "x1"],
            "network": READING,
            "sequence": {"order": "t", "group": "s", "mask": True},
        },
    ),
    "recurrent, embedded": Case(
        series(4, 500),
        {
            "target": "v",
            "features": ["x0", "y"],
            "columns": {"y": {"type": "category"}},
            "network": {"layers": [{"type": "embedding", "dimensions": 64}, READING["layers"][1]]},
            "sequence": {"order": "t", "group": "s", "window": 50},
        },
    ),
    "equilibrium": Case(
        numbers(20_000, 10),
        {"network": SETTLING, "training": {"epochs": 1, "batch_size": 8192}},
    ),
    "images": Case(images(4000, 28), {"network": dense(64)}),
    "convolutions": Case(images(1000, 28), {"network": CONVOLUTIONS}),
    "convolutions, full batch": Case(images(500, 28), {"network": CONVOLUTIONS, "training": FULL}),
}

LARGE = numbers(200_000, 60)
PLACES = {"on disk": Case(LARGE, {"training": ON_DISK}), "in memory": Case(LARGE)}
"""The same training, of rows in either place."""


@dataclass(frozen=True)
class Prepared:
    """A case whose dataset is a file, and what is estimated of it."""

    file: Path
    settings: ResolvedSpec
    estimate: Footprint


def prepare(name: str, folder: Path) -> Prepared:
    """Write the dataset of a case, and decide what it leaves open."""
    case, archive, file = {**CASES, **PLACES}[name], folder / "table.npz", folder / f"{name}.arrow"
    np.savez(archive, **case.made)
    table = ingest(archive, "npz", file)
    settings = resolve(case.spec, table.columns, table.rows, PARAMETER_BUDGET)
    return Prepared(file, settings, footprint(settings, table.columns, table.rows))


def train(prepared: dict[str, Any], limit_bytes: int) -> None:
    """Do what a worker does, with so much memory more than there is: save, and end with a model."""
    threadpool_limits(1, user_api="blas")
    limit_memory(limit_bytes)
    settings = ResolvedSpec.model_validate(prepared["settings"])
    fitting = begin(Path(prepared["file"]), settings)
    for progress in fitting.run():
        if progress.point is not None:
            fitting.save()
    model = fitting.model()
    fitting.outcome(model, {"mae": 0.0, "accuracy": 0.0}, lambda: None)
    dump_model(model)


def begin(file: Path, settings: ResolvedSpec) -> Fitting:
    """Prepare to train on a kept file, with the rows where the spec wants them."""
    if settings.training.rows == "disk":
        return fit_from_disk(StoredRows(file), settings, file.parent / "scratch")
    return fit(read_table(file, settings.column_names), settings)


class Limited:
    """A process whose children train under limits of memory."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def fits(self, prepared: Prepared, limit_bytes: int) -> bool:
        """Whether a training ends well with so much memory."""
        settings = prepared.settings.model_dump(mode="json")
        asked = {"file": str(prepared.file), "settings": settings}
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{json.dumps([asked, limit_bytes])}\n")
        process.stdin.flush()
        status = int(process.stdout.readline())
        assert status in (FITS, OUT_OF_MEMORY), status
        return status == FITS

    def needed_bytes(self, prepared: Prepared) -> int:
        """Return the least memory, but for a fiftieth, with which a training ends well."""
        low, high = 0, prepared.estimate.bytes
        while not self.fits(prepared, high):
            low, high = high, 2 * high
        while high - low > high / 50:
            middle = (low + high) // 2
            low, high = (low, middle) if self.fits(prepared, middle) else (middle, high)
        return high


@contextmanager
def limited() -> Iterator[Limited]:
    """Start a process whose children train, for a ``with`` block."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        cwd=ROOT,
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Limited(process)


def _serve() -> None:
    for line in sys.stdin:
        child = get_context("fork").Process(target=_attempt, args=json.loads(line))
        child.start()
        child.join()
        sys.stdout.write(f"{child.exitcode}\n")
        sys.stdout.flush()


def _attempt(prepared: dict[str, Any], limit_bytes: int) -> None:
    try:
        train(prepared, limit_bytes)
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)


if __name__ == "__main__":
    _serve()
