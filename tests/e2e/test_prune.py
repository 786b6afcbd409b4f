"""Pruning beside a service that works, twice at once, takes what is old and nothing else."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest
from sqlalchemy import update

from app.config import child_environment
from app.store.database import Database
from app.store.tables import Job, now
from tests.e2e.services import ROOT

pytestmark = pytest.mark.e2e

ENDLESS = {"target": "species", "training": {"epochs": 1_000_000}}


def age(service, job):
    database = Database(service.database_url)
    try:
        with database.writing() as session:
            then = {"finished_at": now() - timedelta(days=40)}
            session.execute(update(Job).where(Job.id == job).values(then))
    finally:
        database.dispose()


def test_an_old_job_goes_while_another_trains_and_its_model_still_predicts(service):
    caller = service.caller
    dataset = caller.upload()
    old = caller.submit(dataset, target="species")
    model = caller.wait_for(old, "succeeded")["model"]
    age(service, old)
    running = caller.submit(dataset, **ENDLESS)
    caller.wait_for_epoch(running, 1)
    command = [sys.executable, "-m", "app.cli", "prune", "--older-than=30d"]
    environment = {**child_environment(), **service.environment}
    both = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [prune.wait(60) for prune in both] == [0, 0]
    assert caller.get(f"/v1/jobs/{old}").status_code == 404
    flower = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
    assert caller.post(f"/v1/models/{model}/predict", json=flower).is_success
    epoch = caller.job(running)["progress"]["epoch"]
    caller.wait_for_epoch(running, epoch + 10)
    caller.post(f"/v1/jobs/{running}/cancel").raise_for_status()
    caller.wait_for(running, "cancelled")
    assert caller.submit(dataset, target="species")
