"""The course of a storm: calm, storm, calm again, and the accounts."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from app.store.database import Database
from tests.e2e.storm import accounts, clients
from tests.e2e.storm.accounts import Monitor, Step
from tests.e2e.storm.clients import Client
from tests.e2e.storm.fleet import SHAPES, Fleet
from tests.e2e.storm.ledger import Ledger, Reference
from tests.e2e.storm.weather import Weather

CLIENTS = 4
DRAIN_SECONDS = 240.0
"""How long the jobs that are left may take after the storm, on a machine that has other work."""

Show = Callable[[str], None]


@dataclass
class Report:
    """What came of a storm.

    Parameters
    ----------
    shape : str
    seed : int
    seconds : float
    jobs, harms, requests : Counter of str
    violations : dict of str to (str or None)
        What promise was broken, and the job that it is about.
    histories : dict of str to list of str
        Of those jobs: what the database and the logs say.
    references : dict of str to Reference
    notes : list of str
        What else there is to say.
    """

    shape: str
    seed: int
    seconds: float
    jobs: Counter[str]
    harms: Counter[str]
    requests: Counter[str]
    violations: dict[str, str | None]
    references: dict[str, Reference]
    histories: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def run(shape: str, seed: int, seconds: float, folder: Path, show: Show) -> Report:
    """Run one storm on one shape."""
    with SHAPES[shape](folder) as fleet, closing(_Books(fleet)) as books:
        show("calm: every piece of work once")
        clients.prepare(fleet, books.ledger)
        accounts.keep_history(books.database)
        weather = Weather(fleet, seed)
        _storm(fleet, books, weather, seed, seconds, show)
        _drain(fleet, books, show)
        return _account(fleet, books, weather, seed, seconds, show)


class _Books:
    """The ledger, and a connection to the service's own book."""

    def __init__(self, fleet: Fleet) -> None:
        self.ledger = Ledger()
        self.database = Database(fleet.database_url)
        self.monitor = Monitor(self.database, self.ledger)

    def close(self) -> None:
        self.database.dispose()


def _storm(
    fleet: Fleet, books: _Books, weather: Weather, seed: int, seconds: float, show: Show
) -> None:
    everybody = [Client(fleet, books.ledger, seed, number + 1) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, daemon=True) for client in everybody]
    for thread in (*threads, books.monitor):
        thread.start()
    begin = time.monotonic()

    def tick() -> None:
        entries = books.ledger.entries()
        live = sum(entry.end is None for entry in entries)
        show(
            f"{time.monotonic() - begin:4.0f} of {seconds:.0f} s, {len(entries)} jobs, "
            f"{live} live, {weather.done.total()} harms, "
            f"{len(books.ledger.violations())} broken promises"
        )

    weather.blow(seconds, tick)
    for client in everybody:
        client.stop()
    _until(lambda: not any(thread.is_alive() for thread in threads), fleet, show, "clients end")


def _drain(fleet: Fleet, books: _Books, show: Show) -> None:
    """Wait until nothing moves any more; resume what is paused, and wait again."""

    def is_idle() -> bool:
        with books.database.reading() as session:
            return not accounts.moving(session)

    if not _until(is_idle, fleet, show, "the rest of the jobs"):
        books.ledger.blame(f"after {DRAIN_SECONDS:g} s without harm jobs still wait or run")
    with books.database.reading() as session:
        paused = accounts.check_paused(session, books.ledger)
    with fleet.caller(timeout=60) as caller:
        for job in paused:
            caller.post(f"/v1/jobs/{job}/resume").raise_for_status()
    if not _until(is_idle, fleet, show, "the jobs that were paused"):
        books.ledger.blame(f"{DRAIN_SECONDS:g} s after they were resumed jobs still wait or run")
    books.monitor.stop()
    books.monitor.join()


def _until(condition: Callable[[], bool], fleet: Fleet, show: Show, what: str) -> bool:
    """Wait, and keep the service running meanwhile; False if it takes too long."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        fleet.look_after()
        show(f"calm again: {what}")
        try:
            if condition():
                return True
        except accounts.UNAVAILABLE:
            pass  # it is coming up again
        time.sleep(0.1)  # between two looks
    return False


def _account(
    fleet: Fleet, books: _Books, weather: Weather, seed: int, seconds: float, show: Show
) -> Report:
    show("accounts")
    ledger, database = books.ledger, books.database
    with database.reading() as session:
        jobs = accounts.check_jobs(session, ledger)
        steps = accounts.history(session)
    for each in steps.values():
        accounts.check_history(each, ledger)
    clients.settle(fleet, ledger)
    if left := fleet.end():
        ledger.blame(f"processes that did not end: {left}")
    pruned = accounts.check_rests(fleet, database, ledger)
    database.dispose()
    accounts.check_integrity(fleet, ledger)
    report = Report(
        fleet.shape,
        seed,
        seconds,
        jobs,
        weather.done,
        ledger.requests,
        ledger.violations(),
        ledger.references,
    )
    report.histories = {
        job: _tell(fleet, job, steps.get(job, []), weather)
        for job in report.violations.values()
        if job
    }
    report.notes = _notes(fleet, books, pruned, steps)
    return report


def _tell(fleet: Fleet, job: str, steps: list[Step], weather: Weather) -> list[str]:
    """Tell a job's story: what the database noted, the harm meanwhile, and the logs."""
    told = [(step.at, str(step)) for step in steps]
    if steps:
        begin, end = steps[0].at - 5, steps[-1].at + 5
        told += [(at, f"{at:.3f} *** {name}") for at, name in weather.log if begin < at < end]
    return [line for _, line in sorted(told)] + accounts.lines_about(fleet.logs, job)


def _notes(fleet: Fleet, books: _Books, pruned: str, steps: dict[str, list[Step]]) -> list[str]:
    moves = [step for each in steps.values() for step in each]
    claims = sum(step.is_claim for step in moves)
    most = max((step.failures for step in moves), default=0)
    rests = [path.name for path in (fleet.logs / "tmp").iterdir()]
    notes = [
        f"{len(moves):,} changes of jobs, {claims:,} claims, at most {most} lost workers a job",
        f"the latest lease had run out for {books.monitor.latest_seconds:.1f} s; "
        f"{books.monitor.looks:,} looks",
        f"pruned: {pruned}",
        f"left in the folder for temporary files: {len(rests)} {sorted(rests)[:5]}",
    ]
    if not fleet.has_small_disk:
        notes.append("LEFT OUT: the disk was not filled; this user may mount no tmpfs")
    if not books.ledger.can_pause:
        notes.append("LEFT OUT: nothing was paused; the service has no such route")
    return notes
