"""Stack: networks of one shape that are trained at once, as one with an axis before all others.

A step of a small network takes its time in calls, not in what they compute, and
a stack makes one call for all its members. They learn what they would alone,
but for rounding: each from its own rows, in its own order, with its own dropout.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine import spec, training
from engine.arrays import Matrix, Vector, aligned_zeros
from engine.data.batches import Batch, StackedBatches
from engine.errors import DivergedError
from engine.layers.activation import Activation
from engine.layers.dense import Dense
from engine.layers.dropout import Dropout
from engine.losses import StackedLoss, bind_stacked_loss
from engine.network import Architecture, Pass
from engine.optimizers import build_optimizer, prepare_gradient
from engine.spec import ResolvedSpec
from engine.training import Loop, Point, TrainingData, TrainingState, batch_rows, follow
from engine.wires import Workspace

FEWEST = 3
"""Two networks take as long together as one after the other."""

LARGEST = 2**18
"""Parameters times rows of a batch: above it a step takes its time in what the calls compute.

Two hidden layers of 64 units and batches of 32 are just below it, and stacked take 0.8 of their
time or less. Twice the width, or four times the batch, leaves between 0.85 of it and all.
"""


def stacks(settings: ResolvedSpec, architecture: Architecture, k: int, rows: int) -> bool:
    """Whether K such networks can be trained as a stack, and in less time than one by one.

    Parameters
    ----------
    settings : ResolvedSpec
    architecture : Architecture
        Of each of them.
    k : int
        How many they are.
    rows : int
        How many each is trained on.
    """
    batch = batch_rows(settings, rows)
    return (
        k >= FEWEST
        and architecture.parameter_count() * batch <= LARGEST
        and _goes_by_number(settings)
        and all(
            isinstance(layer, Dense | Activation | Dropout)
            for layer in architecture.layers().values()
        )
    )


def _goes_by_number(settings: ResolvedSpec) -> bool:
    """Whether every number is updated by itself, at a learning rate that is that of all members."""
    optimizer = settings.optimizer
    looks_around = isinstance(optimizer, spec.Lbfgs) or optimizer.clip_norm is not None
    takes_back = isinstance(optimizer, spec.Rprop) and optimizer.plus
    by_loss = isinstance(settings.schedule, spec.PlateauSchedule)
    return not (looks_around or takes_back or by_loss or settings.training.watch)


def train_together(
    states: Sequence[TrainingState],
    data: Sequence[TrainingData],
    settings: ResolvedSpec | Sequence[ResolvedSpec],
) -> Iterator[list[Point] | None]:
    """Train in lockstep, epoch by epoch: as a stack what is quicker so, the others in turn.

    No stop rule ends it but the number of epochs: the caller has all points, and decides.

    Parameters
    ----------
    states : sequence of K TrainingState
        Changed in place, and their vectors moved. After every report they can be saved: loaded
        together, they go on to the same bits.
    data : sequence of K TrainingData
    settings : ResolvedSpec, or a sequence of K
        One for each where they differ, as by the seed.

    Yields
    ------
    list of K Point, or None
        The points, once all have ended an epoch and were measured; None in between, at least
        every `REPORT_SECONDS`.

    Raises
    ------
    DivergedError
        A loss is no longer a finite number.
    UnsettledError
        Too few examples settle in the layers that relax.
    ValueError
        The members are not at the same epoch, or have not as many before them.
    """
    each = [settings] * len(states) if isinstance(settings, ResolvedSpec) else settings
    loops = [
        Loop(state, rows, _without_stop_rules(its_settings))
        for state, rows, its_settings in zip(states, data, each, strict=True)
    ]
    spans = {(loop.state.epoch, loop.settings.training.epochs) for loop in loops}
    if len(spans) != 1:
        raise ValueError(f"members are at epoch, of epochs: {sorted(spans)}; both must be the same")
    stacked = [Stack(group) for group in _groups(loops) if _is_stacked(group)]
    for _ in range(*spans.pop()):
        for stack in stacked:
            yield from stack.rest_of_epoch()
        for loop in loops:
            if loop.state.batch < loop.batches_an_epoch:
                yield from loop.rest_of_epoch()
                yield None
        yield [loop.end_epoch() for loop in loops]


def _without_stop_rules(settings: ResolvedSpec) -> ResolvedSpec:
    run = settings.training.model_copy(update={"stop": spec.StopRules()})
    return settings.model_copy(update={"training": run})


def _is_stacked(group: Sequence[Loop]) -> bool:
    first = group[0]
    rows = len(first.data.training)
    return stacks(first.settings, first.state.network.architecture, len(group), rows)


def _groups(loops: Sequence[Loop]) -> list[list[Loop]]:
    """Return the loops by what a stack's members have in common."""
    kinds: list[Any] = []
    groups: list[list[Loop]] = []
    for loop in loops:
        kind = _kind(loop)
        if kind not in kinds:
            kinds.append(kind)
            groups.append([])
        groups[kinds.index(kind)].append(loop)
    return groups


def _kind(loop: Loop) -> tuple[Any, ...]:
    """Return what is to be equal: the shape, the settings, and all that depends on the update."""
    state, settings, examples = loop.state, loop.settings, loop.data.training
    return (
        state.network.architecture,
        settings.model_copy(update={"seed": 0}),
        state.step - state.batch,
        loop.batches_an_epoch,
        batch_rows(settings, len(examples)),
        examples.weights is None,
    )


class Stack:
    """Trainings that make their updates together.

    Their numbers, gradients, moments and averages move into matrices, a row
    each. A member's state is one of views into these: at any pause it can be
    saved, validated, and trained on alone, as any other.

    Parameters
    ----------
    loops : sequence of K Loop
        Of one kind: with the same `_kind`.
    """

    def __init__(self, loops: Sequence[Loop]) -> None:
        self.loops, self.leader, self.settings = loops, loops[0], loops[0].settings
        self.states = states = [loop.state for loop in loops]
        network, optimizer = states[0].network, states[0].optimizer
        self.numbers = _rows([state.network.numbers for state in states])
        gradients = _rows([state.network.gradient for state in states])
        averages = [state.average for state in states if state.average is not None]
        self.averages = _rows(averages) if averages else None
        self.network = network.architecture.build(self.numbers.dtype, self.numbers, gradients)
        self.optimizer = build_optimizer(
            self.settings.optimizer,
            self.numbers.reshape(-1),
            gradients.reshape(-1),
            np.tile(optimizer.decayed, len(states)),
        )
        for row, state in enumerate(states):
            self._move(state, row)
        examples = [loop.data.training for loop in loops]
        self.batches = StackedBatches(examples, batch_rows(self.settings, len(examples[0])))
        self.bound: dict[int, tuple[Pass, StackedLoss]] = {}
        self.batch, self.step, self.rows, self.rate = 0, 0, 0, 0.0
        self.loss_sums: Vector = np.zeros(len(states))

    def _move(self, state: TrainingState, row: int) -> None:
        """Make a state one of views into a row of everything."""
        numbers, gradient = self.numbers[row], self.network.gradient[row]
        state.network = state.network.architecture.build(numbers.dtype, numbers, gradient)
        if self.averages is not None:
            state.average = self.averages[row]
        moments = dict(state.optimizer.moments)
        for name in self.optimizer.remembers:
            of_all = self.optimizer.moments[name].reshape(len(self.states), -1)
            of_all[row] = moments[name]
            moments[name] = of_all[row]
        state.optimizer.work_on(state.network.parameters, gradient, moments)

    def rest_of_epoch(self) -> Iterator[None]:
        """Make the updates that all can make together, with a pause every `REPORT_SECONDS`.

        There are none where some have gone further in the epoch than others.
        """
        start = self.leader.state.batch
        if start >= len(self.batches) or any(state.batch != start for state in self.states):
            return
        batches = self.batches.epoch([loop.order_seed() for loop in self.loops], start)
        self.rate = self.leader.learning_rate(start)
        self._take_over()
        while self._advance(batches):
            yield

    def _advance(self, batches: Iterator[Batch]) -> bool:
        """Make updates for a while; return whether there may be more."""
        begin = time.perf_counter()
        pause, more = begin + training.REPORT_SECONDS, False
        try:
            # What overflows shows in the loss, and there it is refused.
            with np.errstate(all="ignore"):
                for batch in batches:
                    self._update(batch)
                    if time.perf_counter() >= pause:
                        more = True
                        break
        finally:
            self._hand_back(time.perf_counter() - begin)
        return more

    def _update(self, batch: Batch) -> None:
        """Make one update of every network: forward, backward, step."""
        rows, targets, weights = batch
        size, settings = rows.shape[1], self.settings
        bound, loss = self.bound.get(size) or self._bind(size)
        bound.forward(rows)
        losses = loss(targets, weights)
        if not math.isfinite(losses.sum()):
            raise DivergedError(self.leader.state.epoch + 1, self.step + 1)
        bound.backward()
        if self.leader.rate_moves:
            self.rate = self.leader.learning_rate(self.batch)
        if self.leader.prepares:
            prepare_gradient(settings.optimizer, self.optimizer)
        self.optimizer.t += 1
        self.optimizer.update(self.rate)
        if self.averages is not None:
            follow(self.averages, self.numbers, self.step + 1, settings)
        self.batch += 1
        self.step += 1
        self.rows += size
        self.loss_sums += losses * size

    def _bind(self, size: int) -> tuple[Pass, StackedLoss]:
        """Bind the networks to a batch size; an epoch has two at most."""
        workspace = Workspace(
            self.numbers.dtype,
            size,
            rng=[state.dropout for state in self.states],
            learns=True,
            shares=True,
            stack=(len(self.states),),
        )
        bound = self.network.bind(workspace)
        task = self.settings.task
        loss = bind_stacked_loss(self.settings.loss, task, bound.logits, workspace)
        self.bound[size] = bound, loss
        return self.bound[size]

    def _take_over(self) -> None:
        """Begin where the members are."""
        state = self.leader.state
        self.batch, self.step, self.rows = state.batch, state.step, state.rows
        self.loss_sums[:] = [state.loss_sum for state in self.states]
        self.optimizer.t = state.optimizer.t
        for name, moment in self._shared_moments(state):
            self.optimizer.moments[name][:] = moment

    def _hand_back(self, seconds: float) -> None:
        """Tell every member where it is now; the time was that of all of them."""
        for state, loss_sum in zip(self.states, self.loss_sums.tolist(), strict=True):
            state.batch, state.step, state.rows = self.batch, self.step, self.rows
            state.loss_sum = loss_sum
            state.seconds += seconds / len(self.states)
            state.optimizer.t = self.optimizer.t
            for name, moment in self._shared_moments(state):
                moment[:] = self.optimizer.moments[name]

    def _shared_moments(self, state: TrainingState) -> list[tuple[str, Vector]]:
        """Return what an optimizer remembers of its steps, not of each parameter: that of all."""
        optimizer = state.optimizer
        return [(n, m) for n, m in optimizer.moments.items() if n not in optimizer.remembers]


def _rows(vectors: Sequence[Vector]) -> Matrix:
    """Return vectors as the rows of a matrix that starts at a cache line."""
    matrix = aligned_zeros((len(vectors), vectors[0].size), vectors[0].dtype)
    matrix[:] = vectors
    return matrix
