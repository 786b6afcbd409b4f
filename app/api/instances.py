"""Instances: rows, or sequences of rows, as a caller sends them to be predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from app.api.errors import BodyError, pointer
from engine.data.sequences import last_values
from engine.data.table import Table, json_type, table_from_instances
from engine.data.windows import Windows
from engine.errors import SchemaError
from engine.model import Model
from engine.spec import SequenceSpec


def laid_out(model: Model, instances: Sequence[Any]) -> tuple[Table, Windows | None]:
    """Put instances into a table, and say which of its rows are those of a sequence."""
    if model.sequence is None:
        return table_of(model, instances), None
    return _sequences_of(model, model.sequence, instances)


def table_of(model: Model, instances: Sequence[Any], where: str | None = None) -> Table:
    """Put instances into a table; what is wrong with one is said with a pointer to it.

    ``where`` is the field that holds the only one; else they are in `instances`.
    """

    def at(row: int, *parts: str | int) -> str:
        return pointer(where, *parts) if where else pointer("instances", row, *parts)

    return _table(model, instances, at)


def _sequences_of(
    model: Model, sequence: SequenceSpec, instances: Sequence[Any]
) -> tuple[Table, Windows]:
    """Put the rows of instances that are sequences into a table, and say which are whose."""
    lengths, places = [], []
    for number, instance in enumerate(instances):
        rows = _rows_of(number, instance)
        first = _first_row(number, len(rows), sequence)
        lengths.append(len(rows) - first)
        places += [(number, place) for place in range(first, len(rows))]

    def at(row: int, *parts: str | int) -> str:
        number, place = places[row]
        return pointer("instances", number, "sequence", place, *parts)

    rows = [instances[number]["sequence"][place] for number, place in places]
    table = _table(model, rows, at)
    windows = Windows.of(lengths, sequence.steps, masked=bool(sequence.mask))
    if sequence.relative:
        _check_last_values(model, table, windows, places)
    return table, windows


def _check_last_values(
    model: Model, table: Table, windows: Windows, places: Sequence[tuple[int, int]]
) -> None:
    """Refuse a window that has no value of a target to go on from."""
    try:
        last_values(table, windows, model.settings.targets)
    except SchemaError as error:
        number, _ = places[cast(int, error.row)]
        reason = f"expected a value of {error.column!r} in some row, got none"
        raise BodyError(pointer("instances", number, "sequence"), reason) from error


def _rows_of(number: int, instance: Any) -> list[Any]:
    """Return the rows of one sequence."""
    if not isinstance(instance, dict) or instance.keys() != {"sequence"}:
        expected = 'expected {"sequence": [row, row, ...]}, as the model takes sequences of rows'
        raise BodyError(pointer("instances", number), expected)
    rows = instance["sequence"]
    if not isinstance(rows, list):
        path = pointer("instances", number, "sequence")
        raise BodyError(path, f"expected an array of rows, got {json_type(rows)}")
    for place, row in enumerate(rows):
        if not isinstance(row, (dict, list)):
            path = pointer("instances", number, "sequence", place)
            raise BodyError(path, f"expected an object or an array, got {json_type(row)}")
    return rows


def _first_row(number: int, rows: int, sequence: SequenceSpec) -> int:
    """Return from which row on a sequence counts; refuse one that is too short or too long."""
    steps, forecasts = sequence.steps, sequence.window is not None
    wanted = f"1 to {steps:,} rows" if sequence.mask else f"{steps:,} rows"
    fits = rows >= steps if forecasts else 0 < rows <= steps and (sequence.mask or rows == steps)
    if not fits:
        least = " or more" if forecasts else ""
        path = pointer("instances", number, "sequence")
        raise BodyError(path, f"expected {wanted}{least}, got {rows:,}")
    return rows - steps if forecasts else 0


def _table(model: Model, instances: Sequence[Any], at: Callable[..., str]) -> Table:
    names = [column.name for column in model.inputs]
    for row, instance in enumerate(instances):
        if isinstance(instance, list) and len(instance) != len(names):
            wanted = f"{len(names)} values in the order of the model's inputs"
            raise BodyError(at(row), f"expected {wanted}, got {len(instance)}")
    try:
        return table_from_instances(model.inputs, instances, model.ignored)
    except SchemaError as error:
        row = cast(int, error.row)  # instances are checked one by one
        place = names.index(error.column) if isinstance(instances[row], list) else error.column
        reason = f"expected {error.expected}, got {error.got}"
        raise BodyError(at(row, place), reason) from error
