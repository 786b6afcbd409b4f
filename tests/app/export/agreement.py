"""How far ONNX Runtime is from us on the data sets that are shipped.

``python -m tests.app.export.agreement`` prints the table of docs/portability.md.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from engine.data.formats.ingestion import Format, ingest
from engine.data.formats.stored import read_table
from engine.data.profiling import profile
from engine.data.table import Table
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


def trained(case: str, precision: str) -> tuple[Model, Table]:
    """Train for an epoch on a data set that is shipped; return both."""
    name, asked = CASES[case]
    rows = shipped(name)
    once = {**asked, "precision": precision, "training": {"epochs": 1}}
    spec = TrainingSpec.model_validate(once)
    fitting = fit(rows, resolve(spec, profile(rows), rows.rows, PARAMETER_BUDGET))
    for _ in fitting.run():
        pass
    return fitting.model(), rows


if __name__ == "__main__":
    print("| file | rows | what is predicted | float32 | float64 |")
    print("| --- | ---: | --- | ---: | ---: |")
    for case, (name, _) in CASES.items():
        found = " | ".join(f"{deviation(*trained(case, p)):.0e}" for p in PRECISIONS)
        print(f"| `{name}` | {shipped(name).rows:,} | {case} | {found} |")
