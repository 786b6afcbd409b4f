"""Model: fitted preprocessing and a trained network, which together predict.

`prepare` turns a table and a resolved spec into what `engine.training.train`
wants; `Model` puts what was fitted on the way around the trained network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.arrays import Labels, Matrix
from engine.data.preprocessing import ClassEncoder, FeatureEncoder, TargetScaler
from engine.data.splits import split
from engine.data.table import InputColumn, Table
from engine.metrics import classification_metrics, regression_metrics
from engine.network import Network
from engine.spec import ResolvedSpec
from engine.training import Examples, TrainingData

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
    """

    data: TrainingData
    features: FeatureEncoder
    target: ClassEncoder | TargetScaler

    @property
    def inputs(self) -> int:
        """How many numbers the network sees of a row."""
        return self.features.width

    @property
    def outputs(self) -> int:
        """How many numbers the network answers."""
        return len(_outputs(self.target))


def prepare(table: Table, spec: ResolvedSpec) -> Prepared:
    """Split the rows, fit the preprocessing on the training part, and apply it.

    Parameters
    ----------
    table : Table
        The dataset's columns named in ``spec``.
    spec : ResolvedSpec
    """
    dtype = np.dtype(spec.precision)
    classes = ClassEncoder.fit(table, spec.targets[0]) if spec.task == "classification" else None
    labels = classes.transform(table) if classes else None
    rng = np.random.default_rng([spec.seed, SPLIT_STREAM])
    training_rows, validation_rows = split(table.rows, spec.validation.fraction, rng, labels)
    training = table.take(training_rows)
    features = FeatureEncoder.fit(training, spec.features)
    target = classes or TargetScaler.fit(training, spec.targets)

    def examples(part: Table) -> Examples:
        return Examples(features.transform(part, dtype), _encode(target, part, dtype))

    validation = examples(table.take(validation_rows)) if len(validation_rows) else None
    data = TrainingData(examples(training), validation, _measure(target))
    return Prepared(data, features, target)


def _measure(target: ClassEncoder | TargetScaler) -> Callable[[Matrix, Any], dict[str, float]]:
    """Return what tells how good predictions are, in the targets' own units."""
    if isinstance(target, ClassEncoder):
        return classification_metrics
    return lambda y, t: regression_metrics(target.invert(y), target.invert(t))


def _encode(
    target: ClassEncoder | TargetScaler, table: Table, dtype: np.dtype[Any]
) -> Matrix | Labels:
    if isinstance(target, ClassEncoder):
        return target.transform(table)
    return target.transform(table, dtype)


def _outputs(target: ClassEncoder | TargetScaler) -> Sequence[Any]:
    return target.classes if isinstance(target, ClassEncoder) else target.targets


@dataclass(frozen=True)
class Model:
    """What predicts: fitted preprocessing and a trained network.

    Parameters
    ----------
    spec : ResolvedSpec
        What the network was trained by.
    features : FeatureEncoder
    target : ClassEncoder or TargetScaler
    network : Network
    """

    spec: ResolvedSpec
    features: FeatureEncoder
    target: ClassEncoder | TargetScaler
    network: Network

    @property
    def inputs(self) -> tuple[InputColumn, ...]:
        """The columns that a prediction needs, in order."""
        return self.features.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns that are predicted."""
        return tuple(self.spec.targets)

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The classes in the order of the probabilities; None for regression."""
        return self.target.classes if isinstance(self.target, ClassEncoder) else None

    def predict(self, table: Table) -> Matrix:
        """Predict every row.

        Returns
        -------
        Matrix of shape (rows, classes) or (rows, targets)
            Probabilities, or values in the targets' own units.

        Raises
        ------
        SchemaError
            A column is absent, of another type, or holds what cannot be predicted from.
        """
        y = self.network.predict(self.features.transform(table, self.network.parameters.dtype))
        return y if isinstance(self.target, ClassEncoder) else self.target.invert(y)

    def evaluate(self, table: Table) -> dict[str, float]:
        """Predict every row and measure against the target column(s) of the table."""
        y = self.predict(table)
        if isinstance(self.target, ClassEncoder):
            return classification_metrics(y, self.target.transform(table))
        return regression_metrics(y, self.target.raw(table))
