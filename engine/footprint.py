"""Footprint: how much memory a training takes at its peak, and how much arithmetic, told before.

What a step takes in memory is asked of the layers themselves: they are bound as for a
training, to a workspace that counts and hands out no memory. The rest is the
sum of what is held at once, moment by moment: the table, the rows as the
network sees them, the vectors as long as the parameters, and what is worked
out on the way. It is an upper bound, with little to spare.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from engine import spec
from engine.arrays import ALIGNMENT_BYTES, Shape
from engine.data.batches import BLOCK_BYTES
from engine.data.choices import most_inputs
from engine.data.disk import WINDOW_BYTES, WINDOW_ROWS
from engine.data.profiling import ColumnProfile
from engine.data.sequence_choices import most_examples
from engine.errors import SpecError
from engine.losses import bind_loss
from engine.network import Architecture
from engine.optimizers import remembered, shrinks
from engine.outofcore import PIECE_BYTES, SAMPLE_BYTES, SAMPLE_ROWS
from engine.resolution import inputs_of, outputs_of
from engine.spec import ColumnSpec, ResolvedSpec, ValidationFolds, ValidationPart
from engine.stack import stacks
from engine.training import ROWS_AT_ONCE, architecture_of, batch_rows
from engine.wires import Wire, Workspace

OVERHEAD_BYTES = 32 * 2**20
"""What every training takes beside its numbers: stacks of threads, objects, writing to a database,
and what the allocator holds back."""

CELL_BYTES = 8
"""Of a number in a column, and at most of one in a tensor."""

CODE_BYTES = 4
"""Of a category in a column."""

LABELLING_BYTES = 96
"""Of a row while classes become labels, and rows are drawn: lists of objects, and vectors."""

NAMING_BYTES = 400
"""Of a level while numbers or texts become the names of levels, and these become codes."""

NAMING_CELLS = 4
"""How many times the column is there meanwhile."""

FITTING_CELLS = 3
"""How many times the column, or the targets, that is being fitted is there meanwhile."""

MEASURING_BYTES = 120
"""Of a row while its prediction is measured, beside the predictions."""

MEASURING_CELLS = 6
"""How many times predicted numbers are there, as float64, while they are measured."""

DIVIDED_ROW_BYTES, SAMPLED_ROW_BYTES = 40, 17
"""Of a row on disk while it is drawn what each row is for, and while some are sampled."""

FREE_WIRES, FREE_LOGITS = 2, 4
"""How many arrays of the widest layer's size, and of the outputs', a step makes and throws away."""

SORTING_CELLS = 6
"""How many numbers of a row are there while rows are sorted into series and windows are cut."""

ORTHOGONAL_BYTES = 48
"""Of a weight while orthogonal ones are drawn, in float64."""

LARGEST_BATCH = 4096
"""Layers are bound to no more: beyond it what they take grows evenly."""

ENDLESS_BYTES = 2**50
"""No more is counted: no machine has it."""

ADVICE = {
    "/dataset": "use fewer rows or features",
    "/network": "use fewer or smaller layers",
    "/optimizer": "use an optimizer that remembers less, or a smaller network",
    "/training/batch_size": "use smaller batches, smaller layers or fewer rows",
    "/validation/folds": "use fewer folds, or a `fraction`",
}
"""What would do, by the place in the spec that asks for the most."""

Parts = Counter[str]
"""Bytes by the place in the spec that asks for them."""


@dataclass(frozen=True)
class Footprint:
    """What a training takes at its peak.

    Parameters
    ----------
    parts : Parts
        Without `OVERHEAD_BYTES`.
    """

    parts: Parts

    @property
    def bytes(self) -> int:
        """All of it."""
        return OVERHEAD_BYTES + self.parts.total()

    @property
    def place(self) -> str:
        """Where in the spec the largest part is asked for."""
        return max(self.parts, key=self.parts.__getitem__)


def footprint(
    settings: ResolvedSpec,
    columns: Sequence[ColumnProfile],
    rows: int,
    validation_rows: int = 0,
) -> Footprint:
    """Estimate the peak memory of a training, beyond what the process has before it.

    Parameters
    ----------
    settings : ResolvedSpec
    columns : sequence of ColumnProfile
        Of the dataset.
    rows : int
        Of the dataset.
    validation_rows : int
        Of the dataset to validate on, where the spec names one.
    """
    kind = _FromDisk if settings.training.rows == "disk" else _Training
    moments = kind(settings, columns, rows, validation_rows).moments()
    return max(map(Footprint, moments), key=lambda moment: moment.bytes)


def check_memory(
    settings: ResolvedSpec,
    columns: Sequence[ColumnProfile],
    rows: int,
    limit_bytes: int,
    validation_rows: int = 0,
) -> None:
    """Refuse a training that would take more memory than ``limit_bytes``.

    Raises
    ------
    SpecError
        The path is that of the largest part.
    """
    found = footprint(settings, columns, rows, validation_rows)
    if found.bytes > limit_bytes:
        place = found.place
        needed = f"about {found.bytes:,} bytes of memory, {found.parts[place]:,} of them here"
        advice = ADVICE[place]
        if place == "/dataset" and _could_be_on_disk(settings):
            advice += ', or leave them on disk: {"training": {"rows": "disk"}}'
        raise SpecError(place, f"{needed}; the limit is {limit_bytes:,}; {advice}")


def place_rows(
    settings: ResolvedSpec,
    columns: Sequence[ColumnProfile],
    rows: int,
    limit_bytes: int,
    validation_rows: int = 0,
) -> ResolvedSpec:
    """Return ``settings`` that say where the rows are: in memory if they find room, else on disk.

    Raises
    ------
    SpecError
        The training would take more memory than ``limit_bytes`` either way, or where it has to be.
    """
    placed = _placed(settings, settings.training.rows or "memory")
    if settings.training.rows is None and _could_be_on_disk(settings):
        needed = footprint(placed, columns, rows, validation_rows).bytes
        placed = _placed(settings, "memory" if needed <= limit_bytes else "disk")
    check_memory(placed, columns, rows, limit_bytes, validation_rows)
    return placed


def _placed(settings: ResolvedSpec, place: spec.RowPlace) -> ResolvedSpec:
    run = settings.training.model_copy(update={"rows": place})
    return settings.model_copy(update={"training": run})


def _could_be_on_disk(settings: ResolvedSpec) -> bool:
    """Whether the rows are in memory and need not be."""
    folds = isinstance(settings.validation, ValidationFolds)
    return settings.training.rows != "disk" and not folds and settings.sequence is None


def multiply_adds(
    settings: ResolvedSpec,
    columns: Sequence[ColumnProfile],
    rows: int,
    validation_rows: int = 0,
) -> int:
    """Count the multiply-adds of all layers in a training that no rule ends early.

    Of each row that is trained on, forward and back; of each that is measured on, forward; once an
    epoch, and for every network of a cross-validation; and of a recursive forecast once more for
    each step. What the optimizer does by itself, such as the line search of L-BFGS, is not counted.

    Parameters are those of `footprint`.
    """
    training = _Training(settings, columns, rows, validation_rows)
    return training.multiply_adds * settings.training.epochs + training.recursion_multiply_adds


def check_multiply_adds(count: int, limit: int) -> None:
    """Refuse a training that would take more arithmetic than ``limit``.

    Raises
    ------
    SpecError
        The path is that of the epochs.
    """
    if count > limit:
        advice = "use fewer epochs, a smaller network or fewer rows"
        reason = f"{count:,} multiply-adds in all; the limit is {limit:,}; {advice}"
        raise SpecError("/training/epochs", reason)


@dataclass(frozen=True)
class _Training:
    """A training, moment by moment."""

    settings: ResolvedSpec
    columns: Sequence[ColumnProfile]
    rows: int
    validation_rows: int

    def moments(self) -> Iterator[Parts]:
        """Yield what is held at each moment that can be the one of the peak."""
        saved = self._of_all(self._kept())
        table = self._table()
        data = self._of_all(Parts({"/dataset": self._data_bytes}))
        states = self._of_all(self._state())
        yield table + saved + saved  # read in pieces, and put together
        yield table + saved + self._fitting()
        yield table + saved + data + self._encoding()
        yield table + saved + data + states + self._drawing()
        training = data + states + self._of_all(self._loop()) + self._stacked()
        yield training + saved
        yield training + self._of_all(self._step())
        yield training + self._of_all(Parts({"/dataset": self._measuring_bytes}))
        yield training + self._model()

    @property
    def multiply_adds(self) -> int:
        """Of an epoch; of each row, all folds but one are trained on, and then all together."""
        forward, there_and_back = (
            self._architecture.multiply_adds(learns=learns) for learns in (False, True)
        )
        if self._folds:
            return self._examples * (self._folds * there_and_back + forward)
        return self._training_rows * there_and_back + self._measured_rows * forward

    @property
    def recursion_multiply_adds(self) -> int:
        """Of a recursive forecast of all that is measured on, at the end."""
        sequence = self.settings.sequence
        if sequence is None or not sequence.recurs:
            return 0
        forward = self._architecture.multiply_adds(learns=False)
        return self._measured_rows * forward * self.settings.horizon

    def _of_all(self, parts: Parts) -> Parts:
        """Return what is there for one network, for all: that of the folds is asked for by them."""
        return parts + Parts({"/validation/folds": self._folds * parts.total()})

    @cached_property
    def _folds(self) -> int:
        validation = self.settings.validation
        return validation.folds if isinstance(validation, ValidationFolds) else 0

    @cached_property
    def _profile(self) -> dict[str, ColumnProfile]:
        return {column.name: column for column in self.columns}

    def _choice(self, column: ColumnProfile) -> ColumnSpec:
        return self.settings.columns[column.name]

    @cached_property
    def _itemsize(self) -> int:
        return np.dtype(self.settings.precision).itemsize

    @cached_property
    def _classifies(self) -> bool:
        return self.settings.task == "classification"

    @cached_property
    def _architecture(self) -> Architecture:
        s = self.settings
        features = [self._profile[name] for name in s.features]
        targets = [self._profile[name] for name in s.targets]
        outputs = outputs_of(s.task, s.loss, targets, s.sequence)
        return architecture_of(s, inputs_of(features, s.columns, s.sequence), outputs)

    @cached_property
    def _parameters(self) -> int:
        return self._architecture.parameter_count()

    @cached_property
    def _numbers(self) -> int:
        return self._parameters + self._architecture.statistic_count()

    @cached_property
    def _examples(self) -> int:
        """How many examples the dataset has, at most: its rows, or sequences of them."""
        sequence = self.settings.sequence
        return self.rows if sequence is None else most_examples(sequence, self._profile, self.rows)

    @cached_property
    def _measured_rows(self) -> int:
        """How many examples are measured on."""
        validation, examples = self.settings.validation, self._examples
        if self._folds:
            return -(-examples // self._folds)
        if not isinstance(validation, ValidationPart):
            return self.validation_rows
        if validation.fraction == 0:
            return 0
        classes = self._classes if self._classifies else 1
        return min(max(round(examples * validation.fraction), 1), max(examples - classes, 0))

    @cached_property
    def _training_rows(self) -> int:
        """How many examples are trained on, at most."""
        is_part = isinstance(self.settings.validation, ValidationPart)
        return self._examples - self._measured_rows if is_part else self._examples

    @cached_property
    def _classes(self) -> int:
        return self._profile[self.settings.targets[0]].distinct or 1

    def _table(self) -> Parts:
        """Return what is read; tensors stay in the file, which is mapped."""
        named = [self._profile[name] for name in self.settings.column_names]
        row = sum(_cell_bytes(column) for column in named if not column.shape)
        return Parts({"/dataset": row * self._all_rows})

    def _copies(self) -> Parts:
        """Return what rows that count, or have a target, and both sides of a split take again."""
        s = self.settings
        copies = (s.sample_weight is not None) + (self._folds > 0)
        copies += any(self._profile[name].missing for name in s.targets)
        copies += isinstance(s.validation, ValidationPart) and s.validation.fraction > 0
        if s.sequence is not None:
            copies = 2  # sorted, and of these what is trained on
        row = sum(_cell_bytes(self._profile[name]) for name in s.column_names)
        return Parts({"/dataset": copies * row * self._all_rows})

    @cached_property
    def _all_rows(self) -> int:
        return self.rows + self.validation_rows

    @cached_property
    def _data_bytes(self) -> int:
        """Of the rows as a network sees them."""
        if (sequence := self.settings.sequence) is not None:
            return self._steps_bytes(sequence)
        return (self._x_bytes + self._y_bytes) * self._all_rows

    @property
    def _x_bytes(self) -> int:
        """Of the features of a row as a network sees them."""
        return self._itemsize * (self._architecture.inputs.units + 1)

    @property
    def _y_bytes(self) -> int:
        """Of the targets of a row, and of how much it counts."""
        s = self.settings
        row = CELL_BYTES if self._classifies else self._itemsize * self._architecture.outputs
        if s.sample_weight is not None or s.class_weights is not None:
            row += self._itemsize
        return row

    def _steps_bytes(self, sequence: spec.SequenceSpec) -> int:
        """Of the steps of all series, and of the examples that point to them."""
        s, inputs = self.settings, self._architecture.inputs.units
        width = inputs // sequence.steps - bool(sequence.mask)
        row = self._itemsize * width + SORTING_CELLS * CELL_BYTES
        outputs = 1 if self._classifies else max(self._architecture.outputs, s.horizon)
        example = 2 * (1 + outputs) * CELL_BYTES + outputs * self._itemsize
        if s.class_weights is not None:
            example += self._itemsize
        examples = self._examples + self.validation_rows
        return row * (self._all_rows + 2 * sequence.steps) + example * examples

    @cached_property
    def _gathered_bytes(self) -> int:
        """Of sequences that are laid out to be measured on."""
        if self.settings.sequence is None:
            return 0
        row = self._itemsize * (self._architecture.inputs.units + 1)
        return row * min(self._measured_rows, ROWS_AT_ONCE) + BLOCK_BYTES

    def _fitting(self) -> Parts:
        """Return what is there while a column is fitted: for a fold, the rows of all before it."""
        features = [self._profile[name] for name in self.settings.features]
        widest = max(_fitting_bytes(c, self._choice(c), self.rows) for c in features)
        parts = Parts({"/dataset": widest})
        if self._folds:
            parts += self._of_all(Parts({"/dataset": self._data_bytes}))
        return parts + self._copies()

    def _encoding(self) -> Parts:
        """Return what is there while rows become those that the network sees, beside these."""
        s = self.settings
        features = [self._profile[name] for name in s.features]
        rows = self._all_rows
        read = max(_reading_bytes(c, self._choice(c), rows) for c in features)
        outputs = 0 if self._classifies else self._architecture.outputs
        targets = FITTING_CELLS * CELL_BYTES * outputs
        on_the_way = max(read, targets * rows, LABELLING_BYTES * rows)
        return Parts({"/dataset": on_the_way}) + self._copies()

    def _state(self) -> Parts:
        """Return what one network and its optimizer keep."""
        parts = self._kept()
        parts["/network"] += self._itemsize * self._parameters * (1 + shrinks(self._optimizer))
        return parts

    def _kept(self) -> Parts:
        """Return what is saved of one network and its optimizer."""
        copies = 3 if self.settings.training.average_decay is not None else 2
        slots = remembered(self._optimizer)
        return Parts(
            {
                "/network": self._itemsize * self._numbers * copies,
                "/optimizer": self._itemsize * self._parameters * slots,
            }
        )

    @property
    def _optimizer(self) -> spec.Optimizer:
        return self.settings.optimizer

    def _drawing(self) -> Parts:
        """Return what is made while the first weights of one layer are drawn."""
        each = FITTING_CELLS * self._itemsize
        if any(_is_orthogonal(layer) for layer in _each(self.settings.network.layers)):
            each = ORTHOGONAL_BYTES
        return Parts({"/network": each * self._parameters})

    def _loop(self) -> Parts:
        """Return what the loop over one network keeps from step to step."""
        rows, batch = self._training_rows, batch_rows(self.settings, self._training_rows)
        measured = self._measured_rows
        passes = self._pass_bytes(batch) + self._pass_bytes(rows % batch)
        measuring = self._pass_bytes(min(measured, ROWS_AT_ONCE), learns=False)
        measuring += self._pass_bytes(measured % ROWS_AT_ONCE, learns=False)
        return Parts(
            {
                "/training/batch_size": passes + self._batches_bytes,
                "/network": measuring,
                "/dataset": self._order_bytes + self._gathered_bytes,
            }
        )

    @property
    def _order_bytes(self) -> int:
        """Of the order of an epoch."""
        return CELL_BYTES * self._training_rows

    @cached_property
    def _batches_bytes(self) -> int:
        """Of a block of batches, with its targets and those of the one before."""
        outputs = self._architecture.outputs
        row = self._itemsize * (self._architecture.inputs.units + 1 + outputs)
        batch = batch_rows(self.settings, self._training_rows)
        block = min(max(batch, BLOCK_BYTES // row), self._training_rows)
        if self.settings.sequence is not None and batch == self._training_rows:
            block *= 2  # the one batch is laid out beside the block
        return block * (row + CELL_BYTES + 2 * outputs * (self._itemsize + 1))

    def _pass_bytes(self, batch: int, *, learns: bool = True) -> int:
        """Return what the network and its loss take when bound to so many rows."""
        if batch <= LARGEST_BATCH:
            return self._count(batch, learns=learns).bytes if batch else 0
        some, twice = (self._count(n * LARGEST_BATCH, learns=learns).bytes for n in (1, 2))
        return some + max(twice - some, 0) * (batch - LARGEST_BATCH) // LARGEST_BATCH

    def _count(self, batch: int, *, learns: bool) -> _Count:
        rng = np.random.default_rng(0) if learns else None
        shares = learns and not self.settings.training.watch
        count = _Count(self.settings.precision, batch, rng=rng, learns=learns, shares=shares)
        hollow = (_hollow((size,), count.dtype) for size in (self._numbers, self._parameters))
        network = self._architecture.build(count.dtype, *hollow)
        try:
            bound = network.bind(count)
            bind_loss(self.settings.loss, self.settings.task, bound.logits, count)
        except MemoryError:
            return count
        return count

    def _step(self) -> Parts:
        """Return what a step makes and throws away."""
        batch, size = batch_rows(self.settings, self._training_rows), self._itemsize
        some = min(batch, LARGEST_BATCH)
        wires = FREE_WIRES * self._count(some, learns=True).widest * batch
        logits = FREE_LOGITS * size * self._architecture.outputs * batch
        vectors = 0
        if isinstance(self._optimizer, spec.Lbfgs):
            vectors += 7
        if shrinks(self._optimizer) or self.settings.training.average_decay is not None:
            vectors += 3
        return Parts(
            {"/training/batch_size": wires + logits, "/optimizer": vectors * size * self._numbers}
        )

    @cached_property
    def _measuring_bytes(self) -> int:
        """Of the predictions, while they are measured."""
        answers = self._architecture.answers
        row = 3 * self._itemsize * answers + MEASURING_BYTES
        if not self._classifies:
            row += MEASURING_CELLS * CELL_BYTES * answers
        return row * self._measured_rows

    def _model(self) -> Parts:
        """Return what the model takes, and its bytes."""
        return Parts({"/network": 5 * self._itemsize * self._numbers})

    def _stacked(self) -> Parts:
        """Return what the folds' networks take once more when they are trained as a stack."""
        if not stacks(self.settings, self._architecture, self._folds, self._training_rows):
            return Parts()
        each = self._state().total() + self._itemsize * self._parameters + self._batches_bytes
        return Parts({"/validation/folds": self._folds * each})


class _FromDisk(_Training):
    """A training whose rows are on disk, but for targets and weights."""

    def _table(self) -> Parts:
        """Return the columns that are read whole."""
        names = set(self.settings.column_names) - set(self.settings.features)
        row = sum(_cell_bytes(self._profile[name]) for name in names)
        return Parts({"/dataset": row * self._all_rows})

    def _fitting(self) -> Parts:
        """Return what is there while rows are divided, or columns are fitted on some of them."""
        widest = max(map(self._sample_bytes, self.settings.features))
        fitting = SAMPLED_ROW_BYTES * self.rows + SAMPLE_BYTES + widest
        return Parts({"/dataset": max(fitting, DIVIDED_ROW_BYTES * self.rows)}) + self._table()

    def _sample_bytes(self, name: str) -> int:
        """Return what is there while the sample of a column is fitted, beside it."""
        column, choice = self._profile[name], self._choice(self._profile[name])
        rows = min(self.rows, SAMPLE_ROWS)
        if column.shape:
            return min(_fitting_bytes(column, choice, rows), 2 * SAMPLE_BYTES)
        if choice.type == "category":
            return _fitting_bytes(column, choice, rows)
        return FITTING_CELLS * CELL_BYTES * most_inputs(column, choice)[0] * rows

    def _encoding(self) -> Parts:
        """Return what is there while some of the rows are encoded."""
        targets = 0 if self._classifies else FITTING_CELLS * CELL_BYTES * len(self.settings.targets)
        on_the_way = 3 * PIECE_BYTES + targets * self._all_rows
        return Parts({"/dataset": on_the_way}) + self._table()

    @cached_property
    def _data_bytes(self) -> int:
        """Of the targets, and of how much each row counts."""
        return self._y_bytes * self._all_rows

    @property
    def _order_bytes(self) -> int:
        """Of the window of rows that is in memory, and of its order."""
        rows = self._training_rows
        window = max(
            min(WINDOW_BYTES // self._x_bytes, WINDOW_ROWS), batch_rows(self.settings, rows)
        )
        return min(window, rows) * (self._x_bytes + self._y_bytes + 3 * CELL_BYTES)


def _cell_bytes(column: ColumnProfile) -> int:
    """Return what a row takes in a column."""
    if column.type == "category":
        return CODE_BYTES
    if column.type == "text":
        longest = max((len(str(value)) for value, _ in column.top or ()), default=0)
        return CELL_BYTES + 64 + 4 * longest
    return CELL_BYTES * math.prod(column.shape or ())


def _fitting_bytes(column: ColumnProfile, choice: ColumnSpec, rows: int) -> int:
    """Return what is there while a column is fitted; a tensor is worked on in place."""
    if column.shape:
        return (CELL_BYTES + 1) * math.prod(column.shape) * rows
    numbers, _ = most_inputs(column, choice) if choice.type == "timestamp" else (1, 0)
    cells = FITTING_CELLS * CELL_BYTES * numbers * rows
    return max(cells, LABELLING_BYTES * rows, _reading_bytes(column, choice, rows))


def _reading_bytes(column: ColumnProfile, choice: ColumnSpec, rows: int) -> int:
    """Return what is there while a column is read in the terms of its encoding."""
    if choice.type != "category":
        return max(math.prod(column.shape or ()), 2) * rows
    if column.type == "category":
        return 2 * CELL_BYTES * rows
    return NAMING_CELLS * CELL_BYTES * rows + NAMING_BYTES * (column.distinct or 0)


def _each(layers: Sequence[spec.Layer]) -> Iterator[spec.Layer]:
    """Yield every layer, also those within a block."""
    for layer in layers:
        yield layer
        if isinstance(layer, spec.ResidualLayer):
            yield from _each(layer.layers)


def _is_orthogonal(layer: spec.Layer) -> bool:
    given = getattr(layer, "initializer", None) == "orthogonal"
    return given or isinstance(layer, spec.RecurrentLayer)


class _Hollow(np.ndarray[Any, Any]):
    """An array of any shape, all of whose numbers are one.

    Writing to it does nothing, and a walk over it ends after one step, however
    large it would be.
    """

    def __setitem__(self, key: Any, value: Any) -> None:
        """Do nothing."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the first item."""
        return iter([self[0]])


def _hollow(shape: Shape, dtype: np.dtype[Any]) -> NDArray[Any]:
    return as_strided(np.zeros(1, dtype), shape, [0] * len(shape)).view(_Hollow)


class _Count(Workspace):
    """A workspace that counts what it is asked for, and hands out what takes no memory.

    Attributes
    ----------
    bytes : int
        Asked for so far.
    widest : int
        Bytes of an example in the widest wire.
    """

    bytes = 0
    widest = 0

    def _take(self, shape: Shape, dtype: np.dtype[Any]) -> NDArray[Any]:
        self.bytes += math.prod(shape) * dtype.itemsize + ALIGNMENT_BYTES
        if self.bytes > ENDLESS_BYTES:
            raise MemoryError
        return _hollow(shape, dtype)

    def array(self, *shape: int) -> NDArray[Any]:
        """Count an array of numbers."""
        return self._take(shape, self.dtype)

    def mask(self, *shape: int) -> NDArray[np.bool_]:
        """Count an array of truth values."""
        return self._take(shape, np.dtype(np.bool_))

    def places(self, *shape: int) -> NDArray[np.intp]:
        """Count an array of whole numbers."""
        return self._take(shape, np.dtype(np.intp))

    def wire(self, units: int, *, learns: bool = True, moves: bool = False) -> Wire:
        """Count a wire."""
        self.widest = max(self.widest, (units + 1) * self.dtype.itemsize)
        return super().wire(units, learns=learns, moves=moves)
