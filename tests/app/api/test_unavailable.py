"""While the database is away every call says so soon, and once it is back everything goes on."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.config import Settings
from app.factory import create_app
from app.store import migrate
from app.store.database import Database
from tests import servers
from tests.app.api.callers import IRIS, KEYS, Caller, parts, problem
from tests.app.store.rows import race
from tests.lines import line
from tests.waiting import wait_until

SOON_SECONDS = 6
"""A ping and a connection of three seconds each, at most."""

FLOWER = {"instances": [[5.1, 3.5, 1.4, 0.2]]}


@pytest.fixture(scope="module")
def server():
    with servers.postgres_process() as server:
        database = Database(server.url + "postgres")
        migrate.upgrade(database)
        database.dispose()
        yield server


@pytest.fixture(scope="module")
def cable(server):
    """The line to the server, and the URL that leads over it."""
    with line(server.url) as laid:
        yield laid


@pytest.fixture
def ada(cable, tmp_path):
    """One who has a dataset, jobs and a model in a database that may come to harm."""
    url = cable[1] + "postgres"
    app = create_app(Settings(home=tmp_path, database_url=url, api_keys=KEYS))
    yield Caller(app, KEYS["ada"])
    parts(app).database.dispose()


@pytest.fixture
def calls(ada):
    """Every kind of call that needs the database."""
    dataset = ada.dataset()
    model, job = ada.model(dataset), ada.job(dataset)
    trained = ada.get(f"/v1/models/{model}").json["job"]
    order = {"dataset": dataset, "target": "species"}
    key = {"Idempotency-Key": dataset}
    return {
        "list": lambda: ada.get("/v1/jobs"),
        "show": lambda: ada.get(f"/v1/jobs/{job}"),
        "wait": lambda: ada.get(f"/v1/jobs/{trained}?wait=60"),
        "curve": lambda: ada.get(f"/v1/jobs/{trained}/curve"),
        "dataset": lambda: ada.get(f"/v1/datasets/{dataset}"),
        "models": lambda: ada.get("/v1/models"),
        "predict": lambda: ada.post(f"/v1/models/{model}/predict", json=FLOWER),
        "evaluate": lambda: ada.post(f"/v1/models/{model}/evaluate", json={"dataset": dataset}),
        "weights": lambda: ada.get(f"/v1/models/{model}/weights"),
        "submit": lambda: ada.post("/v1/jobs", json=order),
        "submit once": lambda: ada.post("/v1/jobs", json=order, headers=key),
        "upload": lambda: ada.send(IRIS),
    }


def assert_unavailable(answer):
    assert "does not answer" in problem(answer, 503)["detail"]
    assert int(answer.headers["Retry-After"]) > 0


@pytest.fixture(params=["frozen", "cut", "killed"])
def away(request, server, cable):
    """Take the server away; and give it back."""

    def start():
        server.start()
        server.wait_until_it_answers()

    ways = {
        "frozen": (server.freeze, server.thaw),
        "cut": (cable[0].cut, cable[0].mend),
        "killed": (server.kill, start),
    }
    return ways[request.param]


def test_while_the_database_is_away_every_call_says_so_soon_and_works_once_it_is_back(calls, away):
    take, give = away
    before = [call().status_code for call in calls.values()]
    take()
    try:
        begun = time.monotonic()
        answers = race(len(calls), lambda number: list(calls.values())[number]())
        took = time.monotonic() - begun
    finally:
        give()
    for answer in answers:
        assert_unavailable(answer)
    assert took < SOON_SECONDS
    after = [call().status_code for call in calls.values()]
    assert after == before


def test_a_readiness_that_is_asked_of_a_database_that_is_away_says_so_soon(ada, away):
    take, give = away
    ada.get("/v1/jobs")
    take()
    try:
        begun = time.monotonic()
        answer = ada.get("/healthz/ready")
        assert ada.get("/healthz/live").status_code == 200
        took = time.monotonic() - begun
    finally:
        give()
    assert (answer.status_code, answer.json["dependencies"]["broker"]) == (503, "ok")
    assert "does not answer" in answer.json["dependencies"]["database"]
    assert took < SOON_SECONDS


def test_a_restart_in_the_midst_of_calls_is_told_or_not_noticed(calls, server, thorough):
    each = list(calls.values())
    told = set()

    def restart():
        server.kill()
        server.start()
        server.wait_until_it_answers()

    for _ in range(20 if thorough else 3):
        with ThreadPoolExecutor(len(each)) as pool:
            over = threading.Event()
            answers = [pool.submit(until, over, call) for call in each]
            wait_until(lambda found=answers: all(each.running() for each in found))
            restart()
            over.set()
        for answer in (one for found in answers for one in found.result()):
            told.add(answer.status_code)
            if answer.status_code >= 500:
                assert_unavailable(answer)
        assert {call().status_code for call in each} <= {200, 201}
    assert 503 in told
    assert told <= {200, 201, 409, 503}  # 409: the first with the key is not answered yet


def until(over, call):
    """Call again and again, until it is over; return the answers."""
    answers = []
    while not over.is_set():
        answers.append(call())
    return answers
