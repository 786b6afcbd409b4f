"""The service as real processes: started, called over HTTP, and searched for once it has ended."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil

from app.config import child_environment
from tests import canaries
from tests.waiting import PATIENCE_SECONDS, wait_until

ROOT = Path(__file__).parents[2]
IRIS = ROOT / "examples" / "data" / "iris.csv"
DIGITS = ROOT / "examples" / "data" / "digits.csv.gz"

END_SECONDS = 15

TERMINAL = ("succeeded", "failed", "cancelled")
EPOCHS = 250
DISTURBED = {
    "target": "digit",
    "task": "classification",
    "network": {
        "layers": [
            {"type": "dense", "units": 128, "activation": "relu"},
            {"type": "dropout", "rate": 0.1},
            {"type": "dense", "units": 64, "activation": "relu"},
        ]
    },
    "schedule": {"type": "cosine"},
    "training": {"epochs": EPOCHS, "batch_size": 16},
    "seed": 7,
}
"""A job of some seconds, with everything in it that a saved state could forget."""

WORKER = "--app=worker.celery_app"
"""What the command line of a worker has, and that of its children has not."""

BRISK = {
    "CHAINRULE_LEASE_SECONDS": "3",
    "CHAINRULE_REAP_SECONDS": "0.5",
    "CHAINRULE_HEARTBEAT_SECONDS": "0.3",
    "CHAINRULE_CHECKPOINT_SECONDS": "0.2",
}
"""Settings with which a takeover takes seconds."""

_numbers = count()


class Command:
    """A command of the service, running, with its output in files.

    Parameters
    ----------
    name : str
    environment : dict of str to str
        Beside that of this process.
    folder : Path, optional
        Where the files are; in the service's home unless given.
    command : list of str, optional
        What is run; the command line's command of that name unless given.
    """

    def __init__(
        self,
        name: str,
        environment: dict[str, str],
        folder: Path | None = None,
        command: list[str] | None = None,
    ) -> None:
        self.url = f"http://127.0.0.1:{environment['CHAINRULE_PORT']}"
        stem = (folder or Path(environment["CHAINRULE_HOME"])) / f"{next(_numbers)}-{name}"
        self.printed, self.logged = stem.with_suffix(".out"), stem.with_suffix(".err")
        with self.printed.open("wb") as out, self.logged.open("wb") as err:
            self.process = subprocess.Popen(
                command or [sys.executable, "-m", "app.cli", name],
                cwd=ROOT,
                env={**child_environment(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = END_SECONDS) -> int:
        """Wait for the end; return the exit status."""
        return self.process.wait(seconds)

    def end(self) -> None:
        """End it, whatever state it is in."""
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait_for_output(self, text: str) -> None:
        """Wait until it has printed or logged a text."""
        wait_until(lambda: text in self.printed.read_text() + self.logged.read_text())


def alive(home: Path) -> list[psutil.Process]:
    """Return every process of the service with this home, whoever its parent is."""
    return [process for process in psutil.process_iter() if _belongs(process, home)]


def workers(home: Path) -> list[psutil.Process]:
    """Return the workers with this home, without the children that train."""
    return [process for process in psutil.process_iter() if _belongs(process, home, WORKER)]


def _belongs(process: psutil.Process, home: Path, argument: str | None = None) -> bool:
    try:
        is_ours = process.environ().get("CHAINRULE_HOME") == str(home)
        return is_ours and (argument is None or argument in process.cmdline())
    except psutil.Error:  # somebody else's, or it has just ended
        return False


def log_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log as objects.

    Celery warns before the logs are set up when it runs as root; those five
    lines and the one that Python adds are skipped.
    """
    lines = iter(file.read_text().splitlines())
    for line in lines:
        if "SecurityWarning" in line:
            while "_warn_or_raise_security_error" not in line:
                line = next(lines)  # noqa: PLW2901 - the rest of the warning
            continue
        yield json.loads(line)


class Caller(httpx.Client):
    """Somebody who uses the service over HTTP, and shows a key where there are keys."""

    def __init__(self, *, key: str | None = canaries.KEY, **options: Any) -> None:
        super().__init__(**options)
        if key is not None:
            self.headers["Authorization"] = f"Bearer {key}"

    def wait_until_ready(self) -> None:
        """Wait until the service answers that it is ready."""
        wait_until(self._is_ready)

    def _is_ready(self) -> bool:
        try:
            return self.get("/healthz/ready").is_success
        except httpx.TransportError:
            return False

    def upload(self, file: Path = IRIS) -> str:
        """Upload a dataset; return its id."""
        with file.open("rb") as content:
            return str(_created(self.post("/v1/datasets", files={"file": content}))["id"])

    def submit(self, dataset: str, **spec: Any) -> str:
        """Queue a job; return its id."""
        body = {"dataset": dataset, **spec}
        return str(_created(self.post("/v1/jobs", json=body))["id"])

    def job(self, job: str) -> dict[str, Any]:
        return dict(self.get(f"/v1/jobs/{job}").json())

    def wait_for(
        self, job: str, *statuses: str, seconds: float = PATIENCE_SECONDS
    ) -> dict[str, Any]:
        """Wait until a job has one of the statuses; return the job."""

        def arrived() -> dict[str, Any] | None:
            found = self.job(job)
            return found if found["status"] in statuses else None

        return dict(wait_until(arrived, seconds))

    def seconds_to_cancel(self, job: str) -> float:
        """Cancel a job that trains; return how long that took."""
        begun = time.monotonic()
        self.post(f"/v1/jobs/{job}/cancel").raise_for_status()
        self.wait_for(job, "cancelled")
        return time.monotonic() - begun

    def wait_for_epoch(self, job: str, epoch: int) -> None:
        """Wait until so many epochs of a job are done."""
        wait_until(lambda: self.job(job)["progress"]["epoch"] >= epoch)

    def curve(self, job: str) -> list[dict[str, Any]]:
        """Return the points of a job's curve."""
        return list(self.get(f"/v1/jobs/{job}/curve").json()["points"])

    def epochs(self, job: str) -> list[int]:
        """Return the epochs of a job's curve."""
        return [point["epoch"] for point in self.curve(job)]

    def weights(self, job: str) -> bytes:
        """Return the weights of the model that a job left."""
        return self.get(f"/v1/models/{self.job(job)['model']}/weights").content


def _created(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    return dict(answer.json())
