"""Page: the table, and what was found, in the terminal and in ``docs/classics.md``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.table import Table

from examples.classics.experiments import Experiment
from examples.classics.findings import SHARP, FamilyFindings, SymmetryFindings
from examples.classics.runs import Run

SETTINGS = ("task", "net", "a step each", "ε, α", "start ±", "in 1986", "expected")
HEAD = (*SETTINGS, "solved", "median", "p10", "agrees")
IN_TERMINAL = ("task", "net", "a step each", "ε, α", "expected", "solved", "median", "agrees")
BEGIN, END = "<!-- written by examples.classics -->\n", "<!-- to here -->\n"


@dataclass(frozen=True)
class Figures:
    """What the runs of an experiment come to.

    Parameters
    ----------
    solved : float
        Share of the seeds.
    median, tenth : float or None
        Of the sweeps of those that were solved: the 0.5 and 0.1 quantiles.
    """

    solved: float
    median: float | None
    tenth: float | None


def figures(runs: Sequence[Run]) -> Figures:
    """Return the figures of some runs."""
    sweeps = [one.sweeps for one in runs if one.sweeps is not None]
    if not sweeps:
        return Figures(0.0, None, None)
    median, tenth = np.quantile(sweeps, [0.5, 0.1])
    return Figures(len(sweeps) / len(runs), float(median), float(tenth))


def row(experiment: Experiment, runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the cells of the table."""
    found, expected = figures(runs), experiment.expected
    *_, rates = experiment.rates.values()
    agrees = expected.agrees(found.solved, found.median)
    wanted = f"{expected.solved:.0%}"
    return (
        experiment.problem,
        experiment.size,
        experiment.step,
        f"{rates.epsilon:g}, {rates.alpha:g}",
        f"{experiment.start:g}",
        experiment.paper,
        wanted if expected.sweeps is None else f"{wanted}, {expected.sweeps:,}",
        f"{found.solved:.0%}",
        _count(found.median),
        _count(found.tenth),
        "✓" if agrees else "✗",
    )


def _count(sweeps: float | None) -> str:
    return "–" if sweeps is None else f"{sweeps:,.0f}"


def shown(rows: Sequence[Sequence[str]]) -> Table:
    """Return what fits a terminal of the table."""
    table = Table(*IN_TERMINAL, box=box.SIMPLE)
    for cells in rows:
        by_name = dict(zip(HEAD, cells, strict=True))
        table.add_row(*(by_name[name] for name in IN_TERMINAL))
    return table


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return the table for a page."""
    align = ["---"] * len(SETTINGS) + ["---:"] * 3 + [":-:"]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (HEAD, align, *rows))


def symmetry_paragraph(found: SymmetryFindings) -> str:
    """Say what the symmetry nets have learnt."""
    return (
        f"**Symmetry.** The {found.nets} nets that solved it were trained on until all outputs "
        f"were within {SHARP:g} of their targets. In every one of them the weights of opposite "
        f"inputs are equal and opposite, to {found.unequal:.2%} of the largest or better; in "
        f"{found.doubling} their sizes are as 1 : 2 : 4, in {found.stepping} as 2 : 3 : 4.\n"
    )


def families_paragraph(found: FamilyFindings) -> str:
    """Say what the family nets have learnt."""
    asked = 4 * found.nets
    return (
        f"**Families.** With the larger rates {found.taught:.1%} of the questions taught are "
        f"answered right after 1,500 sweeps, all 100 by {found.perfect} of {found.nets} nets, and "
        f"{found.held_out} of {asked} of those held out. In the mean over nets the unit that "
        "tells nationality best, of the six that see the person, correlates with it at "
        f"|r| = {found.nationality:.2f}.\n"
    )


def seeds_paragraph(seeds: int) -> str:
    """Say how many runs the table is of."""
    return f"{seeds} seeds each.\n"


def rewritten(page: str, parts: Sequence[str]) -> str:
    """Return a page with these parts in the place that is kept for them."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return "".join([before, BEGIN, "\n", "\n".join(parts), "\n", END, after])
