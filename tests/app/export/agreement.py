"""How far ONNX Runtime is from us on the data sets that are shipped.

``python -m tests.app.export.agreement`` prints the table of docs/portability.md.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.formats.ingestion import Format, ingest
from engine.data.formats.stored import read_table
from engine.data.profiling import profile
from engine.data.sequences import sequences
from engine.data.table import Column, Table
from engine.data.windows import Windows
from engine.fitting import fit
from engine.model import Model
from engine.resolution import resolve
from engine.spec import PARAMETER_BUDGET, TrainingSpec
from tests.app.export.exporting import deviation
from tests.engine.beginnings import DATA

FORMATS: Mapping[str, Format] = {
    "iris.csv": "csv",
    "digits.csv.gz": "csv",
    "mnist_5k.npz": "npz",
    "airline_passengers.csv": "csv",
    "sunspots_monthly.csv": "csv",
}

DENSE: list[dict[str, Any]] = [{"type": "dense", "units": 16, "activation": "gelu"}]
NORMED = [*DENSE, {"type": "layer_norm"}, {"type": "dropout", "rate": 0.1}]
CONVOLUTION = [
    {"type": "conv2d", "filters": 4, "kernel": 5, "stride": 2, "padding": 1},
    {"type": "batch_norm"},
    {"type": "max_pool2d"},
]

BOTH_WAYS = [{"type": "gru", "units": 8, "bidirectional": True, "return_sequences": True}]

CASES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "the species": ("iris.csv", {"target": "species", "network": {"layers": DENSE}}),
    "two measures from all else": (
        "iris.csv",
        {"target": ["petal_length", "petal_width"], "network": {"layers": DENSE}},
    ),
    "the digit, from 64 columns": (
        "digits.csv.gz",
        {"target": "digit", "network": {"layers": NORMED}},
    ),
    "the digit, from an image": ("mnist_5k.npz", {"target": "y", "network": {"layers": NORMED}}),
    "the digit, by a convolution": (
        "mnist_5k.npz",
        {"target": "y", "network": {"layers": CONVOLUTION}},
    ),
    "passengers, by the month": (
        "airline_passengers.csv",
        {"target": "passengers", "network": {"layers": DENSE}},
    ),
    "quantiles of sunspots, by the month": (
        "sunspots_monthly.csv",
        {
            "target": "sunspots",
            "network": {"layers": DENSE},
            "loss": {"type": "quantile", "quantiles": [0.1, 0.5, 0.9]},
        },
    ),
    "the digit, line by line": (
        "digits.csv.gz",
        {
            "target": "digit",
            "sequence": {"order": "line", "group": "image"},
            "network": {"layers": [*BOTH_WAYS, {"type": "lstm", "units": 16, "pooling": "max"}]},
        },
    ),
    "passengers of the next twelve months": (
        "airline_passengers.csv",
        {
            "target": "passengers",
            "sequence": {"order": "month", "window": 24, "horizon": 12},
            "network": {"layers": [*BOTH_WAYS, {"type": "rnn", "units": 8}]},
        },
    ),
    "the same, each from those before it": (
        "airline_passengers.csv",
        {
            "target": "passengers",
            "sequence": {
                "order": "month",
                "window": 24,
                "horizon": 12,
                "strategy": "recursive",
            },
            "network": {"layers": [{"type": "gru", "units": 8}]},
        },
    ),
    "quantiles of sunspots of the next six months": (
        "sunspots_monthly.csv",
        {
            "target": "sunspots",
            "sequence": {"order": "month", "window": 24, "horizon": 6},
            "network": {"layers": [{"type": "lstm", "units": 8}]},
            "loss": {"type": "quantile", "quantiles": [0.1, 0.5, 0.9]},
        },
    ),
}
"""What is learnt for an epoch, from which file."""

PRECISIONS = ("float32", "float64")


@cache
def shipped(name: str) -> Table:
    """Return a data set that is shipped."""
    data = (DATA / name).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        file, kept = Path(folder) / "file", Path(folder) / "kept.arrow"
        file.write_bytes(gzip.decompress(data) if name.endswith(".gz") else data)
        ingest(file, FORMATS[name], kept)
        return read_table(kept)


def lines(digits: Table) -> Table:
    """Return the lines of digits that have ink, each a row, so that a digit is a series."""
    pixels = np.stack([column.values for column in digits.columns[:-1]], axis=1)
    pixels = pixels.reshape(-1, 8, 8)
    image, line = np.nonzero(pixels.any(axis=2))
    columns = {"image": image, "line": line, "digit": digits.column("digit").values[image]}
    columns |= {f"x{place}": pixels[image, line, place] for place in range(8)}
    return Table(tuple(Column(name, "integer", x * 1.0) for name, x in columns.items()))


DERIVED: Mapping[str, Callable[[Table], Table]] = {"the digit, line by line": lines}
"""Which rows are made of those of a file."""


def trained(case: str, precision: str) -> tuple[Model, Table, Windows | None]:
    """Train for an epoch on a data set that is shipped; return the model and its examples."""
    name, asked = CASES[case]
    rows = DERIVED.get(case, lambda table: table)(shipped(name))
    once = {**asked, "precision": precision, "training": {"epochs": 1}}
    spec = TrainingSpec.model_validate(once)
    settings = resolve(spec, profile(rows), rows.rows, PARAMETER_BUDGET)
    fitting = fit(rows, settings)
    for _ in fitting.run():
        pass
    if settings.sequence is None:
        return fitting.model(), rows, None
    examples = sequences(rows, settings.sequence, settings.targets)
    return fitting.model(), examples.table, examples.windows


if __name__ == "__main__":
    print("| file | examples | what is predicted | float32 | float64 |")
    print("| --- | ---: | --- | ---: | ---: |")
    for case, (name, _) in CASES.items():
        cases = [trained(case, precision) for precision in PRECISIONS]
        found = " | ".join(f"{deviation(*each):.0e}" for each in cases)
        _, rows, windows = cases[0]
        count = rows.rows if windows is None else len(windows)
        print(f"| `{name}` | {count:,} | {case} | {found} |")
