"""Errors: each is a refusal of the engine's, says where and what, and keeps its facts."""

from __future__ import annotations

import pytest

from engine import errors
from engine.errors import (
    CheckpointError,
    DataError,
    DivergedError,
    EngineError,
    FormatError,
    SchemaError,
    SpecError,
    TiesError,
)


@pytest.mark.parametrize(
    ("error", "message", "facts"),
    [
        (
            SpecError("/network/layers/0", "what would do"),
            "/network/layers/0: what would do",
            {"path": "/network/layers/0", "reason": "what would do"},
        ),
        (
            TiesError("/sequence/order", "what would do", "t", within=3, count=4),
            "/sequence/order: what would do",
            {"column": "t", "within": 3, "count": 4},
        ),
        (DataError("no rows"), "no rows", {"reason": "no rows"}),
        (
            FormatError(3, "age", "is missing"),
            "line 3, column 'age': is missing",
            {"line": 3, "column": "age", "reason": "is missing"},
        ),
        (FormatError(3, None, "is short"), "line 3: is short", {"line": 3, "column": None}),
        (FormatError(None, "age", "is odd"), "column 'age': is odd", {"line": None}),
        (FormatError(None, None, "is empty"), "is empty", {"reason": "is empty"}),
        (
            SchemaError("age", "a number", "null", 0),
            "row 0, column 'age': expected a number, got null",
            {"column": "age", "expected": "a number", "got": "null", "row": 0},
        ),
        (
            SchemaError("age", "a number", "null"),
            "column 'age': expected a number, got null",
            {"row": None},
        ),
        (
            DivergedError(2, 7),
            "the loss stopped being a finite number in epoch 2, at step 7",
            {"epoch": 2, "step": 7},
        ),
        (
            CheckpointError("9", "is from the future"),
            "format version 9: is from the future",
            {"version": "9", "reason": "is from the future"},
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_says_where_and_what_and_keeps_its_facts(error, message, facts):
    assert isinstance(error, EngineError)
    assert str(error) == message
    assert {name: getattr(error, name) for name in facts} == facts


def test_what_is_wrong_with_a_file_or_a_column_is_wrong_with_the_data():
    assert issubclass(FormatError, DataError)
    assert issubclass(SchemaError, DataError)


def test_every_error_is_in_the_picture():
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert all(f"{error.__name__}" in errors.__doc__ for error in classes)
