"""Ask how near the estimate of a training's memory comes to what it needs.

What is needed is the least limit under which the training ends well, found by
bisection to a fiftieth. ``python -m benchmarks.footprint [CASE …]``
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.engine.trainings import CASES, limited, prepare

MIB = 2**20


def main(names: list[str]) -> None:
    """Measure and print."""
    table = Table("case", "estimated", "needed", "ratio", "most for", title="MiB")
    with tempfile.TemporaryDirectory() as folder, limited() as process:
        for name in names or CASES:
            prepared = prepare(name, Path(folder))
            estimate, needed = prepared.estimate, process.needed_bytes(prepared)
            figures = f"{estimate.bytes / MIB:.0f}", f"{needed / MIB:.0f}"
            table.add_row(name, *figures, f"{estimate.bytes / needed:.2f}", estimate.place)
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
