"""Model: fitted preprocessing and a trained network, which together predict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import spec
from engine.arrays import Matrix
from engine.data import quantiles
from engine.data.preprocessing import FeatureEncoder
from engine.data.scaling import Numbers
from engine.data.sequences import Sequences, last_values, sequences
from engine.data.table import Column, InputColumn, Table
from engine.data.targets import ClassEncoder, TargetScaler, has_targets
from engine.data.windows import Windows
from engine.errors import DataError, SchemaError
from engine.metrics import (
    classification_metrics,
    confusion,
    quantile_metrics,
    regression_metrics,
)
from engine.network import Architecture, Inputs, Network
from engine.spec import ResolvedSpec
from engine.training import architecture_of

LAID_OUT_BYTES = 2**23
"""Of the sequences that are laid out for a prediction at a time, as far as one is no larger."""


def architecture_for(
    settings: ResolvedSpec, features: FeatureEncoder, target: ClassEncoder | TargetScaler
) -> Architecture:
    """Return what the network is for these columns."""
    inputs, sequence = Inputs(features.shape, features.codes), settings.sequence
    if sequence is not None:
        inputs = inputs.repeated(sequence.steps, masked=bool(sequence.mask))
    return architecture_of(settings, inputs, outputs_for(settings, target))


def outputs_for(settings: ResolvedSpec, target: ClassEncoder | TargetScaler) -> int:
    """Return how many outputs a network has for what it predicts."""
    if isinstance(target, TargetScaler):
        return target.outputs
    return 1 if isinstance(settings.loss, spec.BinaryCrossEntropy) else len(target.classes)


def measure_of(
    target: ClassEncoder | TargetScaler, bases: Matrix | None = None
) -> Callable[[Matrix, Any], dict[str, float]]:
    """Return what tells how good predictions are, in the targets' own units."""
    if isinstance(target, ClassEncoder):
        return classification_metrics

    def measure(y: Matrix, t: Matrix) -> dict[str, float]:
        true = target.invert(t, bases)[:, :: target.copies]
        # What was 0 is rounding by now, and no error is a share of that.
        true[np.abs(true) < 10 * np.finfo(t.dtype).eps * np.abs(true).max()] = 0
        return number_metrics(target.invert(y, bases), true, target.quantiles)

    return measure


def number_metrics(y: Matrix, t: Matrix, levels: tuple[float, ...]) -> dict[str, float]:
    """Measure numbers, or quantiles of them side by side, against the true numbers ``t``."""
    metrics = regression_metrics(quantiles.values(y, levels), t)
    return metrics | quantile_metrics(quantiles.apart(y, levels), t, levels) if levels else metrics


def have_targets(table: Table, settings: ResolvedSpec) -> NDArray[np.bool_]:
    """Return which rows have a value in every target; without one nothing is learnt."""
    found = has_targets(table, settings.targets)
    if not found.any():
        raise SchemaError(settings.targets[0], "a target in some row", "none")
    return found


def taken(table: Table, found: NDArray[np.bool_]) -> Table:
    """Return the rows that were found; the table itself if all were."""
    return table if found.all() else table.take(np.flatnonzero(found))


CONFUSION_CLASSES = 100
"""Up to so many classes, `Model.evaluate` says which was taken for which."""


@dataclass(frozen=True)
class Evaluation:
    """How a model does.

    Parameters
    ----------
    rows : int
        Measured on: those that have a target.
    metrics : dict of str to float
    confusion : ndarray of shape (classes, classes), or None
        How many rows of each true class (down) were taken for each class (across).
    """

    rows: int
    metrics: dict[str, float]
    confusion: NDArray[np.intp] | None


@dataclass(frozen=True)
class Model:
    """What predicts: fitted preprocessing and a trained network.

    Parameters
    ----------
    settings : ResolvedSpec
        What the network was trained by.
    features : FeatureEncoder
    target : ClassEncoder or TargetScaler
    network : Network
    """

    settings: ResolvedSpec
    features: FeatureEncoder
    target: ClassEncoder | TargetScaler
    network: Network

    @property
    def inputs(self) -> tuple[InputColumn, ...]:
        """The columns that a prediction needs, in order."""
        return self.features.inputs

    @property
    def ignored(self) -> tuple[str, ...]:
        """The columns that were left out: a row may have them, but they say nothing."""
        columns = self.settings.columns
        dropped = tuple(name for name, choice in columns.items() if choice.encode == "drop")
        return dropped if self.sequence is None else (*dropped, *self.sequence.columns)

    @property
    def sequence(self) -> spec.SequenceSpec | None:
        """How the rows of an example follow on each other; None where it is one row."""
        return self.settings.sequence

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns that are predicted."""
        return tuple(self.settings.targets)

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The classes in the order of the probabilities; None for regression."""
        return self.target.classes if isinstance(self.target, ClassEncoder) else None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The same as names in JSON: ``false``, ``1`` or ``setosa``; None for regression."""
        return self.target.names if isinstance(self.target, ClassEncoder) else None

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The quantiles of every number that `predict` returns; empty where it is the number."""
        return self.settings.quantiles

    def values(self, y: Matrix) -> Matrix:
        """Return of predicted numbers, or quantiles, the one value for each target and step."""
        return quantiles.values(y, self.quantiles)

    def output(self, name: Any) -> int:
        """Return the position of a class, or of a target; raises `SchemaError` where it is none."""
        return ClassEncoder("output", self.classes or self.outputs).label(name)

    def predict(self, table: Table, windows: Windows | None = None) -> Matrix:
        """Predict every row, or every window of rows, to the same bits whichever stand beside it.

        `Network.predict` says what that rests on.

        Parameters
        ----------
        table : Table
        windows : Windows, optional
            The examples of a model of sequences.

        Returns
        -------
        Matrix of shape (examples, classes) or (examples, targets * horizon)
            Probabilities, or values in the targets' own units. Where `quantiles` are predicted
            each value is as many of them, side by side and rising.

        Raises
        ------
        SchemaError
            A column is absent, of another type, or holds what cannot be predicted from.
        """
        if (windows is None) != (self.sequence is None):
            raise DataError("the model takes sequences of rows, not single ones")
        if self.sequence is None or windows is None:
            x = self.features.transform(table, self.network.numbers.dtype)
            return self._answer(self.network.predict(x))
        return self._predict_windows(table, windows, self.sequence)

    def _predict_windows(
        self, table: Table, windows: Windows, sequence: spec.SequenceSpec
    ) -> Matrix:
        """Predict windows of the rows of a table, laid out some at a time."""
        x = self.features.transform_steps(table, self.network.numbers.dtype, windows.steps)
        bases, parts = None, []
        if sequence.relative:
            bases = last_values(table, windows, self.settings.targets)
        columns = windows.units(x.shape[1]) + 1
        block = max(1, LAID_OUT_BYTES // (x.itemsize * columns))
        for first in range(0, len(windows), block):
            some = windows.take(np.arange(first, min(first + block, len(windows))))
            steps = np.empty((len(some), columns), dtype=x.dtype)
            some.gather(x, steps)
            known = None if bases is None else bases[first : first + block]
            forecast = self._feed_back if sequence.recurs else self._forecast
            parts.append(forecast(steps, known))
        return np.concatenate(parts)

    def _forecast(self, steps: Matrix, bases: Matrix | None) -> Matrix:
        """Predict windows that are laid out."""
        return self._answer(self.network.predict(steps), bases)

    def _feed_back(self, steps: Matrix, bases: Matrix | None) -> Matrix:
        """Forecast one step after another, each seen as the newest row of the window by the next.

        Parameters
        ----------
        steps : Matrix of shape (examples, window * width + 1)
            Changed: the windows move on.
        bases : Matrix of shape (examples, targets), or None

        Returns
        -------
        Matrix of shape (examples, targets * horizon)
        """
        forecasts, width = [self._forecast(steps, bases)], self.features.width
        for _ in range(1, self.settings.horizon):
            newest = forecasts[-1]
            steps[:, : -1 - width] = steps[:, width:-1]
            steps[:, -1 - width : -1] = self._row(newest, steps.dtype)
            forecasts.append(self._forecast(steps, None if bases is None else newest))
        return np.stack(forecasts, axis=2).reshape(len(steps), -1)

    def _row(self, values: Matrix, dtype: np.dtype[Any]) -> Matrix:
        """Return values of the targets as rows that the network sees, shape (rows, width)."""
        columns = (
            Column(column.name, column.type, values[:, self.outputs.index(column.name)])
            for column in self.inputs
        )
        return self.features.transform(Table(tuple(columns)), dtype)[:, :-1]

    @property
    def takes_numbers(self) -> bool:
        """Whether `predict_numbers` can be asked: every input is a number or a truth value."""
        return self.sequence is None and self.features.takes_numbers

    @property
    def number_names(self) -> tuple[str, ...] | None:
        """The inputs in order, where all of them take nothing but numbers; truth values do not."""
        return self.features.number_names if self.sequence is None else None

    def predict_numbers(self, values: Numbers) -> Matrix | None:
        """Predict rows of numbers, as `predict` does, to the bit; None where it would refuse them.

        Parameters
        ----------
        values : Numbers of shape (rows, inputs)
            In the order of `inputs`, NaN where missing.
        """
        x = self.features.transform_numbers(values, self.network.numbers.dtype)
        return None if x is None else self._answer(self.network.predict(x))

    def _answer(self, y: Matrix, bases: Matrix | None = None) -> Matrix:
        return y if isinstance(self.target, ClassEncoder) else self.target.invert(y, bases)

    def evaluate(self, table: Table) -> Evaluation:
        """Predict every row and measure against the target column(s) of the table.

        Of a model of sequences every window, or whole series, that can be cut out of it.

        Raises
        ------
        SchemaError
            As `predict`; or a row's class was not there when training.
        """
        if self.sequence is None:
            table = taken(table, have_targets(table, self.settings))
            return self._measured(self.predict(table), table)
        return self.measure(sequences(table, self.sequence, self.settings.targets))

    def measure(self, examples: Sequences) -> Evaluation:
        """Predict sequences and measure against what they are to predict."""
        return self._measured(self.predict(examples.table, examples.windows), examples.answered)

    def _measured(self, y: Matrix, table: Table) -> Evaluation:
        """Measure predictions against the targets in a table."""
        if not isinstance(self.target, ClassEncoder):
            metrics = number_metrics(
                y, self.target.raw(table, self.settings.horizon), self.quantiles
            )
            return Evaluation(len(y), metrics, None)
        labels = self.target.transform(table)
        few = len(self.target.classes) <= CONFUSION_CLASSES
        counts = confusion(y, labels) if few else None
        return Evaluation(len(y), classification_metrics(y, labels), counts)
