"""Looking inside: the slope of a prediction at the columns, in their own units."""

from __future__ import annotations

import numpy as np
import pytest

from engine.data.table import Column, Table
from engine.errors import DataError
from engine.inspection import saliency, trace
from engine.model import Model
from engine.preparation import prepare
from engine.spec import (
    Adam,
    ColumnSpec,
    DenseLayer,
    EmbeddingLayer,
    EquilibriumLayer,
    NetworkSpec,
    TrainingRun,
)
from engine.training import start, train
from tests.engine.beginnings import spec, table

DAY = np.timedelta64(86_400_000_000, "us")
MINUTE = np.timedelta64(60_000_000, "us")
TANH = DenseLayer(units=8, activation="tanh")


@pytest.mark.parametrize("embeds", [False, True], ids=["one-hot", "embedded"])
def test_a_saliency_is_the_slope_of_the_prediction_at_every_column(embeds, rng):
    gaps = np.arange(60) % 7 == 3
    days = np.datetime64("2024-01-01", "us") + rng.integers(0, 10**14, 60).astype("m8[us]")
    plain = table(
        size=np.where(gaps, np.nan, 100 * rng.standard_normal(60)).tolist(),
        kind=[f"k{n}" for n in rng.integers(0, 4, 60)],
        y=(1000 * rng.standard_normal(60)).tolist(),
    )
    when = Column("when", "timestamp", np.where(gaps, np.datetime64("NaT"), days))
    rows = Table((*plain.columns, when))
    how = spec(
        task="regression",
        loss="squared_error",
        features=["kind", "size", "when"],
        columns={"kind": ColumnSpec(encode="embedding" if embeds else "one_hot")},
        network=NetworkSpec(layers=[EmbeddingLayer(dimensions=3), TANH] if embeds else [TANH]),
        optimizer=Adam(learning_rate=0.05),
        training=TrainingRun(epochs=20),
        precision="float64",
    )
    prepared = prepare(rows, how)
    state = start(how, prepared.architecture)
    list(train(state, prepared.data, how))
    model = Model(how, prepared.features, prepared.target, state.best_network())
    found = saliency(model, rows).gradients

    def moved(name, by):
        columns = [
            Column(c.name, c.type, c.values + by, c.levels) if c.name == name else c
            for c in rows.columns
        ]
        return model.predict(Table(tuple(columns)))[:, 0]

    size = (moved("size", 1e-3) - moved("size", -1e-3)) / 2e-3
    np.testing.assert_allclose(found["size"], size, rtol=1e-5, atol=1e-6)
    time = (moved("when", MINUTE) - moved("when", -MINUTE)) / (2 * MINUTE / DAY)
    np.testing.assert_allclose(found["when"], time, rtol=1e-3, atol=1e-2)
    assert np.abs(size[~gaps]).min() > 0
    assert (found["size"][gaps] == found["when"][gaps]).all()
    assert found["kind"].shape == ((60,) if embeds else (60, 4))
    assert found["kind"].any() != embeds


def test_what_does_not_settle_has_no_slope():
    """Three units in a ring, each of which holds the next down."""
    rows = table(a=[0.1, 20.0], b=[0.0, 20.0], c=[0.0, 20.0], y=[1.0, 2.0])
    how = spec(
        task="regression",
        loss="squared_error",
        features=["a", "b", "c"],
        columns={name: ColumnSpec(scale="none") for name in "abc"},
        network=NetworkSpec(layers=[EquilibriumLayer(units=3, activation="tanh")]),
        precision="float64",
    )
    prepared = prepare(rows, how)
    network = start(how, prepared.architecture).network
    tensors = network.tensors()
    tensors["layers.0.recurrent"][:] = -4 * np.roll(np.eye(3), 1, axis=0)
    tensors["layers.0.weight"][:] = np.eye(3)
    model = Model(how, prepared.features, prepared.target, network)
    with pytest.raises(DataError, match="row 0 does not settle in an equilibrium layer"):
        saliency(model, rows)
    with pytest.raises(DataError, match="more `max_iterations` may do"):
        trace(model, rows.take(np.array([0])), 1.0)
    trace(model, rows.take(np.array([1])), 1.0)
