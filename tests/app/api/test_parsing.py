"""Numbers are taken out of JSON at once, or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest

from app.api import parsing
from tests.app.api.asker import inference, rows, tensor

VALUES = [[0.1, -2.0, 3.0], [4e-300, 5e300, 2.0**53]]


def test_rows_of_numbers_become_a_matrix():
    found = parsing.rows_of(rows(*VALUES), "instances", 3, 2)
    np.testing.assert_array_equal(found, VALUES)


def test_what_was_read_stays_when_something_else_is_read():
    first = parsing.rows_of(rows(*VALUES), "instances", 3, 2)
    parsing.rows_of(rows([7, 8, 9], [7, 8, 9]), "instances", 3, 2)
    np.testing.assert_array_equal(first, VALUES)


@pytest.mark.parametrize(
    "body",
    [
        rows(*VALUES, [1, 2, 3]),
        rows(),
        rows([1, 2]),
        rows([1, 2, 3, 4]),
        rows([1, 2, 3], [1, 2]),
        rows([1, [], [2, 3]]),
        rows([[1, 2, 3]]),
        rows([1, 2, None]),
        rows([1, 2, True]),
        rows([1, 2, "3"]),
        rows({"a": 1, "b": 2, "c": 3}),
        rows(1, 2, 3),
        rows(*VALUES, more=1),
        b'{"others": [[1, 2, 3]]}',
        b"[[1, 2, 3]]",
        rows(*VALUES)[:-1],
        b"\xef\xbb\xbf" + rows(*VALUES),
    ],
)
def test_anything_else_is_left_to_others(body):
    assert parsing.rows_of(body, "instances", 3, 2) is None


def test_what_is_too_large_to_keep_memory_for_is_left_to_others(monkeypatch):
    body = rows(*VALUES)
    monkeypatch.setattr(parsing, "LARGEST_BYTES", len(body) - 1)
    assert parsing.rows_of(body, "instances", 3, 2) is None


def test_the_numbers_of_a_large_tensor_are_put_behind_what_is_said_of_them():
    numbers = np.linspace(-1, 1, 600)
    asked = inference(tensor(numbers.tolist(), [200, 3], parameters={"a": 1}), id="x")
    body, header_bytes = parsing.data_apart(asked)
    assert json.loads(body[:header_bytes]) == {
        "id": "x",
        "inputs": [
            {
                "name": "input",
                "shape": [200, 3],
                "datatype": "FP64",
                "parameters": {"a": 1, "binary_data_size": 4800},
            }
        ],
    }
    np.testing.assert_array_equal(np.frombuffer(body[header_bytes:]), numbers)


def test_a_small_one_stays_as_it_is():
    assert parsing.data_apart(inference(tensor([1.5] * 3, [1, 3]))) is None
