"""Models that nobody trained, and what ONNX Runtime makes of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import InferenceSession, SessionOptions

from app.export.model import LENGTHS, onnx_of
from engine.data.encoding import TEXTS
from engine.data.table import Column, InputColumn, Table
from engine.data.windows import Windows
from engine.model import Model
from engine.preparation import prepare
from engine.scoring import numbers
from engine.spec import ResolvedSpec
from engine.training import start

TOLERANCE = 1e-5


def drawn(table: Table, settings: ResolvedSpec) -> Model:
    """Return a model whose preprocessing is fitted, and whose every other number is drawn."""
    prepared = prepare(table, settings)
    network = start(settings, prepared.architecture).network
    rng = np.random.default_rng(5)
    for name, tensor in network.tensors().items():
        if not name.endswith("weight"):
            around = 1 if name.endswith(("scale", "variance")) else 0
            tensor[:] = around + rng.uniform(-0.5, 0.5, tensor.shape)
    return Model(settings, prepared.features, prepared.target, network)


def session(model: Model) -> InferenceSession:
    """Return the model in ONNX Runtime."""
    return opened(onnx_of(model, "mdl_1"))


def opened(file: bytes) -> InferenceSession:
    """Return a file in ONNX Runtime, after ONNX's own checker had a look at it."""
    onnx.checker.check_model(file, full_check=True)
    options = SessionOptions()
    options.intra_op_num_threads = 1
    return InferenceSession(file, options, providers=["CPUExecutionProvider"])


def raw(model: Model, table: Table, windows: Windows | None = None) -> dict[str, NDArray[Any]]:
    """Return the columns that a model takes as its graph takes them, and lengths where it does.

    What is padding has the next rows, whatever they are.
    """
    columns = {column.name: _raw(column, table.column(column.name)) for column in model.inputs}
    if windows is None:
        return {name: x if x.ndim > 1 else x[:, None] for name, x in columns.items()}
    rows = windows.starts[:, None] + np.arange(windows.steps)
    laid_out = {name: x.take(rows, axis=0, mode="wrap") for name, x in columns.items()}
    if windows.lengths is not None:
        laid_out[LENGTHS] = windows.lengths.astype(np.int64)
    return laid_out


def _raw(wanted: InputColumn, column: Column) -> NDArray[Any]:
    values = column.values
    if wanted.type in TEXTS:
        names = [*column.levels, None] if column.type == "category" else []
        texts = np.array(names, dtype=object)[values] if names else values
        return np.where(texts == np.array(None), "", texts)
    if wanted.type == "timestamp":
        return values.astype("datetime64[us]").astype(np.int64)
    return values.astype(np.float64)


def deviation(model: Model, table: Table, windows: Windows | None = None) -> float:
    """Return by how much predictions differ at most: targets in parts of their deviation."""
    y = model.predict(table, windows)
    found = session(model).run(None, raw(model, table, windows))
    assert len(np.unique(y[:, 0])) > 1, "all are predicted alike"
    if model.classes is None:
        values = len(model.outputs) * model.settings.horizon
        scale = model.target.deviation.repeat(values // len(model.target.deviation))
        if model.quantiles:
            scale = np.concatenate([scale, scale.repeat(len(model.quantiles))])
        expected = list(numbers(model, y).values())
        return float(np.max(np.abs(np.stack(found) - np.stack(expected)) / scale[:, None]))
    label, probabilities = found
    assert probabilities.dtype == y.dtype
    top = np.sort(y, axis=1)
    clear = top[:, -1] - top[:, -2] > 2 * TOLERANCE
    said = [name if type(name) in (str, int) else json.dumps(name) for name in model.classes]
    assert label[clear].tolist() == [said[place] for place in y[clear].argmax(axis=1)]
    return float(np.max(np.abs(probabilities - y)))
