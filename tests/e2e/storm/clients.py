"""Those who use the service while it storms: each call is one that a patient client would make."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from typing import Any

import httpx

from tests.e2e.services import IRIS, Caller
from tests.e2e.storm.fleet import Fleet
from tests.e2e.storm.ledger import TERMINAL, Entry, Ledger, Reference, comparable
from tests.e2e.storm.work import WORK, datasets

AT_ONCE = 6
"""How many jobs wait or run at once. With few, a job that was taken from a frozen worker is
another's by the time that it wakes up."""

PAUSE_SECONDS = 0.15
AGAIN_SECONDS = 0.3
SHOWN_ROWS = 3


def spec_of(ledger: Ledger, work: str) -> dict[str, Any]:
    """Return the body that submits a piece of work."""
    asked = WORK[work]
    return {"dataset": ledger.datasets[asked.dataset], "target": asked.target, **asked.spec}


def prepare(fleet: Fleet, ledger: Ledger) -> None:
    """Upload the datasets, and do every piece of work once while nothing happens."""
    with fleet.caller(timeout=60) as caller:
        rows = {}
        for name, content in datasets().items():
            answer = caller.post("/v1/datasets", files={"file": (f"{name}.csv", content)})
            ledger.datasets[name] = answer.raise_for_status().json()["id"]
            url = f"/v1/datasets/{ledger.datasets[name]}/rows"
            rows[name] = caller.get(url, params={"limit": SHOWN_ROWS}).json()["data"]
        for name, work in WORK.items():
            ledger.instances[name] = [
                {column: row[column] for column in row if column != work.target}
                for row in rows[work.dataset]
            ]
        jobs = {
            name: caller.post("/v1/jobs", json=spec_of(ledger, name))
            .raise_for_status()
            .json()["id"]
            for name in WORK
        }
        for name, job in jobs.items():
            ledger.references[name] = _reference(caller, job, ledger.instances[name])
        ledger.can_pause = "/v1/jobs/{job_id}/pause" in caller.get("/openapi.json").json()["paths"]


def _reference(caller: Caller, job: str, instances: list[dict[str, Any]]) -> Reference:
    found = caller.wait_for(job, *TERMINAL)
    assert found["status"] == "succeeded", found
    assert found["reproducibility"] == "bitwise"
    points = caller.get(f"/v1/jobs/{job}/curve").json()["points"]
    url = f"/v1/models/{found['model']}/predict"
    predictions = caller.post(url, json={"instances": instances}).json()["predictions"]
    weights = caller.weights(job)
    caller.delete(f"/v1/jobs/{job}").raise_for_status()
    return Reference(weights, comparable(points), predictions)


class Client:
    """A client that does one thing after another until it is told to stop.

    Parameters
    ----------
    fleet : Fleet
    ledger : Ledger
    seed : int
    number : int
    """

    def __init__(self, fleet: Fleet, ledger: Ledger, seed: int, number: int) -> None:
        self._fleet, self._ledger, self._number = fleet, ledger, number
        self._random = random.Random(f"{seed} client {number}")  # noqa: S311 - chance, no secret
        self._over = threading.Event()
        self._submitted = 0

    def stop(self) -> None:
        """Have it finish what it does, and end."""
        self._over.set()

    def run(self) -> None:
        """Act until told to stop."""
        names, weights = zip(*((act, weight) for act, weight in ACTS), strict=True)
        with self._fleet.caller() as self._caller:
            while not self._over.is_set():
                [act] = self._random.choices(names, weights)
                try:
                    act(self)
                except Exception as error:  # noqa: BLE001 - an answer that no client expects
                    self._ledger.blame(f"a client did not understand an answer: {error!r}")
                self._over.wait(self._random.uniform(0, PAUSE_SECONDS))

    # One request.

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """Send a request once; None if it was cut off."""
        try:
            answer = self._caller.request(method, path, **options)
        except httpx.TimeoutException:
            self._ledger.count("timeout")
            return None
        except httpx.TransportError:
            self._ledger.count("cut")
            return None
        self._ledger.count(str(answer.status_code))
        if answer.status_code == 500:
            where = re.sub(r"_[0-9a-f]{32}", "_…", path)
            self._ledger.blame(f"{method} {where} answered 500: {answer.text[:200]}")
        return answer

    def _insist(self, method: str, path: str, key: str | None = None, **options: Any) -> Any:
        """Send a request until it is answered; None if the storm ends before that."""
        headers = {"Idempotency-Key": key} if key else {}
        while True:
            answer = self._send(method, path, headers=headers, **options)
            if answer is not None and answer.status_code < 500:
                return answer
            if self._over.wait(AGAIN_SECONDS):
                return None

    def _pick(self, fits: Callable[[Entry], bool]) -> Entry | None:
        found = [
            entry
            for entry in self._ledger.entries()
            if entry.job is not None and not entry.delete_asked and fits(entry)
        ]
        return self._random.choice(found) if found else None

    # What is seen of a job.

    def _see(self, entry: Entry, known: str | None, answer: httpx.Response | None) -> Any:
        """Compare a job's answer with what was known before; return the job."""
        if answer is None or answer.status_code >= 500:
            return None
        if answer.status_code != 200:
            if not entry.delete_asked:
                self._ledger.blame(f"an accepted job answers {answer.status_code}", entry.job)
            return None
        job = answer.json()
        status = job["status"]
        if known is not None and status != known:
            self._ledger.blame(f"was {known} and is {status}", entry.job)
        if status in TERMINAL:
            entry.end = status
        if status == "succeeded" and job["model"] is None and not entry.model_delete_asked:
            self._ledger.blame("succeeded without a model", entry.job)
        if job["reproducibility"] == "numerical":
            self._ledger.blame("says that its bits hang on the worker", entry.job)
        return job

    def _look(self, entry: Entry) -> Any:
        known = entry.end
        return self._see(entry, known, self._send("GET", f"/v1/jobs/{entry.job}"))

    # What a client does.

    def _submit(self) -> None:
        live = [entry for entry in self._ledger.entries() if entry.end is None]
        work = self._random.choice(list(WORK))
        priority = self._random.choice([-1, 0, 0, 1])
        if len(live) >= AT_ONCE:
            self._read()
            return
        self._submitted += 1
        entry = Entry(f"client {self._number} job {self._submitted}", work)
        self._ledger.enter(entry)
        body = {**spec_of(self._ledger, work), "name": entry.key, "priority": priority}
        answer = self._insist("POST", "/v1/jobs", entry.key, json=body)
        if answer is None:
            return
        if answer.status_code != 201:
            self._ledger.blame(f"a good job was answered {answer.status_code}: {answer.text}")
            return
        entry.job = answer.json()["id"]

    def _read(self) -> None:
        entry = self._pick(lambda entry: entry.end is None) or self._pick(lambda _: True)
        if entry is not None:
            self._look(entry)

    def _read_curve(self) -> None:
        entry = self._pick(lambda _: True)
        if entry is not None:
            self._compare_curve(entry, self._send("GET", f"/v1/jobs/{entry.job}/curve"))

    def _compare_curve(self, entry: Entry, answer: httpx.Response | None) -> None:
        """At any moment a curve is the beginning of the undisturbed one."""
        if answer is None or answer.status_code != 200:
            return
        points, whole = comparable(answer.json()["points"]), self._ledger.references[entry.work]
        if points != whole.points[: len(points)]:
            epochs = [point["epoch"] for point in points]
            self._ledger.blame(f"a curve with other points; its epochs: {epochs}", entry.job)

    def _read_model(self) -> None:
        if entry := self._pick(lambda entry: entry.end == "succeeded"):
            self._check_model(entry)

    def _check_model(self, entry: Entry) -> None:
        """The model of a job that succeeded has the weights of the undisturbed one."""
        if (job := self._look(entry)) is not None and job["model"]:
            answer = self._send("GET", f"/v1/models/{job['model']}/weights")
            if self._is_there(entry, answer):
                self._compare_weights(entry, answer.content)

    def _is_there(self, entry: Entry, answer: httpx.Response | None) -> bool:
        """Whether something of a model was answered; it must be, unless it was to be deleted."""
        if answer is None or answer.status_code >= 500:
            return False
        if answer.status_code != 200 and not entry.model_delete_asked:
            self._ledger.blame(f"its model answers {answer.status_code}", entry.job)
        return answer.status_code == 200

    def _compare_weights(self, entry: Entry, weights: bytes) -> None:
        if weights != self._ledger.references[entry.work].weights:
            self._ledger.blame("other weights than undisturbed", entry.job)

    def _predict(self) -> None:
        entry = self._pick(lambda entry: entry.end == "succeeded" and not entry.model_delete_asked)
        if entry is None or (job := self._look(entry)) is None or not job["model"]:
            return
        body = {"instances": self._ledger.instances[entry.work]}
        answer = self._send("POST", f"/v1/models/{job['model']}/predict", json=body)
        if self._is_there(entry, answer):
            predictions = answer.json()["predictions"]
            if predictions != self._ledger.references[entry.work].predictions:
                self._ledger.blame("other predictions than undisturbed", entry.job)

    def _cancel(self) -> None:
        if entry := self._pick(lambda entry: entry.end is None):
            entry.cancel_asked = True
            self._ask(entry, "cancel")

    def _pause(self) -> None:
        if self._ledger.can_pause and (entry := self._pick(lambda entry: entry.end is None)):
            entry.pause_asked = True
            self._ask(entry, "pause")

    def _resume(self) -> None:
        paused = self._pick(lambda entry: entry.end is None and entry.pause_asked)
        if self._ledger.can_pause and paused:
            self._ask(paused, "resume")

    def _ask(self, entry: Entry, what: str) -> None:
        """Ask for a move; that it is refused is nothing wrong, another was faster."""
        known = entry.end
        key = f"{entry.key} {what} {self._random.getrandbits(64):x}"
        answer = self._insist("POST", f"/v1/jobs/{entry.job}/{what}", key)
        if answer is not None and answer.status_code != 409:
            self._see(entry, known, answer)

    def _delete(self) -> None:
        """Delete a job that has ended, once it is known to be what it should be."""
        entry = self._pick(lambda entry: entry.end is not None)
        if entry is None:
            return
        answer = self._send("GET", f"/v1/jobs/{entry.job}/curve")
        if answer is None or answer.status_code != 200:
            return
        self._compare_curve(entry, answer)
        self._check_model(entry)
        entry.delete_asked = True
        answer = self._insist("DELETE", f"/v1/jobs/{entry.job}")
        if answer is not None and answer.status_code not in (204, 404):
            self._ledger.blame(f"its deletion was answered {answer.status_code}", entry.job)

    def _delete_model(self) -> None:
        entry = self._pick(lambda entry: entry.end == "succeeded" and not entry.model_delete_asked)
        if entry is not None and (job := self._look(entry)) is not None and job["model"]:
            entry.model_delete_asked = True
            self._insist("DELETE", f"/v1/models/{job['model']}")

    def _list(self) -> None:
        self._send("GET", self._random.choice(["/v1/jobs", "/v1/models", "/v1/datasets"]))

    def _upload(self) -> None:
        """Upload a dataset, once, and delete it; what was cut off may leave something behind."""
        with IRIS.open("rb") as content:
            answer = self._send("POST", "/v1/datasets", files={"file": content})
        if answer is not None and answer.status_code == 201:
            self._insist("DELETE", f"/v1/datasets/{answer.json()['id']}")

    def _settle(self, entry: Entry) -> None:
        """Compare all of a job with the undisturbed one."""
        if (job := self._look(entry)) is None:
            return
        answer = self._send("GET", f"/v1/jobs/{entry.job}/curve")
        self._compare_curve(entry, answer)
        if job["status"] == "succeeded":
            whole = self._ledger.references[entry.work].points
            if answer is None or len(answer.json()["points"]) != len(whole):
                self._ledger.blame("succeeded without its whole curve", entry.job)
            self._check_model(entry)


ACTS: tuple[tuple[Callable[[Client], None], int], ...] = (
    (Client._submit, 100),
    (Client._read, 100),
    (Client._read_curve, 70),
    (Client._read_model, 25),
    (Client._predict, 25),
    (Client._cancel, 2),
    (Client._pause, 4),
    (Client._resume, 8),
    (Client._delete, 2),
    (Client._delete_model, 1),
    (Client._list, 10),
    (Client._upload, 4),
)
"""What a client does, and how often."""


def settle(fleet: Fleet, ledger: Ledger) -> None:
    """Compare every curve and model that is left with the undisturbed ones."""
    checker = Client(fleet, ledger, seed=0, number=0)
    with fleet.caller(timeout=60) as checker._caller:
        for entry in ledger.entries():
            if entry.job is not None and not entry.delete_asked:
                checker._settle(entry)
