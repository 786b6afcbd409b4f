"""A table: named, typed columns of equal length."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import DataError, SchemaError

ColumnType = Literal["number", "integer", "boolean", "category", "text", "timestamp", "tensor"]

NUMERIC: frozenset[ColumnType] = frozenset({"number", "integer", "boolean"})

TOO_LARGE = 1.7e308
"""Numbers of this size are taken for infinite ones."""

TRUE, FALSE = ("true", "yes", "y", "t"), ("false", "no", "n", "f")
"""Words that are read as booleans, in any case; those in one place belong together."""


def truth(value: Any) -> bool | None:
    """Return which boolean is meant; None where a value is neither one nor a word for one."""
    if isinstance(value, bool):
        return value
    word = value.lower() if isinstance(value, str) else ""
    return True if word in TRUE else False if word in FALSE else None


@dataclass(frozen=True)
class Column:
    """One named column.

    Parameters
    ----------
    name : str
    type : ColumnType
    values : ndarray of shape (rows,) or (rows, *shape)
        ``number``, ``integer``, ``boolean``: float64, NaN where missing.
        ``category``: int32 codes into ``levels``, -1 where missing.
        ``text``: str or None. ``timestamp``: datetime64[us], NaT where missing.
        ``tensor``: any number type, one array a row.
    levels : tuple of str
        The values of a ``category``, in order. What a ``boolean`` in words calls false
        and true; empty where it is called so.
    """

    name: str
    type: ColumnType
    values: NDArray[Any]
    levels: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row's value; empty but for a tensor."""
        return self.values.shape[1:]

    def take(self, rows: NDArray[np.intp]) -> Column:
        """Return the rows asked for, in that order."""
        return Column(self.name, self.type, self.values[rows], self.levels)


@dataclass(frozen=True)
class Table:
    """Columns of equal length."""

    columns: tuple[Column, ...]
    _by_name: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {column.name: column for column in self.columns})

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(self.columns[0].values)

    def column(self, name: str) -> Column:
        """Return the column called ``name``, or say which name comes nearest."""
        if name not in self._by_name:
            raise SchemaError(name, "a column of the table", f"none{nearest(name, self._by_name)}")
        return self._by_name[name]

    def take(self, rows: NDArray[np.intp]) -> Table:
        """Return the rows asked for, in that order."""
        return Table(tuple(column.take(rows) for column in self.columns))


def nearest(name: str, known: Any) -> str:
    """Return ``"; did you mean 'x'?"``, or the known names, or nothing when there are none."""
    names = [str(k) for k in known]
    if close := get_close_matches(name, names, n=1, cutoff=0.6):
        return f"; did you mean {close[0]!r}?"
    if not names:
        return ""
    shown = ", ".join(repr(n) for n in names[:10])
    return f"; there are {shown}" + (f" and {len(names) - 10} more" if len(names) > 10 else "")


@dataclass(frozen=True)
class InputColumn:
    """A column that a model predicts from, as its rows are written.

    Parameters
    ----------
    name : str
    type : ColumnType
        Of the dataset, whatever it is taken for.
    levels : tuple of str
        Those that a category was trained with; any other is taken for an unknown one.
        The words for false and true of a boolean that was in words.
    shape : tuple of int
        Of one value of a tensor.
    required : bool
        Whether a value has to be there in every row.
    """

    name: str
    type: ColumnType
    levels: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    required: bool = False


def table_from_instances(
    inputs: Sequence[InputColumn], instances: Sequence[Any], ignored: Collection[str] = ()
) -> Table:
    """Build a table from JSON instances.

    Parameters
    ----------
    inputs : sequence of InputColumn
    instances : sequence
        Each a dict by input name, or a list in the order of ``inputs``.
    ignored : collection of str
        What a dict may have as well.

    Raises
    ------
    SchemaError
        An input is missing, unknown, or of the wrong type; its ``row`` is the instance.
    """
    rows = [_ordered(inputs, row, instance, ignored) for row, instance in enumerate(instances)]
    return Table(
        tuple(
            column_of(column, [values[position] for values in rows])
            for position, column in enumerate(inputs)
        )
    )


def _ordered(
    inputs: Sequence[InputColumn], row: int, instance: Any, ignored: Collection[str]
) -> list[Any]:
    names = [column.name for column in inputs]
    if isinstance(instance, dict):
        for name in instance:
            if name not in names and name not in ignored:
                raise SchemaError(name, "an input of the model", f"none{nearest(name, names)}", row)
        for column in inputs:
            if column.required and column.name not in instance:
                raise SchemaError(column.name, "a value", "nothing", row)
        return [instance.get(name) for name in names]
    if isinstance(instance, list):
        if len(instance) != len(names):
            wanted = f"{len(names)} values in the order of the model's inputs"
            raise DataError(f"row {row}: expected {wanted}, got {len(instance)}")
        return instance
    raise DataError(f"row {row}: expected an object or an array, got {json_type(instance)}")


def column_of(column: InputColumn, values: list[Any]) -> Column:
    """Return a column of JSON values, in which null is a missing one.

    Raises
    ------
    SchemaError
        A value is none of the column's type.
    """
    if column.type == "tensor":
        array = np.empty((len(values), *column.shape))
        for row, value in enumerate(values):
            array[row] = _tensor(column, row, value)
        return Column(column.name, column.type, array)
    read = _SCALARS[column.type]
    read_values = [_scalar(column, row, value, read) for row, value in enumerate(values)]
    if column.type == "timestamp":
        return Column(column.name, "timestamp", np.array(read_values, dtype="datetime64[us]"))
    if column.type in NUMERIC:
        return Column(column.name, column.type, np.array(read_values, dtype=np.float64))
    texts = np.empty(len(values), dtype=object)
    texts[:] = read_values
    return Column(column.name, "text", texts)


def _scalar(column: InputColumn, row: int, value: Any, read: Callable[[Any], Any]) -> Any:
    """Read one value; raises `SchemaError` where it is none of the column's type."""
    if value is None and not column.required:
        return None
    try:
        return read(value)
    except _UnreadableError as error:
        raise SchemaError(column.name, error.expected, error.got, row) from None


class _UnreadableError(Exception):
    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected, self.got = expected, got


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _UnreadableError("a number", json_value(value))
    if not -TOO_LARGE < value < TOO_LARGE:
        raise _UnreadableError("a finite number", str(value)[:40])
    return value


def _boolean(value: Any) -> bool:
    """Return a boolean, or what a word means that a file may have for one."""
    meant = truth(value)
    if meant is None:
        raise _UnreadableError("true or false, or a word for it such as 'yes'", json_value(value))
    return meant


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _UnreadableError("a string", json_value(value))
    return value


def _timestamp(value: Any) -> datetime:
    """Return the time in UTC, without saying so, as NumPy wants it; one without offset is UTC."""
    wanted = "a time such as 2030-01-31T12:00:00Z"
    if not isinstance(value, str):
        raise _UnreadableError(wanted, json_value(value))
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        raise _UnreadableError(wanted, json_value(value)) from None


_SCALARS: dict[ColumnType, Callable[[Any], Any]] = {
    "number": _number,
    "integer": _number,
    "boolean": _boolean,
    "category": _text,
    "text": _text,
    "timestamp": _timestamp,
}


def _tensor(column: InputColumn, row: int, value: Any) -> NDArray[np.float64]:
    wanted = f"numbers nested in the shape {list(column.shape)}"
    array = None
    if isinstance(value, list):
        with suppress(ValueError, TypeError, OverflowError):
            nested = np.array(value)
            # An object array holds whole numbers that are too large for any other.
            array = nested.astype(np.float64) if nested.dtype.kind in "fiuO" else None
    if array is None:
        raise SchemaError(column.name, wanted, json_value(value), row)
    if array.shape != column.shape and array.shape != (int(np.prod(column.shape)),):
        raise SchemaError(column.name, wanted, f"the shape {list(array.shape)}", row)
    if not np.isfinite(array).all():
        raise SchemaError(column.name, "finite numbers", "NaN or infinity", row)
    return array.reshape(column.shape)


def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object from its names and values; raises ValueError where a name is twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:80]!r} appears twice in one object")
    return values


def json_type(value: Any) -> str:
    """Name the JSON type of a value, with its article."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def json_value(value: Any) -> str:
    """Show a value in a message: its type, and short scalars as they are."""
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    if isinstance(value, bool):
        return f"a boolean ({str(value).lower()})"
    if isinstance(value, (int, float)):
        return f"{json_type(value)} ({str(value)[:40]})"
    return json_type(value)
