"""Who follows a job hears of every point once and in order, however often the stream breaks off."""

from __future__ import annotations

import math

import pytest
from sqlalchemy import text

from app.api import events as module
from app.store import jobs
from app.store.jobs import Retries
from tests.app.api.callers import (
    KEYS,
    Caller,
    ask_to_end,
    each_database,
    parts,
    problem,
    run,
)
from tests.app.store.rows import succeed
from tests.streams import Event, epochs, events

EPOCHS = 6


@pytest.fixture
def job(ada):
    return ada.job(ada.dataset(), training={"epochs": EPOCHS})


@pytest.fixture
def ended(ada, job):
    run(ada.app, job)
    return job


def follow(caller, job, last_id=None, method="GET", *, buffered=True):
    """Ask for a stream; the answer comes at its end, unless it is to be read piece by piece."""
    headers = {"Last-Event-ID": last_id} if last_id is not None else {}
    return caller.call(method, f"/v1/jobs/{job}/events", headers, buffered=buffered)


def told(answer):
    """Read a stream to its end."""
    assert answer.status_code == 200, answer.text
    return list(events(answer.text.split("\n")))


class Listener:
    """Somebody who follows a job while a test does what a worker would."""

    def __init__(self, caller, job, last_id=None):
        self.answer = follow(caller, job, last_id, buffered=False)
        assert self.answer.status_code == 200, self.answer.text
        self.pieces = self.answer.iter_encoded()
        assert next(self.pieces) == b"retry: 1000\n\n"

    def hear(self):
        """Return what is told until the stream has nothing more to say, or ends."""
        heard = b""
        for piece in self.pieces:
            if not piece:
                break
            heard += piece
        return list(events(heard.decode().split("\n")))

    def has_ended(self):
        return next(self.pieces, None) is None


class Worker:
    """What a worker does with a job, step by step."""

    def __init__(self, app, job):
        self.database = parts(app).database
        with self.database.writing() as session:
            self.claim = jobs.claim(session, job, "worker:1", 30)

    def report(self, *epochs):
        with self.database.writing() as session:
            jobs.heartbeat(session, self.claim, 30, epoch=epochs[-1], fraction=0.5)
            jobs.record_points(session, self.claim, [point(epoch) for epoch in epochs])

    def go_back(self, epoch):
        with self.database.writing() as session:
            jobs.truncate_curve(session, self.claim, epoch)
            jobs.begin(session, self.claim, [])

    def die(self):
        with self.database.writing() as session:
            jobs.bury(session, "worker:1", Retries(3, 0))


def point(epoch, **changes):
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "train_loss": 1 / epoch,
        "validation_loss": None,
        "learning_rate": 0.1,
        "seconds": 0.5,
        "metrics": {"accuracy": 0.5},
        **changes,
    }


def names(heard):
    return [event.name for event in heard]


def free_places(app):
    """Return how many requests could be held, and leave them so."""
    places, taken = parts(app).waiting, 0
    while places.acquire(blocking=False):
        taken += 1
    for _ in range(taken):
        places.release()
    return taken


@each_database
def test_a_job_that_has_ended_is_told_from_its_first_point_to_its_end(ada, ended):
    answer = follow(ada, ended)
    *points, end = told(answer)
    curve = ada.get(f"/v1/jobs/{ended}/curve").json["points"]
    assert [event.data for event in points] == curve
    assert names(points) == ["point"] * EPOCHS
    assert (end.name, end.data) == ("status", ada.get(f"/v1/jobs/{ended}").json)
    assert end.data["status"] == "succeeded"
    assert answer.text.startswith("retry: 1000\n\nevent: point\nid: 0.1\ndata: {")


def test_a_stream_is_neither_kept_nor_held_up_on_its_way(ada, ended):
    answer = follow(ada, ended)
    assert answer.content_type == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["X-Request-Id"]
    assert "Content-Length" not in answer.headers


@each_database
def test_wherever_a_client_breaks_off_it_goes_on_with_the_rest(ada, ended):
    everything = told(follow(ada, ended))
    for heard in range(len(everything) - 1):
        assert told(follow(ada, ended, everything[heard].id)) == everything[heard + 1 :]


def test_one_who_has_heard_of_the_end_is_told_to_stay_away(ada, ended):
    *_, end = told(follow(ada, ended))
    answer = follow(ada, ended, end.id)
    assert (answer.status_code, answer.data) == (204, b"")
    ada.delete(f"/v1/models/{end.data['model']}")
    [change] = told(follow(ada, ended, end.id))
    assert (change.name, change.data["model"]) == ("status", None)


@each_database
def test_a_job_is_told_as_it_happens(ada, job):
    listener = Listener(ada, job)
    [queued] = listener.hear()
    assert (queued.name, queued.data["status"]) == ("status", "queued")
    assert listener.hear() == []
    worker = Worker(ada.app, job)
    [running] = listener.hear()
    assert (running.name, running.data["status"]) == ("status", "running")
    worker.report(1, 2)
    heard = listener.hear()
    assert names(heard) == ["point", "point", "progress"]
    assert epochs(heard) == [1, 2]
    assert heard[-1].data == ada.get(f"/v1/jobs/{job}").json["progress"]
    assert listener.hear() == []
    worker.report(3)
    assert epochs(listener.hear()) == [3]
    succeed(worker.database, worker.claim)
    [end] = listener.hear()
    assert (end.name, end.data) == ("status", ada.get(f"/v1/jobs/{job}").json)
    assert listener.has_ended()


@each_database
def test_a_client_that_broke_off_while_the_job_ran_misses_nothing(ada, job):
    worker = Worker(ada.app, job)
    worker.report(1, 2)
    first = Listener(ada, job).hear()
    worker.report(3)
    for heard in range(1, len(first) + 1):
        rest = Listener(ada, job, first[heard - 1].id).hear()
        assert epochs(first[:heard] + rest) == [1, 2, 3]
        assert rest[-1].name == "status"
    known = Listener(ada, job, rest[-1].id)
    assert known.hear() == []
    worker.report(4)
    assert names(known.hear()) == ["point", "progress"]


@each_database
def test_an_epoch_that_another_worker_trains_again_is_told_once(ada, job):
    worker = Worker(ada.app, job)
    worker.report(1, 2, 3, 4)
    listener = Listener(ada, job)
    heard = listener.hear()
    worker.die()
    heard += listener.hear()
    other = Worker(ada.app, job)
    other.go_back(2)
    heard += listener.hear()
    other.report(3)
    heard += listener.hear()
    assert epochs(heard) == [1, 2, 3, 4]
    goes_on = Listener(ada, job, heard[-1].id)
    other.report(4, 5)
    for each in (listener, goes_on):
        assert epochs(each.hear()) == [5]
    statuses = [event.data["status"] for event in heard if event.name == "status"]
    assert statuses == ["running", "queued", "running"]


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "x",
        "1",
        "1.",
        ".1",
        "1.2.3",
        "-1.1",
        "+1.1",
        "1.-1",
        "1,1",
        "0x1.1",
        "1e0.1",
        "NaN.NaN",
        "999999.1",
        f"1.{EPOCHS + 1}",
        "1." + "9" * 18,
        "1." + "9" * 100_000,
        "\xb2.\xb3",
        "1.1; DROP TABLE jobs",
        "%31.1",
    ],
)
def test_an_id_that_is_none_begins_anew(ada, ended, sent):
    assert told(follow(ada, ended, sent)) == told(follow(ada, ended))


def test_a_long_curve_is_told_in_pieces(ada, ended, monkeypatch):
    whole = told(follow(ada, ended))
    for size in range(1, EPOCHS + 2):
        monkeypatch.setattr(module, "POINTS_AT_ONCE", size)
        assert told(follow(ada, ended)) == whole
        with follow(ada, ended, buffered=False) as answer:
            assert len(list(answer.iter_encoded())) == 1 + EPOCHS // size + 1


def test_what_json_cannot_hold_is_told_as_null(ada, job):
    worker = Worker(ada.app, job)
    with worker.database.writing() as session:
        jobs.heartbeat(session, worker.claim, 30, epoch=1, eta_seconds=math.inf)
        metrics = {"r2": -math.inf}
        jobs.record_points(session, worker.claim, [point(1, train_loss=math.inf, metrics=metrics)])
    first, state = Listener(ada, job).hear()
    assert (first.data["train_loss"], first.data["r2"]) == (None, None)
    assert state.data["progress"]["eta_seconds"] is None


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "text/*", "application/json, */*"])
def test_a_stream_is_sent_to_those_who_take_one(ada, ended, accept):
    answer = ada.get(f"/v1/jobs/{ended}/events", headers={"Accept": accept}, buffered=True)
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")


def test_a_stream_is_not_sent_to_those_who_take_none(ada, ended):
    answer = ada.get(f"/v1/jobs/{ended}/events", headers={"Accept": "application/json"})
    assert problem(answer, 406)["detail"] == "it comes as one of text/event-stream"
    assert free_places(ada.app) == 8


def test_streams_leave_threads_to_others(make_app):
    caller = Caller(make_app(api_threads=10), KEYS["ada"])
    job = caller.job(caller.dataset())
    first, second = Listener(caller, job), Listener(caller, job)
    answer = follow(caller, job)
    assert "poll the job" in problem(answer, 503)["detail"]
    assert answer.headers["Retry-After"] == "5"
    assert caller.get(f"/v1/jobs/{job}?wait=20").json["status"] == "queued"
    first.answer.close()
    assert free_places(caller.app) == 1
    second.hear()
    second.answer.close()
    assert free_places(caller.app) == 2


def test_a_stream_that_is_at_its_end_gives_its_place_back(ada, ended):
    told(follow(ada, ended))
    follow(ada, ended, method="HEAD")
    assert free_places(ada.app) == 8


@each_database
def test_a_stream_of_a_job_that_is_deleted_meanwhile_ends(ada, job):
    listener = Listener(ada, job)
    listener.hear()
    ada.post(f"/v1/jobs/{job}/cancel")
    ada.delete(f"/v1/jobs/{job}")
    assert listener.hear() == []
    assert listener.has_ended()
    listener.answer.close()
    assert free_places(ada.app) == 8
    problem(follow(ada, job, "1.0"), 404)


def test_a_stream_whose_database_fails_ends_and_the_next_is_refused(ada, job):
    listener = Listener(ada, job)
    assert names(listener.hear()) == ["status"]
    with parts(ada.app).database.writing() as session:
        session.execute(text("ALTER TABLE jobs RENAME TO lost"))
    assert listener.hear() == []
    assert listener.has_ended()
    problem(follow(ada, job), 503)


def test_a_stream_ends_in_time_and_the_next_one_goes_on(make_app):
    caller = Caller(make_app(stream_limit_seconds=0.15), KEYS["ada"])
    job = caller.job(caller.dataset())
    [queued] = told(follow(caller, job))
    assert told(follow(caller, job, queued.id)) == []
    worker = Worker(caller.app, job)
    worker.report(1)
    assert names(told(follow(caller, job, queued.id))) == ["point", "status"]


def test_a_stream_of_a_process_that_is_to_end_ends_with_what_there_is_to_tell(ada, job):
    ask_to_end(ada.app)
    assert names(told(follow(ada, job))) == ["status"]


def test_a_stream_that_has_nothing_to_tell_says_so_now_and_then(ada, job, monkeypatch):
    listener = Listener(ada, job)
    listener.hear()
    assert next(listener.pieces) == b""
    monkeypatch.setattr(module, "KEEP_ALIVE_SECONDS", 0)
    assert next(listener.pieces) == b": nothing new\n\n"


def test_a_field_of_an_event_is_what_its_line_says():
    lines = ["retry: 1", "", ": comment", "event: a", "id: 1.2", 'data: {"b": ": "}', "", ""]
    assert list(events(lines)) == [Event("a", "1.2", {"b": ": "})]
