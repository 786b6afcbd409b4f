"""Ask how fast the engine trains and predicts, beside PyTorch, scikit-learn and JAX.

All of them take the same weights, data and order of rows, in one process and
in turn, round by round; before the clock starts, their losses of an epoch have
to agree. A ratio is the median over the rounds of a peer's time over ours, so
above 1 we are faster. With one thread the clock is the process's own time,
which stands still while others have the core; with more it is the wall's.

The peers are no part of the service. To have them:

    uv pip install --group benchmark

    python -m benchmarks.engine                            # one thread
    python -m benchmarks.engine --threads 2
    python -m benchmarks.engine --only iris,lenet --rounds 15
    python -m benchmarks.engine --stacked                  # many networks at once, beside one
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.peers import Contender, Jax, ScikitLearn, Torch, Workload
from engine import spec
from engine.arrays import Labels, Matrix
from engine.data.batches import Examples
from engine.network import Inputs
from engine.stack import Stack
from engine.training import ORDER_STREAM, Loop, TrainingData, architecture_of, start, train

ROUND_SECONDS = 0.05
"""How long a contender is timed in a round, about: short, so that all see the same machine."""

TOLERANCE = 1e-3
"""How far the losses of an epoch may be apart; scikit-learn's Adam has another epsilon."""

SEED = 0


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    name: str
    hidden: list[spec.Layer]
    outputs: int
    batch_size: int
    batches: int
    shape: tuple[int, ...]
    """Of an example; of a sequence its steps, and the numbers of one."""
    optimizer: spec.Adam | spec.Sgd = field(default_factory=spec.Adam)
    classifies: bool = True

    @property
    def inputs(self) -> int:
        """How many numbers one example has."""
        return math.prod(self.shape)

    @property
    def fed(self) -> Inputs:
        """What the network is fed."""
        if len(self.shape) != 2:
            return Inputs(self.shape)
        steps, width = self.shape
        return Inputs((width,)).repeated(steps, masked=False)


def _dense(*units: int) -> list[spec.Layer]:
    return [spec.DenseLayer(units=count) for count in units]


LENET: list[spec.Layer] = [
    spec.Conv2dLayer(filters=6, kernel=5, padding=2),
    spec.MaxPool2dLayer(),
    spec.Conv2dLayer(filters=16, kernel=5),
    spec.MaxPool2dLayer(),
    spec.FlattenLayer(),
    *_dense(120, 84),
]

SGD = spec.Sgd()

CASES = [
    Case("iris", _dense(16), 3, 16, 100, (4,)),
    Case("digits", _dense(128, 64), 10, 32, 50, (64,)),
    Case("table", _dense(256, 256), 1, 256, 32, (30,), classifies=False),
    Case("image", _dense(512, 256), 10, 128, 32, (784,)),
    Case("image-sgd", _dense(512, 256), 10, 128, 32, (784,), SGD),
    Case("wide", _dense(2048, 2048), 10, 512, 2, (1024,), SGD),
    Case("lenet", LENET, 10, 64, 16, (1, 28, 28)),
    Case("rnn", [spec.RnnLayer(units=64)], 10, 64, 16, (50, 8)),
    Case("gru", [spec.GruLayer(units=64)], 10, 64, 16, (50, 8)),
    Case("lstm", [spec.LstmLayer(units=64)], 10, 64, 16, (50, 8)),
]

PREDICTED = ("iris", "digits", "table", "image", "lenet", "rnn", "gru", "lstm")
ROWS = (1, 1024)

STACKED = [
    Case("iris", _dense(16), 3, 16, 100, (4,)),
    *(
        Case(f"32-{width}-{width}-10, batch {batch}", _dense(width, width), 10, batch, 40, (32,))
        for width, batch in ((16, 32), (32, 32), (64, 32), (64, 128), (128, 32))
    ),
    Case("digits", _dense(128, 64), 10, 32, 50, (64,)),
]
MEMBERS = (2, 3, 8, 32)
"""How many networks are trained at once."""


class Ours:
    """The engine: its own training loop, asked for one epoch after another.

    Parameters
    ----------
    case : Case
    """

    def __init__(self, case: Case) -> None:
        rng, rows = np.random.default_rng(SEED), case.batch_size * case.batches
        x = np.ones((rows, case.inputs + 1), dtype=np.float32)
        for batch in np.split(x, case.batches):
            batch[:, :-1] = rng.standard_normal((len(batch), case.inputs), dtype=np.float32)
        drawn = rng.standard_normal((rows, case.outputs), dtype=np.float32)
        y = drawn.argmax(axis=1) if case.classifies else drawn
        self.settings = spec.ResolvedSpec(
            target="y",
            features=["x"],
            task="classification" if case.classifies else "regression",
            network=spec.NetworkSpec(layers=case.hidden),
            loss=spec.CrossEntropy() if case.classifies else spec.SquaredError(),
            optimizer=case.optimizer,
            training=spec.TrainingRun(epochs=1_000_000, batch_size=case.batch_size),
            validation=spec.ValidationPart(fraction=0),
            seed=SEED,
        )
        architecture = architecture_of(self.settings, case.fed, case.outputs)
        self.state = start(self.settings, architecture)
        self.case, self.x, self.y = case, x, y
        self.first = {name: kept.copy() for name, kept in self.state.network.tensors().items()}
        self.data = TrainingData(Examples(x, y, case.outputs), None, lambda _y, _t: {})
        self.progress = train(self.state, self.data, self.settings)

    @cached_property
    def workload(self) -> Workload:
        """The same, for a peer."""
        return Workload(
            layers=self.case.hidden,
            shape=self.case.shape,
            x=np.ascontiguousarray(self.x[:, :-1]),
            y=self.y,
            outputs=self.case.outputs,
            batch_size=self.case.batch_size,
            optimizer=self.case.optimizer,
            weights=self.first,
            order=self.order,
        )

    def order(self, epoch: int) -> Labels:
        """Return the order of an epoch's rows, as the training loop draws it."""
        rng = np.random.default_rng([SEED, ORDER_STREAM, epoch])
        return rng.permutation(len(self.x))

    def epoch(self, number: int) -> float:  # noqa: ARG002 - the loop counts
        """Train for an epoch; return the mean loss."""
        while (point := next(self.progress).point) is None:
            pass
        return point.train_loss

    def predict(self, rows: Matrix) -> Callable[[], Any]:
        """Return what predicts these rows."""
        network = self.state.network
        with_ones = np.ones((len(rows), rows.shape[1] + 1), dtype=rows.dtype)
        with_ones[:, :-1] = rows
        return lambda: network.predict(with_ones)


def peers(workload: Workload) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """Yield the peers that are installed and can train this, by name."""
    if find_spec("torch"):
        yield "torch eager", lambda: Torch(workload)
        yield "torch foreach", lambda: Torch(workload, foreach=True)
        yield "torch fused", lambda: Torch(workload, fused=True)
        yield "torch compile", lambda: Torch(workload, fused=True, compiles=True)
    if find_spec("sklearn") and not (workload.has_images or workload.has_sequences):
        yield "scikit-learn", lambda: ScikitLearn(workload)
    if find_spec("jax"):
        yield "jax step", lambda: Jax(workload, scans=False)
        yield "jax scan", lambda: Jax(workload, scans=True)


NAMES = [
    "torch eager",
    "torch foreach",
    "torch fused",
    "torch compile",
    "scikit-learn",
    "jax step",
    "jax scan",
]


PREDICTING = {
    "torch eager": "torch eager",
    "torch compile": "torch compile",
    "scikit-learn": "scikit-learn",
    "jax scan": "jax jit",
}


@dataclass
class Timed:
    """A function that is timed in rounds of several calls each."""

    run: Callable[[], Any]
    calls: int = 1
    microseconds: list[float] = field(default_factory=list)

    def calibrate(self) -> None:
        """Warm up, and choose how many calls a round has."""
        self.run()
        seconds = min(self._seconds(1) for _ in range(3))
        self.calls = max(1, round(ROUND_SECONDS / seconds))

    def round(self) -> None:
        """Time a round."""
        self.microseconds.append(self._seconds(self.calls) / self.calls * 1e6)

    def _seconds(self, calls: int) -> float:
        clock = time.process_time if len(os.sched_getaffinity(0)) == 1 else time.perf_counter
        begin = clock()
        for _ in range(calls):
            self.run()
        return clock() - begin


def race(ours: Callable[[], Any], others: dict[str, Callable[[], Any]], rounds: int) -> Result:
    """Time all in turn, round by round."""
    timed = {"ours": Timed(ours), **{name: Timed(run) for name, run in others.items()}}
    for one in timed.values():
        one.calibrate()
    for _ in range(rounds):
        for one in timed.values():
            one.round()
    mine = timed.pop("ours").microseconds
    return Result(
        statistics.median(mine),
        {
            name: statistics.median(t / o for t, o in zip(one.microseconds, mine, strict=True))
            for name, one in timed.items()
        },
    )


@dataclass(frozen=True)
class Result:
    """Our median time of a call, and the median ratios of the others' times to it."""

    microseconds: float
    ratios: dict[str, float]


class _Epochs:
    """Counts the epochs of a contender."""

    def __init__(self, contender: Contender) -> None:
        self.contender, self.done = contender, 0

    def __call__(self) -> float:
        self.done += 1
        return self.contender.epoch(self.done - 1)


def training(case: Case, rounds: int) -> Result:
    """Race through epochs; our time is that of one step."""
    ours = Ours(case)
    mine, others = _Epochs(ours), {}
    loss = mine()
    for name, build in peers(ours.workload):
        others[name] = _Epochs(build())
        check(name, others[name](), loss)
    result = race(mine, others, rounds)
    return Result(result.microseconds / case.batches, result.ratios)


def check(name: str, loss: float, ours: float) -> None:
    """Refuse a peer that has not computed the same."""
    if not math.isclose(loss, ours, rel_tol=TOLERANCE):
        raise SystemExit(f"the loss of {name} is {loss}, ours is {ours}")


class Stacked:
    """Networks of the engine that are trained as a stack, whether or not that is quicker.

    Parameters
    ----------
    case : Case
    members : int
    """

    def __init__(self, case: Case, members: int) -> None:
        all_ours = [Ours(case) for _ in range(members)]
        self.loops = [Loop(ours.state, ours.data, ours.settings) for ours in all_ours]
        self.stack = Stack(self.loops)

    def epoch(self) -> float:
        """Train all for an epoch; return the mean loss of the last."""
        for _ in self.stack.rest_of_epoch():
            pass
        return [loop.end_epoch() for loop in self.loops][-1].train_loss


def stacking(case: Case, rounds: int) -> Result:
    """Race one network against stacks: its time of a step, and over it that of a member."""
    mine, others = _Epochs(Ours(case)), {}
    loss = mine()
    for members in MEMBERS:
        stacked = Stacked(case, members)
        check(f"a stack of {members}", stacked.epoch(), loss)
        others[f"K = {members}"] = stacked.epoch
    result = race(mine, others, rounds)
    shares = zip(result.ratios.items(), MEMBERS, strict=True)
    ratios = {name: ratio / members for (name, ratio), members in shares}
    return Result(result.microseconds / case.batches, ratios)


def inference(case: Case, count: int, rounds: int) -> Result:
    """Race through predictions of the same rows."""
    ours = Ours(case)
    rows = np.resize(ours.workload.x, (count, case.inputs))
    others = {}
    for name, build in peers(ours.workload):
        if name in PREDICTING:
            others[PREDICTING[name]] = build().predict(rows)
    mine, answers = ours.predict(rows), ours.predict(rows)()
    for name, predict in others.items():
        theirs = np.asarray(predict()).reshape(answers.shape)
        if not np.allclose(theirs, answers, rtol=1e-3, atol=1e-4):
            raise SystemExit(f"{name} does not predict what we do")
    return race(mine, others, rounds)


def products(case: Case) -> Callable[[], None]:
    """Return what makes the matrix products of a step of dense layers, and nothing else."""
    rng, batch = np.random.default_rng(SEED), case.batch_size
    widths = [case.inputs, *(layer.units for layer in case.hidden if hasattr(layer, "units"))]
    calls = []

    def drawn(*shape: int) -> Matrix:
        return rng.standard_normal(shape, dtype=np.float32)

    for depth, (n_in, n_out) in enumerate(pairwise([*widths, case.outputs])):
        w, x, z, d_w, d_x = (
            drawn(*shape)
            for shape in (
                (n_out, n_in),
                (n_in, batch),
                (n_out, batch),
                (n_out, n_in),
                (n_in, batch),
            )
        )
        calls += [(w, x, z.copy()), (z, x.T, d_w)]
        if depth:
            calls += [(w.T, z, d_x)]

    def run() -> None:
        for a, b, out in calls:
            a.dot(b, out=out)

    return run


def product_share(case: Case, rounds: int) -> float:
    """Return the time of a step's matrix products over that of the step."""
    result = race(_Epochs(Ours(case)), {"products": products(case)}, rounds)
    return result.ratios["products"] * case.batches


MEMORY = Case("memory", _dense(2048, 2048), 10, 512, 32, (1024,))


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def print_memory() -> None:
    """Print what a training takes, in a process of its own, and what the rule allows."""
    before_bytes = peak_bytes()
    ours = Ours(MEMORY)
    ours.first.clear()
    ours.epoch(0)
    taken_bytes = peak_bytes() - before_bytes
    network = ours.state.network
    slots = len(ours.state.optimizer.moments)
    rows = MEMORY.batch_size * MEMORY.batches
    units = MEMORY.inputs + sum(layer.output_shape[0] for layer in network.layers.values())
    rule_bytes = 4 * (
        rows * MEMORY.inputs + network.parameters.size * (2 + slots) + units * MEMORY.batch_size
    )
    print(f"{taken_bytes / 2**20:.0f} {rule_bytes / 2**20:.0f}")


def memory() -> str:
    """Say what a training of the wide net by Adam takes."""
    command = [sys.executable, "-m", "benchmarks.engine", "--print-memory"]
    taken, rule = subprocess.check_output(command, text=True).split()  # noqa: S603 - this file
    return (
        f"Memory, wide net by Adam: {taken} MiB beyond the imports; data + parameters × (2 + slots)"
        f" + a batch's activations are {rule} MiB: {int(taken) / int(rule):.2f}×"
    )


def pin(threads: int) -> None:
    """Start again on as many cores: BLAS, OpenMP and XLA have a thread for each that they see."""
    cores = os.sched_getaffinity(0)
    if len(cores) > threads:
        os.sched_setaffinity(0, sorted(cores)[-threads:])
        again = [sys.executable, "-m", "benchmarks.engine", *sys.argv[1:]]
        os.execv(sys.executable, again)  # noqa: S606 - this file


def describe(threads: int, rounds: int) -> str:
    """Say what is measured on what."""
    said = [f"Python {sys.version.split()[0]}", f"NumPy {np.__version__}"]
    for package in ("torch", "scikit-learn", "jax"):
        try:
            said.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            said.append(f"{package} is not installed and left out")
    load = os.getloadavg()[0]
    said.append(f"{threads} thread(s), medians of {rounds} rounds, load {load:.1f}")
    return ", ".join(said)


def table(title: str, names: list[str], results: Iterator[tuple[str, Result]]) -> Table:
    """Draw results: our time, and the others' over it."""
    drawn = Table(title=title)
    for column in ("", "ours, µs", *names):
        drawn.add_column(column, justify="right" if column else "left")
    for name, result in results:
        ratios = (result.ratios.get(peer) for peer in names)
        shown = (f"{ratio:.2f}" if ratio is not None else "–" for ratio in ratios)
        drawn.add_row(name, f"{result.microseconds:,.1f}", *shown)
    return drawn


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="rows of the table, by name and with commas between")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--stacked", action="store_true", help="only what stacks take")
    parser.add_argument("--print-memory", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.print_memory:
        print_memory()
        return
    pin(asked.threads)
    console = Console(width=None if sys.stdout.isatty() else 160)
    if asked.stacked:
        console.print(describe(asked.threads, asked.rounds))
        columns = [f"K = {members}" for members in MEMBERS]
        steps = ((case.name, stacking(case, asked.rounds)) for case in STACKED)
        console.print(table("A step of a member of a stack; its time over ours", columns, steps))
        return
    chosen = set(asked.only.split(",")) if asked.only else {case.name for case in CASES}
    cases = [case for case in CASES if case.name in chosen]
    console.print(describe(asked.threads, asked.rounds))
    steps = ((case.name, training(case, asked.rounds)) for case in cases)
    console.print(table("A training step; others' time over ours", NAMES, steps))
    predictions = (
        (f"{case.name}, {count} rows", inference(case, count, asked.rounds))
        for case in cases
        for count in ROWS
        if case.name in PREDICTED
    )
    console.print(
        table("A prediction; others' time over ours", [*PREDICTING.values()], predictions)
    )
    for case in cases:
        if case.name in {"image", "image-sgd", "wide"}:
            share = product_share(case, asked.rounds)
            console.print(f"Matrix products alone over our step, {case.name}: {share:.2f}")
    console.print(memory())


if __name__ == "__main__":
    main()
