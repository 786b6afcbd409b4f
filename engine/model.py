"""Model: fitted preprocessing and a trained network, which together predict.

`prepare` turns a table and a resolved spec into what `engine.training.train`
wants; `Model` puts what was fitted on the way around the trained network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import spec
from engine.arrays import Labels, Matrix, Vector
from engine.data import quantiles
from engine.data.batches import Examples
from engine.data.encoding import check_present
from engine.data.preprocessing import FeatureEncoder
from engine.data.scaling import Numbers
from engine.data.sequences import Sequences, last_values, sequences, split_sequences
from engine.data.splits import folds, split
from engine.data.table import InputColumn, Table
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
from engine.training import TrainingData, architecture_of

LAID_OUT_BYTES = 2**23
"""Of the sequences that are laid out for a prediction at a time, as far as one is no larger."""

SPLIT_STREAM = 1
"""The split draws from its own stream of the seed, beside that of the training run."""


@dataclass(frozen=True)
class Prepared:
    """A dataset as a network sees it, and what was fitted to make it so.

    Parameters
    ----------
    data : TrainingData
    features : FeatureEncoder
    target : ClassEncoder or TargetScaler
    architecture : Architecture
        Of the network for it.
    notes : tuple of str
        What was noticed in the data, and what was left out of it.
    """

    data: TrainingData
    features: FeatureEncoder
    target: ClassEncoder | TargetScaler
    architecture: Architecture
    notes: tuple[str, ...] = ()


def prepare(table: Table, settings: ResolvedSpec, validation: Table | None = None) -> Prepared:
    """Fit the preprocessing on the rows to train on, and apply it.

    Parameters
    ----------
    table : Table
        The dataset's columns named in ``settings``. Where these ask for a part of
        the rows to validate on, it is split off.
    settings : ResolvedSpec
    validation : Table, optional
        The rows of another dataset to validate on.
    """
    if settings.sequence is not None:
        return _prepare_divided(table, validation, settings, settings.sequence)
    table = _counted(table, settings)
    classes, asked = classes_of(table, settings), settings.validation
    if validation is not None:
        validation = _with_targets(validation, settings)
    if not isinstance(asked, spec.ValidationPart):
        return _prepare(table, validation, settings, classes)
    labels = classes.transform(table) if classes else None
    training, rest = split(table.rows, asked.fraction, split_rng(settings), labels)
    held_out = table.take(rest) if len(rest) else None
    return _prepare(table.take(training), held_out, settings, classes)


def prepare_folds(table: Table, settings: ResolvedSpec, count: int) -> list[Prepared]:
    """Prepare for every fold on its own: the others to train on, itself to validate on."""
    if settings.sequence is not None:
        return _prepare_series_folds(table, settings, settings.sequence, count)
    table = _counted(table, settings)
    classes = classes_of(table, settings)
    labels = classes.transform(table) if classes else None
    return [
        _prepare(table.take(training), table.take(validation), settings, classes)
        for training, validation in folds(table.rows, count, split_rng(settings), labels)
    ]


def _counted(table: Table, settings: ResolvedSpec) -> Table:
    """Return the rows that count."""
    return taken(table, counted(table, settings))


def counted(table: Table, settings: ResolvedSpec) -> NDArray[np.bool_]:
    """Return which rows count at all, of those that have a target."""
    found = have_targets(table, settings)
    if settings.sample_weight is not None:
        found &= _weights(table, settings.sample_weight) != 0
        if not found.any():
            raise SchemaError(settings.sample_weight, "a number above 0 in some row", "none")
    return found


def _with_targets(table: Table, settings: ResolvedSpec) -> Table:
    return taken(table, have_targets(table, settings))


def have_targets(table: Table, settings: ResolvedSpec) -> NDArray[np.bool_]:
    """Return which rows have a value in every target; without one nothing is learnt."""
    found = has_targets(table, settings.targets)
    if not found.any():
        raise SchemaError(settings.targets[0], "a target in some row", "none")
    return found


def taken(table: Table, found: NDArray[np.bool_]) -> Table:
    """Return the rows that were found; the table itself if all were."""
    return table if found.all() else table.take(np.flatnonzero(found))


def _weights(table: Table, name: str) -> Vector:
    column = table.column(name)
    check_present(column)
    return column.values


def classes_of(table: Table, settings: ResolvedSpec) -> ClassEncoder | None:
    """Return the classes of all rows, where there are any."""
    if settings.task == "regression":
        return None
    return ClassEncoder.fit(table, settings.targets[0])


def split_rng(settings: ResolvedSpec) -> np.random.Generator:
    """Return what draws the rows to validate on."""
    return np.random.default_rng([settings.seed, SPLIT_STREAM])


def _prepare(
    training: Table,
    validation: Table | None,
    settings: ResolvedSpec,
    classes: ClassEncoder | None,
) -> Prepared:
    features = FeatureEncoder.fit(training, settings.features, settings.columns)
    scales = not isinstance(settings.loss, spec.Poisson)
    target = classes or TargetScaler.fit(
        training, settings.targets, scales=scales, quantiles=settings.quantiles
    )
    encode = Encode(settings, features, target)
    data = TrainingData(
        encode(training, encode.row_weights(training)),
        encode(validation, encode.sample_weights(validation)) if validation is not None else None,
        measure_of(target),
    )
    return Prepared(data, features, target, architecture_for(settings, features, target))


def _prepare_divided(
    table: Table,
    validation: Table | None,
    settings: ResolvedSpec,
    sequence: spec.SequenceSpec,
) -> Prepared:
    """Prepare sequences: all of them, or but for those to validate on."""
    examples, asked = sequences(table, sequence, settings.targets), settings.validation
    classes = classes_of(examples.answered, settings)
    held_out = None
    if validation is not None:
        held_out = sequences(validation, sequence, settings.targets)
    elif isinstance(asked, spec.ValidationPart):
        labels = classes.transform(examples.answered) if classes else None
        examples, held_out = split_sequences(
            examples, sequence, asked.fraction, split_rng(settings), labels
        )
    return _prepare_sequences(examples, held_out, settings, classes)


def _prepare_series_folds(
    table: Table, settings: ResolvedSpec, sequence: spec.SequenceSpec, count: int
) -> list[Prepared]:
    """Prepare for every fold of whole series on its own."""
    examples = sequences(table, sequence, settings.targets)
    classes = classes_of(examples.answered, settings)
    labels = classes.transform(examples.answered) if classes else None
    return [
        _prepare_sequences(examples.take(training), examples.take(rest), settings, classes)
        for training, rest in folds(len(examples), count, split_rng(settings), labels)
    ]


def _prepare_sequences(
    training: Sequences,
    validation: Sequences | None,
    settings: ResolvedSpec,
    classes: ClassEncoder | None,
) -> Prepared:
    features = FeatureEncoder.fit(training.touched, settings.features, settings.columns)
    target = classes or TargetScaler.fit(
        training.answered,
        settings.targets,
        scales=not isinstance(settings.loss, spec.Poisson),
        horizon=settings.horizon,
        bases=training.bases,
        quantiles=settings.quantiles,
    )
    encode = Encode(settings, features, target)
    x, held_out, notes = encode.steps(training), None, training.notes
    if validation is not None and validation.table is training.table:
        held_out = encode.sequences(validation, x, None)
    elif validation is not None:
        held_out = encode.sequences(validation, encode.steps(validation), None)
        notes += tuple(f"of the dataset to validate on: {note}" for note in validation.notes)
    weights = encode.row_weights(training.answered)
    measure = measure_of(target, validation.bases if validation is not None else None)
    data = TrainingData(encode.sequences(training, x, weights), held_out, measure)
    architecture = architecture_for(settings, features, target)
    return Prepared(data, features, target, architecture, notes)


def architecture_for(
    settings: ResolvedSpec, features: FeatureEncoder, target: ClassEncoder | TargetScaler
) -> Architecture:
    """Return what the network is for these columns."""
    inputs, sequence = Inputs(features.shape, features.codes), settings.sequence
    if sequence is not None:
        inputs = inputs.repeated(sequence.steps, masked=bool(sequence.mask))
    return architecture_of(settings, inputs, _outputs(settings, target))


def _outputs(settings: ResolvedSpec, target: ClassEncoder | TargetScaler) -> int:
    if isinstance(target, TargetScaler):
        return target.outputs
    return 1 if isinstance(settings.loss, spec.BinaryCrossEntropy) else len(target.classes)


@dataclass(frozen=True)
class Encode:
    """Tables to examples."""

    settings: ResolvedSpec
    features: FeatureEncoder
    target: ClassEncoder | TargetScaler

    def __call__(self, table: Table, weights: Vector | None) -> Examples:
        """Return rows of the dataset."""
        x = self.features.transform(table, np.dtype(self.settings.precision))
        return self.examples(x, table, weights)

    def steps(self, examples: Sequences) -> Matrix:
        """Return the rows that sequences are made from."""
        steps = examples.windows.steps
        return self.features.transform_steps(examples.table, self.settings.precision, steps)

    def sequences(self, examples: Sequences, x: Matrix, weights: Vector | None) -> Examples:
        """Return sequences of the steps ``x``."""
        return self.examples(x, examples.answered, weights, examples.windows, examples.bases)

    def examples(
        self,
        x: Matrix,
        targets: Table,
        weights: Vector | None,
        windows: Windows | None = None,
        bases: Matrix | None = None,
    ) -> Examples:
        """Return rows that are encoded, with the targets of a table, or sequences of such rows."""
        target, outputs = self.target, _outputs(self.settings, self.target)
        if isinstance(target, TargetScaler):
            y = target.transform(targets, x.dtype, bases)
            return Examples(x, y, outputs, weights=weights, windows=windows)
        smoothing = getattr(self.settings.loss, "label_smoothing", 0.0)
        return Examples(x, target.transform(targets), outputs, smoothing, weights, windows)

    def sample_weights(self, table: Table) -> Vector | None:
        """Return how much each row counts as its column says, mean 1, or None without one."""
        if self.settings.sample_weight is None:
            return None
        return self._normalized(_weights(table, self.settings.sample_weight))

    def row_weights(self, table: Table) -> Vector | None:
        """Return how much each row counts in training, mean 1, or None where all count alike."""
        by_class, weights = self.settings.class_weights, self.sample_weights(table)
        if by_class is None or not isinstance(self.target, ClassEncoder):
            return weights
        labels = self.target.transform(table)
        of_class = self._class_weights(by_class, labels)[labels]
        return self._normalized(of_class if weights is None else of_class * weights)

    def _normalized(self, weights: Vector) -> Vector:
        mean = weights.mean()
        if not mean > 0:
            raise DataError("every row that is trained on has the weight 0")
        return np.asarray(weights / mean, dtype=self.settings.precision)

    def _class_weights(self, by_class: spec.ClassWeights, labels: Labels) -> Vector:
        classes = self.target.classes if isinstance(self.target, ClassEncoder) else ()
        if by_class == "balanced":
            return len(labels) / np.maximum(np.bincount(labels, minlength=len(classes)), 1)
        return np.array([by_class.get(str(name), 1.0) for name in classes])


def measure_of(
    target: ClassEncoder | TargetScaler, bases: Matrix | None = None
) -> Callable[[Matrix, Any], dict[str, float]]:
    """Return what tells how good predictions are, in the targets' own units."""
    if isinstance(target, ClassEncoder):
        return classification_metrics

    def measure(y: Matrix, t: Matrix) -> dict[str, float]:
        true = target.invert(t, bases)[:, :: target.copies]
        return number_metrics(target.invert(y, bases), true, target.quantiles)

    return measure


def number_metrics(y: Matrix, t: Matrix, levels: tuple[float, ...]) -> dict[str, float]:
    """Measure numbers, or quantiles of them side by side, against the true numbers ``t``."""
    metrics = regression_metrics(quantiles.values(y, levels), t)
    return metrics | quantile_metrics(quantiles.apart(y, levels), t, levels) if levels else metrics


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
        dtype, bases = self.network.numbers.dtype, None
        if windows is None:
            y = self.network.predict(self.features.transform(table, dtype))
        else:
            x = self.features.transform_steps(table, dtype, windows.steps)
            y = self._predict_windows(x, windows)
            if self.sequence is not None and self.sequence.relative:
                bases = last_values(table, windows, self.settings.targets)
        return self._answer(y, bases)

    def _predict_windows(self, x: Matrix, windows: Windows) -> Matrix:
        """Predict windows of the steps ``x``, laid out some at a time."""
        parts = []
        columns = windows.units(x.shape[1]) + 1
        block = max(1, LAID_OUT_BYTES // (x.itemsize * columns))
        for first in range(0, len(windows), block):
            some = windows.take(np.arange(first, min(first + block, len(windows))))
            out = np.empty((len(some), columns), dtype=x.dtype)
            some.gather(x, out)
            parts.append(self.network.predict(out))
        return np.concatenate(parts)

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
            table = _with_targets(table, self.settings)
            return self._measured(self.predict(table), table)
        examples = sequences(table, self.sequence, self.settings.targets)
        return self._measured(self.predict(examples.table, examples.windows), examples.answered)

    def _measured(self, y: Matrix, table: Table) -> Evaluation:
        """Measure predictions against the targets in a table."""
        if not isinstance(self.target, ClassEncoder):
            metrics = number_metrics(y, self.target.raw(table), self.quantiles)
            return Evaluation(len(y), metrics, None)
        labels = self.target.transform(table)
        few = len(self.target.classes) <= CONFUSION_CLASSES
        counts = confusion(y, labels) if few else None
        return Evaluation(len(y), classification_metrics(y, labels), counts)
