"""Experiments: every row of the table; which net learns what, how, and what came of it in 1986."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from examples.classics import families, tasks
from examples.classics.nets import Net, direct, layered, shared_field, two_codes
from examples.classics.tasks import Task

Step = Literal["case", "sweep"]


@dataclass(frozen=True)
class Rates:
    """The numbers of a step, ``dw(t) = -epsilon dE/dw(t) + alpha dw(t - 1)``."""

    epsilon: float
    alpha: float = 0.0


@dataclass(frozen=True)
class Expected:
    """What another program found, which has no layers: its own few lines of NumPy for each net.

    Parameters
    ----------
    solved : float
        Share of the seeds.
    sweeps : int or None
        Their median.
    """

    solved: float
    sweeps: int | None = None

    def agrees(self, solved: float, sweeps: float | None) -> bool:
        """Whether these figures may be those of other seeds."""
        if abs(solved - self.solved) > 0.15:
            return False
        return self.sweeps is None or sweeps is None or 0.6 <= sweeps / self.sweeps <= 1.7


@dataclass(frozen=True, eq=False)
class Experiment:
    """A net that learns a task; no two are the same.

    Parameters
    ----------
    problem, size : str
        What the row is called.
    task : callable
        From a generator, as something may be drawn.
    net : callable
        From how many copies there are to be.
    step : "case" or "sweep"
        Whether weights change after each case, in order, or after each sweep through all cases.
    rates : mapping of int to Rates
        By the first sweep that they hold for; where they change, there is momentum.
    expected : Expected
    paper : str
        What came of it in 1986.
    start : float
        Weights and biases are drawn uniformly from minus this to this.
    tolerance : float
        An output is right if it is nearer than this to what it should be.
    limit : int
        Sweeps after which a seed counts as not solved.
    rests : bool
        Whether training ends when all answers are right.
    decay : float
        Share of every weight that a step takes away.
    abreast : int
        How many copies are trained side by side.
    """

    problem: str
    size: str
    task: Callable[[np.random.Generator], Task]
    net: Callable[[int], Net]
    step: Step
    rates: Mapping[int, Rates]
    expected: Expected
    paper: str = "–"
    start: float = 0.5
    tolerance: float = 0.4
    limit: int = 20_000
    rests: bool = True
    decay: float = 0.0
    abreast: int = 25


def always(task: Task) -> Callable[[np.random.Generator], Task]:
    """Return what draws nothing."""
    return lambda _rng: task


def plain(
    problem: str,
    task: Task,
    sizes: tuple[int, ...],
    step: Step,
    rates: Rates,
    expected: Expected,
    paper: str = "–",
    **rest: Any,
) -> Experiment:
    """Return an experiment with a net of which each layer sees all of the one below."""
    size, net = "-".join(map(str, sizes)), partial(layered, sizes)
    return Experiment(problem, size, always(task), net, step, {0: rates}, expected, paper, **rest)


XOR, FOUR_BITS = tasks.parity(2), tasks.parity(4)

EXCLUSIVE_OR = (
    Experiment(
        problem="XOR",
        size="2-1-1, direct links",
        task=always(XOR),
        net=direct,
        step="case",
        rates={0: Rates(0.5)},
        expected=Expected(1.0, 1667),
        paper="558 sweeps",
    ),
    plain("XOR", XOR, (2, 2, 1), "case", Rates(0.25), Expected(0.90, 3872), "2 of hundreds stuck"),
    plain("XOR", XOR, (2, 2, 1), "case", Rates(0.5), Expected(0.89, 1720), "none stuck"),
    plain("XOR", XOR, (2, 2, 1), "sweep", Rates(0.5, 0.9), Expected(0.94, 250)),
)

CHAUVIN = {
    2: ("247 presentations", Expected(0.89, 370)),
    4: ("214 presentations", Expected(1.0, 285)),
    8: ("181 presentations", Expected(1.0, 235)),
    16: ("148 presentations", Expected(1.0, 182)),
    32: ("115 presentations", Expected(1.0, 160)),
}
"""By hidden units; the paper's figures are Yves Chauvin's ``280 - 33 log2(hidden units)``."""

HIDDEN_UNITS = tuple(
    plain("XOR", XOR, (2, hidden, 1), "case", Rates(0.25, 0.9), expected, paper)
    for hidden, (paper, expected) in CHAUVIN.items()
)

PARITY = (
    plain(
        "parity", FOUR_BITS, (4, 4, 1), "case", Rates(0.5), Expected(0.09), "2,825 presentations"
    ),
    plain("parity", FOUR_BITS, (4, 4, 1), "sweep", Rates(0.5, 0.9), Expected(0.41)),
    plain("parity", FOUR_BITS, (4, 8, 1), "sweep", Rates(0.1, 0.9), Expected(1.0, 850), start=1.0),
)

EIGHT, FOUR = tasks.encoder(8), tasks.encoder(4)

ENCODER = (
    plain("encoder", EIGHT, (8, 3, 8), "sweep", Rates(0.1, 0.9), Expected(1.0, 635), "learnt"),
    plain("encoder", EIGHT, (8, 3, 8), "case", Rates(0.25), Expected(1.0, 2050), "learnt"),
    plain("encoder", FOUR, (4, 2, 4), "sweep", Rates(0.5, 0.9), Expected(1.0, 67)),
)


def symmetry(epsilon: float, expected: Expected, paper: str = "–") -> Experiment:
    """Return an experiment whose net is to tell whether six bits are a palindrome."""
    return plain(
        "symmetry",
        tasks.symmetry(),
        (6, 2, 1),
        "sweep",
        Rates(epsilon, 0.9),
        expected,
        paper,
        start=0.3,
        tolerance=0.5,
    )


SYMMETRY = symmetry(0.1, Expected(0.94, 3455), "1,425 sweeps")
SLOWER_SYMMETRY = symmetry(0.03, Expected(1.0, 880))

ADD, NEGATE = tasks.addition(), tasks.negation()

ARITHMETIC = (
    plain("addition", ADD, (4, 8, 3), "sweep", Rates(0.1, 0.9), Expected(1.0, 300)),
    plain("addition", ADD, (4, 3, 3), "case", Rates(0.5), Expected(0.0), "some stuck (2 hidden)"),
    plain("negation", NEGATE, (4, 6, 3), "sweep", Rates(0.1, 0.9), Expected(0.95, 315), "learnt"),
)


def t_c(epsilon: float, expected: Expected) -> Experiment:
    """Return an experiment whose net is to tell T from C."""
    return Experiment(
        problem="T-C",
        size="49-25-1, one field",
        task=always(tasks.t_c()),
        net=shared_field,
        step="sweep",
        rates={0: Rates(epsilon, 0.9)},
        expected=expected,
        paper="5,000 to 10,000 presentations",
        start=1.0,
    )


def family_trees(
    first: Rates, then: Rates, start: float, decay: float, expected: Expected, paper: str = "–"
) -> Experiment:
    """Return an experiment whose net is to answer questions about two families."""
    return Experiment(
        problem="families",
        size="24-6 and 12-6, 12-6-24",
        task=families.all_but_some,
        net=two_codes,
        step="sweep",
        rates={0: first, 20: then},
        expected=expected,
        paper=paper,
        start=start,
        decay=decay,
        tolerance=0.3,
        limit=1500,
        rests=False,
        abreast=10,
    )


PAPERS_FAMILIES = family_trees(
    Rates(0.005, 0.5), Rates(0.001, 0.9), 0.3, 0.002, Expected(0.0), "learnt in 1,500 sweeps"
)
FAMILIES = family_trees(Rates(0.025, 0.5), Rates(0.05, 0.9), 1.0, 0.0002, Expected(35 / 40))

EXPERIMENTS = (
    *EXCLUSIVE_OR,
    *HIDDEN_UNITS,
    *PARITY,
    *ENCODER,
    SYMMETRY,
    SLOWER_SYMMETRY,
    *ARITHMETIC,
    t_c(0.1, Expected(0.50, 1465)),
    t_c(0.03, Expected(0.72, 3017)),
    PAPERS_FAMILIES,
    FAMILIES,
)
