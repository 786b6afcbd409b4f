"""Timestamps to their parts, by whole numbers: ONNX knows no calendar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from onnx import TensorProto

from app.export.graph import Graph, Operand
from engine.data.timestamps import DAY_MICROSECONDS, MONDAY, WEEK_DAYS

FIRST_OF_MARCH = 719_468
"""Days from the first of March in the year 0 to 1970."""

ERA_YEARS, ERA_DAYS = 400, 146_097
"""The Gregorian calendar repeats itself."""

JANUARY = 306
"""Days from the first of March to that of January."""


def parts_of(graph: Graph, times: str, wanted: Sequence[str]) -> list[str]:
    """Return what times become, part by part, each of shape (rows, 1).

    Parameters
    ----------
    graph : Graph
    times : str
        Microseconds since 1970, none missing.
    wanted : sequence of str
        As in `engine.data.timestamps.PARTS`.
    """
    parts = []
    if len(wanted) > 1:
        for turns in _turns(graph, times):
            angle = graph.add("Mul", turns, np.float64(2 * np.pi))
            # Not every runtime has a cosine of float64.
            ahead = graph.add("Add", angle, np.float64(np.pi / 2))
            parts += [graph.add("Sin", angle), graph.add("Sin", ahead)]
    if wanted[-1] == "time":
        parts.append(graph.add("Div", _float(graph, times), np.float64(DAY_MICROSECONDS)))
    return parts


def _turns(graph: Graph, times: str) -> Iterator[str]:
    """Yield which part of the day, the week and the year has gone by."""
    day = _floor(graph, times, DAY_MICROSECONDS)
    moment = graph.add("Mod", times, np.int64(DAY_MICROSECONDS))
    yield graph.add("Div", _float(graph, moment), np.float64(DAY_MICROSECONDS))
    weekday = graph.add("Mod", graph.add("Add", day, np.int64(MONDAY)), np.int64(WEEK_DAYS))
    yield _share(graph, weekday, moment, np.int64(WEEK_DAYS))
    year = _year(graph, day)
    begin = _first_day(graph, year)
    end = _first_day(graph, graph.add("Add", year, np.int64(1)))
    yield _share(graph, graph.add("Sub", day, begin), moment, graph.add("Sub", end, begin))


def _share(graph: Graph, days: str, moment: str, of: Operand) -> str:
    """Return the share that days and a moment of one more are of so many days."""
    gone = graph.add("Add", graph.add("Mul", days, np.int64(DAY_MICROSECONDS)), moment)
    whole = graph.add("Mul", of, np.int64(DAY_MICROSECONDS))
    return graph.add("Div", _float(graph, gone), _float(graph, whole))


def _year(graph: Graph, day: str) -> str:
    """Return the years of days since 1970.

    The `civil_from_days` of Hinnant ("chrono-compatible low-level date algorithms", 2013), whose
    years begin in March so that the day that is not always there is the last.
    """
    day = graph.add("Add", day, np.int64(FIRST_OF_MARCH))
    era = _floor(graph, day, ERA_DAYS)
    of_era = graph.add("Sub", day, graph.add("Mul", era, np.int64(ERA_DAYS)))
    leapless = of_era
    for operator, span in (("Sub", 1460), ("Add", 36_524), ("Sub", 146_096)):
        leapless = graph.add(operator, leapless, graph.add("Div", of_era, np.int64(span)))
    year = graph.add("Div", leapless, np.int64(365))
    of_year = graph.add("Sub", of_era, _days_before(graph, year))
    is_next = graph.add("GreaterOrEqual", of_year, np.int64(JANUARY))
    year = graph.add("Add", year, graph.add("Cast", is_next, to=TensorProto.INT64))
    return graph.add("Add", year, graph.add("Mul", era, np.int64(ERA_YEARS)))


def _first_day(graph: Graph, year: str) -> str:
    """Return the first of January of years as days since 1970."""
    before = _days_before(graph, graph.add("Sub", year, np.int64(1)))
    return graph.add("Add", before, np.int64(JANUARY - FIRST_OF_MARCH))


def _days_before(graph: Graph, year: str) -> str:
    """Return how many days there are from the first of March in the year 0 to that in years."""
    days = graph.add("Mul", year, np.int64(365))
    for operator, years in (("Add", 4), ("Sub", 100), ("Add", 400)):
        days = graph.add(operator, days, _floor(graph, year, years))
    return days


def _floor(graph: Graph, x: str, divisor: int) -> str:
    """Divide rounding down: ONNX rounds a quotient towards 0, but its remainder is not negative."""
    rest = graph.add("Mod", x, np.int64(divisor))
    return graph.add("Div", graph.add("Sub", x, rest), np.int64(divisor))


def _float(graph: Graph, x: str) -> str:
    return graph.add("Cast", x, to=TensorProto.DOUBLE)
