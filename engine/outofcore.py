"""Out of core: what `engine.preparation.prepare` does, for more rows than memory holds.

The rows come from a kept file piece by piece, and go into a file of encoded
rows that training reads in blocks. Held whole are only targets and weights,
and which row is for what.

Deviation from a training in memory: the features' encodings are fitted on a
sample of the training rows, of `SAMPLE_ROWS`, or of `SAMPLE_BYTES` of a
column's numbers where its values are tensors. With fewer rows there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine import spec
from engine.arrays import Matrix, Vector
from engine.data.disk import DiskExamples, RowFile
from engine.data.encoding import Encoding
from engine.data.formats.stored import StoredRows
from engine.data.preprocessing import FeatureEncoder
from engine.data.splits import Rows, split
from engine.data.table import Table
from engine.data.targets import ClassEncoder, TargetScaler
from engine.model import architecture_for, have_targets, measure_of, taken
from engine.preparation import Encode, Prepared, classes_of, counted, split_rng
from engine.spec import ResolvedSpec
from engine.training import TrainingData

SAMPLE_STREAM = 5
"""The sample draws from its own stream of the seed."""

SAMPLE_ROWS, SAMPLE_BYTES = 2**18, 2**24
"""The most that columns are fitted on, and that is read of columns at once."""

CELL_BYTES = 8
"""Of a number in a column."""

TEXT_NUMBERS = 16
"""A text counts as so many numbers."""

PIECE_BYTES = 2**23
"""So much of the rows is encoded at once, as they are kept and as a network sees them."""

NONE, TRAINING, VALIDATION = 0, 1, 2
"""What a row is for."""

Uses = NDArray[np.uint8]


def prepare_on_disk(
    rows: StoredRows, settings: ResolvedSpec, scratch: Path, validation: StoredRows | None = None
) -> Prepared:
    """Fit the preprocessing on the rows to train on, and apply it.

    Parameters
    ----------
    rows : StoredRows
        Of the dataset.
    settings : ResolvedSpec
    scratch : Path
        The folder for what is written. Nothing in it has a name or stays.
    validation : StoredRows, optional
        Of the other dataset, where ``settings`` name one to validate on.

    Raises
    ------
    NoRoomError
        The encoded rows do not fit into the folder.
    SchemaError
        The rows are not as ``settings`` say.
    """
    kept = rows.table(_kept_columns(settings))
    found = counted(kept, settings)
    classes = classes_of(taken(kept, found), settings)
    uses = _uses(kept, found, settings, classes)
    features = _fit(rows, np.flatnonzero(uses == TRAINING), settings)
    training, held_out = (kept.take(np.flatnonzero(uses == use)) for use in (TRAINING, VALIDATION))
    sources = [(rows, uses)]
    if validation is not None:
        other = validation.table(_kept_columns(settings))
        found = have_targets(other, settings)
        held_out = taken(other, found)
        sources.append((validation, np.where(found, VALIDATION, NONE).astype(np.uint8)))
    scales = not isinstance(settings.loss, spec.Poisson)
    target = classes or TargetScaler.fit(
        training, settings.targets, scales=scales, quantiles=settings.quantiles
    )
    encode = Encode(settings, features, target)
    file = _write(sources, encode, scratch)

    def examples(x: Matrix, table: Table, weights: Vector | None) -> DiskExamples:
        found = encode.examples(x, table, weights)
        known = {field.name: getattr(found, field.name) for field in fields(found)}
        return DiskExamples(**known, file=file)

    x = file.matrix
    data = TrainingData(
        examples(x[: training.rows], training, encode.row_weights(training)),
        examples(x[training.rows :], held_out, encode.sample_weights(held_out))
        if held_out.rows
        else None,
        measure_of(target),
    )
    return Prepared(data, features, target, architecture_for(settings, features, target))


def _kept_columns(settings: ResolvedSpec) -> list[str]:
    weight = [] if settings.sample_weight is None else [settings.sample_weight]
    return [*settings.targets, *weight]


def _uses(
    kept: Table,
    found: NDArray[np.bool_],
    settings: ResolvedSpec,
    classes: ClassEncoder | None,
) -> Uses:
    """Say what each row is for; rows are split as in memory."""
    uses, asked = np.where(found, TRAINING, NONE).astype(np.uint8), settings.validation
    if isinstance(asked, spec.ValidationPart):
        labels = classes.transform(taken(kept, found)) if classes else None
        rows = int(np.count_nonzero(found))
        _, rest = split(rows, asked.fraction, split_rng(settings), labels)
        uses[np.flatnonzero(found)[rest]] = VALIDATION
    return uses


def _fit(rows: StoredRows, training: Rows, settings: ResolvedSpec) -> FeatureEncoder:
    """Fit on a sample of the rows to train on, some columns at a time."""
    sample = training
    if len(training) > SAMPLE_ROWS:
        rng = np.random.default_rng([settings.seed, SAMPLE_STREAM])
        sample = np.sort(rng.choice(training, SAMPLE_ROWS, replace=False, shuffle=False))
    encodings: list[Encoding] = []
    for names, numbers in _groups(_first_row(rows, settings)):
        every = -(-CELL_BYTES * numbers * len(sample) // SAMPLE_BYTES)
        table = rows.take(sample[::every], names)
        encodings += FeatureEncoder.fit(table, names, settings.columns).encodings
    return FeatureEncoder(tuple(encodings))


def _groups(row: Table) -> Iterator[tuple[list[str], int]]:
    """Yield consecutive columns that are read together, and how many numbers they hold."""
    names: list[str] = []
    total = 0
    for column in row.columns:
        numbers = TEXT_NUMBERS if column.type == "text" else column.values.size
        if names and CELL_BYTES * (total + numbers) * SAMPLE_ROWS > SAMPLE_BYTES:
            yield names, total
            names, total = [], 0
        names, total = [*names, column.name], total + numbers
    yield names, total


def _first_row(rows: StoredRows, settings: ResolvedSpec) -> Table:
    return next(rows.pieces(settings.features, 1))


def _write(sources: Sequence[tuple[StoredRows, Uses]], encode: Encode, scratch: Path) -> RowFile:
    """Encode the rows of one or two datasets: first those to train on, then the others."""
    settings, columns = encode.settings, encode.features.width + 1
    dtype = np.dtype(settings.precision)
    counts = np.bincount(np.concatenate([uses for _, uses in sources]), minlength=3).tolist()
    file = RowFile(scratch, counts[TRAINING] + counts[VALIDATION], columns, dtype)
    places = {TRAINING: 0, VALIDATION: counts[TRAINING]}
    for rows, uses in sources:
        row_bytes = dtype.itemsize * columns
        row_bytes += sum(column.values.nbytes for column in _first_row(rows, settings).columns)
        begin = 0
        for piece in rows.pieces(settings.features, max(1, PIECE_BYTES // row_bytes)):
            x, use = encode.features.transform(piece, dtype), uses[begin : begin + piece.rows]
            for wanted, first in places.items():
                some = x[use == wanted]
                file.write(first, some)
                places[wanted] = first + len(some)
            begin += piece.rows
    return file
