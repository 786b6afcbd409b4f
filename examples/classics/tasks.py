"""Tasks: all cases of each problem, a row of inputs and a row of right answers each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from engine.arrays import Matrix

T = np.array([[1, 1, 1], [0, 1, 0], [0, 1, 0]], dtype=float)
C = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0]], dtype=float)
"""Five squares each; no rotation of the one is a rotation of the other."""

PLANE = 7
"""Height and width of what T and C are seen on."""


@dataclass(frozen=True)
class Task:
    """What is asked, and what is a right answer.

    Parameters
    ----------
    inputs : Matrix of shape (cases, inputs)
    low, high : Matrix of shape (cases, outputs)
        From where to where an output is right; the same number where there is one target.
    """

    inputs: Matrix
    low: Matrix
    high: Matrix


def exact(inputs: Matrix, targets: Matrix) -> Task:
    """Return a task of which every output has one target."""
    return Task(inputs, targets, targets)


def patterns(bits: int) -> Matrix:
    """Return all rows of so many bits."""
    return np.array(list(product([0.0, 1.0], repeat=bits)))


def parity(bits: int) -> Task:
    """1 if the number of ones is odd; of two bits this is the exclusive or."""
    x = patterns(bits)
    return exact(x, x.sum(axis=1, keepdims=True) % 2)


def encoder(units: int) -> Task:
    """Each unit vector is to come out again, past a narrow hidden layer."""
    return exact(np.eye(units), np.eye(units))


def symmetry() -> Task:
    """1 if six bits read the same from both ends."""
    x = patterns(6)
    return exact(x, (x == x[:, ::-1]).all(axis=1, keepdims=True).astype(float))


def addition() -> Task:
    """Two numbers of two bits give one of three bits, the highest bit first."""
    x = patterns(4)
    total = x @ [2, 1, 2, 1]
    return exact(x, np.column_stack([total // 4, total // 2 % 2, total % 2]))


def negation() -> Task:
    """Three bits come out as they are, or all turned over if the first of four is 1."""
    x = patterns(4)
    return exact(x, np.abs(x[:, 1:] - x[:, :1]))


def t_c() -> Task:
    """0 for a T and 1 for a C, in the middle of a plane, each in four rotations."""
    border = (PLANE - len(T)) // 2
    planes = [np.pad(np.rot90(letter, turns), border) for letter in (T, C) for turns in range(4)]
    return exact(np.reshape(planes, (8, -1)), np.repeat([0.0, 1.0], 4)[:, None])
