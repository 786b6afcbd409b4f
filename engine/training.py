"""Training: the loop, as a generator of progress.

The loop reports and the caller decides: to go on, to save the state, or to
leave. It knows no job and no clock but its own. A state that was saved
between two reports and loaded again goes on to the same weights, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from engine.activations import softmax
from engine.arrays import Labels, Matrix, Vector, Workspace
from engine.data.batches import Batches
from engine.errors import DivergedError
from engine.losses import LOSSES, Loss, Output
from engine.network import Network, build_network, initialize_network
from engine.optimizers import Optimizer, build_optimizer
from engine.schedules import learning_rate
from engine.spec import ResolvedSpec

REPORT_SECONDS = 0.1
"""The longest that the loop is silent, give or take one step."""

ROWS_AT_ONCE = 4096
"""How many validation rows are in a pass, so that memory stays bounded."""

WEIGHT_STREAM, ORDER_STREAM, DROPOUT_STREAM = 2, 3, 4
"""Each use of randomness draws from its own stream of the seed, so that none disturbs another."""

StopReason = Literal["epochs", "target_loss", "patience", "max_seconds"]


@dataclass(frozen=True)
class Examples:
    """Rows as a network sees them.

    Parameters
    ----------
    x : Matrix of shape (rows, inputs)
    y : Matrix of shape (rows, outputs) or Labels of shape (rows,)
    """

    x: Matrix
    y: Matrix | Labels


@dataclass(frozen=True)
class TrainingData:
    """What a network is trained on, and what it is measured on.

    Parameters
    ----------
    training : Examples
    validation : Examples or None
    measure : callable
        From predictions and ``y`` of the validation rows to metrics by name.
    """

    training: Examples
    validation: Examples | None
    measure: Callable[[Matrix, Any], dict[str, float]]


@dataclass(frozen=True)
class Point:
    """One epoch of the loss curve.

    Parameters
    ----------
    epoch, step : int
        Epochs and updates that are done.
    train_loss : float
        Mean over the epoch's rows, each before the update that its batch led to.
    validation_loss : float or None
        After the epoch.
    learning_rate : float
        Of the epoch's last update.
    seconds : float
        Spent on training since its beginning.
    metrics : dict of str to float
        Of the validation rows.
    """

    epoch: int
    step: int
    train_loss: float
    validation_loss: float | None
    learning_rate: float
    seconds: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Progress:
    """A report between two updates.

    Parameters
    ----------
    epoch : int
        Epochs that are done.
    fraction : float
        Share of all updates that are done.
    eta_seconds, samples_per_second : float or None
        As far as can be told yet.
    point : Point or None
        The epoch that has just ended.
    stopped : StopReason or None
        In the last report: which rule ended the training.
    """

    epoch: int
    fraction: float
    eta_seconds: float | None
    samples_per_second: float | None
    point: Point | None
    stopped: StopReason | None


@dataclass
class TrainingState:
    """All that the next update depends on, beside the data and the spec.

    Parameters
    ----------
    network : Network
    optimizer : Optimizer
    dropout : numpy.random.Generator
    best_parameters : Vector
        Those after `best_epoch`.
    epoch, batch, step : int
        Epochs done, batches done of the next epoch, and updates done in all.
    loss_sum, rows : float, int
        Of the batches done of the next epoch: the sum of their rows' losses, and how many rows.
    train_loss : float
        Of the last epoch done.
    seconds : float
        Spent on training.
    best_loss, best_epoch : float, int
        The lowest validation loss so far (training loss without validation).
    """

    network: Network
    optimizer: Optimizer
    dropout: np.random.Generator
    best_parameters: Vector
    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    rows: int = 0
    train_loss: float = math.inf
    seconds: float = 0.0
    best_loss: float = math.inf
    best_epoch: int = 0

    def best_network(self) -> Network:
        """Return the network as it was after the best epoch."""
        return self.network.with_parameters(self.best_parameters)


def blank_state(spec: ResolvedSpec, *, inputs: int, outputs: int) -> TrainingState:
    """Return a state whose weights are all zero, to be filled.

    Parameters
    ----------
    spec : ResolvedSpec
    inputs, outputs : int
        Numbers in a row, and numbers that the network answers.
    """
    network = build_network(spec.network, inputs, outputs, output_of(spec), spec.precision)
    return TrainingState(
        network=network,
        optimizer=build_optimizer(spec.optimizer, network.parameters.size, spec.precision),
        dropout=np.random.default_rng([spec.seed, DROPOUT_STREAM]),
        best_parameters=np.zeros_like(network.parameters),
    )


def start(spec: ResolvedSpec, *, inputs: int, outputs: int) -> TrainingState:
    """Return the state before the first update; parameters as `blank_state`."""
    state = blank_state(spec, inputs=inputs, outputs=outputs)
    initialize_network(state.network, np.random.default_rng([spec.seed, WEIGHT_STREAM]))
    return state


def output_of(spec: ResolvedSpec) -> Output:
    """Return what becomes of the logits for the task of a spec."""
    return "softmax" if spec.task == "classification" else "identity"


def train(state: TrainingState, data: TrainingData, spec: ResolvedSpec) -> Iterator[Progress]:
    """Train to the end, reporting at least after every epoch and every `REPORT_SECONDS`.

    A state that was saved after the last report is at its end: there is nothing to report.

    Parameters
    ----------
    state : TrainingState
        Changed in place; between two reports it can be saved.
    data : TrainingData
    spec : ResolvedSpec
        That which the state was started with.

    Raises
    ------
    DivergedError
        The loss is no longer a finite number.
    """
    return _Loop(state, data, spec).run()


@dataclass
class _Loop:
    state: TrainingState
    data: TrainingData
    spec: ResolvedSpec
    batches: Batches = field(init=False)
    loss: Loss = field(init=False)
    workspaces: dict[int, Workspace] = field(init=False, default_factory=dict)
    rows_here: int = field(init=False, default=0)
    seconds_here: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        training, size = self.data.training, self.spec.training.batch_size
        self.batches = Batches(training.x, training.y, len(training.x) if size == "full" else size)
        self.loss = LOSSES[self.spec.loss, self.state.network.output]

    def run(self) -> Iterator[Progress]:
        """Run whole epochs until a stop rule holds."""
        state = self.state
        stopped = self.stop_reason() if state.batch == 0 else None
        while stopped is None:
            seed = [self.spec.seed, ORDER_STREAM, state.epoch]
            batches = self.batches.epoch(np.random.default_rng(seed), state.batch)
            while self.advance(batches):
                yield self.report(None, None)
            point = self.end_epoch()
            stopped = self.stop_reason()
            yield self.report(point, stopped)

    def advance(self, batches: Iterator[tuple[Matrix, Any]]) -> bool:
        """Make updates for a while; return whether there may be more in this epoch."""
        begin = time.perf_counter()
        pause = begin + min(REPORT_SECONDS, self.seconds_left())
        more = False
        # What overflows shows in the loss, and there it is refused.
        with np.errstate(over="ignore", invalid="ignore"):
            for x, y in batches:
                self.update(x, y)
                if time.perf_counter() >= pause:
                    more = self.seconds_left() > time.perf_counter() - begin
                    break
        spent = time.perf_counter() - begin
        self.state.seconds += spent
        self.seconds_here += spent
        return more

    def update(self, x: Matrix, y: Any) -> None:
        """Make one update: forward, backward, step."""
        state, network = self.state, self.state.network
        workspace = self.workspace(len(x))
        logits, fill_gradient = network.forward(x, workspace)
        loss, d_logits = self.loss(logits, y, workspace)
        if not math.isfinite(loss):
            raise DivergedError(state.epoch + 1, state.step + 1)
        fill_gradient(d_logits)
        rate = self.learning_rate(state.batch)
        state.optimizer.step(network.parameters, network.gradient, rate)
        state.batch += 1
        state.step += 1
        state.rows += len(x)
        state.loss_sum += loss * len(x)
        self.rows_here += len(x)

    def workspace(self, batch: int) -> Workspace:
        """Return the workspace for a batch size, rewound; an epoch has two sizes at most."""
        if batch not in self.workspaces:
            self.workspaces[batch] = Workspace(self.spec.precision, self.state.dropout)
        workspace = self.workspaces[batch]
        workspace.rewind()
        return workspace

    def learning_rate(self, batch: int) -> float:
        """Return the learning rate of the update on a batch of this epoch."""
        schedule, base = self.spec.schedule, self.spec.optimizer.learning_rate
        return learning_rate(schedule, base, self.fraction(batch))

    def fraction(self, batch: int) -> float:
        """Return the share of all updates that come before a batch of this epoch."""
        return (self.state.epoch + batch / len(self.batches)) / self.spec.training.epochs

    def seconds_left(self) -> float:
        """Return the seconds until the time limit of the spec, if it has one."""
        limit = self.spec.training.stop.max_seconds
        return math.inf if limit is None else limit - self.state.seconds

    def end_epoch(self) -> Point:
        """Measure, remember the best weights, and begin the next epoch."""
        begin, state = time.perf_counter(), self.state
        rate = self.learning_rate(state.batch - 1)
        state.train_loss = state.loss_sum / state.rows
        state.epoch += 1
        state.batch, state.loss_sum, state.rows = 0, 0.0, 0
        validation_loss, metrics = self.validate()
        loss = state.train_loss if validation_loss is None else validation_loss
        if not (math.isfinite(loss) and np.isfinite(state.network.parameters).all()):
            raise DivergedError(state.epoch, state.step)
        if loss < state.best_loss:
            state.best_loss, state.best_epoch = loss, state.epoch
            state.best_parameters[:] = state.network.parameters
        state.seconds += time.perf_counter() - begin
        return Point(
            epoch=state.epoch,
            step=state.step,
            train_loss=state.train_loss,
            validation_loss=validation_loss,
            learning_rate=rate,
            seconds=state.seconds,
            metrics=metrics,
        )

    def validate(self) -> tuple[float | None, dict[str, float]]:
        """Return the loss and the metrics of the validation rows."""
        if self.data.validation is None:
            return None, {}
        x, y = self.data.validation.x, self.data.validation.y
        network, total, parts = self.state.network, 0.0, []
        with np.errstate(over="ignore", invalid="ignore"):
            for begin in range(0, len(x), ROWS_AT_ONCE):
                rows = slice(begin, begin + ROWS_AT_ONCE)
                workspace = Workspace(self.spec.precision)
                logits, _ = network.forward(x[rows], workspace)
                loss, _ = self.loss(logits, y[rows], workspace)
                total += loss * len(logits)
                parts.append(softmax(logits, workspace) if network.output == "softmax" else logits)
            if not math.isfinite(total):
                return total, {}
            return total / len(x), self.data.measure(np.concatenate(parts), y)

    def stop_reason(self) -> StopReason | None:
        """Return the first rule that ends the training here."""
        stop, state = self.spec.training.stop, self.state
        if stop.target_loss is not None and state.train_loss <= stop.target_loss:
            return "target_loss"
        if stop.patience is not None and state.epoch - state.best_epoch >= stop.patience:
            return "patience"
        if state.epoch >= self.spec.training.epochs:
            return "epochs"
        return "max_seconds" if self.seconds_left() <= 0 else None

    def report(self, point: Point | None, stopped: StopReason | None) -> Progress:
        """Describe where the training stands."""
        fraction = self.fraction(self.state.batch)
        seconds = self.state.seconds
        eta = min(seconds / fraction - seconds, self.seconds_left()) if fraction > 0 else None
        if stopped is not None:
            fraction, eta = 1.0, 0.0
        per_second = self.rows_here / self.seconds_here if self.seconds_here > 0 else None
        return Progress(self.state.epoch, fraction, eta, per_second, point, stopped)
