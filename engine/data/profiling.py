"""Profiles: what a column holds, in a few figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.table import NUMERIC, Column, ColumnType, Table

TOP = 10


@dataclass(frozen=True)
class ColumnProfile:
    """What a column holds.

    Parameters
    ----------
    name : str
    type : ColumnType
    missing, non_finite : int
        Values that are absent (or NaN), and values that are infinite.
    first_missing, first_non_finite : int or None
        The 1-based row of the first of them.
    distinct : int or None
        Different values that are present; not counted for a tensor.
    min, max, mean, std : scalar or None
        Of the finite values; ``std`` is the population's. Times as RFC 3339.
    top : list of [value, count]
        The most frequent values, at most `TOP`.
    shape : list of int or None
        The shape of one value of a tensor.
    """

    name: str
    type: ColumnType
    missing: int
    non_finite: int = 0
    first_missing: int | None = None
    first_non_finite: int | None = None
    distinct: int | None = None
    min: float | str | None = None
    max: float | str | None = None
    mean: float | None = None
    std: float | None = None
    top: list[list[Any]] | None = None
    shape: list[int] | None = None


def profile(table: Table) -> list[ColumnProfile]:
    """Profile every column of a table."""
    return [_profile(column) for column in table.columns]


def _profile(column: Column) -> ColumnProfile:
    if column.type == "tensor":
        return _tensor(column)
    if column.type in NUMERIC:
        return _numeric(column)
    if column.type == "category":
        return _category(column)
    if column.type == "timestamp":
        return _timestamp(column)
    return _text(column)


def _first(mask: NDArray[np.bool_]) -> int | None:
    return int(mask.argmax()) + 1 if mask.any() else None


def _spread(finite: NDArray[Any]) -> dict[str, Any]:
    """Return min, max, mean and std, leaving out what overflows float64."""
    if finite.size == 0:
        return {}
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = finite.mean(dtype=np.float64), finite.std(dtype=np.float64)
    figures = {"min": finite.min(), "max": finite.max(), "mean": mean, "std": std}
    return {name: float(value) for name, value in figures.items() if np.isfinite(value)}


def _numeric(column: Column) -> ColumnProfile:
    values = column.values
    missing, infinite = np.isnan(values), np.isinf(values)
    finite = values[~(missing | infinite)]
    distinct, counts = np.unique(finite, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:TOP]
    return ColumnProfile(
        column.name,
        column.type,
        missing=int(missing.sum()),
        non_finite=int(infinite.sum()),
        first_missing=_first(missing),
        first_non_finite=_first(infinite),
        distinct=len(distinct),
        top=[[_plain(column.type, distinct[i]), int(counts[i])] for i in most],
        **_spread(finite),
    )


def _plain(kind: ColumnType, value: np.float64) -> bool | int | float:
    if kind == "boolean":
        return bool(value)
    return int(value) if kind == "integer" else float(value)


def _category(column: Column) -> ColumnProfile:
    missing = column.values < 0
    counts = np.bincount(column.values[~missing], minlength=len(column.levels))
    most = np.argsort(-counts, kind="stable")[:TOP]
    return ColumnProfile(
        column.name,
        column.type,
        missing=int(missing.sum()),
        first_missing=_first(missing),
        distinct=int((counts > 0).sum()),
        top=[[column.levels[i], int(counts[i])] for i in most],
    )


def _text(column: Column) -> ColumnProfile:
    missing = np.array([value is None for value in column.values])
    counts = Counter(column.values[~missing].tolist())
    return ColumnProfile(
        column.name,
        column.type,
        missing=int(missing.sum()),
        first_missing=_first(missing),
        distinct=len(counts),
        top=[[value, count] for value, count in counts.most_common(TOP)],
    )


def _timestamp(column: Column) -> ColumnProfile:
    missing = np.isnat(column.values)
    present = column.values[~missing]
    ends = (present.min(), present.max()) if len(present) else None
    return ColumnProfile(
        column.name,
        column.type,
        missing=int(missing.sum()),
        first_missing=_first(missing),
        distinct=len(np.unique(present)),
        min=ends and f"{np.datetime_as_string(ends[0])}Z",
        max=ends and f"{np.datetime_as_string(ends[1])}Z",
    )


def _tensor(column: Column) -> ColumnProfile:
    inner = tuple(range(1, column.values.ndim))
    missing = np.isnan(column.values).any(axis=inner)
    infinite = np.isinf(column.values).any(axis=inner)
    return ColumnProfile(
        column.name,
        column.type,
        missing=int(missing.sum()),
        non_finite=int(infinite.sum()),
        first_missing=_first(missing),
        first_non_finite=_first(infinite),
        shape=list(column.shape),
        **_spread(column.values[~(missing | infinite)]),
    )
