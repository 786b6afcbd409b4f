"""Who asks too often, has too much or tries keys is refused, in all processes together."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select, update

from app.api import login
from app.api.login import address_of
from app.store.tables import RateLimit
from tests.app.api.callers import (
    ABSENT,
    KEYS,
    QUICK,
    Caller,
    each_database,
    parts,
    problem,
    refusal,
    run,
)

LIMITED = {"owner_requests_per_minute": 5}


def let_pass(app, seconds):
    """Set the clock forward, as far as rates in the database can tell."""
    with parts(app).database.writing() as session:
        session.execute(update(RateLimit).values(full_at=RateLimit.full_at - seconds))


def standing(answer):
    """Read the headers of the draft as structured fields: name and parameters."""
    found = {}
    for header in ("RateLimit-Policy", "RateLimit"):
        match = re.fullmatch(r'"([a-z-]+)";([a-z])=(\d+);([a-z])=(\d+)', answer.headers[header])
        found |= {"name": match[1], match[2]: int(match[3]), match[4]: int(match[5])}
    return found


# Requests.


@each_database
def test_requests_are_counted_in_all_processes_together(make_app):
    callers = [Caller(make_app(**LIMITED), KEYS["ada"]) for _ in range(2)]
    answers = [callers[number % 2].get("/v1/datasets") for number in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert [standing(answer)["r"] for answer in answers] == [4, 3, 2, 1, 0]
    assert standing(answers[0]) == {"name": "requests", "q": 5, "w": 60, "r": 4, "t": 12}
    for caller in callers:
        answer = caller.get("/v1/datasets")
        detail = problem(answer, 429)["detail"]
        assert "too many requests of 'ada': 5 a minute are allowed; try again in" in detail
        assert 1 <= int(answer.headers["Retry-After"]) <= 12
        assert standing(answer)["r"] == 0
        assert standing(answer)["t"] >= int(answer.headers["Retry-After"])
    let_pass(callers[0].app, 12)
    assert callers[0].get("/v1/datasets").status_code == 200


def test_each_owner_has_their_own_rate_whatever_they_ask_for(make_app):
    app = make_app(**LIMITED)
    ada, charles = (Caller(app, key) for key in KEYS.values())
    asked = [
        ada.get("/v1/nothing"),
        ada.get(f"/v1/jobs/job_{ABSENT}"),
        ada.post("/v1/jobs", data="{", content_type="application/json"),
        ada.call("HEAD", "/v1/jobs"),
        ada.call("OPTIONS", "/v1/jobs"),
    ]
    assert [standing(answer)["r"] for answer in asked] == [4, 3, 2, 1, 0]
    problem(ada.get("/v1/datasets"), 429)
    assert charles.get("/v1/datasets").status_code == 200


@pytest.mark.parametrize("path", ["/healthz/live", "/healthz/ready", "/openapi.json", "/docs"])
def test_what_is_public_is_free(make_app, path):
    ada = Caller(make_app(owner_requests_per_minute=1), KEYS["ada"])
    ada.get("/v1/datasets")
    answers = [ada.get(path) for _ in range(3)]
    assert all(answer.status_code == 200 for answer in answers)
    assert not any("RateLimit" in answer.headers for answer in answers)


def test_without_a_limit_nothing_is_written_and_nothing_said(ada, app):
    answer = ada.get("/v1/datasets")
    assert not [name for name, _ in answer.headers if "ratelimit" in name.lower()]
    with parts(app).database.reading() as session:
        assert session.scalar(select(func.count()).select_from(RateLimit)) == 0


def test_one_who_needs_no_key_is_limited_as_well(make_app):
    client = make_app(api_keys={}, owner_requests_per_minute=1).test_client()
    assert client.get("/v1/datasets").status_code == 200
    assert client.get("/v1/datasets").status_code == 429


# Keys that are tried.


def attempt(app, key="wrong", address="192.0.2.1", **headers):
    headers = {"Authorization": f"Bearer {key}", **headers}
    overrides = {"REMOTE_ADDR": address}
    return app.test_client().get("/v1/datasets", headers=headers, environ_overrides=overrides)


TRIES = {"failed_logins_per_minute": 4}


@each_database
def test_of_keys_that_are_tried_so_many_are_answered_in_all_processes_together(make_app):
    apps = [make_app(**TRIES) for _ in range(2)]
    tried = [attempt(apps[number % 2], f"key_{ABSENT}_{'0' * 64}") for number in range(10)]
    assert [answer.status_code for answer in tried] == [401] * 4 + [429] * 6
    refused = tried[-1]
    detail = problem(refused, 429)["detail"]
    assert "too many unknown keys from this address: 4 a minute are allowed" in detail
    found = standing(refused)
    assert (found["name"], found["q"], found["w"], found["r"]) == ("failed-logins", 4, 60, 0)
    assert 1 <= int(refused.headers["Retry-After"]) <= 15


def test_after_too_many_no_key_from_there_is_looked_at_for_a_while(make_app, monkeypatch):
    app = make_app(**TRIES)
    for _ in range(5):
        attempt(app)
    problem(attempt(app, KEYS["ada"]), 429)
    assert attempt(app, KEYS["ada"], "192.0.2.2").status_code == 200
    let_pass(app, 15)
    later = time.monotonic() + 15
    monkeypatch.setattr(login, "time", SimpleNamespace(monotonic=lambda: later))
    assert attempt(app, KEYS["ada"]).status_code == 200
    assert attempt(app).status_code == 401
    problem(attempt(app), 429)


def test_a_right_key_costs_nothing_and_neither_does_none(make_app):
    app = make_app(**TRIES)
    for _ in range(10):
        assert attempt(app, KEYS["ada"]).status_code == 200
        assert app.test_client().get("/v1/datasets").status_code == 401
    with parts(app).database.reading() as session:
        assert session.scalar(select(func.count()).select_from(RateLimit)) == 0


@pytest.mark.parametrize(
    ("remote", "forwarded", "proxies", "address"),
    [
        ("192.0.2.1", "", 0, "192.0.2.1"),
        ("192.0.2.1", "203.0.113.9", 0, "192.0.2.1"),
        ("192.0.2.1", "203.0.113.9", 1, "203.0.113.9"),
        ("192.0.2.1", "198.51.100.7, 203.0.113.9", 1, "203.0.113.9"),
        ("192.0.2.1", "198.51.100.7, 203.0.113.9", 2, "198.51.100.7"),
        ("192.0.2.1", "", 1, "192.0.2.1"),
        ("192.0.2.1", "203.0.113.9", 3, "203.0.113.9"),
        ("192.0.2.1", "x" * 500, 1, "x" * 100),
        ("::ffff:192.0.2.1", "", 0, "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "", 0, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "", 0, "2001:db8:1:2::/64"),
        ("", "", 0, ""),
    ],
)
def test_an_address_is_that_before_the_proxies(remote, forwarded, proxies, address):
    environ = {"REMOTE_ADDR": remote, "HTTP_X_FORWARDED_FOR": forwarded}
    assert address_of(environ, proxies) == address


def test_who_tries_keys_through_a_proxy_harms_nobody_else(make_app):
    app = make_app(proxies=1, **TRIES)
    for _ in range(5):
        attempt(app, **{"X-Forwarded-For": "203.0.113.9"})
    assert attempt(app, KEYS["ada"], **{"X-Forwarded-For": "203.0.113.9"}).status_code == 429
    assert attempt(app, KEYS["ada"], **{"X-Forwarded-For": "203.0.113.10"}).status_code == 200


def test_addresses_without_end_take_no_memory_without_end(make_app, monkeypatch):
    monkeypatch.setattr("app.api.login.MOST_SILENCED", 3)
    app = make_app(failed_logins_per_minute=1)
    for number in range(10):
        statuses = [attempt(app, address=f"192.0.2.{number}").status_code for _ in range(3)]
        assert statuses == [401, 429, 429]
    assert len(parts(app).login._silenced) <= 4


# What an owner has.


def test_what_one_has_and_may_have_is_shown(make_app):
    app = make_app(owner_datasets=3, owner_queued_jobs=9)
    ada = Caller(app, KEYS["ada"])
    dataset = ada.dataset()
    first, _ = (ada.job(dataset) for _ in range(2))
    run(app, first)
    found = ada.get("/v1/usage").json
    trained = found.pop("training_seconds")
    assert trained["limit"] is None
    assert 0 < trained["used"] < 60
    assert found == {
        "datasets": {"used": 1, "limit": 3},
        "dataset_bytes": {
            "used": ada.get(f"/v1/datasets/{dataset}").json["stored_bytes"],
            "limit": None,
        },
        "queued_jobs": {"used": 1, "limit": 9},
        "running_jobs": {"used": 0, "limit": None},
    }
    theirs = Caller(app, KEYS["charles"]).get("/v1/usage").json
    assert {share["used"] for share in theirs.values()} == {0}


@each_database
def test_a_dataset_over_the_quota_is_refused_and_leaves_nothing(make_app):
    app = make_app(owner_datasets=1)
    ada = Caller(app, KEYS["ada"])
    first = ada.dataset()
    refused = problem(ada.send(headers={"Idempotency-Key": "again"}), 403)
    assert refused["title"] == "The quota is used up."
    assert refused["detail"].startswith("2 datasets with this one; the limit is 1; delete")
    assert len(parts(app).storage.files()) == 1
    assert len(ada.get("/v1/datasets").json["data"]) == 1
    ada.delete(f"/v1/datasets/{first}")
    assert ada.send(headers={"Idempotency-Key": "again"}).status_code == 201


def test_a_dataset_whose_file_is_over_the_quota_is_refused_and_leaves_nothing(make_app):
    size = Caller(make_app(), KEYS["charles"]).send().json["stored_bytes"]
    app = make_app(owner_dataset_bytes=2 * size - 1)
    ada = Caller(app, KEYS["ada"])
    ada.dataset()
    before = len(parts(app).storage.files())
    assert f"{2 * size:,} bytes of datasets" in problem(ada.send(), 403)["detail"]
    assert len(parts(app).storage.files()) == before


def test_an_answer_is_repeated_also_to_one_who_may_have_no_more(make_app):
    ada = Caller(make_app(owner_datasets=1, owner_queued_jobs=1), KEYS["ada"])
    key = {"headers": {"Idempotency-Key": "one"}}
    first, again = (ada.send(**key) for _ in range(2))
    assert first.json == again.json
    body = {"dataset": first.json["id"], "target": "species", **QUICK}
    key = {"headers": {"Idempotency-Key": "two"}}
    first, again = (ada.post("/v1/jobs", json=body, **key) for _ in range(2))
    assert first.json == again.json


@each_database
def test_a_job_over_the_quota_is_refused_until_one_is_done(make_app):
    app = make_app(owner_queued_jobs=1)
    ada = Caller(app, KEYS["ada"])
    body = {"dataset": ada.dataset(), "target": "species", **QUICK}
    first = ada.post("/v1/jobs", json=body).json["id"]
    refused = problem(ada.post("/v1/jobs", json=body), 429)
    assert refused["title"] == "The quota is used up for now."
    assert refused["detail"].startswith("2 waiting jobs with this one; the limit is 1; wait")
    run(app, first)
    assert ada.post("/v1/jobs", json=body).status_code == 201


def test_who_has_trained_for_long_enough_submits_nothing_more(make_app):
    app = make_app(owner_training_seconds=1e-9)
    ada = Caller(app, KEYS["ada"])
    dataset = ada.dataset()
    job = ada.job(dataset)
    run(make_app(), job)
    body = {"dataset": dataset, "target": "species", **QUICK}
    refused = problem(ada.post("/v1/jobs", json=body), 429)
    assert "seconds of training within 24 hours" in refused["detail"]


# What a job asks for.


def test_a_job_of_more_arithmetic_than_one_may_ask_for_is_refused_with_both_numbers(make_app):
    counted = Caller(make_app(), KEYS["ada"])
    dataset = counted.dataset()
    body = {"dataset": dataset, "target": "species", **QUICK}
    count = counted.post("/v1/jobs", json=body).json["multiply_adds"]
    assert Caller(make_app(job_multiply_adds=count), KEYS["ada"]).job(dataset)
    ada = Caller(make_app(job_multiply_adds=count - 1), KEYS["ada"])
    reason = refusal(ada.post("/v1/jobs", json=body), "/training/epochs")
    assert f"{count:,} multiply-adds in all; the limit is {count - 1:,}; use fewer" in reason
