"""What the short way remembers is good for a second, and no longer than nothing changes here."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from types import SimpleNamespace

import pytest
from sqlalchemy import update

from app.api import hot as hot_module
from app.api import reception, tables
from app.store.tables import ApiKey, now
from tests.app.api.asker import ROW, Asker, inference, rows, tensor
from tests.app.api.callers import KEYS, Caller, parts
from tests.waiting import PATIENCE_SECONDS

PROMISED_SECONDS = 1.0
INFERENCE = inference(tensor(ROW, [1, 4]))


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that stands until it is moved."""
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(hot_module, "time", SimpleNamespace(perf_counter=lambda: clock.seconds))
    return clock


@pytest.fixture
def mine(ada):
    """A model of a test's own, by its name, and another."""
    models = [ada.model(ada.dataset(), training={"epochs": n}) for n in (1, 2)]
    assert ada.call("PUT", "/v1/names/flowers", json={"model": models[0]}).status_code < 300
    return Asker(ada.app), models


def test_what_changes_in_this_process_takes_effect_at_once(ada, mine):
    ask, (first, second) = mine
    path = "/v1/models/flowers/predict"
    for model in (first, second, first):
        ada.call("PUT", "/v1/names/flowers", json={"model": model})
        answers = [json.loads(ask(path, rows(ROW))[2]) for _ in range(2)]
        assert answers[0] == answers[1]
        assert answers[0]["model"] == model
    assert ask.answered == 3
    assert json.loads(ask("/v2/models/flowers/infer", INFERENCE)[2])["model_version"] == "3"
    ask(f"/v1/models/{second}/predict", rows(ROW))
    assert ada.delete(f"/v1/models/{second}").status_code == 204
    assert ask(f"/v1/models/{second}/predict", rows(ROW))[0] == 404


def wait_a_second(clock, ask, path, body, **headers):
    """Wait, while the request that is to look again hangs and others are still answered."""
    clock.seconds = PROMISED_SECONDS / 2
    assert ask.hot.asked(ask.scope(path, body, **headers)).known is None
    assert ask(path, body, **headers)[0] == 200
    clock.seconds = PROMISED_SECONDS


def test_a_model_deleted_elsewhere_is_gone_within_a_second(mine, make_app, clock):
    ask, (_, second) = mine
    path, elsewhere = f"/v1/models/{second}/predict", Caller(make_app(), KEYS["ada"])
    ask(path, rows(ROW))
    assert elsewhere.delete(f"/v1/models/{second}").status_code == 204
    assert [ask(path, rows(ROW))[0], ask.answered] == [200, 1]
    wait_a_second(clock, ask, path, rows(ROW))
    assert [ask(path, rows(ROW))[0] for _ in range(2)] == [404, 404]


@pytest.mark.parametrize(
    ("call", "body"),
    [("v1/models/flowers/predict", rows(ROW)), ("v2/models/flowers/infer", INFERENCE)],
)
def test_a_name_switched_elsewhere_means_the_other_model_within_a_second(
    mine, make_app, clock, call, body
):
    ask, (first, second) = mine
    elsewhere = Caller(make_app(), KEYS["ada"])

    def model():
        told = json.loads(ask(f"/{call}", body)[2])
        return told["model"] if "model" in told else told["parameters"]["model"]

    assert model() == first
    elsewhere.call("PUT", "/v1/names/flowers", json={"model": second})
    assert [model(), ask.answered] == [first, 1]
    wait_a_second(clock, ask, f"/{call}", body)
    assert [model(), model(), ask.answered] == [second, second, 3]


@pytest.fixture
def key(ada):
    """A key of Ada's that was made for this."""
    return ada.post("/v1/keys", json={"owner": "ada", "scopes": ["predict"]}).json


@pytest.mark.parametrize("ended", ["revoked_at", "expires_at"])
def test_a_key_that_was_revoked_elsewhere_or_is_over_opens_nothing_within_a_second(
    mine, key, clock, ended
):
    ask, (first, _) = mine
    path, sent = f"/v1/models/{first}/predict", {"authorization": f"Bearer {key['key']}"}

    def status():
        return ask(path, rows(ROW), **sent)[0]

    assert [status(), status(), ask.answered] == [200, 200, 1]
    with parts(ask.app).database.writing() as session:
        session.execute(update(ApiKey).values({ended: now()}))
    assert [status(), ask.answered] == [200, 2]
    wait_a_second(clock, ask, path, rows(ROW), **sent)
    assert [status(), status(), ask.answered] == [401, 401, 3]


def test_a_key_that_is_revoked_here_opens_nothing_at_once(ada, mine, key):
    ask, (first, _) = mine
    path, sent = f"/v1/models/{first}/predict", {"authorization": f"Bearer {key['key']}"}
    assert [ask(path, rows(ROW), **sent)[0] for _ in range(2)] == [200, 200]
    assert ada.delete(f"/v1/keys/{key['id']}").status_code == 204
    assert [ask(path, rows(ROW), **sent)[0], ask.answered] == [401, 1]


def test_half_way_one_request_renews_what_is_remembered_and_the_others_go_on(mine, clock):
    ask, (first, _) = mine
    path = f"/v1/models/{first}/predict"
    ask(path, rows(ROW))
    clock.seconds = PROMISED_SECONDS / 2
    scope = ask.scope(path, rows(ROW))
    assert [ask.hot.asked(scope).known is None for _ in range(3)] == [True, False, False]


def test_of_many_who_ask_the_same_for_the_first_time_one_goes_to_flask(mine):
    ask, (first, _) = mine
    answers = ask.at_once(f"/v1/models/{first}/predict", *[rows(ROW)] * 9)
    assert [status for status, _, _ in answers] == [200] * 9
    assert len({body for _, _, body in answers}) == 1
    assert ask.answered == 8


def test_they_all_go_to_flask_where_it_refuses_the_first(mine):
    ask, (first, _) = mine
    wrong = {"authorization": "Bearer wrong"}
    answers = ask.at_once(f"/v1/models/{first}/predict", *[rows(ROW)] * 9, **wrong)
    assert [status for status, _, _ in answers] == [401] * 9
    assert ask.answered == 0
    assert ask.reception._ahead == {}


def test_nobody_waits_for_long_where_the_first_one_hangs(mine, monkeypatch):
    ask, (first, _) = mine
    answer, gone_on, asked = ask.app.wsgi_app, threading.Event(), []

    def hang(environ, start):
        asked.append(environ)
        if len(asked) == 1:
            assert gone_on.wait(PATIENCE_SECONDS)
        gone_on.set()
        return answer(environ, start)

    monkeypatch.setattr(ask.app, "wsgi_app", hang)
    answers = ask.at_once(f"/v1/models/{first}/predict", *[rows(ROW)] * 2)
    assert [status for status, _, _ in answers] == [200, 200]


def test_who_reads_a_long_answer_slowly_keeps_nobody_waiting(mine, monkeypatch):
    ask, (first, _) = mine
    monkeypatch.setattr(reception, "AHEAD_SECONDS", 10 * PATIENCE_SECONDS)
    path, long = f"/v1/models/{first}/predict", rows(*[ROW] * (tables.ROWS_AT_ONCE + 1))

    async def both():
        read = asyncio.Event()

        async def send(_message):
            await read.wait()

        messages = [{"type": "http.request", "body": long, "more_body": False}]

        async def receive():
            return messages.pop() if messages else await asyncio.Event().wait()

        slow = asyncio.create_task(ask.reception(ask.scope(path, long), receive, send))
        await asyncio.sleep(0)  # for it to go ahead
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer = await ask.ask(path, rows(ROW))
        assert not slow.done()
        read.set()
        await slow
        return answer

    assert asyncio.run(both())[0] == 200
    assert ask.answered == 1


def test_half_a_body_of_one_who_waited_is_never_taken_for_the_whole(mine, monkeypatch):
    ask, (first, _) = mine
    monkeypatch.setattr(ask.reception, "_admits", lambda _environ: False)
    path, long = f"/v2/models/{first}/infer", struct.pack("<4f", *ROW) * 10_000
    raw = {"cuts": range(16_000, len(long), 16_000), "inference-header-content-length": "0"}

    async def both():
        leader = asyncio.create_task(ask.ask(path, INFERENCE))
        await asyncio.sleep(0)  # for it to go ahead
        return await asyncio.gather(leader, ask.ask(path, long, **raw))

    assert [status for status, _, _ in asyncio.run(both())] == [200, 400]
    assert ask.answered == 0


def test_what_changes_while_a_body_comes_holds_for_it(ada, mine):
    ask, (_, second) = mine
    path = f"/v1/models/{second}/predict"
    assert ask(path, rows(ROW))[0] == 200

    def delete():
        assert ada.delete(f"/v1/models/{second}").status_code == 204

    assert ask(path, rows(ROW), cuts=(20,), meanwhile=delete)[0] == 404


def test_what_was_remembered_is_over_for_a_body_that_comes_later(mine, clock):
    ask, (first, _) = mine
    path = f"/v1/models/{first}/predict"
    assert ask(path, rows(ROW))[0] == 200

    def wait():
        clock.seconds = PROMISED_SECONDS

    assert ask(path, rows(ROW), cuts=(20,), meanwhile=wait)[0] == 200
    assert ask.answered == 0


def test_a_body_that_is_wrong_makes_nobody_forget(mine):
    ask, (first, _) = mine
    path = f"/v1/models/{first}/predict"
    statuses = [ask(path, body)[0] for body in (rows(ROW), rows(["x"]), rows(ROW))]
    assert (statuses, ask.answered) == ([200, 422, 200], 1)


def test_where_requests_are_counted_every_one_is(ada, mine):
    _, (first, _) = mine
    ask = Asker(ada.app, owner_requests_per_minute=100)
    for _ in range(3):
        assert ask(f"/v1/models/{first}/predict", rows(ROW))[0] == 200
    assert ask.answered == 0


def test_an_address_that_is_not_listened_to_is_not_answered(make_app, mine):
    _, (first, _) = mine
    app = make_app(failed_logins_per_minute=1)
    ask, path = Asker(app), f"/v1/models/{first}/predict"
    assert [ask(path, rows(ROW))[0] for _ in range(2)] == [200, 200]
    statuses = [ask(path, rows(ROW), authorization="Bearer wrong")[0] for _ in range(2)]
    assert statuses == [401, 429]
    assert ask(path, rows(ROW))[0] == 429
