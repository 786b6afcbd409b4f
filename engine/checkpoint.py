"""Models and training states as bytes, in the safetensors format.

The format is a JSON header and raw numbers: nothing in it can run. What is
not a tensor is JSON in the header's ``__metadata__``. The format's
specification is that of huggingface/safetensors, whose reader reads these
bytes; here it takes a page, so the engine needs no package for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.preprocessing import FeatureEncoder
from engine.data.table import InputColumn
from engine.data.targets import ClassEncoder, TargetScaler
from engine.errors import CheckpointError
from engine.model import Model, architecture_for
from engine.spec import ResolvedSpec
from engine.training import TrainingState

VERSION = 2

DTYPES: dict[str, np.dtype[Any]] = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4")}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

LENGTH_BYTES = 8
ALIGNMENT_BYTES = 8
HEADER_LIMIT_BYTES = 100_000_000

Tensors = dict[str, NDArray[Any]]

COUNTERS = (
    "epoch",
    "batch",
    "step",
    "loss_sum",
    "rows",
    "train_loss",
    "seconds",
    "best_loss",
    "best_epoch",
    "falls",
    "waited",
    "settled",
    "forward_iterations",
    "backward_iterations",
    "unsettled_epochs",
)
"""The numbers of a training state."""


def write_tensors(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return tensors and text as a safetensors file, each copied once."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name, tensor in tensors.items():
        stop = start + tensor.nbytes
        header[name] = {
            "dtype": NAMES[tensor.dtype.newbyteorder("<")],
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT_BYTES)
    file = BytesIO()
    # All of it at once: a buffer that grows leaves holes where it was.
    file.seek(LENGTH_BYTES + len(text) + start - 1)
    file.write(b"\0")
    file.seek(0)
    file.write(len(text).to_bytes(LENGTH_BYTES, "little"))
    file.write(text)
    for tensor in tensors.values():
        file.write(np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<")).data)
    return file.getvalue()


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Refuse as not valid what trips the code that reads it, in whichever way."""
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise CheckpointError(VERSION, f"the {what} is not valid: {error!r}") from error


@_refusing("header")
def read_tensors(data: bytes) -> tuple[Tensors, dict[str, str]]:
    """Return the tensors and the text of a safetensors file.

    Raises
    ------
    CheckpointError
        The header is not one, or its tensors do not tile the data exactly.
    """
    header, begin = _header(data)
    metadata = dict(header.pop("__metadata__", {}))
    tensors: Tensors = {}
    expected = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        size = math.prod(shape) * dtype.itemsize
        if start != expected or stop != start + size:
            raise CheckpointError(VERSION, f"tensor {name!r} overlaps another or leaves a gap")
        flat = np.frombuffer(data, dtype, math.prod(shape), begin + start)
        tensors[name] = flat.reshape(shape)
        expected = stop
    if begin + expected != len(data):
        raise CheckpointError(VERSION, f"expected {begin + expected} bytes, got {len(data)}")
    return tensors, metadata


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    begin = LENGTH_BYTES + length
    if len(data) < LENGTH_BYTES or length > HEADER_LIMIT_BYTES or begin > len(data):
        raise CheckpointError(VERSION, "the header is longer than the data")
    header = json.loads(data[LENGTH_BYTES:begin])
    if not isinstance(header, dict):
        raise CheckpointError(VERSION, "the header is not a JSON object")
    return header, begin


def _read(data: bytes, kind: str) -> tuple[Tensors, dict[str, Any]]:
    """Read what `_write` wrote."""
    tensors, metadata = read_tensors(data)
    version = metadata.get("version")
    if metadata.get("kind") != kind or version != str(VERSION):
        expected = f"expected {kind} of version {VERSION}"
        raise CheckpointError(version, f"{expected}, got {metadata.get('kind')!r}")
    return tensors, json.loads(metadata["content"])


def _write(kind: str, tensors: Mapping[str, NDArray[Any]], content: dict[str, Any]) -> bytes:
    metadata = {"kind": kind, "version": str(VERSION), "content": json.dumps(content)}
    return write_tensors(tensors, metadata)


def dump_model(model: Model) -> bytes:
    """Return a model as bytes."""
    center, factor = model.features.scale
    tensors = {
        **model.network.tensors(),
        "features.center": center,
        "features.scale": factor,
    }
    content: dict[str, Any] = {
        "spec": model.settings.model_dump(mode="json"),
        "inputs": [vars(column) for column in model.features.inputs],
        "features": model.features.facts,
    }
    if isinstance(model.target, ClassEncoder):
        content["classes"] = list(model.target.classes)
    else:
        tensors["target.mean"] = model.target.mean
        tensors["target.deviation"] = model.target.deviation
    return _write("model", tensors, content)


def _fill(views: Mapping[str, NDArray[Any]], tensors: Tensors) -> None:
    """Copy tensors to where they belong; NumPy alone would stretch one that is too small."""
    for name, view in views.items():
        if tensors[name].shape != view.shape:
            reason = f"has the shape {tensors[name].shape}, which is another network's"
            raise CheckpointError(VERSION, f"tensor {name!r} {reason}; expected {view.shape}")
        view[:] = tensors[name]


def _check_known(views: Mapping[str, NDArray[Any]], tensors: Tensors) -> None:
    """Refuse the tensors of a network that has more of them: what is left would mean another."""
    for name in tensors:
        if name.startswith("layers.") and name not in views:
            raise CheckpointError(VERSION, f"tensor {name!r} is another network's")


@_refusing("model")
def load_model(data: bytes) -> Model:
    """Return the model that `dump_model` wrote.

    Raises
    ------
    CheckpointError
        The bytes are no model, or one of another version.
    """
    tensors, content = _read(data, "model")
    settings = ResolvedSpec.model_validate(content["spec"])
    inputs = tuple(
        InputColumn(c["name"], c["type"], tuple(c["levels"]), tuple(c["shape"]), c["required"])
        for c in content["inputs"]
    )
    scale = tensors["features.center"], tensors["features.scale"]
    features = FeatureEncoder.restore(inputs, settings.columns, scale, content["features"])
    target = _target(settings, content, tensors)
    network = architecture_for(settings, features, target).build(settings.precision)
    _check_known(network.tensors(), tensors)
    _fill(network.tensors(), tensors)
    network.numbers.flags.writeable = False
    return Model(settings, features, target, network)


def _target(
    settings: ResolvedSpec, content: dict[str, Any], tensors: Tensors
) -> ClassEncoder | TargetScaler:
    if settings.task == "classification":
        return ClassEncoder(settings.targets[0], tuple(content["classes"]))
    mean, deviation = tensors["target.mean"], tensors["target.deviation"]
    return TargetScaler(tuple(settings.targets), mean, deviation, settings.quantiles)


def dump_states(states: Sequence[TrainingState], facts: Mapping[str, Any]) -> bytes:
    """Return training states, and what else is to be known to go on from them, as bytes.

    Parameters
    ----------
    states : sequence of TrainingState
    facts : mapping of str to what JSON can hold
    """
    tensors: Tensors = {}
    for position, state in enumerate(states):
        tensors |= _vectors(state, position)
    content = {"states": [_content(state) for state in states], "facts": dict(facts)}
    return _write("states", tensors, content)


def _content(state: TrainingState) -> dict[str, Any]:
    return {
        **{name: getattr(state, name) for name in COUNTERS},
        "optimizer_steps": state.optimizer.t,
        "dropout": state.dropout.bit_generator.state,
    }


def _vectors(state: TrainingState, position: int) -> Tensors:
    """Return all vectors of a state by name."""
    vectors = {"numbers": state.network.numbers, "best_numbers": state.best_numbers}
    if state.average is not None:
        vectors["average"] = state.average
    vectors |= {f"moments.{name}": moment for name, moment in state.optimizer.moments.items()}
    return {f"{position}.{name}": vector for name, vector in vectors.items()}


@_refusing("state")
def load_states(data: bytes, states: Sequence[TrainingState]) -> dict[str, Any]:
    """Fill states with what `dump_states` wrote; return the facts.

    Parameters
    ----------
    data : bytes
    states : sequence of TrainingState
        Of the specs and architectures that those had.

    Raises
    ------
    CheckpointError
        The bytes are no states, of another version, or of other networks.
    """
    tensors, content = _read(data, "states")
    for position, (state, saved) in enumerate(zip(states, content["states"], strict=True)):
        _fill(_vectors(state, position), tensors)
        for name in COUNTERS:
            setattr(state, name, saved[name])
        state.optimizer.t = saved["optimizer_steps"]
        state.dropout.bit_generator.state = saved["dropout"]
    return dict(content["facts"])
