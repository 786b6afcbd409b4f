"""The storm's command line: ``python -m tests.e2e.storm --minutes 5 --seed 1 --shape both``."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from app import launcher
from tests.e2e.storm import course
from tests.e2e.storm.course import Report
from tests.e2e.storm.fleet import SHAPES

SHOWN_HISTORIES = 3


def main() -> int:
    """Run the storms that are asked for; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="make storm", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shape", choices=[*SHAPES, "both"], default="both")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    shapes = list(SHAPES) if options.shape == "both" else [options.shape]
    reports = [_run(console, shape, options.seed, 60 * options.minutes) for shape in shapes]
    for report in reports[1:]:
        if report.references != reports[0].references:
            console.print("[bold red]the shapes come to different bits without any storm[/]")
            return 1
    return 1 if any(report.violations for report in reports) else 0


def _run(console: Console, shape: str, seed: int, seconds: float) -> Report:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    folder = Path(tempfile.mkdtemp(prefix="chainrule-storm-"))
    with Progress(*columns, console=console, transient=True) as progress:
        line = progress.add_task(shape)

        def show(what: str) -> None:
            progress.update(line, description=f"{shape}: {what}")

        with launcher.interrupted(_interrupt):
            report = course.run(shape, seed, seconds, folder, show)
    _print(console, report)
    if report.violations:
        console.print(f"the logs are in {folder}\n")
    else:
        shutil.rmtree(folder)
    return report


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt


def _print(console: Console, report: Report) -> None:
    minutes = report.seconds / 60
    console.print(f"[bold]{report.shape}[/], {minutes:g} minutes, seed {report.seed}")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    parts = {"jobs": report.jobs, "kinds of harm": report.harms, "requests": report.requests}
    for name, counted in parts.items():
        table.add_row(f"[bold]{name}[/]", f"[bold]{counted.total():,}[/]")
        for kind, count in sorted(counted.items()):
            table.add_row(f"  {kind}", f"{count:,}")
    console.print(table)
    for note in report.notes:
        console.print(note)
    if not report.violations:
        console.print("[bold green]every promise was kept[/]\n")
        return
    for what in report.violations:
        console.print(f"[bold red]broken:[/] {what}", markup=True)
    for job, lines in list(report.histories.items())[:SHOWN_HISTORIES]:
        console.print(f"\n[bold]{job}[/]")
        for each in lines:
            console.print(each, markup=False)
    again = f"make storm MINUTES={minutes:g} SEED={report.seed} SHAPE={report.shape}"
    console.print(f"\nthe same hand again: [bold]{again}[/]\n")


if __name__ == "__main__":
    sys.exit(main())
