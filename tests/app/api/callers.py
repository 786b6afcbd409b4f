"""Callers of the API, each with a key, and what they send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.api.services import EXTENSION, Services
from app.config import Settings
from app.store.database import Database
from app.store.lifecycle import JobStatus
from app.store.tables import Job
from tests import canaries
from worker.runner import Runner

each_database = pytest.mark.parametrize("database_kind", ["sqlite", "postgres"], indirect=True)
"""Marks a test that runs on SQLite and on PostgreSQL."""

KEYS = canaries.KEYS

EXAMPLES = Path(__file__).parents[3] / "examples" / "data"
IRIS = (EXAMPLES / "iris.csv").read_bytes()
DIGITS = (EXAMPLES / "digits.csv.gz").read_bytes()

SMALL = {"layers": [{"type": "dense", "units": 8}]}
QUICK: dict[str, Any] = {"network": SMALL, "training": {"epochs": 3}}
"""Of a spec: what trains in no time."""

ABSENT = "00000000000000000000000000000000"
"""What follows the prefix in an id that nothing has."""


@dataclass(frozen=True)
class Route:
    """A route, with a path that leads there."""

    endpoint: str
    path: str
    methods: frozenset[str]


def routes(app: Flask) -> Iterator[Route]:
    """Yield every route there is, the static files' as well."""
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(\w+:)?\w+>", "x", rule.rule)
        yield Route(rule.endpoint, path, frozenset(rule.methods or ()))


@dataclass(frozen=True)
class Caller:
    """Somebody who calls the API, from any thread."""

    app: Flask
    key: str

    def call(self, method: str, path: str, headers: Any = None, **options: Any) -> TestResponse:
        sent = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        return self.app.test_client(use_cookies=False).open(
            path, method=method, headers=sent, **options
        )

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.call("GET", path, **options)

    def post(self, path: str, **options: Any) -> TestResponse:
        return self.call("POST", path, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        return self.call("DELETE", path, **options)

    def send(self, data: bytes = IRIS, kind: str = "text/csv", **options: Any) -> TestResponse:
        """Upload the raw bytes of a dataset."""
        query = options.pop("query", "")
        return self.post(f"/v1/datasets{query}", data=data, content_type=kind, **options)

    def dataset(self, data: bytes = IRIS, kind: str = "text/csv") -> str:
        """Upload a dataset; return its id."""
        answer = self.send(data, kind)
        assert answer.status_code == 201, answer.text
        return str(answer.json["id"])

    def job(self, dataset: str, target: Any = "species", **spec: Any) -> str:
        """Queue a job that trains in no time; return its id."""
        body = {"dataset": dataset, "target": target, **QUICK, **spec}
        answer = self.post("/v1/jobs", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json["id"])

    def trained(self, dataset: str, target: Any = "species", **spec: Any) -> dict[str, Any]:
        """Train to the end; return the job."""
        job = self.job(dataset, target, **spec)
        run(self.app, job)
        return dict(self.get(f"/v1/jobs/{job}").json)

    def model(self, dataset: str, target: Any = "species", **spec: Any) -> str:
        """Train a model; return its id."""
        job = self.trained(dataset, target, **spec)
        assert job["status"] == "succeeded", job
        return str(job["model"])

    def predict(self, model: str, instances: Any, **options: Any) -> TestResponse:
        return self.post(f"/v1/models/{model}/predict", json={"instances": instances}, **options)


def parts(app: Flask) -> Services:
    """Return what the application works with."""
    services: Services = app.extensions[EXTENSION]
    return services


def ask_to_end(app: Flask) -> None:
    """Have an application hear that its process is to end."""
    app.extensions[EXTENSION] = replace(parts(app), ending=lambda: True)


def run(app: Flask, job: str) -> None:
    """Be the worker until one job has had its turn."""
    services = parts(app)
    settings = Settings.model_validate({**dict(services.settings), "heartbeat_seconds": 1e-3})
    runner = Runner(settings, services.database, services.storage, stopping=lambda: False)
    while _is_queued(services.database, job):
        runner.run()


def _is_queued(database: Database, job: str) -> bool:
    with database.reading() as session:
        return session.get_one(Job, job).status is JobStatus.QUEUED


def csv(*lines: str) -> bytes:
    return "\n".join([*lines, ""]).encode()


def sampled(rows: int = 60) -> bytes:
    """A table of every type that a network sees: numbers, a flag, a category, and targets."""
    rng = np.random.default_rng(7)
    lines = ["size,count,fresh,colour,price,weight,grade,sold"]
    for row in range(rows):
        size, count = rng.uniform(1, 5), int(rng.integers(0, 9))
        fresh, colour = bool(row % 2), ("red", "green", "blue")[row % 3]
        price = 1000 + 100 * size + 10 * count
        lines.append(
            f"{size:.3f},{count},{str(fresh).lower()},{colour},{price:.2f},"
            f"{size / 1000:.6f},{row % 4},{str(size > 3).lower()}"
        )
    return csv(*lines)


def problem(answer: TestResponse, status: int) -> dict[str, Any]:
    """Make sure that an answer is a problem of this status; return its body."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    body: dict[str, Any] = answer.json
    assert set(body) - {"errors"} == {
        "type",
        "title",
        "status",
        "detail",
        "instance",
        "request_id",
    }
    assert body["status"] == status
    assert body["title"].endswith(".")
    assert body["detail"]
    assert body["request_id"] == answer.headers["X-Request-Id"]
    return body


def refusal(answer: TestResponse, pointer: str) -> str:
    """Make sure that an answer refuses a body at ``pointer``; return the reason."""
    body = problem(answer, 422)
    reasons = {error["pointer"]: error["detail"] for error in body["errors"]}
    assert pointer in reasons, body
    return str(reasons[pointer])
