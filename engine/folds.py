"""Cross-validation: a network for every fold, side by side, and then one on all rows.

The networks of the folds only tell how many epochs do best on rows that were
not trained on, and how well; the last one is trained for so many on all rows
(Stone 1974 for the choice; the refit is that of Hastie, Tibshirani & Friedman
2009, section 7.10). Deviation: the schedule of the learning rate is that of
the whole run, so the last network stops in the middle of it as its forerunners did.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.spec import ResolvedSpec, StopRules
from engine.stack import train_together
from engine.training import Point, Progress, StopReason, TrainingData, TrainingState, train


@dataclass
class FoldsState:
    """All that the next update depends on, beside the data and the spec.

    Parameters
    ----------
    members : list of TrainingState
        One for each fold.
    last : TrainingState
        Of the network that is trained on all rows.
    best_loss, best_epoch : float, int
        The lowest mean validation loss so far.
    stopped : StopReason or None
        Which rule ended the training on the folds.
    """

    members: list[TrainingState]
    last: TrainingState
    best_loss: float = math.inf
    best_epoch: int = 0
    stopped: StopReason | None = None

    @property
    def epoch(self) -> int:
        """How many epochs all folds have done."""
        return self.members[-1].epoch

    @property
    def step(self) -> int:
        """How many updates the network of the last fold has had."""
        return self.members[-1].step

    @property
    def seconds(self) -> float:
        """Spent on training, all told."""
        return sum(state.seconds for state in (*self.members, self.last))


@dataclass(frozen=True)
class CrossValidation:
    """A training by cross-validation.

    Parameters
    ----------
    state : FoldsState
        Changed in place; between two reports it can be saved.
    members : sequence of TrainingData
        One for each fold: the other rows, and its own for validation.
    everything : TrainingData
        All rows.
    settings : ResolvedSpec
    """

    state: FoldsState
    members: Sequence[TrainingData]
    everything: TrainingData
    settings: ResolvedSpec

    def run(self) -> Iterator[Progress]:
        """Train to the end, reporting as `engine.training.train` does."""
        yield from self._train_members()
        yield from self._train_last()

    def _train_members(self) -> Iterator[Progress]:
        state = self.state
        if state.stopped is not None:
            return
        for points in train_together(state.members, self.members, self.settings):
            point = None
            if points is not None:
                point = mean_point(points)
                self._compare(point)
                state.stopped = self._stop_reason(point)
            elif state.best_epoch > 0 and self._out_of_time():
                state.stopped = "max_seconds"
            yield self._report(point)
            if state.stopped is not None:
                return

    def _train_last(self) -> Iterator[Progress]:
        state, rules = self.state, StopRules(max_seconds=self._seconds_left())
        if state.last.epoch >= state.best_epoch:
            return
        run = self.settings.training.model_copy(update={"stop": rules})
        settings = self.settings.model_copy(update={"training": run})
        for progress in train(state.last, self.everything, settings):
            over = progress.stopped is not None or state.last.epoch >= state.best_epoch
            yield self._report(None, state.stopped if over else None)
            if over:
                return

    def _compare(self, point: Point) -> None:
        """Remember the epoch if it is the best so far."""
        loss = point.validation_loss
        if loss is not None and loss < self.state.best_loss:
            self.state.best_loss, self.state.best_epoch = loss, point.epoch

    def _stop_reason(self, point: Point) -> StopReason | None:
        """Return the first rule that ends the training on the folds here."""
        stop = self.settings.training.stop
        if stop.target_loss is not None and point.train_loss <= stop.target_loss:
            return "target_loss"
        if stop.patience is not None and point.epoch - self.state.best_epoch >= stop.patience:
            return "patience"
        if point.epoch >= self.settings.training.epochs:
            return "epochs"
        return "max_seconds" if self._out_of_time() else None

    def _out_of_time(self) -> bool:
        """Whether the folds have had their share of the time limit."""
        limit = self.settings.training.stop.max_seconds
        return limit is not None and self.state.seconds >= self._share * limit

    def _seconds_left(self) -> float | None:
        """Return what the time limit leaves to the last network, in its own count."""
        limit = self.settings.training.stop.max_seconds
        spent = sum(member.seconds for member in self.state.members)
        return None if limit is None else max(limit - spent, 1e-3)

    @property
    def _share(self) -> float:
        """The share of all work that the folds are."""
        return len(self.members) / (len(self.members) + 1)

    def _fraction(self) -> float:
        """Return the share of all work that is done."""
        members, last = self.state.members, self.state.last
        if self.state.stopped is None:
            done = sum(_passes(*pair) for pair in zip(members, self.members, strict=True))
            return self._share * (done / (len(members) * self.settings.training.epochs))
        done = _passes(last, self.everything) / max(self.state.best_epoch, 1)
        return self._share + (1 - self._share) * done

    def _report(self, point: Point | None, stopped: StopReason | None = None) -> Progress:
        """Describe where the training stands."""
        seconds, fraction = self.state.seconds, self._fraction()
        eta = seconds / fraction - seconds if fraction > 0 else None
        limit = self.settings.training.stop.max_seconds
        if eta is not None and limit is not None:
            eta = min(eta, max(limit - seconds, 0.0))
        if stopped is not None:
            fraction, eta = 1.0, 0.0
        return Progress(
            epoch=self.state.members[0].epoch,
            fraction=fraction,
            eta_seconds=eta,
            samples_per_second=self._rows() / seconds if seconds > 0 else None,
            point=point,
            stopped=stopped,
        )

    def _rows(self) -> float:
        """Return how many rows the networks have been trained on, all told."""
        pairs = zip(
            (*self.state.members, self.state.last), (*self.members, self.everything), strict=True
        )
        return sum(_passes(state, data) * len(data.training) for state, data in pairs)


def _passes(state: TrainingState, data: TrainingData) -> float:
    """Return how often a network has seen all of its rows."""
    return state.epoch + state.rows / len(data.training)


def mean_point(points: Sequence[Point]) -> Point:
    """Return the mean of the folds' points, with the standard deviation of all that is measured.

    What is undefined in one fold is absent.
    """
    first = points[0]
    validation = [point.validation_loss for point in points if point.validation_loss is not None]
    measured = {"validation_loss": validation} | {
        name: [point.metrics[name] for point in points]
        for name in first.metrics
        if all(name in point.metrics for point in points)
    }
    return Point(
        epoch=first.epoch,
        step=first.step,
        train_loss=statistics.fmean(point.train_loss for point in points),
        validation_loss=statistics.fmean(validation),
        learning_rate=first.learning_rate,
        seconds=sum(point.seconds for point in points),
        metrics=_means(measured),
    )


def _means(measured: Mapping[str, Sequence[float]]) -> dict[str, float]:
    means = {name: statistics.fmean(values) for name, values in measured.items()}
    deviations = {f"{name}_deviation": statistics.stdev(v) for name, v in measured.items()}
    del means["validation_loss"]
    return means | deviations
