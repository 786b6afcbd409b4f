"""Schedules: the learning rate as a function of how much of the run is done."""

from __future__ import annotations

import math

from engine import spec


def share(schedule: spec.Schedule, fraction: float, epoch: int, falls: int) -> float:
    """Return the share of the optimizer's learning rate that the next update uses.

    Parameters
    ----------
    schedule : spec.Schedule
    fraction : float
        Share of all updates that are done, from 0 to 1.
    epoch : int
        Epochs that are done.
    falls : int
        How often the loss has come to a plateau.
    """
    if isinstance(schedule, spec.ConstantSchedule):
        return 1.0
    if isinstance(schedule, spec.StepSchedule):
        return schedule.factor ** (epoch // schedule.epochs)
    if isinstance(schedule, spec.ExponentialSchedule):
        return schedule.factor**epoch
    if isinstance(schedule, spec.CosineSchedule):
        return _cosine(schedule, fraction)
    if isinstance(schedule, spec.OneCycleSchedule):
        return _one_cycle(schedule, fraction)
    return max(schedule.factor**falls, schedule.smallest)


def _cosine(schedule: spec.CosineSchedule, fraction: float) -> float:
    """Fall from 1 to ``final`` in every cycle; Loshchilov & Hutter (2017), equation 5."""
    if fraction < schedule.warmup:
        return fraction / schedule.warmup
    done = (fraction - schedule.warmup) / (1 - schedule.warmup)
    return _anneal(1.0, schedule.final, _within_cycle(schedule, done))


def _within_cycle(schedule: spec.CosineSchedule, done: float) -> float:
    """Return how much of the cycle under way is done; each is ``growth`` times the one before."""
    lengths = [schedule.growth**cycle for cycle in range(schedule.cycles)]
    place = min(done, 1.0) * sum(lengths)
    for length in lengths[:-1]:
        if place < length:
            return place / length
        place -= length
    return min(place / lengths[-1], 1.0)


def _one_cycle(schedule: spec.OneCycleSchedule, fraction: float) -> float:
    """Rise to 1, then fall to ``final``; Smith & Topin (2019), along cosines."""
    if fraction < schedule.rise:
        return _anneal(schedule.initial, 1.0, fraction / schedule.rise)
    return _anneal(1.0, schedule.final, (fraction - schedule.rise) / (1 - schedule.rise))


def _anneal(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
