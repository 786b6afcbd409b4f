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
from engine.data.batches import Examples
from engine.data.encoding import check_present
from engine.data.preprocessing import FeatureEncoder
from engine.data.scaling import Numbers
from engine.data.splits import folds, split
from engine.data.table import InputColumn, Table
from engine.data.targets import ClassEncoder, TargetScaler, has_targets
from engine.errors import DataError, SchemaError
from engine.metrics import classification_metrics, confusion, regression_metrics
from engine.network import Architecture, Inputs, Network
from engine.spec import ResolvedSpec
from engine.training import TrainingData, architecture_of

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
    """

    data: TrainingData
    features: FeatureEncoder
    target: ClassEncoder | TargetScaler
    architecture: Architecture


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
    table = _counted(table, settings)
    classes, asked = _classes(table, settings), settings.validation
    if validation is not None:
        validation = _with_targets(validation, settings)
    if not isinstance(asked, spec.ValidationPart):
        return _prepare(table, validation, settings, classes)
    labels = classes.transform(table) if classes else None
    training, rest = split(table.rows, asked.fraction, _split_rng(settings), labels)
    held_out = table.take(rest) if len(rest) else None
    return _prepare(table.take(training), held_out, settings, classes)


def prepare_folds(table: Table, settings: ResolvedSpec, count: int) -> list[Prepared]:
    """Prepare for every fold on its own: the others to train on, itself to validate on."""
    table = _counted(table, settings)
    classes = _classes(table, settings)
    labels = classes.transform(table) if classes else None
    return [
        _prepare(table.take(training), table.take(validation), settings, classes)
        for training, validation in folds(table.rows, count, _split_rng(settings), labels)
    ]


def _counted(table: Table, settings: ResolvedSpec) -> Table:
    """Return the rows that count at all, of those that have a target."""
    table = _with_targets(table, settings)
    if settings.sample_weight is None:
        return table
    rows = np.flatnonzero(_weights(table, settings.sample_weight))
    if not len(rows):
        raise SchemaError(settings.sample_weight, "a number above 0 in some row", "none")
    return table.take(rows)


def _with_targets(table: Table, settings: ResolvedSpec) -> Table:
    """Return the rows that have a value in every target; without one nothing is learnt."""
    found = has_targets(table, settings.targets)
    if found.all():
        return table
    if not found.any():
        raise SchemaError(settings.targets[0], "a target in some row", "none")
    return table.take(np.flatnonzero(found))


def _weights(table: Table, name: str) -> Vector:
    column = table.column(name)
    check_present(column)
    return column.values


def _classes(table: Table, settings: ResolvedSpec) -> ClassEncoder | None:
    if settings.task == "regression":
        return None
    return ClassEncoder.fit(table, settings.targets[0])


def _split_rng(settings: ResolvedSpec) -> np.random.Generator:
    return np.random.default_rng([settings.seed, SPLIT_STREAM])


def _prepare(
    training: Table,
    validation: Table | None,
    settings: ResolvedSpec,
    classes: ClassEncoder | None,
) -> Prepared:
    features = FeatureEncoder.fit(training, settings.features, settings.columns)
    scales = not isinstance(settings.loss, spec.Poisson)
    target = classes or TargetScaler.fit(training, settings.targets, scales=scales)
    encode = _Encode(settings, features, target)
    data = TrainingData(
        encode(training, encode.row_weights(training)),
        encode(validation, encode.sample_weights(validation)) if validation is not None else None,
        _measure(target),
    )
    return Prepared(data, features, target, architecture_for(settings, features, target))


def architecture_for(
    settings: ResolvedSpec, features: FeatureEncoder, target: ClassEncoder | TargetScaler
) -> Architecture:
    """Return what the network is for these columns."""
    inputs = Inputs(features.shape, features.codes)
    return architecture_of(settings, inputs, _outputs(settings, target))


def _outputs(settings: ResolvedSpec, target: ClassEncoder | TargetScaler) -> int:
    if isinstance(target, TargetScaler):
        return len(target.targets)
    return 1 if isinstance(settings.loss, spec.BinaryCrossEntropy) else len(target.classes)


@dataclass(frozen=True)
class _Encode:
    """Tables to examples."""

    settings: ResolvedSpec
    features: FeatureEncoder
    target: ClassEncoder | TargetScaler

    def __call__(self, table: Table, weights: Vector | None) -> Examples:
        dtype = np.dtype(self.settings.precision)
        x, target = self.features.transform(table, dtype), self.target
        outputs = _outputs(self.settings, target)
        if isinstance(target, TargetScaler):
            return Examples(x, target.transform(table, dtype), outputs, weights=weights)
        smoothing = getattr(self.settings.loss, "label_smoothing", 0.0)
        return Examples(x, target.transform(table), outputs, smoothing, weights)

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


def _measure(target: ClassEncoder | TargetScaler) -> Callable[[Matrix, Any], dict[str, float]]:
    """Return what tells how good predictions are, in the targets' own units."""
    if isinstance(target, ClassEncoder):
        return classification_metrics
    return lambda y, t: regression_metrics(target.invert(y), target.invert(t))


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
        return tuple(name for name, choice in columns.items() if choice.encode == "drop")

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

    def output(self, name: Any) -> int:
        """Return the position of a class, or of a target; raises `SchemaError` where it is none."""
        return ClassEncoder("output", self.classes or self.outputs).label(name)

    def predict(self, table: Table) -> Matrix:
        """Predict every row, to the same bits whichever rows it stands among.

        `Network.predict` says what that rests on.

        Returns
        -------
        Matrix of shape (rows, classes) or (rows, targets)
            Probabilities, or values in the targets' own units.

        Raises
        ------
        SchemaError
            A column is absent, of another type, or holds what cannot be predicted from.
        """
        x = self.features.transform(table, self.network.numbers.dtype)
        return self._answer(self.network.predict(x))

    @property
    def takes_numbers(self) -> bool:
        """Whether `predict_numbers` can be asked: every input is a number or a truth value."""
        return self.features.takes_numbers

    @property
    def number_names(self) -> tuple[str, ...] | None:
        """The inputs in order, where all of them take nothing but numbers; truth values do not."""
        return self.features.number_names

    def predict_numbers(self, values: Numbers) -> Matrix | None:
        """Predict rows of numbers, as `predict` does, to the bit; None where it would refuse them.

        Parameters
        ----------
        values : Numbers of shape (rows, inputs)
            In the order of `inputs`, NaN where missing.
        """
        x = self.features.transform_numbers(values, self.network.numbers.dtype)
        return None if x is None else self._answer(self.network.predict(x))

    def _answer(self, y: Matrix) -> Matrix:
        return y if isinstance(self.target, ClassEncoder) else self.target.invert(y)

    def evaluate(self, table: Table) -> Evaluation:
        """Predict every row and measure against the target column(s) of the table.

        Raises
        ------
        SchemaError
            As `predict`; or a row's class was not there when training.
        """
        table = _with_targets(table, self.settings)
        y = self.predict(table)
        if not isinstance(self.target, ClassEncoder):
            metrics = regression_metrics(y, self.target.raw(table))
            return Evaluation(table.rows, metrics, None)
        labels = self.target.transform(table)
        few = len(self.target.classes) <= CONFUSION_CLASSES
        counts = confusion(y, labels) if few else None
        return Evaluation(table.rows, classification_metrics(y, labels), counts)
