"""Schedules: where the learning rate begins, ends, and how it gets there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.schedules import share
from engine.spec import ConstantSchedule, CosineSchedule

FRACTIONS = st.floats(0, 1)


def learning_rate(schedule, base, fraction):
    return base * share(schedule, fraction, epoch=0, falls=0)


@given(fraction=FRACTIONS)
def test_a_constant_schedule_leaves_the_rate_as_it_is(fraction):
    assert learning_rate(ConstantSchedule(), 0.3, fraction) == 0.3


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0, 2.0), (1 / 3, 1.55), (0.5, 1.1), (2 / 3, 0.65), (1, 0.2)]
)
def test_a_cosine_schedule_falls_along_half_a_cosine(fraction, expected):
    assert learning_rate(CosineSchedule(final=0.1), 2.0, fraction) == pytest.approx(expected)


@given(a=FRACTIONS, b=FRACTIONS, final=st.floats(0, 1))
def test_a_cosine_schedule_never_rises_and_stays_within_its_ends(a, b, final):
    early, late = (learning_rate(CosineSchedule(final=final), 1.0, f) for f in sorted([a, b]))
    assert 1 >= early >= late - 1e-15
    assert late >= final * (1 - 1e-15)


def test_a_cosine_schedule_ends_at_nothing_unless_told():
    assert learning_rate(CosineSchedule(), 0.1, 1) == 0
