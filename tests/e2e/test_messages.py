"""Whoever reaches the broker can ask for a job's turn, and for nothing else."""

from __future__ import annotations

import json

import pytest
from kombu import Connection

from app.dispatch import QUEUE, TRAIN
from tests.e2e.services import TERMINAL, workers
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e

QUICK = {"target": "species", "training": {"epochs": 2}}
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def body(*arguments, **keywords):
    return json.dumps([arguments, keywords, EMBED])


def messages(run):
    """Yield the body, content type and task of messages that nobody of ours would send."""
    yield f"cos\nsystem\n(S'{run}'\ntR.", "application/x-python-serialize", TRAIN
    yield f"!!python/object/apply:os.system ['{run}']", "application/x-yaml", TRAIN
    yield body(run), "application/json", "os.system"
    yield body(run), "application/json", "celery.backend_cleanup"
    yield body({"task": "os.system"}, [[run]]), "application/json", "celery.map"
    yield body(), "application/json", TRAIN
    yield body("job_1", "job_2", more=1), "application/json", TRAIN
    yield body({"__type__": "os.system", "__value__": run}), "application/json", TRAIN
    yield "[[", "application/json", TRAIN


def test_a_message_that_is_no_doorbell_runs_nothing_and_kills_nobody(production, tmp_path):
    [worker] = workers(production.home)
    family = {process.pid for process in [worker, *worker.children()]}
    mark = tmp_path / "ran"
    with Connection(production.environment["CHAINRULE_BROKER_URL"]) as connection:
        producer = connection.Producer()
        for number, (sent, kind, task) in enumerate(messages(f"touch {mark}")):
            producer.publish(
                sent,
                routing_key=QUEUE,
                content_type=kind,
                content_encoding="utf-8",
                headers={"task": task, "id": f"odd-{number}", "lang": "py"},
            )
    wait_until(lambda: production.broker.llen(QUEUE) == 0)
    caller = production.caller
    job = caller.submit(caller.upload(), **QUICK)
    assert caller.wait_for(job, *TERMINAL)["status"] == "succeeded"
    assert not mark.exists()
    assert {process.pid for process in [worker, *worker.children()]} == family
