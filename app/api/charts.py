"""A loss curve in the form that the caller accepts: JSON, CSV, SVG or PNG."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from flask import Response

from app.api.conditional import answer_json
from app.api.drawings import PICTURES, answer_drawn, blank, wanted_form

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMS = ("application/json", "text/csv", *PICTURES)

COLUMNS = ("epoch", "step", "train_loss", "validation_loss", "learning_rate", "seconds")
"""What every point has; the metrics stand after them."""

Point = dict[str, Any]


def answer_curve(points: list[Point]) -> Response:
    """Answer with the points of a curve, by ``Accept``."""
    form = wanted_form(FORMS)
    if form == "application/json":
        response = answer_json({"points": points})
    elif form == "text/csv":
        response = Response(_csv(points), content_type="text/csv; charset=utf-8")
    else:
        return answer_drawn(_drawn(points), form)
    response.vary.add("Accept")
    return response


DEVIATION = "validation_loss_deviation"
"""What the points of a cross-validation have, beside the mean."""


def _csv(points: list[Point]) -> str:
    text = io.StringIO()
    names = dict.fromkeys([*COLUMNS, *(name for point in points for name in point)])
    writer = csv.DictWriter(text, list(names))
    writer.writeheader()
    writer.writerows(points)
    return text.getvalue()


def _drawn(points: list[Point]) -> Figure:
    """Draw the losses by epoch, on a logarithmic scale where they allow it."""
    figure = blank(8, 4.5)
    axes = figure.add_subplot(xlabel="epoch", ylabel="loss")
    epochs = [point["epoch"] for point in points]
    for name, label in (("train_loss", "training"), ("validation_loss", "validation")):
        losses = [point[name] for point in points]
        if any(loss is not None for loss in losses):
            axes.plot(epochs, losses, label=label, marker="o" if len(points) == 1 else None)
    if points and DEVIATION in points[0]:
        _draw_band(axes, epochs, points)
    if points:
        axes.legend()
        if all(point["train_loss"] > 0 for point in points):
            axes.set_yscale("log")
    axes.grid(visible=True, which="both", alpha=0.3)
    return figure


def _draw_band(axes: Axes, epochs: list[int], points: list[Point]) -> None:
    """Draw how far the folds are apart: one standard deviation around their mean."""
    mean, spread = (
        np.array([point[name] for point in points]) for name in ("validation_loss", DEVIATION)
    )
    low = np.maximum(mean - spread, mean / 10)  # a logarithmic scale has no place below 0
    axes.fill_between(epochs, low, mean + spread, color="C1", alpha=0.2, label="± 1 deviation")
