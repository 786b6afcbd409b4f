"""Recurrent layers in ONNX Runtime answer what ours do, in both precisions."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest

from app.export.cells import CELLS
from app.export.model import onnx_of
from app.export.recurrent import OPERATORS
from engine.data.sequences import sequences
from engine.data.table import Column, Table
from engine.layers.cell import Cell
from engine.spec import NetworkSpec, SequenceSpec
from tests.app.export.exporting import TOLERANCE, deviation, drawn
from tests.app.export.test_layers import kinds
from tests.engine.beginnings import spec

STEPS, SERIES = 5, 12
EXACT = {"float32": TOLERANCE, "float64": 1e-12}

LAYERS = {
    "rnn": {"type": "rnn"},
    "relu rnn": {"type": "rnn", "activation": "relu"},
    "gru": {"type": "gru"},
    "lstm": {"type": "lstm"},
}
ANSWERS = {
    "last": {},
    "mean": {"pooling": "mean"},
    "max": {"pooling": "max"},
    "all": {"return_sequences": True},
}
DIRECTIONS = {"forward": False, "both": True}
MASKS = {"whole": False, "masked": True}

DENSE = {"type": "dense", "units": 5, "activation": "tanh"}
STACKS = {
    "two": [{"type": "gru", "units": 3, "return_sequences": True}, {"type": "lstm", "units": 4}],
    "between them": [
        {"type": "lstm", "units": 3, "bidirectional": True, "return_sequences": True},
        {"type": "layer_norm"},
        {"type": "dropout", "rate": 0.5},
        {"type": "activation", "activation": "gelu"},
        {"type": "gru", "units": 4, "bidirectional": True, "pooling": "mean", "truncation": 2},
        DENSE,
    ],
    "behind layers that keep steps": [
        {"type": "batch_norm"},
        {"type": "activation", "activation": "silu"},
        {"type": "rnn", "units": 3, "pooling": "max"},
    ],
    "none": [DENSE],
}


@cache
def series(*, masked):
    """Series of two columns and a class; of 1 to all steps if they are to be masked."""
    rng = np.random.default_rng(3)
    lengths = 1 + np.arange(SERIES) % STEPS if masked else np.full(SERIES, STEPS)
    group = np.arange(SERIES).repeat(lengths)
    return Table(
        (
            Column("group", "integer", group.astype(float)),
            Column("step", "integer", np.concatenate([np.arange(n) for n in lengths]) * 1.0),
            Column("x", "number", rng.normal(size=len(group))),
            Column("z", "number", rng.normal(size=len(group))),
            Column("y", "integer", group % 3.0),
        )
    )


def of_layers(layers, precision, *, masked):
    """A model of drawn numbers over series, its rows, and which are whose."""
    rows = series(masked=masked)
    sequence = SequenceSpec(order="step", group="group", length=STEPS, mask=masked)
    found = spec(
        features=["x", "z"],
        network=NetworkSpec.model_validate({"layers": layers}),
        sequence=sequence,
        precision=precision,
    )
    examples = sequences(rows, sequence, ["y"])
    return drawn(rows, found), examples.table, examples.windows


@pytest.mark.parametrize("precision", EXACT)
@pytest.mark.parametrize("masked", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("both", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_every_layer_agrees(layer, both, answer, masked, precision):
    asked = [{"units": 4, "bidirectional": both, **layer, **answer}]
    assert deviation(*of_layers(asked, precision, masked=masked)) < EXACT[precision]


@pytest.mark.parametrize("precision", EXACT)
@pytest.mark.parametrize("masked", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("layers", STACKS.values(), ids=STACKS)
def test_stacks_agree(layers, masked, precision):
    assert deviation(*of_layers(layers, precision, masked=masked)) < EXACT[precision]


@pytest.mark.parametrize(("kind", "operator"), [("rnn", "RNN"), ("gru", "GRU"), ("lstm", "LSTM")])
def test_a_layer_of_float32_is_one_operator_and_one_of_float64_a_loop(kind, operator):
    layers = [{"type": kind, "units": 4, "bidirectional": True}]
    single, double = (of_layers(layers, precision, masked=True)[0] for precision in EXACT)
    assert operators(single).count(operator) == 1
    assert operators(double).count("Scan") == 2
    assert "Scan" not in operators(single)


def operators(model):
    return [node.op_type for node in onnx.load_from_string(onnx_of(model, "mdl_1")).graph.node]


def test_no_cell_is_forgotten():
    assert set(CELLS) == set(OPERATORS) == set(kinds(Cell))
