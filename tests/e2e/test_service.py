"""The service keeps its promises in both shapes, whatever happens to its worker and its broker."""

from __future__ import annotations

import time
from itertools import islice

import pytest

from app.store.database import Database
from app.store.tables import Job
from tests.e2e.services import DIGITS, DISTURBED, EPOCHS, TERMINAL, log_lines
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e

ENDLESS = {"target": "species", "training": {"epochs": 1_000_000}}


@pytest.fixture(scope="session")
def undisturbed(embedded):
    """What comes of a job when nothing happens to it."""
    caller = embedded.caller
    job = caller.submit(caller.upload(DIGITS), **DISTURBED)
    assert caller.wait_for(job, *TERMINAL)["status"] == "succeeded"
    return outcome(caller, job)


def outcome(caller, job):
    """Return the weights of a job's model, and its curve without the seconds, which differ."""
    points = [{**point, "seconds": None} for point in caller.curve(job)]
    return caller.weights(job), points


def row(service, job):
    """Return a job as the database has it."""
    database = Database(service.database_url)
    try:
        with database.reading() as session:
            return session.get_one(Job, job)
    finally:
        database.dispose()


def test_irises_are_learnt_and_predicted(service):
    caller = service.caller
    job = caller.submit(caller.upload(), target="species", seed=7)
    found = caller.wait_for(job, *TERMINAL)
    assert (found["status"], found["attempt"], found["error"]) == ("succeeded", 1, None)
    assert found["metrics"]["accuracy"] > 0.9
    assert caller.epochs(job) == list(range(1, 101))
    flowers = {"setosa": [5.1, 3.5, 1.4, 0.2], "virginica": [6.3, 3.3, 6.0, 2.5]}
    url = f"/v1/models/{found['model']}/predict"
    answer = caller.post(url, json={"instances": list(flowers.values())}).json()
    assert [prediction["label"] for prediction in answer["predictions"]] == list(flowers)


def test_a_cancel_is_seen_within_two_seconds(service):
    caller = service.caller
    dataset = caller.upload()

    def is_quick():
        job = caller.submit(dataset, **ENDLESS)
        caller.wait_for_epoch(job, 1)
        seconds = caller.seconds_to_cancel(job)
        assert caller.epochs(job)[0] == 1
        return seconds <= 2

    assert any(is_quick() for _ in range(5))  # a busy machine may be late now and then


def follow(caller, job):
    """Watch a job's curve to the end: at no moment has it a gap or a duplicate."""
    while caller.job(job)["status"] not in TERMINAL:
        epochs = caller.epochs(job)
        assert epochs == list(range(1, len(epochs) + 1))
        time.sleep(0.05)
    assert caller.epochs(job) == list(range(1, EPOCHS + 1))


@pytest.mark.rare("embedded")
def test_a_job_whose_worker_is_killed_is_taken_over_and_ends_as_if_undisturbed(
    service, undisturbed
):
    caller = service.caller
    job = caller.submit(caller.upload(DIGITS), **DISTURBED)
    caller.wait_for_epoch(job, 2)  # the first heartbeat, and the first checkpoint
    service.kill_worker()
    follow(caller, job)
    found = caller.job(job)
    assert found["status"] == "succeeded"
    assert found["attempt"] > 1
    assert outcome(caller, job) == undisturbed


@pytest.mark.rare("production")
def test_a_worker_that_is_asked_to_end_puts_its_job_back_for_the_next(service, undisturbed):
    caller = service.caller
    job = caller.submit(caller.upload(DIGITS), **DISTURBED)
    caller.wait_for_epoch(job, 2)  # the first heartbeat, and the first checkpoint
    service.end_worker()
    follow(caller, job)
    found = row(service, job)
    assert (found.status, found.attempt, found.failures) == ("succeeded", 2, 0)
    assert outcome(caller, job) == undisturbed


@pytest.mark.rare("embedded")
def test_a_pause_is_seen_long_before_the_end_and_changes_nothing_in_it(service, undisturbed):
    caller = service.caller
    job = caller.submit(caller.upload(DIGITS), **DISTURBED)
    done = 1
    for _ in range(2):
        caller.wait_for_epoch(job, done + 1)
        caller.post(f"/v1/jobs/{job}/pause").raise_for_status()
        paused = caller.wait_for(job, "paused")
        done = paused["progress"]["epoch"]
        assert done < EPOCHS
        caller.post(f"/v1/jobs/{job}/resume").raise_for_status()
    assert caller.wait_for(job, *TERMINAL)["status"] == "succeeded"
    found = row(service, job)
    assert (found.attempt, found.failures) == (3, 0)
    assert outcome(caller, job) == undisturbed


def test_jobs_outlive_a_broker_that_forgets_everything(production):
    caller = production.caller
    dataset = caller.upload()
    first = caller.submit(dataset, **ENDLESS)
    caller.wait_for_epoch(first, 1)
    others = [caller.submit(dataset, target="species") for _ in range(3)]
    wait_until(lambda: all(row(production, job).rung_at for job in others))
    assert production.broker.llen("chainrule") >= 3
    production.broker.flushall()
    caller.post(f"/v1/jobs/{first}/cancel").raise_for_status()
    for job in others:
        assert caller.wait_for(job, *TERMINAL)["status"] == "succeeded"


def test_every_line_of_the_logs_is_an_object_with_the_id_of_what_it_is_about(service):
    caller = service.caller
    before = {command: len(list(log_lines(command.logged))) for command in service.commands}
    job = caller.submit(caller.upload(), target="species")
    caller.wait_for(job, "succeeded")

    def logged():
        """Return what was logged since; other tests do what is an error."""
        return [
            line
            for command, skipped in before.items()
            for line in islice(log_lines(command.logged), skipped, None)
        ]

    # The worker logs the end after it has committed it.
    wait_until(lambda: any((x["message"], x.get("job_id")) == ("succeeded", job) for x in logged()))
    lines = logged()
    assert {line["role"] for line in lines} >= {"api", "worker"}
    assert all(line["request_id"] for line in lines if line["logger"] == "app.access")
    of_runner = [line for line in lines if line["logger"] in ("worker.runner", "worker.training")]
    assert all(line["job_id"] for line in of_runner)
    assert {line["message"] for line in of_runner if line["job_id"] == job} == {
        "claimed",
        "succeeded",
    }
    served = [line for line in lines if line["role"] in ("api", "worker")]
    assert not [line for line in served if line["level"] in ("ERROR", "CRITICAL")]
