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
from functools import cached_property
from typing import Any, Literal

import numpy as np

from engine import spec
from engine.arrays import Matrix, Tensor, Vector
from engine.data.batches import Batch, Batches, Examples
from engine.data.disk import batches_of
from engine.errors import DivergedError, UnsettledError
from engine.layers.equilibrium import Equilibrium
from engine.losses import Loss, bind_loss
from engine.network import Architecture, Inputs, Network, Output, Pass, answer
from engine.optimizers import (
    Optimizer,
    build_optimizer,
    needs_preparation,
    prepare_gradient,
    shrinks,
)
from engine.schedules import share
from engine.spec import ResolvedSpec
from engine.wires import Workspace

REPORT_SECONDS = 0.1
"""The longest that the loop is silent, give or take one step."""

SETTLED_SHARE, UNSETTLED_EPOCHS = 0.5, 5
"""Where fewer examples settle for so many epochs, or none does in one, training ends."""

ROWS_AT_ONCE = 1024
"""How many validation rows are in a pass, so that memory stays bounded."""

WEIGHT_STREAM, ORDER_STREAM, DROPOUT_STREAM = 2, 3, 4
"""Each use of randomness draws from its own stream of the seed, so that none disturbs another."""

StopReason = Literal["epochs", "target_loss", "patience", "max_seconds"]


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
        Of the validation rows, and how the epoch's examples settled in layers that relax.
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
    best_numbers : Vector
        The network's after `best_epoch`.
    average : Vector or None
        The moving average of the network's numbers, where it is asked for.
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
    falls, waited : int
        How often the loss came to a plateau, and the epochs since without a better one.
    settled, forward_iterations, backward_iterations : int
        Of the batches done of the next epoch, in all layers that relax: how many examples settled,
        and what all took.
    unsettled_epochs : int
        How many epochs in a row too few settled.
    """

    network: Network
    optimizer: Optimizer
    dropout: np.random.Generator
    best_numbers: Vector
    average: Vector | None
    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    rows: int = 0
    train_loss: float = math.inf
    seconds: float = 0.0
    best_loss: float = math.inf
    best_epoch: int = 0
    falls: int = 0
    waited: int = 0
    settled: int = 0
    forward_iterations: int = 0
    backward_iterations: int = 0
    unsettled_epochs: int = 0

    def best_network(self) -> Network:
        """Return the network as it was after the best epoch."""
        return self.network.with_numbers(self.best_numbers)


def architecture_of(settings: ResolvedSpec, inputs: Inputs, outputs: int) -> Architecture:
    """Return what the network of a spec is."""
    return Architecture(settings.network, inputs, outputs, output_of(settings))


def output_of(settings: ResolvedSpec) -> Output:
    """Return what becomes of the logits in a prediction."""
    if isinstance(settings.loss, spec.BinaryCrossEntropy):
        return "sigmoid"
    if isinstance(settings.loss, spec.Poisson):
        return "exp"
    return "softmax" if settings.task == "classification" else "identity"


def batch_rows(settings: ResolvedSpec, rows: int) -> int:
    """Return how many of the training rows make a batch."""
    size = settings.training.batch_size
    return rows if size == "full" else min(size, rows)


def blank_state(settings: ResolvedSpec, architecture: Architecture) -> TrainingState:
    """Return a state whose weights are all zero, to be filled."""
    network = architecture.build(settings.precision)
    averages = settings.training.average_decay is not None
    # Where nothing decays, one number stands for as many as there are parameters.
    decayed = np.broadcast_to(network.numbers.dtype.type(0), network.parameters.shape)
    if shrinks(settings.optimizer):
        decayed = network.decayed()
    return TrainingState(
        network=network,
        optimizer=build_optimizer(
            settings.optimizer, network.parameters, network.gradient, decayed
        ),
        dropout=np.random.default_rng([settings.seed, DROPOUT_STREAM]),
        best_numbers=np.zeros_like(network.numbers),
        average=np.zeros_like(network.numbers) if averages else None,
    )


def start(settings: ResolvedSpec, architecture: Architecture) -> TrainingState:
    """Return the state before the first update."""
    state = blank_state(settings, architecture)
    state.network.initialize(np.random.default_rng([settings.seed, WEIGHT_STREAM]))
    if state.average is not None:
        state.average[:] = state.network.numbers
    return state


def train(state: TrainingState, data: TrainingData, settings: ResolvedSpec) -> Iterator[Progress]:
    """Train to the end, reporting at least after every epoch and every `REPORT_SECONDS`.

    A state that was saved after the last report is at its end: there is nothing to report.

    Parameters
    ----------
    state : TrainingState
        Changed in place; between two reports it can be saved.
    data : TrainingData
    settings : ResolvedSpec
        That which the state was started with.

    Raises
    ------
    DivergedError
        The loss is no longer a finite number.
    UnsettledError
        Too few examples settle in the layers that relax.
    """
    return Loop(state, data, settings).run()


def follow(average: Tensor, numbers: Tensor, step: int, settings: ResolvedSpec) -> None:
    """Move the average towards the numbers, faster at first so that the start is forgotten."""
    part = 1 - min(settings.training.average_decay or 0.0, (1 + step) / (10 + step))
    average += part * (numbers - average)


@dataclass
class _Step:
    """A network and its loss, bound to a batch size."""

    bound: Pass
    loss: Loss

    def run(self, batch: Batch) -> float:
        """Go forward and back; return the loss."""
        rows, targets, weights = batch
        self.bound.forward(rows)
        loss = self.loss(targets, weights)
        self.bound.backward()
        return loss

    def settling(self) -> list[tuple[int, int, int]]:
        """Return of each layer that relaxes how many examples settled, and the iterations."""
        return [
            (int(np.count_nonzero(s.settled)), s.forward_iterations, s.backward_iterations)
            for s in self.bound.settlings
        ]


@dataclass
class Loop:
    """The training of one network.

    Parameters
    ----------
    state : TrainingState
    data : TrainingData
    settings : ResolvedSpec
    """

    state: TrainingState
    data: TrainingData
    settings: ResolvedSpec
    batches: Batches = field(init=False)
    steps: dict[int, _Step] = field(init=False, default_factory=dict)
    measuring: dict[int, _Step] = field(init=False, default_factory=dict)
    batches_an_epoch: int = field(init=False)
    prepares: bool = field(init=False)
    rate_moves: bool = field(init=False)
    last: _Step | None = field(init=False, default=None)
    rows_here: int = field(init=False, default=0)
    seconds_here: float = field(init=False, default=0.0)
    rate: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        examples = self.data.training
        self.batches = batches_of(examples, batch_rows(self.settings, len(examples)))
        self.batches_an_epoch = len(self.batches)
        self.prepares = needs_preparation(self.settings.optimizer)
        self.rate_moves = isinstance(
            self.settings.schedule, spec.CosineSchedule | spec.OneCycleSchedule
        )

    def run(self) -> Iterator[Progress]:
        """Run whole epochs until a stop rule holds."""
        state = self.state
        stopped = self.stop_reason() if state.batch == 0 else None
        while stopped is None:
            for _ in self.rest_of_epoch():
                yield self.report(None, None)
            point = self.end_epoch()
            stopped = self.stop_reason()
            yield self.report(point, stopped)

    def rest_of_epoch(self) -> Iterator[None]:
        """Make the updates that are left of the epoch, with a pause every `REPORT_SECONDS`."""
        batches = self.batches.epoch(np.random.default_rng(self.order_seed()), self.state.batch)
        self.rate = self.learning_rate(self.state.batch)
        while self.advance(batches):
            yield

    def order_seed(self) -> list[int]:
        """Return what the order of the epoch's rows is drawn from."""
        return [self.settings.seed, ORDER_STREAM, self.state.epoch]

    def advance(self, batches: Iterator[Batch]) -> bool:
        """Make updates for a while; return whether there may be more in this epoch."""
        begin = time.perf_counter()
        pause = begin + min(REPORT_SECONDS, self.seconds_left())
        more = False
        # What overflows shows in the loss, and there it is refused.
        with np.errstate(all="ignore"):
            for batch in batches:
                self.update(batch)
                if time.perf_counter() >= pause:
                    more = self.seconds_left() > time.perf_counter() - begin
                    break
        spent = time.perf_counter() - begin
        self.state.seconds += spent
        self.seconds_here += spent
        return more

    def update(self, batch: Batch) -> None:
        """Make one update: forward, backward, step."""
        state, size = self.state, len(batch[0])
        step = self.last = self.steps.get(size) or self.bind(size)
        loss = step.run(batch)
        if not math.isfinite(loss):
            raise DivergedError(state.epoch + 1, state.step + 1)
        settling = step.settling()
        if self.rate_moves:
            self.rate = self.learning_rate(state.batch)
        if self.prepares:
            prepare_gradient(self.settings.optimizer, state.optimizer)
        state.optimizer.step(self.rate, loss, lambda: self.evaluate(step, batch))
        if state.average is not None:
            follow(state.average, state.network.numbers, state.step + 1, self.settings)
        state.batch += 1
        state.step += 1
        state.rows += size
        state.loss_sum += loss * size
        for settled, there, back in settling:
            state.settled += settled
            state.forward_iterations += there
            state.backward_iterations += back
        self.rows_here += size

    def bind(self, size: int) -> _Step:
        """Bind the network to a batch size; an epoch has two at most."""
        workspace = Workspace(
            self.settings.precision,
            size,
            rng=self.state.dropout,
            learns=True,
            shares=not self.settings.training.watch,
        )
        bound = self.state.network.bind(workspace)
        loss = bind_loss(self.settings.loss, self.settings.task, bound.logits, workspace)
        self.steps[size] = _Step(bound, loss)
        return self.steps[size]

    def evaluate(self, step: _Step, batch: Batch) -> float:
        """Return the loss of a batch, with its penalties, at what the parameters are now."""
        loss, optimizer, settings = step.run(batch), self.state.optimizer, self.settings.optimizer
        if self.prepares:
            prepare_gradient(settings, optimizer)
            p = optimizer.parameters * optimizer.decayed
            loss += settings.weight_decay / 2 * float(np.vdot(p, p))
            loss += settings.l1 * float(np.abs(p).sum())
        return loss

    def learning_rate(self, batch: int) -> float:
        """Return the learning rate of the update on a batch of this epoch."""
        state, settings = self.state, self.settings
        part = share(settings.schedule, self.fraction(batch), state.epoch, state.falls)
        return settings.optimizer.learning_rate * part

    def fraction(self, batch: int) -> float:
        """Return the share of all updates that come before a batch of this epoch."""
        epochs = self.state.epoch + batch / self.batches_an_epoch
        return epochs / self.settings.training.epochs

    def seconds_left(self) -> float:
        """Return the seconds until the time limit of the spec, if it has one."""
        limit = self.settings.training.stop.max_seconds
        return math.inf if limit is None else limit - self.state.seconds

    def end_epoch(self) -> Point:
        """Measure, remember the best weights, and begin the next epoch."""
        begin, state = time.perf_counter(), self.state
        rate = self.learning_rate(state.batch - 1)
        train_loss = state.train_loss = state.loss_sum / state.rows
        state.epoch += 1
        settling = self.settling()
        state.batch, state.loss_sum, state.rows = 0, 0.0, 0
        state.settled = state.forward_iterations = state.backward_iterations = 0
        validation_loss, metrics = self.validate()
        loss = train_loss if validation_loss is None else validation_loss
        numbers = self.measured.numbers
        if not (math.isfinite(loss) and np.isfinite(numbers).all()):
            raise DivergedError(state.epoch, state.step)
        self.compare(loss, numbers)
        if self.settings.training.watch:
            metrics = {**metrics, **self.watch()}
        metrics = {**metrics, **settling}
        state.seconds += time.perf_counter() - begin
        return Point(
            epoch=state.epoch,
            step=state.step,
            train_loss=train_loss,
            validation_loss=validation_loss,
            learning_rate=rate,
            seconds=state.seconds,
            metrics=metrics,
        )

    def settling(self) -> dict[str, float]:
        """Return how the epoch's examples settled, if a layer relaxes.

        Raises
        ------
        UnsettledError
            Too few did.
        """
        state = self.state
        examples = state.rows * self.relaxing
        if examples == 0:
            return {}
        share = state.settled / examples
        state.unsettled_epochs = state.unsettled_epochs + 1 if share < SETTLED_SHARE else 0
        if share == 0 or state.unsettled_epochs >= UNSETTLED_EPOCHS:
            raise UnsettledError(state.epoch, share, state.unsettled_epochs)
        return {
            "settled": share,
            "forward_iterations": state.forward_iterations / examples,
            "backward_iterations": state.backward_iterations / examples,
        }

    @cached_property
    def relaxing(self) -> int:
        """How many layers relax."""
        layers = self.state.network.layers.values()
        return sum(isinstance(layer, Equilibrium) for layer in layers)

    def compare(self, loss: float, numbers: Vector) -> None:
        """Keep the numbers if they are the best so far, else count how long they are not."""
        state, schedule = self.state, self.settings.schedule
        if loss < state.best_loss:
            state.best_loss, state.best_epoch, state.waited = loss, state.epoch, 0
            state.best_numbers[:] = numbers
            return
        state.waited += 1
        if isinstance(schedule, spec.PlateauSchedule) and state.waited > schedule.patience:
            state.falls, state.waited = state.falls + 1, 0

    def watch(self) -> dict[str, float]:
        """Return what goes on in every layer, as the epoch's last batch has left it.

        Nothing is known where the state was saved between that batch and the epoch's end.
        """
        if self.last is None:
            return {}
        bound, figures = self.last.bound, {}
        for name, layer in self.state.network.layers.items():
            values = bound.layers[name].output.value
            figures[f"{name}.mean"] = float(values.mean())
            figures[f"{name}.deviation"] = float(values.std())
            if layer.gradients:
                squares = sum(float(np.vdot(g, g)) for g in layer.gradients.values())
                figures[f"{name}.gradient_norm"] = math.sqrt(squares)
        return figures

    @cached_property
    def measured(self) -> Network:
        """The network, or that of the average of its numbers where this is asked for."""
        network, average = self.state.network, self.state.average
        if average is None:
            return network
        return network.architecture.build(average.dtype, average, network.gradient)

    def bind_to_measure(self, size: int) -> _Step:
        """Bind what is measured to a number of validation rows; there are two at most."""
        workspace = Workspace(self.settings.precision, size)
        bound = self.measured.bind(workspace)
        loss = bind_loss(self.settings.loss, self.settings.task, bound.logits, workspace)
        self.measuring[size] = _Step(bound, loss)
        return self.measuring[size]

    def validate(self) -> tuple[float | None, dict[str, float]]:
        """Return the loss and the metrics of the validation rows."""
        examples = self.data.validation
        if examples is None:
            return None, {}
        total, parts, settled = 0.0, [], 0
        with np.errstate(all="ignore"):
            for begin in range(0, len(examples), ROWS_AT_ONCE):
                rows = slice(begin, begin + ROWS_AT_ONCE)
                x = examples.part(begin, begin + ROWS_AT_ONCE)
                t = examples.targets(examples.y[rows])
                step = self.measuring.get(len(x)) or self.bind_to_measure(len(x))
                step.bound.forward(x)
                settled += sum(count for count, _, _ in step.settling())
                weights = None if examples.weights is None else examples.weights[rows]
                total += step.loss(t, weights) * len(x)
                output = self.measured.architecture.output
                parts.append(answer(step.bound.logits.value, output))
                examples.let_go()
            if not math.isfinite(total):
                return total, {}
            predictions = np.concatenate(parts, axis=1).T
            metrics = self.data.measure(predictions, examples.y)
            if self.relaxing:
                metrics["validation_settled"] = settled / (len(examples) * self.relaxing)
            return total / len(examples), metrics

    def stop_reason(self) -> StopReason | None:
        """Return the first rule that ends the training here."""
        stop, state = self.settings.training.stop, self.state
        if stop.target_loss is not None and state.train_loss <= stop.target_loss:
            return "target_loss"
        if stop.patience is not None and state.epoch - state.best_epoch >= stop.patience:
            return "patience"
        if state.epoch >= self.settings.training.epochs:
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
