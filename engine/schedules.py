"""Schedules: the learning rate as a function of how much of the run is done."""

from __future__ import annotations

import math

from engine.spec import CosineSchedule, Schedule


def learning_rate(schedule: Schedule, base: float, fraction: float) -> float:
    """Return the learning rate of the step before which ``fraction`` of all steps are done.

    Parameters
    ----------
    schedule : Schedule
    base : float
        The optimizer's learning rate.
    fraction : float
        From 0 to 1.
    """
    if isinstance(schedule, CosineSchedule):
        return base * _cosine(schedule.final, fraction)
    return base


def _cosine(final: float, fraction: float) -> float:
    """Fall from 1 to ``final``; Loshchilov & Hutter (2017), equation 5, without restarts."""
    return final + (1 - final) * (1 + math.cos(math.pi * fraction)) / 2
