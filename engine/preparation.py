"""Preparation: a table and a resolved spec become what `engine.training.train` wants."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine import spec
from engine.arrays import Labels, Matrix, Vector
from engine.baselines import naive_metrics
from engine.data.batches import Examples
from engine.data.encoding import check_present
from engine.data.preprocessing import FeatureEncoder
from engine.data.sequences import Sequences, sequences, split_sequences
from engine.data.splits import folds, split
from engine.data.table import Table
from engine.data.targets import ClassEncoder, TargetScaler
from engine.data.windows import Windows
from engine.errors import DataError, SchemaError
from engine.model import architecture_for, have_targets, measure_of, outputs_for, taken
from engine.network import Architecture
from engine.spec import ResolvedSpec
from engine.training import TrainingData

BESIDE = "of the dataset to validate on"
"""How a message begins that is not about the dataset to train on."""

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
    held_out : Sequences or None
        Of a recursive forecast, what validates it over its horizon.
    baselines : dict of str to float
        What forecasts without a network get on the sequences that validate.
    """

    data: TrainingData
    features: FeatureEncoder
    target: ClassEncoder | TargetScaler
    architecture: Architecture
    notes: tuple[str, ...] = ()
    held_out: Sequences | None = None
    baselines: dict[str, float] = field(default_factory=dict)


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
        validation = taken(validation, have_targets(validation, settings))
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
        held_out = _beside(validation, sequence, settings)
    elif isinstance(asked, spec.ValidationPart):
        labels = classes.transform(examples.answered) if classes else None
        examples, held_out = split_sequences(
            examples, sequence, asked.fraction, split_rng(settings), labels
        )
    return _prepare_sequences(examples, held_out, settings, sequence, classes)


def _beside(validation: Table, sequence: spec.SequenceSpec, settings: ResolvedSpec) -> Sequences:
    """Return the sequences of another dataset; a refusal says that it is this one's rows."""
    try:
        return sequences(validation, sequence, settings.targets)
    except DataError as error:
        raise DataError(f"{BESIDE}: {error}") from error


def _prepare_series_folds(
    table: Table, settings: ResolvedSpec, sequence: spec.SequenceSpec, count: int
) -> list[Prepared]:
    """Prepare for every fold of whole series on its own."""
    examples = sequences(table, sequence, settings.targets)
    classes = classes_of(examples.answered, settings)
    labels = classes.transform(examples.answered) if classes else None
    return [
        _prepare_sequences(
            examples.take(training), examples.take(rest), settings, sequence, classes
        )
        for training, rest in folds(len(examples), count, split_rng(settings), labels)
    ]


def _prepare_sequences(
    training: Sequences,
    validation: Sequences | None,
    settings: ResolvedSpec,
    sequence: spec.SequenceSpec,
    classes: ClassEncoder | None,
) -> Prepared:
    baselines, held_out = {}, None
    if validation is not None and sequence.window is not None:
        baselines = naive_metrics(validation, settings.task)
    if sequence.recurs:
        training, held_out = training.next_step, validation
        validation = None if held_out is None else held_out.next_step
    features = FeatureEncoder.fit(training.touched, settings.features, settings.columns)
    target = classes or TargetScaler.fit(
        training.answered,
        settings.targets,
        scales=not isinstance(settings.loss, spec.Poisson),
        horizon=sequence.steps_ahead,
        bases=training.bases,
        quantiles=settings.quantiles,
    )
    encode = Encode(settings, features, target)
    x, measured, notes = encode.steps(training), None, training.notes
    if validation is not None and validation.table is training.table:
        measured = encode.sequences(validation, x, None)
    elif validation is not None:
        measured = encode.sequences(validation, encode.steps(validation), None)
        notes += tuple(f"{BESIDE}: {note}" for note in validation.notes)
    weights = encode.row_weights(training.answered)
    measure = measure_of(target, validation.bases if validation is not None else None)
    data = TrainingData(encode.sequences(training, x, weights), measured, measure)
    architecture = architecture_for(settings, features, target)
    return Prepared(data, features, target, architecture, notes, held_out, baselines)


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
        target, outputs = self.target, outputs_for(self.settings, self.target)
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
