"""Whenever the API is killed, a request that is sent again with its key is done once."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.store.idempotency import ABANDONED_SECONDS
from app.store.tables import IdempotencyKey
from tests.app.api import crashing
from tests.app.api.callers import IRIS, QUICK, Caller, each_database, parts

KEY = {"Idempotency-Key": "again"}
Request = dict[str, Any]


@pytest.fixture
def kills(
    request: pytest.FixtureRequest, database_kind: str, tmp_path: Path
) -> Callable[..., Iterator[None]]:
    """Send a request again and again, killed a statement later each time, until it is answered."""
    url = request.getfixturevalue(f"{database_kind}_url")
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([crashing.__name__])

    def of(*sent: Any) -> Iterator[None]:
        for at in count():
            process = processes.Process(target=crashing.ask, args=(tmp_path, url, at, *sent))
            process.start()
            process.join()
            if process.exitcode == 0:
                assert at > 3
                return
            assert process.exitcode == -signal.SIGKILL
            yield

    return of


def listed(caller: Caller, path: str) -> list[str]:
    return [thing["id"] for thing in caller.get(path).json["data"]]


@each_database
def test_a_job_whose_answer_was_cut_off_is_submitted_once(ada, kills):
    spec = {"dataset": ada.dataset(), "target": "species", **QUICK}
    sent = {"json": spec, "headers": KEY}
    replayed = []
    for _ in kills("POST", "/v1/jobs", sent):
        before = listed(ada, "/v1/jobs")
        answer = ada.post("/v1/jobs", **sent)
        assert answer.status_code == 201, answer.text
        assert listed(ada, "/v1/jobs") == [answer.json["id"]]
        replayed.append("Idempotent-Replayed" in answer.headers)
        assert replayed[-1] is (before != [])
        _forget(ada, answer.json["id"])
    assert set(replayed) == {False, True}


def _forget(caller: Caller, job: str) -> None:
    caller.post(f"/v1/jobs/{job}/cancel")
    assert caller.delete(f"/v1/jobs/{job}").status_code == 204
    _age(caller, 1e9)


def _age(caller: Caller, seconds: float) -> None:
    with parts(caller.app).database.writing() as session:
        aged = IdempotencyKey.created_at - seconds
        session.execute(update(IdempotencyKey).values(created_at=aged))


@each_database
def test_an_upload_whose_answer_was_cut_off_is_one_dataset(ada, kills):
    sent = {"data": IRIS, "content_type": "text/csv", "headers": KEY}
    outcomes = set()
    for _ in kills("POST", "/v1/datasets", sent):
        before = listed(ada, "/v1/datasets")
        answer = ada.post("/v1/datasets", **sent)
        outcomes.add((answer.status_code, len(before)))
        if answer.status_code == 409:  # it looks as if it were still under way, for a while
            _age(ada, ABANDONED_SECONDS)
            answer = ada.post("/v1/datasets", **sent)
        assert answer.status_code == 201, answer.text
        assert listed(ada, "/v1/datasets") == [answer.json["id"]]
        assert ada.delete(f"/v1/datasets/{answer.json['id']}").status_code == 204
        _age(ada, 1e9)
    assert outcomes == {(201, 0), (409, 0), (201, 1)}


@pytest.mark.rare
@each_database
def test_an_upload_that_shares_a_file_and_is_cut_off_takes_it_from_nobody(ada, kills):
    sent = {"data": IRIS, "content_type": "text/csv", "headers": KEY}
    first, storage = ada.dataset(), parts(ada.app).storage
    for _ in kills("POST", "/v1/datasets", sent):
        for dataset in listed(ada, "/v1/datasets"):
            if dataset != first:
                assert ada.delete(f"/v1/datasets/{dataset}").status_code == 204
        assert ada.get(f"/v1/datasets/{first}/rows").json["data"]
        assert len(storage.files()) == 1
        _age(ada, 1e9)
    for dataset in listed(ada, "/v1/datasets"):
        assert ada.delete(f"/v1/datasets/{dataset}").status_code == 204
    assert storage.files() == []
