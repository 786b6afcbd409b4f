"""Every line says which request or job it is about, as JSON, and never a key."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
import warnings
from datetime import datetime

import pytest
from sqlalchemy import text
from werkzeug.exceptions import BadRequest

from app import logs
from app.config import Settings
from app.factory import create_app
from tests.app.api.callers import IRIS, KEYS, Caller, parts, run

log = logging.getLogger("tests.logs")

pytestmark = pytest.mark.usefixtures("own_logs")


@pytest.fixture
def configure(monkeypatch):
    """Configure the process's logs; return where they go. They are put back after the test."""
    logs.forget()

    def act(role, level, style):
        stream = io.StringIO()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", stream)
            logs.configure(role, Settings(log_level=level, log_format=style, api_keys=KEYS))
        return stream

    yield act
    logs.forget()


@pytest.fixture
def lines(configure):
    """Log as JSON; return what was logged since the last look."""
    stream = configure("api", "DEBUG", "json")

    def look():
        found = [json.loads(line) for line in stream.getvalue().splitlines()]
        stream.seek(0)
        stream.truncate()
        return found

    return look


@pytest.fixture
def ada(tmp_path, sqlite_url):
    settings = Settings(home=tmp_path, database_url=sqlite_url, api_keys=KEYS)
    caller = Caller(create_app(settings), KEYS["ada"])
    yield caller
    parts(caller.app).database.dispose()


def test_a_line_is_a_json_object(lines):
    log.info("a %s", "message", extra={"attempt": 2})
    [line] = lines()
    assert datetime.fromisoformat(line.pop("time"))
    assert line == {
        "level": "INFO",
        "logger": "tests.logs",
        "message": "a message",
        "attempt": 2,
        "role": "api",
    }


def test_whatever_is_logged_is_one_line(lines):
    log.info("first\nsecond \x00 ü")
    log.error("failed", exc_info=ValueError("broken\nhere"))
    first, second = lines()
    assert first["message"] == "first\nsecond \x00 ü"
    assert "ValueError: broken\nhere" in second["exc_info"]


def test_ids_that_are_bound_are_in_every_line_until_they_are_forgotten(lines):
    logs.bind(request_id="r1")
    log.info("one")
    logs.bind(job_id="j1")
    log.info("two")
    logs.forget()
    log.info("three")
    ids = [(line.get("request_id"), line.get("job_id")) for line in lines()]
    assert ids == [("r1", None), ("r1", "j1"), (None, None)]


def test_ids_can_be_bound_for_a_while(lines):
    logs.bind(request_id="r1")
    with logs.bound(job_id="j1"), logs.bound(traceparent="t1"):
        log.info("inside")
    log.info("outside")
    inside, outside = lines()
    assert (inside["request_id"], inside["job_id"], inside["traceparent"]) == ("r1", "j1", "t1")
    assert outside["request_id"] == "r1"
    assert not {"job_id", "traceparent"} & set(outside)


def test_the_ids_of_one_thread_are_not_those_of_another(lines):
    logs.bind(request_id="r1")
    thread = threading.Thread(target=log.info, args=("elsewhere",))
    thread.start()
    thread.join()
    [line] = lines()
    assert "request_id" not in line


def test_less_severe_lines_are_left_out(configure):
    stream = configure("worker", "WARNING", "json")
    log.info("no")
    log.warning("yes")
    [line] = stream.getvalue().splitlines()
    assert json.loads(line)["role"] == "worker"


def test_on_a_console_a_line_is_for_people(configure):
    stream = configure("api", "INFO", "console")
    log.info("hello")
    assert re.fullmatch(r"\d{4}-.* INFO    tests\.logs: hello\n", stream.getvalue())


def test_configuring_twice_logs_once(configure, lines):
    stream = configure("api", "INFO", "json")
    log.info("hello")
    assert lines() == []
    assert len(stream.getvalue().splitlines()) == 1


def test_every_request_is_one_line_with_its_id(ada, lines):
    sent = [
        ada.get("/v1/jobs", headers={"X-Request-Id": "mine"}),
        ada.get("/v1/jobs/none?wait=1"),
        ada.call("PUT", "/v1/jobs"),
        ada.app.test_client().get("/v1/jobs"),
    ]
    found = [line for line in lines() if line["logger"] == "app.access"]
    assert [line["request_id"] for line in found] == [
        answer.headers["X-Request-Id"] for answer in sent
    ]
    facts = [(line["method"], line["path"], line["status"]) for line in found]
    assert facts == [
        ("GET", "/v1/jobs", 200),
        ("GET", "/v1/jobs/none", 404),
        ("PUT", "/v1/jobs", 405),
        ("GET", "/v1/jobs", 401),
    ]
    assert found[0]["message"] == "GET /v1/jobs 200"
    assert all(0 < line["milliseconds"] < 10_000 for line in found)
    assert {line["level"] for line in found} == {"INFO"}


def test_questions_after_health_are_only_logged_for_debugging(ada, lines):
    ada.get("/healthz/live")
    [line] = lines()
    assert line["level"] == "DEBUG"


def test_a_failure_is_logged_under_the_id_that_the_caller_has(ada, lines):
    model = ada.model(ada.dataset())
    with parts(ada.app).database.writing() as session:
        session.execute(text("UPDATE artifacts SET sha256 = 'changed'"))
    lines()
    answer = ada.predict(model, [[5.1, 3.5, 1.4, 0.2]])
    assert answer.status_code == 500
    failed, _ = (line for line in lines() if line["logger"].startswith("app."))
    assert failed["level"] == "ERROR"
    assert failed["request_id"] == answer.json["request_id"]
    assert "CorruptArtifactError" in failed["exc_info"]


def test_a_job_is_logged_under_its_id_and_trace(ada, lines):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    body = {"dataset": ada.dataset(), "target": "species", "training": {"epochs": 1}}
    job = ada.post("/v1/jobs", json=body, headers={"traceparent": trace}).json["id"]
    lines()
    run(ada.app, job)
    found = [line for line in lines() if line["logger"].startswith("worker.")]
    assert [line["message"] for line in found] == ["claimed", "succeeded"]
    assert {(line["job_id"], line["traceparent"]) for line in found} == {(job, trace)}


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_path_with_a_line_break_forges_no_line(ada, configure, style):
    stream = configure("api", "INFO", style)
    ada.get("/v1/jobs/x%0a2026-01-01 INFO forged")
    assert len(stream.getvalue().splitlines()) == 1


def test_no_key_is_ever_logged_or_answered(ada, configure, capfd):
    stream = configure("api", "DEBUG", "json")
    key, wrong = KEYS["ada"], "wrong-key-77aa"
    secret = {"Authorization": f"Bearer {wrong}"}
    client = ada.app.test_client()
    answers = [
        ada.get("/v1/datasets"),
        ada.send(IRIS),
        ada.post("/v1/jobs", json={"dataset": "x", "target": "y"}),
        ada.get(f"/v1/jobs?name={key}"),
        ada.get(f"/v1/jobs?key={key}"),
        client.get(f"/v1/jobs?key={key}"),
        client.get("/v1/jobs", headers=secret),
        client.get("/v1/jobs", headers={"Authorization": wrong}),
        client.post("/v1/jobs", headers=secret, json={}),
        client.get("/healthz/ready", headers=secret),
        client.get("/openapi.json", headers=secret),
    ]
    model = ada.model(ada.dataset())
    with parts(ada.app).database.writing() as session:
        session.execute(text("UPDATE artifacts SET sha256 = 'changed'"))
    answers.append(ada.predict(model, [[5.1, 3.5, 1.4, 0.2]]))
    assert answers[-1].status_code == 500
    logged = stream.getvalue() + "".join(capfd.readouterr())
    assert '"status":401' in logged
    for secret_key in (key, wrong, KEYS["charles"]):
        assert secret_key not in logged
        assert not any(secret_key in f"{answer.headers}{answer.text}" for answer in answers)


# Secrets. The settings of `configure` have the key of Ada.

SECRET = KEYS["ada"]
URL = "postgresql://ada:hunter2@127.0.0.1:1/chain"


class Odd:
    """What JSON cannot hold, and says a secret of itself."""

    def __repr__(self):
        return f"<{SECRET} {URL}>"


def fail_with(kind, text):
    raise kind(text)


@pytest.fixture(params=["json", "console"])
def stream(request, configure):
    return configure("api", "DEBUG", request.param)


def masked(stream):
    """Make sure that something was logged, and no secret in it."""
    said = stream.getvalue()
    assert "***" in said
    assert SECRET not in said
    assert "hunter2" not in said
    return said


@pytest.mark.parametrize(
    "say",
    [
        lambda: log.info(f"at {URL} with {SECRET}"),  # noqa: G004 - whatever a library does
        lambda: log.info("at %s with %r", URL, [SECRET]),
        lambda: log.info("at %(url)s", {"url": URL}),
        lambda: log.info(SECRET, extra={"url": URL, "deep": {SECRET: [SECRET]}}),
        lambda: log.info({"url": URL}),
        lambda: log.info(Odd(), extra={"odd": Odd(), URL: 1}),
        lambda: log.warning("x", exc_info=ValueError(URL)),
        lambda: log.warning("Authorization: Bearer hunter2"),
        lambda: logging.getLogger("celery.worker").error("Cannot connect to %s", URL),
        lambda: logging.getLogger("_granian").error(URL),
        lambda: warnings.warn(f"cannot open {URL}", stacklevel=1),
    ],
)
def test_whatever_is_logged_is_logged_without_its_secrets(stream, say):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        say()
    masked(stream)


def test_the_cause_of_an_exception_is_masked_as_well(stream):
    try:
        try:
            fail_with(OSError, URL)
        except OSError as error:
            raise RuntimeError(SECRET) from error
    except RuntimeError:
        log.exception("both")
    assert masked(stream).count("***") >= 2


def test_a_stack_is_logged_without_its_secrets(stream):
    secret_url = URL
    log.info("where: %s", secret_url, stack_info=True)
    masked(stream)


def test_what_nobody_catches_is_logged_without_its_secrets(stream):
    thread = threading.Thread(target=fail_with, args=(OSError, URL))
    thread.start()
    thread.join()
    try:
        fail_with(OSError, SECRET)
    except OSError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert masked(stream).count("nobody caught this") == 2


def test_a_line_that_cannot_be_written_tells_where_and_not_what(stream, own_logs):
    record = logging.makeLogRecord({"name": "tests.logs", "msg": "%d", "args": (URL,)})
    own_logs.handlers[0].handle(record)  # pytest has put one of its own beside it
    said = stream.getvalue()
    assert "a line of tests.logs at " in said
    assert "hunter2" not in said


def test_json_stays_json_whatever_the_secret_is(own_logs, monkeypatch):
    stream = io.StringIO()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        logs.configure("api", Settings(api_keys={"a": '":"', "b": "1", "c": "true", "d": "{"}))
    own_logs.warning("a 1 {", extra={"number": 111, "flag": True})
    line = json.loads(stream.getvalue())
    assert (line["message"], line["number"], line["flag"]) == ("a *** ***", 111, True)


def test_a_request_that_fails_over_a_url_tells_nobody_its_password(ada, stream):
    ada.app.view_functions["jobs.index"] = lambda **_: fail_with(RuntimeError, f"no {URL} {SECRET}")
    answer = ada.get("/v1/jobs")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert "RuntimeError: no postgresql://ada:***@127.0.0.1:1/chain ***" in masked(stream)


def test_a_problem_is_answered_without_secrets(ada):
    refusal = BadRequest(f"cannot use {URL} with {SECRET}")
    ada.app.view_functions["jobs.index"] = lambda **_: _raise(refusal)
    answer = ada.get("/v1/jobs")
    assert answer.json["detail"] == "cannot use postgresql://ada:***@127.0.0.1:1/chain with ***"


def _raise(error):
    raise error
