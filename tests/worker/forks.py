"""A process that forks workers, each of which comes to harm at one statement of its job.

``python -m tests.worker.forks`` reads one order a line, as JSON, forks a worker
for it, and prints how that ended: its exit status, or the signal that killed
it as a negative number. To fork takes milliseconds where to start would take
a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, event

from app.config import Settings, child_environment
from app.store.blobs import Storage
from app.store.database import Database
from engine import training
from engine.checkpoint import read_tensors
from worker import attempt
from worker.runner import Runner
from worker.training import Training

ROOT = Path(__file__).parents[2]
ASK = signal.SIGURG
"""As `worker.celery_app.PUT_BACK`."""


def kill(_connection: Connection) -> None:
    """As the OOM killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


def ask(_connection: Connection) -> None:
    """Ask to put the job back."""
    os.kill(os.getpid(), ASK)


def ask_twice(connection: Connection) -> None:
    """Ask like one who is not heard."""
    ask(connection)
    ask(connection)


def break_off(connection: Connection) -> None:
    """Have the statement, and whatever it belongs to, fail: the disk full, or the server gone."""
    if connection.dialect.name == "sqlite":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        return
    session = connection.connection.driver_connection
    assert isinstance(session, psycopg.Connection)
    with psycopg.connect(session.info.dsn, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 1000)", [session.info.backend_pid])


def mend() -> None:
    """Give the disk its room back."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


HARMS: dict[str, Callable[[Connection], None]] = {
    harm.__name__: harm for harm in (kill, ask, ask_twice, break_off)
}


def train(url: str, folder: str, harm: str | None = None, at: int = 0) -> bool:
    """Be a worker for one job; return whether it was done before the harm came.

    Parameters
    ----------
    url : str
        Of the database.
    folder : str
        Of the datasets, and of what becomes of the trainings' states.
    harm : str, optional
        Which of `HARMS` happens.
    at : int
        Before which statement or commit, counted from 0.
    """
    training.REPORT_SECONDS, attempt.AGAIN_SECONDS = 0.0, 0.01
    Training._is_checkpoint_due = lambda _, fitting, _now: fitting.step % 2 == 1  # type: ignore[method-assign]
    _keep_final_states(Path(folder))
    asked: list[int] = []
    signal.signal(ASK, lambda number, _frame: asked.append(number))
    database = Database(url)
    count = -1

    def step(connection: Connection, *_: Any) -> None:
        nonlocal count
        count += 1
        mend()
        if harm is not None and count == at:
            HARMS[harm](connection)

    for word in ("before_cursor_execute", "commit"):
        event.listen(database.writer, word, step)
    settings = Settings(heartbeat_seconds=1e-6)
    Runner(settings, database, Storage(folder), stopping=lambda: bool(asked)).run()
    mend()
    database.dispose()
    return count < at


def _keep_final_states(folder: Path) -> None:
    """Keep the digest of all that a training ends with, the moments of its optimizer among it."""
    finish = Training._finish

    def finish_and_tell(one: Training, fitting: Any, stopped: Any) -> None:
        tensors, _ = read_tensors(fitting.save())
        digest = hashlib.sha256()
        for name in sorted(tensors):
            digest.update(name.encode() + tensors[name].tobytes())
        state = folder / f"{one._claim.job_id}.state"
        state.write_text(f"{sorted(tensors)} {digest.hexdigest()}")
        finish(one, fitting, stopped)

    Training._finish = finish_and_tell  # type: ignore[method-assign]


DONE = 3
"""The exit status of a worker that came to the end before the harm did."""


def main() -> None:
    for line in sys.stdin:
        worker = os.fork()
        if worker == 0:
            os._exit(DONE if train(**json.loads(line)) else 0)
        _, status = os.waitpid(worker, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - this is the answer


@contextmanager
def forks() -> Iterator[Callable[..., int]]:
    """Give what runs `train` in a process of its own and returns how that ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.worker.forks"],
        cwd=ROOT,
        env={**child_environment(), "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    orders, answers = process.stdin, process.stdout

    def run(**order: Any) -> int:
        print(json.dumps(order), file=orders, flush=True)  # noqa: T201 - this is the order
        return int(answers.readline())

    with process:
        yield run
        orders.close()


if __name__ == "__main__":
    main()
