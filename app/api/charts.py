"""A loss curve in the form that the caller accepts: JSON, CSV, SVG or PNG."""

from __future__ import annotations

import csv
import io
from typing import Any

from flask import Response, request
from matplotlib.figure import Figure
from werkzeug.exceptions import NotAcceptable

from app.api.conditional import answer_json

FORMS = ("application/json", "text/csv", "image/svg+xml", "image/png")

COLUMNS = ("epoch", "step", "train_loss", "validation_loss", "learning_rate", "seconds")
"""What every point has; the metrics stand after them."""

Point = dict[str, Any]


def answer_curve(points: list[Point]) -> Response:
    """Answer with the points of a curve, by ``Accept``."""
    form = request.accept_mimetypes.best_match(FORMS) if request.accept_mimetypes else FORMS[0]
    if form is None:
        raise NotAcceptable(f"a curve comes as one of {', '.join(FORMS)}")
    if form == "application/json":
        response = answer_json({"points": points})
    elif form == "text/csv":
        response = Response(_csv(points), content_type="text/csv; charset=utf-8")
    else:
        response = Response(_drawn(points, form), content_type=form)
    response.vary.add("Accept")
    return response


def _csv(points: list[Point]) -> str:
    text = io.StringIO()
    names = dict.fromkeys([*COLUMNS, *(name for point in points for name in point)])
    writer = csv.DictWriter(text, list(names))
    writer.writeheader()
    writer.writerows(points)
    return text.getvalue()


def _drawn(points: list[Point], form: str) -> bytes:
    """Draw the losses by epoch, on a logarithmic scale where they allow it."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="loss")
    epochs = [point["epoch"] for point in points]
    for name, label in (("train_loss", "training"), ("validation_loss", "validation")):
        losses = [point[name] for point in points]
        if any(loss is not None for loss in losses):
            axes.plot(epochs, losses, label=label, marker="o" if len(points) == 1 else None)
    if points:
        axes.legend()
        if all(point["train_loss"] > 0 for point in points):
            axes.set_yscale("log")
    axes.grid(visible=True, which="both", alpha=0.3)
    drawn = io.BytesIO()
    figure.savefig(drawn, format=form.split("/")[1].split("+")[0], dpi=150)
    return drawn.getvalue()
