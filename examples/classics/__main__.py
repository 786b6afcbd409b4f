"""Run the experiments: ``python -m examples.classics [task …] [--seeds 50]``.

Without names all are run, and the table and the drawing in ``docs`` are written anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import print as show
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from examples.classics import page
from examples.classics.drawing import symmetry_svg
from examples.classics.experiments import EXPERIMENTS, FAMILIES, SYMMETRY, Experiment
from examples.classics.findings import look_at_families, look_at_symmetry, tensors
from examples.classics.runs import Run, run

DOCS = Path(__file__).parents[2] / "docs"
PROBLEMS = tuple(dict.fromkeys(experiment.problem.lower() for experiment in EXPERIMENTS))

Results = dict[Experiment, list[Run]]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m examples.classics", description=__doc__)
    parser.add_argument("tasks", nargs="*", help=f"some of {', '.join(PROBLEMS)}; or all of them")
    parser.add_argument("--seeds", type=int, default=50, help="how many nets an experiment trains")
    asked = parser.parse_args()
    if unknown := set(asked.tasks) - set(PROBLEMS):
        parser.error(f"there is no task {', '.join(sorted(unknown))}; {', '.join(PROBLEMS)} are")
    wanted = asked.tasks or PROBLEMS
    results = run_all([e for e in EXPERIMENTS if e.problem.lower() in wanted], asked.seeds)
    rows = [page.row(experiment, runs) for experiment, runs in results.items()]
    show(page.shown(rows))
    if not asked.tasks:
        write(results, rows)


def run_all(experiments: Sequence[Experiment], seeds: int) -> Results:
    """Run experiments, and show how far they are."""
    results: Results = {experiment: [] for experiment in experiments}
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=seeds * len(experiments))
        for experiment in experiments:
            progress.update(bar, description=f"{experiment.problem}, {experiment.size}")
            for some in groups(seeds, experiment.abreast):
                results[experiment] += run(experiment, some)
                progress.advance(bar, len(some))
    return results


def groups(seeds: int, size: int) -> Iterator[range]:
    """Yield the seeds from 0 on, some at a time."""
    for first in range(0, seeds, size):
        yield range(first, min(first + size, seeds))


def write(results: Results, rows: Sequence[Sequence[str]]) -> None:
    """Write what was found to the docs."""
    symmetry, families = look_at_symmetry(results[SYMMETRY]), look_at_families(results[FAMILIES])
    parts = [
        page.seeds_paragraph(len(results[SYMMETRY])),
        page.markdown(rows),
        page.symmetry_paragraph(symmetry),
        page.families_paragraph(families),
    ]
    classics = DOCS / "classics.md"
    classics.write_text(page.rewritten(classics.read_text(), parts))
    (DOCS / "images").mkdir(exist_ok=True)
    drawing = symmetry_svg(tensors(SYMMETRY, symmetry.quickest))
    (DOCS / "images" / "symmetry.svg").write_text(drawing)


if __name__ == "__main__":
    main()
