"""Baselines: what is predicted without a network, on what the network is measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import spec
from engine.data.batches import Examples
from engine.data.sequences import Sequences, count_marked, last_known
from engine.data.series import Rows
from engine.errors import DivergedError
from engine.metrics import classification_metrics
from engine.network import Architecture, Inputs
from engine.spec import ResolvedSpec
from engine.training import TrainingData, start, train

RESAMPLED_STEPS = 24
"""To how many steps series are resampled for a regression."""

RESAMPLED_BYTES = 2**22
"""What they may take."""

CONSTANT = 1e-6
"""What spreads by no more than this is rounding."""

REGRESSION_EPOCHS = 50
"""How many steps of L-BFGS a regression takes."""

REGRESSION_DECAY = 0.1
"""A tenth of what scikit-learn takes unless told otherwise."""


def naive_metrics(examples: Sequences, task: spec.Task) -> dict[str, float]:
    """Measure forecasts of what was last, and of what was a season before.

    Hyndman & Athanasopoulos (2021), "Forecasting: principles and practice", section 5.2.

    Returns
    -------
    dict of str to float
        ``last_value_mae`` and, where the order tells a season, ``seasonal_naive_mae``; for classes
        ``…_accuracy``. Each only if its values are there for every example; they may lie before
        its window.
    """
    ends, season = examples.windows.ends, examples.series.season
    forecasts: dict[str, Callable[[int], Rows]] = {"last_value": lambda _step: ends - 1}
    if season is not None:
        begin = ends - season
        is_there = (begin >= examples.begins).all()
        if is_there and not count_marked(examples.series.gaps, begin + 1, ends).any():
            forecasts["seasonal_naive"] = lambda step: begin + step % season
    metric, measure = ("accuracy", _share) if task == "classification" else ("mae", _error)
    known = last_known(examples.table, examples.targets)
    found = {
        f"{name}_{metric}": _measured(examples, known, rows, measure)
        for name, rows in forecasts.items()
    }
    return {name: figure for name, figure in found.items() if figure is not None}


Measure = Callable[[NDArray[Any], NDArray[Any]], float]


def _share(y: NDArray[Any], true: NDArray[Any]) -> float:
    return float(np.mean(y == true))


def _error(y: NDArray[Any], true: NDArray[Any]) -> float:
    return float(np.abs(y - true).mean())


def _measured(
    examples: Sequences, known: Rows, rows: Callable[[int], Rows], measure: Measure
) -> float | None:
    """Measure a forecast of each step by the last values known in some rows, if there are any."""
    figures, begins = [], examples.begins[:, None]
    columns = [examples.table.column(name).values for name in examples.targets]
    for step, answers in enumerate(examples.answers.T):
        places = known[rows(step)]
        if (places < begins).any():
            return None
        figures += [measure(c[at], c[answers]) for c, at in zip(columns, places.T, strict=True)]
    return float(np.mean(figures))


def logistic_metrics(
    parts: Iterable[tuple[TrainingData, Architecture]],
    settings: ResolvedSpec,
    epochs: int,
    report: Callable[[], None],
) -> dict[str, float]:
    """Measure a softmax regression on whole series, each resampled to `RESAMPLED_STEPS` steps.

    Each number is scaled to mean 0 and deviation 1, and weights decay by `REGRESSION_DECAY` over
    how many series it learns from. Of its epochs the one of the lowest validation loss counts.

    Parameters
    ----------
    parts : iterable of (TrainingData, Architecture)
        What it learns from and is measured on, and the network that it stands beside: one for
        every fold of a cross-validation.
    settings : ResolvedSpec
    epochs : int
        That the networks were trained.
    report : callable
        Called after every step.

    Returns
    -------
    dict of str to float
        ``logistic_regression_accuracy``, of folds their mean, with ``…_deviation``. Empty where
        in any part there are no classes of whole series, none to validate on, or embedded levels;
        where it would be more arithmetic than the training was; where the resampled series
        take more than `RESAMPLED_BYTES`; and where it diverges.
    """
    courses = []
    for data, architecture in parts:
        course = _course(data, settings, architecture, epochs, report)
        if not len(course):
            return {}
        courses.append(course)
    losses, accuracies = np.moveaxis(np.array(courses), 2, 0)
    of_best = accuracies[:, losses.mean(axis=0).argmin()]
    found = {"logistic_regression_accuracy": float(of_best.mean())}
    if len(courses) > 1:
        found["logistic_regression_accuracy_deviation"] = float(of_best.std(ddof=1))
    return found


def _course(
    data: TrainingData,
    settings: ResolvedSpec,
    architecture: Architecture,
    epochs: int,
    report: Callable[[], None],
) -> list[tuple[float, float]]:
    """Return the validation loss and the accuracy after every epoch of a regression."""
    inputs, classes = architecture.inputs, architecture.answers
    whole = settings.sequence is not None and settings.sequence.window is None
    if not whole or settings.task != "classification" or data.validation is None or inputs.levels:
        return []
    units = RESAMPLED_STEPS * data.training.x.shape[1]
    regression = Architecture(spec.NetworkSpec(layers=[]), Inputs((units,)), classes, "softmax")
    work, limit = (each.multiply_adds(learns=True) for each in (regression, architecture))
    size = units * data.training.x.itemsize * (len(data.training) + len(data.validation))
    if work * REGRESSION_EPOCHS > limit * epochs or size > RESAMPLED_BYTES:
        return []
    asked = settings.model_copy(
        update={
            "network": regression.hidden,
            "loss": spec.CrossEntropy(),
            "optimizer": spec.Lbfgs(weight_decay=REGRESSION_DECAY / len(data.training)),
            "schedule": spec.ConstantSchedule(),
            "training": spec.TrainingRun(epochs=REGRESSION_EPOCHS, batch_size="full"),
        }
    )
    training, validation = (resampled(e, classes) for e in (data.training, data.validation))
    center, spread = training.x.mean(axis=0), training.x.std(axis=0)
    for examples in (training, validation):
        examples.x[:, :-1] -= center[:-1]
        examples.x[:, :-1] /= np.where(spread > CONSTANT, spread, 1)[:-1]
    measured = TrainingData(training, validation, classification_metrics)
    points = []
    try:
        for progress in train(start(asked, regression), measured, asked):
            report()
            points += [] if progress.point is None else [progress.point]
    except DivergedError:  # which is no fault of the network's
        return []
    return [
        (point.validation_loss, point.metrics["accuracy"])
        for point in points
        if point.validation_loss is not None
    ]


WINS, LOSES = "beats", "does not beat"


def compare(metrics: Mapping[str, float], baselines: Mapping[str, float]) -> tuple[str, ...]:
    """Say which baselines a network beats, and which not.

    Parameters
    ----------
    metrics : mapping of str to float
        Of the network, by the same names but for that of the baseline before them.
    baselines : mapping of str to float
    """
    notes = []
    for metric, sign in (("mae", -1), ("accuracy", 1)):
        found = {n: y for n, y in baselines.items() if n.endswith(f"_{metric}")}
        if not found or metric not in metrics:
            continue
        won = {n: y for n, y in found.items() if sign * metrics[metric] > sign * y}
        lost = {n: y for n, y in found.items() if n not in won}
        parts = [f"{what} {_named(some)}" for what, some in ((WINS, won), (LOSES, lost)) if some]
        notes.append(f"the network, of {metric} {metrics[metric]:.4g}, {' and '.join(parts)}")
    return tuple(notes)


def _named(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} ({figure:.4g})" for name, figure in figures.items())


def resampled(examples: Examples, classes: int) -> Examples:
    """Return series of as many steps each, one example after another."""
    windows, width = examples.windows, examples.x.shape[1]
    if windows is None:
        raise TypeError("rows are no series")
    lengths = windows.ends - windows.starts
    place = (lengths - 1)[:, None] * np.linspace(0, 1, RESAMPLED_STEPS)
    before = np.minimum(place.astype(np.intp), np.maximum(lengths - 2, 0)[:, None])
    after = np.minimum(before + 1, (lengths - 1)[:, None])
    share = (place - before)[:, :, None].astype(examples.x.dtype)
    low, high = (examples.x[windows.starts[:, None] + step] for step in (before, after))
    x = np.ones((len(examples), RESAMPLED_STEPS * width + 1), dtype=examples.x.dtype)
    x[:, :-1] = (low + share * (high - low)).reshape(len(examples), -1)
    return Examples(x, examples.y, classes)
