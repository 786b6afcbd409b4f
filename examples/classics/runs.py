"""Runs: nets are trained, one for every seed, until all of their answers are right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from engine.arrays import Matrix, Vector
from engine.losses import bind_loss
from engine.network import Network
from engine.optimizers import Optimizer, build_optimizer
from engine.spec import Sgd, SquaredError
from engine.wires import Workspace
from examples.classics.experiments import Experiment, Rates
from examples.classics.nets import Net
from examples.classics.tasks import Task

Cases = tuple[Matrix, Matrix, Matrix]
"""Inputs, a case a row with a 1 at its end; the lowest and the highest right outputs, by column."""


@dataclass(frozen=True)
class Run:
    """What became of one seed.

    Parameters
    ----------
    seed : int
    sweeps : int or None
        Through all cases, before all answers were right; None where they never were.
    weights : mapping of str to Vector
        When the training ended.
    """

    seed: int
    sweeps: int | None
    weights: Mapping[str, Vector]


class Lesson:
    """A network with some cases before it.

    Parameters
    ----------
    network : Network
    cases : int
        How many.
    """

    def __init__(self, network: Network, cases: int) -> None:
        workspace = Workspace(network.numbers.dtype, cases, learns=True)
        self.bound = network.bind(workspace)
        self.loss = bind_loss(SquaredError(), "regression", self.bound.logits, workspace)
        self.outputs = self.bound.logits.value
        self.targets = np.zeros_like(self.outputs)

    def ask(self, cases: Cases) -> Matrix:
        """Return how far each output is from the nearest right one."""
        rows, low, high = cases
        self.bound.forward(rows)
        np.maximum(self.outputs, low, out=self.targets)
        np.minimum(self.targets, high, out=self.targets)
        return np.abs(self.outputs - self.targets)

    def teach(self, cases: Cases) -> None:
        """Fill the network's gradient."""
        self.ask(cases)
        self.loss(self.targets, None)
        self.bound.backward()

    def learning_rate(self, epsilon: float) -> float:
        """Return the engine's learning rate for one of 1986.

        The error was half the squared error, summed over outputs and cases; the
        engine's loss is the mean over both, without the half.
        """
        return epsilon * self.outputs.size / 2


def run(experiment: Experiment, seeds: Sequence[int]) -> list[Run]:
    """Train a net for each seed, until all are done or the limit is reached."""
    net, tasks = begin(experiment, seeds)
    solved: dict[int, int] = {}
    weights: dict[int, Mapping[str, Vector]] = {}
    for sweep, errors in enumerate(train(net, tasks, experiment)):
        for copy in np.flatnonzero(errors < experiment.tolerance):
            if copy not in solved:
                solved[copy], weights[copy] = sweep, net.weights(copy)
        if sweep == experiment.limit or (len(solved) == net.copies and experiment.rests):
            break
    last = {copy: net.weights(copy) for copy in range(net.copies)}
    ended = last | weights if experiment.rests else last
    return [Run(seed, solved.get(copy), ended[copy]) for copy, seed in enumerate(seeds)]


def begin(experiment: Experiment, seeds: Sequence[int]) -> tuple[Net, list[Task]]:
    """Return a net with a copy for each seed, and what each copy is taught."""
    net, tasks = experiment.net(len(seeds)), []
    for copy, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        tasks.append(experiment.task(rng))
        net.draw(copy, experiment.start, rng)
    return net, tasks


def train(net: Net, tasks: Sequence[Task], experiment: Experiment) -> Iterator[Vector]:
    """Train for ever; before each sweep yield the largest error of each copy."""
    network, learns, cases = net.network, net.learns(), cases_of(net, tasks)
    exam = lesson = Lesson(network, len(cases[0]))
    portions = [cases]
    if experiment.step == "case":
        lesson, portions = Lesson(network, 1), list(one_by_one(cases))
    for optimizer, epsilon in paces(network, experiment):
        yield exam.ask(cases).reshape(net.copies, -1).max(axis=1)
        for portion in portions:
            lesson.teach(portion)
            np.multiply(network.gradient, learns, out=network.gradient)
            optimizer.update(lesson.learning_rate(epsilon))
            if experiment.decay > 0:
                np.multiply(network.parameters, 1 - experiment.decay, out=network.parameters)


def cases_of(net: Net, tasks: Sequence[Task]) -> Cases:
    """Return the cases of all copies; inputs that the tasks do not have are 0."""
    inputs = tasks[0].inputs
    rows = np.zeros((len(inputs), net.network.architecture.inputs.units + 1))
    rows[:, : inputs.shape[1]] = inputs
    rows[:, -1] = 1
    low = np.concatenate([task.low.T for task in tasks])
    high = np.concatenate([task.high.T for task in tasks])
    return rows, low, high


def one_by_one(cases: Cases) -> Iterator[Cases]:
    """Yield each case alone, in order."""
    rows, low, high = cases
    for k in range(len(rows)):
        yield rows[k : k + 1], low[:, k : k + 1], high[:, k : k + 1]


def paces(network: Network, experiment: Experiment) -> Iterator[tuple[Optimizer, float]]:
    """Yield for each sweep the optimizer, and the learning rate of 1986."""
    rates = experiment.rates[0]
    optimizer = gradient_descent(network, rates)
    for sweep in count():
        if sweep > 0 and sweep in experiment.rates:
            before, last = rates, optimizer.moments["velocity"]
            rates = experiment.rates[sweep]
            optimizer = gradient_descent(network, rates)
            # The engine's velocity is without the learning rate; the step is to go on as it was.
            optimizer.moments["velocity"][:] = last * (before.epsilon / rates.epsilon)
        yield optimizer, rates.epsilon


def gradient_descent(network: Network, rates: Rates) -> Optimizer:
    """Return ``dw(t) = -epsilon dE/dw(t) + alpha dw(t - 1)``."""
    settings = Sgd(momentum=rates.alpha)
    return build_optimizer(settings, network.parameters, network.gradient, network.decayed())
