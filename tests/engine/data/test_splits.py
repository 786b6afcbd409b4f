"""Splits: every row on one side, each class on both, and the same again by seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.splits import folds, split

FRACTIONS = st.floats(0, 1, exclude_max=True)
SEEDS = st.integers(0, 2**32 - 1)
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


def drawn(seed):
    return np.random.default_rng(seed)


def assert_divided(rows, training, validation):
    assert sorted([*training, *validation]) == list(range(rows))
    assert (np.diff(training) > 0).all()
    assert (np.diff(validation) > 0).all()


@given(rows=st.integers(1, 80), fraction=FRACTIONS, seed=SEEDS)
def test_every_row_is_on_one_side_and_one_always_trains(rows, fraction, seed):
    training, validation = split(rows, fraction, drawn(seed))
    assert_divided(rows, training, validation)
    assert len(training) >= 1
    at_least = 1 if fraction > 0 and rows > 1 else 0
    assert len(validation) == min(max(round(rows * fraction), at_least), rows - 1)


@given(labels=LABELS, fraction=FRACTIONS, seed=SEEDS)
def test_each_class_has_its_share_and_keeps_a_row_to_train_on(labels, fraction, seed):
    training, validation = split(len(labels), fraction, drawn(seed), labels)
    assert_divided(len(labels), training, validation)
    classes, sizes = np.unique(labels, return_counts=True)
    shares = np.array([(labels[validation] == label).sum() for label in classes])
    assert set(labels[training]) == set(classes)
    wanted = min(max(round(len(labels) * fraction), fraction > 0), len(labels) - 1)
    assert len(validation) == min(wanted, len(labels) - len(classes))
    exact = len(validation) * sizes / len(labels)
    # A class gets less than its share only to keep its last row, and more only for such a class.
    assert (shares >= np.minimum(np.floor(exact), sizes - 1)).all()
    if (np.floor(exact) < sizes - 1).all():
        assert (np.abs(shares - exact) < 1).all()


@pytest.mark.parametrize(
    ("sizes", "fraction", "shares"),
    [
        ([50, 30, 20], 0.07, [4, 2, 1]),  # of 3.5, 2.1 and 1.4 rows
        ([50, 30, 20], 0.08, [4, 2, 2]),  # of 4.0, 2.4 and 1.6 rows
        ([1, 10], 0.5, [0, 6]),  # of 0.5 and 5.5 rows, but the first class keeps its only one
        ([1, 10], 0.99, [0, 9]),
        ([1, 1, 1], 0.5, [0, 0, 0]),
    ],
)
def test_remainders_go_to_those_who_are_owed_most_and_can_spare_it(sizes, fraction, shares):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    _, validation = split(len(labels), fraction, drawn(0), labels)
    assert np.bincount(labels[validation], minlength=len(sizes)).tolist() == shares


@pytest.mark.parametrize("labels", [None, np.arange(5) % 2])
def test_a_fraction_of_zero_validates_nothing(labels):
    training, validation = split(5, 0.0, drawn(0), labels)
    assert training.tolist() == [0, 1, 2, 3, 4]
    assert validation.size == 0


def test_one_row_trains_whatever_the_fraction():
    training, validation = split(1, 0.9, drawn(0))
    assert (training.tolist(), validation.tolist()) == ([0], [])


@pytest.mark.parametrize("labels", [None, np.arange(40) % 3])
def test_the_seed_decides(labels):
    first, again, other = (split(40, 0.25, drawn(seed), labels)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.tolist() != other.tolist()


def test_every_row_has_the_same_chance():
    times = np.zeros(10)
    for seed in range(2000):
        times[split(10, 0.3, drawn(seed))[1]] += 1
    assert times == pytest.approx(np.full(10, 600), abs=5 * np.sqrt(2000 * 0.3 * 0.7))


@given(labels=LABELS, seed=SEEDS, data=st.data())
def test_every_row_is_in_one_fold_and_each_class_is_spread(labels, seed, data):
    count = data.draw(st.integers(1, len(labels)))
    parts = list(folds(len(labels), count, drawn(seed), labels))
    assert len(parts) == count
    for training, validation in parts:
        assert_divided(len(labels), training, validation)
    held_out = [validation for _, validation in parts]
    assert sorted(np.concatenate(held_out)) == list(range(len(labels)))
    for counted in (np.ones_like(labels), *(labels == label for label in np.unique(labels))):
        sizes = [int(counted[rows].sum()) for rows in held_out]
        assert max(sizes) - min(sizes) <= 1


def test_folds_are_random_and_the_same_again():
    first, again, other = (
        [rows.tolist() for _, rows in folds(30, 3, drawn(seed))] for seed in (1, 1, 2)
    )
    assert first == again != other
