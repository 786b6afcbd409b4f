"""Rows of several requests are predicted at once, and nobody is answered by another's."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from app.api import together
from app.api.together import Together
from engine.model import Model
from tests.app.api.callers import parts

ROWS = [
    [[5.1, 3.5, 1.4, 0.2]],
    [[6.7, 3.0, 5.2, 2.3], [5.9, 3.0, 4.2, 1.5]],
    [[1.0, 2.0, 3.0, 4.0]],
]
TOO_LARGE = [[1.75e308, 3.5, 1.4, 0.2]]


@pytest.fixture
def model(library, iris_model):
    return parts(library.app).predictor.model("ada", iris_model).model


@pytest.fixture
def predicted(monkeypatch):
    """How many rows were predicted each time."""
    predict, counts = Model.predict_numbers, []

    def count(self, values):
        counts.append(len(values))
        return predict(self, values)

    monkeypatch.setattr(Model, "predict_numbers", count)
    return counts


def ask(*asked):
    """Ask models at once; return what each answered."""

    async def ask_all():
        shared = Together()
        return await asyncio.gather(
            *(shared.predict(model, np.array(rows)) for model, rows in asked),
            return_exceptions=True,
        )

    return asyncio.run(ask_all())


def test_what_is_asked_at_once_is_predicted_at_once_as_if_it_was_alone(model, predicted):
    alone = [model.predict_numbers(np.array(rows)) for rows in ROWS]
    predicted.clear()
    for found, expected in zip(ask(*((model, rows) for rows in ROWS)), alone, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert predicted == [4]


def test_many_rows_take_several_turns(model, predicted, monkeypatch):
    monkeypatch.setattr(together, "MOST_ROWS", 3)
    found = ask((model, ROWS[0] * 5), *((model, rows) for rows in ROWS * 2))
    assert [len(y) for y in found] == [5, 1, 2, 1, 1, 2, 1]
    assert predicted == [5, 4, 2, 4]


def test_each_model_predicts_its_own(library, model, predicted):
    other = library.model(library.dataset(), training={"epochs": 2})
    other = parts(library.app).predictor.model("ada", other).model
    [first, second] = ask((model, ROWS[0]), (other, ROWS[0]))
    assert not np.array_equal(first, second)
    assert predicted == [1, 1]


def test_what_is_refused_is_refused_to_one_alone(model):
    first, refused, last = ask((model, ROWS[0]), (model, TOO_LARGE), (model, ROWS[1]))
    assert refused is None
    assert (len(first), len(last)) == (1, 2)


def test_an_error_is_told_to_all_whose_it_is(model, monkeypatch):
    def fail(_model, values):
        if len(values) != 1:
            raise MemoryError
        return values

    monkeypatch.setattr(Model, "predict_numbers", fail)
    first, failed = ask((model, ROWS[0]), (model, ROWS[1]))
    assert len(first) == 1
    assert isinstance(failed, MemoryError)


def test_nobody_is_left_waiting_where_there_is_no_memory_for_all(model, monkeypatch):
    def fail(*_arguments, **_options):
        raise MemoryError

    monkeypatch.setattr(np, "concatenate", fail)
    assert [len(y) for y in ask((model, ROWS[0]), (model, ROWS[1]))] == [1, 2]


def test_a_request_that_is_gone_disturbs_nobody(model):
    async def ask_all():
        shared = Together()
        gone, stays = (
            asyncio.create_task(shared.predict(model, np.array(rows))) for rows in ROWS[:2]
        )
        await asyncio.sleep(0)  # for both to ask
        gone.cancel()
        return await stays

    assert len(asyncio.run(ask_all())) == 2
