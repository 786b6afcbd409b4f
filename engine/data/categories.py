"""Categories: one number a level where these are few, codes for an embedding where they are many.

Levels that too few rows have are folded into one, `other`, and so is every
level that comes up later: a prediction never fails over a level.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engine.arrays import Tensor
from engine.data.encoding import Encoding, Values, check_type
from engine.data.scaling import Numbers, Scaler, fit_flags, unscaled
from engine.data.table import NUMERIC, Column, InputColumn
from engine.spec import ColumnSpec, Encode

RARE_ROWS = 5
RARE_SHARE = 0.01
"""A level is rare that fewer training rows have than both of these."""

MOST_LEVELS: dict[Encode, int] = {"one_hot": 256, "embedding": 10_000}
"""The more frequent levels are kept, up to so many."""

OTHER, MISSING = "other", "missing"

Codes = NDArray[np.intp]


def most_codes(encode: Encode, distinct: int, *, gaps: bool) -> int:
    """Return the most codes that a category of so many different values can have.

    Parameters
    ----------
    encode : Encode
    distinct : int
    gaps : bool
        Whether it has missing values.
    """
    kept = min(distinct, MOST_LEVELS[encode])
    other = encode == "embedding" or distinct > kept
    return kept + other + gaps


def one_hot_width(codes: int) -> int:
    """Return how many numbers tell so many codes apart: one tells two."""
    return 1 if codes <= 2 else codes


@dataclass(frozen=True)
class Levels:
    """Levels to codes: `other` first, if any row is, then the levels, then `missing`, if any is.

    Parameters
    ----------
    names : tuple of str
    other, missing : bool
        Whether there is such a code.
    """

    names: tuple[str, ...]
    other: bool
    missing: bool

    @classmethod
    def fit(cls, column: Column, encode: Encode) -> tuple[Levels, Codes]:
        """Fit on the training rows; return the levels, and the rows as codes."""
        names, values = _named(column)
        counts = np.bincount(values[values >= 0], minlength=len(names))
        kept = _kept(counts, len(values), MOST_LEVELS[encode])
        others = encode == "embedding" or counts.sum() > counts[kept].sum()
        levels = cls(tuple(names[level] for level in kept), bool(others), bool((values < 0).any()))
        return levels, levels.codes(names, values)

    @property
    def count(self) -> int:
        """How many codes there are."""
        return self.other + len(self.names) + self.missing

    @property
    def unknown(self) -> int:
        """The code of a level that is none of these; -1 where training had no such row."""
        return 0 if self.other else -1

    def codes(self, names: Iterable[str], values: NDArray[Any]) -> Codes:
        """Return the codes of rows whose values are places in ``names``, -1 where missing."""
        missing = self.count - 1 if self.missing else self.unknown
        found = [self._code.get(name, self.unknown) for name in names]
        codes: Codes = np.array([*found, missing], dtype=np.intp)[values]
        return codes

    @cached_property
    def _code(self) -> dict[str, int]:
        return {name: code for code, name in enumerate(self.names, start=int(self.other))}

    @property
    def labels(self) -> list[str]:
        """What each code stands for."""
        return [OTHER] * self.other + list(self.names) + [MISSING] * self.missing


@dataclass(frozen=True)
class Category(Encoding):
    """A category, by its levels.

    Parameters
    ----------
    levels : Levels
    """

    levels: Levels

    @classmethod
    def fit(cls, column: Column, choice: ColumnSpec) -> Self:
        """Fit on the training rows."""
        levels, codes = Levels.fit(column, choice.encode or "one_hot")
        wanted = InputColumn(
            column.name,
            "category" if column.type == "text" else column.type,
            levels.names,
            required=choice.impute == "none",
        )
        fitted = cls(wanted, choice, cls._scaler(choice, levels, codes), levels)
        fitted.check_missing(codes == (levels.count - 1 if levels.missing else -1))
        return fitted

    @classmethod
    def _scaler(cls, choice: ColumnSpec, levels: Levels, codes: Codes) -> Scaler:
        """Return the scaler of one number a code, or of one alone."""
        counts = np.bincount(codes, minlength=levels.count)
        if levels.count <= 2:
            counts = counts[1:] if levels.count == 2 else np.zeros(1, dtype=np.intp)
        return fit_flags(choice.scale or "robust", counts, len(codes))

    def read(self, column: Column) -> Values:
        """Return the codes."""
        check_type(column, self.input)
        names, values = _named(column)
        self.check_missing(values < 0)
        return self.levels.codes(names, values)

    def numbers(self, values: Values) -> Numbers:
        """Return 1 for the code that a row has and 0 for the others.

        Of two codes the second one is enough; what is neither lies in between.
        """
        count = self.levels.count
        if count > 2:
            one_hot: NDArray[np.bool_] = values[:, None] == np.arange(count)
            return one_hot.astype(np.float64)
        return np.where(values < 0, 0.5, values == 1.0)[:, None]

    def gather(self, values: Values, d: Tensor) -> Tensor:
        """Return the gradients at every code, (rows, codes); (rows,) from the first to the second.

        One code alone has none.
        """
        del values
        return d[:, 0] if self.levels.count <= 2 else d

    @property
    def names(self) -> list[str]:
        """The column and the level."""
        labels = self.levels.labels
        return [f"{self.input.name} = {label}" for label in labels[-self.width :]]

    def facts(self) -> dict[str, Any]:
        """Return which codes there are beside the levels, which the input knows."""
        return {"other": self.levels.other, "missing": self.levels.missing}

    @classmethod
    def restore(
        cls, column: InputColumn, choice: ColumnSpec, scaler: Scaler, facts: dict[str, Any]
    ) -> Self:
        """Return the encoding of which `facts` told."""
        levels = Levels(column.levels, bool(facts["other"]), bool(facts["missing"]))
        return cls(column, choice, scaler, levels)

    def describe(self) -> dict[str, Any]:
        """Say what becomes of the column."""
        levels = self.levels
        told = {"levels": len(levels.names), OTHER: levels.other, MISSING: levels.missing}
        return {**super().describe(), **told}


class EmbeddedCategory(Category):
    """A category as a code, of which an embedding makes a vector; code 0 is `other`."""

    @classmethod
    def _scaler(cls, choice: ColumnSpec, levels: Levels, codes: Codes) -> Scaler:
        """Return what leaves the code as it is."""
        del choice, levels, codes
        return unscaled(1)

    @property
    def codes(self) -> int:
        """How many codes there are."""
        return self.levels.count

    def numbers(self, values: Values) -> Numbers:
        """Return the codes."""
        return values.astype(np.float64)[:, None]

    def gather(self, values: Values, d: Tensor) -> Tensor:
        """Return zeros, of shape (rows,): a code has no slope."""
        del values
        return np.zeros(len(d))

    @property
    def names(self) -> list[str]:
        """The column."""
        return [self.input.name]


def _kept(counts: NDArray[np.intp], rows: int, most: int) -> list[int]:
    """Return which levels are frequent enough, in their order."""
    enough = np.flatnonzero(counts >= max(1, min(RARE_ROWS, RARE_SHARE * rows)))
    if len(enough) > most:
        by_count = enough[np.argsort(-counts[enough], kind="stable")]
        enough = np.sort(by_count[:most])
    return [int(level) for level in enough]


def _named(column: Column) -> tuple[list[str], NDArray[Any]]:
    """Return the values of a column as names, and the place of each row's in them, -1 if missing.

    The names of a text or of numbers are sorted.
    """
    values = column.values
    if column.type == "category":
        return list(column.levels), values
    if column.type in NUMERIC:
        return _named_numbers(values)
    names = sorted(set(values.tolist()) - {None})
    place: dict[str | None, int] = {name: position for position, name in enumerate(names)}
    place[None] = -1
    return names, np.fromiter((place[value] for value in values), np.intp, len(values))


def _named_numbers(values: NDArray[np.float64]) -> tuple[list[str], NDArray[Any]]:
    distinct, places = np.unique(values, return_inverse=True)
    finite = distinct[~np.isnan(distinct)]
    names = [str(int(v)) if v.is_integer() else repr(v) for v in finite.tolist()]
    return names, np.where(np.isnan(values), -1, places)
