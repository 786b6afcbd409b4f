"""Fitting: from a table and a spec to a model, with all that is needed to stop and go on.

Whoever runs it iterates over `Fitting.run` and may leave at any report. What
`Fitting.save` gives then, handed to `fit` with the same table and spec, goes on
to the same model, bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from engine.baselines import compare, logistic_metrics
from engine.checkpoint import dump_states, load_states
from engine.data.formats.stored import StoredRows
from engine.data.table import Table
from engine.folds import CrossValidation, FoldsState
from engine.metrics import RegressionMetric
from engine.model import Model
from engine.network import Network
from engine.outofcore import prepare_on_disk
from engine.preparation import Prepared, prepare, prepare_folds
from engine.spec import ResolvedSpec, ValidationFolds
from engine.training import Progress, TrainingState, blank_state, start, train


def fit(
    table: Table,
    settings: ResolvedSpec,
    validation: Table | None = None,
    saved: bytes | None = None,
) -> Fitting:
    """Prepare to train, from the beginning or from where it was left.

    Parameters
    ----------
    table : Table
        The dataset's columns named in ``settings``.
    settings : ResolvedSpec
    validation : Table, optional
        The other dataset, where ``settings`` name one to validate on.
    saved : bytes, optional
        What `Fitting.save` gave.

    Raises
    ------
    CheckpointError
        What was saved is damaged, or of another network.
    SchemaError
        A table is not as ``settings`` say.
    """
    prepared = prepare(table, settings, validation)
    if isinstance(settings.validation, ValidationFolds):
        parts = prepare_folds(table, settings, settings.validation.folds)
        return _FoldsFitting(prepared, parts, settings, saved)
    return _PlainFitting(prepared, settings, saved)


def fit_from_disk(
    rows: StoredRows,
    settings: ResolvedSpec,
    scratch: Path,
    validation: StoredRows | None = None,
    saved: bytes | None = None,
) -> Fitting:
    """Prepare to train with the rows on disk, from the beginning or from where it was left.

    Parameters
    ----------
    rows : StoredRows
        Of the dataset.
    settings : ResolvedSpec
    scratch : Path
        The folder for the rows as the network sees them; what is put there leaves with the process.
    validation : StoredRows, optional
        Of the other dataset, where ``settings`` name one to validate on.
    saved : bytes, optional
        What `Fitting.save` gave.

    Raises
    ------
    As `fit`, and `NoRoomError`.
    """
    prepared = prepare_on_disk(rows, settings, scratch, validation)
    return _PlainFitting(prepared, settings, saved)


@dataclass(frozen=True)
class Outcome:
    """What came of a training.

    Parameters
    ----------
    metrics : dict of str to float
        Of the model, and of baselines.
    notes : tuple of str
        What was noticed in the data, and which baselines the model beats.
    """

    metrics: dict[str, float]
    notes: tuple[str, ...]


class Fitting(ABC):
    """A training from a table to a model.

    Parameters
    ----------
    prepared : Prepared
        All that the model's network is trained on.
    settings : ResolvedSpec

    Attributes
    ----------
    parts : list of Prepared
        What the metrics are of: the same, or each fold.
    """

    state: TrainingState | FoldsState

    def __init__(self, prepared: Prepared, settings: ResolvedSpec) -> None:
        self.prepared, self.settings, self.parts = prepared, settings, [prepared]

    @abstractmethod
    def run(self) -> Iterator[Progress]:
        """Train to the end, reporting at least after every epoch and every tenth of a second.

        Raises
        ------
        DivergedError
            The loss is no longer a finite number.
        UnsettledError
            Too few examples settle in the layers that relax.
        """

    @abstractmethod
    def save(self) -> bytes:
        """Return all that is needed to go on from here."""

    @property
    def epoch(self) -> int:
        """How many points the curve has."""
        return self.state.epoch

    @property
    def step(self) -> int:
        """How many updates a network has had."""
        return self.state.step

    @property
    def seconds(self) -> float:
        """Spent on training, all told."""
        return self.state.seconds

    @property
    def best_epoch(self) -> int:
        """Which point of the curve tells how good the model is."""
        return self.state.best_epoch

    @abstractmethod
    def _network(self) -> Network:
        """Return what was trained."""

    def model(self) -> Model:
        """Return what predicts."""
        prepared = self.prepared
        return Model(self.settings, prepared.features, prepared.target, self._network())

    def outcome(
        self, model: Model, measured: Mapping[str, float], report: Callable[[], None]
    ) -> Outcome:
        """Measure what training does not: recursive forecasts over their horizon, and baselines.

        Parameters
        ----------
        model : Model
        measured : mapping of str to float
            Of the epoch whose weights it has.
        report : callable
            Called every now and then.
        """
        prepared, sequence, metrics = self.prepared, self.settings.sequence, dict(measured)
        if sequence is None or self.parts[0].data.validation is None:
            return Outcome(metrics, prepared.notes)
        if prepared.held_out is not None:
            of_one_step = get_args(RegressionMetric)
            metrics = {name: y for name, y in metrics.items() if name not in of_one_step}
            metrics |= model.measure(prepared.held_out).metrics
        baselines = prepared.baselines or logistic_metrics(
            [(part.data, part.architecture) for part in self.parts],
            self.settings,
            self.epoch,
            report,
        )
        notes = prepared.notes + compare(metrics, baselines)
        return Outcome({**metrics, **baselines}, notes)


class _PlainFitting(Fitting):
    """One network."""

    state: TrainingState

    def __init__(self, prepared: Prepared, settings: ResolvedSpec, saved: bytes | None) -> None:
        super().__init__(prepared, settings)
        self.state = _state(settings, prepared, saved)
        if saved is not None:
            load_states(saved, [self.state])

    def run(self) -> Iterator[Progress]:
        """Train to the end."""
        return train(self.state, self.prepared.data, self.settings)

    def save(self) -> bytes:
        """Return all that is needed to go on from here."""
        return dump_states([self.state], {})

    def _network(self) -> Network:
        return self.state.best_network()


class _FoldsFitting(Fitting):
    """A network for every fold, and one for all rows."""

    state: FoldsState

    def __init__(
        self,
        prepared: Prepared,
        parts: list[Prepared],
        settings: ResolvedSpec,
        saved: bytes | None,
    ) -> None:
        super().__init__(prepared, settings)
        self.state = FoldsState(
            [_state(settings, part, saved) for part in parts], _state(settings, prepared, saved)
        )
        self.parts = parts
        if saved is not None:
            facts = load_states(saved, [*self.state.members, self.state.last])
            for name in self._facts():
                setattr(self.state, name, facts[name])

    def _facts(self) -> dict[str, Any]:
        state = self.state
        return {
            "best_loss": state.best_loss,
            "best_epoch": state.best_epoch,
            "stopped": state.stopped,
        }

    def run(self) -> Iterator[Progress]:
        """Train to the end."""
        parts = [part.data for part in self.parts]
        return CrossValidation(self.state, parts, self.prepared.data, self.settings).run()

    def save(self) -> bytes:
        """Return all that is needed to go on from here."""
        return dump_states([*self.state.members, self.state.last], self._facts())

    def _network(self) -> Network:
        last = self.state.last
        return last.network if last.average is None else last.network.with_numbers(last.average)


def _state(settings: ResolvedSpec, prepared: Prepared, saved: bytes | None) -> TrainingState:
    """Return a state to begin with, or one to be filled."""
    begin = start if saved is None else blank_state
    return begin(settings, prepared.architecture)
