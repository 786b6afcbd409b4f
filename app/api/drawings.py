"""Drawings: curves and what goes on inside a network, as SVG or PNG by ``Accept``."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from flask import Response, request
from werkzeug.exceptions import NotAcceptable

from engine.arrays import Tensor
from engine.inspection import Saliency, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES = ("image/svg+xml", "image/png")

MAX_TILES = 100
"""How many units or rows a drawing shows."""


def wanted_form(forms: Sequence[str]) -> str:
    """Return the form that the caller accepts, the first unless it says."""
    if not request.accept_mimetypes:
        return forms[0]
    form = request.accept_mimetypes.best_match(forms)
    if form is None:
        raise NotAcceptable(f"it comes as one of {', '.join(forms)}")
    return form


def blank(width: float, height: float) -> Figure:
    """Return a figure of so many inches."""
    from matplotlib.figure import Figure  # late: it takes half a second, and few processes draw

    return Figure(figsize=(width, height), layout="constrained")


def answer_drawn(figure: Figure, form: str) -> Response:
    """Answer with a figure."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=form.split("/")[1].split("+")[0], dpi=150)
    response = Response(drawn.getvalue(), content_type=form)
    response.vary.add("Accept")
    return response


def trace(found: Trace) -> Figure:
    """Draw outputs above deltas, a column a layer, in the order of the way forward."""
    layers = found.layers[::-1]
    figure = blank(1.2 + 1.7 * len(layers), 4.2)
    figure.suptitle(f"loss {found.loss:.4g}: outputs (above) and their gradients (below)")
    axes = figure.subplots(2, len(layers), squeeze=False)
    for column, layer in enumerate(layers):
        axes[0, column].set_title(f"{layer.name.removeprefix('layers.')} {layer.kind}", fontsize=8)
        _heat(axes[0, column], layer.output)
        _heat(axes[1, column], layer.delta)
    return figure


def saliency(found: Saliency) -> Figure:
    """Draw the slopes of every row: as an image where the one input is an image, else as bars."""
    rows = len(found.outputs[:MAX_TILES])
    (name, first), *others = found.gradients.items()
    if not others and first.ndim >= 3:
        return features(first[:rows], title=f"slope of the output at {name!r}")
    names = list(found.gradients)
    sizes = [np.abs(d[:rows]).reshape(rows, -1).sum(axis=1) for d in found.gradients.values()]
    signed = [
        d[:rows] if d.ndim == 1 else s for d, s in zip(found.gradients.values(), sizes, strict=True)
    ]
    figure = blank(8, 1.2 + 0.28 * len(names))
    axes = figure.add_subplot(xlabel="slope of the output, per unit of the column")
    places = np.arange(len(names))
    for row in range(rows):
        axes.plot([values[row] for values in signed], places, "o", alpha=0.6, markersize=4)
    axes.set_yticks(places, names)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.grid(visible=True, axis="x", alpha=0.3)
    axes.invert_yaxis()
    return figure


def features(weights: Tensor, title: str = "weights of the first layer") -> Figure:
    """Draw what every unit looks for, a tile each; weights of plain columns as one map."""
    if weights.ndim == 2:
        figure = blank(8, 5)
        axes = figure.add_subplot(xlabel="input", ylabel="unit", title=title)
        _heat(axes, weights, ticks=True)
        return figure
    tiles = [_flat(unit) for unit in weights[:MAX_TILES]]
    across = math.ceil(math.sqrt(len(tiles)))
    down = math.ceil(len(tiles) / across)
    figure = blank(across, down + 0.4)
    figure.suptitle(title, fontsize=9)
    for axes, tile in zip(figure.subplots(down, across, squeeze=False).flat, tiles, strict=False):
        _heat(axes, tile)
    for axes in figure.axes[len(tiles) :]:
        axes.set_axis_off()
    return figure


def _flat(values: Tensor) -> Tensor:
    """Return values as a map: channels side by side, units in a square."""
    if values.ndim == 3:
        return np.concatenate(list(values), axis=1)
    if values.ndim == 2:
        return values
    width = math.ceil(math.sqrt(values.size))
    square = np.full(width * math.ceil(values.size / width), np.nan)
    square[: values.size] = values.ravel()
    return square.reshape(-1, width)


def _heat(axes: Axes, values: Tensor | None, *, ticks: bool = False) -> None:
    """Draw values in colour, red above 0 and blue below."""
    if not ticks:
        axes.set_xticks([])
        axes.set_yticks([])
    if values is None:
        axes.set_axis_off()
        return
    seen = _flat(values)
    largest = float(np.nanmax(np.abs(seen))) or 1.0
    axes.imshow(seen, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto" if ticks else None)
