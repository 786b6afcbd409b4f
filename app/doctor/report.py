"""The report: every check, what it found, and a status for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.config import Settings
from app.doctor import broker, database, host, storage
from app.doctor.checks import Check, Finding, State, examine

SEE_LOG = "this should not happen; tell the maintainers"

CHECKS = (
    Check("settings", host.settings_set, SEE_LOG),
    Check("python", host.python, SEE_LOG),
    Check("memory", host.memory, SEE_LOG),
    Check("disk", host.disk, "see whether CHAINRULE_HOME is on a disk that answers"),
    Check("port", host.port, "see who listens at CHAINRULE_HOST and CHAINRULE_PORT"),
    Check(
        "database",
        database.look,
        "see that the database runs, can be reached from here, and that CHAINRULE_DATABASE_URL "
        "names it",
    ),
    Check(
        "broker",
        broker.look,
        "start Redis, or see why it hangs, and that CHAINRULE_BROKER_URL names it; until then "
        "jobs wait for a worker to find them",
    ),
    Check(
        "storage",
        storage.look,
        "see that CHAINRULE_STORAGE_URL can be reached and written by this user",
    ),
)
COLOURS = {State.OK: "green", State.WARNING: "yellow", State.WRONG: "bold red"}


def run(settings: Settings, *, as_json: bool) -> int:
    """Look at everything and print it; return 1 when something is wrong, else 0."""
    findings = examine(CHECKS, settings)
    console = Console(highlight=False)
    if as_json:
        console.print_json(data=[asdict(finding) for finding in findings])
    else:
        console.print(_table(findings))
    return int(any(finding.state is State.WRONG for finding in findings))


def _table(findings: Sequence[Finding]) -> Table:
    table = Table("check", "state", "what was found, and what to do", box=None, pad_edge=False)
    for finding in findings:
        said = Text(finding.fact)
        if finding.advice:
            said.append(f"\n→ {finding.advice}", style="bold")
        table.add_row(finding.name, Text(finding.state, style=COLOURS[finding.state]), said)
    return table
