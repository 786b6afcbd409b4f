"""Models of sequences in ONNX Runtime: whole series, padded or not, and forecasts."""

from __future__ import annotations

import numpy as np
import pytest

from app.export.graph import UnportableError
from app.export.model import onnx_of
from engine.data.sequences import sequences
from engine.data.table import Column, Table
from engine.data.windows import Windows
from engine.spec import ColumnSpec, NetworkSpec, SequenceSpec
from tests.app.export.exporting import TOLERANCE, deviation, drawn, raw, session
from tests.app.export.test_model import EMBEDDING, FEATURES, NUMBERS, ROWS, everything
from tests.engine.beginnings import spec

EXACT = {"float32": TOLERANCE, "float64": 1e-11}
GRU = NetworkSpec.model_validate({"layers": [{"type": "gru", "units": 4, "bidirectional": True}]})
LENGTHS = np.array([3, 1, 5, 2, 4, 4, 5, 1, 5, 3, 5, 5, 4, 3])
QUANTILES = {"type": "quantile", "quantiles": [0.1, 0.2, 0.8, 0.9]}


def series(seed=1, levels="abcd"):
    """Columns of every kind, their rows in series of 1 to 5, or all in one by `place`."""
    rows, group = everything(seed, levels), np.arange(len(LENGTHS)).repeat(LENGTHS)
    way, price = group.astype(np.int32) % 3, rows.column("price").values.copy()
    price[::6] = np.nan
    columns = (each for each in rows.columns if each.name != "price")
    return Table(
        (
            *columns,
            Column("price", "number", price),
            Column("group", "integer", group.astype(float)),
            Column("place", "integer", np.arange(ROWS, dtype=float)),
            Column("way", "category", way, ("up", "down", "on")),
        )
    )


def whole(**changes):
    sequence = {"order": "place", "group": "group", "length": 5, "mask": True}
    changes = {"target": "way", "features": FEATURES, **changes}
    return spec(sequence=SequenceSpec(**sequence), **changes)


def forecast(target="price", *, beside=("count", "level", "when"), network=GRU, **changes):
    of_sequence = ("horizon", "relative", "strategy")
    asked = {name: changes.pop(name) for name in of_sequence if name in changes}
    sequence = SequenceSpec(**{"order": "place", "window": 6, "relative": True, **asked})
    targets = [target] if isinstance(target, str) else target
    changes = {**NUMBERS, "target": target, "network": network, **changes}
    return spec(sequence=sequence, features=[*beside, *targets], **changes)


def agreement(settings, rows, later=None):
    """By how much a model of drawn numbers differs on examples of the same, or of later rows."""
    examples = sequences(later or rows, settings.sequence, settings.targets)
    return deviation(drawn(rows, settings), examples.table, examples.windows)


EMBED_LEVEL = {"level": ColumnSpec(encode="embedding")}
EMBED = {**EMBED_LEVEL, "word": ColumnSpec(encode="embedding")}
READ = NetworkSpec.model_validate(
    {
        "layers": [
            EMBEDDING["layers"][0],
            {"type": "dropout", "rate": 0.2},
            *GRU.model_dump()["layers"],
        ]
    }
)

WHOLE = {
    "dense": {},
    "recurrent": {"network": GRU},
    "levels embedded": {
        "features": ["size", "level", "word"],
        "network": NetworkSpec.model_validate(EMBEDDING),
        "columns": EMBED,
    },
    "levels embedded and read step by step": {
        "features": ["size", "level", "word"],
        "network": READ,
        "columns": EMBED,
    },
    "nothing but levels": {"features": ["level"], "network": READ, "columns": EMBED_LEVEL},
    "a value": {**NUMBERS, "target": "group", "features": ["size", "level"], "network": GRU},
}


@pytest.mark.parametrize("precision", EXACT)
@pytest.mark.parametrize("case", WHOLE.values(), ids=WHOLE)
def test_whole_series_agree_on_rows_that_were_never_seen(case, precision):
    found = agreement(whole(**case, precision=precision), series(), series(2, "axbyzcd"))
    assert found < EXACT[precision]


FORECASTS = {
    "a value": {},
    "a value as it is": {"relative": False},
    "with levels embedded": {"network": READ, "columns": EMBED_LEVEL},
    "of several": {"target": ["price", "visits"]},
    "of several, far ahead": {"target": ["price", "visits"], "horizon": 3},
    "far ahead by dense layers": {"horizon": 3, "network": spec().network},
    "quantiles, far ahead": {
        "target": ["price", "visits"],
        "horizon": 2,
        "loss": QUANTILES,
    },
    "counts": {"target": "visits", "loss": "poisson", "relative": False},
    "a class": {
        "target": "colour",
        "task": "classification",
        "loss": "cross_entropy",
        "relative": False,
    },
    "fed back": {"beside": [], "horizon": 4, "strategy": "recursive"},
    "fed back as it is": {"beside": [], "horizon": 4, "strategy": "recursive", "relative": False},
    "several fed back": {
        "target": ["price", "visits"],
        "beside": [],
        "horizon": 3,
        "strategy": "recursive",
        "network": spec().network,
    },
    "a quantile fed back": {
        "beside": [],
        "horizon": 3,
        "strategy": "recursive",
        "loss": {"type": "quantile", "quantiles": [0.9]},
    },
}


@pytest.mark.parametrize("precision", EXACT)
@pytest.mark.parametrize("case", FORECASTS.values(), ids=FORECASTS)
def test_forecasts_agree(case, precision):
    assert agreement(forecast(**case, precision=precision), series()) < EXACT[precision]


def test_a_graph_takes_sequences_of_every_column_and_their_lengths():
    found = session(drawn(series(), whole()))
    double, text = "tensor(double)", "tensor(string)"
    assert [(x.name, x.type, x.shape) for x in found.get_inputs()] == [
        ("size", double, ["sequences", 5]),
        ("count", double, ["sequences", 5]),
        ("fresh", double, ["sequences", 5]),
        ("level", text, ["sequences", 5]),
        ("word", text, ["sequences", 5]),
        ("when", "tensor(int64)", ["sequences", 5]),
        ("image", double, ["sequences", 5, 2, 2]),
        ("label", double, ["sequences", 5]),
        ("lengths", "tensor(int64)", ["sequences"]),
    ]
    assert [(y.name, y.type, y.shape) for y in found.get_outputs()] == [
        ("predicted_label", text, ["sequences"]),
        ("probabilities", "tensor(float)", ["sequences", 3]),
    ]


def test_lengths_are_called_otherwise_where_a_column_or_a_target_is():
    rows = series()
    columns = (*rows.columns, Column("lengths", "number", rows.column("count").values))
    found = session(drawn(Table(columns), whole(features=["count", "lengths"])))
    assert [x.name for x in found.get_inputs()] == ["count", "lengths", "sequence_lengths"]
    columns = (*rows.columns, Column("lengths", "number", rows.column("group").values))
    settings = whole(**NUMBERS, target="lengths", features=["count"])
    found = session(drawn(Table(columns), settings))
    assert [x.name for x in found.get_inputs()] == ["count", "lengths"]
    assert [y.name for y in found.get_outputs()] == ["predicted_lengths"]


def test_a_forecast_gives_every_step_and_its_quantiles_by_name():
    found = session(drawn(series(), forecast(horizon=2, loss=QUANTILES)))
    inputs = {x.name: x.shape for x in found.get_inputs()}
    assert inputs == {name: ["sequences", 6] for name in ("count", "level", "when", "price")}
    levels = QUANTILES["quantiles"]
    assert [y.name for y in found.get_outputs()] == [
        "price_1",
        "price_2",
        *(f"price_{step}_quantile_{level}" for step in (1, 2) for level in levels),
    ]


def test_the_next_step_of_a_target_is_told_apart_from_its_past():
    found = session(drawn(series(), forecast()))
    assert [y.name for y in found.get_outputs()] == ["predicted_price"]


@pytest.mark.parametrize("case", ["recurrent", "levels embedded"])
def test_what_is_padding_says_nothing(case):
    rows = series()
    settings = whole(**WHOLE[case])
    found = drawn(rows, settings)
    graph, columns = session(found), raw(found, rows, Windows.of([2], 5, masked=True))
    noise = {name: x.copy() for name, x in columns.items()}
    for name, x in noise.items():
        if name != "lengths":
            x[:, 2:] = "never seen" if x.dtype == object else x.dtype.type(-(2**62))
    for y, same in zip(graph.run(None, columns), graph.run(None, noise), strict=True):
        np.testing.assert_array_equal(y, same)


def test_a_window_without_a_value_to_go_on_from_is_not_forecast():
    found = drawn(series(), forecast(beside=[]))
    [values] = session(found).run(None, {"price": np.array([[np.nan] * 6, [1.0] * 6])})
    assert np.isnan(values).tolist() == [True, False]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_any_number_of_windows_is_taken_by_dense_layers(count):
    rows = series()
    found = drawn(rows, forecast(horizon=2, network=spec().network))
    few = raw(found, rows, Windows(np.arange(count), 6))
    assert [len(y) for y in session(found).run(None, few)] == [count, count]


def test_a_layer_that_settles_is_refused_by_name():
    network = NetworkSpec.model_validate({"layers": [{"type": "equilibrium", "units": 4}]})
    with pytest.raises(UnportableError, match=r"layers\.0, of the kind Equilibrium"):
        onnx_of(drawn(series(), whole(network=network)), "mdl_1")
