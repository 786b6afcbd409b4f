"""Findings: what the hidden units have learnt, beside right answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.arrays import Matrix, Tensor
from examples.classics import families
from examples.classics.experiments import FAMILIES, SYMMETRY, Experiment
from examples.classics.runs import Lesson, Run, cases_of, run

SHARP = 0.1
"""Symmetry nets are looked at, and drawn, when their outputs are nearer than this."""


@dataclass(frozen=True)
class SymmetryFindings:
    """What nets learn that tell palindromes.

    Parameters
    ----------
    nets : int
        How many were looked at.
    unequal : float
        The largest difference between opposite weights, as a share of the net's largest weight.
    doubling, stepping : int
        In how many the three sizes of weights are as 1 : 2 : 4, and as 2 : 3 : 4.
    quickest : Run
        The net to draw.
    """

    nets: int
    unequal: float
    doubling: int
    stepping: int
    quickest: Run


@dataclass(frozen=True)
class FamilyFindings:
    """What nets learn that answer questions about two families.

    Parameters
    ----------
    nets : int
        How many were looked at.
    taught : float
        Share of the questions taught that are answered right at the end.
    perfect, held_out : int
        Nets that answer all of these right; right answers to questions that were not taught.
    nationality : float
        Mean over nets: how the unit that tells it best correlates with a person's nationality.
    """

    nets: int
    taught: float
    perfect: int
    held_out: int
    nationality: float


def tensors(experiment: Experiment, of: Run) -> Mapping[str, Tensor]:
    """Return the weights and biases of a net that is alone, in their shapes."""
    net = experiment.net(1)
    net.put(0, of.weights)
    return net.network.tensors()


def to_hidden(of: Run) -> Matrix:
    """Return the weights of a symmetry net from six inputs to two hidden units."""
    return tensors(SYMMETRY, of)["layers.0.weight"]


def unequal(weights: Matrix) -> float:
    """Return how far weights of opposite inputs are from equal and opposite; the largest is 1."""
    return float(np.abs(weights + weights[:, ::-1]).max() / np.abs(weights).max())


def are_as(weights: Matrix, ratio: Sequence[int]) -> bool:
    """Whether the sizes of weights have a ratio such as 1 : 2 : 4, in any order."""
    sizes = np.sort(np.abs(weights[:, :3]), axis=1)
    return bool(np.allclose(sizes / sizes[:, -1:], np.divide(ratio, max(ratio)), atol=0.02))


def look_at_symmetry(runs: Sequence[Run]) -> SymmetryFindings:
    """Train the nets that have solved it until their answers are clear, and look at the weights."""
    seeds = [one.seed for one in runs if one.sweeps is not None]
    sharp = run(replace(SYMMETRY, tolerance=SHARP), seeds)
    return SymmetryFindings(
        nets=len(sharp),
        unequal=max(unequal(to_hidden(one)) for one in sharp),
        doubling=sum(are_as(to_hidden(one), (1, 2, 4)) for one in sharp),
        stepping=sum(are_as(to_hidden(one), (2, 3, 4)) for one in sharp),
        quickest=min(sharp, key=lambda one: one.sweeps or SYMMETRY.limit),
    )


def look_at_families(runs: Sequence[Run]) -> FamilyFindings:
    """Ask all 104 questions, and look at the six units that see the person."""
    right = np.array([answers(one) for one in runs])
    taught = np.array([was_taught(one) for one in runs])
    return FamilyFindings(
        nets=len(runs),
        taught=float(right[taught].mean()),
        perfect=int((right | ~taught).all(axis=1).sum()),
        held_out=int(right[~taught].sum()),
        nationality=float(np.mean([nationality(one) for one in runs])),
    )


def answers(of: Run) -> Matrix:
    """Return for every question whether all outputs are on the right side of 1/2."""
    net, task = FAMILIES.net(1), families.TREES
    net.put(0, of.weights)
    errors = Lesson(net.network, len(task.inputs)).ask(cases_of(net, [task]))
    return (errors < FAMILIES.tolerance).all(axis=0)


def was_taught(of: Run) -> Matrix:
    """Return for every question whether the net was taught its answer."""
    taught = np.ones(len(families.ANSWERS), dtype=bool)
    taught[families.held_out(np.random.default_rng(of.seed))] = False
    return taught


def nationality(of: Run) -> float:
    """Return the largest correlation, of either sign, of a unit with being English."""
    weights = tensors(FAMILIES, of)
    seen, bias = weights["layers.0.weight"][:6, :24], weights["layers.0.bias"][:6]
    codes = 1 / (1 + np.exp(-seen - bias[:, None]))
    english = np.arange(24) < 12
    return max(abs(float(np.corrcoef(code, english)[0, 1])) for code in codes)
