"""Whole models in ONNX Runtime: what goes in, what comes out, and what cannot be written."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from app.export import columns, layers, model
from app.export.graph import UnportableError
from app.export.model import onnx_of
from engine.data.table import Column, Table
from engine.spec import ColumnSpec
from tests.app.export.exporting import TOLERANCE, deviation, drawn, raw, session
from tests.engine.beginnings import spec

ROWS = 50


def everything(seed=1, levels="abcd"):
    """A table of columns of every kind, with gaps, and of targets of every kind."""
    rng = np.random.default_rng(seed)
    size = rng.normal(1e6, 3, ROWS)
    times = rng.integers(-(2**50), 2**51, ROWS).astype("datetime64[us]")
    size[::7], times[::11] = np.nan, np.datetime64("NaT")
    texts = np.empty(ROWS, dtype=object)
    texts[:] = [("one", "two", None, "three")[row % 4] for row in range(ROWS)]
    codes = rng.integers(-1, len(levels), ROWS).astype(np.int32)
    fresh = np.where(np.arange(ROWS) % 5, rng.integers(2, size=ROWS), np.nan)
    kind = np.array([2, 4, 6])[rng.integers(3, size=ROWS)]
    colour = rng.integers(3, size=ROWS).astype(np.int32)
    return Table(
        (
            Column("size", "number", size),
            Column("count", "integer", rng.integers(9, size=ROWS).astype(float)),
            Column("fresh", "boolean", fresh),
            Column("level", "category", codes, tuple(levels)),
            Column("word", "text", texts),
            Column("when", "timestamp", times),
            Column("image", "tensor", rng.integers(256, size=(ROWS, 2, 2)).astype(np.uint8)),
            Column("label", "number", rng.normal(size=ROWS)),
            Column("kind", "integer", kind.astype(float)),
            Column("half", "number", kind / 4),
            Column("sold", "boolean", rng.integers(2, size=ROWS).astype(float)),
            Column("colour", "category", colour, ("red", "green", "blue")),
            Column("price", "number", 1e4 * rng.normal(size=ROWS)),
            Column("visits", "integer", rng.poisson(3, ROWS).astype(float)),
        )
    )


FEATURES = ["size", "count", "fresh", "level", "word", "when", "image", "label"]
EMBEDDING = {"layers": [{"type": "embedding", "dimensions": 3}, {"type": "dense", "units": 6}]}
NUMBERS = {"task": "regression", "loss": "squared_error"}

CASES = {
    "classes by name": {"target": "colour"},
    "classes by number": {"target": "kind"},
    "classes by fraction": {"target": "half"},
    "hinge": {"target": "colour", "loss": "hinge"},
    "two classes": {"target": "sold"},
    "two classes by a sigmoid": {"target": "sold", "loss": "binary_cross_entropy"},
    "a value": {"target": "price", **NUMBERS},
    "values": {"target": ["price", "visits"], **NUMBERS},
    "quantiles": {
        **NUMBERS,
        "target": ["price", "visits"],
        "loss": {"type": "quantile", "quantiles": [0.1, 0.2, 0.8, 0.9]},
    },
    "counts": {"target": "visits", "task": "regression", "loss": "poisson"},
    "levels embedded": {
        "target": "colour",
        "network": EMBEDDING,
        "columns": {
            **{name: ColumnSpec(encode="embedding") for name in ("level", "word")},
            "count": ColumnSpec(type="category", encode="embedding"),
        },
    },
    "nothing but embeddings": {
        "target": "colour",
        "features": ["level", "word"],
        "network": EMBEDDING,
        "columns": {name: ColumnSpec(encode="embedding") for name in ("level", "word")},
    },
}


def settings(case, **changes):
    return spec(**{"features": FEATURES, **CASES[case], **changes})


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_a_model_of_all_there_is_agrees_on_rows_it_never_saw(case, precision):
    found = drawn(everything(), settings(case, precision=precision))
    later = everything(seed=2, levels="axbyzcd")
    assert deviation(found, later) < (TOLERANCE if precision == "float32" else 1e-11)


def test_a_graph_takes_columns_and_gives_answers_by_name():
    found = session(drawn(everything(), settings("classes by name")))
    double, text = "tensor(double)", "tensor(string)"
    assert [(x.name, x.type, x.shape) for x in found.get_inputs()] == [
        ("size", double, ["rows", 1]),
        ("count", double, ["rows", 1]),
        ("fresh", double, ["rows", 1]),
        ("level", text, ["rows", 1]),
        ("word", text, ["rows", 1]),
        ("when", "tensor(int64)", ["rows", 1]),
        ("image", double, ["rows", 2, 2]),
        ("label", double, ["rows", 1]),
    ]
    assert [(y.name, y.type, y.shape) for y in found.get_outputs()] == [
        ("predicted_label", text, ["rows"]),
        ("probabilities", "tensor(float)", ["rows", 3]),
    ]


@pytest.mark.parametrize(
    ("case", "kind", "classes"),
    [
        ("classes by number", "tensor(int64)", [2, 4, 6]),
        ("classes by fraction", "tensor(string)", [0.5, 1.0, 1.5]),
        ("two classes", "tensor(string)", [False, True]),
    ],
)
def test_a_label_is_an_integer_or_what_json_writes(case, kind, classes):
    rows = everything()
    found = session(drawn(rows, settings(case, features=["size"])))
    assert (found.get_outputs()[0].name, found.get_outputs()[0].type) == ("label", kind)
    [labels] = found.run(["label"], {"size": rows.column("size").values[:, None]})
    assert set(labels) <= set(classes if kind == "tensor(int64)" else map(json.dumps, classes))
    assert found.get_modelmeta().custom_metadata_map["classes"] == json.dumps(classes)


def test_targets_are_outputs_by_name_and_a_file_says_which_model_it_is():
    found = session(drawn(everything(), settings("values")))
    assert [(y.name, y.type, y.shape) for y in found.get_outputs()] == [
        ("price", "tensor(double)", ["rows"]),
        ("visits", "tensor(double)", ["rows"]),
    ]
    said = found.get_modelmeta()
    assert (said.producer_name, said.graph_name) == ("chainrule", "mdl_1")
    assert said.custom_metadata_map == {
        "model": "mdl_1",
        "task": "regression",
        "targets": '["price", "visits"]',
    }


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_any_number_of_rows_is_taken(rows):
    table = everything()
    found = drawn(table, settings("values"))
    few = {name: values[:rows] for name, values in raw(found, table).items()}
    assert [len(y) for y in session(found).run(None, few)] == [rows, rows]


def test_a_model_is_written_as_the_same_bytes_every_time():
    found = drawn(everything(), settings("classes by name"))
    assert onnx_of(found, "mdl_1") == onnx_of(found, "mdl_1")


def test_columns_of_numbers_that_stand_together_take_few_nodes():
    rng = np.random.default_rng(0)
    columns_of = [Column(f"x{n}", "number", rng.normal(size=ROWS)) for n in range(200)]
    rows = Table((*columns_of, Column("y", "integer", np.arange(ROWS) % 3.0)))
    found = drawn(rows, spec(features=[column.name for column in columns_of]))
    assert len(onnx.load_from_string(onnx_of(found, "mdl_1")).graph.node) < 30
    assert deviation(found, rows) < TOLERANCE


@pytest.mark.parametrize(
    ("room", "table", "reason"),
    [
        (layers, "LAYERS", r"layers\.0, of the kind Dense"),
        (columns, "ENCODINGS", "the kind Number"),
    ],
)
def test_what_has_no_operator_is_refused_by_name(room, table, reason, monkeypatch):
    found = drawn(everything(), settings("classes by name"))
    monkeypatch.setattr(room, table, {})
    with pytest.raises(UnportableError, match=reason):
        onnx_of(found, "mdl_1")


def test_a_file_that_would_be_too_large_is_refused(monkeypatch):
    found = drawn(everything(), settings("classes by name"))
    monkeypatch.setattr(model, "LARGEST_BYTES", 100)
    with pytest.raises(UnportableError, match="less than 2 GiB"):
        onnx_of(found, "mdl_1")
