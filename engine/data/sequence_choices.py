"""Choices on sequences: what a spec leaves open about them, and what cannot be, by the profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.data.profiling import ColumnProfile
from engine.data.series import GROUPS, ORDERS, row_count
from engine.data.table import nearest
from engine.errors import SpecError, TiesError
from engine.spec import (
    MAX_STEPS,
    ColumnSpec,
    Loss,
    Poisson,
    Quantile,
    SequenceSpec,
    Task,
    TrainingSpec,
    ValidationDataset,
    ValidationFolds,
)

Profile = Mapping[str, ColumnProfile]


def decide_sequence(
    asked: TrainingSpec, profile: Profile, rows: int, others: Profile
) -> SequenceSpec | None:
    """Return how the rows follow on each other, with nothing left open; None if they do not.

    Parameters
    ----------
    asked : TrainingSpec
    profile : mapping of str to ColumnProfile
        Of the dataset.
    rows : int
        Of the dataset.
    others : mapping of str to ColumnProfile
        Of the dataset to validate on; empty without one.

    Raises
    ------
    SpecError
        What is asked for cannot be; the path points into `sequence`, or to what is against it.
    """
    sequence = asked.sequence
    if sequence is None:
        return None
    _check_column("order", sequence.order, asked, profile)
    if sequence.group is not None:
        _check_column("group", sequence.group, asked, profile)
    if asked.sample_weight is not None:
        reason = "sequences all count alike; leave it out"
        raise SpecError("/sample_weight", reason)
    _check_places(sequence, profile[sequence.order], rows)
    if sequence.window is not None:
        return _forecast(asked, sequence, profile, rows)
    return _whole(asked, sequence, profile, rows, others)


def _check_column(use: str, name: str, asked: TrainingSpec, profile: Profile) -> None:
    path = f"/sequence/{use}"
    if name not in profile:
        raise SpecError(path, f"the dataset has no column {name!r}{nearest(name, profile)}")
    taken = {"target": asked.targets, "feature": asked.features or []}
    if use == "group" and asked.sequence is not None:
        taken["order"] = [asked.sequence.order]
    for other, names in taken.items():
        if name in names:
            raise SpecError(path, f"{name!r} is the {other} as well; it can be but one")
    column, types = profile[name], ORDERS if use == "order" else GROUPS
    if column.type not in types:
        reason = f"column {name!r} is {column.type}; {', '.join(types)} would do"
        raise SpecError(path, reason)
    found = [
        (column.missing, "missing", column.first_missing),
        (column.non_finite, "infinite", column.first_non_finite),
    ]
    for count, what, first in found:
        if count:
            advice = "fill or remove these rows and upload again"
            reason = f"column {name!r} has {count} {what}, the first in row {first}; {advice}"
            raise SpecError(path, reason)


def _check_places(sequence: SequenceSpec, order: ColumnProfile, rows: int) -> None:
    """Refuse one series of which the profile tells that rows are in the same place.

    Of one row more than there are values, two have the same.
    """
    distinct = order.distinct or 0
    if sequence.group is None and distinct < rows and not order.approximate:
        different = "1 value" if distinct == 1 else f"{distinct:,} different values"
        reason = f"column {order.name!r} has {different} in {row_count(rows)}"
        advice = "every row of a series needs a place of its own; name the column that tells"
        raise TiesError(
            "/sequence/order",
            f"{reason}; {advice} series apart in `group`",
            order.name,
            within=distinct + 1,
            count=rows - distinct,
        )


def _forecast(
    asked: TrainingSpec, sequence: SequenceSpec, profile: Profile, rows: int
) -> SequenceSpec:
    for field in ("length", "mask"):
        if getattr(sequence, field) is not None:
            raise SpecError(f"/sequence/{field}", "is for whole series; leave it out with a window")
    if isinstance(asked.validation, ValidationFolds):
        reason = "windows would be learnt from that come after those that are measured"
        raise SpecError("/validation/folds", f"{reason}; a `fraction` takes the latest ones")
    decided = sequence.model_copy(
        update={"horizon": sequence.horizon or 1, "strategy": sequence.strategy or "direct"}
    )
    longest = longest_series(sequence, profile, rows) or rows
    if longest < span(decided):
        reason = f"the longest series has {row_count(longest)}"
        advice = f"window + horizon is {span(decided):,}; use a smaller window or horizon"
        raise SpecError("/sequence/window", f"{reason}, {advice}")
    return decided


def _whole(
    asked: TrainingSpec, sequence: SequenceSpec, profile: Profile, rows: int, others: Profile
) -> SequenceSpec:
    for field in ("horizon", "strategy", "relative"):
        if getattr(sequence, field) is not None:
            raise SpecError(f"/sequence/{field}", "is for forecasts; give a `window` as well")
    if sequence.group is None:
        advice = "give a `window` to forecast, or name the column that tells series apart"
        raise SpecError("/sequence/group", f"without it all rows are one example; {advice}")
    longest = longest_series(sequence, profile, rows)
    if isinstance(asked.validation, ValidationDataset) and longest is not None:
        there = longest_series(sequence, others, 0) if sequence.group in others else 0
        longest = None if there is None else max(longest, there)
    if longest is None and sequence.length is None:
        reason = f"column {sequence.group!r} has too many different values to be counted"
        raise SpecError("/sequence/length", f"{reason}; say how many rows the longest series has")
    length = sequence.length or longest or 1
    if longest is not None and length < longest:
        raise SpecError(
            "/sequence/length", f"the longest series has {row_count(longest)}; at least that"
        )
    if length > MAX_STEPS:
        reason = f"the longest series has {length:,} rows; {MAX_STEPS:,} may be one example"
        raise SpecError("/sequence/group", f"{reason}; give a `window` to forecast")
    alike = length == longest and rows == (profile[sequence.group].distinct or 0) * length
    differ = not alike or isinstance(asked.validation, ValidationDataset)
    mask = differ if sequence.mask is None else sequence.mask
    if not mask and longest is not None and not alike:
        reason = f"series differ in length from {length:,}; only with a mask they may"
        raise SpecError("/sequence/mask", reason)
    return sequence.model_copy(update={"length": length, "mask": mask})


def settle_forecast(sequence: SequenceSpec | None, task: Task, loss: Loss) -> SequenceSpec | None:
    """Return what is decided of a forecast once it is known what is predicted, and how."""
    if sequence is None or sequence.window is None:
        return sequence
    if task == "classification" and (sequence.horizon or 1) > 1:
        raise SpecError("/sequence/horizon", "a class is forecast for the next step; 1 would do")
    if sequence.recurs and task == "classification":
        raise SpecError("/sequence/strategy", "a class is forecast for the next step; leave it out")
    if sequence.recurs and isinstance(loss, Quantile) and len(loss.levels) > 1:
        reason = "an interval of one step cannot be fed back to become one of several"
        raise SpecError("/sequence/strategy", f"{reason}; `direct` would do")
    can = task == "regression" and not isinstance(loss, Poisson)
    if sequence.relative and not can:
        reason = "classes and counts are no differences; leave it out"
        raise SpecError("/sequence/relative", reason)
    relative = can if sequence.relative is None else sequence.relative
    return sequence.model_copy(update={"relative": relative})


def check_recursion(asked: TrainingSpec, features: Sequence[str]) -> None:
    """Refuse to feed a forecast back where more than its targets would have to be known."""
    if asked.sequence is None or not asked.sequence.recurs:
        return
    for name in features:
        if name not in asked.targets:
            path = f"/features/{asked.features.index(name)}" if asked.features else "/features"
            reason = f"{name!r} is not known of the steps that are forecast"
            advice = "give nothing but the target as `features`, or use the strategy `direct`"
            raise SpecError(path, f"{reason}; {advice}")
    for name in asked.targets:
        taken_for = asked.columns.get(name, ColumnSpec()).type
        if taken_for not in (None, "number"):
            reason = f"a forecast is fed back as a number, not as {taken_for}"
            raise SpecError(f"/columns/{name}/type", f"{reason}; leave it out")


def span(sequence: SequenceSpec) -> int:
    """Return how many rows a window takes with what it predicts."""
    return sequence.steps + (sequence.horizon or 1)


def longest_series(sequence: SequenceSpec, profile: Profile, rows: int) -> int | None:
    """Return how many rows the longest series has; None where that was not counted."""
    if sequence.group is None:
        return rows
    top = profile[sequence.group].top
    return int(top[0][1]) if top else None


def most_examples(sequence: SequenceSpec, profile: Profile, rows: int) -> int:
    """Return how many examples there are at most; exactly, where all series are as long."""
    groups = 1
    if sequence.group is not None:
        column = profile[sequence.group]
        groups = rows if column.approximate else column.distinct or 1
    if sequence.window is None:
        return groups
    longest = longest_series(sequence, profile, rows) or rows
    # No more than so many series can be as long as the longest, whatever the others are.
    full = groups if longest == 1 else -(-(rows - groups) // (longest - 1))
    return min(max(full, 1) * max(longest - span(sequence) + 1, 0), rows)
