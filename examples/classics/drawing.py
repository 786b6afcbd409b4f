"""Drawing: the weights of a symmetry net as squares, white for plus and black for minus."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from engine.arrays import Tensor

WIDTH, HEIGHT, LARGEST, LEFT, TOP = 64, 84, 54, 110, 44
"""Pixels: of a cell, of the side of the largest square, and before the first cell."""

COLUMNS = ("1", "2", "3", "4", "5", "6", "bias", "to output")


def symmetry_svg(weights: Mapping[str, Tensor]) -> str:
    """Draw a 6-2-1 net: a row for each hidden unit, and the bias of the output below."""
    hidden = weights["layers.0.weight"]
    rows = [
        (f"hidden unit {unit + 1}", [*hidden[unit], weights["layers.0.bias"][unit], to_output])
        for unit, to_output in enumerate(weights["layers.1.weight"][0])
    ]
    rows.append(("output unit", [*[None] * 6, weights["layers.1.bias"][0], None]))
    largest = max(abs(weight) for _, row in rows for weight in row if weight is not None)
    return "\n".join(
        [
            *_head(LEFT + WIDTH * len(COLUMNS) + 16, TOP + HEIGHT * len(rows)),
            *(_text(LEFT + WIDTH * (k + 0.5), 28, name) for k, name in enumerate(COLUMNS)),
            *(line for k, row in enumerate(rows) for line in _row(k, *row, largest)),
            "</svg>\n",
        ]
    )


def _head(width: int, height: int) -> Iterator[str]:
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    font = 'font-family="sans-serif" font-size="12" text-anchor="middle"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>'
    yield "<title>The weights of a 6-2-1 net that tells palindromes of six bits</title>"
    yield f'<rect width="{width}" height="{height}" fill="#999"/>'


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:g}" y="{y:g}">{text}</text>'


def _row(position: int, name: str, row: list[float | None], largest: float) -> Iterator[str]:
    y = TOP + HEIGHT * position + LARGEST / 2
    yield _text(LEFT / 2, y + 4, name)
    for column, weight in enumerate(row):
        if weight is not None:
            yield from _weight(LEFT + WIDTH * (column + 0.5), y, weight, largest)


def _weight(x: float, y: float, weight: float, largest: float) -> Iterator[str]:
    """Draw a square whose area is as the size of the weight, and the number below it."""
    side = LARGEST * math.sqrt(abs(weight) / largest)
    corner = f'x="{x - side / 2:.1f}" y="{y - side / 2:.1f}"'
    fill = "#fff" if weight > 0 else "#000"
    yield f'<rect {corner} width="{side:.1f}" height="{side:.1f}" fill="{fill}"/>'
    yield _text(x, y + LARGEST / 2 + 16, f"{weight:+.1f}".replace("-", "−"))
